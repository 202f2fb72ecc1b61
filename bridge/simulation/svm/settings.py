"""What a local Solana chain is made from."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.domain.errors import ConfigError

SLOT_MS = 400
CONFIRMED_DEPTH = 2
FINALIZED_DEPTH = 32
FIRST_SLOT = 1000
BLOCKS_KEPT = 20_000
RECORDS_KEPT = 50_000
"""A transaction takes 4 … 8 kB."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The same settings and the same calls give the same chain, byte for byte, unless it follows a timer.

    `slot_ms` is real time between slots and also what each adds to the chain's own clock; with `timer` off slots pass
    only when asked for. `skipped_per_mille` of all slots hold no block, by `seed`, and so do `skipped_slots`.
    """

    seed: int = 0
    slot_ms: int = SLOT_MS
    timer: bool = True
    confirmed_depth: int = CONFIRMED_DEPTH  # blocks from the head to the newest confirmed one
    finalized_depth: int = FINALIZED_DEPTH  # blocks from the head to the newest finalized one
    skipped_per_mille: int = 0
    skipped_slots: frozenset[int] = frozenset()
    first_slot: int = FIRST_SLOT  # unlike the first height, so that nobody takes one for the other unseen
    genesis_time: int | None = None  # seconds, of the first block; None: now
    blocks_kept: int = BLOCKS_KEPT  # older ones are cleaned up, as a node without an archive does
    records_kept: int = RECORDS_KEPT  # transactions in these blocks

    def check(self) -> None:
        """Raises ConfigError for a value that makes no sense."""
        for holds, problem in (
            (1 <= self.slot_ms <= 600_000, "a slot must last 1 … 600000 ms"),
            (
                0 <= self.confirmed_depth <= self.finalized_depth,
                "what is finalized must be confirmed: 0 ≤ confirmed depth ≤ finalized depth",
            ),
            (0 <= self.skipped_per_mille < 1000, "skipped slots must be 0 … 999 per mille"),
            (self.first_slot >= 1, "the first slot must be 1 or later"),
            # Below that, a blockhash could be forgotten while it is valid, or a block before it is finalized.
            (
                self.blocks_kept >= self.finalized_depth + 400,
                "at least 400 blocks must be kept below the finalized one",
            ),
            (self.records_kept >= 1, "at least one transaction must be kept"),
        ):
            if not holds:
                raise ConfigError(problem)
