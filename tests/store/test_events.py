"""Blocks and logs in Postgres: what comes out is what went in, and only finalized logs count."""

import uuid
from dataclasses import replace

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import NO_LOGS, Block, BlockAdded, Finalized, Log, TimedLogs, pack_logs, unpack_logs
from bridge.domain.units import Address, BlockStamp
from bridge.store.database import Database
from bridge.store.events import PARTITION_BLOCKS_AHEAD

CHAIN = "fake"


def block(number: int, branch: int = 0, parent_branch: int | None = None) -> Block:
    parent = branch if parent_branch is None else parent_branch
    return Block(number, name(number, branch), name(number - 1, parent), 1000 + number)


def name(number: int, branch: int) -> bytes:
    return bytes([branch]) * 16 + number.to_bytes(16, signed=True)


def log(of: Block, index: int, *, address: int = 1, topics: tuple[bytes, ...] = (b"t" * 32,), data: bytes = b"") -> Log:
    stamp = BlockStamp(CHAIN, of.number, of.hash)
    return Log(stamp, index, b"x" * 32, index, Address(bytes([address]) * 20), topics, data, of.timestamp)


def added(*blocks: Block, logs: tuple[Log, ...] = (), first: int | None = None) -> BlockAdded:
    return BlockAdded(blocks[0].number if first is None else first, blocks, pack_logs(logs))


def finalized(first: int, of: Block) -> Finalized:
    return Finalized(first, of, 0, b"d" * 32, "one", "two")


def timed(logs: list[Log]) -> TimedLogs:
    return TimedLogs(pack_logs(logs), [each.timestamp for each in logs] if logs else ())


async def register(database: Database, start_block: int = 0) -> None:
    async with database.begin() as transaction:
        await transaction.chains.register(CHAIN, "fake", "fake:1", b"g" * 32, start_block)


LOGS = st.lists(
    st.tuples(st.lists(st.binary(min_size=32, max_size=32), max_size=4), st.binary(max_size=100)), max_size=12
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(LOGS)
async def test_add__any_topics_and_data__read_back_exactly(database: Database, shapes: list[tuple[list[bytes], bytes]]):
    chain = f"é{uuid.uuid4()}"  # a name with more bytes than letters, another one in each example
    async with database.begin() as transaction:
        await transaction.chains.register(chain, "fake", "fake:1", b"g" * 32, 0)
    top = block(0)
    stamp = BlockStamp(chain, 0, top.hash)
    logs = [
        Log(stamp, index, b"x" * 32, index, Address(b"a" * 20), tuple(topics), data, top.timestamp)
        for index, (topics, data) in enumerate(shapes)
    ]
    async with database.begin() as transaction:
        await transaction.events.add(chain, BlockAdded(0, (top,), pack_logs(logs)), 0)
        assert (await transaction.events.cursor(chain)).logs == pack_logs(logs)
        assert await transaction.events.logs(chain, 0, 0) == []  # not final yet
        assert await transaction.events.log_columns(chain, 0, 0) == TimedLogs(NO_LOGS, ())
        await transaction.events.finalize(chain, finalized(0, top))
        assert await transaction.events.logs(chain, 0, 0) == logs
        assert await transaction.events.log_columns(chain, 0, 0) == timed(logs)
        assert unpack_logs(chain, timed(logs)) == logs


async def test_cursor__before_and_after__start_tail_and_pending_logs(database: Database):
    await register(database, start_block=5)
    pending = log(block(7), 0)
    async with database.begin() as transaction:
        events = transaction.events
        assert (await events.cursor(CHAIN)).finalized_number == 4
        assert await events.finalized(CHAIN) is None
        await events.add(CHAIN, added(block(5), block(6), logs=(log(block(5), 0),)), 9)
        await events.finalize(CHAIN, finalized(5, block(6)))
        await events.add(CHAIN, added(block(7), logs=(pending,)), 9)
        cursor = await events.cursor(CHAIN)
        assert (cursor.start_block, cursor.finalized_number) == (5, 6)
        assert cursor.tail == (block(6), block(7))
        assert cursor.logs == pack_logs([pending])
        assert await events.finalized(CHAIN) == block(6)


async def test_orphan__then_canonical_again__once_with_its_new_logs(database: Database):
    await register(database)
    async with database.begin() as transaction:
        events = transaction.events
        await events.add(CHAIN, added(block(0), block(1), block(2), logs=(log(block(2), 0),)), 2)
        assert await events.orphan_above(CHAIN, block(1)) == 1
        assert not await events.is_canonical(BlockStamp(CHAIN, 2, block(2).hash))
        await events.add(CHAIN, added(block(2, 1, 0)), 2)
        assert await events.block(CHAIN, 2) == block(2, 1, 0)
        assert await events.orphan_above(CHAIN, block(1)) == 1
        await events.add(CHAIN, added(block(2), logs=(log(block(2), 0), log(block(2), 1))), 2)
        assert await events.block(CHAIN, 2) == block(2)
        assert (await events.cursor(CHAIN)).logs.count == 2
        assert await transaction.connection.fetchval("SELECT count(*) FROM reorgs") == 2


async def test_orphan__told_with_another_time_and_parent_now__those_are_kept(database: Database):
    """One endpoint told them wrong; two that knew better had it orphaned, under the very hash that it has."""
    await register(database)
    wrong = replace(block(1), timestamp=7)
    async with database.begin() as transaction:
        events = transaction.events
        await events.add(CHAIN, added(block(0), wrong), 1)
        await events.orphan_above(CHAIN, block(0))
        await events.add(CHAIN, added(block(1)), 1)
        assert await events.block(CHAIN, 1) == block(1)
        await events.finalize(CHAIN, finalized(0, block(1)))
        await events.add(CHAIN, added(block(2)), 2)
        await events.orphan_above(CHAIN, block(1))
        await events.add(CHAIN, added(block(2)), 2)


async def test_orphan__below_the_finalized_block__refused(database: Database):
    await register(database)
    async with database.begin() as transaction:
        await transaction.events.add(CHAIN, added(block(0), block(1), block(2)), 2)
        await transaction.events.finalize(CHAIN, finalized(0, block(1)))
        with pytest.raises(ChainDisagrees, match="below the finalized"):
            await transaction.events.orphan_above(CHAIN, block(0))


async def test_orphan__everything_there_is__begins_again_at_the_first_block(database: Database):
    await register(database)
    async with database.begin() as transaction:
        events = transaction.events
        await events.add(CHAIN, added(block(0), block(1)), 1)
        assert await events.orphan_above(CHAIN, Block(-1, bytes(32), bytes(32), 0)) == 2
        assert (await events.cursor(CHAIN)).tail == ()
        first = Block(0, name(0, 1), bytes(32), 1000)
        await events.add(CHAIN, added(first), 1)
        assert (await events.cursor(CHAIN)).tail == (first,)


async def test_orphan__above_a_block_of_another_branch__refused(database: Database):
    await register(database)
    async with database.begin() as transaction:
        await transaction.events.add(CHAIN, added(block(0), block(1), block(2)), 2)
        with pytest.raises(ChainDisagrees, match="is not the one stored"):
            await transaction.events.orphan_above(CHAIN, block(1, 1))
        with pytest.raises(ChainDisagrees, match="is not the one stored"):
            await transaction.events.orphan_above(CHAIN, block(3))


async def test_blocks__two_of_one_number_that_count__the_database_refuses(database: Database):
    await register(database)
    async with database.begin() as transaction:
        await transaction.events.add(CHAIN, added(block(0), block(1)), 1)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with database.begin() as transaction:
            await transaction.connection.execute(
                "INSERT INTO blocks (chain, number, hash, parent_hash, timestamp) VALUES ($1, 1, $2, $2, 0)",
                CHAIN,
                b"o" * 32,
            )


@pytest.mark.parametrize("wrong", [block(3), block(1), block(2, 1)])
async def test_add__does_not_follow_the_head__refused(database: Database, wrong: Block):
    await register(database)
    async with database.begin() as transaction:
        await transaction.events.add(CHAIN, added(block(0), block(1)), 1)
        with pytest.raises(ChainDisagrees, match="does not follow"):
            await transaction.events.add(CHAIN, added(wrong), 3)


@pytest.mark.parametrize(("first", "last"), [(1, block(1)), (0, block(5)), (0, block(1, 1))])
async def test_finalize__gap_or_unknown_block__refused(database: Database, first: int, last: Block):
    await register(database)
    async with database.begin() as transaction:
        await transaction.events.add(CHAIN, added(block(0), block(1)), 1)
        with pytest.raises(ChainDisagrees):
            await transaction.events.finalize(CHAIN, finalized(first, last))


async def test_logs__filters_and_limit__whole_blocks_in_order(database: Database):
    await register(database)
    logs = tuple(
        log(block(number), index, address=index + 1, topics=(bytes([index]) * 32,))
        for number in range(4)
        for index in range(3)
    )
    async with database.begin() as transaction:
        events = transaction.events
        await events.add(CHAIN, added(*[block(number) for number in range(4)], logs=logs), 3)
        await events.finalize(CHAIN, finalized(0, block(3)))
        for asked, expected in (
            ({"first": 1, "last": 2}, logs[3:9]),
            ({"first": 0, "last": 3, "limit": 4}, logs[:6]),
            ({"first": 0, "last": 3, "limit": 3}, logs[:3]),
            ({"first": 0, "last": 3, "limit": 100}, logs),
            ({"first": 0, "last": 3, "addresses": [Address(b"\2" * 20)], "limit": 1}, logs[1:2]),
            ({"first": 0, "last": 3, "topic0s": [b"\2" * 32]}, logs[2::3]),
            ({"first": 4, "last": 9}, ()),
        ):
            assert await events.logs(CHAIN, **asked) == list(expected)
            assert await events.log_columns(CHAIN, **asked) == timed(list(expected))
        assert await events.finalized_before(CHAIN, 1002) == block(1)
        assert await events.finalized_before(CHAIN, 1000) is None


async def test_add__far_ahead_in_one_sparse_range__partitions_are_there(database: Database):
    await register(database, start_block=10)
    far = Block(3 * 1_000_000 + 5, b"f" * 32, b"e" * 32, 5000)
    async with database.begin() as transaction:
        await transaction.events.add(CHAIN, added(far, logs=(log(far, 0),), first=10), far.number)
        await transaction.events.finalize(CHAIN, finalized(10, far))
        assert len(await transaction.events.logs(CHAIN, 0, far.number)) == 1
        following = Block(far.number + PARTITION_BLOCKS_AHEAD, b"h" * 32, b"i" * 32, 5001)
        await transaction.events.add(CHAIN, added(following, first=far.number + 1), following.number)
