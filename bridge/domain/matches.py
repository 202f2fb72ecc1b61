"""What moved through a suspense account, matched: what is left is a person's to explain.

    same transaction ──► one payer, one amount, one of each sign ──► a person

An amount is never matched by being near, nor one of several that it could be: a wrong match hides two mistakes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moved:
    """A journal's effect on the account."""

    amount: int  # debits − credits, atoms; not 0
    tx_hash: bytes | None  # None where no log is behind it
    payer: bytes | None  # who paid, or was paid; None where no log says so
    line: str  # for a person


@dataclass(frozen=True, slots=True)
class Matched:
    by_transaction: int
    by_payer: int
    left: tuple[Moved, ...]  # in the order in which they came


def match(moves: Sequence[Moved]) -> Matched:
    """`moves` in the order of the books."""
    left = _without(moves, _netting(moves, lambda move: move.tx_hash))
    paired = _pairs(left)
    rest = _without(left, paired)
    return Matched(by_transaction=len(moves) - len(left), by_payer=len(left) - len(rest), left=tuple(rest))


def _netting(moves: Sequence[Moved], key: Callable[[Moved], Hashable | None]) -> set[int]:
    """Places of those whose group comes to zero."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place, move in enumerate(moves):
        if (of := key(move)) is not None:
            groups[of].append(place)
    return {place for places in groups.values() if sum(moves[each].amount for each in places) == 0 for place in places}


def _pairs(moves: Sequence[Moved]) -> set[int]:
    """Places of those that are the only two of their payer and amount, and opposite."""
    groups: defaultdict[tuple[bytes, int], list[int]] = defaultdict(list)
    for place, move in enumerate(moves):
        if move.payer is not None:
            groups[move.payer, abs(move.amount)].append(place)
    return {
        place
        for places in groups.values()
        if len(places) == 2 and moves[places[0]].amount == -moves[places[1]].amount
        for place in places
    }


def _without(moves: Sequence[Moved], places: set[int]) -> list[Moved]:
    return [move for place, move in enumerate(moves) if place not in places]
