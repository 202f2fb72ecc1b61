"""Event declarations as plans, for the logs that `logs` derives.

    `FeePaid(address indexed token, address indexed payer, uint256 amount)` ─► Plan: amount = data [0:32]

Every field is one word of 32 bytes; an address fills it. Nothing else is ever derived, so nothing else is understood.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.chains.solana.logs import topic_of
from bridge.domain.errors import ConfigError
from bridge.domain.events import EventColumns, Log, LogColumns, Value
from bridge.domain.units import Address

WORD = 32
_EVENT = re.compile(r"\s*(?:event\s+)?([A-Za-z_]\w*)\s*\(([^()]*)\)[\s;]*\Z", re.ASCII)
_FIELD = re.compile(r"\s*(\w+)\s+(?:(indexed)\s+)?([A-Za-z_]\w*)\s*\Z", re.ASCII)
_UNSIGNED = re.compile(r"uint(\d+)\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Step:
    """Where a field is: in topic `at`, or in word `at` of the data."""

    name: str
    type: str
    indexed: bool
    at: int


@dataclass(frozen=True, slots=True)
class EventPlan:
    """Implements ports.EventDecoder."""

    name: str
    topic0: bytes
    fields: Mapping[str, str]
    steps: tuple[_Step, ...]
    topic_count: int
    words: int  # of the data

    def decode(self, log: Log) -> Mapping[str, Value]:
        """The fields of `log` by name. Raises ValueError where the log does not have the declared shape."""
        self._check(log.topics[:1] == (self.topic0,) and len(log.topics) == self.topic_count, len(log.data))
        return {
            step.name: _value(
                step.type, log.topics[step.at] if step.indexed else log.data[WORD * step.at : WORD * (step.at + 1)]
            )
            for step in self.steps
        }

    def decode_columns(self, logs: LogColumns, addresses: Collection[Address]) -> EventColumns:
        """All logs of this event from one of `addresses`, each as `decode` has it. Raises ValueError as it does."""
        topics, emitters = logs.topics, frozenset(addresses)
        first = np.frombuffer(topics, dtype="V32")[::4]
        alike: list[int] = np.flatnonzero(first == np.void(self.topic0)).tolist()
        rows = [row for row in alike if logs.emitter(row) in emitters]
        starts = [int.from_bytes(logs.data_ends[8 * row - 8 : 8 * row]) if row else 0 for row in rows]
        for row, start in zip(rows, starts, strict=True):
            size = int.from_bytes(logs.data_ends[8 * row : 8 * row + 8]) - start
            self._check(logs.topic_counts[row] == self.topic_count, size)
        fields: dict[str, Sequence[Value]] = {}
        for step in self.steps:
            if step.indexed:
                words = [topics[at : at + WORD] for at in (128 * row + WORD * step.at for row in rows)]
            else:
                words = [logs.data[at : at + WORD] for at in (start + WORD * step.at for start in starts)]
            fields[step.name] = [_value(step.type, word) for word in words]
        return EventColumns(rows, fields)

    def _check(self, is_right: bool, size: int) -> None:
        if not is_right or size != WORD * self.words:
            raise ValueError(f"a log is not {self.name} as declared")


def compile_event(declaration: str) -> EventPlan:
    """The plan for `Name(type [indexed] field, …)`. Types: address, bytes32, bool, uintN.

    Raises ConfigError for anything else.
    """
    event = _EVENT.match(declaration)
    if event is None:
        raise _mistake(declaration, "an event is declared as `Name(type field, type indexed field)`")
    steps: list[_Step] = []
    topics, words = 1, 0
    for piece in event[2].split(",") if event[2].strip() else []:
        field = _FIELD.match(piece)
        if field is None:
            raise _mistake(declaration, f"`{piece.strip()}` is no field: write `type name` or `type indexed name`")
        type_ = "uint256" if field[1] == "uint" else field[1]
        if not _is_known(type_):
            raise _mistake(declaration, f"`{type_}` is not supported here; known types: address, bytes32, bool, uintN")
        if any(step.name == field[3] for step in steps):
            raise _mistake(declaration, f"the field `{field[3]}` is declared twice")
        indexed = field[2] is not None
        steps.append(_Step(field[3], type_, indexed, topics if indexed else words))
        topics, words = (topics + 1, words) if indexed else (topics, words + 1)
    if topics > 4:
        raise _mistake(declaration, "an event has at most three indexed fields")
    signature = f"{event[1]}({','.join(step.type for step in steps)})"
    fields = {step.name: step.type for step in steps}
    return EventPlan(event[1], topic_of(signature), fields, tuple(steps), topics, words)


def _is_known(type_: str) -> bool:
    match = _UNSIGNED.match(type_)
    if match is None:
        return type_ in ("address", "bytes32", "bool")
    return not match[1].startswith("0") and int(match[1]) in range(8, 257, 8)


def _value(type_: str, word: bytes) -> Value:
    if type_ in ("address", "bytes32"):
        return word
    value = int.from_bytes(word)
    bits = 1 if type_ == "bool" else int(type_.removeprefix("uint"))
    if value >> bits:
        raise ValueError(f"not a {type_}: 0x{word.hex()}")
    return value == 1 if type_ == "bool" else value


def _mistake(declaration: str, problem: str) -> ConfigError:
    return ConfigError(
        f"{problem}\n  {declaration}",
        mend="for example: Transfer(address indexed from, address indexed to, uint256 value)",
    )
