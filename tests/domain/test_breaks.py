"""Ages, shares, and what a person may resolve."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.breaks import (
    AGE_BANDS,
    HELD,
    HELD_NAMED,
    IN_FLIGHT,
    MENDED_BY,
    OVERDUE,
    PPM,
    Break,
    BreakKind,
    LastLook,
    Level,
    Outcome,
    Waiting,
    age_band,
    judge_waiting,
    share_ppm,
    why_unresolvable,
)
from bridge.domain.states import BreakState
from bridge.domain.units import AssetId, BlockStamp

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


# ── Batches that wait ───────────────────────────────────────────────────────────────────────────────────────────────
NOW, DEADLINE_S = 100_000, 3_600
AROUND = (NOW - DEADLINE_S - 1, NOW - DEADLINE_S, NOW)
BATCHES = st.lists(
    st.builds(
        Waiting,
        distribution_id=st.binary(min_size=32, max_size=32),
        index=st.integers(0, 5_000),
        asset=st.sampled_from([AssetId("eip155:1/erc20:0xaa"), AssetId("eip155:1/erc20:0xbb")]),
        amount=st.integers(1, 2**256 - 1),
        window_end=st.sampled_from(AROUND),
        landed=st.sampled_from([None, AT.number - 1, AT.number, AT.number + 1]),
        held=st.sampled_from([None, "its recipient is frozen"]),
        resumed_s=st.sampled_from([None, 0, DEADLINE_S, DEADLINE_S + 1]),
    ),
    max_size=3 * HELD_NAMED,
    unique_by=lambda batch: (batch.distribution_id, batch.index),
)


@given(BATCHES)
def test_judge_waiting__any_batches__each_is_overdue_in_flight_or_held_and_no_atom_is_lost(batches: list[Waiting]):
    overdue, flying, *held = judge_waiting(AT, NOW, batches, DEADLINE_S)
    assert [check.subject for check in (overdue, flying, *held)] == [OVERDUE, IN_FLIGHT, *[HELD] * len(held)]
    assert len({(check.subject, check.asset) for check in held}) == len(held), "each is one subject for the next run"

    missing = {difference.subject: difference for difference in overdue.differences}
    assert len(missing) == len(overdue.differences)
    late = [batch for batch in batches if f"batch {batch.distribution_id.hex()}:{batch.index}" in missing]
    assert len(late) == len(missing)
    for batch in batches:
        final = batch.landed is not None and batch.landed <= AT.number
        clocks = [NOW - batch.window_end, *([] if batch.resumed_s is None else [batch.resumed_s])]
        assert (batch in late) == (final or (batch.held is None and min(clocks) > DEADLINE_S))

    in_flight = sum(batch.held is None for batch in batches if batch not in late)
    assert flying.skipped == (f"{in_flight} batches are in flight" if in_flight else None)
    waiting = [batch for batch in batches if batch.held is not None and batch not in late]
    for check in held:
        own = [batch for batch in waiting if batch.asset == check.asset]
        assert check.expected == sum(batch.amount for batch in own)
        assert check.outcome is Outcome.SKIPPED
        assert check.skipped is not None
        named = sum(f"batch {batch.index} of 0x{batch.distribution_id.hex()}" in check.skipped for batch in own)
        assert named == min(len(own), HELD_NAMED)
        assert (f"and {len(own) - HELD_NAMED} more" in check.skipped) == (len(own) > HELD_NAMED)
    lost = sum(-difference.amount for difference in overdue.differences if difference.amount is not None)
    told = lost + sum(check.expected or 0 for check in held)
    assert told == sum(batch.amount for batch in batches if batch in late or batch.held is not None)
