"""What must come out of a run, computed from what the traffic did: without the daemon, its database or the chain.

├── window ──┤├── window ──┤├── window ──┤      multiples of the epoch's length, half-open [start, end)
▲ genesis                  ▲ closed                ▲ head
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bridge.domain.units import Address
from bridge.simulation.traffic import Act, Kind, TrafficBlock

Surplus = Callable[[Sequence[TrafficBlock], int, int], int]
"""The surplus, in atoms, that must be found in [start, end), from what the traffic did up to then."""


@dataclass(frozen=True, slots=True)
class Window:
    """What the traffic did between two moments, `start` ≤ t < `end`, in seconds of the chain.

    `fees` are atoms by token symbol. `weights` are atom-seconds by participant: what was in the pool, times how long;
    who had nothing in it is left out.
    """

    start: int
    end: int
    fees: dict[str, int]
    weights: dict[Address, int]


def closed_windows(history: Iterable[TrafficBlock], *, epoch_s: int, finalized_timestamp: int) -> list[Window]:
    """All windows with traffic that a chain finalized up to `finalized_timestamp` has closed, oldest first."""
    blocks = list(history)
    if not blocks:
        return []
    first = blocks[0].timestamp // epoch_s * epoch_s
    starts = range(first, finalized_timestamp - epoch_s + 1, epoch_s)
    return [
        Window(start, start + epoch_s, fees(blocks, start, start + epoch_s), weights(blocks, start, start + epoch_s))
        for start in starts
    ]


def fees(history: Iterable[TrafficBlock], start: int, end: int) -> dict[str, int]:
    """Atoms paid to the vault within [start, end), by token symbol."""
    totals: dict[str, int] = {}
    for act in acts(history, start, end):
        if act.kind is Kind.FEE:
            totals[act.token] = totals.get(act.token, 0) + act.amount
    return totals


def fees_in(symbol: str) -> Surplus:
    """All fees in that token."""
    return lambda history, start, end: fees(history, start, end).get(symbol, 0)


def amounts_of(kind: Kind) -> Surplus:
    """The amounts of all acts of that kind."""
    return lambda history, start, end: sum(act.amount for act in acts(history, start, end) if act.kind is kind)


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


def weights(history: Iterable[TrafficBlock], start: int, end: int) -> dict[Address, int]:
    """Atom-seconds in the pool within [start, end), by participant.

    An amount put in at t counts from max(t, start) to the end, so what was there before counts in full; taking out is
    putting in the negative.
    """
    signs = {Kind.DEPOSIT: 1, Kind.WITHDRAW: -1}
    totals: dict[Address, int] = {}
    for block in history:
        if block.timestamp < end:
            seconds = end - max(block.timestamp, start)
            for act in block.acts:
                if act.kind in signs:
                    totals[act.sender] = totals.get(act.sender, 0) + signs[act.kind] * act.amount * seconds
    return {participant: weight for participant, weight in totals.items() if weight > 0}
