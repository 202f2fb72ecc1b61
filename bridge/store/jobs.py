"""Tables jobs, sweeps, days: what is due, and how far what goes round has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from bridge.domain.breaks import Check, Outcome
from bridge.domain.errors import DatabaseUnavailable
from bridge.domain.jobs import JobState, Schedule
from bridge.domain.units import BlockStamp

if TYPE_CHECKING:
    from bridge.store.connection import Connection

# A shorter interval counts from now on, not only after the next run.
REGISTER = """
    INSERT INTO jobs AS known (job, interval_s, due_at) VALUES ($1, $2, to_timestamp($3::BIGINT))
    ON CONFLICT (job) DO UPDATE
       SET interval_s = excluded.interval_s,
           due_at = least(known.due_at, to_timestamp($4::BIGINT + excluded.interval_s))
     WHERE known.interval_s <> excluded.interval_s
"""
DUE = "SELECT extract(epoch FROM due_at)::BIGINT FROM jobs WHERE job = $1"
STARTED = "UPDATE jobs SET started_at = to_timestamp($2::BIGINT) WHERE job = $1"
DONE = """
    UPDATE jobs SET due_at = to_timestamp($3::BIGINT), finished_at = to_timestamp($4::BIGINT), result = $5,
                    runs = runs + 1, missed = missed + $6
     WHERE job = $1 AND due_at = to_timestamp($2::BIGINT)
"""
ALL = """
    SELECT job AS name, interval_s, extract(epoch FROM due_at)::BIGINT AS due_at,
           extract(epoch FROM started_at)::BIGINT AS started_at, extract(epoch FROM finished_at)::BIGINT AS finished_at,
           result, runs, missed
      FROM jobs ORDER BY job
"""

PLACE = "SELECT place FROM sweeps WHERE sweep = $1 AND chain = $2"
MOVE = """
    INSERT INTO sweeps AS known (sweep, chain, place) VALUES ($1, $2, $3)
    ON CONFLICT (sweep, chain) DO UPDATE
       SET place = excluded.place, moved_at = now(), rounds = known.rounds + $4::INTEGER
"""

CLOSE = """
    INSERT INTO days (chain, day, first_block, last_block, last_hash, agreed, broken, skipped, found)
    VALUES ($1, (to_timestamp($2::BIGINT) AT TIME ZONE 'UTC')::DATE, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (chain, day) DO NOTHING
"""

# Blocks that a whole partition has, as ensure_partitions() makes them; one is always there that nobody needs yet.
PARTITION_BLOCKS = 1_000_000
AHEAD = """
    SELECT ensure_partitions(c.chain, COALESCE(h.head_number, c.start_block) + $2)
      FROM chains c LEFT JOIN heads h USING (chain) WHERE c.chain = $1
"""


class Jobs:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def due(self, schedule: Schedule, now: int) -> int:
        """When the job is due: of its first run that is not done. Notes the job at its first use."""
        await self._connection.execute(REGISTER, schedule.name, schedule.interval_s, schedule.first_due(now), now)
        due: int = await self._connection.fetchval(DUE, schedule.name)
        return due

    async def started(self, schedule: Schedule, now: int) -> None:
        await self._connection.execute(STARTED, schedule.name, now)

    async def done(self, schedule: Schedule, due: int, now: int, result: str) -> int:
        """The run that was due at `due` is done; when the next one is due."""
        following = schedule.next_due(due, now)
        missed = schedule.missed(due, now)
        await self._connection.execute(DONE, schedule.name, due, following, now, result, missed)
        return following

    async def all(self) -> list[JobState]:
        """By name."""
        return [JobState(**row) for row in await self._connection.fetch(ALL)]

    async def place(self, sweep: str, chain: str) -> str:
        """The last thing that the sweep looked at; '' before the first."""
        return await self._connection.fetchval(PLACE, sweep, chain) or ""

    async def move(self, sweep: str, chain: str, place: str) -> None:
        """`place` is '' where a round has ended."""
        await self._connection.execute(MOVE, sweep, chain, place, int(not place))

    async def partitions_ahead(self, chain: str) -> int:
        """Make the partitions that will be needed next; how many were made.

        Raises DatabaseUnavailable where somebody reads or writes the tables for too long: a lock that is waited for
        would make everybody else wait behind it.
        """
        await self._connection.execute("SET LOCAL lock_timeout = '3s'")
        try:
            made: int = await self._connection.fetchval(AHEAD, chain, PARTITION_BLOCKS)
        except asyncpg.LockNotAvailableError as error:
            raise DatabaseUnavailable(f"partitions of {chain} cannot be made now: {error}") from error
        return made

    async def close_day(self, start: int, at: BlockStamp, first: int, checks: Sequence[Check]) -> None:
        """Note what was found in the blocks first … `at` of the day that began at `start`, in seconds. A run that died
        before it was noted as done comes again: the day is closed once."""
        counts = Counter(check.outcome for check in checks)
        found = "; ".join(f"{check.level} of {check.subject}: {check.cause}" for check in checks if check.cause)
        await self._connection.execute(
            *(CLOSE, at.chain, start, first, at.number, at.hash),
            *(counts[Outcome.AGREED], counts[Outcome.BROKEN], counts[Outcome.SKIPPED], found),
        )
