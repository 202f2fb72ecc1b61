"""A price input, read for a decision: source(s) ─► answers ─► judged ─► one reading.

On-chain feeds are read at the window's last block, by its hash. A market that does not answer is asked again as long as
that block is younger than the age that a price may have: the stage steps again. After that its price is missing, which
holds the decision, and nobody else's any longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.domain.errors import SourceUnavailable
from bridge.domain.events import Block
from bridge.domain.prices import (
    SECOND,
    MarketAnswer,
    PriceFrom,
    PriceInput,
    combine,
    judge_feed,
    judge_market,
    market_on_record,
)
from bridge.domain.readings import Reading
from bridge.domain.units import Address
from bridge.ports.reading import Market, PriceFeeds
from bridge.ports.running import Clock


@dataclass(frozen=True, slots=True)
class PriceSources:
    """What the rules of one chain may ask for prices."""

    feeds: PriceFeeds
    markets: Mapping[str, Market]  # by the name that rules give them
    clock: Clock  # only says how long a market that does not answer is worth waiting for


async def read_price(source: PriceInput, sources: PriceSources, contracts: Mapping[str, Address], at: Block) -> Reading:
    """The price that `source` asks for, as of block `at`. `contracts` has the address of each feed by name.

    Raises RetryableError where a node or a market does not answer, and may yet.
    """
    first = await _read(source, source.first, sources, contracts, at)
    second = await _read(source, source.second, sources, contracts, at) if source.second is not None else None
    return combine(source, first, second)


async def _read(
    source: PriceInput, wanted: PriceFrom, sources: PriceSources, contracts: Mapping[str, Address], at: Block
) -> Reading:
    if wanted.feed is not None:
        since = at.timestamp - wanted.average_s if wanted.average_s else None
        said = await sources.feeds.rounds(contracts[wanted.feed], at, since)
        return judge_feed(source, wanted, said, at.timestamp)
    assert wanted.http is not None
    try:
        answer = await sources.markets[wanted.http].quote(at)
    except SourceUnavailable as error:
        if sources.clock.now() - at.timestamp <= wanted.max_age_s:
            raise
        answer = MarketAnswer(None, 0, None, {"market": wanted.http}, str(error))
    return judge_market(source, wanted, answer, at.timestamp)


@dataclass(frozen=True, slots=True)
class RecordedMarket:
    """Implements ports.Market with what a decision's record says of one: for making the decision again."""

    answer: MarketAnswer

    async def quote(self, at: Block) -> MarketAnswer:
        return self.answer


def markets_on_record(told: Mapping[str, Any]) -> dict[str, Market]:
    """The markets of one price input as they answered then; `told` is that input in the record (artifact)."""
    markets: dict[str, Market] = {}
    for source, prefix in zip(told["price"]["sources"], ("", SECOND), strict=False):
        if source["http"] is not None:
            parts = {part.removeprefix(prefix): text for part, text in told.items() if part.startswith(prefix)}
            markets[source["http"]] = RecordedMarket(market_on_record(parts, parts.get("problem")))
    return markets
