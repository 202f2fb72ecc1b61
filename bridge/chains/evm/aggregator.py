"""Price feeds in the manner of Chainlink (AggregatorV3Interface), pinned to a block.

    decimals(), latestRoundData() ─► newest ─► getRoundData(id − 1), (id − 2), … ─► the round in force at `since`

Rounds are asked for some at a time; those that turn out to lie before the last one that is needed are dropped, so that
what is kept does not depend on how many were asked for.
"""

from __future__ import annotations

import asyncio

from bridge.domain.events import Block
from bridge.domain.prices import ROUNDS_MAX, FeedAnswer, Round, previous_round
from bridge.domain.units import Address, BlockStamp
from bridge.ports.reading import ChainReader

ROUND = ("uint80", "int256", "uint256", "uint256", "uint80")
"""roundId, answer, startedAt, updatedAt, answeredInRound"""
ROUNDS_AT_ONCE = 8


class Aggregators:
    """Implements ports.PriceFeeds."""

    def __init__(self, chain: ChainReader) -> None:
        self._chain = chain

    async def rounds(self, feed: Address, at: Block, since: int | None) -> FeedAnswer:
        """See ports.PriceFeeds. Raises what ChainReader.read_call raises."""
        stamp = BlockStamp(self._chain.name, at.number, at.hash)
        decimals = await self._chain.read_call(feed, "decimals()", (), stamp, returns=("uint8",))
        newest = await self._round(feed, None, stamp)
        rounds = [newest] if newest is not None else []
        while since is not None and rounds and rounds[-1].updated_at > since:
            older = await self._before(feed, rounds[-1].round_id, stamp, ROUNDS_MAX - len(rounds))
            if not older:
                break  # it does not answer, or there are too many
            for each in older:
                rounds.append(each)
                if each.updated_at <= since:
                    break
        return FeedAnswer(feed, decimals[0] if decimals is not None else None, tuple(rounds))

    async def _before(self, feed: Address, round_id: int, at: BlockStamp, limit: int) -> list[Round]:
        """The next rounds before `round_id`, newest first, up to one that does not answer."""
        wanted: list[int] = []
        previous = previous_round(round_id)
        while previous is not None and len(wanted) < min(ROUNDS_AT_ONCE, limit):
            wanted.append(previous)
            previous = previous_round(previous)
        found: list[Round] = []
        for each in await asyncio.gather(*(self._round(feed, id_, at) for id_ in wanted)):
            if each is None:
                break
            found.append(each)
        return found

    async def _round(self, feed: Address, round_id: int | None, at: BlockStamp) -> Round | None:
        """The round of that id, or the newest; None where the feed has none."""
        if round_id is None:
            words = await self._chain.read_call(feed, "latestRoundData()", (), at, returns=ROUND)
        else:
            words = await self._chain.read_call(feed, "getRoundData(uint80)", [round_id], at, returns=ROUND)
        if words is None or (round_id is not None and words[0] != round_id):
            return None  # an answer about another round is none about this one
        return Round(words[0], words[1], words[3], words[4])
