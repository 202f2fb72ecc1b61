"""The decisions that a daemon would make, from finalized logs and pinned reads alone: in memory, without a database.

ranges of logs ─► events ─► states in memory ─► (window closed) pinned reads ─► decision ─► what the next window carries

All rules are replayed side by side, for one may ask what the others owe. A window is decided when a block is seen that
closes it, the earliest window first, in the order of the daemon:

      the block before        last block of the window       a block that carries logs, or ends a range
    ────────●──────── … ────────────●────────────┼──────────────●────►
            └──── headers are looked up between these two ──────┘

Memory holds the accounts of the rules and the logs of the ranges under way, however long the history is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.domain.accumulators import Key, Source, State
from bridge.domain.decisions import Decision, Verdict
from bridge.domain.events import NO_LOGS, Block, BlockAdded, Event, LogColumns, TimedLogs
from bridge.domain.plans import Plan
from bridge.domain.readings import Reading
from bridge.domain.rules import Binding, RuleStart
from bridge.domain.units import Address
from bridge.domain.windows import Blocks, Calendar, Each, Every, Window, first_window, window_after
from bridge.ports.reading import ChainReader
from bridge.stages.binding import BoundRule
from bridge.stages.closing import Closing, Counted, Found, conclude, count, count_found, find, read_inputs
from bridge.stages.headers import boundary_after, last_before, time_from
from bridge.stages.prices import PriceSources

Reads = Callable[[BoundRule, Window, Block], Awaitable[Mapping[str, Reading]]]
"""What the inputs of a rule that are read are at the last block of a window."""

NEVER = 1 << 62
"""A second after all blocks: where a window begins whose beginning no block has shown yet."""


class Memory:
    """What one rule remembers, and the window that it is at. Knows no chain: whoever feeds it does."""

    def __init__(self, plan: Plan, binding: Binding, *, start_block: int) -> None:
        self.plan = plan
        self.binding = binding
        self.start_block = start_block
        self.first_block = start_block  # of the window
        self.start: int | None = None  # of the window, second; None until its trigger first says so
        self.end: int | None = None  # likewise
        self.counted_from: int | None = None  # None: from the start of its first window
        self.states: dict[Key, State] = {}
        self.sources: Mapping[str, Source] = {}
        self.carried: Mapping[Address, int] = {}
        self.last_paid_end: int | None = None
        self.paid = 0  # Σ totals

    @property
    def owed(self) -> int:
        """All that was decided, and all that is carried."""
        return self.paid + sum(self.carried.values())

    @property
    def window(self) -> Window:
        assert self.start is not None
        assert self.end is not None
        return Window(self.start, self.end)

    def begin(self, window: Window) -> None:
        """Its beginning stays where it is known already."""
        self.start = window.start if self.start is None else self.start
        self.end = window.end

    @property
    def span(self) -> Window:
        """What is counted together, as far as its start is known: events from before it move balances only."""
        since = self.start if self.counted_from is None else self.counted_from
        since = NEVER if since is None else since
        return Window(since, since + 1)

    def count(self, events: Sequence[Event]) -> None:
        """`events` are selected, of the window or before it. Raises HoldError where one cannot be counted."""
        self._take(count(self.plan, self.span, events, self.states, self.sources))

    def count_found(self, found: Found) -> None:
        """The same, of many at once."""
        self._take(count_found(self.plan, self.span, found, self.states, self.sources))

    def _take(self, counted: Counted) -> None:
        self.states |= counted.changed
        self.sources = counted.sources

    def closing(self, block: Block, reads: Mapping[str, Reading], owed: int) -> Closing:
        """The window as it stands, with `block` as its last."""
        return Closing(
            window=self.window,
            counted_from=self.window.start if self.counted_from is None else self.counted_from,
            start_block=self.start_block,
            first_block=self.first_block,
            block=block,
            states=self.states,
            sources=self.sources,
            reads=reads,
            owed=owed,
            carried=self.carried,
            last_paid_end=self.last_paid_end,
            paid=self.paid,
        )

    def close(
        self,
        block: Block,
        reads: Mapping[str, Reading],
        owed: int,
        following: tuple[Plan, Binding] | None = None,
    ) -> Decision:
        """Decide the window, and go on to the next: under a newer version where one follows."""
        closing = self.closing(block, reads, owed)
        decision, closed = conclude(self.plan, self.binding, closing)
        self.states |= closed
        self.carried = decision.carries
        self.paid += decision.total
        if decision.verdict is Verdict.PAY:
            self.last_paid_end = self.window.end
        if decision.determined:
            self.counted_from, self.sources = self.window.end, {}
        else:
            self.counted_from = closing.counted_from
        self.first_block = block.number + 1
        self.start, self.end = self.window.end, None
        self.plan, self.binding = following or (self.plan, self.binding)
        return decision


@dataclass(slots=True)
class Follower:
    """A rule under replay. Of its versions the last decides a window that begins before the window's first block."""

    rule: BoundRule
    memory: Memory
    began: RuleStart
    versions: Sequence[BoundRule]
    boundary: int = -1  # where windows end by block number: the block that the first one begins with
    counted: int = -1  # the block up to which its events are counted

    @classmethod
    def of(
        cls,
        versions: Sequence[BoundRule],
        start: Block,
        *,
        began: RuleStart | None = None,
        first: int | None = None,
    ) -> Follower:
        """Its events count from block `start` on; `began` says from when on it decides, by default from there too, and
        `first`, second, where its first window begins, where that is known."""
        memory = Memory(versions[0].plan, versions[0].binding, start_block=start.number)
        memory.start = first
        return cls(versions[0], memory, began or RuleStart(start.number, start.timestamp, {}), versions)

    def count(self, logs: TimedLogs, chain: str) -> int:
        """What `logs` are to the rule, all of them of its window or before it; how many events they were. Where events
        end its windows, they must be of one block."""
        if not logs.logs.count:
            return 0
        trigger, memory = self.rule.plan.rule.trigger, self.memory
        if isinstance(trigger, Each) and memory.start is None and self.rule.from_block <= self.began.block_number:
            memory.start = self.began.since
        made = {key: memory.states[key] for key in self.rule.made(logs.logs) if key in memory.states}
        found = find(self.rule, logs, chain, made)
        memory.count_found(found)
        if isinstance(trigger, Each) and memory.end is None and memory.start is not None:
            second = logs.times[0]
            if second >= memory.start and found.selected[trigger.event].rows:
                memory.end = second + 1
        return found.count

    def close(self, block: Block, reads: Mapping[str, Reading], owed: int) -> Decision:
        following = [rule for rule in self.versions if rule.from_block <= block.number + 1][-1]
        decision = self.memory.close(block, reads, owed, (following.plan, following.binding))
        self.rule = following
        return decision

    @property
    def turn(self) -> tuple[int, bool, str]:
        """Windows are decided in this order: at the same moment, rules that read a balance come last."""
        return self.memory.window.end, self.rule.plan.reads_balance, self.rule.name


@dataclass(frozen=True, slots=True)
class Step:
    """A window that was closed. `before` is what the decision rests on; its states go on changing after this step."""

    rule: BoundRule
    before: Closing
    decision: Decision


@dataclass(frozen=True, slots=True)
class _Range:
    """The logs of a range of blocks, from which those of some blocks are cut."""

    logs: LogColumns
    numbers: Sequence[int]  # of each log's block
    times: Sequence[int]

    @classmethod
    def of(cls, added: BlockAdded) -> _Range:
        timestamps = {block.number: block.timestamp for block in added.blocks}
        numbers = [added.logs.number(row) for row in range(added.logs.count)]
        return cls(added.logs, numbers, [timestamps[number] for number in numbers])

    def between(self, first: int, last: int) -> TimedLogs:
        start, stop = bisect_left(self.numbers, first), bisect_right(self.numbers, last)
        if start == stop:
            return TimedLogs(NO_LOGS, ())
        return TimedLogs(self.logs.between(first, last), self.times[start:stop])


class Replay:
    """All rules that are replayed together, on one chain."""

    def __init__(
        self,
        rules: Sequence[Follower],
        chain: ChainReader,
        start: Block,
        *,
        prices: PriceSources | None = None,
        reads: Reads | None = None,
    ) -> None:
        """`prices`: for rules that ask for any; `reads`: instead of reading the inputs from the chain."""
        self._rules = rules
        self._chain = chain
        self._prices = prices
        self._reads = reads or self._read
        self._previous = start  # invariant: every window that is not decided ends after this block
        self.logs = 0  # that a rule counted

    async def feed(self, added: BlockAdded) -> AsyncGenerator[Step, None]:
        """The windows that a range of blocks closes. Raises HoldError where a log cannot be counted or an input cannot
        be read, RetryableError where the chain does not answer."""
        logs = _Range.of(added)
        for block in added.blocks:
            while due := [rule for rule in self._rules if await self._is_closed(rule, block)]:
                first = min(due, key=lambda rule: rule.turn)
                self._count(first, logs, block.number - 1)
                yield await self._close(first, block)
            for rule in self._rules:
                if isinstance(rule.rule.plan.rule.trigger, Each):
                    self._count(rule, logs, block.number)
            self._previous = block
        for rule in self._rules:
            self._count(rule, logs, added.blocks[-1].number)

    def _count(self, rule: Follower, logs: _Range, last: int) -> None:
        """What is not counted yet, through block `last`."""
        self.logs += rule.count(logs.between(rule.counted + 1, last), self._chain.name)
        rule.counted = last

    async def _close(self, due: Follower, closing: Block) -> Step:
        memory, rule = due.memory, due.rule
        last = self._previous = await last_before(self._chain, memory.window.end, self._previous, closing)
        reads = await self._reads(rule, memory.window, last)
        owed = sum(each.memory.owed for each in self._rules if each.rule.binding.asset == rule.binding.asset)
        before = memory.closing(last, reads, owed)
        return Step(rule, before, due.close(last, reads, owed))

    # ── Where windows end ────────────────────────────────────────────────────────────────────────────────────────
    async def _is_closed(self, rule: Follower, block: Block) -> bool:
        """Whether the rule's window has ended before `block`: its end is looked for where it is not known yet."""
        memory, trigger = rule.memory, rule.rule.plan.rule.trigger
        if memory.end is None and await self._has_begun(rule, block):
            match trigger:
                case Every() | Calendar():
                    start = memory.start
                    memory.begin(
                        first_window(trigger, rule.began.since) if start is None else window_after(trigger, start)
                    )
                case Blocks():
                    await self._find_boundaries(rule, trigger, block)
                case Each():
                    pass  # known once an event was counted
        return memory.end is not None and block.timestamp >= memory.end

    async def _has_begun(self, rule: Follower, block: Block) -> bool:
        """A version may begin with a block of its own."""
        began, from_block = rule.began, rule.rule.from_block
        if rule.memory.start is None and from_block > began.block_number:
            if from_block > block.number:
                return False
            since = await time_from(self._chain, from_block)
            rule.began = replace(began, block_number=from_block, since=since)
        return True

    async def _find_boundaries(self, rule: Follower, trigger: Blocks, block: Block) -> None:
        memory = rule.memory
        if memory.start is None:
            first = await boundary_after(self._chain, trigger, rule.began.block_number - 1, block.number)
            if first is None:
                return
            memory.start, rule.boundary = first.timestamp, first.number
        elif rule.boundary < 0 and memory.start > block.timestamp:
            return
        elif rule.boundary < 0:
            rule.boundary = (await last_before(self._chain, memory.start, self._previous, block)).number + 1
        end = await boundary_after(self._chain, trigger, max(rule.boundary, memory.first_block), block.number)
        if end is not None:
            memory.end = end.timestamp

    async def _read(self, rule: BoundRule, _: Window, at: Block) -> Mapping[str, Reading]:
        return await read_inputs(self._chain, rule.plan, rule.binding, at, self._prices)
