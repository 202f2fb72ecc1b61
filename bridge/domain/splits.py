"""Dividing an amount among recipients, exactly: what is divided is what is given out, to the last atom.

Every split comes down to largest remainder: each recipient gets its quota rounded down, and the atoms that are left go
one by one to the largest fractions lost, ties by the recipient's address bytes. So the result depends on the weights
alone, never on their order, and nobody is more than one atom away from the exact quota.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bridge.domain.units import BPS, Address


class NoWeights(ValueError):
    """Nobody to give to. The caller holds the amount: it is never burnt and never handed to somebody else."""


def merged(weights: Iterable[tuple[Address, int]]) -> dict[Address, int]:
    """One weight a recipient; a recipient named twice gets the sum. Raises ValueError for a negative weight."""
    result: dict[Address, int] = {}
    for recipient, weight in weights:
        if weight < 0:
            raise ValueError(f"negative weight {weight} of 0x{recipient.hex()}")
        result[recipient] = result.get(recipient, 0) + weight
    return result


def pro_rata(total: int, weights: Mapping[Address, int]) -> dict[Address, int]:
    """`total` atoms by weight; recipients that get nothing are left out, and the values add up to `total`.

    Raises NoWeights where the weights add up to zero and there is something to give, ValueError for negative numbers.
    """
    if total < 0 or any(weight < 0 for weight in weights.values()):
        raise ValueError("neither a total nor a weight can be negative")
    whole = sum(weights.values())
    if total == 0:
        return {}
    if whole == 0:
        raise NoWeights(f"{total} to give and nobody with a weight")
    shares: dict[Address, int] = {}
    lost: dict[Address, int] = {}  # the fraction of an atom that rounding down took, in units of 1 / whole
    for recipient, weight in weights.items():
        shares[recipient], fraction = divmod(total * weight, whole)
        if fraction:
            lost[recipient] = fraction
    left = total - sum(shares.values())
    assert left <= len(lost)  # each fraction is below one, and their sum is `left`
    for recipient in _largest(lost, left):
        shares[recipient] += 1
    result = {recipient: share for recipient, share in shares.items() if share}
    assert sum(result.values()) == total
    return result


def _largest(fractions: Mapping[Address, int], count: int) -> list[Address]:
    """The `count` recipients with the largest fractions, ties by address bytes. Sorts numbers only: that is fast."""
    if count == 0:
        return []
    least = sorted(fractions.values(), reverse=True)[count - 1]
    above = [recipient for recipient, fraction in fractions.items() if fraction > least]
    tied = sorted(recipient for recipient, fraction in fractions.items() if fraction == least)
    return above + tied[: count - len(above)]


def by_shares(total: int, shares: Sequence[tuple[Address, int]]) -> dict[Address, int]:
    """`total` by fixed shares in basis points, which must add up to a whole."""
    if sum(bps for _, bps in shares) != BPS:
        raise ValueError(f"shares add up to {sum(bps for _, bps in shares)} bps, not {BPS}")
    return pro_rata(total, merged(shares))


def equal(total: int, recipients: Sequence[Address]) -> dict[Address, int]:
    """`total` in equal parts; who is named twice still gets one part."""
    return pro_rata(total, dict.fromkeys(recipients, 1))
