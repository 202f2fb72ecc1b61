"""What must come out of a run, computed from what the traffic did: without the daemon, its database or the chain.

├── window ──┤├── window ──┤├── window ──┤      multiples of the epoch's length, half-open [start, end)
▲ genesis                  ▲ closed                ▲ head
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bridge.domain.units import Address
from bridge.simulation.traffic import Act, Kind, TrafficBlock

Span = tuple[int, int]
"""[start, end), in seconds of the chain."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the daemon says that it decided on a window of a rule. Atoms."""

    window: Span
    surplus: int
    carried: int  # what earlier windows left it, and what it left to later ones
    paid: Mapping[Address, int]

    @property
    def end(self) -> int:
        return self.window[1]


Surplus = Callable[[Sequence[TrafficBlock], Sequence[Decided]], list[int]]
"""The surplus, in atoms, that must be found in each of a rule's windows: all of them from its first on, in order. Of
what the daemon says, it may use the windows, and what those before were paid."""
Weights = Callable[[Sequence[TrafficBlock], Sequence[Decided]], list[Mapping[Address, int]]]
"""What the surplus of each of a rule's windows must be shared by."""
IN_POOL = {Kind.DEPOSIT: 1, Kind.WITHDRAW: -1}


def fees(history: Iterable[TrafficBlock], start: int, end: int) -> dict[str, int]:
    """Atoms paid to the vault within [start, end), by token symbol."""
    totals: dict[str, int] = {}
    for act in acts(history, start, end):
        if act.kind is Kind.FEE:
            totals[act.token] = totals.get(act.token, 0) + act.amount
    return totals


def fees_in(symbol: str) -> Surplus:
    """All fees in that token."""
    return lambda history, decided: [fees(history, *each.window).get(symbol, 0) for each in decided]


def amounts_of(kind: Kind) -> Surplus:
    """The amounts of all acts of that kind."""
    return lambda history, decided: [
        sum(act.amount for act in acts(history, *each.window) if act.kind is kind) for each in decided
    ]


def window_ends(history: Iterable[TrafficBlock], each: Kind | None, epoch_s: int, since: int, until: int) -> list[int]:
    """The ends, in (since, until], of the windows of a rule: of each epoch, or, with `each`, right after each second in
    which there was an act of that kind."""
    if each is None:
        return list(range(since - since % epoch_s + epoch_s, until + 1, epoch_s))
    return [
        block.timestamp + 1
        for block in history
        if since <= block.timestamp < until and any(act.kind is each for act in block.acts)
    ]


def acts(history: Iterable[TrafficBlock], start: int, end: int) -> Iterable[Act]:
    """All acts of [start, end), in their order."""
    for block in history:
        if start <= block.timestamp < end:
            yield from block.acts


def by_time(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[Mapping[Address, int]]:
    """What was in the pool, and how long."""
    return [weights(history, *each.window) for each in decided]


def fixed(shares: Mapping[Address, int]) -> Weights:
    """The same in every window."""
    return lambda _, decided: [shares] * len(decided)


def weights(
    history: Iterable[TrafficBlock], start: int, end: int, counted: Callable[[Act], int] = attrgetter("amount")
) -> dict[Address, int]:
    """Atom-seconds in the pool within [start, end), by participant.

    An amount put in at t counts from max(t, start) to the end, so what was there before counts in full; taking out is
    putting in the negative.
    """
    totals: dict[Address, int] = {}
    for block in history:
        if block.timestamp < end:
            seconds = end - max(block.timestamp, start)
            for act in block.acts:
                if act.kind in IN_POOL:
                    totals[act.sender] = totals.get(act.sender, 0) + IN_POOL[act.kind] * counted(act) * seconds
    return {participant: weight for participant, weight in totals.items() if weight > 0}


def deposits(history: Iterable[TrafficBlock], before: int) -> dict[Address, int]:
    """Atoms in the pool by participant, as acts before the second `before` left them."""
    totals: dict[Address, int] = {}
    for act in acts(history, 0, before):
        if act.kind in IN_POOL:
            totals[act.sender] = totals.get(act.sender, 0) + IN_POOL[act.kind] * act.amount
    return {participant: atoms for participant, atoms in totals.items() if atoms > 0}
