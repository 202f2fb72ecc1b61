"""confirmations ─► subscribers: called back on each committed transition, at least once, in order for each payout.

The place of each subscriber moves only after its callback returned. One that fails is tried again after a growing
delay, is listed as a dead letter until it works, and holds up nobody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from bridge.domain.confirmations import Confirmation
from bridge.ports.database import Database
from bridge.ports.running import Clock, Lease
from bridge.runtime.crashpoints import CrashPoint, reach

Subscriber = Callable[[Confirmation], Awaitable[None]]

PAGE = 50
BACKOFF_FIRST_MS = 500
BACKOFF_MAX_MS = 60_000


class Notify:
    """Tells every subscriber, by name. A new name is told everything from the beginning."""

    name = "notify"

    def __init__(
        self, *, database: Database, subscribers: Mapping[str, Subscriber], clock: Clock, lease: Lease | None = None
    ) -> None:
        self._database = database
        self._subscribers = subscribers
        self._clock = clock
        self._lease = lease
        self._failures: dict[str, int] = {}  # in a row; absent when the last call succeeded
        self._retry_at_ms: dict[str, int] = {}

    async def step(self) -> bool:
        more = False
        for name, subscriber in self._subscribers.items():
            if self._retry_at_ms.get(name, 0) <= self._clock.monotonic_ms():
                more |= await self._tell(name, subscriber)
        return more

    async def _tell(self, name: str, subscriber: Subscriber) -> bool:
        """One page for one subscriber. Returns whether there may be more at once."""
        async with self._database.snapshot() as transaction:
            untold = await transaction.confirmations.untold(name, PAGE)
        told: list[Confirmation] = []
        error: str | None = None
        for confirmation in untold:
            try:
                await subscriber(confirmation)
            except Exception as failure:  # noqa: BLE001  # foreign code: whatever it raises, the others must be told
                error = f"{type(failure).__name__}: {failure}"
                break
            told.append(confirmation)
        if told:
            reach(CrashPoint.SUBSCRIBER_TOLD_NOT_RECORDED)
        await self._record(name, told, error)
        return bool(told) and error is None

    async def _record(self, name: str, told: list[Confirmation], error: str | None) -> None:
        recovered = error is None and bool(told) and self._failures.pop(name, 0) > 0
        if error is not None:
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            delay_ms = min(BACKOFF_FIRST_MS * 2 ** min(failures - 1, 20), BACKOFF_MAX_MS)
            self._retry_at_ms[name] = self._clock.monotonic_ms() + delay_ms
        if not told and error is None:
            return
        async with self._database.begin(self._lease) as transaction:
            if told:
                await transaction.confirmations.told(name, told)
            if error is not None:
                await transaction.dead_letters.record(self.name, name, error, 1)
            elif recovered:
                await transaction.dead_letters.resolve(self.name, name)
