"""What nodes say to a transaction, classified in one place: replies to a broadcast, and reasons of a revert."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from bridge.chains.broadcasts import read_reply
from bridge.chains.evm import rpc
from bridge.chains.evm.contracts import ARTIFACTS
from bridge.chains.evm.rpc import Answer, RpcRefused
from bridge.chains.evm.wire import revert_data
from bridge.domain.payouts import Refusal
from bridge.domain.units import hexed
from bridge.ports.paying import Broadcast, BroadcastOutcome

# ── Replies to eth_sendRawTransaction ───────────────────────────────────────────────────────────────────────────────
# By a part of the message, in lower case, because error codes differ between clients and messages hardly do. The first
# that matches counts. No entry says that a transaction failed: only a receipt, or a finalized nonce without one, does.
_KNOWN, _REJECTED, _UNKNOWN = BroadcastOutcome.KNOWN, BroadcastOutcome.REJECTED, BroadcastOutcome.UNKNOWN
REPLIES: tuple[tuple[str, BroadcastOutcome], ...] = (
    # The node has these very bytes, in its pool or in a block: success of an earlier send.
    ("already known", _KNOWN),  # geth, erigon, anvil
    ("already imported", _KNOWN),  # nethermind, older anvil
    ("alreadyknown", _KNOWN),  # nethermind
    ("known transaction", _KNOWN),  # older geth, besu
    ("transaction already exists", _KNOWN),  # reth forks
    # Other bytes hold the nonce in this pool: an earlier attempt of ours that may still land, or a stranger's. Never
    # ours by itself, never a reason for another nonce.
    ("replacement transaction underpriced", _REJECTED),
    ("could not replace existing", _REJECTED),
    # The nonce is spent: mostly by one of our own attempts, whose receipt is found by looking up every hash.
    ("nonce too low", _REJECTED),
    ("nonce is too low", _REJECTED),
    ("oldnonce", _REJECTED),
    # Waits for the nonces below it; sent again with them.
    ("nonce too high", _REJECTED),
    ("nonce gap", _REJECTED),
    # Fees: the bump mends it, or the market does.
    ("underpriced", _REJECTED),
    ("less than block base fee", _REJECTED),
    ("feetoolow", _REJECTED),
    ("exceeds the configured cap", _REJECTED),  # the node's own ceiling on fees
    ("insufficient funds", _REJECTED),  # gas money is missing: low gas balance
    # The pool is full, or full for this account: sent again at the next head.
    ("txpool is full", _REJECTED),
    ("transaction pool is full", _REJECTED),
    ("account limit exceeded", _REJECTED),
    ("in-flight transaction limit", _REJECTED),  # a delegated account (EIP-7702) has one in flight
    # Wrong by construction; held up until a person looks, for the slot must not be given up while bytes are about.
    ("intrinsic gas too low", _REJECTED),
    ("exceeds block gas limit", _REJECTED),
    ("invalid sender", _REJECTED),
    ("invalid chain id", _REJECTED),
    # The node cannot tell yet.
    ("indexing is in progress", _UNKNOWN),
    # Anything else, a time-out or a broken connection is unknown too: it may have been taken before that.
)


def read_answer(answer: Answer, tx_id: bytes) -> Broadcast:
    """What one endpoint said to the transaction `tx_id`."""
    return read_reply(answer, hexed(tx_id), REPLIES)


# ── Reasons of a revert ─────────────────────────────────────────────────────────────────────────────────────────────
# Errors that end without a change of what is paid, when somebody or time changes the chain's state: the action waits
# and is asked again at each head. All others hold it for a person. A name in {} stands for an argument of the error.
TEMPORARY: Mapping[str, str] = {
    "EnforcedPause": "the vault or the token is paused",
    "VaultPaused": "the vault is paused",
    "CapExceeded": "the vault's cap of this epoch is used up",
    "FloorBreached": "the vault would fall below its floor",
    "ERC20InsufficientBalance": "the vault has too little of the token",
    "AccessControlUnauthorizedAccount": "an account lacks a role",
    "NotApproved": "waits for approval of {id}",
    "NotReady": "waits until {readyAt}",
    "ApprovalExpired": "waits for a new approval of {id}, the last one expired at {expiresAt}",
    # Another transaction did it; when that is final, the action is final too.
    "AlreadyExecuted": "executed by another transaction that is not final yet",
    "AlreadyProposed": "proposed by another transaction that is not final yet",
    "AlreadyActivated": "activated by another transaction that is not final yet",
    "ActivationPending": "the root before waits until {claimableAt}",
    "NotProposed": "the proposal is not on chain in this block",
}
PERMANENT: Mapping[str, str] = {
    "ProposalVetoed": "vetoed by the guardian",
}
# Arguments that are seconds since 1970.
_TIMES = frozenset({"readyAt", "expiresAt", "claimableAt"})

_ERROR_STRING, _PANIC = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")
_BUILT_IN: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "Error": ("Error", ("",), ("string",)),
    "Panic": ("Panic", ("code",), ("uint256",)),
}


@dataclass(frozen=True, slots=True)
class Reverts:
    """Custom errors by selector: (name, argument names, argument types)."""

    errors: Mapping[bytes, tuple[str, tuple[str, ...], tuple[str, ...]]]

    @classmethod
    def of_our_contracts(cls) -> Reverts:
        errors: dict[bytes, tuple[str, tuple[str, ...], tuple[str, ...]]] = {}
        for path in sorted(ARTIFACTS.glob("*.json")):
            for entry in json.loads(path.read_text(encoding="utf-8"))["abi"]:
                if entry["type"] != "error":
                    continue
                types = tuple(field["type"] for field in entry["inputs"])
                selector = keccak(f"{entry['name']}({','.join(types)})".encode())[:4]
                errors[selector] = (entry["name"], tuple(field["name"] for field in entry["inputs"]), types)
        return cls(errors)

    def refusal(self, refused: RpcRefused) -> Refusal:
        """Why the simulation failed. Raises `refused` itself where the node could not simulate at all: no verdict."""
        if "insufficient funds" in refused.message.lower():
            return Refusal(f"low gas balance: {refused}", temporary=True)
        if refused.kind is not rpc.Refusal.REVERTED:
            raise refused
        name, arguments = self.decode(revert_data(refused.data))
        text = name if arguments is None else f"{name}({', '.join(_pair(*each) for each in arguments.items())})"
        if name in TEMPORARY:
            return Refusal(f"{TEMPORARY[name].format_map(arguments or {})}: {text}", temporary=True)
        return Refusal(f"{PERMANENT.get(name, 'would revert')}: {text}", temporary=False)

    def decode(self, data: bytes) -> tuple[str, Mapping[str, str] | None]:
        """(name of the error, its arguments by name, for people), or what to say instead, and None."""
        selector, arguments = data[:4], data[4:]
        if selector == _ERROR_STRING:
            name, names, types = _BUILT_IN["Error"]
        elif selector == _PANIC:
            name, names, types = _BUILT_IN["Panic"]
        elif selector in self.errors:
            name, names, types = self.errors[selector]
        else:
            return f"revert 0x{data[:100].hex()}" if data else "revert without a reason", None
        try:
            values = decode(types, arguments)
        except (DecodingError, ValueError):
            return f"{name}(?)", None
        return name, {key: _show(key, value) for key, value in zip(names, values, strict=True)}


def _show(name: str, value: object) -> str:
    if name in _TIMES and isinstance(value, int):
        return _utc(value)
    text = hexed(value) if isinstance(value, bytes) else str(value)
    return text[:200]


def _utc(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"  # beyond the year 9999


def _pair(name: str, value: str) -> str:
    return f"{name}={value}" if name else value
