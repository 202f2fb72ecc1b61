"""What a reconciliation compares: the books of a chain, and what the database said of them at one block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bridge.domain.breaks import Check, Difference, Spent
from bridge.domain.events import Block
from bridge.domain.ledger import Balance, Watched
from bridge.domain.units import AssetId, BlockStamp
from bridge.ports.reading import ChainReader, ClaimedAmounts, Executions, History

Span = tuple[int, int]
"""Blocks: (after, last)."""
DIFFERENCES_MAX = 1_000
"""Of one check. A run that finds more has found one thing, many times."""


@dataclass(frozen=True, slots=True)
class Books:
    """One chain whose books are compared with it."""

    chain: ChainReader
    watched: Watched
    start_block: int
    history: History | None = None  # where the sweep asks for old logs once more; None: it does not
    executions: Executions | None = None  # what the chain keeps of executed batches, beside its events
    claimed: ClaimedAmounts | None = None  # what the chain keeps of each account's claims; None: nothing is claimed


@dataclass(frozen=True, slots=True)
class View:
    """What the database said, in one snapshot, about one chain at block `at`."""

    at: BlockStamp
    checks: tuple[Check, ...]  # those that need no node
    balances: Mapping[tuple[str, AssetId], Balance]
    spent: Spent | None
    unbooked: int
    headers: tuple[Block, ...]  # to be asked for again; the last one is `at`, where it is stored
    outcomes: tuple[tuple[bytes, int, bool], ...] = ()  # batches that are over: id, index, executed
    credited: Mapping[tuple[str, AssetId], int] = field(default_factory=dict)  # what we say single accounts are owed
    claimed: Mapping[tuple[str, AssetId], int] = field(default_factory=dict)  # what they have claimed, as booked
    opening: BlockStamp | None = None  # which the books begin after; noted where `claimed` is not empty
    swept: Mapping[str, str] = field(default_factory=dict)  # how far each sweep will have come
    again: Sequence[Span] = ()  # old blocks whose logs the nodes are asked for once more


def posted(balances: Mapping[tuple[str, AssetId], Balance], code: str, asset: AssetId) -> int:
    balance = balances.get((code, asset))
    return 0 if balance is None else balance.posted


def bounded(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    return tuple(differences[:DIFFERENCES_MAX])
