"""Event declarations compiled to plans, and calls encoded.

    `Paid(address indexed to, uint256 amount)` ─► Plan: to = topic 1 [12:32], amount = data [0:32]

A plan decodes by slicing: no interpreter of types runs for each log. Calls are rare, so eth_abi encodes those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import eth_abi.abi
import eth_abi.exceptions
from eth_hash.auto import keccak

from bridge.chains.evm import columns
from bridge.domain.errors import ConfigError
from bridge.domain.events import EventColumns, Log, LogColumns, Value
from bridge.domain.units import Address

_HEAD = re.compile(r"\s*(?:event\s+)?([A-Za-z_$][\w$]*)\s*\(")
_FIELD = re.compile(r"\s*([a-z]+\d*)((?:\[\d*\])*)\s+(?:(indexed)\s+)?([A-Za-z_$][\w$]*)\s*\Z")
_INTEGER = re.compile(r"(u?)int(\d*)\Z")
_BYTES = re.compile(r"bytes(\d+)\Z")
Decode = Callable[[bytes], Value]


def keccak256(data: bytes) -> bytes:
    digest: bytes = keccak(data)
    return digest


def selector(signature: str) -> bytes:
    """The first four bytes of the hash of `name(type,type)`."""
    return keccak256(signature.encode())[:4]


def encode_call(signature: str, *arguments: Any) -> bytes:
    """Call data for `name(type,type)`; tuples are written as `(type,type)`."""
    types = signature[signature.index("(") + 1 : -1]
    return selector(signature) + eth_abi.abi.encode(_split_types(types), arguments)


def encode_values(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """As Solidity's abi.encode."""
    encoded: bytes = eth_abi.abi.encode(types, values)
    return encoded


def decode_values(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """As Solidity's abi.decode. Raises ValueError where `data` is too short or malformed."""
    try:
        values: tuple[Any, ...] = eth_abi.abi.decode(types, data)
    except eth_abi.exceptions.DecodingError as error:
        raise ValueError(f"not the encoding of ({','.join(types)}): {error}") from None
    return values


def _split_types(types: str) -> list[str]:
    parts: list[str] = []
    depth = 0
    for piece in types.split(","):
        if depth:
            parts[-1] += "," + piece
        elif piece:
            parts.append(piece)
        depth += piece.count("(") - piece.count(")")
    return parts


@dataclass(frozen=True, slots=True)
class _Step:
    """Where one field is: in topic `at`, or at byte `at` of the data's head."""

    name: str
    indexed: bool
    at: int
    decode: Decode
    dynamic: bool  # the head holds the offset of a length-prefixed tail


@dataclass(frozen=True, slots=True)
class EventPlan:
    """Implements ports.EventDecoder."""

    name: str
    topic0: bytes
    fields: Mapping[str, str]
    steps: tuple[_Step, ...]
    topic_count: int
    head_size: int  # bytes

    def decode(self, log: Log) -> Mapping[str, Value]:
        """The fields of `log` by name. Raises ValueError where the log does not have the declared shape."""
        topics, data = log.topics, log.data
        if len(topics) != self.topic_count or topics[0] != self.topic0 or len(data) < self.head_size:
            raise ValueError(
                f"log {log.log_index} of {log.block} is not {self.name} as declared: "
                f"{len(topics)} topics and {len(data)} bytes, expected {self.topic_count} and at least {self.head_size}"
            )
        values: dict[str, Value] = {}
        for step in self.steps:
            if step.indexed:
                word = topics[step.at]
            elif step.dynamic:
                word = _tail(data, step.at)
            else:
                word = data[step.at : step.at + 32]
            values[step.name] = step.decode(word)
        return values

    def decode_columns(self, logs: LogColumns, addresses: Collection[Address]) -> EventColumns:
        """All logs of this event from one of `addresses`, each as `decode` has it.

        Raises ValueError where one of them has another shape; `decode` tells which.
        """
        rows = columns.rows_of(logs, self.topic0, addresses)
        starts, ends = columns.data_spans(logs, rows)
        same_topics = columns.topic_counts(logs, rows) == self.topic_count
        if not same_topics.all() or (ends - starts < self.head_size).any():
            raise ValueError(f"a log is not {self.name} as declared")
        fields: dict[str, Sequence[Value]] = {}
        for step in self.steps:
            convert = columns.conversion_of(self.fields[step.name])
            if convert is None:
                spans = zip(starts.tolist(), ends.tolist(), strict=True)
                fields[step.name] = [step.decode(_tail(logs.data[start:end], step.at)) for start, end in spans]
            elif step.indexed:
                fields[step.name] = convert(columns.topic_words(logs, rows, step.at))
            else:
                fields[step.name] = convert(columns.data_words(logs, starts + step.at))
        return EventColumns(rows.tolist(), fields)


def compile_event(declaration: str) -> EventPlan:
    """The plan for `Name(type [indexed] field, …)`.

    Types: address, bool, uintN, intN, bytesN, bytes, string. Raises ConfigError, with the column, for anything else.
    """
    head = _HEAD.match(declaration)
    if head is None:
        raise _mistake(declaration, 0, "an event is declared as `Name(type field, type indexed field)`")
    close = declaration.rfind(")")
    if close < 0 or declaration[close + 1 :].strip(" ;\t\n"):
        raise _mistake(declaration, len(declaration) if close < 0 else close + 1, "the declaration must end with `)`")
    fields: dict[str, str] = {}
    signature: list[str] = []
    steps: list[_Step] = []
    topic_count, head_size = 1, 0
    column = head.end()
    pieces = declaration[head.end() : close].split(",") if declaration[head.end() : close].strip() else []
    for piece in pieces:
        at = column + len(piece) - len(piece.lstrip())
        column += len(piece) + 1
        match = _FIELD.match(piece)
        if match is None:
            raise _mistake(declaration, at, "a field is `type name` or `type indexed name`")
        type_, array, indexed, name = match.groups()
        type_ = {"uint": "uint256", "int": "int256"}.get(type_, type_)
        decode = None if array else _decoder_of(type_)
        if decode is None:
            known = "address, bool, uintN, intN, bytesN, bytes, string"
            raise _mistake(declaration, at, f"`{type_}{array}` is not supported in events; known types: {known}")
        if name in fields:
            raise _mistake(declaration, at, f"the field `{name}` is declared twice")
        signature.append(type_)
        dynamic = type_ in ("bytes", "string")
        if indexed and dynamic:
            # Only the hash of a dynamic value is in the topic: that is what the field holds.
            type_, decode, dynamic = "bytes32", bytes, False
        steps.append(_Step(name, bool(indexed), topic_count if indexed else head_size, decode, dynamic))
        topic_count, head_size = (topic_count + 1, head_size) if indexed else (topic_count, head_size + 32)
        fields[name] = type_
    if topic_count > 4:
        raise _mistake(declaration, head.end(), "an event has at most three indexed fields")
    topic0 = keccak256(f"{head[1]}({','.join(signature)})".encode())
    return EventPlan(head[1], topic0, fields, tuple(steps), topic_count, head_size)


def _mistake(declaration: str, column: int, problem: str) -> ConfigError:
    return ConfigError(
        f"column {column + 1}: {problem}\n  {declaration}\n  {' ' * column}^",
        mend="for example: Transfer(address indexed from, address indexed to, uint256 value)",
    )


def _decoder_of(type_: str) -> Decode | None:
    plain: dict[str, Decode] = {"address": _address, "bool": _bool, "bytes": bytes, "string": _string}
    if type_ in plain:
        return plain[type_]
    if match := _INTEGER.match(type_):
        bits = int(match[2])
        if bits % 8 or not 8 <= bits <= 256 or match[2].startswith("0"):
            return None
        return _unsigned(bits) if match[1] else _signed(bits)
    if (match := _BYTES.match(type_)) and 1 <= int(match[1]) <= 32 and not match[1].startswith("0"):
        return _fixed_bytes(int(match[1]))
    return None


# A word that is not what the compiler would have written is refused: it means that the declaration is wrong.
def _address(word: bytes) -> Value:
    if any(word[:12]):
        raise ValueError(f"not an address: 0x{word.hex()}")
    return word[12:]


def _bool(word: bytes) -> Value:
    value = int.from_bytes(word)
    if value > 1:
        raise ValueError(f"not a bool: 0x{word.hex()}")
    return value == 1


def _string(data: bytes) -> Value:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("a string field is not UTF-8") from None


def _unsigned(bits: int) -> Decode:
    def decode(word: bytes) -> Value:
        value = int.from_bytes(word)
        if value >> bits:
            raise ValueError(f"not a uint{bits}: 0x{word.hex()}")
        return value

    return decode


def _signed(bits: int) -> Decode:
    def decode(word: bytes) -> Value:
        value = int.from_bytes(word, signed=True)
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            raise ValueError(f"not an int{bits}: 0x{word.hex()}")
        return value

    return decode


def _fixed_bytes(size: int) -> Decode:
    def decode(word: bytes) -> Value:
        if any(word[size:]):
            raise ValueError(f"not a bytes{size}: 0x{word.hex()}")
        return word[:size]

    return decode


def _tail(data: bytes, head_at: int) -> bytes:
    offset = int.from_bytes(data[head_at : head_at + 32])
    if offset + 32 > len(data):
        raise ValueError("a dynamic field points outside the data")
    size = int.from_bytes(data[offset : offset + 32])
    if offset + 32 + size > len(data):
        raise ValueError("a dynamic field is longer than the data")
    return data[offset + 32 : offset + 32 + size]
