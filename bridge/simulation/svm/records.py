"""A transaction in a block, with everything that the RPC tells about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from bridge.simulation.svm import base58
from bridge.simulation.svm.machine import Outcome
from bridge.simulation.svm.tokens import read_holding, read_mint, ui_amount
from bridge.simulation.svm.transactions import Loaded, Reader, Wire

MEMO_PROGRAMS = frozenset(
    Pubkey.from_string(key)
    for key in ("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr", "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo")
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction stands."""

    slot: int
    index: int  # among the block's transactions
    time: int  # seconds, of the block


@dataclass(frozen=True, slots=True)
class Record:
    """One transaction that was charged, whether or not it succeeded."""

    wire: Wire
    place: Place
    loaded: Loaded
    meta: Mapping[str, Any]  # as getTransaction answers it, except for how instructions are encoded
    memo: str | None

    @property
    def signature(self) -> str:
        """The transaction's id, in base 58."""
        return self.wire.signature

    @property
    def slot(self) -> int:
        """The slot of its block."""
        return self.place.slot

    @property
    def err(self) -> Any:
        """Agave's TransactionError as JSON; None: it succeeded."""
        return self.meta["err"]


@dataclass(frozen=True, slots=True)
class Balances:
    """What the accounts of a transaction hold at one moment."""

    lamports: list[int]
    tokens: list[dict[str, Any]]


def balances(keys: Sequence[Pubkey], accounts: Mapping[Pubkey, Account | None], read: Reader) -> Balances:
    """What `keys` hold, given their accounts; `read` finds the mints."""
    lamports, tokens = [], []
    for index, key in enumerate(keys):
        account = accounts[key]
        lamports.append(0 if account is None else account.lamports)
        holding = read_holding(account)
        if holding is None:
            continue
        mint = read_mint(accounts[holding.mint] if holding.mint in accounts else read(holding.mint))
        if mint is None:
            continue
        tokens.append(
            {
                "accountIndex": index,
                "mint": str(holding.mint),
                "uiTokenAmount": ui_amount(holding.amount, mint.decimals),
                "owner": str(holding.owner),
                "programId": str(holding.program),
            }
        )
    return Balances(lamports, tokens)


def make_record(
    wire: Wire, place: Place, loaded: Loaded, outcome: Outcome, *, before: Balances, after: Balances
) -> Record:
    """Put together what happened."""
    meta: dict[str, Any] = {
        "err": outcome.err,
        "status": {"Ok": None} if outcome.err is None else {"Err": outcome.err},
        "fee": outcome.fee,
        "preBalances": before.lamports,
        "postBalances": after.lamports,
        "innerInstructions": inner_instructions(outcome),
        "logMessages": list(outcome.logs),
        "preTokenBalances": before.tokens,
        "postTokenBalances": after.tokens,
        "rewards": [],
        "loadedAddresses": {
            "writable": [str(key) for key in loaded.loaded_writable],
            "readonly": [str(key) for key in loaded.loaded_readonly],
        },
        "computeUnitsConsumed": outcome.units,
    }
    if outcome.return_data is not None:
        meta["returnData"] = outcome.return_data
    return Record(wire, place, loaded, meta, _memo(wire, loaded))


def inner_instructions(outcome: Outcome) -> list[dict[str, Any]]:
    """What instructions called, as the RPC says it."""
    return [
        {
            "index": index,
            "instructions": [
                {
                    "programIdIndex": called.instruction().program_id_index,
                    "accounts": list(bytes(called.instruction().accounts)),
                    "data": base58.encode(bytes(called.instruction().data)),
                    "stackHeight": called.stack_height(),
                }
                for called in group
            ],
        }
        for index, group in enumerate(outcome.inner)
        if group
    ]


def _memo(wire: Wire, loaded: Loaded) -> str | None:
    """`[length] text` of each memo (Agave: extract_and_fmt_memos)."""
    memos = []
    for instruction in wire.message.instructions:
        if loaded.keys[instruction.program_id_index] in MEMO_PROGRAMS:
            data = bytes(instruction.data)
            try:
                memos.append(f"[{len(data)}] {data.decode()}")
            except UnicodeDecodeError:
                memos.append(f"[{len(data)}] (unparseable)")
    return "; ".join(memos) or None
