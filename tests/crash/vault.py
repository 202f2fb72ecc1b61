"""A Solana vault with the real daemon in a process of its own, on a local chain whose slots the test lets pass.

Chain, people and truth are those of the seeded simulation (tests/chaos/cluster.py); between them and the daemon there
is a real node's HTTP now.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.chains.solana.signer import make_keystore
from bridge.daemon import open_services, reconciler
from bridge.domain.units import base58
from bridge.runtime.config import load_config
from bridge.simulation.daemon_process import DaemonProcess
from bridge.simulation.postgres import Postgres
from bridge.simulation.svm.node import Node
from bridge.store.database import Database
from bridge.store.migrations import migrate
from tests.chains.svm_scene import key_of
from tests.chaos.cluster import CHAIN, DECIMALS, MINT, POOL, VAULT, Cluster
from tests.chaos.daemon import RULE, WINDOW_S
from tests.chaos.verdict import judge
from tests.chaos.waiting import WAITING

PEOPLE = 5
SLOT_S = 0.04
"""Of real time; of the chain's own it is SLOT_MS."""
FEE_EVERY_SLOTS = 90
"""Once in three windows: a machine that is busy must keep up with what they make to pay."""
PATIENCE_S = 90


class Vault:
    """What the test has in its hands."""

    def __init__(self, cluster: Cluster, node: Node, config: Path, database: Database, chance: random.Random) -> None:
        self.cluster = cluster
        self.node = node
        self.config = config
        self.database = database
        self._chance = chance

    @asynccontextmanager
    async def living(self, *, busy: bool = True) -> AsyncIterator[None]:
        """Slots pass; with `busy` people put in and pay fees."""
        task = asyncio.create_task(self._live(busy=busy))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def _live(self, *, busy: bool) -> None:
        for slot in range(10**9):
            self.cluster.keep_house()
            if busy and slot % FEE_EVERY_SLOTS == 0:
                self.cluster.pay_fee(self._chance.randint(1, 10**9))
                self.cluster.deposit(self._chance.choice(self.cluster.people), self._chance.randint(1, 10**9))
            self.cluster.advance(1)
            await asyncio.sleep(SLOT_S)

    async def start(self, log: str, environment: dict[str, str] | None = None) -> DaemonProcess:
        return await DaemonProcess.start(self.config, self.config.parent / f"{log}.log", environment)

    async def settle(self) -> None:
        """Until everything that was paid in by now is decided, paid and booked."""
        closed = (self.cluster.chain.head.time // WINDOW_S + 1) * WINDOW_S

        async def settled() -> bool:
            async with self.database.snapshot() as transaction:
                row = await transaction.connection.fetchrow(WAITING, 10**9, closed)
                assert row is not None
                self.waits = {name: count for name, count in row.items() if count > 0}
            return not self.waits

        await self.until(settled, lambda: f"settled: {self.waits}")

    async def until(self, done: Callable[[], Awaitable[bool]], what: Callable[[], str]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not await done():
            assert time.monotonic() < deadline, f"not {what()} within {PATIENCE_S} s"
            await asyncio.sleep(SLOT_S)

    async def problems(self) -> list[str]:
        """What is wrong in the end, by what the chain says and by a full reconciliation."""
        async with open_services(load_config(self.config), sending=False) as services:
            return await judge(self.database, reconciler(services), self.cluster, [], {})


@asynccontextmanager
async def vault(directory: Path, seed: int) -> AsyncIterator[Vault]:
    """A chain, a database, and a configuration; no daemon yet."""
    chance = random.Random(seed)
    cluster = Cluster(chance, seed=seed, endpoints=1, people=PEOPLE, newcomer=False)
    postgres = await Postgres.start(directory / "postgres.log")
    try:
        database = await Database.open(postgres.url)
        try:
            await migrate(database)
            async with Node(cluster.chain).join() as node:
                config = _write_files(directory, cluster, node.rpc_url, postgres.url)
                yield Vault(cluster, node, config, database, chance)
        finally:
            await database.close()
    finally:
        await postgres.stop()


def _write_files(directory: Path, cluster: Cluster, rpc_url: str, database_url: str) -> Path:
    (directory / "fees.yaml").write_text(RULE)
    (directory / "operator.json").write_text(json.dumps(make_keystore(key_of("operator").secret(), "x", scrypt_n=2)))
    (directory / "operator.password").write_text("x")
    (directory / "operator.password").chmod(0o600)
    path = directory / "bridge.toml"
    path.write_text(f"""
lease_duration_ms = 1000

[http]
listen = "127.0.0.1:0"

[database]
url = {json.dumps(database_url)}

[chains.{CHAIN}]
kind = "solana"
genesis_hash = "{cluster.chain.genesis_hash}"
rpc = ["{rpc_url}"]
start_block = {cluster.start_slot}
poll_interval_ms = 200
contracts = {{ vault = "{base58(VAULT)}", pool = "{base58(POOL)}" }}
tokens = {{ USDX = {{ address = "{base58(MINT)}", decimals = {DECIMALS} }} }}
operator = {{ keystore = "operator.json", password_file = "operator.password" }}
spending = {{ batch_recipients = 20 }}

[[rules]]
file = "fees.yaml"
chain = "{CHAIN}"
""")
    return path
