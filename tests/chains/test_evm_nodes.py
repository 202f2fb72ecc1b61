"""The EVM reader against nodes that lie, lag, hang and refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bridge.chains.evm.follow import Finality
from bridge.chains.evm.reader import EvmReader
from bridge.chains.evm.rpc import EvmRpc
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, ConfigError, DeepReorg, RetryableError
from bridge.domain.events import Block
from tests.chains.consumer import Consumer
from tests.chains.nodes import HANG, Lie, Node, Refuse
from tests.chains.world import FakeWorld

MakeWorld = Callable[..., Any]


class NodeWorld(FakeWorld):
    """A scripted chain, served by several nodes, read by the EVM reader."""

    def __init__(self, nodes: list[Node], *, bloom: int | None = None, timeout_ms: int = 500) -> None:
        super().__init__()
        for node in nodes:
            node.chain = self.fake
            node.bloom = bloom
        self.nodes = nodes
        self._timeout_ms = timeout_ms

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()
        self.rpc = EvmRpc([node.url for node in self.nodes], timeout_ms=self._timeout_ms)
        self.reader = EvmReader(  # type: ignore[assignment]  # in the place of the in-memory reader
            "nodes",
            self.rpc,
            chain_id=1,
            finality=Finality(tag="finalized"),
            poll_interval_ms=2,
        )

    async def stop(self) -> None:
        await self.rpc.close()
        for node in self.nodes:
            await node.stop()


@pytest.fixture
async def make() -> AsyncIterator[MakeWorld]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*lies: Lie | None, **options: Any) -> NodeWorld:
            chain = FakeWorld().fake
            world = NodeWorld([Node(chain, lie) if lie else Node(chain) for lie in lies], **options)
            await world.start()
            stack.push_async_callback(world.stop)
            return world

        yield start


def empty_logs(method: str, params: list[Any], answer: Any) -> Any:
    return [] if method == "eth_getLogs" else answer


def empty_ranges(method: str, params: list[Any], answer: Any) -> Any:
    return [] if method == "eth_getLogs" and "fromBlock" in params[0] else answer


async def test_logs__empty_under_a_full_bloom__another_node_is_asked(make: MakeWorld):
    world = await make(empty_logs, None)
    await world.mine(2, 0, 3)
    consumer = Consumer(0)
    await consumer.listen(world)
    assert consumer.counts() == {1: 2, 3: 3}


async def test_logs__chain_without_blooms__believed_until_the_second_read(make: MakeWorld):
    world = await make(empty_logs, None, bloom=0)
    await world.mine(2)
    consumer = Consumer(0)
    await consumer.listen(world)
    assert consumer.counts() == {}
    await world.mine(0, 0, 0, 0)
    with pytest.raises(ChainDisagrees, match="different logs"):
        await consumer.listen(world, until_final=1)


async def test_logs__chain_with_blooms_that_are_always_full__read_once_more_and_believed(make: MakeWorld):
    world = await make(None, bloom=2**2048 - 1)
    await world.mine(2, 0, 3)
    consumer = Consumer(0)
    await consumer.listen(world)
    assert consumer.counts() == {1: 2, 3: 3}
    reads = [params[0]["blockHash"] for method, params in world.nodes[0].asked if method == "eth_getLogs"]
    assert sorted(Counter(reads).values()) == [1, 1, 2, 2]  # the first block is empty too


async def test_finality__stored_logs_were_wrong__handed_on_again(make: MakeWorld):
    """One node said once that there were no logs; two nodes now say that there are."""
    world = await make(empty_logs, None, None, bloom=0)
    await world.mine(2)
    consumer = Consumer(0)
    await consumer.listen(world)
    assert consumer.counts() == {}
    await world.mine(0, 0, 0, 0)
    world.nodes[0].lie = lambda method, params, answer: answer
    await consumer.listen(world, until_final=1)
    assert consumer.counts() == {1: 2}
    assert len(consumer.reorgs) == 1


async def test_finality__two_nodes__read_by_one_verified_by_the_other(make: MakeWorld):
    world = await make(None, None)
    await world.mine(1, 1, 1, 1, 1, 1)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=2)
    for event in consumer.finalized:
        assert event.read_by != event.verified_by


async def test_finality__restarted_before_it__still_two_different_nodes(make: MakeWorld):
    world = await make(None, None)
    await world.mine(1, 1)
    consumer = Consumer(0)
    await consumer.listen(world)
    await world.mine(0, 0, 0, 0)
    await consumer.listen(world, until_final=1)
    for event in consumer.finalized:
        assert event.read_by != event.verified_by


async def test_finality__second_node_dead__blocks_go_on_and_nothing_is_final(make: MakeWorld):
    world = await make(None, None)
    world.nodes[1].status = 503
    await world.mine(1, 1, 1, 1, 1, 1)
    consumer = Consumer(0)
    with pytest.raises(ChainUnavailable):
        await consumer.listen(world, until_final=2)
    assert consumer.blocks[-1] == world.fake.head
    assert consumer.final == -1


async def test_finality__node_alone_runs_ahead__not_believed(make: MakeWorld):
    def eager(method: str, params: list[Any], answer: Any) -> Any:
        return world.nodes[1]._honest(method, ["latest", False]) if params[:1] == ["finalized"] else answer

    world = await make(eager, None)
    await world.mine(0, 0, 0, 0, 0, 0)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=2)
    assert consumer.final == 2


def other_final(method: str, params: list[Any], answer: Any) -> Any:
    """A balancer in front of two branches: who says what is final is not who is asked for numbers."""
    return answer | {"hash": "0x" + "ab" * 32} if params[:1] == ["finalized"] and answer else answer


@pytest.mark.parametrize("lies", [(other_final,), (None, other_final), (other_final, None)])
@pytest.mark.parametrize("height", [8, 90])
async def test_finality__final_block_is_not_the_one_of_its_number__disagrees(
    make: MakeWorld, lies: tuple[Lie | None, ...], height: int
):
    world = await make(*lies)
    await world.mine(*[1] * height)
    consumer = Consumer(0)
    with pytest.raises(ChainDisagrees, match="final"):
        await consumer.listen(world, until_final=height - 4)
    assert consumer.final < height - 4


async def test_backfill__node_hides_logs_of_ranges__disagrees(make: MakeWorld):
    world = await make(None, empty_ranges)
    await world.mine(*[1] * 80)
    with pytest.raises(ChainDisagrees, match="different logs"):
        await Consumer(0).listen(world)


async def test_backfill__restarted_between_its_blocks_and_their_finality__goes_on(make: MakeWorld):
    """What is stored then has gaps; the other node finalizes less than the first one did, and takes narrow ranges."""

    def behind(method: str, params: list[Any], answer: Any) -> Any:
        if params[:1] == ["finalized"]:
            return world.nodes[1]._honest(method, ["0x48", False])
        if method == "eth_getLogs" and "fromBlock" in params[0]:
            width = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
            if width > 10:
                raise Refuse(-32000, "block range is too wide")
        return answer

    world = await make(None, None)
    await world.mine(*[1 if number % 7 == 0 else 0 for number in range(90)])
    consumer = Consumer(0)
    await consumer.listen_once(world)
    assert len(consumer.blocks) < 20
    world.nodes[1].lie = behind
    await consumer.listen(world, until_final=70)
    world.nodes[1].lie = lambda method, params, answer: answer
    await consumer.listen(world, until_final=86)
    assert consumer.reorgs == []
    assert sum(consumer.counts().values()) == 13


@pytest.mark.parametrize(("start", "hidden", "ancestor"), [(0, 40, 20), (25, 40, 24), (0, 20, -1)])
async def test_backfill__wrong_and_restarted_before_its_finality__cut_to_a_block_that_is_stored(
    make: MakeWorld, start: int, hidden: int, ancestor: int
):
    """What is stored of a backfill has gaps, so the parent of the first wrong block need not be there to go on from."""

    def hides(method: str, params: list[Any], answer: Any) -> Any:
        if method == "eth_getLogs" and "fromBlock" in params[0]:
            return [log for log in answer if int(log["blockNumber"], 16) != hidden]
        return answer

    world = await make(hides)
    await world.mine(*[1 if number % 20 == 0 else 0 for number in range(1, 100)])
    consumer = Consumer(start)
    await consumer.listen_once(world)
    world.nodes[0].lie = lambda method, params, answer: answer
    await consumer.listen(world, until_final=95)
    assert consumer.counts() == {number: 1 for number in (20, 40, 60, 80) if number >= start}
    assert [event.ancestor.number for event in consumer.reorgs] == [ancestor]
    assert set(consumer.blocks) <= set(await world.chain())


async def test_backfill__one_of_three_hides_logs__outvoted(make: MakeWorld):
    world = await make(empty_ranges, None, None)
    await world.mine(*[1] * 80)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=76)
    assert sum(consumer.counts().values()) == 80


def other_times(method: str, params: list[Any], answer: Any) -> Any:
    """Windows begin and end by blocks' times, and a block's hash does not show what its time is."""
    return answer | {"timestamp": "0x7"} if method.startswith("eth_getBlock") and answer else answer


def other_newest_time(method: str, params: list[Any], answer: Any) -> Any:
    return other_times(method, params, answer) if params[:1] == ["latest"] else answer


@pytest.mark.parametrize("lie", [other_times, other_newest_time])
async def test_finality__one_of_three_tells_other_times__not_believed(make: MakeWorld, lie: Lie):
    world = await make(lie, None, None)
    consumer = Consumer(0)
    for _ in range(8):
        await world.mine(1)
        with contextlib.suppress(RetryableError):
            await consumer.listen_once(world)
    async with asyncio.timeout(20):
        while consumer.final < 4:
            with contextlib.suppress(RetryableError):
                await consumer.listen_once(world)
    chain = await world.chain()
    assert [block for block in consumer.blocks if block.number <= 4] == chain[:5]


async def test_finality__one_of_two_tells_other_times__nothing_is_final_until_it_stops(make: MakeWorld):
    world = await make(other_times, None)
    await world.mine(1, 1, 1, 1, 1, 1)
    consumer = Consumer(0)
    with pytest.raises(ChainDisagrees):
        async with asyncio.timeout(20):
            while True:
                await consumer.listen_once(world)
    assert consumer.final == -1
    world.nodes[0].lie = lambda method, params, answer: answer
    await consumer.listen(world, until_final=2)
    assert consumer.blocks == await world.chain()


@pytest.mark.parametrize("lies", [(other_times, None), (None, other_times)])
async def test_backfill__one_of_two_tells_other_times__disagrees(make: MakeWorld, lies: tuple[Lie | None, ...]):
    def inside(method: str, params: list[Any], answer: Any) -> Any:
        """Of blocks with logs only, not of those at the ends of the range."""
        return other_times(method, params, answer) if params[:1] == ["0x28"] else answer

    world = await make(*(inside if lie else None for lie in lies))
    await world.mine(*[1 if number % 20 == 0 else 0 for number in range(1, 100)])
    with pytest.raises(ChainDisagrees, match="differently"):
        await Consumer(0).listen(world)


async def test_blocks__one_of_three_tells_other_times__outvoted(make: MakeWorld):
    world = await make(other_times, None, None)
    await world.mine(0, 0, 0)
    assert await world.reader.blocks([0, 2]) == [(await world.chain())[0], (await world.chain())[2]]


async def test_blocks__one_of_two_tells_other_times__disagrees(make: MakeWorld):
    world = await make(other_times, None)
    await world.mine(0, 0, 0)
    with pytest.raises(ChainDisagrees):
        await world.reader.blocks([0, 2])


def stuck_final(method: str, params: list[Any], answer: Any) -> Any:
    return None if params[:1] == ["finalized"] else answer


@pytest.mark.parametrize("lie", [other_final, stuck_final])
async def test_finality__one_of_three_names_another_final_block__outvoted(make: MakeWorld, lie: Lie):
    for lies in ((lie, None, None), (None, lie, None), (None, None, lie)):
        world = await make(*lies)
        await world.mine(0, 0, 0, 0, 0, 0, 0)
        consumer = Consumer(0)
        async with asyncio.timeout(20):
            while consumer.final < 3:
                with contextlib.suppress(RetryableError):
                    await consumer.listen(world, until_final=3)


async def test_finality__one_of_three_has_a_branch_of_its_own__the_others_are_followed(make: MakeWorld):
    """It answers best, so it is asked first; what it says fits together, so only the others can tell."""
    world = await make(None, None, None)
    await world.mine(0, 0)
    own = FakeWorld()
    own.fake.blocks, own.fake.known = list(world.fake.blocks), dict(world.fake.known)
    world.nodes[0].chain = own.fake
    await own.mine(2, 2, 2, 2, 2, 2, 2, 2)
    await world.mine(1, 1, 1, 1, 1, 1, 1)
    consumer = Consumer(0)
    async with asyncio.timeout(20):
        while consumer.final < 5:
            with contextlib.suppress(RetryableError):
                await consumer.listen(world, until_final=5)
    assert {number: count for number, count in consumer.counts().items() if 3 <= number <= 5} == {3: 1, 4: 1, 5: 1}


async def test_deep_reorg__told_by_one_while_the_other_cannot_answer__disagrees(make: MakeWorld):
    world = await make(None, None)
    await world.mine(0, 0, 0, 0, 0, 0)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=2)
    await world.fork(6, *[0] * 8)
    world.nodes[1].status = 503
    with pytest.raises(ChainDisagrees, match="too few"):
        await consumer.listen(world)


async def test_head__far_ahead_with_nothing_behind_it__another_is_followed(make: MakeWorld):
    """It claims the highest head and shows none of its blocks."""

    def boasts(method: str, params: list[Any], answer: Any) -> Any:
        if params[:1] == ["latest"]:
            return answer | {"number": hex(1000), "hash": "0x" + "77" * 32}
        known = params[:1] != [hex(3)] and params[:1] != [hex(4)]
        return answer if known or method != "eth_getBlockByNumber" else None

    world = await make(None, boasts)
    await world.mine(1, 1)
    consumer = Consumer(0)
    await consumer.listen(world)
    world.rpc.prefer(world.rpc.endpoints[1])
    await world.mine(1, 1)
    await consumer.listen(world)
    assert consumer.counts() == dict.fromkeys(range(1, 5), 1)


async def test_fork__parents_that_lead_nowhere__an_end_to_the_walk(make: MakeWorld):
    """Each made-up block has a parent, and no number gets any lower."""

    def endless(method: str, params: list[Any], answer: Any) -> Any:
        asked_by_hash = method == "eth_getBlockByHash"
        if not asked_by_hash and params[:1] != ["latest"]:
            return answer
        hash_ = bytes.fromhex(params[0][2:]) if asked_by_hash else b"\x01" * 32
        parent = bytes((byte + 1) % 256 for byte in hash_)
        header = {"number": hex(9), "timestamp": "0x1", "logsBloom": "0x0"}
        return header | {"hash": "0x" + hash_.hex(), "parentHash": "0x" + parent.hex()}

    world = await make(None)
    await world.mine(0, 0, 0, 0, 0, 0, 0, 0)
    consumer = Consumer(0)
    await consumer.listen(world)
    world.nodes[0].lie = endless
    with pytest.raises(ChainDisagrees, match="parent"):
        async with asyncio.timeout(10):
            while True:
                await consumer.listen_once(world)


@pytest.mark.parametrize("words", ["block range is too wide", "query returned more than 10000 results"])
async def test_backfill__provider_limits_ranges__asks_for_less(make: MakeWorld, words: str):
    def limited(method: str, params: list[Any], answer: Any) -> Any:
        if method == "eth_getLogs" and "fromBlock" in params[0]:
            width = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
            if width > 10:
                raise Refuse(-32000, words)
        return answer

    world = await make(limited)
    await world.mine(*[1] * 100)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=96)
    assert sum(consumer.counts().values()) == 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"address": "0x" + "99" * 20}, "contracts that were not asked for"),
        ({"blockNumber": "0x4"}, "outside|another block"),
        ({"blockHash": "0x" + "99" * 32}, "another block|do not belong"),
        ({"logIndex": None}, "incomplete"),
        ({"removed": True}, "removed"),
        ({"topics": ["0x12"]}, "not 32 bytes"),
    ],
)
async def test_logs__not_what_was_asked_for__refused(make: MakeWorld, change: dict[str, Any], said: str):
    def altered(method: str, params: list[Any], answer: Any) -> Any:
        return [log | change for log in answer] if method == "eth_getLogs" else answer

    world = await make(altered)
    await world.mine(2, 1)
    with pytest.raises(ChainDisagrees, match=said):
        await Consumer(0).listen(world)


async def test_logs__one_twice__refused(make: MakeWorld):
    world = await make(lambda method, params, answer: answer * 2 if method == "eth_getLogs" else answer)
    await world.mine(1)
    with pytest.raises(ChainDisagrees, match="out of order"):
        await Consumer(0).listen(world)


async def test_head__node_falls_behind__another_is_followed(make: MakeWorld):
    world = await make(None, None)
    await world.mine(1)
    consumer = Consumer(0)
    await consumer.listen(world)
    world.nodes[0].head = 1
    await world.mine(1, 1)
    await consumer.listen(world)
    assert consumer.reorgs == []


async def test_head__goes_back__nothing_is_undone(make: MakeWorld):
    world = await make(None)
    await world.mine(1, 1, 1)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=0)
    world.nodes[0].head = 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await consumer.listen_once(world)
    world.nodes[0].head = None
    await world.mine(1)
    await consumer.listen(world)
    assert (consumer.reorgs, len(consumer.blocks)) == ([], 5)


async def test_head__null_at_the_tip__waits_for_it(make: MakeWorld):
    def hasty(method: str, params: list[Any], answer: Any) -> Any:
        by_number = method == "eth_getBlockByNumber" and params[0].startswith("0x")
        return None if by_number and int(params[0], 16) >= 2 and world.nodes[0].count(method) < 12 else answer

    world = await make(hasty)
    await world.mine(1, 1, 1)
    consumer = Consumer(0)
    await consumer.listen(world)
    assert len(consumer.blocks) == 4


async def test_syncing_node__contradicts_final__no_deep_reorg(make: MakeWorld):
    world = await make(lambda method, params, answer: True if method == "eth_syncing" else answer)
    await world.mine(0, 0, 0, 0, 0, 0)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=2)
    await world.fork(6, *[0] * 8)
    with pytest.raises(ChainDisagrees, match="syncing"):
        await consumer.listen(world)
    world.nodes[0].lie = lambda method, params, answer: answer
    with pytest.raises(DeepReorg):
        await consumer.listen(world)


async def test_deep_reorg__one_node_of_two_keeps_the_chain__disagrees(make: MakeWorld):
    world = await make(None, None)
    await world.mine(0, 0, 0, 0, 0, 0)
    consumer = Consumer(0)
    await consumer.listen(world, until_final=2)
    kept = FakeWorld().fake
    kept.blocks, kept.known, kept.finalized = list(world.fake.blocks), dict(world.fake.known), world.fake.finalized
    world.nodes[1].chain = kept
    await world.fork(6, *[0] * 8)
    with pytest.raises(ChainDisagrees):
        await consumer.listen(world)


async def test_nodes__one_hangs__the_other_answers(make: MakeWorld):
    world = await make(lambda *_: HANG, None, timeout_ms=100)
    await world.mine(1, 2)
    consumer = Consumer(0)
    await consumer.listen(world)
    assert consumer.counts() == {1: 1, 2: 2}


async def test_nodes__all_gone__unavailable_and_no_other_error(make: MakeWorld):
    world = await make(None)
    await world.nodes[0].stop()
    with pytest.raises(ChainUnavailable):
        await Consumer(0).listen(world)


@pytest.mark.parametrize(
    "nonsense",
    [None, 5, "0x", [], {}, {"number": None, "hash": None}, [None], {"number": "0x1", "hash": "0x12"}],
)
async def test_nodes__nonsense_instead_of_blocks__a_retryable_error(make: MakeWorld, nonsense: Any):
    world = await make(lambda method, params, answer: nonsense if method == "eth_getBlockByNumber" else answer)
    await world.mine(1)
    with pytest.raises(RetryableError):
        await Consumer(0).listen(world)


@pytest.mark.parametrize("nonsense", [None, 5, "0x", {}, [None], [5], [[]], [{}]])
async def test_nodes__nonsense_instead_of_logs__a_retryable_error(make: MakeWorld, nonsense: Any):
    world = await make(lambda method, params, answer: nonsense if method == "eth_getLogs" else answer)
    await world.mine(*[1] * 80)
    with pytest.raises(RetryableError):
        await Consumer(0).listen(world)


async def test_check__other_chain__says_what_to_write(make: MakeWorld):
    world = await make(lambda method, params, answer: "0x5" if method == "eth_chainId" else answer)
    with pytest.raises(ConfigError, match="chain id 5"):
        await world.reader.check()


async def test_check__no_finalized_tag__says_to_use_a_depth(make: MakeWorld):
    def untagged(method: str, params: list[Any], answer: Any) -> Any:
        if params[:1] == ["finalized"]:
            raise Refuse(-32602, "unknown tag")
        return answer

    world = await make(untagged)
    with pytest.raises(ConfigError, match="depth"):
        await world.reader.check()


async def test_check__nobody_there__unreachable(make: MakeWorld):
    world = await make(None)
    await world.reader.check()
    await world.nodes[0].stop()
    with pytest.raises(ConfigError, match="no endpoint answers"):
        await world.reader.check()


async def test_orphan__comes_back__followed_again(make: MakeWorld):
    world = await make(None)
    await world.mine(1, 1, 1)
    tip: Block = world.fake.head
    consumer = Consumer(0)
    await consumer.listen(world)
    await world.fork(2, 0, 0, 0)
    await consumer.listen(world)
    world.fake.restore(tip.hash)
    await world.mine(1, 1)
    await consumer.listen(world)
    assert consumer.counts() == dict.fromkeys(range(1, 6), 1)
