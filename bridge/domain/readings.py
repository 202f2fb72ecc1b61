"""What was read for an input of a rule, with its evidence: all of it is stored with the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of one input at the window's last block; `value` means nothing where there is a `problem`."""

    value: int
    parts: Mapping[str, str]  # everything that the value was made of
    problem: str | None = None  # why it cannot be relied on: the decision is held
