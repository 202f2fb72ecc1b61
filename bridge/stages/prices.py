"""A price input, read for a decision: source(s) ─► answers ─► judged ─► one reading.

On-chain feeds are read at the window's last block, by its hash. A market that does not answer is asked again as long as
that block is younger than the age that a price may have: the stage steps again. After that its price is missing, which
holds the decision, and nobody else's any longer.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.domain.errors import SourceUnavailable
from bridge.domain.events import Block
from bridge.domain.prices import PriceFrom, PriceInput, combine, judge_feed, judge_market
from bridge.domain.readings import Reading
from bridge.domain.units import Address
from bridge.ports import Market, PriceFeeds


async def read_price(
    source: PriceInput,
    *,
    contracts: Mapping[str, Address],
    feeds: PriceFeeds,
    markets: Mapping[str, Market],
    at: Block,
    now: int,
) -> Reading:
    """The price that `source` asks for, as of block `at`. `contracts` has the address of each feed by name; `now`,
    seconds since 1970, only says how long a market that does not answer is worth waiting for.

    Raises RetryableError where a node or a market does not answer, and may yet.
    """
    said = [
        await _read(source, wanted, contracts=contracts, feeds=feeds, markets=markets, at=at, now=now)
        for wanted in source.sources()
    ]
    return combine(source, said[0], said[1] if len(said) > 1 else None)


async def _read(
    source: PriceInput,
    wanted: PriceFrom,
    *,
    contracts: Mapping[str, Address],
    feeds: PriceFeeds,
    markets: Mapping[str, Market],
    at: Block,
    now: int,
) -> Reading:
    if wanted.feed is not None:
        since = at.timestamp - wanted.average_s if wanted.average_s else None
        return judge_feed(source, wanted, await feeds.rounds(contracts[wanted.feed], at, since), at.timestamp)
    assert wanted.http is not None
    try:
        answer = await markets[wanted.http].quote(at)
    except SourceUnavailable as error:
        if now - at.timestamp <= wanted.max_age_s:
            raise
        return Reading(0, {"market": wanted.http}, str(error))
    return judge_market(source, wanted, answer, at.timestamp)
