"""Amounts, addresses, assets and block stamps: the values everything else is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

Address = NewType("Address", bytes)
"""An account on a chain as raw bytes: 20 on EVM chains, 32 on Solana. Compared and ordered as bytes, never as text."""

AssetId = NewType("AssetId", str)
"""CAIP-19, lower case: `eip155:1/erc20:0xa0b8…` or `eip155:1/slip44:60` for the native coin."""

UINT256_MAX = 2**256 - 1
BPS = 10_000
"""Basis points in a whole."""


def check_amount(amount: int) -> int:
    """Return `amount` (atoms of an asset) unchanged.

    Raises ValueError unless it is an int, not a bool, within uint256.
    """
    if type(amount) is not int or not 0 <= amount <= UINT256_MAX:
        raise ValueError(f"not a uint256 amount: {amount!r}")
    return amount


@dataclass(frozen=True, slots=True, order=True)
class BlockStamp:
    """The point of a chain that a statement is about. The hash is what counts; the number is for people and order."""

    chain: str
    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.chain}#{self.number}({self.hash.hex()[:8]})"


def format_address(address: bytes) -> str:
    """Lower-case 0x hex: the form used in account codes, JSON and logs (never a checksum, so that equal is equal)."""
    return "0x" + address.hex()


def format_amount(amount: int, decimals: int) -> str:
    """Atoms as a decimal numeral with every digit kept, for people: 1500000 with 6 decimals is `1.5`."""
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), 10**decimals)
    if decimals == 0 or fraction == 0:
        return f"{sign}{whole:,}"
    return f"{sign}{whole:,}." + str(fraction).rjust(decimals, "0").rstrip("0")
