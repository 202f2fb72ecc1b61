"""One epoch on the real chain with the daemon at work, and hands to meddle with; what the books say of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from eth_hash.auto import keccak

from bridge.chains.evm.contracts import Contract
from bridge.domain.breaks import Reconciliation
from bridge.domain.reports.report import Report
from bridge.domain.units import Address, AssetId, format_address
from bridge.runtime.config import load_config
from bridge.simulation.anvil import FINALITY_DISTANCE
from bridge.simulation.audit import audit
from bridge.simulation.run import Run
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.simulate import Order, Simulation, reconcile
from bridge.simulation.wallets import Wallet
from bridge.stages.report import report
from bridge.store.database import Database
from bridge.store.migrations import migrate
from tests.crash.proxy import Proxy
from tests.simulation.rollup import Rollup, as_rollup

GENESIS = 1_800_000_000
EPOCH_S = 40
CHAIN = "anvil"
QUIET = """\
reconcile_interval_s = 86_400
jobs.sweep_interval_s = 86_400
jobs.seals_interval_s = 86_400
"""
"""Only the test reconciles: a run of the daemon would now and then come between what it does and what it looks at."""


Twist = Callable[[str, Any, Any], Any]
"""(method, parameters, the node's result) → what is said instead."""


class Twisted(Proxy):
    """A node's front door that is honest, until it has a twist."""

    twist: Twist | None = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        answered = await self._ask(body)
        if self.twist is not None:
            calls, answers = json.loads(body), json.loads(answered)
            for call, answer in zip(
                *((each if isinstance(each, list) else [each]) for each in (calls, answers)), strict=True
            ):
                if "result" in answer:
                    answer["result"] = self.twist(call["method"], call["params"], answer["result"])
            answered = json.dumps(answers).encode()
        return web.Response(body=answered, content_type="application/json")


class World:
    """One epoch of traffic, the daemon at work, and hands to meddle with. All the daemon knows comes through `node`."""

    def __init__(self, scene: Simulation, node: Twisted, rollup: Rollup | None = None) -> None:
        self.scene = scene
        self.node = node
        self.rollup = rollup
        self.sandbox = scene.sandbox
        self.stage = scene.sandbox.deployment.stage
        self.admin = self.stage.bookkeeper
        self.distributor = scene.sandbox.deployment.distributor
        self.usdx = self.stage.tokens[0].contract
        self.asset = AssetId(f"eip155:31337/erc20:{format_address(self.usdx.address)}")

    async def send(self, raw: bytes) -> None:
        """Put it into the next block; it must succeed."""
        hash_ = await self.sandbox.anvil.call("eth_sendRawTransaction", "0x" + raw.hex())
        await self.sandbox.mine()
        assert (await self.sandbox.anvil.call("eth_getTransactionReceipt", hash_))["status"] == "0x1"

    async def call(self, wallet: Wallet, contract: Contract, function: str, *arguments: object) -> None:
        await self.send(wallet.sign(contract.address, contract.call(function, *arguments)))

    async def book(self) -> None:
        """All that has happened becomes final, and is booked."""
        await self.sandbox.mine(FINALITY_DISTANCE)
        await self.scene.settle()

    async def until(self, query: str) -> None:
        """Mine until it says more than 0: for what does not settle by itself."""
        for _ in range(300):
            async with self.scene.database.snapshot() as tx:
                if (await tx.connection.fetchval(query) or 0) > 0:
                    return
            await self.sandbox.mine()
            await asyncio.sleep(0.1)
        raise AssertionError(query)

    async def booked(self) -> None:
        """All that has happened becomes final and is booked, whatever is still to be paid."""
        block = self.sandbox.miner.head
        await self.sandbox.mine(FINALITY_DISTANCE)
        await self.until(f"SELECT block_number - {block} + 1 FROM cursors WHERE stage = 'post'")

    async def rebase(self, atoms: int) -> None:
        """The vault's USDX change by themselves: no transaction, no event."""
        place, vault = format_address(self.usdx.address), self.stage.vault.address
        slot = "0x" + keccak(vault.rjust(32, b"\0") + bytes(32)).hex()  # OpenZeppelin's _balances are the first there
        held = int(await self.sandbox.anvil.call("eth_getStorageAt", place, slot, "latest"), 16)
        await self.sandbox.anvil.call("anvil_setStorageAt", place, slot, f"0x{held + atoms:064x}")
        await self.sandbox.mine()

    async def balance(self, code: str, block: int, asset: AssetId | None = None) -> int:
        async with self.scene.database.snapshot() as tx:
            return await tx.ledger.balance_at(CHAIN, code, asset or self.asset, block)

    async def payout(self, recipient: Address) -> tuple[int, str | None, int]:
        """Amount, outcome, and the block to which its decision was pinned."""
        async with self.scene.database.snapshot() as tx:
            row = await tx.connection.fetchrow(
                "SELECT p.amount, p.outcome, e.block_number FROM payouts p JOIN distributions USING (distribution_id) "
                "JOIN decisions e USING (decision_id) WHERE p.recipient = $1",
                recipient,
            )
        assert row is not None
        return row["amount"], row["outcome"], row["block_number"]

    async def audit(self) -> list[str]:
        async with self.scene.database.snapshot() as tx:
            run = await Run.read(tx)
        return await audit(self.sandbox, run.payouts)

    async def reconcile(self) -> Reconciliation:
        return await reconcile(self.scene.config)

    async def report(self) -> Report:
        return await report(self.scene.database)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


@pytest.fixture
async def rollup_world(tmp_path: Path) -> AsyncIterator[World]:
    """The same on a chain that takes more than gas, with two providers."""
    async with open_world(tmp_path, rollup=True) as world:
        yield world


@asynccontextmanager
async def open_world(tmp_path: Path, *, rollup: bool = False) -> AsyncIterator[World]:
    order = Order(
        tmp_path / "sandbox", tmp_path, seed=5, epochs=1, reorgs=0, block_time_s=0.1, epoch_s=EPOCH_S
    )  # fmt: skip
    settings = Settings(seed=order.seed, block_time_s=None, epoch_s=EPOCH_S, genesis_timestamp=GENESIS)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox.start(order.directory, settings))
        node = Twisted(sandbox.rpc_url)
        await stack.enter_async_context(node.running())
        taken = await stack.enter_async_context(as_rollup(sandbox)) if rollup else None
        text = QUIET + sandbox.config_path.read_text()
        if not rollup:
            assert f'["{sandbox.rpc_url}"]' in text
            text = text.replace(f'["{sandbox.rpc_url}"]', json.dumps([node.url]))
        sandbox.config_path.write_text(text)
        config = load_config(sandbox.config_path)
        database = await Database.open(config.database.resolve())
        try:
            await migrate(database)
            scene = Simulation(order, sandbox, config, database, lambda progress: None)
            async with scene.daemon_running():
                await scene.traffic()
                yield World(scene, node, taken)
        finally:
            await database.close()


def found(result: Reconciliation) -> set[tuple[str, str, AssetId | None, int | None]]:
    return {(str(item.kind), item.subject, item.asset, item.amount) for item in result.breaks}
