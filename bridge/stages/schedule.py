"""The next window of each rule that is closed: found from finalized blocks alone, so every daemon finds the same.

    every, calendar    the clock says where it ends
    blocks             the chain is asked for the block from which the next window begins
    each               finalized logs are searched for the next event of that name

A window is closed once the finalized head is as young as its end. One that does not know its end yet is not due.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.domain.errors import ConfigError
from bridge.domain.events import NO_LOGS, Block, Log, TimedLogs
from bridge.domain.rules import RuleStart
from bridge.domain.units import Address
from bridge.domain.windows import Blocks, Calendar, Each, Every, Window, boundary_block, first_window, window_after
from bridge.ports.database import Database, Transaction
from bridge.ports.reading import ChainReader
from bridge.stages.binding import BoundRule, versions_of
from bridge.stages.headers import boundary_after, last_before, time_from

LOGS_MAX = 10_000  # logs of one page


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule stands: its next window starts at second `start`, with block `first`."""

    start: int | None  # None: where its trigger first says so
    first: int
    counted_from: int | None  # None: from the start of its first window
    cursor: int  # the block up to which its events are counted


@dataclass(frozen=True, slots=True)
class Due:
    """The next window of a rule. Its logs are those of blocks `place.first` … its last block."""

    rule: BoundRule
    place: Place
    window: Window

    @property
    def span(self) -> Window:
        """What is counted together: the window, and before it those since the last that could be determined."""
        counted_from = self.place.counted_from
        return self.window if counted_from is None else Window(counted_from, self.window.end)


class Schedule:
    """Of the rules of one chain, from block `start` on. Of each rule's versions, the one decides a window that is the
    last with `from_block` at or before the window's first block: so two never decide the same.

        version 1                    version 2 (from_block = 24)
    ────●──────────┼──────────┼──────────┼──────────┼────►
        0          10         20      24 30
    """

    def __init__(
        self,
        *,
        database: Database,
        chain: ChainReader,
        stage: str,
        rules: Sequence[BoundRule],
        start: Block,
        starts: Mapping[str, RuleStart],
    ) -> None:
        self._database = database
        self._chain = chain
        self._stage = stage
        self._versions = versions_of(rules)
        self._start = start
        self._starts = starts
        self._last_blocks: dict[int, Block] = {}  # window end → last block before it, for the windows under way
        self._boundaries: dict[int, Block] = {}  # of windows that end by block number
        self._searched: dict[str, int] = {}  # by rule: the block up to which no event ends the window
        self._began: dict[str, RuleStart] = {}  # of rules that begin with a block of their own

    async def next(self, head: Block) -> Due | None:
        """Of every rule's next window, the earliest that is closed."""
        async with self._database.snapshot() as transaction:
            paused = await transaction.decisions.paused(self._chain.name)
            places = {name: await self.place(transaction, name) for name in self._versions.keys() - paused}
        due = [one for name, place in places.items() if (one := await self._due(name, place, head)) is not None]
        # At the same moment, rules that read a balance come last: they must know what the others have earned from it.
        return min(due, key=lambda one: (one.window.end, one.rule.plan.reads_balance, one.rule.name), default=None)

    async def _due(self, name: str, place: Place, head: Block) -> Due | None:
        """The rule's next window, where it is closed. Raises ConfigError where no version decides it."""
        rule = self._version(name, place)
        window = await self._window(rule, place, head)
        return None if window is None or head.timestamp < window.end else Due(rule, place, window)

    def _version(self, name: str, place: Place) -> BoundRule:
        versions = self._versions[name]
        if place.start is None:
            return versions[0]
        began = [rule for rule in versions if rule.from_block <= place.first]
        if not began:
            raise ConfigError(
                f"its window from block {place.first} on is not decided, and version "
                f"{versions[0].plan.rule.version} begins with block {versions[0].from_block}",
                where=f"rule {name}",
                mend="keep the [[rules]] entry of the version before until its last window is decided",
            )
        return began[-1]

    async def place(self, transaction: Transaction, name: str) -> Place:
        chain, decisions = self._chain.name, transaction.decisions
        cursor = await transaction.chains.cursor(self._stage, scope(chain, name))
        done = cursor[0] if cursor else self._start.number - 1
        last = await decisions.last(chain, name)
        if last is None:
            return Place(None, self._start.number, None, done)
        return Place(last[0].end, last[1] + 1, await decisions.counted_from(chain, name), done)

    async def _start_of(self, rule: BoundRule, head: Block) -> RuleStart | None:
        """Where its first window may begin; None where the chain is not there yet."""
        began = self._starts[rule.name]
        if rule.from_block <= began.block_number:
            return began
        if rule.from_block > head.number:
            return None
        if rule.name not in self._began:
            since = await time_from(self._chain, rule.from_block)
            self._began[rule.name] = replace(began, block_number=rule.from_block, since=since)
        return self._began[rule.name]

    async def _window(self, rule: BoundRule, place: Place, head: Block) -> Window | None:
        trigger, began = rule.plan.rule.trigger, await self._start_of(rule, head)
        if began is None:
            return None
        match trigger:
            case Every() | Calendar():
                return first_window(trigger, began.since) if place.start is None else window_after(trigger, place.start)
            case Blocks():
                return await self._by_blocks(trigger, place, began, head)
            case Each(event):
                start = began.since if place.start is None else place.start
                second = await self._second_of(rule, event, start, place.first, head)
                return None if second is None else Window(start, second + 1)

    # ── By block number ──────────────────────────────────────────────────────────────────────────────────────────
    async def _by_blocks(self, trigger: Blocks, place: Place, began: RuleStart, head: Block) -> Window | None:
        if place.start is None:
            first = await self._boundary(trigger, began.block_number - 1, head)
            if first is None:
                return None
            start, number = first.timestamp, first.number
        else:
            start, number = place.start, place.first
        end = await self._boundary(trigger, number, head)
        return None if end is None else Window(start, end.timestamp)

    async def _boundary(self, trigger: Blocks, after: int, head: Block) -> Block | None:
        number = boundary_block(trigger, after)
        if number not in self._boundaries:
            found = await boundary_after(self._chain, trigger, after, head.number)
            if found is None:
                return None
            self._boundaries[number] = found
        return self._boundaries[number]

    # ── By event ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def _second_of(self, rule: BoundRule, event: str, start: int, first: int, head: Block) -> int | None:
        """The second of the first such event from `start` on, in blocks `first` … head."""
        searched = self._searched.get(rule.name, -1)
        number = max(first, searched + 1)
        while number <= head.number:
            async with self._database.snapshot() as transaction:
                logs = await logs_of(
                    transaction, self._chain.name, rule, [event], first=number, last=head.number, limit=LOGS_MAX
                )
            for log in logs:
                if log.timestamp >= start and any(found.source == event for found in rule.events(log)):
                    return log.timestamp
            number = head.number + 1 if len(logs) < LOGS_MAX else logs[-1].block.number + 1
            self._searched[rule.name] = number - 1
        return None

    # ── The last block of a window ───────────────────────────────────────────────────────────────────────────────
    async def last_block(self, end: int, head: Block) -> Block:
        """The last block with timestamp < `end`.

        Not every block is stored: where the next one is missing, the chain is asked. All lie below the finalized head,
        so every daemon finds the same block, however it caught up.
        """
        if end in self._last_blocks:
            return self._last_blocks[end]
        async with self._database.snapshot() as transaction:
            low = await transaction.events.finalized_before(self._chain.name, end) or self._start
            following = await transaction.events.block(self._chain.name, low.number + 1)
        high = following if following is not None and following.timestamp >= end else head
        self._last_blocks[end] = await last_before(self._chain, end, low, high)
        return self._last_blocks[end]

    def decided(self, due: Due) -> None:
        """Forget what was found for this window."""
        self._last_blocks.pop(due.window.end, None)
        self._boundaries.clear()
        self._searched.pop(due.rule.name, None)


def scope(chain: str, rule: str) -> str:
    """The name of a rule's cursor."""
    return f"{chain}/{rule}"


def _emitters(places: Iterable[tuple[Address | None, bytes]]) -> list[Address]:
    """Empty for any contract."""
    emitters = {contract for contract, _ in places}
    return [] if None in emitters else sorted(contract for contract in emitters if contract is not None)


async def columns_of(
    transaction: Transaction,
    chain: str,
    rule: BoundRule,
    sources: Iterable[str],
    *,
    first: int,
    last: int,
    limit: int,
) -> TimedLogs:
    """What `logs_of` finds, as packed columns."""
    places = rule.places(sources)
    if not places or first > last:
        return TimedLogs(NO_LOGS, ())
    return await transaction.events.log_columns(
        chain,
        first,
        last,
        addresses=_emitters(places),
        topic0s=sorted({topic for _, topic in places}),
        limit=limit,
    )


async def logs_of(
    transaction: Transaction,
    chain: str,
    rule: BoundRule,
    sources: Iterable[str],
    *,
    first: int,
    last: int,
    limit: int | None = None,
) -> list[Log]:
    """Finalized logs that may be the events named: by contract and by topic, each a superset of what is selected."""
    places = rule.places(sources)
    if not places or first > last:
        return []
    return await transaction.events.logs(
        chain,
        first,
        last,
        addresses=_emitters(places),
        topic0s=sorted({topic for _, topic in places}),
        limit=limit,
    )
