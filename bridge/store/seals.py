"""Tables: unsealed, seals, sealings, seal_walks.

unsealed ──► digest of each journal's rows ──► seals (COPY), sealings ──► gone from unsealed, in one transaction
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import asyncpg

from bridge.domain.seals import MISSING, START, JournalDigest, Sealed, Tip, Walk, Walked, link

if TYPE_CHECKING:
    from bridge.store.connection import Connection

# Taken for the length of a transaction: whoever seals next sees where this one ended.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('bridge seal'))"

TIP = "SELECT sequence AS count, head FROM seals ORDER BY sequence DESC LIMIT 1"
LAST_SEALING = "SELECT count, head FROM sealings ORDER BY count DESC LIMIT 1"
ENDS = """
    -- In one statement, for the sealer may commit between two; and the head at a position that somebody remembers.
    SELECT (SELECT max(sequence) FROM seals) AS sealed, (SELECT max(count) FROM sealings) AS said,
           (SELECT head FROM seals WHERE sequence = $1) AS head
"""
SEALINGS = "SELECT count, head FROM sealings WHERE count BETWEEN $1 AND $2"

# As the digest takes them: text in UTF-8, numbers in digits, time as whole microseconds, so that no float comes near.
# Codes, not ids: an account that is renamed is a change. One that is gone has no code, which no account's code is.
COLUMNS = """
    convert_to(s.chain, 'UTF8'), convert_to(s.block_number::TEXT, 'UTF8'), convert_to(s.journal_id::TEXT, 'UTF8'),
    j.block_hash, convert_to(j.kind, 'UTF8'), convert_to(j.reason, 'UTF8'), convert_to(j.source, 'UTF8'),
    convert_to(j.ref, 'UTF8'), j.payload_hash, convert_to(j.valid_at::TEXT, 'UTF8'),
    convert_to((extract(epoch FROM j.recorded_at) * 1000000)::BIGINT::TEXT, 'UTF8'),
    convert_to(COALESCE(j.reverses_id::TEXT, ''), 'UTF8'),
    convert_to(t.seq::TEXT, 'UTF8'), convert_to(COALESCE(debit.code, ''), 'UTF8'),
    convert_to(COALESCE(credit.code, ''), 'UTF8'), convert_to(t.asset, 'UTF8'), convert_to(t.amount::TEXT, 'UTF8'),
    convert_to(t.phase, 'UTF8')
"""
# Each by its index, in the order of the seals: joined as tables, all of a page would be put in order first.
ROWS = """
    LEFT JOIN LATERAL (SELECT * FROM journals
                        WHERE (chain, block_number, journal_id) = (s.chain, s.block_number, s.journal_id)
                       OFFSET 0) j ON TRUE
    LEFT JOIN LATERAL (SELECT * FROM transfers
                        WHERE (chain, block_number, journal_id) = (s.chain, s.block_number, s.journal_id)
                       OFFSET 0) t ON TRUE
    LEFT JOIN accounts debit ON debit.account_id = t.debit_account
    LEFT JOIN accounts credit ON credit.account_id = t.credit_account
"""
QUEUED = f"""
    SELECT s.journal_id, j.journal_id AS booked_id, t.seq, s.chain, s.block_number, {COLUMNS}
      FROM (SELECT * FROM unsealed ORDER BY journal_id LIMIT $1) s {ROWS}
     ORDER BY s.journal_id, t.seq
"""  # noqa: S608  # of the constants above
CHAIN = f"""
    SELECT s.journal_id, j.journal_id AS booked_id, t.seq, s.sequence, s.head, {COLUMNS},
           COALESCE((k.source, k.ref, k.payload_hash) = (j.source, j.ref, j.payload_hash), FALSE) AS keyed,
           COALESCE(j.source || ' ' || j.ref, k.source || ' ' || k.ref) AS key
      FROM seals s {ROWS}
      LEFT JOIN LATERAL (SELECT * FROM journal_keys WHERE journal_id = s.journal_id OFFSET 0) k ON TRUE
     WHERE s.sequence BETWEEN $1 AND $2
     ORDER BY s.sequence, t.seq
"""  # noqa: S608
_JOURNAL, _BOOKED, _SEQ = 0, 1, 2
_OF_JOURNAL, _OF_TRANSFER = slice(5, 17), slice(17, 23)
"""Where the columns of both stand."""

RECORD = "INSERT INTO sealings (count, head) VALUES ($1, $2)"
DONE = "DELETE FROM unsealed WHERE journal_id = ANY($1)"
WAITING = "SELECT count(*) FROM unsealed"

STRANGERS = """
    -- In the books, but neither sealed nor waiting for it: booked past the trigger, or cut off the chain.
    SELECT 'journal ' || j.journal_id || ' (' || j.source || ' ' || j.ref || ')' FROM journals j
     WHERE NOT EXISTS (SELECT FROM seals s WHERE s.journal_id = j.journal_id)
       AND NOT EXISTS (SELECT FROM unsealed u WHERE u.journal_id = j.journal_id)
     ORDER BY j.journal_id LIMIT 1
"""
ORPHANS = """
    SELECT 'a transfer of journal ' || t.journal_id FROM transfers t
     WHERE NOT EXISTS (SELECT FROM journals j
                        WHERE (j.chain, j.block_number, j.journal_id) = (t.chain, t.block_number, t.journal_id))
     ORDER BY t.journal_id LIMIT 1
"""

# As the two above, of one page in the order of blocks.
BOOKS_PAGE = """
    SELECT j.chain, j.block_number, j.journal_id,
           CASE WHEN NOT EXISTS (SELECT FROM seals s WHERE s.journal_id = j.journal_id)
                 AND NOT EXISTS (SELECT FROM unsealed u WHERE u.journal_id = j.journal_id)
                THEN 'journal ' || j.journal_id || ' (' || j.source || ' ' || j.ref || ')' END AS stranger
      FROM journals j WHERE (j.chain, j.block_number, j.journal_id) > ($1, $2, $3)
     ORDER BY j.chain, j.block_number, j.journal_id LIMIT $4
"""
ORPHANS_BETWEEN = """
    SELECT 'a transfer of journal ' || t.journal_id FROM transfers t
     WHERE (t.chain, t.block_number, t.journal_id) > ($1, $2, $3)
       AND ($4 OR (t.chain, t.block_number, t.journal_id) < ($5, $6, $7))
       AND NOT EXISTS (SELECT FROM journals j
                        WHERE (j.chain, j.block_number, j.journal_id) = (t.chain, t.block_number, t.journal_id))
     LIMIT 1
"""

WALKED = "SELECT count, head, chain, block_number, journal_id, fault, rounds FROM seal_walks WHERE walk = $1"
WALK = """
    -- A fault keeps the time at which it was first found.
    UPDATE seal_walks
       SET count = $2, head = $3, chain = $4, block_number = $5, journal_id = $6, fault = $7,
           rounds = rounds + $8::INTEGER,
           fault_at = CASE WHEN $7::TEXT IS NULL THEN NULL WHEN fault IS NULL THEN now() ELSE fault_at END,
           walked_at = now()
     WHERE walk = $1
"""
FAULTS = "SELECT walk, fault FROM seal_walks WHERE fault IS NOT NULL ORDER BY walk"
WALKED_EVER = "SELECT EXISTS (SELECT FROM seal_walks WHERE walked_at IS NOT NULL)"
UNSEEN_FAULT = """
    -- Until a person has taken up the break that it becomes, or, before there is one, from the moment it is found.
    SELECT COALESCE('break ' || (SELECT min(break_id) FROM breaks WHERE check_subject = 'seals' AND state = 'open'),
                    (SELECT min(fault) FROM seal_walks WHERE fault IS NOT NULL AND NOT EXISTS (
                         SELECT FROM breaks WHERE check_subject = 'seals' AND state IN ('assigned', 'explained'))))
"""

ROWS_AT_ONCE = 2_000
"""Fetched ahead: a journal of a million transfers is read through, never held."""


class Seals:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def seal(self, limit: int) -> tuple[int, Tip]:
        """Link the next journals, `limit` at most; how many these were, and where the chain ends now."""
        await self._connection.execute(LOCK)
        tip = await self.tip()
        rows: list[tuple[int, int, str, int, bytes]] = []
        async for page in self._digests(QUEUED, limit):
            for row, digest in page:
                tip = Tip(tip.count + 1, link(tip.head, tip.count + 1, digest))
                rows.append((tip.count, row["journal_id"], row["chain"], row["block_number"], tip.head))
        if rows:
            await self._connection.copy_records_to_table(
                "seals", columns=("sequence", "journal_id", "chain", "block_number", "head"), records=rows
            )
            await self._connection.execute(RECORD, tip.count, tip.head)
            await self._connection.execute(DONE, [journal_id for _, journal_id, *_ in rows])
        return len(rows), tip

    async def tip(self) -> Tip:
        row = await self._connection.fetchrow(TIP)
        return Tip(0, START) if row is None else Tip(**row)

    async def last_sealing(self) -> Tip:
        """Where the last run said that the chain ends."""
        row = await self._connection.fetchrow(LAST_SEALING)
        return Tip(0, START) if row is None else Tip(**row)

    async def sealings(self, first: int, last: int) -> dict[int, bytes]:
        """Heads that runs noted after `first` … `last` journals."""
        return {row["count"]: row["head"] for row in await self._connection.fetch(SEALINGS, first, last)}

    async def chain(self, first: int, last: int) -> AsyncGenerator[list[Sealed]]:
        """The journals at positions `first` … `last`, read anew from their rows, some at a time; positions that are
        missing are not."""
        async for page in self._digests(CHAIN, first, last):
            yield [
                Sealed(row["sequence"], row["journal_id"], row["key"], digest, row["keyed"], row["head"])
                for row, digest in page
            ]

    async def waiting(self) -> int:
        """Journals that are booked and not sealed yet."""
        count: int = await self._connection.fetchval(WAITING)
        return count

    async def stranger(self) -> str | None:
        """Something in the books that the chain does not have, nor ever will; None where there is nothing."""
        found: str | None = await self._connection.fetchval(STRANGERS)
        return found if found is not None else await self._connection.fetchval(ORPHANS)

    async def walked(self, walk: Walk) -> Walked:
        row = await self._connection.fetchrow(WALKED, walk)
        assert row is not None
        place = (row["chain"], row["block_number"], row["journal_id"])
        return Walked(Tip(row["count"], row["head"]), place, row["fault"], row["rounds"])

    async def ends(self, position: int) -> tuple[int, int, bytes | None]:
        """How many links there are, how many there are by what the last run said, and the head at `position`."""
        row = await self._connection.fetchrow(ENDS, position)
        assert row is not None
        return row["sealed"] or 0, row["said"] or 0, row["head"]

    async def walk(self, walk: Walk, to: Walked, *, ended: bool = False) -> None:
        """Note how far it has come; `ended`: this was the end of a round."""
        await self._connection.execute(WALK, walk, to.tip.count, to.tip.head, *to.place, to.fault, ended)

    async def books_after(
        self, place: tuple[str, int, int], limit: int
    ) -> tuple[tuple[str, int, int] | None, str | None]:
        """The last of the next `limit` journals in the order of blocks, None where the books end before; and something
        among them, or of transfers beside them, that the chain does not have, nor ever will."""
        rows = await self._connection.fetch(BOOKS_PAGE, *place, limit)
        last = None
        if len(rows) == limit:
            last = (rows[-1]["chain"], rows[-1]["block_number"], rows[-1]["journal_id"])
        stranger = next((row["stranger"] for row in rows if row["stranger"] is not None), None)
        if stranger is None:
            stranger = await self._connection.fetchval(ORPHANS_BETWEEN, *place, last is None, *(last or place))
        return last, stranger

    async def faults(self) -> dict[Walk, str] | None:
        """What walks stand in front of; None where none was ever made."""
        if not await self._connection.fetchval(WALKED_EVER):
            return None
        return {Walk(row["walk"]): row["fault"] for row in await self._connection.fetch(FAULTS)}

    async def unseen_fault(self) -> str | None:
        """Why nothing may be sent: the books are not as they were sealed, and no person has taken that up yet."""
        found: str | None = await self._connection.fetchval(UNSEEN_FAULT)
        return found

    async def _digests(self, query: str, *arguments: object) -> AsyncGenerator[list[tuple[asyncpg.Record, bytes]]]:
        """Each journal's first row, and the digest of all its rows; those that end in one reading at a time."""
        cursor = await self._connection.cursor(query, *arguments)
        first: asyncpg.Record | None = None
        digest: JournalDigest | None = None
        while rows := await cursor.fetch(ROWS_AT_ONCE):
            page = []
            for row in rows:
                if first is None or row[_JOURNAL] != first[_JOURNAL]:
                    if first is not None:
                        page.append((first, MISSING if digest is None else digest.close()))
                    first, digest = row, None if row[_BOOKED] is None else JournalDigest(row[_OF_JOURNAL])
                if digest is not None and row[_SEQ] is not None:
                    digest.add(row[_OF_TRANSFER])
            yield page
        if first is not None:
            yield [(first, MISSING if digest is None else digest.close())]
