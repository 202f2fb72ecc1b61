"""What the books, the report and the audit say of things that no payout of ours explains, on the real chain."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from bridge.chains.evm.contracts import Contract
from bridge.domain.breaks import Reconciliation
from bridge.domain.reports import Report, Waterfall
from bridge.domain.units import Address, AssetId, format_address
from bridge.runtime.config import load_config
from bridge.simulation.anvil import FINALITY_DISTANCE
from bridge.simulation.audit import audit
from bridge.simulation.outcome import Run
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.scenario import weights
from bridge.simulation.simulate import Order, Simulation, reconcile
from bridge.simulation.wallets import Wallet
from bridge.stages.report import report
from bridge.store.database import Database
from bridge.store.migrations import migrate

GENESIS = 1_800_000_000
EPOCH_S = 40
CHAIN = "anvil"


class World:
    """One epoch of traffic, the daemon at work, and hands to meddle with."""

    def __init__(self, scene: Simulation) -> None:
        self.scene = scene
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

    async def balance(self, code: str, block: int) -> int:
        async with self.scene.database.snapshot() as tx:
            return await tx.ledger.balance_at(CHAIN, code, self.asset, block)

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
    order = Order(
        tmp_path / "sandbox", tmp_path, seed=5, epochs=1, reorgs=0, block_time_s=0.1, epoch_s=EPOCH_S
    )  # fmt: skip
    settings = Settings(seed=order.seed, block_time_s=None, epoch_s=EPOCH_S, genesis_timestamp=GENESIS)
    async with Sandbox.start(order.directory, settings) as sandbox:
        config = load_config(sandbox.config_path)
        database = await Database.open(config.database.resolve())
        try:
            await migrate(database)
            scene = Simulation(order, sandbox, config, database, lambda progress: None)
            async with scene.daemon_running():
                await scene.traffic()
                yield World(scene)
        finally:
            await database.close()


def waterfall(content: Report, asset: AssetId) -> Waterfall:
    [fall] = [fall for fall in content.waterfalls if fall.asset.id == asset]
    return fall


def owed_on_chain(content: Report, asset: AssetId) -> int:
    [bridge] = [bridge for bridge in content.pending if bridge.asset.id == asset]
    return bridge.owed.atoms


def found(result: Reconciliation) -> set[tuple[str, str, AssetId | None, int | None]]:
    return {(str(item.kind), item.subject, item.asset, item.amount) for item in result.breaks}


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_books__credited_donation_theft_and_coin_from_nowhere__each_told_to_the_atom(world: World):
    sandbox, start = world.sandbox, world.scene.windows_start
    stakes = weights(sandbox.miner.history, start, start + EPOCH_S)
    recipient = max(world.stage.participants, key=lambda wallet: stakes.get(wallet.address, 0))
    owed, payable = (f"{kind}:{format_address(recipient.address)}" for kind in ("owed_on_chain", "payable"))

    # Nothing is final of the window's end yet, so the block comes before the payout.
    await world.call(world.admin, world.usdx, "setBlocked", format_address(recipient.address), True)
    await world.scene.settle()
    await world.book()
    amount, outcome, decided_at = await world.payout(recipient.address)
    head = sandbox.miner.head
    assert outcome == "credited"
    assert (await world.balance(payable, decided_at), await world.balance(owed, decided_at)) == (-amount, 0)
    assert (await world.balance(payable, head), await world.balance(owed, head)) == (0, -amount)
    result = await world.reconcile()
    assert (found(result), result.skipped) == (set(), ())
    content = await world.report()
    fall = waterfall(content, world.asset)
    assert (fall.credited.atoms, fall.in_flight.atoms) == (amount, 0)
    assert fall.allocated.atoms == fall.paid.atoms + amount
    assert owed_on_chain(content, world.asset) == amount
    assert await world.audit() == []

    await world.call(world.admin, world.usdx, "setBlocked", format_address(recipient.address), False)
    await world.call(
        recipient,
        world.distributor,
        "withdraw",
        format_address(world.usdx.address),
        format_address(recipient.address),
    )
    await world.book()
    head = sandbox.miner.head
    assert (await world.balance(payable, head), await world.balance(owed, head)) == (0, 0)
    result = await world.reconcile()
    assert (found(result), result.skipped) == (set(), ())
    assert owed_on_chain(await world.report(), world.asset) == 0
    assert await world.audit() == []

    donor, vault = world.stage.payers[0], world.stage.vault
    await world.call(donor, world.usdx, "transfer", format_address(vault.address), 123_456_789)
    grant = vault.call("grantRole", keccak(b"DISTRIBUTOR_ROLE"), format_address(world.admin.address))
    for raw in world.sandbox.deployment.as_admin(vault.address, grant):
        await world.send(raw)
    await world.call(world.admin, vault, "release", b"\x66" * 32, format_address(world.usdx.address), 1_000_001)
    operator = sandbox.deployment.operator.address
    await world.send(donor.sign(operator, value=31_337))
    await world.book()
    result = await world.reconcile()
    assert result.skipped == ()
    assert found(result) == {
        ("unexpected_in", "suspense:in", world.asset, 123_456_789),
        ("unexpected_out", "suspense:out", world.asset, -1_000_001),
        ("unexplained_balance", f"operator:gas:{format_address(operator)}", AssetId("eip155:31337/slip44:60"), 31_337),
    }
    fall = waterfall(await world.report(), world.asset)
    assert (fall.credited.atoms, fall.in_flight.atoms, fall.undecided.atoms) == (amount, 0, 0)
    assert await world.audit() == []
