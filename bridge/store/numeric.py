"""NUMERIC as exact Python integers, in Postgres' binary format.

asyncpg maps NUMERIC to Decimal, whose default context rounds at 28 digits; a uint256 has 78. This codec never makes a
Decimal, and being binary it also serves COPY.

Wire format (postgres/src/backend/utils/adt/numeric.c, numeric_send): int16 ndigits, int16 weight, uint16 sign,
uint16 dscale, then ndigits base-10000 digits, most significant first; the first digit counts 10000^weight.
"""

from __future__ import annotations

import struct

_BASE = 10_000
_NEGATIVE = 0x4000
_ZERO = struct.pack(">hhHH", 0, 0, 0, 0)


def encode_numeric(value: int) -> bytes:
    """Raises TypeError for anything but an int: a float or a Decimal must never reach an amount column."""
    if type(value) is not int:
        raise TypeError(f"NUMERIC columns take int, not {type(value).__name__}")
    if value == 0:
        return _ZERO
    digits: list[int] = []
    rest = abs(value)
    while rest:
        rest, digit = divmod(rest, _BASE)
        digits.append(digit)
    digits.reverse()
    sign = _NEGATIVE if value < 0 else 0
    return struct.pack(f">hhHH{len(digits)}H", len(digits), len(digits) - 1, sign, 0, *digits)


def decode_numeric(wire: bytes) -> int:
    """Raises ValueError for a fraction, NaN or infinity: no amount of ours can be one."""
    ndigits: int
    weight: int
    ndigits, weight, sign, _ = struct.unpack_from(">hhHH", wire)
    if sign not in (0, _NEGATIVE):
        raise ValueError("NUMERIC is NaN or infinite where an integer is due")
    if ndigits == 0:
        return 0
    value = 0
    for digit in struct.unpack_from(f">{ndigits}H", wire, 8):
        value = value * _BASE + digit
    shift = weight - (ndigits - 1)
    if shift < 0:
        raise ValueError("NUMERIC has a fraction where an integer is due")
    value *= int(_BASE**shift)
    return -value if sign else value
