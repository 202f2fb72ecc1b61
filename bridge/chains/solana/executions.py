"""Implements ports.Executions: a batch was executed where its marker exists, made by a transaction that paid."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.chains.solana.deeds import Deeds
from bridge.chains.solana.rpc import SolanaRpc
from bridge.domain.units import Address, BlockStamp


class Markers:
    """Those of some operators. Whoever made `rpc` closes it."""

    def __init__(self, rpc: SolanaRpc, operators: Sequence[Address]) -> None:
        self._deeds = Deeds(rpc, operators)

    async def executed(self, distribution_id: bytes, index: int, at: BlockStamp) -> bool:
        done = await self._deeds.find(distribution_id, index, at)
        return done is not None and not done.deed.cancels
