"""Dividing an amount among recipients, exactly: what is divided is what is given out, to the last atom.

Every split comes down to largest remainder: each recipient gets its quota rounded down, and the atoms that are left go
one by one to the largest fractions lost, ties by the recipient's address bytes. So the result depends on the weights
alone, never on their order, and nobody is an atom or more away from the exact quota.

    without ──► weights ─┬─► pro_rata      all of it, by weight
                         ├─► capped        the same, nobody above a cap; what nobody may take is handed back
                         └─► in_legs       several splits of parts of it, added up by recipient

A recipient with a weight of zero gets nothing, and one that gets nothing is in no result. Amounts are in atoms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from bridge.domain.units import BPS, Address, format_address

_PREFIX_BITS = 8
_PREFIXES = 1 << _PREFIX_BITS


class NoWeights(ValueError):
    """Nobody to give to. The caller holds the amount: it is never burnt and never handed to somebody else."""


# ── Weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def merged(weights: Iterable[tuple[Address, int]]) -> dict[Address, int]:
    """One weight a recipient; a recipient named twice gets the sum. Raises ValueError for a negative weight."""
    result: dict[Address, int] = {}
    for recipient, weight in weights:
        if weight < 0:
            raise ValueError(f"negative weight {weight} of {format_address(recipient)}")
        result[recipient] = result.get(recipient, 0) + weight
    return result


def without(weights: Mapping[Address, int], excluded: Collection[Address]) -> dict[Address, int]:
    """`weights` of all but the excluded: what they would have got is divided among the others."""
    kept = dict(weights)
    for recipient in excluded:
        kept.pop(recipient, None)
    return kept


# ── One split ───────────────────────────────────────────────────────────────────────────────────────────────────────
def pro_rata(total: int, weights: Mapping[Address, int]) -> dict[Address, int]:
    """`total` atoms by weight; recipients that get nothing are left out, and the values add up to `total`.

    Raises NoWeights where the weights add up to zero and there is something to give, ValueError for negative numbers.
    """
    whole = _whole(total, weights)
    if total == 0:
        return {}
    # One division a recipient gives its share and, below it, the first bits of the fraction that rounding down takes.
    scaled = total << _PREFIX_BITS
    quotas = [scaled * weight // whole for weight in weights.values()]
    shares = [quota >> _PREFIX_BITS for quota in quotas]
    left = total - sum(shares)
    if left == 0:
        return _above_zero(dict(zip(weights, shares, strict=True)))
    prefixes = [quota % _PREFIXES for quota in quotas]
    least, left = _border(prefixes, left)
    shares = [share + (prefix > least) for share, prefix in zip(shares, prefixes, strict=True)]
    result = dict(zip(weights, shares, strict=True))
    # Only where the first bits do not tell who lost more are whole fractions compared.
    close = [prefix == least for prefix in prefixes]
    fractions = [total * weight % whole for weight in compress(weights.values(), close)]
    for recipient in _largest(list(compress(weights, close)), fractions, left):
        result[recipient] += 1
    assert sum(result.values()) == total
    return _above_zero(result)


def _border(prefixes: Sequence[int], left: int) -> tuple[int, int]:
    """The prefix below which no fraction is among the `left` largest, and how many are to be chosen of that prefix."""
    counts = Counter(prefixes)
    for prefix in sorted(counts, reverse=True):
        if left <= counts[prefix]:
            return prefix, left
        left -= counts[prefix]
    raise AssertionError("each fraction is below one, and their sum is what is left")


def _largest(recipients: Sequence[Address], fractions: Sequence[int], count: int) -> list[Address]:
    """The `count` recipients with the largest fractions, ties by address bytes. Sorts numbers: that is fast."""
    least = sorted(fractions, reverse=True)[count - 1]
    assert least  # who lost nothing gains nothing
    above = [recipient for recipient, fraction in zip(recipients, fractions, strict=True) if fraction > least]
    tied = [recipient for recipient, fraction in zip(recipients, fractions, strict=True) if fraction == least]
    return above + _lowest(tied, count - len(above))


def _lowest(recipients: Sequence[Address], count: int) -> list[Address]:
    """The `count` recipients with the lowest address bytes. Only those with the first byte at the border are sorted."""
    if count == len(recipients):
        return list(recipients)
    border = sorted(recipient[:1] for recipient in recipients)[count - 1]
    below = [recipient for recipient in recipients if recipient[:1] < border]
    at_border = [recipient for recipient in recipients if recipient[:1] == border]
    return below + sorted(at_border)[: count - len(below)]


def capped(total: int, weights: Mapping[Address, int], cap: int) -> tuple[dict[Address, int], int]:
    """`total` atoms by weight, nobody above `cap`: the shares, and the rest that nobody may take. They add up to it.

    What the cap keeps from one goes to the others by weight, which may lift more of them to the cap. Precisely: the
    exact quota of each is min(cap, level × weight), as if water were filled in, and `level` is the one number for which
    the quotas add up to `total`. The shares are the quotas by largest remainder, as in pro_rata. Where even all with a
    weight at the cap take less than `total`, each gets the cap, and the rest is what is then left; else it is zero.

          cap ├──┬──┐· · · · · · ·         level: by unit of weight. There is only one, for every bit of water
              │  │  ├──┐                   more lifts those that are not at the cap yet.
              │  │  │  ├──┐
              └──┴──┴──┴──┴── weight

    It is found from the heaviest down: who would get more than the cap gets the cap and is taken out with it, which
    leaves more for each unit of weight of the others. So nobody who was taken out would have to come back. Rounding
    lifts nobody above the cap, for a quota below a whole number of atoms is rounded to that number at most. With a cap
    of `total` or more this is pro_rata.

    Raises NoWeights and ValueError as pro_rata does, and ValueError for a negative cap. O(n log n).
    """
    if cap < 0:
        raise ValueError("a cap cannot be negative")
    whole = _whole(total, weights)
    if total * max(weights.values(), default=0) <= cap * whole:
        return pro_rata(total, weights), 0
    rest, least = total, 0  # `least`: the smallest weight that is at the cap
    for weight in sorted(weights.values(), reverse=True):
        # True at the first weight of zero too, when everybody else was taken out: 0 <= 0.
        if rest * weight <= cap * whole:
            break
        rest, whole, least = rest - cap, whole - weight, weight
    shares = {recipient: cap for recipient, weight in weights.items() if weight >= least} if cap else {}
    if whole:
        shares |= pro_rata(rest, {recipient: weight for recipient, weight in weights.items() if weight < least})
        rest = 0
    assert sum(shares.values()) + rest == total
    return shares, rest


def by_shares(total: int, shares: Sequence[tuple[Address, int]]) -> dict[Address, int]:
    """`total` by fixed shares in basis points, which must add up to a whole."""
    _check_bps([bps for _, bps in shares])
    return pro_rata(total, merged(shares))


# ── Several splits ──────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Leg:
    """A part of an amount that is divided by weights of its own."""

    name: str  # for messages
    bps: int  # of the whole amount
    weights: Mapping[Address, int]
    residual: bool = False  # takes all that rounding leaves; has one recipient


def in_legs(total: int, legs: Sequence[Leg]) -> dict[Address, int]:
    """`total` atoms over `legs`; who is in several of them gets the sum, and the values add up to `total`.

    Without a residual leg the legs' amounts are set by largest remainder, ties by the order of the legs, and each is
    divided as in pro_rata. With one, the amounts of the other legs and then each share in them are rounded down, and
    what is left goes to the residual leg's recipient.

    Raises NoWeights, naming the leg, where one has nobody to give to, be its amount ever so small; a leg of 0 bps needs
    nobody, unless it is the residual one. Raises ValueError for negative numbers, where the legs do not add up to a
    whole, and for more than one residual leg or more than one recipient in it.
    """
    _check_bps([leg.bps for leg in legs])
    residual = [leg for leg in legs if leg.residual]
    if len(residual) > 1:
        raise ValueError("only one leg can be the residual one")
    needed = [leg for leg in legs if leg.bps or leg.residual]
    for leg in needed:
        _check_leg(total, leg)
    if total == 0:
        return {}
    result: Counter[Address] = Counter()
    if residual:
        for leg in needed:
            if not leg.residual:
                result.update(_rounded_down(total * leg.bps // BPS, leg.weights))
        [recipient] = (who for who, weight in residual[0].weights.items() if weight)
        result[recipient] += total - result.total()
    else:
        # The legs stand for recipients here, named so that the order of their bytes is the order of the legs.
        places = {Address(place.to_bytes(8)): leg for place, leg in enumerate(needed)}
        amounts = pro_rata(total, {place: leg.bps for place, leg in places.items()})
        for place, amount in amounts.items():
            result.update(pro_rata(amount, places[place].weights))
    assert result.total() == total
    return _above_zero(result)


def _check_leg(total: int, leg: Leg) -> None:
    try:
        _whole(total, leg.weights)
    except NoWeights:
        raise NoWeights(f"{leg.name}: {total} to divide, and nobody with a weight in this leg") from None
    if leg.residual and sum(weight > 0 for weight in leg.weights.values()) > 1:
        raise ValueError(f"{leg.name}: the residual leg has more than one recipient")


def _rounded_down(total: int, weights: Mapping[Address, int]) -> dict[Address, int]:
    whole = sum(weights.values())
    return {recipient: total * weight // whole for recipient, weight in weights.items()}


# ── Parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _whole(total: int, weights: Mapping[Address, int]) -> int:
    """The sum of the weights. Raises NoWeights where it is zero and `total` is not, ValueError for what is negative."""
    if total < 0 or min(weights.values(), default=0) < 0:
        raise ValueError("neither a total nor a weight can be negative")
    whole = sum(weights.values())
    if total and not whole:
        raise NoWeights(f"{total} to give and nobody with a weight")
    return whole


def _above_zero(shares: dict[Address, int]) -> dict[Address, int]:
    if min(shares.values()) > 0:
        return shares
    return {recipient: share for recipient, share in shares.items() if share}


def _check_bps(parts: Iterable[int]) -> None:
    whole = sum(parts)
    if whole != BPS:
        raise ValueError(f"shares add up to {whole} bps, not {BPS}")
