"""View calls as rules and ports write them: `name(type,…)`, each argument and each result one word of 32 bytes.

    "getRoundData(uint80)" ─► name, ("uint80",)      5 ─► 0x00…05      0x00…05 ─► 5

Types: uintN, intN, address, bool. What has no fixed size, or is no number and no account, is not part of this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

WORD = 32  # bytes
ARGUMENTS_MAX = 16
ADDRESS_BYTES = 20  # of most chains; one of 32 fills the word

Argument = int | bytes
"""An integer, a bool, or an address as bytes."""

_CALL = re.compile(r"\s*([A-Za-z_$][\w$]*)\s*\((.*)\)\s*\Z", re.ASCII)
_INTEGER = re.compile(r"(u?)int([0-9]{1,3})\Z")


@dataclass(frozen=True, slots=True)
class ViewCall:
    """A call that is checked: its types are known and its arguments fit them."""

    signature: str  # as its hash is made: no spaces, no short names of types
    types: tuple[str, ...]  # of the arguments
    words: bytes  # the arguments, one after the other
    returns: tuple[str, ...]

    def read(self, answer: bytes) -> tuple[int, ...] | None:
        """The words of `answer` as numbers; None where it is not what such a function returns."""
        if len(answer) != WORD * len(self.returns):
            return None
        try:
            return tuple(
                from_word(type_, answer[at : at + WORD])
                for type_, at in zip(self.returns, range(0, len(answer), WORD), strict=True)
            )
        except ValueError:
            return None


def view_call(
    signature: str,
    arguments: Sequence[Argument] = (),
    returns: Sequence[str] = ("uint256",),
    *,
    address_bytes: int = ADDRESS_BYTES,
) -> ViewCall:
    """`address_bytes`: of the chain's addresses. Raises ValueError where the signature is none, or the arguments are
    not what it asks for."""
    name, types = parse_signature(signature)
    if len(arguments) != len(types):
        raise ValueError(f"{name} takes {len(types)} arguments, not {len(arguments)}")
    words = b"".join(to_word(type_, value, address_bytes) for type_, value in zip(types, arguments, strict=True))
    if not returns:
        raise ValueError(f"{name} must return something")
    return ViewCall(f"{name}({','.join(types)})", types, words, tuple(_canonical(type_) for type_ in returns))


def parse_signature(signature: str) -> tuple[str, tuple[str, ...]]:
    """(name, types of its arguments). Raises ValueError where the text is no `name(type,…)` of known types."""
    match = _CALL.match(signature)
    if match is None:
        raise ValueError(f"`{signature}` is no function: write name(type,…), for example balanceOf(address)")
    types = tuple(_canonical(type_.strip()) for type_ in match[2].split(",")) if match[2].strip() else ()
    if len(types) > ARGUMENTS_MAX:
        raise ValueError(f"{match[1]} takes more than {ARGUMENTS_MAX} arguments")
    return match[1], types


def _canonical(type_: str) -> str:
    """As hashes are made: uint means uint256."""
    type_ = {"uint": "uint256", "int": "int256"}.get(type_, type_)
    match = _INTEGER.match(type_)
    known = match and not match[2].startswith("0") and int(match[2]) in range(8, 257, 8)
    if not known and type_ not in ("address", "bool"):
        raise ValueError(f"`{type_}` is not supported: there are uintN, intN, address and bool")
    return type_


def to_word(type_: str, value: Argument, address_bytes: int = ADDRESS_BYTES) -> bytes:
    """Raises ValueError where the value is none of that type."""
    if type_ == "address":
        if not isinstance(value, bytes) or len(value) != address_bytes:
            raise ValueError(f"{value!r} is no address")
        return value.rjust(WORD, b"\0")
    if type_ == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return value.to_bytes(WORD)
    if type(value) is not int or not _in_range(type_, value):
        raise ValueError(f"{value!r} is no {type_}")
    return value.to_bytes(WORD, signed=type_.startswith("int"))


def from_word(type_: str, word: bytes) -> int:
    """Addresses of 20 bytes as the number that their bytes are, false and true as 0 and 1.

    Raises ValueError for a word that no compiler would have written: it means that the type is wrong.
    """
    value = int.from_bytes(word, signed=type_.startswith("int"))
    if not _in_range(type_, value):
        raise ValueError(f"not of type {type_}: 0x{word.hex()}")
    return value


def _in_range(type_: str, value: int) -> bool:
    if type_ in ("address", "bool"):
        return not value >> (160 if type_ == "address" else 1)
    match = _INTEGER.match(type_)
    assert match is not None
    bits = int(match[2])
    return 0 <= value < 1 << bits if match[1] else -(1 << (bits - 1)) <= value < 1 << (bits - 1)
