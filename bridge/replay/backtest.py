"""What a rule would have decided over history, read from a node alone: nothing is sent, stored or signed.

    ranges of finalized logs ──Replay──► decisions ──┬─► decisions.json, epochs.csv, payouts.csv   written on the way
                     └─────────Replay──► the other ──┘   differences of two rules                  (--against)
                                                     └─► summary.json, index.html                  at the end

Held decisions are reported, they do not stop it. Files hold no clock: the same history gives the same bytes. Memory
does not grow with the length of history: what is kept are the states of accounts, the sums of recipients, and the
newest epochs for the charts.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.domain.decisions import Decision
from bridge.domain.errors import ConfigError, StateUnavailable
from bridge.domain.events import Block, BlockAdded
from bridge.domain.ledger import Asset
from bridge.ports.reading import ChainReader, History
from bridge.replay.backtest_files import Files
from bridge.replay.backtest_outcome import Contest, Outcome, Plot, Progress, Tally, Word
from bridge.replay.replay import Follower, Replay
from bridge.stages.binding import BoundRule, log_filters, versions_of
from bridge.stages.headers import border, headers
from bridge.stages.prices import PriceSources


async def backtest(
    contest: Contest,
    plot: Plot,
    *,
    chain: ChainReader,
    history: History,
    asset: Asset,
    out: Path,
    prices: PriceSources | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Replay `contest` over `plot` and leave the files in `out`, which is there.

    Raises ConfigError where no endpoint has an old state that a rule reads, HoldError where the chain is not as the
    rule declares it, RetryableError where the chain does not answer.
    """
    sides = [
        _Side.of(rule, contest, plot, chain, prices) for rule in (contest.rule, contest.against) if rule is not None
    ]
    first = sides[0]
    filters = log_filters(list(contest.rules()))
    differing = 0
    with Files(out, two=contest.against is not None) as files:
        async with contextlib.aclosing(history.ranges(plot.start.number, plot.head.number, filters)) as ranges:
            async for added in ranges:
                said: list[list[Word]] = [[] for _ in sides]
                for side, words in zip(sides, said, strict=True):
                    async for decision in _decisions(side, added):
                        epoch = side.tally.add(decision)
                        if side is first:
                            files.write(decision, epoch)
                        if len(sides) > 1:
                            words.append(Word.of(decision))
                if len(sides) > 1:
                    differing += sum(files.compare(*pair) for pair in _pairs(*said))
                tell(Progress(plot, added.blocks[-1].number, first.replay.logs, first.tally.epochs))
        outcome = Outcome(
            plot=plot,
            asset=asset,
            logs=first.replay.logs,
            tally=first.tally,
            against=None if contest.against is None else sides[1].tally,
            companions=tuple(sorted({rule.name for rule in contest.companions})),
            differing=differing,
        )
        files.finish(outcome)
    return outcome


@dataclass(frozen=True, slots=True)
class _Side:
    """A rule under test with those that it may ask about, and what came of it."""

    replay: Replay
    tally: Tally

    @classmethod
    def of(
        cls, rule: BoundRule, contest: Contest, plot: Plot, chain: ChainReader, prices: PriceSources | None
    ) -> _Side:
        others = versions_of(other for other in contest.companions if other.name != rule.name).values()
        replay = Replay(
            [Follower.of(each, plot.start) for each in ((rule,), *others)], chain, plot.start, prices=prices
        )
        return cls(replay, Tally(rule))


async def _decisions(side: _Side, added: BlockAdded) -> AsyncGenerator[Decision, None]:
    """What the rule itself decides; its companions are replayed for what they owe."""
    try:
        async with contextlib.aclosing(side.replay.feed(added)) as steps:
            async for step in steps:
                if step.rule is side.tally.rule:
                    yield step.decision
    except StateUnavailable as error:
        raise ConfigError(
            f"{error}, which a rule reads: the nodes keep newer states only",
            where="--rpc",
            mend="use an archive node, or a later --from",
        ) from None


def _pairs(mine: Sequence[Word], theirs: Sequence[Word]) -> Iterator[tuple[Word | None, Word | None]]:
    """What two rules decided, window by window; None where only one has a window that ends then."""
    left, right = ({word.end: word for word in words} for words in (mine, theirs))
    for end in sorted(left.keys() | right.keys()):
        yield left.get(end), right.get(end)


async def block_from(chain: ChainReader, timestamp: int, newest: Block) -> Block:
    """The first block with timestamp ≥ `timestamp`, which `newest` has."""
    (genesis,) = await headers(chain, [0])
    if genesis.timestamp >= timestamp:
        return genesis
    _, block = await border(chain, timestamp, genesis, newest)
    return block
