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

# Time as whole microseconds, so that no float comes near. Codes, not ids: an account that is renamed is a change.
COLUMNS = """
    j.journal_id AS booked_id, j.block_hash, j.kind, j.reason, j.source, j.ref, j.payload_hash, j.valid_at,
    (extract(epoch FROM j.recorded_at) * 1000000)::BIGINT AS recorded_at, j.reverses_id,
    t.seq, debit.code AS debit, credit.code AS credit, t.asset, t.amount, t.phase
"""
ROWS = """
    LEFT JOIN journals j ON (j.chain, j.block_number, j.journal_id) = (s.chain, s.block_number, s.journal_id)
    LEFT JOIN transfers t ON (t.chain, t.block_number, t.journal_id) = (s.chain, s.block_number, s.journal_id)
    LEFT JOIN accounts debit ON debit.account_id = t.debit_account
    LEFT JOIN accounts credit ON credit.account_id = t.credit_account
"""
QUEUED = f"""
    SELECT s.journal_id, s.chain, s.block_number, {COLUMNS}
      FROM (SELECT * FROM unsealed ORDER BY journal_id LIMIT $1) s {ROWS}
     ORDER BY s.journal_id, t.seq
"""  # noqa: S608  # of the constants above
CHAIN = f"""
    SELECT s.sequence, s.journal_id, s.chain, s.block_number, s.head, {COLUMNS},
           k.source AS key_source, k.ref AS key_ref, k.payload_hash AS key_hash
      FROM seals s {ROWS}
      LEFT JOIN journal_keys k ON k.journal_id = s.journal_id
     WHERE s.sequence BETWEEN $1 AND $2
     ORDER BY s.sequence, t.seq
"""  # noqa: S608

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
        async for row, digest in self._digests(QUEUED, limit):
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

    async def chain(self, first: int, last: int) -> AsyncGenerator[Sealed]:
        """The journals at positions `first` … `last`, read anew from their rows; positions that are missing are not."""
        async for row, digest in self._digests(CHAIN, first, last):
            named = row["source"] is not None
            source, ref = (row["source"], row["ref"]) if named else (row["key_source"], row["key_ref"])
            yield Sealed(
                sequence=row["sequence"],
                journal_id=row["journal_id"],
                name=f"journal {row['journal_id']}" + (f" ({source} {ref})" if source is not None else ""),
                digest=digest,
                keyed=(row["key_source"], row["key_ref"], row["key_hash"])
                == (row["source"], row["ref"], row["payload_hash"]),
                head=row["head"],
            )

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

    async def _digests(self, query: str, *arguments: object) -> AsyncGenerator[tuple[asyncpg.Record, bytes]]:
        """Each journal's first row, and the digest of all its rows."""
        first: asyncpg.Record | None = None
        digest: JournalDigest | None = None
        async for row in self._connection.cursor(query, *arguments, prefetch=ROWS_AT_ONCE):
            if first is None or row["journal_id"] != first["journal_id"]:
                if first is not None:
                    yield first, MISSING if digest is None else digest.close()
                first, digest = row, None if row["booked_id"] is None else JournalDigest(_journal_columns(row))
            if row["seq"] is not None and digest is not None:
                digest.add(_transfer_columns(row))
        if first is not None:
            yield first, MISSING if digest is None else digest.close()


def _journal_columns(row: asyncpg.Record) -> list[str | bytes]:
    reverses = row["reverses_id"]
    return [
        *(row["chain"], str(row["block_number"]), str(row["journal_id"]), row["block_hash"], row["kind"]),
        *(row["reason"], row["source"], row["ref"], row["payload_hash"], str(row["valid_at"])),
        *(str(row["recorded_at"]), "" if reverses is None else str(reverses)),
    ]


def _transfer_columns(row: asyncpg.Record) -> list[str | bytes]:
    # An account that is gone has no code, which no account's code is.
    return [
        *(str(row["seq"]), row["debit"] or "", row["credit"] or "", row["asset"], str(row["amount"]), row["phase"]),
    ]
