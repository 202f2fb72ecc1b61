"""The finalized past of a Solana chain, for whoever keeps no database: implements ports.History."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana.blocks import final_slot
from bridge.chains.solana.follow import Panel, agreed_block
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.tokens import Names, look_around
from bridge.domain.events import Block, BlockAdded
from bridge.ports.reading import LogFilter


class SolanaHistory:
    """Whoever made `rpc` closes it."""

    def __init__(self, name: str, rpc: SolanaRpc, names: Names) -> None:
        self._name = name
        self._rpc = rpc
        self._names = names

    async def finalized(self) -> Block | None:
        """See ports.History; the newest that two endpoints call final, where there are two."""

        async def slot_of(endpoint: Endpoint) -> int:
            return await final_slot(self._rpc, endpoint)

        slot = await self._rpc.reached_by_two(slot_of)
        return None if slot is None else await agreed_block(self._rpc, slot)

    async def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        """See ports.History. Every range is read twice, by two endpoints where there are two. The last block is the
        newest one up to slot `last`."""
        watch = (await look_around(self._rpc, self._names, self._name)).watch
        panel = Panel(self._name, self._rpc, watch, filters)
        head = (await agreed_block(self._rpc, last)).number
        before: Block | None = None
        while first <= head:
            stop = await panel.cut(first, before, head)
            span, _, _ = await panel.read(first, before, stop, head)
            yield BlockAdded(span.first, span.blocks, span.logs)
            before, first = span.blocks[-1], stop + 1
