"""A decision that rests on a market's price is made again with what its record says of the market."""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from bridge.chains.evm.abi import compile_event
from bridge.chains.evm.aggregator import Aggregators
from bridge.chains.fake.chain import FakeChain
from bridge.chains.fake.reader import FakeReader
from bridge.domain.artifacts import canonical
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block, BlockAdded, pack_logs
from bridge.ports.reading import LogFilter
from bridge.replay.verify import Answer, Claim, file_claim, stored_claim, verify
from bridge.runtime.clock import SystemClock
from bridge.stages.prices import PriceSources
from bridge.store.database import Database
from tests.stages.test_decide_prices import HOUR, PAID, RULE, START, Deciding


class FakeHistory:
    """Implements ports.History."""

    def __init__(self, chain: FakeChain) -> None:
        self._chain = chain

    async def finalized(self) -> Block | None:
        return self._chain.blocks[self._chain.finalized].block

    async def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        numbers = range(first, last + 1)
        logs = [log for number in numbers for log in self._chain.logs(number, filters)]
        yield BlockAdded(first, tuple(self._chain.blocks[number].block for number in numbers), pack_logs(logs))


async def again(chain: FakeChain, claim: Claim) -> Answer:
    reader = FakeReader(chain, {PAID: compile_event(PAID)})
    prices = PriceSources(Aggregators(reader), {}, SystemClock())
    final = chain.blocks[chain.finalized].block
    return await verify(claim, chain=reader, history=FakeHistory(chain), prices=prices, final=final)


async def ids(database: Database) -> list[bytes]:
    async with database.snapshot() as transaction:
        rows = await transaction.connection.fetch("SELECT decision_id FROM decisions ORDER BY window_end")
    return [row["decision_id"] for row in rows]


@pytest.fixture
async def decided(database: Database) -> tuple[Deciding, list[dict[str, Any]]]:
    """Four hours: a price, another one, a market that does not answer, a price again."""
    deciding = Deciding(database)
    for hour, cents in enumerate([2_000_00, 2_001_00, None, 2_002_00]):
        deciding.push(2_000, START + hour * HOUR + 60)
        deciding.chain.mine(deciding.fee(10**18))
        for _ in range(3):
            deciding.chain.mine()
        deciding.exchange.cents = cents
        if hour == 0:
            await deciding.start()
        await deciding.run()
    for _ in range(5):
        deciding.chain.mine()
    return deciding, await deciding.run()


async def test_verify__priced_by_a_market__equal_and_named_as_not_verified(
    database: Database, decided: tuple[Deciding, list[dict[str, Any]]]
):
    deciding, records = decided
    assert {record["verdict"] for record in records} == {"pay", "hold"}
    for decision_id in await ids(database):
        answer = await again(deciding.chain, await stored_claim(database, decision_id))
        assert answer.difference is None
        assert answer.trusted == ("eth: what a market said, which no node knows",)


async def test_verify__feed_on_record_is_not_what_the_chain_says__found(
    decided: tuple[Deciding, list[dict[str, Any]]],
):
    deciding, [record, *_] = decided
    forged = json.loads(json.dumps(record))
    forged["inputs"]["eth"]["answer"] = str(2_001 * 10**8)
    answer = await again(deciding.chain, claim_of(forged))
    assert answer.difference == ("inputs.eth.answer", str(2_000 * 10**8), str(2_001 * 10**8))


async def test_verify__record_alone__needs_the_earlier_ones_or_belief(
    decided: tuple[Deciding, list[dict[str, Any]]],
):
    deciding, records = decided
    with pytest.raises(ConfigError, match="stands in its own record only"):
        await again(deciding.chain, claim_of(records[-1]))
    answer = await again(deciding.chain, claim_of(records[-1], trust=True))
    assert answer.difference is None
    assert len(answer.trusted) == 2


def claim_of(record: dict[str, Any], *, trust: bool = False) -> Claim:
    return file_claim(canonical(record), RULE, since=None, trust_carried=trust, where="--artifact")
