"""The Solana reader against nodes that lie, lag, forget, refuse and hang, and its reads of past states."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import follow, signatures, witness
from bridge.chains.solana.history import SolanaHistory
from bridge.chains.solana.logs import DEPOSITED, FEE_PAID, RECORDED, WITHDRAWN, derive
from bridge.chains.solana.rpc import RpcRefused, SolanaRpc
from bridge.chains.solana.tokens import Token, look_around
from bridge.chains.solana.transactions import OPTIONS, parse_transaction, read_record
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, ConfigError, DeepReorg, RetryableError
from bridge.domain.events import BlockAdded, Finalized, Reorged, TimedLogs, unpack_logs
from bridge.domain.units import Address, BlockStamp, base58, from_base58
from bridge.ports.reading import LogFilter
from bridge.simulation.svm.faults import Fault, Kind
from bridge.simulation.svm.settings import Settings
from tests.chains.consumer import Consumer
from tests.chains.solana_world import SolanaWorld, address_of, memo

Lie = Callable[[str, list[Any], Any], Any]
SETTINGS = Settings(timer=False, confirmed_depth=0, finalized_depth=0, genesis_time=1_700_000_000)


class LyingRpc(SolanaRpc):
    """Endpoints whose answers are changed on their way."""

    def __init__(self, urls: list[str], lies: dict[int, Lie]) -> None:
        super().__init__(urls, timeout_ms=5_000)
        self.lies = {self.endpoints[index].name: lie for index, lie in lies.items()}

    async def call_on(self, endpoint: Endpoint, method: str, params: Any = ()) -> Any:
        answer = await super().call_on(endpoint, method, params)
        lie = self.lies.get(endpoint.name)
        return answer if lie is None else lie(method, list(params), answer)

    async def batch_on(self, endpoint: Endpoint, calls: Any) -> list[Any]:
        answers = await super().batch_on(endpoint, calls)
        lie = self.lies.get(endpoint.name)
        if lie is None:
            return answers
        return [lie(method, list(params), answer) for (method, params), answer in zip(calls, answers, strict=True)]


Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*lies: Lie | None, settings: Settings = SETTINGS) -> SolanaWorld:
            world = await stack.enter_async_context(SolanaWorld.start(settings, nodes=len(lies)))
            told = {index: lie for index, lie in enumerate(lies) if lie is not None}
            world.rpc = LyingRpc([node.rpc_url for node in world.nodes], told)
            stack.push_async_callback(world.rpc.close)
            world.reader = world.read_by(world.rpc)
            return world

        yield start


def start_lying(world: SolanaWorld, lie: Lie, *, endpoints: int = 1) -> None:
    assert isinstance(world.rpc, LyingRpc)
    world.rpc.lies = {endpoint.name: lie for endpoint in world.rpc.endpoints[:endpoints]}


def stop_lying(world: SolanaWorld) -> None:
    assert isinstance(world.rpc, LyingRpc)
    world.rpc.lies.clear()


WALKS_MAX = 20


async def patiently(consumer: Consumer, world: SolanaWorld) -> int:
    """As ingest does: after an error that passes, from what is committed. How many walks it took, which is what bounds
    it: how long they take is the machine's affair."""
    for walk in range(1, WALKS_MAX + 1):
        with contextlib.suppress(RetryableError):
            await consumer.listen(world)
            return walk
    raise AssertionError(f"not there after {WALKS_MAX} walks")


# ── What one node alone can do ──────────────────────────────────────────────────────────────────────────────────────
def forgets_newest(method: str, params: list[Any], answer: Any) -> Any:
    return answer[1:] if method == "getSignaturesForAddress" else answer


def lists_nothing(method: str, params: list[Any], answer: Any) -> Any:
    return [] if method == "getSignaturesForAddress" else answer


def hides_transactions(method: str, params: list[Any], answer: Any) -> Any:
    return None if method == "getTransaction" else answer


def hides_tokens(method: str, params: list[Any], answer: Any) -> Any:
    if method == "getTransaction":
        return answer | {"meta": answer["meta"] | {"preTokenBalances": [], "postTokenBalances": []}}
    return answer


def inflates_tokens(method: str, params: list[Any], answer: Any) -> Any:
    if method == "getTransaction":
        for entry in answer["meta"]["postTokenBalances"]:
            entry["uiTokenAmount"]["amount"] = str(int(entry["uiTokenAmount"]["amount"]) + 1)
    return answer


_SWAPPED: list[Any] = []


def swaps_transactions(method: str, params: list[Any], answer: Any) -> Any:
    """Another transaction than the one that was asked for, from the second on: its own signature says so."""
    if method != "getTransaction":
        return answer
    _SWAPPED.append(answer)
    return _SWAPPED[0] | {"slot": answer["slot"]}


def fails_what_succeeded(method: str, params: list[Any], answer: Any) -> Any:
    if method == "getSignaturesForAddress":
        return [entry | {"err": {"InstructionError": [0, "Custom"]}} for entry in answer]
    return answer


def other_slots(method: str, params: list[Any], answer: Any) -> Any:
    if method == "getSignaturesForAddress":
        return [entry | {"slot": entry["slot"] - 1} for entry in answer]
    return answer


def lists_twice(method: str, params: list[Any], answer: Any) -> Any:
    return [entry for entry in answer for _ in range(2)] if method == "getSignaturesForAddress" else answer


LIES = [
    forgets_newest,
    lists_nothing,
    hides_transactions,
    hides_tokens,
    inflates_tokens,
    swaps_transactions,
    fails_what_succeeded,
    other_slots,
    lists_twice,
]


@pytest.mark.parametrize("lie", LIES)
async def test_follow__one_node_that_lies__contradicts_itself_and_nothing_is_handed_on(make: Make, lie: Lie):
    world = await make(None)
    await world.mine(1)
    consumer = Consumer(world.first)
    await consumer.listen(world, until_final=world.first)
    start_lying(world, lie)
    await world.mine(2, 1, 3)
    for _ in range(2):
        with pytest.raises(RetryableError):
            await consumer.listen(world)
        assert consumer.final == world.first
    stop_lying(world)
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 7


async def test_follow__middle_of_the_list_is_missing__seen_by_what_comes_after(make: Make):
    def forgets_one(method: str, params: list[Any], answer: Any) -> Any:
        if method == "getSignaturesForAddress" and len(answer) > 2:
            return answer[:1] + answer[2:]
        return answer

    world = await make(forgets_one)
    await world.mine(1, 1, 1, 1)
    consumer = Consumer(world.first)
    with pytest.raises(ChainDisagrees, match="gap"):
        await consumer.listen(world)
    stop_lying(world)
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 4


@pytest.mark.parametrize("lie", LIES)
async def test_follow__one_of_three_lies__outvoted(make: Make, lie: Lie):
    world = await make(lie, None, None)
    consumer = Consumer(world.first)
    for counts in ((2, 1), (0, 3)):
        await world.mine(*counts)
        await patiently(consumer, world)
    assert sum(consumer.counts().values()) == 6
    assert all(event.read_by != event.verified_by for event in consumer.finalized)


async def test_follow__two_nodes_differ__nothing_is_final_until_they_agree(make: Make):
    world = await make(None, forgets_newest)
    await world.mine(2, 1)
    consumer = Consumer(world.first)
    with pytest.raises(RetryableError):
        await consumer.listen(world)
    assert consumer.blocks == []
    stop_lying(world)
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 3


# ── Behind, forgetful, busy ─────────────────────────────────────────────────────────────────────────────────────────
async def test_follow__second_node_lags__no_further_than_both_have_come(make: Make):
    world = await make(None, None)
    await world.mine(1, 1, 1, 1)
    world.nodes[1].faults.lag_blocks = 2
    consumer = Consumer(world.first)
    chain = await world.chain()
    async with contextlib.aclosing(world.reader.follow(consumer.cursor(), world.filters)) as events:
        for _ in range(2):
            consumer.apply(await anext(events))
        assert consumer.final == chain[-3].number
        world.nodes[1].faults.clear()
        for _ in range(2):
            consumer.apply(await anext(events))
    assert (consumer.final, sum(consumer.counts().values())) == (chain[-1].number, 4)


async def test_follow__transactions_not_written_down_yet__waits(make: Make):
    world = await make(None)
    await world.mine(1, 1)
    world.node.faults.unwritten_blocks = 1
    consumer = Consumer(world.first)
    with pytest.raises(RetryableError):
        await consumer.listen(world)
    world.node.faults.clear()
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 2


async def test_follow__history_begins_too_late__a_gap_that_is_named_and_another_fills(make: Make):
    world = await make(None, None)
    await world.mine(1, 1, 1)
    for node in world.nodes:
        node.faults.forgotten_before_slot = world.first + 1
    consumer = Consumer(world.first)
    with pytest.raises(ChainUnavailable, match=f"begins with block {world.first + 1}"):
        await consumer.listen(world)
    for node in world.nodes:
        node.faults.clear()
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 3


async def test_follow__quiet_for_longer_than_nodes_remember__goes_on(make: Make):
    """The newest transaction that is known of an account is where its list is to end; no node has it any more."""
    world = await make(None)
    consumer = Consumer(world.first)
    await world.mine(1)
    async with contextlib.aclosing(world.reader.follow(consumer.cursor(), world.filters)) as events:
        for _ in range(2):
            consumer.apply(await anext(events))
        world.node.chain.advance_blocks(3)
        for _ in range(2):
            consumer.apply(await anext(events))
        world.node.faults.forgotten_before_slot = world.node.chain.head.slot
        world.node.faults.strict_cursors = True
        await world.mine(2)
        for _ in range(2):
            consumer.apply(await anext(events))
    assert consumer.counts() == {world.first: 1, world.node.chain.head.slot: 2}


async def test_follow__listed_and_not_there__a_gap_that_is_named(make: Make):
    world = await make(hides_transactions)
    await world.mine(1)
    with pytest.raises(ChainUnavailable, match="has a gap: it lists transaction"):
        await Consumer(world.first).listen(world)


async def test_follow__too_many_requests__slower_and_complete(make: Make, monkeypatch: pytest.MonkeyPatch):
    """A range is read twice. So many refusals that, whichever read meets them, one gives up and with it the walk; and
    so few that the next walk waits them out. Lists are refused too, but never so often that anybody gives up."""
    monkeypatch.setattr("bridge.chains.solana.witness.PAUSE_FIRST_MS", 1)
    world = await make(None)
    await world.mine(5, 5)
    faults = world.node.faults.requests
    faults.append(Fault(Kind.RATE_LIMIT, "getTransaction", remaining=2 * witness.TRIES_MAX - 1))
    faults.append(Fault(Kind.RATE_LIMIT, "getSignaturesForAddress", remaining=witness.TRIES_MAX - 1))
    faults.append(Fault(Kind.ERROR, "getBlock", remaining=2))
    consumer = Consumer(world.first)
    assert await patiently(consumer, world) == 2
    assert consumer.counts() == {world.first: 5, world.first + 1: 5}
    assert faults == []  # each was met, and asked past


async def test_follow__node_takes_one_call_at_a_time__asked_so(make: Make, monkeypatch: pytest.MonkeyPatch):
    async def refuse(self: SolanaRpc, endpoint: Endpoint, calls: Any) -> list[Any]:
        raise RpcRefused(endpoint.name, "batch", -32600, "batches are not served")

    monkeypatch.setattr(SolanaRpc, "batch_on", refuse)
    world = await make(None)
    await world.mine(3, 2)
    consumer = Consumer(world.first)
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 5


async def test_follow__first_node_is_gone__the_others_are_read(make: Make):
    world = await make(None, None, None)
    world.node.faults.requests.append(Fault(Kind.CLOSE, remaining=None))
    await world.mine(1, 2)
    consumer = Consumer(world.first)
    await patiently(consumer, world)
    assert sum(consumer.counts().values()) == 3


# ── Ranges, restarts, reorganisations that must not be ──────────────────────────────────────────────────────────────
async def test_follow__long_backfill__in_ranges_and_in_bounded_lists(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(follow, "TRANSACTIONS_MAX", 5)
    monkeypatch.setattr(signatures, "PAGE", 3)
    monkeypatch.setattr(
        signatures.list_hits, "__kwdefaults__", {**(signatures.list_hits.__kwdefaults__ or {}), "held_max": 20}
    )
    world = await make(None)
    counts = [number % 4 for number in range(24)]
    await world.mine(*counts)
    consumer = Consumer(world.first)
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == sum(counts)
    assert len(consumer.finalized) >= sum(counts) // 8
    assert max(event.logs for event in consumer.finalized) <= 8


async def test_follow__stored_otherwise_than_it_is_read_now__handed_on_again(make: Make):
    """What was stored before a crash came from other filters, say: the configuration has changed."""
    world = await make(None)
    await world.mine(0, 0)
    consumer = Consumer(world.first)
    await consumer.listen(world)
    await consumer.listen(world)
    await world.mine(2, 1)
    watched, world.filters = world.filters, [LogFilter((Address(bytes(32)),))]
    async with contextlib.aclosing(world.reader.follow(consumer.cursor(), world.filters)) as events:
        final = await anext(events)
        assert isinstance(final, Finalized)  # the range of before, still pending
        consumer.apply(final)
        added = await anext(events)
        assert isinstance(added, BlockAdded)
        consumer.apply(added)
    world.filters = watched
    async with contextlib.aclosing(world.reader.follow(consumer.cursor(), world.filters)) as events:
        cut = await anext(events)
        assert isinstance(cut, Reorged)
        assert cut.ancestor.number == consumer.final
        consumer.apply(cut)
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 3


async def test_follow__first_range_stored_otherwise__cut_to_before_the_start(make: Make):
    world = await make(None)
    await world.mine(2)
    watched, world.filters = world.filters, [LogFilter((Address(bytes(32)),))]
    consumer = Consumer(world.first)
    await consumer.listen_once(world)
    world.filters = watched
    await consumer.listen_once(world)
    assert [event.ancestor.number for event in consumer.reorgs] == [world.first - 1]
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 2


def other_block(slot: int) -> Lie:
    def lie(method: str, params: list[Any], answer: Any) -> Any:
        return answer | {"blockhash": base58(b"\x99" * 32)} if method == "getBlock" and params[0] == slot else answer

    return lie


@pytest.mark.parametrize("everybody", [True, False])
async def test_follow__final_block_replaced__deep_reorg_only_if_all_say_so(make: Make, *, everybody: bool):
    world = await make(None, None)
    await world.mine(1, 1)
    consumer = Consumer(world.first)
    last = world.node.chain.head.slot
    await consumer.listen(world, until_final=last)
    start_lying(world, other_block(last), endpoints=2 if everybody else 1)
    await world.mine(1)
    with pytest.raises(DeepReorg if everybody else ChainDisagrees):
        await consumer.listen(world)
    assert consumer.final == last


async def test_follow__skipped_slots__no_holes_in_what_is_handed_on(make: Make):
    world = await make(None, settings=replace(SETTINGS, skipped_per_mille=400, seed=5))
    await world.mine(1, 0, 2, 0, 0, 1)
    chain = await world.chain()
    consumer = Consumer(world.first)
    await consumer.listen(world)
    assert sum(consumer.counts().values()) == 4
    numbers = [block.number for block in chain]
    skipped = next(slot for slot in range(numbers[0], numbers[-1]) if slot not in numbers)
    before = max(number for number in numbers if number < skipped)
    assert await world.reader.blocks([skipped, before]) == [chain[numbers.index(before)]] * 2


async def test_history__ranges_of_the_past__all_logs_in_order_and_up_to_the_last_block(
    make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(follow, "TRANSACTIONS_MAX", 4)
    world = await make(None, None, settings=replace(SETTINGS, skipped_slots=frozenset({1_030})))
    await world.mine(*[2, 0, 1] * 5)
    history = SolanaHistory("solana", world.rpc, world.names)
    newest = await history.finalized()
    assert newest == (await world.chain())[-1]
    assert newest is not None
    first = world.first
    added: list[BlockAdded] = []
    async for each in history.ranges(first, newest.number, world.filters):
        assert each.first == (added[-1].blocks[-1].number + 1 if added else first)
        added.append(each)
    assert sum(each.logs.count for each in added) == 15
    assert added[-1].blocks[-1] == newest
    one = [each async for each in history.ranges(1_030, 1_030, world.filters)]
    assert [each.logs.count for each in one] == []


# ── The socket ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("silent", [False, True])
async def test_wake__money_moves__looked_at_when_the_socket_says_so_or_the_interval_ends(make: Make, *, silent: bool):
    world = await make(None)
    await world.mine(0)
    interval_ms = 300 if silent else 60_000
    world.reader = world.read_by(world.rpc, wake_url=world.node.ws_url, poll_interval_ms=interval_ms)
    world.node.faults.withhold_notifications = silent
    consumer = Consumer(world.first)
    async with asyncio.timeout(30), contextlib.aclosing(world.reader.follow(consumer.cursor(), world.filters)) as news:
        for _ in range(2):
            consumer.apply(await anext(news))
        following = asyncio.ensure_future(anext(news))
        while not following.done():  # what moves before the socket is there wakes nobody
            await world.mine(1)
            await asyncio.wait([following], timeout=0.2)
        consumer.apply(await following)
    assert sum(consumer.counts().values()) >= 1


async def test_wake__nobody_there__polls(make: Make):
    world = await make(None)
    world.reader = world.read_by(world.rpc, wake_url="ws://127.0.0.1:9/", poll_interval_ms=5)
    consumer = Consumer(world.first)
    for _ in range(2):
        await world.mine(1)
        await consumer.listen(world)
    assert sum(consumer.counts().values()) == 2


# ── What is handed on ───────────────────────────────────────────────────────────────────────────────────────────────
async def test_logs__fee_deposit_withdrawal__and_the_record_that_they_come_from(make: Make):
    world = await make(None)
    payer, pool, vault = world.people[0], world.pool, world.vault
    world.send([world.pay(payer, vault, 7), memo("fee")], payer)
    world.send([world.pay(payer, pool, 5)], payer)
    world.send([world.pay(pool, payer, 3)], pool)
    world.send([world.pay(payer, vault, 10**18)], payer)  # fails
    world.node.chain.advance_blocks()
    world.filters = [LogFilter((address_of(vault), address_of(pool)))]
    world.reader = world.read_by(world.rpc, keep_records=True)
    consumer = Consumer(world.first)
    await consumer.listen(world)
    logs = unpack_logs("solana", TimedLogs(consumer.logs, [1_700_000_000] * consumer.logs.count))
    kinds = {FEE_PAID: "fee", DEPOSITED: "deposit", WITHDRAWN: "withdrawal", RECORDED: "record"}
    told = [(log.tx_index, kinds[log.topics[0]]) for log in logs]
    assert told == [(0, "fee"), (0, "record"), (1, "deposit"), (1, "record"), (2, "withdrawal"), (2, "record")]
    watch = (await look_around(world.rpc, world.names, "solana")).watch
    for log in logs:
        if log.topics[0] == RECORDED:
            again = derive(read_record(log.data, log.block.number), watch)
            others = [other for other in logs if other.tx_index == log.tx_index]
            assert {(other.topics, other.data) for other in others} <= {(each.topics, each.data) for each in again}


async def test_logs__native_coin_alone__no_token_account_is_needed(make: Make):
    world = await make(None)
    world.names = replace(world.names, tokens={"SOL": Token(Address(bytes(32)), 9)})
    world.reader = world.read_by(world.rpc)
    await world.reader.check()
    params = TransferParams(from_pubkey=world.people[0].pubkey(), to_pubkey=world.vault.pubkey(), lamports=7)
    world.send([transfer(params)], world.people[0])
    world.node.chain.advance_blocks()
    world.filters = [LogFilter((Address(bytes(32)),))]
    consumer = Consumer(world.first)
    await consumer.listen(world)
    assert consumer.logs.data == (7).to_bytes(32)


async def test_follow__nodes_run_ahead_of_what_is_agreed__each_log_once(make: Make):
    """While it is read, money goes on moving: the state that a node gives is newer than the range."""
    moved = 0

    def meanwhile(method: str, params: list[Any], answer: Any) -> Any:
        nonlocal moved
        if method in ("getSlot", "getMultipleAccounts") and moved < 30:
            moved += 1
            world.send([world.pay(world.people[0], world.vault, 1)], world.people[0])
            world.node.chain.advance_blocks()
        return answer

    world = await make(meanwhile, meanwhile)
    consumer = Consumer(world.first)
    async with asyncio.timeout(20):
        while consumer.final < world.node.chain.head.slot or moved < 30:
            await consumer.listen_once(world)
    assert sum(consumer.counts().values()) == 30


@pytest.mark.parametrize("native", [False, True])
async def test_logs__native_coin__transfers_and_the_fees_of_what_failed(make: Make, *, native: bool):
    world = await make(None)
    if native:
        tokens = {**world.names.tokens, "SOL": Token(Address(bytes(32)), 9)}
        world.names = replace(world.names, tokens=tokens)
        world.reader = world.read_by(world.rpc)
    vault, to = world.vault.pubkey(), world.people[0].pubkey()
    world.send([transfer(TransferParams(from_pubkey=vault, to_pubkey=to, lamports=2_000))], world.vault)
    world.send([world.pay(world.vault, world.people[0], 10**18)], world.vault)  # fails, and costs its fee
    world.node.chain.advance_blocks()
    world.filters = [LogFilter((Address(bytes(32)),))]
    consumer = Consumer(world.first)
    await consumer.listen(world)
    moved = [int.from_bytes(consumer.logs.data[at : at + 32]) for at in range(0, len(consumer.logs.data), 32)]
    assert moved == ([5_000, 2_000, 5_000] if native else [])
    chain = await world.chain()
    before, after = (BlockStamp("solana", block.number, block.hash) for block in chain[-2:])
    held = [await world.reader.balance(address_of(world.vault), world.native, at) for at in (before, after)]
    assert held[0] - held[1] == 12_000


# ── Reads of the past ───────────────────────────────────────────────────────────────────────────────────────────────
async def test_reads__any_block__what_was_there_at_its_end(make: Make):
    world = await make(None, None)
    mint = Address(bytes(world.token.mint))
    world.names = replace(world.names, contracts={**world.names.contracts, "obligations": mint})
    world.reader = world.read_by(world.rpc)
    held = supply = 0
    expected: list[tuple[int, int, int]] = []
    supply = 5_000_000
    for number in range(6):
        for atoms in range(number % 3):
            world.send([world.pay(world.people[0], world.vault, atoms + 1)], world.people[0])
            held += atoms + 1
        if number % 2:
            world.send([world.print_money(world.vault, 10)], world.scene.director)
            held, supply = held + 10, supply + 10
        world.node.chain.advance_blocks()
        expected.append((world.node.chain.head.slot, held, supply))
    chain = {block.number: block for block in await world.chain()}
    for slot, holds, minted in expected:
        at = BlockStamp("solana", slot, chain[slot].hash)
        assert await world.reader.balance(address_of(world.vault), world.asset, at) == holds
        assert await world.reader.read_call(mint, "totalSupply()", (), at) == (minted,)
        assert await world.reader.read_call(mint, "total()", (), at) == (minted,)
        assert await world.reader.read_call(address_of(world.vault), "total()", (), at) == (holds,)
        asked = await world.reader.read_call(mint, "balanceOf(address)", (address_of(world.vault),), at)
        assert asked == (holds,)
        assert await world.reader.read_call(mint, "rate()", (), at) is None


async def test_reads__one_of_three_has_another_past__outvoted(make: Make):
    world = await make(inflates_tokens, None, None)
    await world.mine(1, 2)
    at = (await world.chain())[-2]
    stamp = BlockStamp("solana", at.number, at.hash)
    assert await world.reader.balance(address_of(world.vault), world.asset, stamp) == 1


async def test_reads__state_pruned__unavailable(make: Make):
    world = await make(None)
    await world.mine(1, 2)
    at = (await world.chain())[-2]
    world.node.faults.forgotten_before_slot = at.number + 1
    with pytest.raises(ChainDisagrees):
        await world.reader.balance(address_of(world.vault), world.asset, BlockStamp("solana", at.number, at.hash))


# ── At start ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_check__what_is_configured_is_there__passes(make: Make):
    world = await make(None, None)
    await world.reader.check()
    assert world.reader.reference == f"solana:{world.node.chain.genesis_hash!s:.32}"


async def test_check__another_cluster__named_with_both_hashes(make: Make):
    def mainnet(method: str, params: list[Any], answer: Any) -> Any:
        return base58(b"\x44" * 32) if method == "getGenesisHash" else answer

    world = await make(None, mainnet)
    with pytest.raises(ConfigError, match="genesis hash") as caught:
        await world.reader.check()
    assert base58(b"\x44" * 32) in str(caught.value)
    assert str(world.node.chain.genesis_hash) in str(caught.value)


async def test_check__mint_that_is_none_decimals_and_vault__each_named(make: Make):
    world = await make(None)
    mint = Address(bytes(world.token.mint))
    for names, said in (
        (replace(world.names, tokens={"USDX": Token(mint, 9)}), "has 6 decimals, configured are 9"),
        (replace(world.names, tokens={"USDX": Token(Address(b"\x31" * 32), 6)}), "does not exist"),
        (replace(world.names, tokens={"USDX": Token(address_of(world.vault), 6)}), "is no mint"),
        (replace(world.names, contracts={"pool": address_of(world.pool)}), "vault"),
        (replace(world.names, contracts={"vault": mint}), "the vault is a mint"),
        (
            replace(world.names, contracts={**world.names.contracts, "pool": account_of(world)}),
            "is no mint of a token program",
        ),
    ):
        world.names = names
        with pytest.raises(ConfigError, match=said):
            await world.read_by(world.rpc).check()


def account_of(world: SolanaWorld) -> Address:
    return Address(bytes(world.token.account_of(world.vault.pubkey())))


async def test_check__nobody_answers__says_so(make: Make):
    world = await make(None)
    world.node.faults.requests.append(Fault(Kind.CLOSE, remaining=None))
    with pytest.raises(ConfigError, match="no endpoint answers"):
        await world.reader.check()


# ── What is no transaction ──────────────────────────────────────────────────────────────────────────────────────────
async def test_parse__anything_changed__refused_and_no_other_error(make: Make):
    world = await make(None)
    signature = world.send([world.pay(world.people[0], world.vault, 7), memo("fee")], world.people[0])
    world.node.chain.advance_blocks()
    answer = await world.rpc.call("getTransaction", [base58(signature), OPTIONS])
    right = parse_transaction(answer, signature)
    assert read_record(right.record, right.slot) == right
    assert from_base58(base58(signature)) == right.signature
    assert Pubkey(right.keys[0]) == world.people[0].pubkey()
    for path, value in mutations(answer):
        changed = _changed(answer, path, value)
        with contextlib.suppress(ChainDisagrees):
            assert parse_transaction(changed, signature).signature == signature


def mutations(answer: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Every place of a JSON value, with values that do not belong there."""
    wrong: tuple[Any, ...] = (None, -1, 2**70, "", "!", [], {}, [[]], True)
    found = [(path, value) for value in wrong]
    items: Any = ()
    if isinstance(answer, dict):
        items = answer.items()
    elif isinstance(answer, list):
        items = enumerate(answer)
    elif isinstance(answer, str) and len(answer) > 200:  # the transaction itself
        found += [
            (path, answer[:at] + ("A" if answer[at] != "A" else "B") + answer[at + 1 :]) for at in range(0, 400, 9)
        ]
        found += [(path, answer[: 4 * size]) for size in (0, 1, 20, 40)]
    for name, value in items:
        found += mutations(value, (*path, name))
    return found


def _changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    if not path:
        return to
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(value[path[0]], path[1:], to)
    return copy
