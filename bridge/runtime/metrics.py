"""Metrics as Prometheus reads them, in its text format.

    samples ──► one line each, under the help and the type of its name

Values are whole numbers and are written with every digit, also those of amounts: a client library that keeps them as
floats would lose the last ones, and nothing here counts between two scrapes, for all is read from the rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value; base units stand in the name. Samples of one name have the same help."""

    name: str
    help: str
    value: int
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert all(_NAME.match(name) for name in (self.name, *self.labels)), f"{self.name} is no name of a metric"


def exposition(samples: Iterable[Sample]) -> str:
    """All are gauges: what they say can become less."""
    lines = []
    for name, group in groupby(sorted(samples, key=_place), key=lambda sample: sample.name):
        found = list(group)
        lines += [f"# HELP {name} {_escaped(found[0].help)}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(sample.labels)} {sample.value}" for sample in found]
    return "".join(f"{line}\n" for line in lines)


def _place(sample: Sample) -> tuple[str, str]:
    return sample.name, _labels(sample.labels)


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{name}="{_quoted(value)}"' for name, value in sorted(labels.items()))
    return f"{{{told}}}" if told else ""


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
