"""How a wrong entry is put right: never by a change, always by one more journal that two people stand for.

    asked (who, why) ──► approved by another person ──► book_adjustment   one movement between two accounts
            │                                           book_reversal     the opposite of a journal, once
            └──────────► refused, or taken back

A correction counts at the block that the ledger has come to when it is approved: what was booked up to an earlier block
stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.domain.ledger import CARRIED, OPENING, SUSPENSE_IN, SUSPENSE_OUT, UNALLOCATED, Journal, Phase, Transfer
from bridge.domain.units import BlockStamp, format_address, is_address, parse_address

ADJUSTMENT, REVERSAL = "adjustment", "reversal"

JournalKey = tuple[str, str]
"""(source, ref) of a journal."""

_FIXED = (UNALLOCATED, CARRIED, OPENING, SUSPENSE_IN, SUSPENSE_OUT)
_OF_ADDRESS = re.compile(r"(?:vault|distributor|claims|operator|operator:gas|payable|owed_on_chain|claimable):(\w+)")
_NAMED = re.compile(r"(expense|external):[a-z0-9][a-z0-9_.:-]*")


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person asks for: either `reverses` or `transfer`."""

    correction_id: int
    chain: str
    reason: str
    asked_by: str  # the user of the operating system
    reverses: JournalKey | None
    transfer: Transfer | None

    def __post_init__(self) -> None:
        assert (self.reverses is None) != (self.transfer is None), "a correction reverses or adjusts"


@dataclass(frozen=True, slots=True)
class Approved:
    """A correction, and who approved it."""

    correction: Correction
    approved_by: str


def is_account(code: str) -> bool:
    """Whether the chart of accounts has a place for `code`. A code that nobody else writes would lose what it gets."""
    of_address = _OF_ADDRESS.fullmatch(code)
    if of_address is not None:
        # In one form only: another spelling of the same address would be another account.
        return is_address(of_address[1]) and format_address(parse_address(of_address[1])) == of_address[1]
    return code in _FIXED or bool(_NAMED.fullmatch(code))


def reversal_ref(reverses: JournalKey) -> str:
    """A journal has one reversal, for this is the identity of that."""
    return " ".join(reverses)


def correction_key(correction: Correction) -> JournalKey:
    """(source, ref) of the journal that the correction becomes."""
    if correction.reverses is not None:
        return REVERSAL, reversal_ref(correction.reverses)
    return ADJUSTMENT, str(correction.correction_id)


def book_adjustment(approved: Approved, at: BlockStamp, valid_at: int) -> Journal:
    transfer = approved.correction.transfer
    assert transfer is not None
    return _book(ADJUSTMENT, approved, at, valid_at, (transfer,))


def book_reversal(approved: Approved, booked: Journal, at: BlockStamp, valid_at: int) -> Journal:
    """The opposite of `booked`, so that every balance, pending ones too, is as if that had never been booked.

    Raises ValueError where `booked` moved nothing: there is nothing to take back.
    """
    if not booked.transfers:
        raise ValueError(f"{booked.source} {booked.ref} moved nothing")
    undone = tuple(opposite for transfer in reversed(booked.transfers) for opposite in _opposite(transfer))
    return _book(REVERSAL, approved, at, valid_at, undone)


def _book(kind: str, approved: Approved, at: BlockStamp, valid_at: int, transfers: tuple[Transfer, ...]) -> Journal:
    correction = approved.correction
    assert at.chain == correction.chain
    source, ref = correction_key(correction)
    return Journal(
        kind=kind,
        reason=f"{correction.reason} (asked by {correction.asked_by}, approved by {approved.approved_by})",
        source=source,
        ref=ref,
        at=at,
        valid_at=valid_at,
        transfers=transfers,
        reverses=correction.reverses,
    )


def _opposite(transfer: Transfer) -> Iterable[Transfer]:
    # posted   the same amount back
    # pending  released, and nothing booked
    # void     pending again
    # post     the amount back, and pending again
    debit, credit, asset, amount = transfer.debit, transfer.credit, transfer.asset, transfer.amount
    match transfer.phase:
        case Phase.POSTED:
            yield Transfer(credit, debit, asset, amount)
        case Phase.PENDING:
            yield Transfer(debit, credit, asset, amount, Phase.VOID)
        case Phase.VOID:
            yield Transfer(debit, credit, asset, amount, Phase.PENDING)
        case Phase.POST:
            yield Transfer(credit, debit, asset, amount)
            yield Transfer(debit, credit, asset, amount, Phase.PENDING)
