"""What a number of a rule counts: `amount<USDX>`, `bps`, `seconds`, `price<WETH/USDX>`, a plain `number`, or a product.

A unit is a product of powers of bases, so that multiplying and dividing need no table of cases:

    amount<WETH> × price<WETH/USDX> / 10^36 = amount<USDX>
    amount<USDX> × bps / BPS                = amount<USDX>

Amounts are atoms. price<A/B> is the atoms of B for 10^36 atoms of A: the scale of Morpho's oracles (IOracle.price()),
fine enough for a token of 18 decimals that is worth less than an atom of one with 6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PRICE_SCALE = 10**36

_AMOUNT = re.compile(r"amount<([A-Za-z][A-Za-z0-9_.]*)>\Z")
_PRICE = re.compile(r"price<([A-Za-z][A-Za-z0-9_.]*)/([A-Za-z][A-Za-z0-9_.]*)>\Z")
_PLAIN = ("bps", "seconds")
_SCALE = "10^36"

UNIT_SYNTAX = "amount<TOKEN>, bps, seconds, price<BASE/QUOTE> or number"


@dataclass(frozen=True, slots=True)
class Unit:
    """Powers of bases, by base ascending, none of them zero. Equal units are equal objects."""

    powers: tuple[tuple[str, int], ...] = ()

    def __mul__(self, other: Unit) -> Unit:
        return _unit({base: self._power(base) + other._power(base) for base in self._bases() | other._bases()})

    def __truediv__(self, other: Unit) -> Unit:
        return _unit({base: self._power(base) - other._power(base) for base in self._bases() | other._bases()})

    def _bases(self) -> set[str]:
        return {base for base, _ in self.powers}

    def _power(self, base: str) -> int:
        return dict(self.powers).get(base, 0)

    @property
    def token(self) -> str | None:
        """Of what token this is an amount; None where it is something else."""
        match = _AMOUNT.match(str(self))
        return match[1] if match else None

    @property
    def pair(self) -> tuple[str, str] | None:
        """Base and quote where this is a price; None where it is something else."""
        match = _PRICE.match(str(self))
        return (match[1], match[2]) if match else None

    def __str__(self) -> str:
        above = [base for base, power in self.powers for _ in range(power)]
        below = [base for base, power in self.powers for _ in range(-power)]
        if len(above) == 2 and len(below) == 1 and _SCALE in above:
            quote, base = (_AMOUNT.match(part) for part in (next(b for b in above if b != _SCALE), below[0]))
            if quote and base:
                return f"price<{base[1]}/{quote[1]}>"
        text = " × ".join(above) or "number"
        return f"{text} / {' / '.join(below)}" if below else text


def _unit(powers: Mapping[str, int]) -> Unit:
    return Unit(tuple(sorted((base, power) for base, power in powers.items() if power)))


NO_UNIT = Unit()
BPS_UNIT = _unit({"bps": 1})
SECONDS = _unit({"seconds": 1})
SCALE_UNIT = _unit({_SCALE: 1})


def amount_of(token: str) -> Unit:
    return _unit({f"amount<{token}>": 1})


def price_of(base: str, quote: str) -> Unit:
    return amount_of(quote) * SCALE_UNIT / amount_of(base)


def parse_unit(text: str) -> Unit:
    """Raises ValueError where `text` names no unit."""
    text = text.strip()
    if text == "number":
        return NO_UNIT
    if text in _PLAIN:
        return _unit({text: 1})
    if match := _AMOUNT.match(text):
        return amount_of(match[1])
    if match := _PRICE.match(text):
        return price_of(match[1], match[2])
    raise ValueError(f"`{text}` is no unit: write {UNIT_SYNTAX}")
