"""The main job from end to end on a local Solana chain alone; see simulate.py for the other one, and for both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from bridge.runtime.config import load_config
from bridge.simulation.cluster import Cluster
from bridge.simulation.cluster_run import ClusterRun
from bridge.simulation.daemon_process import DaemonProcess
from bridge.simulation.directory import claimed
from bridge.simulation.outcome import Outcome
from bridge.simulation.postgres import Postgres
from bridge.simulation.run import Run
from bridge.simulation.simulate import (
    FORMATS,
    Order,
    Progress,
    Watch,
    classify_gifts,
    doubts,
    reconcile,
    refuse_foreign_endpoints,
    until_nothing,
    verify,
)
from bridge.simulation.svm.files import write_alone
from bridge.stages.report import report, write
from bridge.stages.report_files.program import file_sha256
from bridge.store.database import Database
from bridge.store.migrations import migrate


async def simulate_alone(order: Order, watch: Watch, finished: Callable[[Outcome], Awaitable[None]]) -> Outcome:
    """As simulate.simulate."""
    started = time.monotonic()
    watch(Progress("starting chain and database", 0, 0, order.epochs, 0, None))
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(order.directory))
        postgres = await Postgres.start(order.directory / "postgres.log")
        stack.push_async_callback(postgres.stop)
        cluster = await stack.enter_async_context(
            Cluster.start(order.seed, epoch_s=order.epoch_s, epochs=order.epochs, genesis_time=order.genesis)
        )
        path = order.directory / "bridge.toml"
        write_alone(path, cluster.site, postgres.url)
        config = load_config(path)
        refuse_foreign_endpoints(config, frozenset({postgres.url, cluster.node.rpc_url}))
        database = await Database.open(config.database.resolve())
        stack.push_async_callback(database.close)
        await migrate(database)
        run = ClusterRun(cluster, database, order.reorgs)
        await run.skip_to_windows()
        daemon = await DaemonProcess.start(path, order.directory / "daemon.log")
        stack.push_async_callback(daemon.kill)

        async def tell(phase: str) -> None:
            daemon.check()
            async with database.snapshot() as transaction:
                status = await transaction.status.read()
            done = max(0, min(order.epochs, (cluster.now - cluster.windows_start) // order.epoch_s))
            watch(Progress(phase, cluster.chain.head.slot, done, order.epochs, cluster.forks, status))

        async def live() -> None:
            await run.live()
            await tell("settling" if cluster.over else "traffic")
            await asyncio.sleep(order.block_time_s)

        async def wait() -> None:
            await asyncio.sleep(order.block_time_s)
            await tell("booking")

        while not cluster.over:
            await live()
        await until_nothing(run.missing, live)
        await until_nothing(run.unbooked, wait)
        await daemon.stop()
        reconciliation = await reconcile(config)
        if await classify_gifts(database, run.gifts, reconciliation):
            reconciliation = await reconcile(config)
        content = await report(database, config_sha256=file_sha256(path))
        await write(content, order.report_directory, FORMATS)
        verification = await verify(config, order.report_directory)
        async with database.snapshot() as transaction:
            found = await Run.read(transaction)
        wall_time_ms = int((time.monotonic() - started) * 1000)
        reasons = [*doubts(found, reconciliation, verification, run.waiting(found.distributions)), *run.reasons(found)]
        outcome = Outcome(
            seed=order.seed,
            epochs=order.epochs,
            reasons=tuple(dict.fromkeys(reasons)),
            sandbox={"scene": "solana", "database_url": postgres.url, "solana": cluster.facts()},
            directory=order.directory,
            report_directory=order.report_directory,
            run=found,
            happened=tuple(run.happened(found)),
            verification=verification,
            figures={**found.figures(), "reorgs": cluster.forks, "kills": 0, "wall_time_ms": wall_time_ms},
        )
        await finished(outcome)
        return outcome
