"""Rows of the books: what is to be booked, the ledger, corrections, seals, audits, breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from bridge.domain.breaks import AccountMove, Break, Check, Range, Reconciliation, Spent, Waiting
from bridge.domain.corrections import Approved, JournalKey
from bridge.domain.events import Block, Log
from bridge.domain.ledger import (
    Asset,
    Balance,
    Coverage,
    Decided,
    GasPaid,
    IntendedBatch,
    Intent,
    Journal,
    KeptBalance,
    Sums,
    Transfer,
    Unbooked,
)
from bridge.domain.records import Stored
from bridge.domain.seals import Sealed, Tip, Walk, Walked
from bridge.domain.units import Address, AssetId, BlockStamp


class BookingStore(Protocol):
    """What is to be booked: finalized logs, and rows of other stages."""

    async def next_stop(self, chain: str, after: int, span: int) -> Block | None:
        """The last stored finalized block of the `span` after `after`, or the first beyond; None at the end."""

    async def logs(self, chain: str, first: int, last: int, covered: Coverage, limit: int) -> list[Log]:
        """Finalized logs of blocks first…last that the books cover, in (block, index) order.

        Whole blocks, so there may be more than `limit`; fewer than `limit` means that there are no others.
        """

    async def unbooked(self, chain: str, through: int, limit: int) -> Unbooked:
        """At most `limit` facts of blocks up to `through`, those of the oldest blocks first."""

    async def bookable(self, chain: str, through: int, source: str, after: bytes, limit: int) -> list[bytes]:
        """Refs of what must be booked of `source` (decision, distribution, attempt), in order, after `after`."""

    async def facts(
        self, chain: str, source: str, refs: Sequence[bytes]
    ) -> Sequence[Decided] | Sequence[Intent] | Sequence[GasPaid]:
        """What journals of `source` are made from."""

    async def unbooked_count(self, chain: str, through: int) -> int: ...
    async def forget(self, entries: Sequence[int]) -> None:
        """They are booked, in this transaction."""

    async def open_batches(self, batches: Sequence[tuple[bytes, int]]) -> list[IntendedBatch]:
        """Those of `batches` (distribution id, index) whose intent is booked and that nothing has closed."""


class LedgerStore(Protocol):
    async def register_assets(self, assets: Sequence[Asset]) -> None:
        """Note assets at their first use; an account needs one. What is known already stays as it is."""

    async def post(self, journals: Sequence[Journal]) -> list[bool]:
        """Book `journals` in order; for each, False where it was booked before.

        Raises JournalConflict where (source, ref) was booked with another payload, RefusedError where a post or void
        releases more than is pending, an asset is not registered or what is reversed is not booked.
        """

    async def balances(self, chain: str, block_number: int, codes: Sequence[str] | None = None) -> list[Balance]:
        """Accounts through `block_number`, by code and asset; all of the chain's assets where `codes` is None."""

    async def balance_at(self, chain: str, code: str, asset: AssetId, block_number: int) -> int:
        """Debits minus credits posted through `block_number`; 0 for an account that was never used."""

    async def journals(self, source: str, refs: Sequence[str]) -> list[Journal]:
        """Those of `refs` that are booked, read back from their rows."""

    async def books_exactly(self, chain: str, source: str, first: int, last: int, expected: Sequence[Journal]) -> bool:
        """Whether `expected` are booked, in this order, as they are to the last field and under their own keys, and no
        other journals of `source` in blocks first … last. None of them reverses another."""


class CorrectionStore(Protocol):
    """What people asked to be put right in the books, and who answered."""

    async def ask(
        self,
        chain: str,
        reason: str,
        by: str,
        *,
        reverses: JournalKey | None = None,
        transfer: Transfer | None = None,
        break_id: int | None = None,
    ) -> int:
        """Write down what waits for another person; its number."""

    async def approve(self, correction_id: int, by: str) -> Approved:
        """Raises RefusedError where there is none, it is answered, or the one who asked is the one who approves."""

    async def refuse(self, correction_id: int, reason: str, by: str) -> None:
        """Raises RefusedError where there is none, or it is answered."""

    async def approved(self, chain: str) -> list[Approved]:
        """All that became journals, oldest first."""

    async def waiting_reversal(self, reverses: JournalKey) -> int | None:
        """The correction that asks for this reversal already."""

    async def waiting_about(self, break_id: int) -> int | None:
        """A correction that was asked for to explain this break, and waits."""

    async def journal_key(self, asked: str) -> tuple[JournalKey, str] | None:
        """(source, ref) and chain of the journal with this number, or called `SOURCE REF`."""

    async def assets_named(self, name: str) -> list[Asset]:
        """Those with this id or symbol."""

    async def break_chain(self, break_id: int) -> str | None:
        """The chain that a break is on; None where there is no such break."""


class SealStore(Protocol):
    """The hash chain over the journals."""

    async def seal(self, limit: int) -> tuple[int, Tip]:
        """Link the next journals, `limit` at most; how many these were, and where the chain ends now."""

    async def tip(self) -> Tip: ...
    async def last_sealing(self) -> Tip:
        """Where the last run said that the chain ends."""

    async def sealings(self, first: int, last: int) -> dict[int, bytes]:
        """Heads that runs noted after `first` … `last` journals."""

    def chain(self, first: int, last: int) -> AsyncGenerator[list[Sealed]]:
        """The journals at positions `first` … `last`, read anew from their rows, some at a time; positions that are
        missing are not."""

    async def waiting(self) -> int:
        """Journals that are booked and not sealed yet."""

    async def stranger(self) -> str | None:
        """Something in the books that the chain does not have, nor ever will; None where there is nothing."""

    async def walked(self, walk: Walk) -> Walked: ...
    async def ends(self, position: int) -> tuple[int, int, bytes | None]:
        """How many links there are, how many there are by what the last run said, and the head at `position`."""

    async def walk(self, walk: Walk, to: Walked, *, ended: bool = False) -> None:
        """Note how far it has come; `ended`: this was the end of a round."""

    async def books_after(
        self, place: tuple[str, int, int], limit: int
    ) -> tuple[tuple[str, int, int] | None, str | None]:
        """The last of the next `limit` journals in the order of blocks, None where the books end before; and something
        among them, or of transfers beside them, that the chain does not have, nor ever will."""

    async def faults(self) -> dict[Walk, str] | None:
        """What walks stand in front of; None where none was ever made."""

    async def unseen_fault(self) -> str | None:
        """Why nothing may be sent: the books are not as they were sealed, and no person has taken that up yet."""


class AuditStore(Protocol):
    """What the reconciler asks of the rows that other stages wrote."""

    async def last_looked(self, chain: str) -> int | None:
        """The block up to which runs have looked at events; None where there was none, or all must be looked at."""

    async def doubted(self, chain: str, blocks_max: int) -> list[tuple[int, int]]:
        """Blocks that breaks which are not resolved are about, in order: (after, last), each `blocks_max` at most."""

    async def empty_until(self, chain: str, code: str, asset: AssetId) -> int | None:
        """The block at which the suspense account `code` was last seen empty; None where it never was."""

    async def time(self, at: BlockStamp) -> int:
        """Seconds; of the nearest stored block before, where this one is not stored."""

    async def journals_without_log(self, chain: str, first: int, last: int, limit: int) -> list[tuple[int, str]]:
        """(block, ref) of journals that book a log which is not there, or whose block is not final."""

    async def gaps(self, chain: str, first: int, last: int) -> list[tuple[int, int]]:
        """Runs of blocks between `first` and `last` that no finalized range covers."""

    async def broken_links(self, chain: str, first: int, last: int, limit: int) -> list[int]:
        """Finalized blocks whose parent hash is not the hash of the finalized block before."""

    async def sample(self, chain: str, first: int, last: int, limit: int) -> list[Block]:
        """Stored finalized headers to ask a node for again: `last`, those in doubt, and some others by chance."""

    async def torn_journals(self, chain: str, limit: int) -> list[str]: ...
    async def chains(self) -> list[str]:
        """Those that have accounts."""

    async def kept(self, chain: str, after: int, limit: int) -> list[KeptBalance]:
        """What is kept of accounts, in the order of their ids, those after account `after`."""

    async def page_end(self, chain: str, after: tuple[int, int, int], transfers: int) -> tuple[int, int, int] | None:
        """Where the next `transfers` after `after` (block, journal, place in it) end; None where not so many follow."""

    async def added_up(
        self, chain: str, after: tuple[int, int, int], end: tuple[int, int, int] | None, accounts: tuple[int, int]
    ) -> list[tuple[int, Sums]]:
        """The sums of the transfers after `after` up to `end`, or of all, by account: of ids first … last."""

    async def unmatched(
        self, chain: str, account: tuple[str, AssetId], after: int, through: int, limit: int
    ) -> list[tuple[int, str, Log | None]]:
        """(debits − credits, journal in words, log that it books) of blocks in which the account does not net."""

    async def pending(self, at: BlockStamp) -> dict[AssetId, int]:
        """What batches in flight have put aside, in atoms."""

    async def overdrawn(self, at: BlockStamp) -> tuple[int, dict[tuple[str, AssetId], int]]:
        """How many accounts may claim; and of those that have claimed more than they were given, by how much."""

    async def settled_in(self, batches: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], int]:
        """The block in which each of `batches` was executed, as booked; those that are not booked are left out."""

    async def moves(self, chain: str, account: tuple[str, AssetId], through: int) -> list[tuple[int, int]]:
        """What `account` (code, asset) gained in each block in which it was booked: (block, debits − credits)."""

    async def account_moves(
        self, chain: str, account: tuple[str, AssetId], first: int, last: int, limit: int
    ) -> list[AccountMove]:
        """The journals that moved the account in blocks `first` to `last`, in order."""

    async def spent(self, chain: str, operator: Address, through: int, allowance_s: int) -> Spent | None:
        """None where the operator never sent anything for us."""

    async def intended(self, batches: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], IntendedBatch]:
        """Those of `batches` (distribution id, index) that were planned here."""

    async def ranges(self, chain: str, span: tuple[int, int], after: int, limit: int) -> list[Range]:
        """Those that end within `span` (after, last) and begin after block `after`, in order."""

    async def outcomes(self, chain: str, last: int, limit: int) -> list[tuple[bytes, int, bool]]:
        """Some batches that are over by block `last`: (distribution id, index, whether they were executed)."""

    async def slice_end(self, chain: str, after: int, last: int, logs: int) -> int:
        """How far `logs` logs after block `after` reach, at most to block `last`."""

    async def credited_after(self, chain: str, code: str, limit: int | None) -> list[str]:
        """Accounts that the distributor has ever owed something, by code, after `code`."""

    async def credited_in_doubt(self, chain: str, since: int, limit: int) -> list[str]:
        """Those of them that were moved after block `since`, `limit` at most, and those that are a break."""

    async def claimants_after(self, chain: str, code: str, limit: int | None) -> list[str]:
        """Accounts that were ever given something to claim, by code, after `code`."""

    async def claimants_in_doubt(self, chain: str, since: int, limit: int) -> list[str]:
        """Those of them that claimed after block `since`, `limit` at most, and those that are a break."""

    async def claimed(self, at: BlockStamp, codes: Sequence[str]) -> dict[tuple[str, AssetId], int]:
        """What accounts have claimed by the books, in atoms."""

    async def stored(self, chain: str, after: tuple[str, int], limit: int) -> list[Stored]:
        """Decisions by rule and start of the window, those after `after`; with all that belongs to them."""

    async def carries(self, chain: str) -> dict[tuple[str, AssetId], dict[Address, int]]:
        """What is carried now, by rule and asset."""

    async def journals_without_fact(self, chain: str, last: int, executed: Sequence[str], limit: int) -> list[str]:
        """Journals of the bridge's own deeds that it has no row for; `executed` are refs of batches with a log."""

    async def false_outcomes(self, chain: str, limit: int) -> list[str]:
        """Payouts whose outcome is not what was booked."""

    async def unjudged(self, chain: str) -> int:
        """Batches that the books say were executed, and whose payouts stages/confirm.py has not settled yet."""

    async def waiting(self, chain: str) -> list[Waiting]:
        """Batches whose intent is booked and that nothing has closed, oldest window first."""


class BreakStore(Protocol):
    async def unseen_outflow(self, chain: str) -> int | None:
        """The break of money that left without our intent and that no person has taken up yet, if there is one."""

    async def start(self) -> int:
        """Note that a run begins; one that never finishes has no verdict."""

    async def finish(self, reconciliation_id: int, checks: Sequence[Check]) -> Reconciliation:
        """Write what a run found: its checks, breaks opened, seen again or cleared, and the verdict."""

    async def unresolved(self) -> list[Break]:
        """Every break that is not resolved, oldest first."""

    async def find(self, break_id: int) -> Break:
        """Raises RefusedError where there is no such break."""
