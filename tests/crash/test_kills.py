"""A daemon process is killed at every crash point, one after the other: it ends as if nobody had."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.runtime.crashpoints import VARIABLE, CrashPoint
from bridge.simulation.daemon_process import DaemonProcess
from bridge.simulation.simulate import Simulation
from tests.crash.scenes import Result, check_outcome, settle, staged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DEATH_WITHIN_S = 60
DEAR_MAX = 90 * 10**9
"""Wei per gas; less than what the traffic offers, which must be mined."""


class Market(Simulation):
    """A scene in which gas can become too dear for whatever was sent, and in which daemons die in turn."""

    dear = False

    async def die_at(self, points: Sequence[CrashPoint]) -> None:
        """A daemon for each point, killed there by itself."""
        for point in points:
            self.dear = point is CrashPoint.BUMP_SAVED_NOT_SENT
            log = self.order.directory / f"{point.name}.log"
            daemon = await DaemonProcess.start(self.sandbox.config_path, log, {VARIABLE: point.name})
            try:
                code = await asyncio.wait_for(daemon.wait(), DEATH_WITHIN_S)
            except TimeoutError:
                pytest.fail(f"no daemon came to {point.name} within {DEATH_WITHIN_S} s")
            finally:
                await daemon.kill()
            assert code == -signal.SIGKILL, f"the daemon was to die at {point.name}: {log.read_text()[-2000:]}"
        self.dear = False

    async def live_until(self, done: asyncio.Task[None]) -> None:
        while not done.done():
            await self._live("dying")

    async def _live(self, phase: str) -> None:
        if self.dear:
            await self._outbid()
        await super()._live(phase)

    async def _outbid(self) -> None:
        """The next block costs more than all that is signed and still waits offers: without a bump it is not mined."""
        async with self.database.snapshot() as transaction:
            flights = [flight for chain in self.config.chains for flight in await transaction.payouts.in_flight(chain)]
        offers = [attempt.signed.max_fee for flight in flights for attempt in flight.attempts]
        if offers:
            base_fee = min(max(offers) + 1, DEAR_MAX)
            await self.sandbox.anvil.call("anvil_setNextBlockBaseFeePerGas", hex(base_fee))


async def test_kill__at_every_crash_point_in_turn__same_payouts_and_books_as_undisturbed(
    tmp_path: Path, undisturbed: Result
):
    # Each must be reached with a daemon that began where the one before it died; so a new one is part of it by itself.
    async with staged(tmp_path, kind=Market, lease_ms=1000) as scene:
        async with asyncio.TaskGroup() as group:
            dying = group.create_task(scene.die_at(list(CrashPoint)))
            await scene.traffic()
            await scene.live_until(dying)
        async with scene.daemon_running():
            await settle(scene)
        assert await check_outcome(scene) == undisturbed
