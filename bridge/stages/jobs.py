"""clock ─► due? ─► work ─► done, and due again.

    reconcile    what is new, against the chain; goes on where the last run ended, so one covers all that were missed
    sweep        a slice of what is old: blocks read again, accounts asked again; has a place of its own, so as above
    seals        what was sealed since, and a slice of the whole chain of seals; as above
    partitions   for the blocks to come; as above
    days         each day of each chain, looked at again once it is over: each that was missed is a piece of work of its
                 own, so each has a run of its own, the oldest first

The table says what is due; the scheduler only wakes whoever looks there. The lease of the job's stage keeps two daemons
from running it at once. A run that dies in the middle leaves its job due: all work here can be done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.domain.jobs import Schedule
from bridge.ports.database import Database
from bridge.ports.running import Clock, Lease
from bridge.runtime.logs import get_logger

_log = get_logger("jobs")

NOT_YET_S = 30
"""Until it is tried again."""


@dataclass(frozen=True, slots=True)
class Job:
    """`work` is told when its run was due, in seconds, and says in words what came of it; None where it cannot be done
    yet: then it stays due, and is tried again a little later."""

    schedule: Schedule
    work: Callable[[int], Awaitable[str | None]]


class Periodic:
    """The stage of one job."""

    def __init__(
        self,
        *,
        job: Job,
        database: Database,
        clock: Clock,
        wake_at: Callable[[str, int], None],
        lease: Lease | None = None,
    ) -> None:
        """`wake_at` is told a name and the second at which it is worth while to look again."""
        self.name = job.schedule.name
        self._job = job
        self._database = database
        self._clock = clock
        self._wake_at = wake_at
        self._lease = lease
        self._due: int | None = None  # as last read: nobody else moves it while we hold the lease
        self._told: int | None = None  # what the timetable knows
        self._not_before = 0

    async def step(self) -> bool:
        """One run, where one is due; True where another one is due at once."""
        schedule, now = self._job.schedule, self._clock.now()
        if self._due is None:
            async with self._database.begin(self._lease) as tx:
                self._due = await tx.jobs.due(schedule, now)
        if now < max(self._due, self._not_before):
            if self._told != self._due:
                self._wake_at(self.name, self._due)
                self._told = self._due
            return False
        async with self._database.begin(self._lease) as tx:
            await tx.jobs.started(schedule, now)
        result = await self._job.work(self._due)
        ended = self._clock.now()
        if result is None:
            self._wake_at(self.name, ended + NOT_YET_S)
            self._not_before, self._told = ended + NOT_YET_S, self._due
            return False
        async with self._database.begin(self._lease) as tx:
            following = await tx.jobs.done(schedule, self._due, ended, result)
        missed = schedule.missed(self._due, ended)
        _log.info("job done", action="job.done", job=self.name, result=result, missed=missed, late_s=now - self._due)
        self._due = following
        return following <= ended
