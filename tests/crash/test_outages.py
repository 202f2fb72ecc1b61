"""What the daemon stands on goes away for a while, or the daemon itself does: late is allowed, wrong is not.

Each scene is a simulation with the real daemon in a process of its own, on a chain and a database of their own.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from bridge.simulation.daemon_process import DaemonProcess
from bridge.simulation.simulate import Simulation
from tests.crash.proxy import Fault, Proxy, Whim
from tests.crash.scenes import DAEMON, EPOCH_S, PATIENCE_S, Result, check_outcome, settle, staged, started, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CLEAN_STOP_S = 5


async def until_busy(scene: Simulation) -> None:
    """Until shortly before the first window closes: all stages are about to work at once."""

    async def reached() -> bool:
        miner = scene.sandbox.miner
        return miner.timestamp(miner.head) >= scene.windows_start + EPOCH_S - 4

    await until(reached, "busy")


async def test_rpc__refuses_hangs_and_loses_answers_for_a_while__nothing_is_lost_or_paid_twice(tmp_path: Path):
    proxy = Proxy("")

    def through_proxy(url: str) -> list[str]:
        proxy.node = url
        return [proxy.url]

    async def trouble(scene: Simulation) -> None:
        await started(scene)
        await until_busy(scene)
        async with asyncio.timeout(PATIENCE_S):
            await proxy.suffer(Fault.REFUSE, times=4)
            await proxy.suffer(Fault.HANG, at_least_s=1.5)
            await proxy.suffer(Fault.CUT, times=4)
            await proxy.suffer(Fault.LOSE_SENT, times=2)

    async with proxy.running(), staged(tmp_path, kind=Simulation, rpc=through_proxy) as scene:
        async with scene.daemon_running(), asyncio.TaskGroup() as group:
            group.create_task(trouble(scene))
            await scene.traffic()
            await settle(scene)
        await check_outcome(scene)


async def test_rpc__unreliable_by_chance_all_the_time__same_payouts_and_books_as_undisturbed(
    tmp_path: Path, undisturbed: Result
):
    seed = int(os.environ.get("BRIDGE_SEED", random.randrange(2**32)))
    print(f"BRIDGE_SEED={seed}")
    proxy = Proxy("")

    def through_proxy(url: str) -> list[str]:
        proxy.node = url
        return [proxy.url]

    async def trouble() -> None:
        await started(scene)
        proxy.chance = random.Random(seed)

    async with proxy.running(), staged(tmp_path, kind=Simulation, rpc=through_proxy) as scene:
        async with scene.daemon_running(), asyncio.TaskGroup() as group:
            group.create_task(trouble())
            await scene.traffic()
            await settle(scene)
        proxy.chance = None
        print(f"whims: {dict(proxy.whims)}")
        assert set(proxy.whims) == set(Whim)
        assert await check_outcome(scene) == undisturbed


async def test_database__connections_cut_again_and_again__nothing_is_lost_or_paid_twice(tmp_path: Path):
    async def cut() -> int:
        connection = await asyncpg.connect(scene.sandbox.database_url)
        try:
            return int(
                await connection.fetchval(
                    """
                    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
                      FROM pg_stat_activity WHERE application_name = $1
                    """,
                    DAEMON,
                )
            )
        finally:
            await connection.close()

    async def trouble() -> None:
        await until_busy(scene)
        for _ in range(6):
            await until(cut, "connected again")
            await asyncio.sleep(0.7)  # time enough to get to work again, so that work is what the next one cuts

    async with staged(tmp_path, kind=Simulation) as scene:
        async with scene.daemon_running(), asyncio.TaskGroup() as group:
            group.create_task(trouble())
            await scene.traffic()
            await settle(scene)
        await check_outcome(scene)


async def test_daemons__two_at_once_asleep_and_stopped__one_works_at_a_time_and_pays_once(tmp_path: Path):
    async def holders() -> set[str]:
        async with scene.database.snapshot() as transaction:
            leases = (await transaction.status.read()).leases
        return {lease.holder.split(":")[1] for lease in leases if lease.live}

    def held_by(daemon: DaemonProcess) -> Callable[[], Awaitable[bool]]:
        async def answer() -> bool:
            return await holders() == {str(daemon.pid)}

        return answer

    async def paying() -> bool:
        async with scene.database.snapshot() as transaction:
            return bool((await transaction.status.read()).payouts.get("in_flight"))

    async def trouble(first: DaemonProcess, second: DaemonProcess) -> None:
        await until(paying, "paying")
        assert await held_by(first)()
        first.send(signal.SIGSTOP)
        lease_s = scene.config.lease_duration_ms / 1000
        await until(held_by(second), "taken over", within_s=2 * lease_s + 1)
        first.send(signal.SIGCONT)  # it wakes with work half done, and a lease that is not its own any more
        first.check()
        started = time.monotonic()
        assert await second.stop() == 0
        assert time.monotonic() - started < CLEAN_STOP_S
        await until(held_by(first), "taken back", within_s=lease_s)

    async with staged(tmp_path, kind=Simulation) as scene:
        daemons: list[DaemonProcess] = []
        try:
            for name in ("first", "second"):
                daemons.append(await DaemonProcess.start(scene.sandbox.config_path, tmp_path / f"{name}.log"))
                await until(holders, "at work")
            async with asyncio.TaskGroup() as group:
                group.create_task(trouble(*daemons))
                await scene.traffic()
                await settle(scene)
            assert await daemons[0].stop() == 0
        finally:
            for daemon in daemons:
                await daemon.kill()
        await check_outcome(scene)
