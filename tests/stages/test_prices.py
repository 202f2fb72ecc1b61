"""Price inputs read from feeds of a chain in memory and from markets that do as they are told."""

from dataclasses import dataclass, field, replace

import pytest

from bridge.chains.evm.aggregator import ROUNDS_AT_ONCE, Aggregators
from bridge.chains.fake.chain import FakeChain
from bridge.chains.fake.reader import FakeReader
from bridge.domain.errors import ChainUnavailable, SourceUnavailable
from bridge.domain.events import Block
from bridge.domain.prices import PHASE_BITS, ROUNDS_MAX, MarketAnswer, PriceFrom, PriceInput
from bridge.domain.readings import Reading
from bridge.domain.units import Address
from bridge.ports.reading import Market
from bridge.runtime.clock import SystemClock
from bridge.stages.prices import PriceSources, read_price

FEED = Address(b"\xfe" * 20)
PHASE = 2 << PHASE_BITS
SPOT = PriceFrom(feed="eth_usd", max_age_s=3600)
MEAN = replace(SPOT, average_s=1800)
ETH = PriceInput("WETH", "USDX", 18, 6, SPOT)
CHECKED = replace(ETH, second=PriceFrom(http="exchange", max_age_s=600), deviation_bps=100)


class Now(SystemClock):
    """A clock that stands still."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now


@dataclass
class Feed:
    """A feed on a chain in memory, of eight decimals; rounds are numbered from the first of a phase on."""

    chain: FakeChain = field(default_factory=FakeChain)
    count: int = 0

    def __post_init__(self) -> None:
        self.reader = FakeReader(self.chain)
        self.chain.answer(FEED, "decimals()", words=[8])

    def push(self, dollars: int, updated_at: int) -> None:
        self.count += 1
        words = [PHASE + self.count, dollars * 10**8, updated_at, updated_at, PHASE + self.count]
        self.chain.answer(FEED, "latestRoundData()", words=words)
        self.chain.answer(FEED, "getRoundData(uint80)", PHASE + self.count, words=words)

    async def read(self, source: PriceInput, at: Block, *, now: int | None = None, **markets: Market) -> Reading:
        sources = PriceSources(Aggregators(self.reader), markets, Now(at.timestamp if now is None else now))
        return await read_price(source, sources, {"eth_usd": FEED}, at)


@dataclass
class Exchange:
    """Implements ports.Market."""

    answer: int | None = None  # × 10^-2
    asked: list[Block] = field(default_factory=list)

    async def quote(self, at: Block) -> MarketAnswer:
        self.asked.append(at)
        if self.answer is None:
            raise SourceUnavailable("market exchange does not answer: TimeoutError")
        return MarketAnswer(self.answer, 2, at.timestamp, {"market": "exchange"})


@pytest.fixture
def feed() -> Feed:
    return Feed()


async def test_read_price__newest_round__as_it_was_at_the_block(feed: Feed):
    feed.push(2000, feed.chain.head.timestamp)
    before = feed.chain.mine()
    feed.push(3000, before.timestamp)
    after = feed.chain.mine()
    readings = [await feed.read(ETH, at) for at in (before, after)]
    assert [reading.value for reading in readings] == [2000 * 10**24, 3000 * 10**24]
    assert readings[0].parts["round"] == str(PHASE + 1)
    assert readings[0].problem is None


async def test_read_price__no_contract_or_no_round__held(feed: Feed):
    block = feed.chain.mine()
    assert "no round" in str((await feed.read(ETH, block)).problem)
    feed.chain.answer(FEED, "decimals()", words=[])
    block = feed.chain.mine()
    assert "decimals()" in str((await feed.read(ETH, block)).problem)


async def test_read_price__stale__by_the_blocks_time_and_no_other(feed: Feed):
    feed.push(2000, feed.chain.head.timestamp)
    pushed = feed.chain.head.timestamp
    at_the_limit = feed.chain.mine(timestamp=pushed + 3600)
    too_late = feed.chain.mine(timestamp=pushed + 3601)
    assert (await feed.read(ETH, at_the_limit, now=pushed + 10**9)).problem is None
    assert "stale" in str((await feed.read(ETH, too_late, now=pushed)).problem)


@pytest.mark.parametrize("every_s", [10, 60, 450, 1799])
async def test_read_price__average__of_as_many_rounds_as_it_takes(feed: Feed, every_s: int):
    start = feed.chain.head.timestamp
    prices = {start + every_s * place: 1000 + 7 * place for place in range(4000 // every_s)}
    for updated_at, dollars in prices.items():
        feed.push(dollars, updated_at)
    block = feed.chain.mine(timestamp=max(prices) + every_s // 2)
    window = range(block.timestamp - 1800, block.timestamp)
    weighted = sum(prices[max(at for at in prices if at <= second)] for second in window)
    reading = await feed.read(replace(ETH, first=MEAN), block)
    assert (reading.value, reading.problem) == (weighted * 10**24 // 1800, None)
    kept = [int(text.split("@")[1]) for text in reading.parts["rounds"].split(" ")]
    assert kept[-1] <= window.start
    assert all(updated_at > window.start for updated_at in kept[:-1])


async def test_read_price__average_reaches_before_the_first_round__held(feed: Feed):
    start = feed.chain.head.timestamp
    for place in range(ROUNDS_AT_ONCE + 3):
        feed.push(2000, start + place)
    reading = await feed.read(replace(ETH, first=MEAN), feed.chain.mine(timestamp=start + 1799))
    assert f"the round before {PHASE + 1} is missing" in str(reading.problem)


async def test_read_price__average_of_too_many_rounds__held_and_no_more_are_read(feed: Feed):
    start = feed.chain.head.timestamp
    for place in range(ROUNDS_MAX + 50):
        feed.push(2000, start + 1800 + place)
    block = feed.chain.mine(timestamp=start + 2100)
    reading = await feed.read(replace(ETH, first=MEAN), block)
    assert f"more than {ROUNDS_MAX} rounds" in str(reading.problem)
    assert len(reading.parts["rounds"].split(" ")) == ROUNDS_MAX


async def test_read_price__a_round_answers_with_another__it_is_missing(feed: Feed):
    start = feed.chain.head.timestamp
    feed.push(2000, start)
    feed.push(2000, start + 1000)
    words = [PHASE + 7, 10**8, start, start, PHASE + 7]
    feed.chain.answer(FEED, "getRoundData(uint80)", PHASE + 1, words=words)
    reading = await feed.read(replace(ETH, first=MEAN), feed.chain.mine(timestamp=start + 2000))
    assert f"the round before {PHASE + 2} is missing" in str(reading.problem)


async def test_read_price__node_fails__asked_again_later(feed: Feed):
    feed.push(2000, feed.chain.head.timestamp)
    block = feed.chain.mine()
    feed.reader.faults.append(ChainUnavailable("no endpoint answers"))
    with pytest.raises(ChainUnavailable):
        await feed.read(ETH, block)
    assert (await feed.read(ETH, block)).problem is None


async def test_read_price__second_source__agrees_or_holds(feed: Feed):
    feed.push(2000, feed.chain.head.timestamp)
    block = feed.chain.mine()
    agreeing = await feed.read(CHECKED, block, exchange=Exchange(2020_00))
    assert (agreeing.value, agreeing.problem) == (2000 * 10**24, None)
    assert agreeing.parts["second_market"] == "exchange"
    assert agreeing.parts["deviation_bps"] == "100"
    apart = await feed.read(CHECKED, block, exchange=Exchange(2020_01))
    assert (apart.value, apart.problem) == (0, "the two sources are 101 bps apart, 100 are allowed")


async def test_read_price__market_does_not_answer__asked_again_while_it_may_help_then_held(feed: Feed):
    feed.push(2000, feed.chain.head.timestamp)
    block = feed.chain.mine()
    exchange = Exchange()
    with pytest.raises(SourceUnavailable):
        await feed.read(CHECKED, block, now=block.timestamp + 600, exchange=exchange)
    late = await feed.read(CHECKED, block, now=block.timestamp + 601, exchange=exchange)
    assert late.problem == "second source: market exchange does not answer: TimeoutError"
    assert exchange.asked == [block, block]
