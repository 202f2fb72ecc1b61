"""Batches, ceilings, fees and nonces: arithmetic that money depends on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.payouts import (
    Action,
    ActionKind,
    Attempt,
    Batch,
    Ceilings,
    Fees,
    InFlight,
    Payout,
    Sender,
    Signed,
    Slot,
    bump_fees,
    bump_is_due,
    check_ceilings,
    check_nonces,
    check_recipients,
    first_fees,
    pack_batches,
)
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import UINT256_MAX, Address, AssetId

ASSET = AssetId("eip155:1/erc20:0x" + "aa" * 20)
NONE: dict[AssetId, int] = {}

addresses = st.binary(min_size=20, max_size=20).map(Address)
amounts = st.integers(1, UINT256_MAX)
payouts = st.dictionaries(addresses, amounts, min_size=1, max_size=60).map(
    lambda found: [Payout(recipient, amount) for recipient, amount in found.items()]
)
wei = st.integers(0, 10**15)


@given(payouts, st.integers(1, 20))
def test_pack_batches__any_payouts__all_kept_once_ascending_and_full(given_payouts: list[Payout], most: int):
    batches = pack_batches(given_payouts, most)
    packed = [payout for batch in batches for payout in batch.payouts]
    assert packed == sorted(given_payouts, key=lambda payout: payout.recipient)
    assert [batch.index for batch in batches] == list(range(len(batches)))
    assert all(len(batch.payouts) == most for batch in batches[:-1])
    assert 1 <= len(batches[-1].payouts) <= most


@given(payouts, st.integers(1, 20), st.randoms(use_true_random=False))
def test_pack_batches__another_order__same_batches(given_payouts: list[Payout], most: int, random):
    shuffled = given_payouts.copy()
    random.shuffle(shuffled)
    assert pack_batches(shuffled, most) == pack_batches(given_payouts, most)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ([], "needs a recipient"),
        ([Payout(Address(b"a" * 20), 1), Payout(Address(b"a" * 20), 2)], "comes twice"),
        ([Payout(Address(b"a" * 20), 0)], "zero"),
        ([Payout(Address(b"a" * 20), UINT256_MAX + 1)], "uint256"),
    ],
)
def test_pack_batches__what_cannot_be_paid__is_refused(bad: list[Payout], why: str):
    with pytest.raises(ValueError, match=why):
        pack_batches(bad, 2)


def batch(*values: int) -> Batch:
    return Batch(0, tuple(Payout(Address(bytes([n + 1]) * 20), value) for n, value in enumerate(values)))


@pytest.mark.parametrize(
    ("limits", "spent", "verdict"),
    [
        (Ceilings(NONE, NONE, NONE), 10**30, None),
        (Ceilings({ASSET: 9}, {ASSET: 9}, {ASSET: 5}), 0, None),
        (Ceilings({ASSET: 8}, NONE, NONE), 0, False),
        (Ceilings(NONE, {ASSET: 8}, NONE), 0, False),
        (Ceilings(NONE, NONE, {ASSET: 4}), 0, False),
        (Ceilings(NONE, {ASSET: 12}, NONE), 3, None),
        (Ceilings(NONE, {ASSET: 12}, NONE), 4, True),
        (Ceilings(NONE, {ASSET: 12}, NONE), None, None),
        (Ceilings({AssetId("other"): 1}, NONE, NONE), 0, None),
    ],
)
def test_check_ceilings__batch_of_five_and_four__refused_above_and_temporary_only_for_the_day(
    limits: Ceilings, spent: int | None, verdict: bool | None
):
    refusal = check_ceilings(limits, ASSET, [batch(5, 4)], spent)
    assert (None if refusal is None else refusal.temporary) == verdict


def test_check_recipients__nobody_our_contract_or_a_wrong_total__refused():
    good = batch(5, 4)
    assert check_recipients([good], 9, ()) is None
    assert check_recipients([good], 8, ()) is not None
    assert check_recipients([good], 9, {good.payouts[1].recipient}) is not None
    assert check_recipients([Batch(0, (Payout(Address(bytes(20)), 9),))], 9, ()) is not None


@given(wei, wei, wei)
def test_first_fees__any_market__never_over_the_ceiling(base: int, tip: int, ceiling: int):
    fees = first_fees(base, tip, ceiling)
    assert 0 <= fees.priority_fee <= fees.max_fee <= ceiling


@given(wei, wei, wei, wei, wei)
def test_bump_fees__any_previous__an_eighth_more_in_both_or_nothing(a: int, b: int, c: int, d: int, ceiling: int):
    previous, wanted = Fees(max(a, b), min(a, b)), Fees(max(c, d), min(c, d))
    bumped = bump_fees(previous, wanted, ceiling)
    if bumped is None:
        assert previous.max_fee * 9 > ceiling * 8 or previous.max_fee + 1 > ceiling
        return
    for before, after in ((previous.max_fee, bumped.max_fee), (previous.priority_fee, bumped.priority_fee)):
        assert after * 8 >= before * 9
        assert after > before
    assert bumped.max_fee <= ceiling


def test_bump_fees__fraction__is_rounded_up():
    assert bump_fees(Fees(1001, 9), Fees(0, 0), 10**9) == Fees(1127, 11)


def flight(nonce: int, state: ActionState, *signed_heads: int) -> InFlight:
    action = Action(nonce, b"", "c", 0, ActionKind.PROPOSE, state, None, Address(b""), b"", b"", 0)
    slot = Slot(nonce, Address(b""), nonce, 1, SlotState.LIVE)
    attempts = [
        Attempt(at, at, Signed(b"", b"", 1, 1, 1), head, sent=True, inclusion=None)
        for at, head in enumerate(signed_heads)
    ]
    return InFlight(action, slot, tuple(attempts))


def test_bump_is_due__only_the_lowest_waiting_nonce__and_only_after_its_blocks():
    included = flight(1, ActionState.INCLUDED, 0)
    reserved = flight(2, ActionState.RESERVED)
    first, second = flight(3, ActionState.BROADCAST, 10), flight(4, ActionState.BROADCAST, 0)
    assert bump_is_due([included, reserved, second, first], 15, 5) is first
    assert bump_is_due([included, reserved, second, first], 14, 5) is None
    assert bump_is_due([included, reserved], 99, 5) is None


def test_bump_is_due__bumped_already__counts_from_the_newest_attempt():
    bumped = flight(3, ActionState.BROADCAST, 10, 15)
    assert bump_is_due([bumped], 19, 5) is None
    assert bump_is_due([bumped], 20, 5) is bumped


@pytest.mark.parametrize(("sequence", "fine"), [(6, False), (7, True), (9, True), (30, True)])
def test_check_nonces__fewer_spent_than_are_final__contradiction(sequence: int, fine: bool):
    sender = Sender(Address(b"\x01" * 20), first_nonce=5, next_nonce=9, over=2)
    assert (check_nonces(sender, sequence) is None) == fine
