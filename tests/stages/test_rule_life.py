"""A rule's life: enabled from a block on, superseded from a block on, paused, resumed, taken out."""

import json

import pytest

from bridge.domain.errors import ConfigError, RefusedError
from bridge.store.database import Database
from tests.stages.deciding import ALICE, BOB, FEES, SKIM, World

NEWER = FEES.replace("version: 1", "version: 2").replace("surplus: fees", "surplus: fees * 2")


@pytest.fixture
async def world(database: Database) -> World:
    world = await World.create(database)
    world.chain.deposit(0, ALICE, 1)
    for number in range(1, 60):
        world.chain.fee(number, 1)
    return world


async def decided(world: World) -> list[tuple[int, int, int]]:
    """(version, start, surplus) of each decision."""
    return [(row["version"], row["window_start"], row["surplus"]) for row in await world.decisions()]


async def test_versions__newer_from_a_block__decides_the_first_window_that_begins_there(world: World):
    stage = world.stage(FEES, NEWER, from_blocks=[0, 15])
    for world.chain.final in range(41):
        await world.run(stage)
    # The window of blocks 10 … 19 had begun before block 15.
    assert await decided(world) == [(1, 1000, 9), (1, 1100, 10), (2, 1200, 20), (2, 1300, 20)]
    live = [row["artifact"] for row in await world.decisions()]
    assert [json.loads(artifact)["rule"]["version"] for artifact in live] == [1, 1, 2, 2]
    await world.forget()
    await world.run(world.stage(FEES, NEWER, from_blocks=[0, 15]))
    assert [row["artifact"] for row in await world.decisions()] == live


async def test_versions__older_is_taken_out_too_early__refused_until_its_last_window_is_decided(world: World):
    world.chain.final = 10
    await world.run(world.stage(FEES, NEWER, from_blocks=[0, 15]))
    world.chain.final = 30
    with pytest.raises(ConfigError, match="window from block 10 on is not decided, and version 2 begins with block 15"):
        await world.run(world.stage(NEWER, from_blocks=[15]))
    await world.run(world.stage(FEES, NEWER, from_blocks=[0, 15]))
    world.chain.final = 40
    await world.run(world.stage(NEWER, from_blocks=[15]))
    assert [version for version, _, _ in await decided(world)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("from_blocks", "problem"), [([0, 0], "does not begin after version 1"), ([20, 10], "does not begin after")]
)
def test_versions__not_one_after_the_other__refused(from_blocks: list[int], problem: str):
    world = World.__new__(World)
    world.chain = type("Chain", (), {"reference": "x", "name": "test", "decoder": lambda *_: None})()
    with pytest.raises(ConfigError, match=problem):
        world.bound(FEES, NEWER, from_blocks=from_blocks)


async def test_rule__enabled_from_a_block__balances_of_before_count_and_fees_do_not(world: World):
    world.chain.deposit(5, BOB, 1)
    world.chain.final = 40
    await world.run(world.stage(FEES, from_blocks=[12]))
    assert await decided(world) == [(1, 1200, 10), (1, 1300, 10)]
    assert await world.allocations() == [(1200, ALICE, 5), (1200, BOB, 5), (1300, ALICE, 5), (1300, BOB, 5)]


async def test_rule__enabled_from_a_block_to_come__waits(world: World):
    stage = world.stage(FEES, from_blocks=[25])
    world.chain.final = 20
    assert await world.run(stage) == 0
    world.chain.final = 40
    await world.run(stage)
    assert await decided(world) == [(1, 1300, 10)]


async def test_versions__contract_behind_a_mark_is_another__refused(world: World):
    world.chain.final = 10
    await world.run(world.stage(SKIM))
    newer = SKIM.replace("version: 1", "version: 2")
    with pytest.raises(ConfigError, match="but the rule has counted from"):
        await world.stage(newer, contracts={"obligations": BOB}).step()
    await world.stage(newer).step()


async def test_versions__older_text_is_not_understood_any_more__refused_with_the_mend(world: World):
    world.chain.final = 10
    await world.run(world.stage(FEES))
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE rules SET body = replace(body, 'units', 'measures')")
    with pytest.raises(ConfigError, match="version 1, as it was saved, is not in the language of this bridge"):
        await world.stage(NEWER).step()


async def test_pause__some_windows_long__decided_one_by_one_afterwards_with_the_same_bytes(world: World):
    stage = world.stage(FEES)
    for world.chain.final in range(51):
        await world.run(stage)
    undisturbed = [row["artifact"] for row in await world.decisions()]
    await world.forget()
    stage = world.stage(FEES)
    world.chain.final = 15
    await world.run(stage)
    async with world.database.begin() as transaction:
        await transaction.decisions.pause("test", "fees", "paused by test: something is odd")
    world.chain.final = 45
    assert await world.run(stage) == 0
    async with world.database.begin() as transaction:
        await transaction.decisions.resume("test", "fees", "resumed by test: it was nothing")
    world.chain.final = 50
    await world.run(stage)
    assert [row["artifact"] for row in await world.decisions()] == undisturbed


async def test_pause__twice_or_resumed_unpaused__refused(world: World):
    async with world.database.begin() as transaction:
        await transaction.decisions.pause("test", "fees", "paused")
        with pytest.raises(RefusedError, match="is paused already"):
            await transaction.decisions.pause("test", "fees", "paused")
        await transaction.decisions.resume("test", "fees", "resumed")
        with pytest.raises(RefusedError, match="is not paused"):
            await transaction.decisions.resume("test", "fees", "resumed")
