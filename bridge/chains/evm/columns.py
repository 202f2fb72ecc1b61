"""Many logs at once, from packed columns: which are of an event, and what a field of theirs holds.

    LogColumns ──topic and address──► rows ──a slice each──► n × 32 bytes ──one conversion──► a list of n values

The conversions say what those of `abi` say of one word: the same value, or ValueError where one of the words is not
what the compiler would have written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from bridge.domain.events import LogColumns, Value
from bridge.domain.units import Address

Rows = npt.NDArray[np.intp]
Words = npt.NDArray[np.uint8]  # n × 32
ToValues = Callable[[Words], list[Value]]
_SIZED = re.compile(r"(u?int|bytes)([0-9]+)\Z")


def rows_of(logs: LogColumns, topic0: bytes, addresses: Collection[Address]) -> Rows:
    """The logs with this first topic from one of `addresses`."""
    topics = np.frombuffer(logs.topics, dtype=np.uint8).reshape(-1, 128)
    rows = np.flatnonzero((topics[:, :32] == np.frombuffer(topic0, dtype=np.uint8)).all(axis=1))
    emitters = np.frombuffer(logs.addresses, dtype="V20")[rows].tolist()
    return rows[np.fromiter(map(addresses.__contains__, emitters), dtype=np.bool_, count=len(rows))]


def topic_words(logs: LogColumns, rows: Rows, topic: int) -> Words:
    words: Words = np.frombuffer(logs.topics, dtype=np.uint8).reshape(-1, 4, 32)[rows, topic]
    return words


def data_words(logs: LogColumns, starts: npt.NDArray[np.int64]) -> Words:
    """32 bytes of data from each of `starts`."""
    if not len(starts):
        return np.empty((0, 32), dtype=np.uint8)
    data = np.frombuffer(logs.data, dtype=np.uint8)
    return np.lib.stride_tricks.sliding_window_view(data, 32)[starts]


def topic_counts(logs: LogColumns, rows: Rows) -> npt.NDArray[np.uint8]:
    counts: npt.NDArray[np.uint8] = np.frombuffer(logs.topic_counts, dtype=np.uint8)[rows]
    return counts


def data_spans(logs: LogColumns, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the data of each of `rows` starts and ends."""
    ends = np.frombuffer(logs.data_ends, dtype=">u8").astype(np.int64)
    return np.concatenate(([0], ends[:-1])).astype(np.int64)[rows], ends[rows]


def conversion_of(type_: str) -> ToValues | None:
    """For an ABI type that is one word; None for any other."""
    if type_ in ("address", "bool"):
        return _addresses if type_ == "address" else _bools
    match = _SIZED.match(type_)
    if match is None:
        return None
    size = int(match[2])
    kinds: dict[str, Callable[[Words, int], list[Value]]] = {"uint": _unsigned, "int": _signed, "bytes": _fixed_bytes}
    convert = kinds[match[1]]
    return lambda words: convert(words, size)


def _addresses(words: Words) -> list[Value]:
    _check(not words[:, :12].any(), "an address")
    return _bytes_of(words[:, 12:])


def _bools(words: Words) -> list[Value]:
    _check(not words[:, :31].any() and not (words[:, 31] > 1).any(), "a bool")
    return list(words[:, 31].astype(np.bool_).tolist())


def _unsigned(words: Words, bits: int) -> list[Value]:
    _check(not words[:, : 32 - bits // 8].any(), f"a uint{bits}")
    return list(_integers(words))


def _signed(words: Words, bits: int) -> list[Value]:
    # What stands above the number repeats its sign.
    sign = (words[:, 32 - bits // 8] >> 7) * np.uint8(255)
    _check(bool((words[:, : 32 - bits // 8] == sign[:, None]).all()), f"an int{bits}")
    numbers = _integers(words)
    if not sign.any():
        return list(numbers)
    return [number - (1 << 256) if number >> 255 else number for number in numbers]


def _fixed_bytes(words: Words, size: int) -> list[Value]:
    _check(not words[:, size:].any(), f"a bytes{size}")
    return _bytes_of(words[:, :size])


def _integers(words: Words) -> list[int]:
    """Most numbers are far below 2^256: only the limbs of 64 bits that are in use anywhere are put together."""
    limbs = np.ascontiguousarray(words).view(">u8")  # n × 4
    numbers: list[int] | None = None
    for place in range(4):
        limb = limbs[:, place]
        if numbers is not None:
            numbers = [high << 64 | low for high, low in zip(numbers, limb.tolist(), strict=True)]
        elif place == 3 or limb.any():
            numbers = limb.tolist()
    assert numbers is not None
    return numbers


def _bytes_of(part: npt.NDArray[np.uint8]) -> list[Value]:
    return list(np.ascontiguousarray(part).view(f"V{part.shape[1]}").ravel().tolist())


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"a word is not {what}")
