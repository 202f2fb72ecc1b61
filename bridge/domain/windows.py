"""When a rule decides: windows of chain time, half-open, in UTC, one after the other without a gap.

      since           start           end = next start
    ────●───────────────┼───────────────┼───────────────┼────► block timestamps
        └ first block   └ first window ─┘

Every trigger makes windows of seconds, so that weights, reports and the chain's contracts need to know only one kind:

    every N seconds    ends at multiples of N since 1970
    calendar           ends where a day, week (Monday), month, quarter or year begins
    every N blocks     ends at the time of the first block from a multiple of N on that is younger than its parent
    each event         ends one second after the block of such an event: what happened in that second belongs to it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import assert_never

_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """start <= block timestamp < end, seconds since 1970."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"not a window: {self.start} … {self.end}")


class Period(StrEnum):
    DAY = "day"
    WEEK = "week"  # from Monday, as ISO 8601 has it
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Every:
    seconds: int


@dataclass(frozen=True, slots=True)
class Calendar:
    period: Period


@dataclass(frozen=True, slots=True)
class Blocks:
    count: int


@dataclass(frozen=True, slots=True)
class Each:
    event: str  # a name of the rule


Clock = Every | Calendar
Trigger = Clock | Blocks | Each


def first_window(clock: Clock, since: int) -> Window:
    """The first full window of blocks from timestamp `since` on."""
    start = since if _floor(clock, since) == since else boundary_after(clock, since)
    return Window(start, boundary_after(clock, start))


def window_after(clock: Clock, end: int) -> Window:
    """The window that begins where the last one ended; shorter once, where a new version changed the trigger."""
    return Window(end, boundary_after(clock, end))


def boundary_after(clock: Clock, second: int) -> int:
    """The first boundary later than `second`."""
    if isinstance(clock, Every):
        return (second // clock.seconds + 1) * clock.seconds
    begin = datetime.fromtimestamp(_floor(clock, second), UTC)
    match clock.period:
        case Period.DAY:
            following = begin + timedelta(days=1)
        case Period.WEEK:
            following = begin + timedelta(days=7)
        case Period.MONTH:
            following = (begin + timedelta(days=31)).replace(day=1)
        case Period.QUARTER:
            following = (begin + timedelta(days=3 * 31)).replace(day=1)
        case Period.YEAR:
            following = begin.replace(year=begin.year + 1)
        case _:
            assert_never(clock.period)
    return int(following.timestamp())


def _floor(clock: Clock, second: int) -> int:
    """The last boundary at or before `second`."""
    if isinstance(clock, Every):
        return second // clock.seconds * clock.seconds
    moment = datetime.fromtimestamp(second, UTC).replace(hour=0, minute=0, second=0)
    match clock.period:
        case Period.DAY:
            pass
        case Period.WEEK:
            moment -= timedelta(days=moment.weekday())
        case Period.MONTH:
            moment = moment.replace(day=1)
        case Period.QUARTER:
            moment = moment.replace(day=1, month=(moment.month - 1) // 3 * 3 + 1)
        case Period.YEAR:
            moment = moment.replace(day=1, month=1)
    return int(moment.timestamp())


def boundary_block(blocks: Blocks, number: int) -> int:
    """The first multiple of the trigger's count that is greater than `number`: where the next window begins."""
    return (number // blocks.count + 1) * blocks.count


def calendar_period(text: str) -> Window:
    """`2026`, `2026-11` or `2026-11-30`: a year, month or day of UTC. Raises ValueError."""
    found = _PERIOD.fullmatch(text)
    if found is None or not "1970" <= found[1] < "9999":
        raise ValueError("is not a year, month or day since 1970")
    year, month, day = (None if part is None else int(part) for part in found.groups())
    start = int(datetime(year or 0, month or 1, day or 1, tzinfo=UTC).timestamp())
    period = Period.YEAR if month is None else Period.MONTH if day is None else Period.DAY
    return Window(start, boundary_after(Calendar(period), start))
