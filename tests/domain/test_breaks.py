"""Ages, shares, and what a person may resolve."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.breaks import (
    AGE_BANDS,
    MENDED_BY,
    PPM,
    Break,
    BreakKind,
    LastLook,
    Level,
    age_band,
    share_ppm,
    why_unresolvable,
)
from bridge.domain.states import BreakState
from bridge.domain.units import BlockStamp

AT = BlockStamp("anvil", 1_234, b"\x07" * 32)


@pytest.mark.parametrize(
    ("hours", "band"),
    [(0, "<1 h"), (1, "<24 h"), (24, "1–7 d"), (7 * 24, "7–30 d"), (30 * 24, ">30 d"), (10**6, ">30 d")],
)
def test_age_band__from_its_bound_on__the_next_one(hours: int, band: str):
    assert age_band(timedelta(hours=hours)) == band
    if 0 < hours <= 30 * 24:
        younger = age_band(timedelta(hours=hours) - timedelta(microseconds=1))
        assert AGE_BANDS.index(younger) == AGE_BANDS.index(band) - 1


@given(whole=st.integers(1, 2**256), part=st.integers(0, 2**256))
def test_share_ppm__all_only_where_it_is_all(whole: int, part: int):
    part = min(part, whole)
    share = share_ppm(part, whole)
    assert 0 <= share <= PPM
    assert (share == PPM) == (part == whole)
    assert share * whole <= part * PPM < (share + 1) * whole


def test_share_ppm__of_nothing__all():
    assert share_ppm(0, 0) == PPM


@pytest.mark.parametrize("kind", BreakKind)
@pytest.mark.parametrize(
    ("lasting", "look", "said"),
    [
        (False, LastLook(3, AT, found=True), "reconciliation 3 still found it at block 1,234 of anvil. "),
        (False, LastLook(3, AT, found=False), None),
        (False, None, "no run has looked at it since"),
        (True, LastLook(3, AT, found=True), None),
        (True, None, None),
    ],
)
def test_why_unresolvable__each_kind__its_evidence_decides(
    kind: BreakKind, lasting: bool, look: LastLook | None, said: str | None
):
    opened = datetime(2026, 11, 1, tzinfo=UTC)
    item = Break(1, kind, "anvil", Level.EVENT, "it", None, None, BreakState.OPEN, "{}", AT, opened, lasting=lasting)
    refused = why_unresolvable(item, look)
    assert (refused is None) == (said is None)
    if refused is not None and said is not None:
        assert refused.startswith(said)
        assert look is None or MENDED_BY[kind][1:] in refused
