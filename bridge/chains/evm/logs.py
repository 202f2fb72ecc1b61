"""eth_getLogs answers as packed columns.

    body ─► scan  ─► LogColumns       no Python object a log: quotes are found by numpy, columns are cut out and unhexed
      └───► parse ─► LogColumns       any valid JSON; where `scan` does not recognise the layout at once

Both give the same columns for the same logs; a test holds them to it.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from bridge.domain.events import NO_LOGS, LogColumns

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.intp]

_RESULT = b'"result":['
_QUOTE, _COLON, _BRACE, _BRACKET, _ZERO_DIGIT = (ord(sign) for sign in '":{[0')
_FIXED = {"blockHash": 64, "transactionHash": 64, "address": 40}  # hex digits
_QUANTITIES = ("blockNumber", "logIndex", "transactionIndex")


def parse_logs(logs: Sequence[Any]) -> LogColumns:
    """Columns of `logs`, JSON objects as a node gives them. Raises ValueError where one is no complete mined log."""
    if not logs:
        return NO_LOGS
    try:
        ends = np.cumsum([len(log["data"]) // 2 - 1 for log in logs]).astype(">u8")
        counts = bytes(len(log["topics"]) for log in logs)
        if max(counts) > 4 or any(log.get("removed") for log in logs):
            raise ValueError("a log has more than four topics, or is marked as removed")
        return LogColumns(
            len(logs),
            _pack_quantities(logs, "blockNumber", 8),
            _pack_fixed(logs, "blockHash", 32),
            _pack_quantities(logs, "logIndex", 4),
            _pack_fixed(logs, "transactionHash", 32),
            _pack_quantities(logs, "transactionIndex", 4),
            _pack_fixed(logs, "address", 20),
            counts,
            b"".join(b"".join(_unhex(topic, 32) for topic in log["topics"]).ljust(128, b"\0") for log in logs),
            b"".join(_unhex(log["data"], None) for log in logs),
            ends.tobytes(),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a log is incomplete: {error!r}") from None


def _pack_fixed(logs: Sequence[Mapping[str, str]], key: str, width: int) -> bytes:
    return b"".join(_unhex(log[key], width) for log in logs)


def _pack_quantities(logs: Sequence[Mapping[str, str]], key: str, width: int) -> bytes:
    return b"".join(int(log[key], 16).to_bytes(width) for log in logs)


def _unhex(text: str, width: int | None) -> bytes:
    value = bytes.fromhex(text[2:])
    if text[:2] != "0x" or (width is not None and len(value) != width) or len(value) * 2 + 2 != len(text):
        raise ValueError(f"not {width or 'a whole number of'} bytes in hex: {text[:80]}")
    return value


def scan_logs(body: bytes) -> LogColumns | None:
    """Columns of the logs in an unparsed, whole eth_getLogs answer; None where it is not of the usual compact layout.

    None says nothing about the answer: it may be an error, or JSON with spaces. What is returned is exact: every key,
    every prefix and every hex digit was looked at.
    """
    start, stop = body.find(_RESULT), body.rfind(b"]")
    start += len(_RESULT)
    if start < len(_RESULT) or stop < start or b"\\" in body or not _is_envelope(body[:start] + body[stop:]):
        return None
    if start == stop:
        return NO_LOGS
    try:
        return _Scan(body, start, stop).columns()
    except _Unusual:
        return None


def _is_envelope(rest: bytes) -> bool:
    """Whether what is around the logs is an answer that brings a result."""
    try:
        answer = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return False
    return isinstance(answer, dict) and answer.get("result") == [] and answer.get("error") is None


class _Unusual(Exception):
    """The answer is not of the layout that `_Scan` knows."""


class _Scan:
    """One answer. Text i of the JSON lies between quotes opens[i] and closes[i]."""

    def __init__(self, body: bytes, start: int, stop: int) -> None:
        # 16 zero digits in front, so that the window before any value exists.
        self.text: Bytes = np.frombuffer(b"0" * 16 + body[start:stop] + b"]" * 130, dtype=np.uint8)
        quotes = np.flatnonzero(self.text == _QUOTE)
        if len(quotes) % 2 or self.text[16] != _BRACE or body[stop - 1] != ord("}"):
            raise _Unusual
        self.opens: Positions = quotes[0::2]
        self.closes: Positions = quotes[1::2]
        self.lengths = self.closes - self.opens - 1
        self.keys = np.flatnonzero(self.text[self.closes + 1] == _COLON)
        key_opens = self.opens[self.keys]
        self.objects = key_opens[self.text[key_opens - 1] == _BRACE]  # where each log begins
        self.count = len(self.objects)
        if not self.count:
            raise _Unusual
        self.key_lengths = self.lengths[self.keys]
        self.key_initials = self.text[key_opens + 1]

    def columns(self) -> LogColumns:
        fixed = {key: self._fixed(self._values(key), digits) for key, digits in _FIXED.items()}
        quantities = {key: self._quantities(self._values(key)) for key in _QUANTITIES}
        self._check_not_removed()
        topic_counts, topics = self._topics()
        data, data_ends = self._data(self._values("data"))
        if any(quantities[key].max() >= 1 << 32 for key in ("logIndex", "transactionIndex")):
            raise _Unusual
        return LogColumns(
            self.count,
            quantities["blockNumber"].tobytes(),
            fixed["blockHash"],
            quantities["logIndex"].astype(">u4").tobytes(),
            fixed["transactionHash"],
            quantities["transactionIndex"].astype(">u4").tobytes(),
            fixed["address"],
            topic_counts,
            topics,
            data,
            data_ends,
        )

    def _find(self, name: str) -> Positions:
        """Index of the text that is the key `name`, one in each log, in order."""
        raw = np.frombuffer(name.encode(), dtype=np.uint8)
        found: Positions = self.keys[(self.key_lengths == len(raw)) & (self.key_initials == raw[0])]
        at = self.opens[found]
        if len(found) != self.count or (self._cut(at + 1, len(raw)) != raw).any():
            raise _Unusual
        # The i-th lies in the i-th object: behind its beginning, before the next one's.
        if (at < self.objects).any() or (at[:-1] > self.objects[1:]).any():
            raise _Unusual
        return found

    def _values(self, name: str) -> Positions:
        """Index of the text that follows the key `name` as its 0x… value."""
        keys = self._find(name)
        values = keys + 1
        if values[-1] >= len(self.opens) or (self.opens[values] != self.closes[keys] + 2).any():
            raise _Unusual
        self._check_prefix(values)
        return values

    def _check_prefix(self, values: Positions) -> None:
        at = self.opens[values]
        if (self.text[at + 1] != _ZERO_DIGIT).any() or (self.text[at + 2] != ord("x")).any():
            raise _Unusual

    def _cut(self, starts: Positions, width: int) -> Bytes:
        """n × width: the bytes at each of `starts`."""
        cut: Bytes = np.lib.stride_tricks.sliding_window_view(self.text, width)[starts]
        return cut

    def _fixed(self, values: Positions, digits: int) -> bytes:
        if (self.lengths[values] != digits + 2).any():
            raise _Unusual
        return _unhex_all(self._cut(self.opens[values] + 3, digits))

    def _quantities(self, values: Positions) -> npt.NDArray[np.uint64]:
        digits = self.lengths[values] - 2
        if (digits < 1).any() or (digits > 16).any():
            raise _Unusual
        cut = self._cut(self.closes[values] - 16, 16)
        padding = np.arange(16) < (16 - digits)[:, None]
        return np.frombuffer(_unhex_all(np.where(padding, np.uint8(_ZERO_DIGIT), cut)), dtype=">u8")

    def _check_not_removed(self) -> None:
        found = self.keys[(self.key_lengths == len("removed")) & (self.key_initials == ord("r"))]
        if len(found) and (self.text[self.closes[found] + 2] != ord("f")).any():
            raise _Unusual

    def _topics(self) -> tuple[bytes, bytes]:
        keys = self._find("topics")
        if (self.text[self.closes[keys] + 2] != _BRACKET).any():
            raise _Unusual
        following = np.append(self.keys, len(self.opens))
        counts = following[np.searchsorted(self.keys, keys, side="right")] - keys - 1
        if (counts > 4).any():
            raise _Unusual
        topics = np.zeros((self.count, 4, 32), dtype=np.uint8)
        for position in range(int(counts.max())):
            rows = np.flatnonzero(counts > position)
            values = keys[rows] + 1 + position
            self._check_prefix(values)
            topics[rows, position] = np.frombuffer(self._fixed(values, 64), dtype=np.uint8).reshape(-1, 32)
        return counts.astype(np.uint8).tobytes(), topics.tobytes()

    def _data(self, values: Positions) -> tuple[bytes, bytes]:
        digits = self.lengths[values] - 2
        ends = np.cumsum(digits // 2).astype(">u8").tobytes()
        if (digits % 2).any():
            raise _Unusual
        if (digits == digits[0]).all():
            return _unhex_all(self._cut(self.opens[values] + 3, int(digits[0]))) if digits[0] else b"", ends
        text = self.text.tobytes()
        starts = (self.opens[values] + 3).tolist()
        stops = self.closes[values].tolist()
        return _unhex_all(b"".join([text[a:b] for a, b in zip(starts, stops, strict=True)])), ends


def _unhex_all(digits: Bytes | bytes) -> bytes:
    try:
        return binascii.unhexlify(digits if isinstance(digits, bytes) else digits.tobytes())
    except binascii.Error:
        raise _Unusual from None


def block_numbers(logs: LogColumns) -> npt.NDArray[np.uint64]:
    return np.frombuffer(logs.block_numbers, dtype=">u8")


def log_keys(logs: LogColumns) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """(block numbers, log indexes)."""
    return block_numbers(logs), np.frombuffer(logs.log_indexes, dtype=">u4")


def in_order(logs: LogColumns) -> bool:
    """Whether each log comes strictly after the one before, by (block number, log index)."""
    numbers, indexes = (column.astype(np.int64) for column in log_keys(logs))
    step, index_step = np.diff(numbers), np.diff(indexes)
    return bool(((step > 0) | ((step == 0) & (index_step > 0))).all())


def merge_logs(parts: Sequence[LogColumns]) -> LogColumns:
    """The union of `parts`, each in order, in (block number, log index) order; a log that several hold counts once.

    Raises ValueError where two parts hold different logs under one (block number, log index).
    """
    filled = [part for part in parts if part.count]
    if len(filled) <= 1:
        return filled[0] if filled else NO_LOGS
    starts: Positions = np.concatenate([[0], np.cumsum([len(part.data) for part in filled])])
    keys = [np.concatenate(column) for column in zip(*(log_keys(part) for part in filled), strict=True)]
    data_ends = [np.frombuffer(part.data_ends, dtype=">u8").astype(np.int64) for part in filled]
    stops = np.concatenate([ends + start for ends, start in zip(data_ends, starts, strict=False)])
    order = np.lexsort((keys[1], keys[0]))
    joined = _Joined(filled, b"".join(part.data for part in filled), np.append(0, stops[:-1]), stops)
    numbers, indexes = keys[0][order], keys[1][order]
    same = (numbers[1:] == numbers[:-1]) & (indexes[1:] == indexes[:-1])
    if not same.any():
        return joined.take(order)
    if joined.take(order[1:][same]).digest() != joined.take(order[:-1][same]).digest():
        raise ValueError("two answers hold different logs under one block number and log index")
    return joined.take(order[np.append(True, ~same)])


class _Joined:
    """Columns of several parts, one after the other, from which rows can be taken in any order."""

    def __init__(self, parts: Sequence[LogColumns], data: bytes, starts: Positions, stops: Positions) -> None:
        self._parts = parts
        self._data = data
        self._starts = starts
        self._stops = stops

    def take(self, rows: Positions) -> LogColumns:
        def column(name: str, width: int) -> bytes:
            joined = np.frombuffer(b"".join(getattr(part, name) for part in self._parts), dtype=f"V{width}")
            return joined[rows].tobytes()

        pieces = zip(self._starts[rows].tolist(), self._stops[rows].tolist(), strict=True)
        lengths = self._stops[rows] - self._starts[rows]
        return LogColumns(
            len(rows),
            *(column("block_numbers", 8), column("block_hashes", 32), column("log_indexes", 4)),
            *(column("tx_hashes", 32), column("tx_indexes", 4), column("addresses", 20)),
            *(column("topic_counts", 1), column("topics", 128)),
            b"".join([self._data[start:stop] for start, stop in pieces]),
            np.cumsum(lengths).astype(">u8").tobytes(),
        )
