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

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bridge.domain.accumulators import Key, Source, State
from bridge.domain.decisions import Decision, Verdict
from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block, BlockAdded, Event, Log, unpack_logs
from bridge.domain.rules import Binding, Plan, Window, first_window, window_after
from bridge.domain.units import Address, BlockStamp
from bridge.ports import ChainReader
from bridge.stages.closing import Closing, close, count, read_inputs
from bridge.stages.decide import PROBES, BoundRule

Reads = Callable[[BoundRule, Window, BlockStamp], Awaitable[Mapping[str, int]]]
"""What the inputs of a rule that are read are at a block."""


class Memory:
    """What one rule remembers, from its first window on. Knows no chain: whoever feeds it does."""

    def __init__(self, plan: Plan, binding: Binding, *, window: Window, start_block: int) -> None:
        """`window` is the first that is decided; events from before it, from `start_block` on, move balances only."""
        self.plan = plan
        self.binding = binding
        self.window = window
        self.start_block = start_block
        self.first_block = start_block  # of the window
        self.states: dict[Key, State] = {}
        self.sources: Mapping[str, Source] = {}
        self.carried: Mapping[Address, int] = {}
        self.last_paid_end: int | None = None
        self.decided = 0  # Σ totals

    @property
    def owed(self) -> int:
        """All that was decided, and all that is carried."""
        return self.decided + sum(self.carried.values())

    def count(self, events: Sequence[Event]) -> None:
        """`events` are selected, of the window or before it. Raises HoldError where one cannot be counted."""
        counted = count(self.plan, self.window, events, self.states, self.sources)
        self.states |= counted.changed
        self.sources = counted.sources

    def closing(self, block: Block, reads: Mapping[str, int], owed: int) -> Closing:
        """The window as it stands, with `block` as its last."""
        return Closing(
            window=self.window,
            start_block=self.start_block,
            first_block=self.first_block,
            block=block,
            states=self.states,
            sources=self.sources,
            reads=reads,
            owed=owed,
            carried=self.carried,
            last_paid_end=self.last_paid_end,
        )

    def close(
        self, block: Block, reads: Mapping[str, int], owed: int, following: tuple[Plan, Binding] | None = None
    ) -> Decision:
        """Decide the window, and go on to the next: under a newer version where one follows."""
        decision = close(self.plan, self.binding, self.closing(block, reads, owed))
        self.carried = decision.carries
        self.decided += decision.total
        if decision.verdict is Verdict.PAY:
            self.last_paid_end = self.window.end
        self.sources = {}
        self.first_block = block.number + 1
        self.plan, self.binding = following or (self.plan, self.binding)
        self.window = window_after(self.plan.rule.window_s, self.window.end)
        return decision


@dataclass(slots=True)
class Follower:
    """A rule under replay. Newer versions take over where a window begins."""

    rule: BoundRule
    memory: Memory
    newer: Sequence[tuple[int, BoundRule]] = ()  # (second where the first window of a version begins, the version)

    @classmethod
    def of(
        cls, rule: BoundRule, start: Block, *, since: int | None = None, newer: Sequence[tuple[int, BoundRule]] = ()
    ) -> Follower:
        """From block `start` on; its windows start at second `since` or later, by default at that block's."""
        window = first_window(rule.plan.rule.window_s, start.timestamp if since is None else since)
        return cls(rule, Memory(rule.plan, rule.binding, window=window, start_block=start.number), newer)

    def close(self, block: Block, reads: Mapping[str, int], owed: int) -> Decision:
        end = self.memory.window.end
        following = next((rule for since, rule in reversed(self.newer) if since <= end), self.rule)
        decision = self.memory.close(block, reads, owed, (following.plan, following.binding))
        self.rule = following
        return decision

    def closed_by(self, block: Block) -> bool:
        return block.timestamp >= self.memory.window.end

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


class Replay:
    """All rules that are replayed together, on one chain."""

    def __init__(
        self, rules: Sequence[Follower], chain: ChainReader, start: Block, *, reads: Reads | None = None
    ) -> None:
        self._rules = rules
        self._chain = chain
        self._reads = reads or self._read
        self._previous = start  # invariant: every window that is not decided ends after this block
        self.logs = 0  # that a rule counted

    async def feed(self, added: BlockAdded) -> AsyncGenerator[Step, None]:
        """The windows that a range of blocks closes. Raises HoldError where a log cannot be counted or an input cannot
        be read, RetryableError where the chain does not answer."""
        timestamps = {block.number: block.timestamp for block in added.blocks}
        by_block: defaultdict[int, list[Log]] = defaultdict(list)
        for log in unpack_logs(added.logs, self._chain.name, timestamps):
            by_block[log.block.number].append(log)
        for block in added.blocks:
            while due := [rule for rule in self._rules if rule.closed_by(block)]:
                yield await self._close(min(due, key=lambda rule: rule.turn), block)
            for rule in self._rules:
                events = [event for log in by_block.get(block.number, ()) for event in rule.rule.events(log)]
                if events:
                    rule.memory.count(events)
                    self.logs += len(events)
            self._previous = block

    async def _close(self, due: Follower, closing: Block) -> Step:
        memory = due.memory
        last = self._previous = await self._last_block(memory.window.end, closing)
        reads = await self._reads(due.rule, memory.window, BlockStamp(self._chain.name, last.number, last.hash))
        owed = sum(rule.memory.owed for rule in self._rules if rule.rule.binding.asset == due.rule.binding.asset)
        before = memory.closing(last, reads, owed)
        return Step(due.rule, before, due.close(last, reads, owed))

    async def _last_block(self, end: int, high: Block) -> Block:
        """The last block with timestamp < `end`, which `high` has not."""
        low = self._previous
        while high.number - low.number > 1:
            step = max((high.number - low.number) // PROBES, 1)
            for block in await self._blocks(range(low.number + step, high.number, step)):
                if block.timestamp >= end:
                    high = block
                    break
                low = block
        assert low.timestamp < end <= high.timestamp
        return low

    async def _blocks(self, numbers: Sequence[int]) -> list[Block]:
        blocks = await self._chain.blocks(numbers)
        if [block.number for block in blocks] != list(numbers):
            raise ChainDisagrees(f"asked for blocks {numbers}, got {[block.number for block in blocks]}")
        return blocks

    async def _read(self, rule: BoundRule, _: Window, at: BlockStamp) -> Mapping[str, int]:
        return await read_inputs(self._chain, rule.plan, rule.binding, at)
