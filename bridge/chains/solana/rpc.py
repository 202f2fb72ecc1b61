"""What errors of Solana nodes mean, and the values they write; how endpoints are asked is in chains.jsonrpc."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from solders.pubkey import Pubkey
from solders.signature import Signature

from bridge.chains.jsonrpc import JsonRpc, Refused
from bridge.domain.errors import ChainDisagrees
from bridge.domain.units import Address

FINALIZED: Mapping[str, Any] = {"commitment": "finalized"}
U64_MAX = 2**64 - 1
UNKNOWN_CURSOR = -32020


class Refusal(StrEnum):
    """What a JSON-RPC error answer means to the one who asked."""

    BEHIND = "behind"  # the node has not got that far, or has not finished writing it down
    PRUNED = "pruned"  # it no longer has it, or never kept history
    NO_BLOCK = "no_block"  # the slot was skipped, or the node has a gap there: it cannot tell these apart itself
    BUSY = "busy"  # rate limit, unhealthy or an internal error: another endpoint, or later
    NO_METHOD = "no_method"
    FAILED = "failed"  # the transaction that was sent or simulated
    OTHER = "other"


# The codes are the node software's own, the same on every provider: rpc-client-api/src/custom_error.rs in Agave.
_CODES = {
    -32001: Refusal.PRUNED,  # block cleaned up
    -32002: Refusal.FAILED,  # preflight
    -32003: Refusal.FAILED,  # signature
    -32004: Refusal.BEHIND,  # block not available
    -32005: Refusal.BUSY,  # node unhealthy
    -32006: Refusal.FAILED,  # precompile
    -32007: Refusal.NO_BLOCK,  # slot skipped, or missing after a snapshot
    -32009: Refusal.NO_BLOCK,  # the same, in long-term storage
    -32010: Refusal.NO_METHOD,  # the node keeps no such index
    -32011: Refusal.PRUNED,  # no transaction history
    -32013: Refusal.FAILED,  # wrong number of signatures
    -32014: Refusal.BEHIND,  # block status not yet available
    -32016: Refusal.BEHIND,  # minimum context slot not reached
    -32019: Refusal.BUSY,  # long-term storage unreachable
    UNKNOWN_CURSOR: Refusal.PRUNED,  # a search cannot begin or end at a transaction that the node does not have
    -32601: Refusal.NO_METHOD,
    -32603: Refusal.BUSY,
    429: Refusal.BUSY,
}
# Words of providers in front of nodes, which agree on no codes. First match counts, after the codes above.
_WORDS: tuple[tuple[Refusal, str], ...] = (
    (Refusal.BUSY, "rate limit|too many requests|request limit|capacity|throttl|credits|compute units"),
    (Refusal.NO_METHOD, "method not found|not supported|unsupported method"),
)
_PASS_ON = frozenset({Refusal.BEHIND, Refusal.PRUNED, Refusal.NO_BLOCK, Refusal.BUSY, Refusal.NO_METHOD})


def classify(code: int, message: str) -> Refusal:
    if code in _CODES:
        return _CODES[code]
    return next((kind for kind, words in _WORDS if re.search(words, message, re.IGNORECASE)), Refusal.OTHER)


class RpcRefused(Refused):
    """A node answered with an error; `kind` is our reading of it. `data` of a failed simulation is its result."""

    def __init__(self, endpoint: str, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(endpoint, method, code, message, data)
        self.kind = classify(code, message)
        self.busy = self.kind is Refusal.BUSY
        self.elsewhere = self.kind in _PASS_ON


class SolanaRpc(JsonRpc):
    """The endpoints of one Solana cluster."""

    refused = RpcRefused


# ── Values as nodes write them ──────────────────────────────────────────────────────────────────────────────────────
# Each raises ChainDisagrees where the endpoint sent something else.
def number(value: object, most: int = U64_MAX) -> int:
    """A slot, a height, lamports: a JSON number."""
    if type(value) is not int or not 0 <= value <= most:
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where a number is due")
    return value


def amount(value: object) -> int:
    """Atoms of a token: a numeral in a string, since JSON's numbers are not exact everywhere."""
    if not isinstance(value, str) or not value.isascii() or not value.isdecimal() or not 0 <= int(value) <= U64_MAX:
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where an amount is due")
    return int(value)


def address(value: object) -> Address:
    """32 bytes in base58: an account's address, a blockhash, a genesis hash."""
    try:
        return Address(bytes(Pubkey.from_string(str(value))))
    except ValueError:
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where 32 bytes in base58 are due") from None


def signature(value: object) -> bytes:
    """64 bytes in base58: a transaction's id."""
    try:
        return bytes(Signature.from_string(str(value)))
    except ValueError:
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where a signature is due") from None


def data(value: object) -> bytes:
    """Bytes asked for in base64, which come as [text, "base64"]."""
    if not isinstance(value, list) or len(value) != 2 or value[1] != "base64" or not isinstance(value[0], str):
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where base64 is due")
    try:
        return base64.b64decode(value[0], validate=True)
    except binascii.Error:
        raise ChainDisagrees(f"the endpoint sent {value[0]!r:.100} where base64 is due") from None


def mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where an object is due")
    return value


def in_context(value: object) -> tuple[int, Any]:
    """(slot that the answer is of, what it is). Most answers about state come so."""
    answer = mapping(value)
    return number(mapping(answer.get("context")).get("slot")), answer.get("value")


def text(raw: bytes) -> str:
    """Base58 of an address, a hash or a signature, as nodes want it."""
    return str(Pubkey.from_bytes(raw)) if len(raw) == 32 else str(Signature.from_bytes(raw))
