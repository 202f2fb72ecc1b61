"""A transaction tried on a node, and what its failure says: which instruction, which account, which error."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solders.message import MessageV0

from bridge.chains.solana import rpc as values
from bridge.chains.solana.messages import unsigned
from bridge.chains.solana.rpc import SolanaRpc
from bridge.domain.errors import ChainDisagrees

# Errors of the token programs (spl_token_2022::error::TokenError); the first twenty are those of both.
TOKEN_ERRORS: Mapping[int, str] = {
    1: "InsufficientFunds",
    3: "MintMismatch",
    4: "OwnerMismatch",
    17: "AccountFrozen",
    18: "MintDecimalsMismatch",
    32: "FeeMismatch",
    36: "NoMemo",
    37: "NonTransferable",
    67: "MintPaused",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Where a node says that the transaction failed, as far as it says. Indexes are those of the message."""

    instruction: int | None
    account: int | None
    code: int | None  # a program's own
    words: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    units: int  # of computing, used
    failure: Failure | None


async def rehearse(rpc: SolanaRpc, message: MessageV0, config: Mapping[str, Any]) -> Rehearsal:
    """Simulate `message` as if it were signed and new. Raises ChainUnavailable, ChainDisagrees."""
    raw = base64.b64encode(unsigned(message)).decode()
    wanted = {"encoding": "base64", "sigVerify": False, "replaceRecentBlockhash": True, **config}
    _, value = values.in_context(await rpc.call("simulateTransaction", [raw, wanted]))
    found = values.mapping(value)
    if "err" not in found:
        raise ChainDisagrees("the endpoint sent a simulation without its outcome")
    error = found["err"]
    failure = None if error is None else read_failure(error)
    return Rehearsal(values.number(found.get("unitsConsumed") or 0), failure)


def read_failure(error: Any) -> Failure:
    """Of a transaction error as nodes write it: a name, or a name with where it was."""
    if isinstance(error, dict) and len(error) == 1:
        [(name, details)] = error.items()
        if name == "InstructionError" and isinstance(details, list) and len(details) == 2:
            index, inner = details
            code = inner.get("Custom") if isinstance(inner, dict) else None
            words = inner if isinstance(inner, str) else str(inner)
            return Failure(_index(index), None, _index(code), words)
        if isinstance(details, dict):
            return Failure(None, _index(details.get("account_index")), None, str(name))
        return Failure(None, None, None, str(name))
    return Failure(None, None, None, str(error)[:200])


def _index(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
