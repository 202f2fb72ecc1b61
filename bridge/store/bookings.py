"""What is to be booked: finalized logs of what the books watch, and the table `unbooked`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.domain.events import Block, Log
from bridge.domain.ledger import Coverage, Decided, Due, GasPaid, IntendedBatch, Intent, Share, Unbooked
from bridge.domain.payouts import Leg
from bridge.domain.units import Address, BlockStamp
from bridge.store.log_rows import to_log

if TYPE_CHECKING:
    import asyncpg

    from bridge.store.connection import Connection

# Backfilled ranges hold only some of their blocks: the farthest stored one within the span, else the next one at all.
NEXT_STOP = """
    SELECT number, hash, parent_hash, timestamp FROM blocks
     WHERE chain = $1 AND status = 'finalized' AND number = COALESCE(
         (SELECT max(number) FROM blocks
           WHERE chain = $1 AND number > $2 AND number <= $2 + $3::BIGINT AND status = 'finalized'),
         (SELECT min(number) FROM blocks WHERE chain = $1 AND number > $2 AND status = 'finalized'))
"""

# WITH TIES keeps blocks whole. Read in the order of the index, up to the limit: each block is looked up by itself, for
# with the two tables joined all that is left would be read and sorted for each page.
LOGS = """
    SELECT * FROM (
        SELECT l.*, b.timestamp
          FROM logs l
         CROSS JOIN LATERAL (SELECT timestamp FROM blocks
                              WHERE (chain, number, hash) = (l.chain, l.block_number, l.block_hash)
                                AND status = 'finalized' OFFSET 0) b
         WHERE l.chain = $1 AND l.block_number BETWEEN $2 AND $3
           AND (l.address = ANY($4)
                OR l.address = ANY($5) AND l.topic0 = $6 AND (l.topic1 = ANY($7) OR l.topic2 = ANY($7)))
         ORDER BY l.block_number FETCH FIRST $8 ROWS WITH TIES
    ) AS page ORDER BY block_number, log_index
"""

UNBOOKED = """
    SELECT entry_id, source, ref, batch_index FROM unbooked
     WHERE chain = $1 AND block_number <= $2 ORDER BY block_number, entry_id LIMIT $3
"""
UNBOOKED_COUNT = "SELECT count(*) FROM unbooked WHERE chain = $1 AND block_number <= $2"
FORGET = "DELETE FROM unbooked WHERE entry_id = ANY($1)"

DECISIONS = """
    SELECT e.decision_id, e.rule, e.verdict, e.asset, e.chain, e.block_number, e.block_hash, e.carried_in,
           e.carried_out, COALESCE(block_time(e.chain, e.block_number), e.window_end) AS valid_at
      FROM decisions e
     WHERE e.decision_id = ANY($1)
"""
ALLOCATIONS = """
    SELECT decision_id, recipient, amount, carried_in FROM allocations
     WHERE decision_id = ANY($1) ORDER BY decision_id, recipient
"""

INTENTS = """
    SELECT d.distribution_id, d.rule, d.asset, d.leg, e.chain, e.block_number, e.block_hash,
           COALESCE(block_time(e.chain, e.block_number), e.window_end) AS valid_at
      FROM distributions d JOIN decisions e USING (decision_id)
     WHERE d.distribution_id = ANY($1)
"""
DUES = """
    SELECT distribution_id, batch_index, recipient, amount FROM payouts
     WHERE distribution_id = ANY($1) ORDER BY distribution_id, recipient
"""

GAS = """
    SELECT a.tx_id, s.account, COALESCE(a.fee_paid, 0) AS fee, a.l1_fee, a.operator_fee, a.deposits, a.succeeded,
           a.chain, a.block_number, a.block_hash, block_time(a.chain, a.block_number) AS valid_at
      FROM attempts a JOIN slots s USING (slot_id)
     WHERE a.chain = $1 AND a.tx_id = ANY($2)
"""

# What must be in the books through block $2, by what the bridge did, a page after $3.
BOOKABLE = {
    "decision": """
        SELECT decision_id FROM decisions e
         WHERE chain = $1 AND block_number <= $2 AND decision_id > $3
           AND NOT EXISTS (SELECT FROM unbooked u WHERE u.source = 'decision' AND u.ref = e.decision_id)
         ORDER BY 1 LIMIT $4
    """,
    "distribution": """
        SELECT distribution_id FROM distributions d JOIN decisions e USING (decision_id)
         WHERE d.chain = $1 AND e.block_number <= $2 AND distribution_id > $3
           AND NOT EXISTS (SELECT FROM unbooked u WHERE u.source = 'distribution' AND u.ref = d.distribution_id)
         ORDER BY 1 LIMIT $4
    """,
    "attempt": """
        SELECT tx_id FROM attempts a
         WHERE chain = $1 AND final AND block_number <= $2 AND tx_id > $3
           AND NOT EXISTS (SELECT FROM unbooked u WHERE u.source = 'attempt' AND u.ref = a.tx_id)
         ORDER BY 1 LIMIT $4
    """,
}

# Batches whose intent is booked and that no settlement or void has closed.
OPEN_BATCHES = """
    SELECT p.distribution_id, p.batch_index, p.recipient, p.amount, d.asset, d.leg
      FROM unnest($1::BYTEA[], $2::BIGINT[]) AS wanted (distribution_id, batch_index)
      JOIN payouts p USING (distribution_id, batch_index)
      JOIN distributions d USING (distribution_id)
      JOIN journal_keys intent ON (intent.source, intent.ref) = ('distribution', encode(p.distribution_id, 'hex'))
     WHERE NOT EXISTS (SELECT FROM journal_keys k WHERE k.source = 'batch'
                          AND k.ref = encode(p.distribution_id, 'hex') || ':' || p.batch_index)
     ORDER BY p.distribution_id, p.batch_index, p.recipient
"""


class Bookings:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def next_stop(self, chain: str, after: int, span: int) -> Block | None:
        """The last stored finalized block of the `span` after `after`, or the first beyond; None at the end."""
        row = await self._connection.fetchrow(NEXT_STOP, chain, after, span)
        return None if row is None else Block(**row)

    async def logs(self, chain: str, first: int, last: int, covered: Coverage, limit: int) -> list[Log]:
        """Finalized logs of blocks first…last that the books cover, in (block, index) order.

        Whole blocks, so there may be more than `limit`; fewer than `limit` means that there are no others.
        """
        return [
            to_log(row)
            for row in await self._connection.fetch(
                *(LOGS, chain, first, last, covered.contracts, covered.tokens, covered.transfer, covered.holders, limit)
            )
        ]

    async def unbooked(self, chain: str, through: int, limit: int) -> Unbooked:
        """At most `limit` facts of blocks up to `through`, those of the oldest blocks first."""
        rows = await self._connection.fetch(UNBOOKED, chain, through, limit)
        refs: defaultdict[str, list[bytes]] = defaultdict(list)
        for row in rows:
            refs[row["source"]].append(row["ref"])
        return Unbooked(
            entries=tuple(row["entry_id"] for row in rows),
            decisions=await self._decisions(refs["decision"]),
            intents=await self._intents(refs["distribution"]),
            gas=await self._gas(chain, refs["attempt"]),
            voids=tuple((row["ref"], row["batch_index"]) for row in rows if row["source"] == "void"),
        )

    async def bookable(self, chain: str, through: int, source: str, after: bytes, limit: int) -> list[bytes]:
        """Refs of what must be booked of `source` (decision, distribution, attempt), in order, after `after`."""
        return [row[0] for row in await self._connection.fetch(BOOKABLE[source], chain, through, after, limit)]

    async def facts(
        self, chain: str, source: str, refs: Sequence[bytes]
    ) -> Sequence[Decided] | Sequence[Intent] | Sequence[GasPaid]:
        """What journals of `source` are made from."""
        match source:
            case "decision":
                return await self._decisions(refs)
            case "distribution":
                return await self._intents(refs)
            case _:
                return await self._gas(chain, refs)

    async def unbooked_count(self, chain: str, through: int) -> int:
        count: int = await self._connection.fetchval(UNBOOKED_COUNT, chain, through)
        return count

    async def forget(self, entries: Sequence[int]) -> None:
        """They are booked, in this transaction."""
        await self._connection.execute(FORGET, entries)

    async def open_batches(self, batches: Sequence[tuple[bytes, int]]) -> list[IntendedBatch]:
        """Those of `batches` (distribution id, index) whose intent is booked and that nothing has closed."""
        ids, indexes = [batch[0] for batch in batches], [batch[1] for batch in batches]
        groups: defaultdict[tuple[bytes, int], list[asyncpg.Record]] = defaultdict(list)
        for row in await self._connection.fetch(OPEN_BATCHES, ids, indexes):
            groups[row["distribution_id"], row["batch_index"]].append(row)
        return [
            IntendedBatch(*key, rows[0]["asset"], tuple(map(_due, rows)), Leg(rows[0]["leg"]))
            for key, rows in groups.items()
        ]

    async def _decisions(self, ids: Sequence[bytes]) -> tuple[Decided, ...]:
        if not ids:
            return ()
        shares: defaultdict[bytes, list[Share]] = defaultdict(list)
        for row in await self._connection.fetch(ALLOCATIONS, ids):
            shares[row["decision_id"]].append(Share(row["recipient"], row["amount"], row["carried_in"]))
        return tuple(
            Decided(
                decision_id=row["decision_id"],
                rule=row["rule"],
                verdict=row["verdict"],
                asset=row["asset"],
                at=_stamp(row),
                valid_at=row["valid_at"],
                carried_in=row["carried_in"],
                carried_out=row["carried_out"],
                shares=tuple(shares[row["decision_id"]]),
            )
            for row in await self._connection.fetch(DECISIONS, ids)
        )

    async def _intents(self, ids: Sequence[bytes]) -> tuple[Intent, ...]:
        if not ids:
            return ()
        dues: defaultdict[bytes, list[Due]] = defaultdict(list)
        for row in await self._connection.fetch(DUES, ids):
            dues[row["distribution_id"]].append(_due(row))
        return tuple(
            Intent(
                distribution_id=row["distribution_id"],
                rule=row["rule"],
                asset=row["asset"],
                at=_stamp(row),
                valid_at=row["valid_at"],
                dues=tuple(dues[row["distribution_id"]]),
                leg=Leg(row["leg"]),
            )
            for row in await self._connection.fetch(INTENTS, ids)
        )

    async def _gas(self, chain: str, ids: Sequence[bytes]) -> tuple[GasPaid, ...]:
        return tuple(
            GasPaid(
                tx_id=row["tx_id"],
                operator=row["account"],
                fee=row["fee"],
                succeeded=row["succeeded"],
                at=_stamp(row),
                valid_at=row["valid_at"],
                l1_fee=row["l1_fee"],
                operator_fee=row["operator_fee"],
                deposits=row["deposits"],
            )
            for row in (await self._connection.fetch(GAS, chain, ids) if ids else ())
        )


def _due(row: asyncpg.Record) -> Due:
    return Due(row["batch_index"], Address(row["recipient"]), row["amount"])


def _stamp(row: asyncpg.Record) -> BlockStamp:
    return BlockStamp(row["chain"], row["block_number"], row["block_hash"])
