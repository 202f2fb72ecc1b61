"""What the daemon stands on goes away for a while, or the daemon itself does: late is allowed, wrong is not.

Each scene is a simulation with the real daemon in a process of its own, on a chain and a database of their own.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bridge.daemon import open_services
from bridge.domain.units import format_address
from bridge.runtime.config import load_config
from bridge.simulation.daemon_process import DaemonProcess
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.simulate import Order, Scene, judge, reconcile
from bridge.store.database import Database
from bridge.store.migrations import migrate
from tests.crash.proxy import Fault, Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

GENESIS = 1_800_000_000  # a multiple of EPOCH_S
EPOCH_S = 40
PATIENCE_S = 60
CLEAN_STOP_S = 5
DAEMON = "outage_daemon"  # what the daemon's connections call themselves


@asynccontextmanager
async def staged(directory: Path, *, rpc: Callable[[str], str] = str) -> AsyncIterator[Scene]:
    """A simulation that is about to begin; the daemon is to reach the node at `rpc(its url)`."""
    order = Order(
        *(directory / "sandbox", directory / "report"),
        seed=11,
        epochs=2,
        reorgs=0,
        block_time_s=0.15,
        epoch_s=EPOCH_S,
        genesis_timestamp=GENESIS,
    )
    settings = Settings(
        seed=order.seed, block_time_s=None, epoch_s=order.epoch_s, genesis_timestamp=order.genesis_timestamp
    )
    async with Sandbox.start(order.directory, settings) as sandbox:
        text = sandbox.config_path.read_text().replace(sandbox.rpc_url, rpc(sandbox.rpc_url))
        text = text.replace(sandbox.database_url, f"{sandbox.database_url}&application_name={DAEMON}")
        sandbox.config_path.write_text(text)
        database = await Database.open(sandbox.database_url)
        try:
            await migrate(database)
            yield Scene(order, sandbox, load_config(sandbox.config_path), database, lambda progress: None)
        finally:
            await database.close()


async def until(done: Callable[[], Awaitable[object]], what: str, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not await done():
        assert time.monotonic() < deadline, f"not {what} within {within_s} s"
        await asyncio.sleep(0.02)


async def until_busy(scene: Scene) -> None:
    """Until shortly before the first window closes: all stages are about to work at once."""

    async def reached() -> bool:
        miner = scene.sandbox.miner
        return miner.timestamp(miner.head) >= scene.windows_start + EPOCH_S - 4

    await until(reached, "busy")


async def check_outcome(scene: Scene) -> None:
    """Every payout once, every unit explained, every finalized log there."""
    outcome = await judge(scene, await reconcile(scene.config), 0)
    assert outcome.reasons == ()
    assert outcome.figures["payouts"] > 0
    assert await stored_logs(scene) == await logs_of_the_chain(scene)


async def stored_logs(scene: Scene) -> list[tuple[int, int, str]]:
    connection = await asyncpg.connect(scene.sandbox.database_url)
    try:
        rows = await connection.fetch(
            """
            SELECT l.block_number, l.log_index, '0x' || encode(l.tx_hash, 'hex') AS tx_hash
              FROM logs l JOIN blocks b ON b.chain = l.chain AND b.number = l.block_number AND b.hash = l.block_hash
             WHERE b.status = 'finalized' ORDER BY 1, 2
            """
        )
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


async def logs_of_the_chain(scene: Scene) -> list[tuple[int, int, str]]:
    """All that the daemon watches, from its first block to the finalized one, as the node itself tells it."""
    async with open_services(scene.config, sending=False) as services:
        filters = services.chains[0].filters
    found: set[tuple[int, int, str]] = set()
    for each in filters:
        criteria: dict[str, Any] = {"fromBlock": hex(scene.sandbox.start_block), "toBlock": "finalized"}
        criteria["topics"] = [
            None if group is None else ["0x" + topic.hex() for topic in group] for group in each.topics
        ]
        if each.addresses:
            criteria["address"] = [format_address(address) for address in each.addresses]
        for log in await scene.sandbox.anvil.call("eth_getLogs", criteria):
            found.add((int(log["blockNumber"], 16), int(log["logIndex"], 16), log["transactionHash"]))
    return sorted(found)


async def test_rpc__refuses_hangs_and_loses_answers_for_a_while__nothing_is_lost_or_paid_twice(tmp_path: Path):
    proxy = Proxy("")

    def through_proxy(url: str) -> str:
        proxy.node = url
        return proxy.url

    async def trouble(scene: Scene) -> None:
        await until_busy(scene)
        async with asyncio.timeout(PATIENCE_S):
            await proxy.suffer(Fault.REFUSE, times=4)
            await proxy.suffer(Fault.HANG, at_least_s=1.5)
            await proxy.suffer(Fault.CUT, times=4)
            await proxy.suffer(Fault.LOSE_SENT, times=2)

    async with proxy.running(), staged(tmp_path, rpc=through_proxy) as scene:
        async with scene.daemon_running(), asyncio.TaskGroup() as group:
            group.create_task(trouble(scene))
            await scene.traffic()
            await scene.settle()
        await check_outcome(scene)


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

    async with staged(tmp_path) as scene:
        async with scene.daemon_running(), asyncio.TaskGroup() as group:
            group.create_task(trouble())
            await scene.traffic()
            await scene.settle()
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

    async with staged(tmp_path) as scene:
        daemons: list[DaemonProcess] = []
        try:
            for name in ("first", "second"):
                daemons.append(await DaemonProcess.start(scene.sandbox.config_path, tmp_path / f"{name}.log"))
                await until(holders, "at work")
            async with asyncio.TaskGroup() as group:
                group.create_task(trouble(*daemons))
                await scene.traffic()
                await scene.settle()
            assert await daemons[0].stop() == 0
        finally:
            for daemon in daemons:
                await daemon.kill()
        await check_outcome(scene)
