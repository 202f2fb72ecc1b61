"""Keeps one stage running: its lease, its waiting, its retries, and what happens when it cannot go on.

acquire lease ─► build stage ─► step ─► step ─► … idle: wait for a notice, or the poll interval
     ▲                           │
     │                           ├─ RetryableError  back off (exponential, jittered, bounded); from the eighth failure
     │                           │                  in a row it is also a dead letter, until the stage works again
     ├───────────────────────────┼─ LeaseLost       another instance took over: wait for our turn
     │                           ├─ HoldError       a dead letter; the whole chain rests until a person restarts us
     │                           └─ anything else   the daemon stops; nothing is guessed
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from bridge.domain.errors import HoldError, LeaseLost, RetryableError
from bridge.ports.database import Database
from bridge.ports.running import Clock, Lease, LeaseStore, Stage
from bridge.runtime.logs import get_logger

BACKOFF_FIRST_MS = 100
BACKOFF_MAX_MS = 15_000
RETRIES_BEFORE_DEAD_LETTER = 8

_log = get_logger("supervisor")


def backoff_ms(failures: int, chance: float) -> int:
    """Delay after the `failures`-th failure in a row (≥ 1); `chance` in [0, 1) spreads instances that failed together.

    Full jitter over the upper half: between 50 % and 100 % of min(max, first × 2^(failures−1)).
    """
    ceiling = min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS << min(failures - 1, 20))
    return ceiling // 2 + int(chance * (ceiling - ceiling // 2))


class Wake:
    """Tells every waiting stage that something was committed. A wake that comes while a stage works is not lost."""

    def __init__(self) -> None:
        self._events: list[asyncio.Event] = []

    @property
    def waiting(self) -> int:
        return len(self._events)

    @contextlib.contextmanager
    def subscribed(self) -> Iterator[asyncio.Event]:
        """An event that each wake sets, while the block runs."""
        event = asyncio.Event()
        self._events.append(event)
        try:
            yield event
        finally:
            self._events.remove(event)

    def __call__(self) -> None:
        for event in self._events:
            event.set()


@dataclass(slots=True)
class ChainHold:
    """Set once when a stage of the chain met a HoldError; then no stage of the chain starts another step."""

    reason: str | None = None
    _event: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, reason: str) -> None:
        self.reason = reason
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


class Supervisor:
    """Runs stages of one chain until cancelled."""

    def __init__(
        self,
        *,
        chain: str,
        database: Database,
        leases: LeaseStore,
        clock: Clock,
        wake: Wake,
        holder: str,
        lease_duration_ms: int,
        poll_interval_ms: int,
    ) -> None:
        self._chain = chain
        self._database = database
        self._leases = leases
        self._clock = clock
        self._wake = wake
        self._holder = holder
        self._lease_duration_ms = lease_duration_ms
        self._poll_interval_ms = poll_interval_ms
        self._hold = ChainHold()

    async def run(self, name: str, build: Callable[[Lease], Stage]) -> None:
        """Keep the stage `name` running for ever. Whatever is not named in the module's picture is raised."""
        while True:
            try:
                async with self._held_lease(name) as lease:
                    with self._wake.subscribed() as woken:
                        await self._steps(name, build(lease), woken)
            except LeaseLost as lost:
                _log.warning(
                    "lease lost, another instance took over", action="lease.lost", stage=name, detail=str(lost)
                )
            except HoldError as error:
                await self._rest(name, error)

    async def _steps(self, name: str, stage: Stage, woken: asyncio.Event) -> None:
        failures = 0
        while True:
            if self._hold.reason is not None:
                raise HoldError(self._hold.reason)
            woken.clear()
            try:
                busy = await stage.step()
            except RetryableError as error:
                failures += 1
                await self._failed(name, error, failures)
                continue
            if failures:
                await self._recovered(name, failures)
                failures = 0
            if not busy:
                # Not wait_for: in Python 3.11 it forgets that we were cancelled when the notice comes at that moment.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_interval_ms / 1000):
                        await woken.wait()

    async def _failed(self, name: str, error: RetryableError, failures: int) -> None:
        delay_ms = backoff_ms(failures, random.random())  # noqa: S311  # spreads load, guards nothing
        record = _log.warning if failures < RETRIES_BEFORE_DEAD_LETTER else _log.error
        record(
            "stage failed, will try again",
            action="stage.retry",
            stage=name,
            chain=self._chain,
            error=str(error),
            failures=failures,
            delay_ms=delay_ms,
        )
        if failures >= RETRIES_BEFORE_DEAD_LETTER:
            await self._dead_letter(name, str(error), failures)
        await self._clock.sleep_ms(delay_ms)

    async def _recovered(self, name: str, failures: int) -> None:
        _log.info("stage works again", action="stage.recovered", stage=name, chain=self._chain, failures=failures)
        with contextlib.suppress(RetryableError):  # the next recovery, or a restart, closes it
            async with self._database.begin() as transaction:
                await transaction.dead_letters.resolve(name, self._chain)

    async def _rest(self, name: str, error: HoldError) -> None:
        if self._hold.reason is None:
            self._hold.hold(str(error))
            _log.error(
                "chain held, a person must decide", action="chain.held", stage=name, chain=self._chain, error=str(error)
            )
            await self._dead_letter(name, f"held: {error}", 0)
        await asyncio.Event().wait()  # until cancelled: a restart is the person's word to try again

    async def _dead_letter(self, name: str, error: str, retries: int) -> None:
        with contextlib.suppress(RetryableError):  # the database itself may be what fails; the log line stands
            async with self._database.begin() as transaction:
                await transaction.dead_letters.record(name, self._chain, error, retries)

    @contextlib.asynccontextmanager
    async def _held_lease(self, name: str) -> AsyncIterator[Lease]:
        """Wait for the lease, keep it while the block runs, hand it back after; LeaseLost when it is taken away."""
        lease = await self._acquire(f"{name}:{self._chain}")
        task = asyncio.current_task()
        assert task is not None
        lost = False

        async def keep() -> None:
            nonlocal lost
            while True:
                await asyncio.sleep(self._lease_duration_ms / 3000)
                with contextlib.suppress(RetryableError):  # the fence in every transaction is what protects, not this
                    if not await self._leases.renew(lease, self._lease_duration_ms):
                        lost = True
                        task.cancel()
                        return

        keeper = asyncio.create_task(keep())
        try:
            yield lease
        except asyncio.CancelledError:
            if lost and task.uncancel() == 0:
                raise LeaseLost(lease.name) from None
            raise
        finally:
            keeper.cancel()
            with contextlib.suppress(RetryableError):
                await asyncio.shield(self._leases.release(lease))

    async def _acquire(self, name: str) -> Lease:
        said = False
        while True:
            try:
                lease = await self._leases.acquire(name, self._holder, self._lease_duration_ms)
            except RetryableError as error:
                _log.warning("lease cannot be asked for", action="lease.retry", lease=name, error=str(error))
                lease = None
            if lease is not None:
                _log.info("lease acquired", action="lease.acquired", lease=name, epoch=lease.epoch)
                return lease
            if not said:
                _log.info("another instance holds the lease, standing by", action="lease.standby", lease=name)
                said = True
            await self._clock.sleep_ms(min(1000, self._lease_duration_ms // 3))
