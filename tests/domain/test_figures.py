"""Shares that are never rounded up, percentiles that are values, and bands that hold everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.figures import (
    LAG_BANDS,
    LAG_BOUNDS_MS,
    Lag,
    Milestones,
    Spread,
    Tally,
    ages,
    latencies,
    percent,
    spread,
)


@given(st.lists(st.integers(-10, 10**12), min_size=1))
def test_spread__any_times__at_least_so_many_are_no_longer_and_it_is_one_of_them(times: list[int]):
    found = spread(times)
    kept = [max(0, time) for time in times]
    for percent_of, value in ((50, found.p50), (95, found.p95)):
        assert value in kept
        assert 100 * sum(time <= value for time in kept) >= percent_of * len(kept)
        assert 100 * sum(time < value for time in kept) < percent_of * len(kept)


def test_spread__none__says_so():
    assert spread([]) == Spread(0, None, None)


@given(st.integers(0, 10**20), st.integers(0, 10**20), st.integers(0, 10**20))
def test_tally__any__all_of_it_only_where_nothing_is_missing(agreed: int, broken: int, skipped: int):
    tally = Tally(agreed, broken, skipped, exempt=5)
    assert (tally.agreed_ppm == 1_000_000) == (broken == 0)
    assert (tally.coverage_ppm == 1_000_000) == (skipped == 0)


@pytest.mark.parametrize(
    ("ppm", "said"), [(1_000_000, "100 %"), (999_999, "99.9999 %"), (500_000, "50 %"), (1, "0.0001 %"), (0, "0 %")]
)
def test_percent__millionths__every_digit(ppm: int, said: str):
    assert percent(ppm) == said


@given(st.lists(st.integers(0, 10**9)))
def test_ages__any__each_break_in_one_band(seconds: list[int]):
    assert sum(band.breaks for band in ages(seconds)) == len(seconds)


def test_latencies__not_posted_yet__left_out_of_all():
    done, flying = Milestones(100, 130, 160, 170), Milestones(100, 900, None, None)
    told = latencies([done, flying])
    assert told.mined_to_decided_s == Spread(1, 30, 30)
    assert (told.mined_to_final_s.p50, told.final_to_posted_s.p50, told.mined_to_posted_s.p95) == (60, 10, 70)


def test_lag__bands__one_more_than_bounds_and_they_hold_every_block():
    assert len(LAG_BANDS) == len(LAG_BOUNDS_MS) + 1
    with pytest.raises(AssertionError):
        Lag("main", 2, 1, 1, (1, 0, 0, 0, 0, 0, 0, 0, 0))
