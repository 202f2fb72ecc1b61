"""The finalized past of an EVM chain, for whoever keeps no database: implements ports.History."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence

from bridge.chains.evm.backfill import Backfill
from bridge.chains.evm.follow import Finality
from bridge.chains.evm.ranges import LogReader, Span, agreed_blocks
from bridge.chains.evm.rpc import Endpoint, EvmRpc, RpcRefused
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block, BlockAdded
from bridge.ports import LogFilter


class EvmHistory:
    """Whoever made `rpc` closes it."""

    def __init__(self, rpc: EvmRpc, *, finality: Finality) -> None:
        self._rpc = rpc
        self._finality = finality
        self._span = Span()

    async def finalized(self) -> Block:
        """See ports.History; the newest that two endpoints call final, where there are two."""

        async def number_of(endpoint: Endpoint) -> int | None:
            _, final = await self._finality.ask(self._rpc, endpoint)
            return None if final is None else final.block.number

        try:
            number = await self._rpc.reached_by_two(number_of)
        except RpcRefused:
            number = None
        if number is None:
            raise ConfigError(
                "no finalized block is known there", where="--rpc", mend="wait for one, or give --depth N: blocks "
                "under the head that count as final where nodes know no such tag",
            )
        (block,) = await agreed_blocks(self._rpc, [number])
        return block

    async def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        """See ports.History. Every range is read twice, by two endpoints where there are two."""
        backfill = Backfill(LogReader(self._rpc, filters), self._span)
        async with contextlib.aclosing(backfill.read(first, last, None)) as events:
            async for event in events:
                if isinstance(event, BlockAdded):
                    yield event
