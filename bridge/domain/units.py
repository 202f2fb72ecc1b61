"""Amounts, addresses, assets and block stamps: the values everything else is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

Address = NewType("Address", bytes)
"""An account on a chain as raw bytes, 20 or 32 by the chain. Compared and ordered as bytes, never as text."""

_HEX_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUE = {sign: value for value, sign in enumerate(_BASE58)}
_BASE58_ADDRESS = re.compile(f"[{_BASE58}]{{32,44}}\\Z")
ADDRESS_SYNTAX = "an address is 0x and 40 hex digits, or base58 of 32 bytes where the chain writes it so"

SIGNATURE_BYTES = 64
_HEX_NAMESPACES = ("eip155:", "fake:")
"""CAIP-2 namespaces of chains that write hashes in hex."""

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
        written = base58(self.hash) if isinstance(self.hash, Base58Hash) else self.hash.hex()
        return f"{self.chain}#{self.number}({written[:8]})"


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def format_address(address: bytes) -> str:
    """As its chain writes it: 20 bytes as lower-case 0x hex (never a checksum, so that equal is equal), 32 as base58.

    The form used in account codes, JSON and logs.
    """
    return base58(address) if len(address) == 32 else hexed(address)


def parse_address(text: str) -> Address:
    """The other way; hex digits in either case. Raises ValueError for what is no address."""
    if _HEX_ADDRESS.match(text):
        return Address(bytes.fromhex(text[2:]))
    if _BASE58_ADDRESS.match(text) and len(raw := from_base58(text)) == 32:
        return Address(raw)
    raise ValueError(ADDRESS_SYNTAX)


def is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


class Base58Hash(bytes):
    """A hash of a chain that writes its hashes in base58, and is equal to the same bytes of any other."""

    __slots__ = ()


def hash_of(raw: bytes, reference: str) -> bytes:
    """A block's hash that knows how its chain writes it. `reference` is the chain's CAIP-2, or begins with it."""
    return raw if reference.startswith(_HEX_NAMESPACES) else Base58Hash(raw)


def format_hash(raw: bytes) -> str:
    """A hash or a transaction as its chain writes it: a signature (64 bytes) and what `hash_of` knows of as base58, any
    other as 0x hex. The two cannot be mixed up: base58 has no 0."""
    return base58(raw) if len(raw) == SIGNATURE_BYTES or isinstance(raw, Base58Hash) else hexed(raw)


def parse_hash(text: str) -> bytes:
    """The other way. Raises ValueError where it is neither."""
    if text.startswith("0x"):
        return bytes.fromhex(text[2:])
    raw = from_base58(text)
    return raw if len(raw) == SIGNATURE_BYTES else Base58Hash(raw)


def format_tx(tx_id: bytes) -> str:
    """A transaction as its chain writes it."""
    return format_hash(tx_id)


def base58(raw: bytes) -> str:
    """With the alphabet that leaves out 0, O, I and l; each zero byte in front is a 1."""
    number, signs = int.from_bytes(raw), ""
    while number:
        number, value = divmod(number, 58)
        signs = _BASE58[value] + signs
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + signs


def from_base58(text: str) -> bytes:
    """Raises ValueError for a sign that is none of base58's."""
    number = 0
    for sign in text:
        if sign not in _BASE58_VALUE:
            raise ValueError(f"{sign!r} is no sign of base58")
        number = number * 58 + _BASE58_VALUE[sign]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)


def base58_ranges(prefix: str, size: int) -> list[tuple[bytes, bytes]]:
    """(lowest, highest) of the `size` bytes whose base58 begins with `prefix`: one range for each length that it can
    have. Raises ValueError for a sign that is none of base58's.

        "2z", 2 bytes ─► 2z = 58·1 + 57   2z1 … 2zz = 58²·1 + 58·57 …
    """
    zeros = len(prefix) - len(prefix.lstrip("1"))
    first = int.from_bytes(from_base58(prefix))
    if zeros == len(prefix):
        return [(bytes(size), bytes(zeros) + b"\xff" * (size - zeros))] if zeros <= size else []
    # As many zero bytes in front as there are ones, and then one that is not zero.
    least, most = 1 << 8 * (size - zeros - 1) if size > zeros else 1, (1 << 8 * max(size - zeros, 0)) - 1
    found = []
    scale = 1
    while first * scale <= most:
        low, high = max(first * scale, least), min((first + 1) * scale - 1, most)
        if low <= high:
            found.append((low.to_bytes(size), high.to_bytes(size)))
        scale *= 58
    return found


def format_amount(amount: int, decimals: int) -> str:
    """Atoms as a decimal numeral with every digit kept, for people: 1500000 with 6 decimals is `1.5`."""
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), 10**decimals)
    if decimals == 0 or fraction == 0:
        return f"{sign}{whole:,}"
    return f"{sign}{whole:,}." + str(fraction).rjust(decimals, "0").rstrip("0")
