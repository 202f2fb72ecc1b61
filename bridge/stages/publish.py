"""claim distributions ─► files with everybody's proof ─► published.

    planned ─► leaves (what each account was given in all) ─► files ─► published_at; then stages/pay.py proposes

So whoever can look at a proposal can look at what it gives to whom. Files are made before the row says so, and making
them again changes nothing. The disk is this machine's: what another one published is made here too, at the start.
"""

from __future__ import annotations

import asyncio

from bridge.ports.database import Database
from bridge.ports.paying import ClaimFiles
from bridge.ports.running import Lease
from bridge.runtime.crashpoints import CrashPoint, reach


class Publish:
    """The publisher of one chain's claim sets."""

    name = "publish"

    def __init__(self, *, database: Database, chain: str, files: ClaimFiles, lease: Lease) -> None:
        self._database = database
        self._chain = chain
        self._files = files
        self._lease = lease
        self._looked_back = False

    async def step(self) -> bool:
        if not self._looked_back:
            await self._look_back()
            self._looked_back = True
        async with self._database.snapshot() as transaction:
            distribution_id = await transaction.claims.unpublished(self._chain)
        if distribution_id is None:
            return False
        await self._publish(distribution_id)
        reach(CrashPoint.PROOFS_WRITTEN_NOT_RECORDED)
        async with self._database.begin(self._lease) as transaction:
            await transaction.claims.mark_published(distribution_id)
        return True

    async def _look_back(self) -> None:
        """The newest tree of each asset, which is the one that is claimed from, where this disk does not have it."""
        async with self._database.snapshot() as transaction:
            newest = await transaction.claims.newest(self._chain)
        for distribution_id in newest:
            if not self._files.is_published(distribution_id):
                await self._publish(distribution_id)

    async def _publish(self, distribution_id: bytes) -> None:
        async with self._database.snapshot() as transaction:
            distribution = await transaction.payouts.distribution(distribution_id)
            leaves = await transaction.claims.leaves(distribution_id)
        # Hashing and writing of a large set takes a minute, in which the lease must be renewed.
        await asyncio.to_thread(self._files.publish, distribution, leaves)
