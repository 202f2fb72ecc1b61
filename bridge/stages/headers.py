"""Blocks looked up by their time or number, from headers alone: the same block for whoever looks.

All of them lie below a finalized head, so what is found never changes. A chain may skip numbers: then the block before
is what holds there.

    number   1   2   3   4   5
    block    ■           ■   ■        at 2 and 3 the block of 1 is still the newest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block
from bridge.domain.units import BlockStamp
from bridge.domain.windows import Blocks, boundary_block
from bridge.ports.reading import ChainReader

PROBES = 16  # headers asked for at once


async def headers(chain: ChainReader, numbers: Sequence[int]) -> list[Block]:
    """The newest block up to each of `numbers`. Raises ChainDisagrees where others come than were asked for."""
    blocks = await chain.blocks(numbers)
    if len(blocks) != len(numbers) or any(block.number > number for block, number in zip(blocks, numbers, strict=True)):
        raise ChainDisagrees(f"asked for blocks {numbers}, got {[block.number for block in blocks]}")
    return blocks


async def time_from(chain: ChainReader, number: int) -> int:
    """The first second that belongs to block `number` or later ones: its time, or where that number was skipped, the
    second after the block before."""
    [block] = await headers(chain, [number])
    return block.timestamp if block.number == number else block.timestamp + 1


async def last_before(chain: ChainReader, end: int, low: Block, high: Block) -> Block:
    """The last block with timestamp < `end`, which `low` has and `high` has not."""
    before, _ = await border(chain, end, low, high)
    return before


async def border(chain: ChainReader, end: int, low: Block, high: Block) -> tuple[Block, Block]:
    """The last block with timestamp < `end`, which `low` has and `high` has not, and the one after it."""
    known = low.number  # no block comes after `low` up to here
    while high.number - known > 1:
        step = max((high.number - known) // PROBES, 1)
        numbers = range(known + step, high.number, step)
        for number, block in zip(numbers, await headers(chain, numbers), strict=True):
            if block.timestamp >= end:
                high = block
                break
            low, known = block, number
    assert low.timestamp < end <= high.timestamp
    return low, high


@dataclass(frozen=True, slots=True)
class Period:
    """Blocks first … last, at least one."""

    first: int
    last: BlockStamp


async def find_period(chain: ChainReader, start: int, end: int, low: int, high: int) -> Period | None:
    """The blocks after block `low`, up to `high`, with `start` ≤ time < `end`, in seconds; None where there is none."""
    bounds = await headers(chain, [low, high])

    async def last_earlier(time: int) -> Block:
        if bounds[0].timestamp >= time:
            return bounds[0]
        return bounds[1] if bounds[1].timestamp < time else await last_before(chain, time, *bounds)

    before, last = await last_earlier(start), await last_earlier(end)
    if last.number <= before.number:
        return None
    return Period(before.number + 1, BlockStamp(chain.name, last.number, last.hash))


async def boundary_after(chain: ChainReader, trigger: Blocks, after: int, head: int) -> Block | None:
    """The block with which a window by block number begins: the first one from the multiple after block `after` on that
    is younger than its parent, for a window of seconds cannot end within a second. None where `head` comes before it.
    """
    candidate = boundary_block(trigger, after)
    while candidate <= head:
        blocks = await headers(chain, range(max(candidate - 1, 0), min(candidate + PROBES, head) + 1))
        if candidate == 0:
            return blocks[0]
        for parent, block in pairwise(blocks):
            if block.timestamp > parent.timestamp:
                return block
        candidate = min(candidate + PROBES, head) + 1
    return None
