"""Ingest: what happens on the chain becomes rows.

cursor (committed rows) ─► chain.follow ─► BlockAdded ─► blocks, logs ─┐
                                           Reorged ────► orphaned ─────┼─► head and cursor, in the same commit
                                           Finalized ──► finalized ────┘
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import assert_never

from bridge.domain.events import BlockAdded, ChainEvent, Finalized, Reorged
from bridge.domain.units import BlockStamp
from bridge.ports.database import Database, Transaction
from bridge.ports.reading import ChainReader, LogFilter
from bridge.ports.running import Lease
from bridge.runtime.crashpoints import CrashPoint, reach


class Ingest:
    """One chain's ingest. Its cursor is the stored chain itself, so progress and data cannot come apart."""

    name = "ingest"

    def __init__(
        self, *, database: Database, chain: ChainReader, lease: Lease | None, filters: Sequence[LogFilter]
    ) -> None:
        self._database = database
        self._chain = chain
        self._lease = lease
        self._filters = tuple(filters)
        # Stands exactly at what is committed; None when that is in doubt, then it is made anew from rows.
        self._events: AsyncGenerator[ChainEvent, None] | None = None

    async def step(self) -> bool:
        """Wait for the next event of the chain and commit it. Always True: the waiting is done here.

        One event, one commit: near the head an event is what one look found, in a backfill it is a wide range.
        """
        events, self._events = self._events, None
        if events is None:
            async with self._database.begin() as transaction:
                cursor = await transaction.events.cursor(self._chain.name)
            events = self._chain.follow(cursor, self._filters)
        try:
            event = await anext(events)
            async with self._database.begin(self._lease) as transaction:
                await self._save(transaction, event)
            reach(CrashPoint.EVENT_SAVED)
        except BaseException:
            await events.aclose()  # it may have requests under way
            raise
        # Only now: after an error, or a COMMIT that may or may not have happened, the rows decide where to go on.
        self._events = events
        return True

    async def _save(self, transaction: Transaction, event: ChainEvent) -> None:
        chain = self._chain.name
        match event:
            case BlockAdded():
                await transaction.events.add(chain, event, await self._chain.node_head())
                head = event.blocks[-1]
            case Reorged():
                await transaction.events.orphan_above(chain, event.ancestor)
                head = event.ancestor
            case Finalized():
                await transaction.events.finalize(chain, event)
                return
            case _:
                assert_never(event)
        await transaction.chains.move_cursor(self.name, chain, BlockStamp(chain, head.number, head.hash))
