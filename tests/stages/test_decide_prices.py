"""Rules that ask for prices, from log bytes to decision: a scripted chain, real decoding, real store."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_abi.abi import encode

from bridge.chains.evm.abi import compile_event
from bridge.chains.evm.aggregator import Aggregators
from bridge.chains.fake.chain import Emit, FakeChain
from bridge.chains.fake.reader import FakeReader
from bridge.domain.errors import SourceUnavailable
from bridge.domain.events import Block
from bridge.domain.prices import MarketAnswer, PriceInput
from bridge.domain.rules import Token
from bridge.domain.units import Address, AssetId
from bridge.runtime.clock import SystemClock
from bridge.runtime.rulefile import parse_rule
from bridge.stages.binding import bind_rules, log_filters
from bridge.stages.decide import Decide
from bridge.stages.explain import explain
from bridge.stages.ingest import Ingest
from bridge.stages.prices import PriceSources, markets_on_record, read_price
from bridge.stages.story_text import render
from bridge.store.database import Database
from bridge.store.leases import Leases

VAULT, FEED, USDX = (Address(bytes([n]) * 20) for n in (0xAA, 0xFE, 0xDD))
PAID = "FeePaid(address indexed payer, uint256 amount)"
HOUR = 3600
START = 500_000 * HOUR
RULE = f"""\
rule: value
version: 1
description: What a fee in WETH is worth
asset: USDX
window: {{every: 1 hour}}
events:
  fee:
    contract: vault
    event: "{PAID}"
    units: {{amount: amount<WETH>}}
inputs:
  fees: {{sum: fee.amount}}
  eth:
    price:
      {{feed: eth_usd, base: WETH, quote: USDX, base_decimals: 18, quote_decimals: 6, max_age: 1 hour,
       second: {{http: exchange}}, deviation: 100 bps}}
surplus: value(fees, eth)
carry: surplus
split: {{shares: [{{to: 0x00000000000000000000000000000000000000a1, bps: 10_000}}]}}
"""


@dataclass
class Exchange:
    """Implements ports.Market: cents, or no answer where there are none."""

    cents: int | None = 2_000_00
    asked: list[int] = field(default_factory=list)

    async def quote(self, at: Block) -> MarketAnswer:
        self.asked.append(at.timestamp)
        if self.cents is None:
            raise SourceUnavailable("market exchange does not answer: HTTP 500")
        return MarketAnswer(self.cents, 2, at.timestamp, {"market": "exchange", "numeral": str(self.cents)})


class Deciding:
    """A chain with one rule, and what was decided of it."""

    def __init__(self, database: Database, text: str = RULE) -> None:
        self.database = database
        self.chain = FakeChain(genesis_timestamp=START, seconds_per_block=HOUR // 4)
        self.exchange = Exchange()
        self.now: int | None = None  # None: far in the future
        self._rounds = 0
        reader = FakeReader(self.chain, {PAID: compile_event(PAID)})
        self._reader = reader
        self._rules = bind_rules(
            [parse_rule(text, name="rule.yaml")],
            chain=reader,
            contracts={"vault": VAULT, "eth_usd": FEED},
            tokens={"USDX": Token(AssetId("fake:fake/erc20:0x" + USDX.hex()), USDX)},
        )
        self.chain.answer(FEED, "decimals()", words=[8])

    def push(self, dollars: int, updated_at: int) -> None:
        self._rounds += 1
        words = [self._rounds, dollars * 10**8, updated_at, updated_at, self._rounds]
        self.chain.answer(FEED, "latestRoundData()", words=words)

    def fee(self, amount: int) -> Emit:
        topics = (compile_event(PAID).topic0, bytes(32))
        return Emit(VAULT, topics, encode(["uint256"], [amount]))

    async def start(self) -> None:
        reader = self._reader
        async with self.database.begin() as transaction:
            await transaction.chains.register(self.chain.name, "test", reader.reference, await reader.genesis_hash(), 0)
        lease = await Leases(self.database).acquire("decide:fake", "a test", 60_000)
        assert lease is not None
        now = self.now

        class Now(SystemClock):
            def now(self) -> int:
                return START + 10**9 if now is None else now

        sources = PriceSources(Aggregators(reader), {"exchange": self.exchange}, Now())
        self._ingest = Ingest(database=self.database, chain=reader, lease=None, filters=log_filters(self._rules))
        self._decide = Decide(database=self.database, chain=reader, rules=self._rules, lease=lease, prices=sources)

    async def run(self) -> list[dict[str, Any]]:
        """Everything that is final is decided: the records, oldest first."""
        async with asyncio.timeout(30):
            while True:
                async with self.database.begin() as transaction:
                    finalized = await transaction.events.finalized(self.chain.name)
                if finalized is not None and finalized.number == self.chain.finalized:
                    break
                await self._ingest.step()
            while await self._decide.step():
                pass
        async with self.database.snapshot() as transaction:
            rows = await transaction.connection.fetch("SELECT artifact FROM decisions ORDER BY window_end")
        return [json.loads(row["artifact"]) for row in rows]

    async def again(self, record: dict[str, Any]) -> dict[str, Any]:
        """The price input of a record, made again from the chain and the record alone."""
        told, [rule] = record["inputs"]["eth"], self._rules
        source = rule.plan.rule.inputs["eth"]
        assert isinstance(source, PriceInput)
        sources = PriceSources(Aggregators(self._reader), markets_on_record(told), SystemClock())
        block = self.chain.blocks[record["blocks"]["last"]].block
        reading = await read_price(source, sources, rule.binding.contracts, block)
        problem = {} if reading.problem is None else {"problem": reading.problem}
        return {"value": str(reading.value), "price": told["price"], **reading.parts, **problem}


async def test_decide__priced__worth_and_evidence_on_record(database: Database):
    deciding = Deciding(database)
    deciding.chain.mine(deciding.fee(10**18), deciding.fee(5 * 10**17))
    deciding.push(1_990, START + HOUR // 4 + 7)
    for _ in range(9):
        deciding.chain.mine()
    await deciding.start()
    [record] = await deciding.run()
    assert (record["verdict"], record["total"]) == ("pay", str(1_990 * 10**6 * 3 // 2))
    last = START + 3 * HOUR // 4
    assert record["inputs"]["eth"] == {
        "value": str(1_990 * 10**24),
        "price": {
            "base": "WETH",
            "quote": "USDX",
            "base_decimals": 18,
            "quote_decimals": 6,
            "sources": [
                {"feed": "0x" + "fe" * 20, "http": None, "max_age_s": 3600, "average_s": 0, "inverse": False},
                {"feed": None, "http": "exchange", "max_age_s": 3600, "average_s": 0, "inverse": False},
            ],
            "deviation_bps": 100,
        },
        "feed": "0x" + "fe" * 20,
        "decimals": "8",
        "round": "1",
        "answer": str(1_990 * 10**8),
        "updated_at": str(START + HOUR // 4 + 7),
        "second_market": "exchange",
        "second_numeral": "200000",
        "second_decimals": "2",
        "second_answer": "200000",
        "second_quoted_at": str(last),
        "first_price": str(1_990 * 10**24),
        "second_price": str(2_000 * 10**24),
        "deviation_bps": "51",
    }
    assert deciding.exchange.asked == [last]
    assert await deciding.again(record) == record["inputs"]["eth"]


async def test_explain__priced__where_the_price_is_from(database: Database):
    deciding = Deciding(database)
    deciding.push(2_000, START + 60)
    for _ in range(9):
        deciding.chain.mine()
    await deciding.start()
    await deciding.run()
    async with database.snapshot() as transaction:
        id_ = await transaction.connection.fetchval("SELECT decision_id FROM decisions")
    story = await explain(
        database, id_.hex(), decoder=lambda _, declaration: compile_event(declaration), recipient=None
    )
    [line] = [line.split() for line in render(story).splitlines() if "WETH/USDX" in line]
    assert line == ["eth", "price", "WETH/USDX", "of", "0x" + "fe" * 20, "and", "exchange", f"{2_000 * 10**24:,}"]


async def test_decide__price_in_doubt__held_and_counted_with_the_next(database: Database):
    deciding = Deciding(database)
    deciding.chain.mine(deciding.fee(10**18))
    deciding.push(2_100, START + 60)
    for _ in range(4):
        deciding.chain.mine()
    deciding.push(2_000, START + HOUR + 60)
    deciding.chain.mine(deciding.fee(10**18))
    for _ in range(8):
        deciding.chain.mine()
    await deciding.start()
    held, paid = await deciding.run()
    assert (held["verdict"], held["total"]) == ("hold", "0")
    assert held["reason"] == "eth: the two sources are 500 bps apart, 100 are allowed"
    assert held["inputs"]["eth"]["value"] == "0"
    assert held["inputs"]["eth"]["problem"] == "the two sources are 500 bps apart, 100 are allowed"
    assert (paid["verdict"], paid["total"]) == ("pay", str(2 * 2_000 * 10**6))
    for record in (held, paid):
        assert await deciding.again(record) == record["inputs"]["eth"]


@pytest.mark.parametrize("waited_s", [3600, 3601])
async def test_decide__market_does_not_answer__waits_and_then_holds(database: Database, waited_s: int):
    deciding = Deciding(database)
    deciding.chain.mine(deciding.fee(10**18))
    deciding.push(2_000, START + 60)
    for _ in range(9):
        deciding.chain.mine()
    deciding.exchange.cents = None
    deciding.now = START + 3 * HOUR // 4 + waited_s
    await deciding.start()
    if waited_s <= 3600:
        with pytest.raises(SourceUnavailable):
            await deciding.run()
        deciding.exchange.cents = 2_000_00
        [record] = await deciding.run()
        assert record["verdict"] == "pay"
    else:
        [record] = await deciding.run()
        assert record["reason"] == "eth: second source: market exchange does not answer: HTTP 500"
        assert await deciding.again(record) == record["inputs"]["eth"]


CONVERTED = RULE.replace("inputs:\n", "inputs:\n  rate: {read: {contract: vault, function: RATE}}\n").replace(
    "function: RATE", 'function: "rate(uint256,address,address)", returns: bps, arguments: [1_000_000, vault, asset]'
)


async def test_decide__read_with_arguments__addresses_and_numbers_as_named(database: Database):
    text = CONVERTED.replace("surplus: value(fees, eth)", "surplus: mul_div(value(fees, eth), rate, BPS)")
    deciding = Deciding(database, text)
    deciding.chain.answer(VAULT, "rate(uint256,address,address)", 1_000_000, VAULT, USDX, words=[2_500])
    deciding.chain.mine(deciding.fee(10**18))
    deciding.push(2_000, START + 60)
    for _ in range(9):
        deciding.chain.mine()
    await deciding.start()
    [record] = await deciding.run()
    assert record["total"] == str(500 * 10**6)
    arguments = record["inputs"]["rate"]["read"]["arguments"]
    assert arguments == ["1000000", "0x" + VAULT.hex(), "0x" + USDX.hex()]


async def test_decide__contract_does_not_answer_the_read__held(database: Database):
    deciding = Deciding(
        database, CONVERTED.replace("surplus: value(fees, eth)", "surplus: mul_div(value(fees, eth), rate, BPS)")
    )
    deciding.push(2_000, START + 60)
    for _ in range(9):
        deciding.chain.mine()
    await deciding.start()
    [record] = await deciding.run()
    assert record["verdict"] == "hold"
    assert record["reason"].startswith("rate: vault does not answer rate(uint256,address,address) at block")
