"""Every kind of break, caused for real: found, aged, explained and closed; and where books and chain part."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from eth_hash.auto import keccak

from bridge.daemon import divergence, open_services
from bridge.domain.breaks import Break, BreakKind, Level, Reconciliation, age_band
from bridge.domain.errors import RefusedError
from bridge.domain.ledger import OPENING, SUSPENSE_IN, SUSPENSE_OUT, UNALLOCATED, Journal, gas_code
from bridge.domain.states import BreakState
from bridge.domain.units import AssetId, BlockStamp, format_address
from bridge.runtime.clock import SystemClock
from bridge.simulation.anvil import FINALITY_DISTANCE
from bridge.stages.ask import DISAGREE
from bridge.stages.correct import approve, ask_adjustment
from bridge.stages.divergence import Divergence
from bridge.stages.reconcile import Reconcile
from bridge.stages.seal import Seal
from bridge.stages.view import Books
from tests.cli.program import bridge
from tests.simulation.meddling import CHAIN, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ETH = AssetId("eip155:31337/slip44:60")
LOGGER = bytes.fromhex("60803603806080600037606035604035602035600035846000a400")
"""Code that says as a log whatever it is called with: four topics, then the data."""


Cure = Callable[[], Coroutine[Any, Any, None]]


class Meddler:
    """What nobody may do to the database, and what a person does about a break."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.database = world.scene.database
        self.config = world.sandbox.config_path

    async def sql(self, statement: str, *arguments: object) -> None:
        """As the owner of the database, whom no trigger stops; exactly one row."""
        async with self.database.begin() as tx:
            await tx.connection.execute("SET LOCAL session_replication_role = replica")
            assert (await tx.connection.execute(statement, *arguments)).endswith(" 1"), statement

    async def value(self, query: str, *arguments: object) -> tuple[Any, ...]:
        async with self.database.snapshot() as tx:
            row = await tx.connection.fetchrow(query, *arguments)
        assert row is not None, query
        return tuple(row)

    async def until(self, query: str) -> None:
        await self.world.until(query)

    async def booked(self) -> BlockStamp:
        async with self.database.snapshot() as tx:
            cursor = await tx.chains.cursor("post", CHAIN)
        assert cursor is not None
        return BlockStamp(CHAIN, *cursor)

    async def adjust(self, debit: str, credit: str, asset: AssetId, amount: int) -> None:
        number = await ask_adjustment(self.database, debit, credit, asset, amount, reason="a test", by="ann")
        await approve(self.database, number, by="bob")

    @asynccontextmanager
    async def without_confirm(self) -> AsyncIterator[None]:
        """Another instance seems to have the lease of the confirm stage, and does nothing with it."""
        take = (
            "UPDATE leases SET epoch = epoch + 1, holder = 'nobody', expires_at = now() + $2 * INTERVAL '1 s' "
            "WHERE name = $1"
        )
        await self.sql(take, f"confirm:{CHAIN}", 3600)
        yield
        await self.sql(take, f"confirm:{CHAIN}", -1)

    async def reconcile(
        self, *, rpc: Sequence[str] | None = None, sweep: bool = False, **limits: Any
    ) -> Reconciliation:
        """A full run, or one of what is new and a slice of what is old; through the endpoints `rpc`, if given."""
        config = self.world.scene.config
        if rpc is not None:
            chain = config.chains[CHAIN].model_copy(update={"rpc": list(rpc)})
            config = config.model_copy(update={"chains": {CHAIN: chain}})
        async with open_services(config, sending=False) as services:
            books = [
                Books(chain.reader, chain.watched, chain.section.start_block, chain.history)
                for chain in services.chains
            ]
            return await Reconcile(database=self.database, books=books, **limits).run(full=not sweep, sweep=sweep)

    async def divergence(self, account: str, symbol: str | None = None) -> Divergence:
        async with open_services(self.world.scene.config, sending=False) as services:
            return await divergence(services, account, symbol)

    async def take_up(self, breaks: Sequence[Break]) -> None:
        """Eight days go by, and somebody looks into them."""
        async with self.database.begin() as tx:
            await tx.connection.execute("UPDATE breaks SET opened_at = opened_at - INTERVAL '8 days'")
            for item in breaks:
                await tx.breaks.assign(item.break_id, to="ann", by="bob")
                await tx.breaks.explain(item.break_id, reason="we know", by="ann")
        async with self.database.snapshot() as tx:
            assert {age_band(item.age(datetime.now(UTC))) for item in await tx.breaks.unresolved()} == {"7–30 d"}
            assert (await tx.status.read()).break_ages == {"7–30 d": len(breaks)}

    async def resolve(self, item: Break) -> str | None:
        """What was said where it was refused."""
        try:
            async with self.database.begin() as tx:
                await tx.breaks.resolve(item.break_id, reason="settled", by="ann")
        except RefusedError as error:
            return str(error)
        return None

    async def lives(self, breaks: Sequence[Break]) -> dict[BreakKind, set[str]]:
        """By kind, who closed them after they were opened, assigned and explained."""
        lives = defaultdict(set)
        async with self.database.snapshot() as tx:
            for item in breaks:
                history = await tx.breaks.history(item.break_id)
                assert [change.state for change in history] == list(BreakState)
                assert [change.words for change in history][1:3] == ["ann", "we know"]
                lives[item.kind].add(history[-1].by.split()[0])
        return lives


def kinds(result: Reconciliation) -> dict[BreakKind, list[Break]]:
    by_kind = defaultdict(list)
    for item in result.breaks:
        by_kind[item.kind].append(item)
    return by_kind


async def test_breaks__every_kind__found_aged_explained_and_closed(world: World):
    meddler = Meddler(world)
    await _stuck(world, meddler)
    cures = [
        await _donation(world, meddler),
        await _theft(world, meddler),
        await _coin(world, meddler),
        await _again(world, meddler),
        await _orphan(meddler),
        await _sealed(meddler),
        await _altered(world, meddler),
        await _forgotten(meddler),
        await _fee(meddler),
        await _header(meddler),
    ]
    result = await meddler.reconcile()
    assert "seals" in {item.subject for item in result.breaks}
    expected = set(BreakKind) - {BreakKind.TIMING, BreakKind.MISSING_ON_CHAIN}
    assert set(kinds(result)) == expected, [(item.kind, item.subject) for item in result.breaks]
    await meddler.take_up(result.breaks)
    lasting = {BreakKind.DUPLICATE, BreakKind.ORPHANED_BY_REORG}
    for item in result.breaks:
        assert item.lasting == (item.kind in lasting), item
        if not item.lasting:
            assert "still found it" in (await meddler.resolve(item) or "resolved"), item

    for cure in cures:
        await cure()
    mended = await meddler.reconcile()
    persons = {*lasting, BreakKind.AMOUNT_MISMATCH, BreakKind.FEE_MISMATCH}
    assert set(kinds(mended)) == persons, [(item.kind, item.subject, item.evidence) for item in mended.breaks]
    for item in mended.breaks:
        assert await meddler.resolve(item) is None
    last = await meddler.reconcile()
    assert (last.breaks, last.balanced) == ((), True)
    assert await meddler.lives(result.breaks) == {kind: {"ann" if kind in persons else "check"} for kind in expected}
    await _hidden(world, meddler)
    await _second_provider(world, meddler)
    await _deep_reorg(world, meddler)


async def _stuck(world: World, meddler: Meddler) -> None:
    """Nobody settles what was sent: that is late, and what waits for it is overdue."""
    await meddler.until("SELECT count(*) FROM leases WHERE name LIKE 'confirm:%'")
    async with meddler.without_confirm():
        sent = (
            "SELECT count(*) FROM slots s JOIN attempts USING (slot_id) WHERE sent_at IS NOT NULL AND s.state = 'live'"
        )
        await meddler.until(sent)
        await world.sandbox.mine(FINALITY_DISTANCE + 1)
        await meddler.until(
            f"SELECT block_number - {world.sandbox.miner.head - FINALITY_DISTANCE} + 1 FROM cursors "
            "WHERE stage = 'post'"
        )
        result = await meddler.reconcile(deadline_s=0, allowance_s=0)
        for _ in range(10):  # on a busy machine what was sent may come into a later block
            if BreakKind.TIMING in kinds(result):
                break
            await world.sandbox.mine()
            await asyncio.sleep(0.2)
            result = await meddler.reconcile(deadline_s=0, allowance_s=0)
        assert set(kinds(result)) == {BreakKind.TIMING, BreakKind.MISSING_ON_CHAIN}, result.breaks
        await meddler.take_up(result.breaks)
        assert "still found it" in (await meddler.resolve(result.breaks[0]) or "resolved")
    await world.scene.settle()
    await world.book()
    assert (await meddler.reconcile()).balanced
    lives = await meddler.lives(result.breaks)
    assert lives == {BreakKind.TIMING: {"check"}, BreakKind.MISSING_ON_CHAIN: {"check"}}


# ── What nodes do ───────────────────────────────────────────────────────────────────────────────────────────────────
async def _hidden(world: World, meddler: Meddler) -> None:
    """One of two logs of a block is hidden while the block is read: the balance tells at once, the sweep says which."""
    hidden, seen = 55, 56
    amount = f"0x{hidden:064x}"

    def hide(method: str, parameters: Any, result: Any) -> Any:
        return [log for log in result if log["data"] != amount] if method == "eth_getLogs" else result

    world.node.twist = hide
    vault, payer = format_address(world.stage.vault.address), world.stage.payers[0]
    for each in (hidden, seen):
        raw = payer.sign(world.usdx.address, world.usdx.call("transfer", vault, each))
        await world.sandbox.anvil.call("eth_sendRawTransaction", "0x" + raw.hex())
    await world.sandbox.mine()
    await world.book()
    world.node.twist = None
    result = await meddler.reconcile()
    assert {(item.kind, item.amount) for item in result.breaks} == {
        (BreakKind.UNEXPLAINED_BALANCE, hidden),
        (BreakKind.UNEXPECTED_IN, seen),
    }
    rounds = [await meddler.reconcile(sweep=True) for _ in range(3)]
    result = rounds[-1]
    assert set(kinds(result)) == {
        BreakKind.UNEXPLAINED_BALANCE, BreakKind.UNEXPECTED_IN, BreakKind.MISSING_IN_LEDGER
    }  # fmt: skip
    [missed] = kinds(result)[BreakKind.MISSING_IN_LEDGER]
    assert missed.subject.endswith(" of nodes")
    await meddler.take_up(result.breaks)
    vault_code = next(item.subject for item in result.breaks if item.kind is BreakKind.UNEXPLAINED_BALANCE)
    await meddler.adjust(vault_code, UNALLOCATED, world.asset, hidden)
    await meddler.adjust(SUSPENSE_IN, UNALLOCATED, world.asset, seen)
    assert set(kinds(await meddler.reconcile())) == {BreakKind.MISSING_IN_LEDGER}
    assert await meddler.resolve(missed) is None
    rounds = [await meddler.reconcile(sweep=True) for _ in range(2)]
    assert [each.balanced for each in rounds] == [True, True]  # known for good
    assert await meddler.lives(result.breaks) == {
        BreakKind.UNEXPLAINED_BALANCE: {"check"},
        BreakKind.UNEXPECTED_IN: {"check"},
        BreakKind.MISSING_IN_LEDGER: {"ann"},
    }


async def _second_provider(world: World, meddler: Meddler) -> None:
    """Of two endpoints one says that a token of ours holds more: neither is believed."""

    def more(method: str, parameters: Any, result: Any) -> Any:
        return f"0x{int(result, 16) + 1:064x}" if method == "eth_call" and len(result) == 66 else result

    world.node.twist = more
    both = [world.sandbox.rpc_url, world.node.url]
    result = await meddler.reconcile(rpc=both)
    world.node.twist = None
    assert set(kinds(result)) == {BreakKind.PROVIDER_DISAGREEMENT}
    assert {check.cause for check in result.skipped} == {DISAGREE}
    await meddler.take_up(result.breaks)
    assert "still found it" in (await meddler.resolve(result.breaks[0]) or "resolved")
    assert (await meddler.reconcile(rpc=both)).balanced
    assert await meddler.lives(result.breaks) == {BreakKind.PROVIDER_DISAGREEMENT: {"check"}}


async def _deep_reorg(world: World, meddler: Meddler) -> None:
    """Blocks that were final, and booked, are replaced; and then the node is put right."""
    await world.book()
    anvil, booked = world.sandbox.anvil, await meddler.booked()
    before = await anvil.call("anvil_dumpState", True)
    await anvil.call("anvil_reorg", world.sandbox.miner.head - booked.number + 3, [])
    result = await meddler.reconcile()
    assert {item.kind for item in result.breaks} == {BreakKind.PROVIDER_DISAGREEMENT}
    assert f"block {booked.number}" in {item.subject for item in result.breaks}
    assert {check.level for check in result.skipped} >= {Level.BALANCE, Level.NONCE}
    await meddler.take_up(result.breaks)
    await anvil.call("anvil_loadState", before)
    assert (await meddler.reconcile()).balanced
    assert await meddler.lives(result.breaks) == {BreakKind.PROVIDER_DISAGREEMENT: {"check"}}


# ── What happens on the chain ───────────────────────────────────────────────────────────────────────────────────────
async def _donation(world: World, meddler: Meddler) -> Cure:
    vault = format_address(world.stage.vault.address)
    await world.call(world.stage.payers[0], world.usdx, "transfer", vault, 123)
    return lambda: meddler.adjust(SUSPENSE_IN, UNALLOCATED, world.asset, 123)


async def _theft(world: World, meddler: Meddler) -> Cure:
    """By a key that was given a role."""
    vault = world.stage.vault
    grant = vault.call("grantRole", keccak(b"DISTRIBUTOR_ROLE"), format_address(world.admin.address))
    for raw in world.sandbox.deployment.as_admin(vault.address, grant):
        await world.send(raw)
    await world.call(world.admin, vault, "release", b"\x66" * 32, format_address(world.usdx.address), 77)
    return lambda: meddler.adjust("expense:theft", SUSPENSE_OUT, world.asset, 77)


async def _coin(world: World, meddler: Meddler) -> Cure:
    """No log says so."""
    operator = world.sandbox.deployment.operator.address
    await world.send(world.stage.payers[0].sign(operator, value=31_337))
    block = world.sandbox.miner.head
    await world.book()
    found = await meddler.divergence("operator:gas")
    assert found.first is not None
    assert found.agreed is not None
    assert (found.agreed.at.number, found.first.at.number) == (block - 1, block)
    assert (found.agreed.difference, found.first.difference, found.cut_off.difference) == (0, 31_337, 31_337)
    assert found.probes <= 3 + block.bit_length()
    run = await asyncio.to_thread(bridge, "reconcile", "--find-divergence", "operator:gas", "--config", meddler.config)
    assert (run.returncode, run.stderr) == (1, "")
    assert f"they part at block {block:,}, 0x{found.first.at.hash.hex()}\n" in run.stdout
    assert ", differs by +31,337\n" in run.stdout
    return lambda: meddler.adjust(gas_code(operator), OPENING, ETH, 31_337)


async def _again(world: World, meddler: Meddler) -> Cure:
    """The contract, taken over, says of a batch that it was executed once more."""
    address = world.distributor.address
    (*topics, data) = await meddler.value(
        "SELECT topic0, topic1, topic2, topic3, data FROM logs WHERE address = $1 AND topic0 = $2 LIMIT 1",
        *(address, keccak(b"BatchExecuted(bytes32,uint32,address,uint256,uint256)")),
    )
    anvil, place = world.sandbox.anvil, "0x" + address.hex()
    code = await anvil.call("eth_getCode", place, "latest")
    await anvil.call("anvil_setCode", place, "0x" + LOGGER.hex())
    await world.send(world.admin.sign(address, b"".join([*topics, data])))
    await anvil.call("anvil_setCode", place, code)
    await world.book()
    return _nothing


# ── What happens to the database ────────────────────────────────────────────────────────────────────────────────────
async def _orphan(meddler: Meddler) -> Cure:
    """What a reorg deeper than finality leaves behind."""
    at = BlockStamp(CHAIN, (await meddler.booked()).number - 1, b"\x66" * 32)
    async with meddler.database.begin() as tx:
        await tx.ledger.post([Journal("token.other", "", f"log:{CHAIN}", f"{at.hash.hex()}:0", at, 0)])
    return _nothing


async def _sealed(meddler: Meddler) -> Cure:
    """What is altered from now on is not sealed as it then stands: restored, it is as it was sealed."""
    await Seal(database=meddler.database, clock=SystemClock()).step()
    return _nothing


async def _altered(world: World, meddler: Meddler) -> Cure:
    """A row of the ledger; where it stands is found."""
    block, _, _ = row = await meddler.value(
        "SELECT t.block_number, t.journal_id, t.seq FROM transfers t "
        "JOIN journals j USING (chain, block_number, journal_id) JOIN accounts a ON account_id = debit_account "
        "WHERE a.code LIKE 'vault:%' AND a.asset = $1 AND j.source = 'log:anvil' ORDER BY t.block_number LIMIT 1",
        world.asset,
    )
    change = "UPDATE transfers SET amount = amount + $4 WHERE (block_number, journal_id, seq) = ($1, $2, $3)"
    await meddler.sql(change, *row, 5)
    found = await meddler.divergence("vault", "usdx")
    assert found.first is not None
    assert (found.first.at.number, found.first.difference) == (block, -5)
    assert [(move.block_number, altered) for move, altered in found.journals if altered] == [(block, True)]
    assert any(log.booked and log.on_node for log in found.logs)
    return lambda: meddler.sql(change, *row, -5)


async def _forgotten(meddler: Meddler) -> Cure:
    """A log that moves nothing has lost its journal."""
    (ref,) = await meddler.value(
        "SELECT ref FROM journals j WHERE source = 'log:anvil' AND kind = 'distributor.other' "
        "ORDER BY block_number LIMIT 1"
    )
    tables = ("journals", "journal_keys")
    for table in tables:
        await meddler.sql(f"CREATE TABLE kept_{table} AS SELECT * FROM {table} WHERE ref = '{ref}'")
        await meddler.sql(f"DELETE FROM {table} WHERE ref = $1", ref)

    async def cure() -> None:
        """From a backup: booked anew it would have another place than it was sealed at."""
        for table in tables:
            await meddler.sql(f"INSERT INTO {table} SELECT * FROM kept_{table}")

    return cure


async def _fee(meddler: Meddler) -> Cure:
    (tx_id,) = await meddler.value("SELECT tx_id FROM attempts WHERE final LIMIT 1")
    change = "UPDATE attempts SET fee_paid = fee_paid + $2 WHERE tx_id = $1"
    await meddler.sql(change, tx_id, 1)
    return lambda: meddler.sql(change, tx_id, -1)


async def _header(meddler: Meddler) -> Cure:
    """What was read once is not what the node says now."""
    (number,) = await meddler.value(
        "SELECT number FROM blocks b WHERE status = 'finalized' "
        "AND NOT EXISTS (SELECT FROM logs WHERE block_number = b.number) "
        "AND NOT EXISTS (SELECT FROM decisions WHERE block_number = b.number) ORDER BY number LIMIT 1"
    )
    change = "UPDATE blocks SET timestamp = timestamp + $2 WHERE number = $1"
    await meddler.sql(change, number, -1)
    return lambda: meddler.sql(change, number, 1)


async def _nothing() -> None:
    """The chain says it for ever; a person settles it."""
