"""Windows without gaps, on every clock."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.windows import (
    Blocks,
    Calendar,
    Clock,
    Every,
    Period,
    Window,
    boundary_after,
    boundary_block,
    calendar_period,
    first_window,
    window_after,
)

SECONDS = st.integers(0, 2**33)
CLOCKS = st.one_of(st.builds(Every, st.integers(1, 10**6)), st.builds(Calendar, st.sampled_from(Period)))


def is_boundary(clock: Clock, second: int) -> bool:
    """The obvious way: what the clock shows at that second."""
    if isinstance(clock, Every):
        return second % clock.seconds == 0
    moment = datetime.fromtimestamp(second, UTC)
    midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return (
        midnight
        and {
            Period.DAY: True,
            Period.WEEK: moment.isoweekday() == 1,
            Period.MONTH: moment.day == 1,
            Period.QUARTER: moment.day == 1 and moment.month in (1, 4, 7, 10),
            Period.YEAR: (moment.day, moment.month) == (1, 1),
        }[clock.period]
    )


@given(CLOCKS, SECONDS)
def test_first_window__any_start__first_full_one(clock: Clock, since: int):
    window = first_window(clock, since)
    assert window.start >= since
    assert is_boundary(clock, window.start)
    assert is_boundary(clock, window.end)
    assert window.end == boundary_after(clock, window.start)
    # Nothing full comes before it: the boundary after the second before `since` is its start.
    assert boundary_after(clock, since - 1) == window.start if since else window.start >= 0


@given(CLOCKS, CLOCKS, SECONDS)
def test_window_after__even_with_another_clock__no_gap_and_aligned_again(before: Clock, after: Clock, since: int):
    previous = first_window(before, since)
    window = window_after(after, previous.end)
    assert window.start == previous.end
    assert is_boundary(after, window.end)
    inside = {window.start + 1, window.end - 1} - {window.start, window.end}
    assert not any(is_boundary(after, second) for second in inside)


@pytest.mark.parametrize(
    ("period", "second", "following"),
    [
        (Period.DAY, "2024-02-28T23:59:59", "2024-02-29"),
        (Period.DAY, "2024-02-29", "2024-03-01"),
        (Period.WEEK, "2026-11-26T10:00:00", "2026-11-30"),
        (Period.WEEK, "2026-11-30", "2026-12-07"),
        (Period.MONTH, "2024-01-31T12:00:00", "2024-02-01"),
        (Period.MONTH, "2025-12-31T23:59:59", "2026-01-01"),
        (Period.QUARTER, "2026-11-26", "2027-01-01"),
        (Period.QUARTER, "2026-12-31T23:59:59", "2027-01-01"),
        (Period.QUARTER, "2026-04-01", "2026-07-01"),
        (Period.YEAR, "2026-01-01", "2027-01-01"),
        (Period.WEEK, "1970-01-01", "1970-01-05"),
    ],
)
def test_boundary_after__calendar__where_people_expect_it(period: Period, second: str, following: str):
    moments = [int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in (second, following)]
    assert boundary_after(Calendar(period), moments[0]) == moments[1]


@given(st.integers(1, 10**5), st.integers(0, 10**9))
def test_boundary_block__any_block__next_multiple(count: int, number: int):
    boundary = boundary_block(Blocks(count), number)
    assert boundary % count == 0
    assert number < boundary <= number + count


def test_window__not_ascending__refused():
    with pytest.raises(ValueError, match="not a window"):
        Window(5, 5)


@pytest.mark.parametrize(
    ("text", "first", "end"),
    [
        ("2026-11", "2026-11-01", "2026-12-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2028-02", "2028-02-01", "2028-03-01"),
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-11-30", "2026-11-30", "2026-12-01"),
    ],
)
def test_calendar_period__text__from_midnight_to_midnight_of_utc(text: str, first: str, end: str):
    start, stop = (int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in (first, end))
    assert calendar_period(text) == Window(start, stop)


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "11-2026", "2026-02-30", "", "0000", "9999", "9999-12"])
def test_calendar_period__no_such_period__refused(text: str):
    with pytest.raises(ValueError, match=r"\w"):
        calendar_period(text)
