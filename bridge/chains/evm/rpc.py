"""What errors of EVM nodes mean; how endpoints are asked is in chains.jsonrpc, what they write and read in wire."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from bridge.chains.evm.wire import revert_data
from bridge.chains.jsonrpc import QUORUM, Answer, Endpoint, JsonRpc, Refused

__all__ = ["QUORUM", "Answer", "Endpoint", "EvmRpc", "Refusal", "RpcRefused", "classify"]


class Refusal(StrEnum):
    """What a JSON-RPC error answer means to the one who asked."""

    RANGE_TOO_WIDE = "range_too_wide"  # the provider limits how many blocks one getLogs may span
    TOO_MANY_LOGS = "too_many_logs"  # the answer would be too large, or took too long to make
    UNKNOWN_BLOCK = "unknown_block"  # the node does not have it: behind, pruned, or reorganised away
    BUSY = "busy"  # rate limit or an internal error: another endpoint, or later
    NO_METHOD = "no_method"
    REVERTED = "reverted"  # eth_call or eth_estimateGas
    OTHER = "other"


class RpcRefused(Refused):
    """A node answered with an error; `kind` is our reading of it."""

    def __init__(self, endpoint: str, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(endpoint, method, code, message, data)
        self.kind = classify(code, message)
        self.busy = self.kind is Refusal.BUSY
        self.elsewhere = self.kind in _PASS_ON

    @property
    def verdict(self) -> bytes | None:
        """A revert is an answer too, with the data that it carries."""
        return revert_data(self.data) if self.kind is Refusal.REVERTED else None


# First match counts. Providers agree on no codes, so their words are read; the codes come last.
_WORDS: tuple[tuple[Refusal, str], ...] = (
    (Refusal.REVERTED, "revert|evm error|invalid opcode|out of gas"),
    (Refusal.BUSY, "rate limit|too many requests|request limit|capacity|throttl|compute units"),
    (
        Refusal.RANGE_TOO_WIDE,
        "block range|range too large|range is too|range limit|ranges over|blocks distance|max range",
    ),
    (
        Refusal.TOO_MANY_LOGS,
        "more than|too many|response size|too large|too big|exceeds|timeout|timed out|limited to",
    ),
    (
        Refusal.UNKNOWN_BLOCK,
        "(unknown|could not find) (block|header)|(block|header|for hash|resource) not found|trie node|out ?of ?range",
    ),
    (Refusal.UNKNOWN_BLOCK, "beyond current head|not available"),
    # Nodes that have the block on another branch: geth and Erigon; Nethermind; Besu, in EIP-1898's own words.
    (Refusal.UNKNOWN_BLOCK, r"not currently canonical|block is not canonical|^invalid input\Z"),
    # Nodes that have the block and not its state: geth, Nethermind, Besu, Erigon and Reth, in that order.
    (Refusal.UNKNOWN_BLOCK, "state (is )?unavailable|no state|world ?state|pruned|pruning"),
    (Refusal.NO_METHOD, "method not found|does not exist|not supported|unsupported method"),
)
_CODES = {3: Refusal.REVERTED, -32601: Refusal.NO_METHOD, -32001: Refusal.UNKNOWN_BLOCK, -32603: Refusal.BUSY}
_CODES |= {-32005: Refusal.BUSY, 429: Refusal.BUSY}
# What another endpoint may answer although this one did not.
_PASS_ON = frozenset({Refusal.BUSY, Refusal.UNKNOWN_BLOCK, Refusal.NO_METHOD})


def classify(code: int, message: str) -> Refusal:
    for kind, words in _WORDS:
        if re.search(words, message, re.IGNORECASE):
            return kind
    return _CODES.get(code, Refusal.OTHER)


class EvmRpc(JsonRpc):
    """The endpoints of one EVM chain."""

    refused = RpcRefused
