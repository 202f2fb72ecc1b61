"""What the daemon runs by: time, stages, leases, jobs, and what was given up on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.domain.breaks import Check
from bridge.domain.jobs import Schedule
from bridge.domain.units import BlockStamp


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> int:
        """Seconds since 1970, for people and reports; never decides what the chain can decide."""

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never goes back, for lags and time-outs."""

    async def sleep_ms(self, duration_ms: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for one (stage, chain). Every transaction that names it checks the epoch."""

    name: str
    epoch: int
    holder: str


class LeaseStore(Protocol):
    async def acquire(self, name: str, holder: str, duration_ms: int) -> Lease | None:
        """The lease with a new epoch, or None while another instance holds it."""

    async def renew(self, lease: Lease, duration_ms: int) -> bool:
        """False when another instance has taken it."""

    async def release(self, lease: Lease) -> None: ...


class JobStore(Protocol):
    """What is due by the clock, and how far what goes round has come."""

    async def due(self, schedule: Schedule, now: int) -> int:
        """When the job is due: of its first run that is not done. Notes the job at its first use."""

    async def started(self, schedule: Schedule, now: int) -> None: ...
    async def done(self, schedule: Schedule, due: int, now: int, result: str) -> int:
        """The run that was due at `due` is done; when the next one is due."""

    async def place(self, sweep: str, chain: str) -> str:
        """The last thing that the sweep looked at; '' before the first."""

    async def move(self, sweep: str, chain: str, place: str) -> None:
        """`place` is '' where a round has ended."""

    async def partitions_ahead(self, chain: str) -> int:
        """Make the partitions that will be needed next; how many were made. Raises RetryableError where they cannot be
        made now."""

    async def close_day(self, start: int, at: BlockStamp, first: int, checks: Sequence[Check]) -> None:
        """Note what was found in the blocks first … `at` of the day that began at `start`, in seconds."""


class DeadLetterStore(Protocol):
    async def record(self, stage: str, scope: str, error: str, retries: int) -> None: ...
    async def resolve(self, stage: str, scope: str) -> None: ...


class Stage(Protocol):
    """One arrow of the flow."""

    name: str

    async def step(self) -> bool:
        """Do the next piece of work and commit it. True when there may be more to do at once, False when idle."""
