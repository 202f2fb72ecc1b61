"""Ingest against a real Postgres: what is stored is the chain, whatever happened on the way."""

import asyncio
import contextlib
import random
from typing import cast

import pytest

from bridge.domain.errors import ChainUnavailable, RetryableError
from bridge.domain.events import Block
from bridge.simulation.miner import Miner
from bridge.simulation.traffic import Traffic, TrafficBlock
from bridge.stages.ingest import Ingest
from bridge.store.database import Database
from tests.chains.conftest import GENESIS_TIMESTAMP
from tests.chains.world import AnvilWorld, FakeWorld, ForkingWorld, World

LOGS = "SELECT count(*) FROM logs JOIN blocks ON number = block_number AND hash = block_hash WHERE status = $1"


async def register(database: Database, world: World) -> None:
    reader = world.reader
    async with database.begin() as transaction:
        await transaction.chains.register(
            reader.name, "test", reader.reference, await reader.genesis_hash(), world.first
        )


def make(database: Database, world: World) -> Ingest:
    return Ingest(database=database, chain=world.reader, lease=None, filters=world.filters)


async def run_until(ingest: Ingest, database: Database, world: World, *, final: bool = False) -> None:
    """Step until the stored head (or the finalized block) is the chain's; bounded by the clock."""
    chain = await world.chain()
    wanted = chain[-5] if final else chain[-1]
    async with asyncio.timeout(20):
        while True:
            async with database.begin() as transaction:
                cursor = await transaction.events.cursor(world.reader.name)
                if (
                    cursor.tail
                    and cursor.tail[-1] == chain[-1]
                    and (not final or cursor.finalized_number == wanted.number)
                ):
                    return
            await ingest.step()


async def stored(database: Database, world: World) -> list[Block]:
    chain = await world.chain()
    async with database.begin() as transaction:
        found = [await transaction.events.block(world.reader.name, number) for number in range(len(chain))]
    return [block for block in found if block is not None]


async def count_logs(database: Database, status: str) -> int:
    async with database.begin() as transaction:
        count: int = await transaction.connection.fetchval(LOGS, status)
        return count


async def test_ingest__blocks_with_and_without_logs__stored_then_finalized(database: Database, forking: ForkingWorld):
    await register(database, forking)
    await forking.mine(2, 0, 3, 1, 0, 4, 0, 0)
    await run_until(make(database, forking), database, forking, final=True)
    assert await stored(database, forking) == (await forking.chain())[forking.first :]
    assert await count_logs(database, "finalized") == 6
    assert await count_logs(database, "canonical") == 4
    async with database.begin() as transaction:
        chain = await forking.chain()
        final = await transaction.events.finalized(forking.reader.name)
        assert final == chain[-5]
        logs = await transaction.events.logs(forking.reader.name, 0, len(chain))
        keys = [(log.block.number, log.log_index) for log in logs]
        assert keys == sorted(keys)
        assert len(logs) == 6


@pytest.mark.parametrize("depth", [1, 3])
async def test_ingest__reorg__old_branch_stays_as_orphans(database: Database, forking: ForkingWorld, depth: int):
    await register(database, forking)
    await forking.mine(1, 1, 1, 1, 1)
    ingest = make(database, forking)
    await run_until(ingest, database, forking)
    await forking.fork(depth, *[2] * depth, 0)
    await run_until(ingest, database, forking)
    assert await stored(database, forking) == (await forking.chain())[forking.first :]
    assert await count_logs(database, "orphaned") == depth
    assert await count_logs(database, "canonical") + await count_logs(database, "finalized") == 5 - depth + 2 * depth


async def test_ingest__new_instance_at_every_event__same_rows(database: Database, forking: ForkingWorld):
    await register(database, forking)
    await forking.mine(*[number % 3 for number in range(12)])
    async with asyncio.timeout(20):
        while len(await stored(database, forking)) < 12:
            await make(database, forking).step()
    await run_until(make(database, forking), database, forking, final=True)
    assert await stored(database, forking) == (await forking.chain())[forking.first :]


async def test_ingest__chain_fails_between__goes_on_from_committed_rows(database: Database):
    fake = FakeWorld()
    await register(database, fake)
    await fake.mine(1, 1)
    ingest = make(database, fake)
    await run_until(ingest, database, fake)
    await fake.mine(1)
    fake.reader.faults.append(ChainUnavailable("scripted"))
    with pytest.raises(ChainUnavailable):
        await ingest.step()
    await run_until(ingest, database, fake)
    assert await count_logs(database, "canonical") == 3


class Quiet:
    """Traffic of nobody."""

    def block(self, number: int, timestamp: int) -> TrafficBlock:
        return TrafficBlock(number, timestamp, (), ())


async def test_ingest__reorganised_again_and_again_while_it_reads__what_is_final_is_the_nodes(
    database: Database, anvil_world: AnvilWorld
):
    """As the simulation does it: each time two in a row, as deep as can be, with empty blocks that come back as they
    were and others that do not."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    await register(database, anvil_world)
    miner = Miner(
        anvil_world.anvil, cast("Traffic", Quiet()), head=1, genesis_timestamp=GENESIS_TIMESTAMP + 10, step_s=1
    )
    for _ in range(4):
        await miner.mine()
    ingest = make(database, anvil_world)

    async def follow() -> None:
        while True:
            with contextlib.suppress(RetryableError):
                await ingest.step()

    following = asyncio.create_task(follow())
    for _ in range(25):
        for _ in range(2):
            if chance.random() < 0.5:
                await anvil_world.send(1 + chance.randrange(2))
            await miner.reorganise(3)
        for _ in range(chance.randrange(1, 4)):
            await miner.mine()
    for _ in range(6):
        await miner.mine()
    following.cancel()  # wherever it is
    with contextlib.suppress(asyncio.CancelledError):
        await following
    await run_until(make(database, anvil_world), database, anvil_world, final=True)
    chain = await anvil_world.chain()
    assert await stored(database, anvil_world) == chain[anvil_world.first :]
    async with database.begin() as transaction:
        ends = await transaction.connection.fetch("SELECT last_block, last_hash FROM finalized_ranges")
        logs = await transaction.events.logs(anvil_world.reader.name, 0, len(chain))
    assert [bytes(end["last_hash"]) for end in ends] == [chain[end["last_block"]].hash for end in ends]
    assert [log.block.hash for log in logs] == [chain[log.block.number].hash for log in logs]
