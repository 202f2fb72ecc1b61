"""The hash chain over the books: what a journal's digest is made of, and how digests are linked.

digest = sha256(version ‖ each field of the journal and its transfers, its length before it)
head   = sha256(version ‖ head before ‖ sequence ‖ digest)

start ──► head 1 ──► head 2 ──► … ──► head n        n and head n together say all that was ever booked, in order
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

ENCODING_VERSION = 1
"""Of the bytes under both hashes; raised when a column of a journal or a transfer is added."""

START = bytes(32)
"""The head before the first journal."""

MISSING = b""
"""Stands for the digest of a journal that is not there any more."""


class JournalDigest:
    """Fed with the columns of a journal, text as UTF-8, then with those of its transfers in the order of `seq`.

    A journal has a fixed number of columns and so has each transfer, and their number is said last: no two journals
    share an encoding.
    """

    def __init__(self, columns: Sequence[bytes]) -> None:
        self._digest = hashlib.sha256(bytes([ENCODING_VERSION]) + _pack(columns))
        self._transfers = 0

    def add(self, columns: Sequence[bytes]) -> None:
        """One transfer."""
        self._digest.update(_pack(columns))
        self._transfers += 1

    def close(self) -> bytes:
        self._digest.update(_pack([str(self._transfers).encode()]))
        return self._digest.digest()


_LENGTHS = tuple(length.to_bytes(4) for length in range(256))


def _pack(columns: Sequence[bytes]) -> bytes:
    """Each with its length before it."""
    try:
        return b"".join([_LENGTHS[len(column)] + column for column in columns])
    except IndexError:  # hardly any is so long
        return b"".join([len(column).to_bytes(4) + column for column in columns])


def link(before: bytes, sequence: int, digest: bytes) -> bytes:
    """The head after the journal at position `sequence` (1, 2, …)."""
    assert len(before) == 32
    return hashlib.sha256(bytes([ENCODING_VERSION]) + before + sequence.to_bytes(8) + digest).digest()


class Sealed(NamedTuple):
    """One journal as the chain has it, beside what is in the books now."""

    sequence: int
    journal_id: int
    key: str | None  # source and ref, for people: its own, or those it was booked under where it is gone
    digest: bytes  # of the rows as they are now; MISSING where there is no such journal
    keyed: bool  # its key says the same
    head: bytes  # as it was stored

    @property
    def name(self) -> str:
        return f"journal {self.journal_id}" + ("" if self.key is None else f" ({self.key})")


@dataclass(frozen=True, slots=True)
class Tip:
    """How many journals are sealed, and the head after the last of them."""

    count: int
    head: bytes

    def __str__(self) -> str:
        return f"{self.count}:{self.head.hex()}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of reading the whole chain again."""

    tip: Tip  # as far as it could be followed
    waiting: int  # booked and not sealed yet
    fault: str | None  # the first thing that is not as it was sealed


class Walk(StrEnum):
    """What the daemon goes along, a bounded piece at a time, to see that all is as it was sealed."""

    NEW = "new"  # what was sealed since, from where it was verified the last time
    ROUND = "round"  # everything from the first link on, again and again
    BOOKS = "books"  # every journal and transfer of the books: whether the chain has it


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a walk has come. One that found a fault stays in front of it."""

    tip: Tip  # of new and round
    place: tuple[str, int, int]  # of books: chain, block, id of the last journal that was looked at
    fault: str | None
    rounds: int


def check_link(before: Tip, sealed: Sealed) -> str | None:
    """What is wrong with the next journal of the chain; None where it is as it was sealed."""
    position = before.count + 1
    if sealed.sequence != position:
        return f"position {position} of the chain is missing; the next is {sealed.name} at position {sealed.sequence}"
    if sealed.digest == MISSING:
        return f"{sealed.name}, at position {position}, is not in the books any more"
    if sealed.head != link(before.head, position, sealed.digest):
        return f"{sealed.name}, at position {position}, is not what was sealed there"
    if not sealed.keyed:
        return f"{sealed.name}, at position {position}, has another key than it was booked under"
    return None
