"""What ingest makes of the events, in memory: holds every promise of `follow` while it listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bridge.domain.events import (
    NO_LOGS,
    Block,
    BlockAdded,
    ChainCursor,
    ChainEvent,
    Finalized,
    LogColumns,
    Reorged,
    join_columns,
)
from tests.chains.world import World

PATIENCE_S = 20


@dataclass
class Consumer:
    start: int
    blocks: list[Block] = field(default_factory=list)  # canonical; below the finalized one possibly with gaps
    logs: LogColumns = NO_LOGS
    final: int = -1
    reorgs: list[Reorged] = field(default_factory=list)
    finalized: list[Finalized] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.final = self.start - 1

    @property
    def next(self) -> int:
        return self.blocks[-1].number + 1 if self.blocks else self.start

    def cursor(self) -> ChainCursor:
        tail = tuple(block for block in self.blocks if block.number >= self.final)
        return ChainCursor(self.start, self.final, tail, self.logs.between(self.final + 1, self.next))

    def apply(self, event: ChainEvent) -> None:
        match event:
            case BlockAdded():
                assert event.first == self.next
                if self.blocks and event.blocks[0].number == event.first:
                    assert event.blocks[0].parent_hash == self.blocks[-1].hash
                self.blocks.extend(event.blocks)
                self.logs = join_columns([self.logs, event.logs])
            case Reorged():
                assert event.ancestor.number >= self.final
                self.blocks = [block for block in self.blocks if block.number <= event.ancestor.number]
                self.logs = self.logs.between(0, event.ancestor.number) if self.blocks else NO_LOGS
                self.reorgs.append(event)
            case Finalized():
                assert event.first == self.final + 1
                assert event.block in self.blocks
                mine = self.logs.between(event.first, event.block.number)
                assert (event.logs, event.digest) == (mine.count, mine.digest())
                self.final = event.block.number
                self.finalized.append(event)

    async def listen(self, world: World, *, until_final: int | None = None) -> None:
        """Until the tip is the chain's and, where asked for, so much is final. Bounded."""
        tip = (await world.chain())[-1]
        async with asyncio.timeout(PATIENCE_S), self._following(world) as events:
            while not (self.blocks and self.blocks[-1] == tip and (until_final is None or self.final >= until_final)):
                self.apply(await anext(events))

    async def listen_once(self, world: World) -> None:
        """One event, then everything in memory is forgotten."""
        async with asyncio.timeout(PATIENCE_S), self._following(world) as events:
            self.apply(await anext(events))

    @contextlib.asynccontextmanager
    async def _following(self, world: World) -> AsyncIterator[AsyncIterator[ChainEvent]]:
        async with contextlib.aclosing(world.reader.follow(self.cursor(), world.filters)) as events:
            yield events

    def counts(self) -> dict[int, int]:
        """Logs by block number."""
        numbers = [int.from_bytes(self.logs.block_numbers[at : at + 8]) for at in range(0, 8 * self.logs.count, 8)]
        return {number: numbers.count(number) for number in sorted(set(numbers))}
