"""What is done by the clock: when a run is due, and what becomes of runs that were missed.

    due ──► run ──► done: due again at the next point of the grid

A job that one run brings up to date is due once, however many runs were missed; one whose runs are each a piece of work
of their own (a day that is closed) is due once for each of them, the oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass

GRACE_MIN_S, GRACE_MAX_S = 60, 3_600


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often a job runs. Seconds."""

    name: str
    interval_s: int
    each_period: bool = False

    def __post_init__(self) -> None:
        assert self.interval_s > 0

    def first_due(self, now: int) -> int:
        """At once; where each run is about a period, when the one that has begun ends."""
        return -(-now // self.interval_s) * self.interval_s if self.each_period else now

    def next_due(self, due: int, now: int) -> int:
        """After the run that was due at `due` ended at `now`.

        due           now
        ●─────●─────●──│──○─────     one run for all that was missed: ○
        ●─────○─────●──│──●─────     each is made: ○, which is past and so due at once
        """
        if self.each_period:
            return due + self.interval_s
        return due + (self.missed(due, now) + 1) * self.interval_s

    def missed(self, due: int, now: int) -> int:
        """Runs that one made at `now` makes good beside its own."""
        return 0 if self.each_period else max(now - due, 0) // self.interval_s


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as its row says. Times in seconds since 1970."""

    name: str
    interval_s: int
    due_at: int
    started_at: int | None
    finished_at: int | None
    result: str | None
    runs: int
    missed: int

    def late(self, now: int) -> bool:
        """A whole run was missed, or it has been due for an hour: nobody runs it, or it fails, or takes too long."""
        return now - self.due_at > min(max(self.interval_s, GRACE_MIN_S), GRACE_MAX_S)
