"""Blocks looked up by time or number on chains that skip numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.events import Block
from bridge.domain.windows import Blocks
from bridge.ports.reading import ChainReader
from bridge.stages.headers import border, boundary_after, find_period, last_before, time_from


class Skipping:
    """A chain with blocks at some numbers only. Counts what it is asked, so that no search goes on for ever."""

    name = "skipping"

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.all = blocks
        self.asked = 0

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        self.asked += 1
        assert self.asked < 1_000
        return [max((block for block in self.all if block.number <= number), key=_number) for number in numbers]


def _number(block: Block) -> int:
    return block.number


@st.composite
def chains(draw: st.DrawFn) -> Skipping:
    steps = draw(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=3, max_size=30))
    number, time = draw(st.integers(0, 50)), 1_000
    blocks = [Block(number, b"\0" * 32, b"", time)]
    for slots, seconds in steps:
        number, time = number + slots, time + seconds
        blocks.append(Block(number, number.to_bytes(32), b"", time))
    blocks.append(Block(number + 1, b"\1" * 32, b"", time + 1))
    return Skipping(blocks)


@given(chains(), st.data())
async def test_border__any_holes__the_last_before_and_the_first_after(chain: Skipping, data: st.DataObject):
    low, high = chain.all[0], chain.all[-1]
    end = data.draw(st.integers(low.timestamp + 1, high.timestamp))
    reader = cast("ChainReader", chain)
    before = max((block for block in chain.all if block.timestamp < end), key=_number)
    after = min((block for block in chain.all if block.timestamp >= end), key=_number)
    assert await border(reader, end, low, high) == (before, after)
    assert await last_before(reader, end, low, high) == before
    period = await find_period(reader, end, end + 2, low.number, high.number)
    inside = [block for block in chain.all if end <= block.timestamp < end + 2]
    assert (period is None) == (not inside)
    if period is not None:
        assert (period.first, period.last.number) == (before.number + 1, inside[-1].number)


@given(chains(), st.integers(1, 30), st.integers(0, 200))
async def test_boundary__any_holes__the_first_block_from_a_multiple_that_is_younger_than_its_parent(
    chain: Skipping, every: int, after: int
):
    reader, head = cast("ChainReader", chain), chain.all[-1].number
    after = max(after, chain.all[0].number)
    found = await boundary_after(reader, Blocks(every), after, head)
    multiple = (after // every + 1) * every
    younger = [
        block
        for parent, block in zip(chain.all, chain.all[1:], strict=False)
        if block.number >= multiple and block.timestamp > parent.timestamp
    ]
    assert found == (younger[0] if younger else None)


async def test_time_from__skipped_number__later_than_the_block_before():
    chain = cast("ChainReader", Skipping([Block(5, b"", b"", 100), Block(8, b"", b"", 109)]))
    assert [await time_from(chain, number) for number in (5, 6, 7, 8)] == [100, 101, 101, 109]
