"""The finalized past of an EVM chain, for whoever keeps no database: implements ports.History."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence

from bridge.chains.evm.backfill import Backfill
from bridge.chains.evm.follow import Finality
from bridge.chains.evm.ranges import LogReader, Span, agreed_blocks
from bridge.chains.evm.rpc import Endpoint, EvmRpc, RpcRefused
from bridge.domain.events import Block, BlockAdded
from bridge.ports.reading import LogFilter


class EvmHistory:
    """Whoever made `rpc` closes it."""

    def __init__(self, rpc: EvmRpc, *, finality: Finality) -> None:
        self._rpc = rpc
        self._finality = finality
        self._span = Span()

    async def finalized(self) -> Block | None:
        """See ports.History; the newest that two endpoints call final, where there are two."""

        async def number_of(endpoint: Endpoint) -> int | None:
            try:
                _, final = await self._finality.ask(self._rpc, endpoint)
            except RpcRefused:
                return None  # it does not know the tag
            return None if final is None else final.block.number

        number = await self._rpc.reached_by_two(number_of)
        if number is None:
            return None
        (block,) = await agreed_blocks(self._rpc, [number])
        return block

    async def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        """See ports.History. Every range is read twice, by two endpoints where there are two."""
        backfill = Backfill(LogReader(self._rpc, filters), self._span)
        async with contextlib.aclosing(backfill.read(first, last, None)) as events:
            async for event in events:
                if isinstance(event, BlockAdded):
                    yield event
