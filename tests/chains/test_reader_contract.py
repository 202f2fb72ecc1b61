"""What every ChainReader must do: the same tests for the chain in memory and for real nodes.

A chain that is looked at only once it is final hands on the blocks that carry logs, and its head; what is about blocks
that may still be replaced does not concern it.
"""

import itertools
import random

import pytest

from bridge.domain.errors import ChainDisagrees, DeepReorg
from bridge.domain.units import Address, BlockStamp
from tests.chains.consumer import Consumer
from tests.chains.world import ACCOUNT, CALLED, FakeWorld, ForkingWorld, World


def stamp(world: World, number: int, hash_: bytes) -> BlockStamp:
    return BlockStamp(world.reader.name, number, hash_)


async def check_blocks(world: World, consumer: Consumer) -> None:
    """All blocks where they are handed on whole, else those with logs at least; never one that is not of the chain."""
    chain = [block for block in await world.chain() if block.number >= world.first]
    carrying = consumer.counts()
    assert consumer.blocks == [
        block for block in chain if world.whole or block.number in carrying or block in consumer.blocks
    ]
    assert consumer.blocks[-1] == chain[-1]


async def test_follow__from_the_start__every_block_linked_and_logs_in_order(world: World):
    await world.mine(2, 0, 0, 3, 1)
    consumer = Consumer(world.first)
    await consumer.listen(world)
    await check_blocks(world, consumer)
    first = world.first or 1  # a chain in memory has its genesis block in front
    assert consumer.counts() == {first: 2, first + 3: 3, first + 4: 1}
    indexes = [int.from_bytes(consumer.logs.log_indexes[at : at + 4]) for at in range(0, 4 * 6, 4)]
    assert indexes == [world.log_index(place) for place in (0, 1, 0, 1, 2, 0)]
    data = [int.from_bytes(consumer.logs.data[at : at + 32]) for at in range(0, 32 * 6, 32)]
    assert data == [2, 1, 3, 2, 1, 1]


async def test_follow__deep_enough__final_four_blocks_below_the_head(forking: ForkingWorld):
    await forking.mine(1, 1, 1, 1, 1, 1, 1)
    chain = await forking.chain()
    consumer = Consumer(forking.first)
    await consumer.listen(forking, until_final=chain[-5].number)
    assert consumer.final == chain[-5].number
    assert all(event.verified_by for event in consumer.finalized)


async def test_follow__far_below_final__backfilled_in_ranges(world: World):
    counts = [number % 3 if number % 5 else 0 for number in range(90)]
    await world.mine(*counts)
    chain = await world.chain()
    consumer = Consumer(world.first)
    await consumer.listen(world, until_final=chain[-5].number)
    assert sum(consumer.counts().values()) == sum(counts)
    assert set(consumer.blocks) <= set(chain)
    assert not world.whole or consumer.blocks[-4:] == chain[-4:]


async def test_follow__restarted_in_a_backfill__as_if_uninterrupted(world: World):
    await world.mine(*[number % 3 for number in range(80)])
    chain = await world.chain()
    whole, pieces = Consumer(world.first), Consumer(world.first)
    await whole.listen(world, until_final=chain[-5].number)
    while pieces.final < chain[-5].number or pieces.blocks[-1] != chain[-1]:
        await pieces.listen_once(world)
    assert (pieces.logs, pieces.final) == (whole.logs, whole.final)


@pytest.mark.parametrize("depth", [1, 2, 4])
async def test_follow__reorg__ancestor_then_the_new_branch(forking: ForkingWorld, depth: int):
    await forking.mine(1, 2, 3, 4, 5, 6)
    consumer = Consumer(forking.first)
    await consumer.listen(forking)
    ancestor = (await forking.chain())[-1 - depth]
    # The same logs come back in other blocks, and one block more.
    await forking.fork(depth, *range(6, 6 - depth, -1), 0)
    await consumer.listen(forking)
    assert [event.ancestor for event in consumer.reorgs] == [ancestor]
    assert consumer.blocks == (await forking.chain())[forking.first :]
    assert sum(consumer.counts().values()) == sum(range(1, 7))


async def test_follow__replaced_at_the_same_height__seen(forking: ForkingWorld):
    await forking.mine(1, 1)
    consumer = Consumer(forking.first)
    await consumer.listen(forking)
    await forking.fork(1, 3)
    await consumer.listen(forking)
    assert len(consumer.reorgs) == 1
    assert sum(consumer.counts().values()) == 4


async def test_follow__finalized_block_replaced__deep_reorg(forking: ForkingWorld):
    await forking.mine(0, 0, 0, 0, 0, 0)
    chain = await forking.chain()
    consumer = Consumer(forking.first)
    await consumer.listen(forking, until_final=chain[-5].number)
    await forking.fork(6, *[0] * 8)
    with pytest.raises(DeepReorg):
        await consumer.listen(forking)


async def test_follow__restarted_after_every_event__as_if_uninterrupted(world: World):
    await world.mine(*[number % 4 for number in range(10)])
    chain = await world.chain()
    whole, pieces = Consumer(world.first), Consumer(world.first)
    await whole.listen(world, until_final=chain[-5].number)
    while pieces.final < chain[-5].number or pieces.blocks[-1] != chain[-1]:
        await pieces.listen_once(world)
    assert (pieces.blocks, pieces.logs, pieces.final) == (whole.blocks, whole.logs, whole.final)


@pytest.mark.parametrize("between", [0, 1])
async def test_follow__two_reorgs_right_after_one_another__only_what_stays_becomes_final(
    forking: ForkingWorld, between: int
):
    """As deep as can be above the finalized block, before and after the first branch was seen."""
    await forking.mine(1, 2, 3, 1, 2, 3)
    consumer = Consumer(forking.first)
    await consumer.listen(forking)
    for look in (False, True, True):
        await forking.fork(3, 2, 0, 2)
        if look:
            await consumer.listen_once(forking)
        await forking.mine(*[0] * between)
        await forking.fork(3, 0, 1, 0)
        await forking.mine(1)
        await consumer.listen(forking)
    await forking.mine(0, 0, 0, 0)
    chain = await forking.chain()
    await consumer.listen(forking, until_final=chain[-5].number)
    assert set(consumer.blocks) <= set(chain)
    assert {event.block for event in consumer.finalized} <= set(chain)


async def test_follow__random_reorgs_and_restarts__ends_with_the_chain(forking: ForkingWorld):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    consumer = Consumer(forking.first)
    await forking.mine(1)
    for _ in range(12):
        await forking.mine(*[chance.randrange(3) for _ in range(chance.randrange(1, 4))])
        if chance.random() < 0.5:
            await consumer.listen_once(forking)
        above = (await forking.chain())[-1].number - max(consumer.final, forking.first)
        if above > 0 and chance.random() < 0.6:
            depth = chance.randint(1, min(3, above))
            await forking.fork(depth, *[chance.randrange(3) for _ in range(depth + chance.randrange(2))])
    await consumer.listen(forking)
    assert consumer.blocks == (await forking.chain())[forking.first :]
    fresh = Consumer(forking.first)
    await fresh.listen(forking)
    assert consumer.counts() == fresh.counts()


async def test_blocks__of_the_chain__linked(world: World):
    await world.mine(0, 0)
    chain = await world.chain()
    assert all(child.parent_hash == parent.hash for parent, child in itertools.pairwise(chain))
    assert await world.reader.genesis_hash() == world.genesis
    assert await world.reader.node_head() == chain[-1].number


async def test_blocks__above_the_head__disagrees(world: World):
    with pytest.raises(ChainDisagrees):
        await world.reader.blocks([10**6])


async def test_balance__pinned__as_it_was_then(world: World):
    await world.mine(0)
    before = (await world.chain())[-1]
    await world.fund(1_234_567)
    await world.mine(0)
    after = (await world.chain())[-1]
    assert await world.reader.balance(world.account, world.native, stamp(world, before.number, before.hash)) == 0
    assert await world.reader.balance(world.account, world.native, stamp(world, after.number, after.hash)) == 1_234_567
    assert await world.reader.sequence(world.account, stamp(world, after.number, after.hash)) == world.sequence


async def test_reads__unknown_block__disagree(world: World):
    unknown = stamp(world, 0, b"\x11" * 32)
    with pytest.raises(ChainDisagrees):
        await world.reader.balance(world.account, world.native, unknown)
    with pytest.raises(ChainDisagrees):
        await world.reader.sequence(world.account, unknown)
    with pytest.raises(ChainDisagrees):
        await world.reader.read_call(CALLED, "rate()", (), unknown)


async def test_reads__orphaned_block__disagree(forking: ForkingWorld):
    await forking.mine(0, 0)
    orphan = (await forking.chain())[-1]
    await forking.fork(1, 0, 0)
    with pytest.raises(ChainDisagrees):
        await forking.reader.balance(ACCOUNT, forking.native, stamp(forking, orphan.number, orphan.hash))
    with pytest.raises(ChainDisagrees):
        await forking.reader.read_call(CALLED, "rate()", (), stamp(forking, orphan.number, orphan.hash))


async def test_read_call__pinned__as_it_was_then(forking: ForkingWorld):
    await forking.answer("rate()", words=[7])
    await forking.mine(0)
    before = (await forking.chain())[-1]
    await forking.answer("rate()", words=[8])
    await forking.mine(0)
    after = (await forking.chain())[-1]
    for block, value in ((before, 7), (after, 8)):
        assert await forking.reader.read_call(CALLED, "rate()", (), stamp(forking, block.number, block.hash)) == (
            value,
        )


async def test_read_call__arguments_and_words_of_every_type__exact(forking: ForkingWorld):
    arguments = (2**256 - 1, -(2**255), ACCOUNT, True, 5)
    words = (2**80 - 1, -5, 2**256 - 1, 1, int.from_bytes(ACCOUNT))
    returns = ("uint80", "int256", "uint", "bool", "address")
    await forking.answer("mixed(uint256,int256,address,bool,uint8)", *arguments, words=words)
    await forking.mine(0)
    block = (await forking.chain())[-1]
    at = stamp(forking, block.number, block.hash)
    signature = " mixed( uint, int256, address, bool, uint8 )"
    assert await forking.reader.read_call(CALLED, signature, arguments, at, returns=returns) == words
    other = (*arguments[:-1], 6)
    assert await forking.reader.read_call(CALLED, signature, other, at, returns=returns) is None


@pytest.mark.parametrize(
    ("words", "returns"),
    [
        ([], ("uint256",)),  # reverts, or returns nothing
        ([1, 2], ("uint256",)),
        ([1], ("uint256", "uint256")),
        ([2**80], ("uint80",)),
        ([-1], ("uint8",)),
        ([2**255], ("int8",)),
        ([2], ("bool",)),
        ([2**160], ("address",)),
    ],
)
async def test_read_call__other_words_than_declared__no_answer(
    forking: ForkingWorld, words: list[int], returns: tuple[str, ...]
):
    await forking.answer("rate()", words=words)
    await forking.mine(0)
    block = (await forking.chain())[-1]
    at = stamp(forking, block.number, block.hash)
    assert await forking.reader.read_call(CALLED, "rate()", (), at, returns=returns) is None
    assert await forking.reader.read_call(Address(b"\x79" * 20), "rate()", (), at, returns=returns) is None


@pytest.mark.parametrize(
    ("signature", "arguments"),
    [
        ("rate", ()),
        ("rate(string)", (b"",)),
        ("rate(uint7)", (1,)),
        ("rate(uint256)", ()),
        ("rate(uint8)", (256,)),
        ("rate(uint8)", (-1,)),
        ("rate(int8)", (128,)),
        ("rate(uint8)", (True,)),
        ("rate(bool)", (1,)),
        ("rate(address)", (1,)),
        ("rate(address)", (b"\x01" * 32,)),
    ],
)
async def test_read_call__arguments_that_do_not_fit__refused(signature: str, arguments: tuple[int | bytes, ...]):
    fake = FakeWorld()
    at = BlockStamp("fake", 0, fake.fake.head.hash)
    with pytest.raises(ValueError, match=r"rate|no uint8|no int8|neither|address|supported"):
        await fake.reader.read_call(CALLED, signature, arguments, at)


async def test_follow__node_shows_less_than_before__nothing_is_undone():
    fake = FakeWorld()
    await fake.mine(1, 1, 1)
    consumer = Consumer(0)
    await consumer.listen(fake)
    fake.reader.stale_head = 1
    await fake.mine(1)  # wakes the reader, which sees less than it knows
    fake.reader.stale_head = None
    await consumer.listen(fake)
    assert consumer.reorgs == []
    assert len(consumer.blocks) == 5
