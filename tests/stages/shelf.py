"""Published trees in memory, for chains that have no files; it takes none that was not planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.domain.errors import HoldError
from bridge.domain.payouts import Distribution, Payout
from bridge.ports.paying import Payer

Trees = dict[bytes, tuple[Payout, ...]]
"""By distribution: the leaves."""


class Shelf:
    """Implements what stages need of ports.ClaimFiles. `trees` outlives whoever publishes, as a disk does."""

    def __init__(self, payer: Payer, trees: Trees) -> None:
        self._payer = payer
        self.trees = trees
        self.written = 0

    def publish(self, distribution: Distribution, leaves: Sequence[Payout]) -> None:
        planned, _ = self._payer.plan_claims(distribution.order, leaves)
        if planned.content_hash != distribution.content_hash:
            raise HoldError("another tree than was planned")
        self.trees[distribution.distribution_id] = tuple(leaves)
        self.written += 1

    def is_published(self, distribution_id: bytes) -> bool:
        return distribution_id in self.trees

    def find(self, distribution_id: bytes) -> Path | None:
        raise NotImplementedError

    def claim(self, distribution_id: bytes, account: str) -> Mapping[str, object]:
        raise NotImplementedError
