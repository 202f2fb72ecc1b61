"""The errors that a node answers with: codes and texts as Agave has them (rpc-client-api/src/custom_error.rs).

RpcRefusal
├── −32700 … −32600   the request itself; −32602 also says what is wrong with a parameter
└── −32001 … −32020   about the chain, the ledger or the node's state
"""

from __future__ import annotations

from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

BLOCK_CLEANED_UP = -32001
PREFLIGHT_FAILURE = -32002
SIGNATURE_VERIFICATION_FAILURE = -32003
BLOCK_NOT_AVAILABLE = -32004
NODE_UNHEALTHY = -32005
SLOT_SKIPPED = -32007
LONG_TERM_STORAGE_SLOT_SKIPPED = -32009
TRANSACTION_HISTORY_NOT_AVAILABLE = -32011
BLOCK_STATUS_NOT_AVAILABLE_YET = -32014
UNSUPPORTED_TRANSACTION_VERSION = -32015
MIN_CONTEXT_SLOT_NOT_REACHED = -32016
FILTER_TRANSACTION_NOT_FOUND = -32020


class RpcRefusal(Exception):
    """An answer with `error` instead of `result`."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """The `error` member of the answer."""
        error = {"code": self.code, "message": self.message}
        return error if self.data is None else {**error, "data": self.data}


def invalid_params(message: str) -> RpcRefusal:
    """A parameter cannot be used."""
    return RpcRefusal(INVALID_PARAMS, message)


def method_not_found() -> RpcRefusal:
    """This node has no such method."""
    return RpcRefusal(METHOD_NOT_FOUND, "Method not found")


def block_cleaned_up(slot: int, first_available: int) -> RpcRefusal:
    """The node has deleted it."""
    return RpcRefusal(
        BLOCK_CLEANED_UP,
        f"Block {slot} cleaned up, does not exist on node. First available block: {first_available}",
    )


def preflight_failure(description: str, result: dict[str, Any]) -> RpcRefusal:
    """The simulation before sending failed; `result` is what simulateTransaction would say."""
    return RpcRefusal(PREFLIGHT_FAILURE, f"Transaction simulation failed: {description}", result)


def signature_verification_failure() -> RpcRefusal:
    """A signature does not fit."""
    return RpcRefusal(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")


def block_not_available(slot: int) -> RpcRefusal:
    """No such block at that commitment, so far."""
    return RpcRefusal(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")


def node_unhealthy(slots_behind: int | None) -> RpcRefusal:
    """The node knows that it is behind, or does not know where it is."""
    message = "Node is unhealthy" if slots_behind is None else f"Node is behind by {slots_behind} slots"
    return RpcRefusal(NODE_UNHEALTHY, message, {"numSlotsBehind": slots_behind})


def slot_skipped(slot: int) -> RpcRefusal:
    """The finalized chain has no block in that slot."""
    return RpcRefusal(SLOT_SKIPPED, f"Slot {slot} was skipped, or missing due to ledger jump to recent snapshot")


def long_term_storage_slot_skipped(slot: int) -> RpcRefusal:
    """What a node with an archive says instead."""
    return RpcRefusal(LONG_TERM_STORAGE_SLOT_SKIPPED, f"Slot {slot} was skipped, or missing in long-term storage")


def history_not_available() -> RpcRefusal:
    """This node keeps no transactions."""
    return RpcRefusal(TRANSACTION_HISTORY_NOT_AVAILABLE, "Transaction history is not available from this node")


def block_status_not_available_yet(slot: int) -> RpcRefusal:
    """The block is there, its transactions are not written yet."""
    return RpcRefusal(BLOCK_STATUS_NOT_AVAILABLE_YET, f"Block status not yet available for slot {slot}")


def unsupported_version(version: int) -> RpcRefusal:
    """The client did not say that it understands this version of transactions."""
    return RpcRefusal(
        UNSUPPORTED_TRANSACTION_VERSION,
        f"Transaction version ({version}) is not supported by the requesting client. Please try the request again with"
        f' the following configuration parameter: "maxSupportedTransactionVersion": {version}',
    )


def min_context_slot_not_reached(context_slot: int) -> RpcRefusal:
    """The node is at `context_slot`, before the one that was asked for."""
    return RpcRefusal(
        MIN_CONTEXT_SLOT_NOT_REACHED, "Minimum context slot has not been reached", {"contextSlot": context_slot}
    )


def filter_transaction_not_found(signature: str) -> RpcRefusal:
    """A search cannot begin or end at a transaction that the node does not know."""
    return RpcRefusal(FILTER_TRANSACTION_NOT_FOUND, f"Transaction {signature} not found")
