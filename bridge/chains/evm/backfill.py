"""Blocks that are final already, read in wide ranges, several at once, handed on in order.

fetch range 1 ─┐
fetch range 2 ─┼─► parse to columns ─► compare with a second endpoint's answer ─► BlockAdded, Finalized (in order)
fetch range 3 ─┘
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np

from bridge.chains.evm.logs import block_numbers
from bridge.chains.evm.ranges import LogReader, Span, agreed_blocks
from bridge.chains.evm.rpc import Endpoint, Refusal, RpcRefused
from bridge.domain.errors import ChainDisagrees, ChainUnavailable
from bridge.domain.events import Block, BlockAdded, Finalized, LogColumns, join_columns

RANGES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Range:
    parent_hash: bytes  # of its first block
    added: BlockAdded
    finalized: Finalized


class Backfill:
    """Reads below the finalized block. `span` outlives it: what was learnt of the provider's limits is kept."""

    def __init__(self, logs: LogReader, span: Span) -> None:
        self._logs = logs
        self._rpc = logs.rpc
        self._span = span

    async def read(self, first: int, last: int, parent: Block | None) -> AsyncGenerator[BlockAdded | Finalized, None]:
        """Blocks first … last, which are final; `parent` is the block before, where it is known.

        Raises ChainUnavailable, RpcRefused, and ChainDisagrees where two endpoints, or two ranges, do not fit together.
        """
        under_way: deque[asyncio.Task[_Range]] = deque()
        turn, start = 0, first
        try:
            while under_way or start <= last:
                while start <= last and len(under_way) < RANGES_AT_ONCE:
                    stop = min(last, start + self._span.blocks - 1)
                    under_way.append(asyncio.create_task(self._fetch(start, stop, turn)))
                    turn, start = turn + 1, stop + 1
                done = await under_way.popleft()
                if parent is not None and done.parent_hash != parent.hash:
                    raise ChainDisagrees(
                        f"block {done.added.first} does not follow block {parent.number} as it is known"
                    )
                parent = done.finalized.block
                yield done.added
                yield done.finalized
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def logs(self, endpoint: Endpoint, first: int, last: int) -> LogColumns:
        """The logs of blocks first … last as one endpoint tells them, in as many requests as it wants."""
        return await self._parse(endpoint, await self._read(endpoint, first, last))

    async def _fetch(self, first: int, last: int, turn: int) -> _Range:
        endpoints = self._rpc.ranked()
        healthy = [endpoint for endpoint in endpoints if endpoint.failures == 0 and not endpoint.doubted] or endpoints
        reader = healthy[turn % len(healthy)]
        others = [endpoint for endpoint in endpoints if endpoint is not reader] or [reader]
        mine, theirs = await asyncio.gather(self._read(reader, first, last), self._read(others[0], first, last))
        verifier = others[0]
        logs = await self._parse(reader, mine)
        # Equal bytes, the usual case, need not be parsed twice.
        if mine != theirs and (await self._parse(verifier, theirs)).digest() != logs.digest():
            reader, verifier, logs = await self._settle(others[1:], reader, verifier, mine, theirs)
        return await self._with_headers(reader, verifier, first, last, logs)

    async def _settle(
        self, others: list[Endpoint], reader: Endpoint, verifier: Endpoint, mine: _Answers, theirs: _Answers
    ) -> tuple[Endpoint, Endpoint, LogColumns]:
        """Two endpoints differ: a third one's word decides, where there is one."""
        said = {reader: await self._parse(reader, mine), verifier: await self._parse(verifier, theirs)}
        first, last = mine.first, mine.last
        for other in others:
            word = await self._parse(other, await self._read(other, first, last))
            for endpoint, logs in said.items():
                if logs.digest() == word.digest():
                    (verifier if endpoint is reader else reader).doubt()
                    return endpoint, other, word
        raise ChainDisagrees(f"{reader.name} and {verifier.name} give different logs for blocks {first} … {last}")

    async def _read(self, endpoint: Endpoint, first: int, last: int) -> _Answers:
        """Unparsed answers for the range; in parts where the provider wants them narrower."""
        try:
            bodies = await self._logs.fetch_range(endpoint, first, last)
            for body in bodies:
                if len(body) < 4096 and b'"error"' in body:
                    self._rpc.result_of(endpoint, "eth_getLogs", body)
            return _Answers(first, last, bodies, ())
        except RpcRefused as refused:
            width = last - first + 1
            if refused.kind is Refusal.RANGE_TOO_WIDE:
                self._span.too_wide(width)
            elif refused.kind is Refusal.TOO_MANY_LOGS:
                self._span.too_much(width)
            if width == 1 or refused.kind not in (Refusal.RANGE_TOO_WIDE, Refusal.TOO_MANY_LOGS):
                raise
        except ChainUnavailable:
            # Possibly the answer took too long: whoever asks again asks for less.
            self._span.too_much(last - first + 1)
            raise
        middle = (first + last) // 2
        parts = (await self._read(endpoint, first, middle), await self._read(endpoint, middle + 1, last))
        return _Answers(first, last, [], parts)

    async def _parse(self, endpoint: Endpoint, answers: _Answers) -> LogColumns:
        if answers.parts:
            return join_columns([await self._parse(endpoint, part) for part in answers.parts])
        return await self._logs.parse_range(endpoint, answers.bodies, answers.first, answers.last)

    async def _with_headers(
        self, reader: Endpoint, verifier: Endpoint, first: int, last: int, logs: LogColumns
    ) -> _Range:
        """Headers of the blocks that carry logs, and of both ends, agreed by two endpoints; logs must fit to them."""
        numbers, rows = np.unique(block_numbers(logs), return_index=True)
        carrying = numbers.tolist()
        wanted = sorted({first, last, *carrying})
        by_number = dict(zip(wanted, await agreed_blocks(self._rpc, wanted), strict=True))
        for number, row in zip(carrying, rows.tolist(), strict=True):
            if by_number[number].hash != logs.block_hashes[32 * row : 32 * row + 32]:
                reader.doubt()
                raise ChainDisagrees(f"{reader.name} gave logs of block {number} that do not belong to its header")
        if not _uniform(logs, rows):
            raise ChainDisagrees(f"{reader.name} gave logs of one block under two hashes")
        self._span.fitted(last - first + 1, logs.count)
        blocks = tuple(by_number[number] for number in sorted({last, *carrying}))
        return _Range(
            by_number[first].parent_hash,
            BlockAdded(first, blocks, logs),
            Finalized(first, blocks[-1], logs.count, logs.digest(), reader.name, verifier.name),
        )


@dataclass(frozen=True, slots=True)
class _Answers:
    """What an endpoint said of a range: as a whole (`bodies`), or in two halves (`parts`)."""

    first: int
    last: int
    bodies: list[bytes]
    parts: tuple[_Answers, ...]


def _uniform(logs: LogColumns, starts: np.ndarray[tuple[int], np.dtype[np.intp]]) -> bool:
    """Whether all logs of a block have the hash of the block's first one; `starts` are the rows where blocks begin."""
    hashes = np.frombuffer(logs.block_hashes, dtype="V32")
    lengths = np.diff(np.append(starts, logs.count))
    return bool((hashes == np.repeat(hashes[starts], lengths)).all()) if logs.count else True
