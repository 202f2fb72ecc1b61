"""Tables: corrections, correction_answers. Rows are added and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg

from bridge.domain.corrections import Approved, Correction, JournalKey
from bridge.domain.errors import RefusedError
from bridge.domain.ledger import Asset, Transfer
from bridge.domain.units import AssetId

if TYPE_CHECKING:
    from bridge.store.connection import Connection

ASK = """
    INSERT INTO corrections (chain, reason, break_id, asked_by, reverses_source, reverses_ref,
                             debit, credit, asset, amount)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING correction_id
"""

ANSWER = """
    -- The key lets one answer in; whoever comes second waits for the first and is told.
    INSERT INTO correction_answers (correction_id, answer, reason, answered_by) VALUES ($1, $2, $3, $4)
    ON CONFLICT (correction_id) DO NOTHING RETURNING correction_id
"""

CORRECTIONS = """
    SELECT c.correction_id, c.chain, c.reason, c.break_id, c.asked_by, c.asked_at, c.reverses_source, c.reverses_ref,
           c.debit, c.credit, c.asset, c.amount, a.answer, a.answered_by, a.answered_at, a.reason AS answer_reason
      FROM corrections c LEFT JOIN correction_answers a USING (correction_id)
"""
BY_ID = f"{CORRECTIONS} WHERE c.correction_id = $1"
LISTED = f"{CORRECTIONS} WHERE $1 OR a.answer IS NULL ORDER BY c.correction_id"
APPROVED = f"{CORRECTIONS} WHERE c.chain = $1 AND a.answer = 'approved' ORDER BY c.correction_id"
OPEN_REVERSAL = f"""
    {CORRECTIONS} WHERE (c.reverses_source, c.reverses_ref) = ($1, $2) AND a.answer IS NULL LIMIT 1
"""

OPEN_ABOUT = f"{CORRECTIONS} WHERE c.break_id = $1 AND a.answer IS NULL ORDER BY c.correction_id LIMIT 1"

JOURNAL_BY_ID = "SELECT source, ref, chain FROM journal_keys WHERE journal_id = $1"
JOURNAL_BY_KEY = "SELECT source, ref, chain FROM journal_keys WHERE source || ' ' || ref = $1 AND source = ANY($2)"
ASSETS = "SELECT asset AS id, chain, address, symbol, decimals FROM assets WHERE $1 IN (asset, symbol) ORDER BY asset"
BREAK = "SELECT chain FROM breaks WHERE break_id = $1"

NEWEST = """
    SELECT k.journal_id, k.chain, k.block_number, k.source, k.ref, j.kind, j.reason
      FROM journal_keys k
      JOIN journals j ON (j.chain, j.block_number, j.journal_id) = (k.chain, k.block_number, k.journal_id)
     ORDER BY k.journal_id DESC LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A correction as people see it. Times are the database's."""

    correction: Correction
    break_id: int | None
    asked_at: datetime
    answer: str | None  # None while it waits
    answered_by: str | None
    answered_at: datetime | None
    answer_reason: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """The head of a journal as people see it."""

    journal_id: int
    chain: str
    block_number: int
    source: str
    ref: str
    kind: str
    reason: str


class Corrections:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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
        moved = (None,) * 4 if transfer is None else (transfer.debit, transfer.credit, transfer.asset, transfer.amount)
        correction_id: int = await self._connection.fetchval(
            ASK, chain, reason, break_id, by, *(reverses or (None, None)), *moved
        )
        return correction_id

    async def approve(self, correction_id: int, by: str) -> Approved:
        """Raises RefusedError where there is none, it is answered, or the one who asked is the one who approves."""
        return Approved(await self._answer(correction_id, "approved", None, by), by)

    async def refuse(self, correction_id: int, reason: str, by: str) -> None:
        """Raises RefusedError where there is none, or it is answered."""
        await self._answer(correction_id, "refused", reason, by)

    async def approved(self, chain: str) -> list[Approved]:
        """All that became journals, oldest first."""
        rows = await self._connection.fetch(APPROVED, chain)
        return [Approved(_correction(row), row["answered_by"]) for row in rows]

    async def waiting_reversal(self, reverses: JournalKey) -> int | None:
        """The correction that asks for this reversal already."""
        number: int | None = await self._connection.fetchval(OPEN_REVERSAL, *reverses)
        return number

    async def waiting_about(self, break_id: int) -> int | None:
        """A correction that was asked for to explain this break, and waits."""
        number: int | None = await self._connection.fetchval(OPEN_ABOUT, break_id)
        return number

    async def journal_key(self, asked: str) -> tuple[JournalKey, str] | None:
        """(source, ref) and chain of the journal with this number, or called `SOURCE REF`."""
        if asked.isascii() and asked.isdecimal() and len(asked) <= 18:
            row = await self._connection.fetchrow(JOURNAL_BY_ID, int(asked))
        else:
            # The key has an index by source; where it ends is not known, for a ref may hold spaces.
            words = asked.split(" ")
            sources = [" ".join(words[:count]) for count in range(1, len(words))]
            row = await self._connection.fetchrow(JOURNAL_BY_KEY, asked, sources)
        return None if row is None else ((row["source"], row["ref"]), row["chain"])

    async def assets_named(self, name: str) -> list[Asset]:
        """Those with this id or symbol."""
        return [Asset(**row) for row in await self._connection.fetch(ASSETS, name)]

    async def break_chain(self, break_id: int) -> str | None:
        """The chain that a break is on; None where there is no such break."""
        chain: str | None = await self._connection.fetchval(BREAK, break_id)
        return chain

    async def _answer(self, correction_id: int, answer: str, reason: str | None, by: str) -> Correction:
        row = await self._connection.fetchrow(BY_ID, correction_id)
        if row is None:
            raise RefusedError(f"there is no correction {correction_id}")
        try:
            async with self._connection.transaction():
                taken = await self._connection.fetchval(ANSWER, correction_id, answer, reason, by)
        except asyncpg.CheckViolationError as error:  # the database itself holds that there are two persons
            raise RefusedError(str(error)) from error
        if taken is None:
            row = await self._connection.fetchrow(BY_ID, correction_id)
            assert row is not None
            raise RefusedError(f"correction {correction_id} is {row['answer']} by {row['answered_by']} already")
        return _correction(row)

    # ── for people ──
    async def asked(self, *, everything: bool = False) -> list[Asked]:
        """Corrections that wait for an answer, or all; oldest first."""
        return [
            Asked(
                correction=_correction(row),
                break_id=row["break_id"],
                asked_at=row["asked_at"],
                answer=row["answer"],
                answered_by=row["answered_by"],
                answered_at=row["answered_at"],
                answer_reason=row["answer_reason"],
            )
            for row in await self._connection.fetch(LISTED, everything)
        ]

    async def newest(self, limit: int) -> list[Entry]:
        """The heads of the last journals, newest first."""
        return [Entry(**row) for row in await self._connection.fetch(NEWEST, limit)]


def _correction(row: asyncpg.Record) -> Correction:
    reverses = None if row["reverses_source"] is None else (row["reverses_source"], row["reverses_ref"])
    transfer = None
    if row["amount"] is not None:
        transfer = Transfer(row["debit"], row["credit"], AssetId(row["asset"]), row["amount"])
    return Correction(row["correction_id"], row["chain"], row["reason"], row["asked_by"], reverses, transfer)
