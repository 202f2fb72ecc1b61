"""Base 58, with the alphabet of Bitcoin: how Solana writes keys, hashes and short data."""

from __future__ import annotations

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
VALUES = {character: value for value, character in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    """Each leading zero byte is a `1`."""
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(digits))


def decode(text: str) -> bytes:
    """Raises ValueError for a character that is none of the alphabet's."""
    number = 0
    for position, character in enumerate(text):
        if character not in VALUES:
            raise ValueError(f"provided string contained invalid character {character!r} at byte {position}")
        number = number * 58 + VALUES[character]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
