"""Splits against a slow, obvious reference in exact fractions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.splits import NoWeights, by_shares, equal, merged, pro_rata
from bridge.domain.units import UINT256_MAX, Address

A, B, C = (Address(bytes([n]) * 20) for n in (0xA, 0xB, 0xC))

addresses = st.integers(0, 30).map(lambda n: Address(bytes([n]) * 20))
weights = st.dictionaries(addresses, st.one_of(st.integers(0, 5), st.integers(0, 2**300)), min_size=1)
totals = st.one_of(st.integers(0, 100), st.integers(0, UINT256_MAX))


def reference(total: int, table: dict[Address, int]) -> dict[Address, int]:
    """Hand out floors, then one atom at a time to whoever is furthest below the exact quota."""
    whole = sum(table.values())
    quota = {who: Fraction(total * weight, whole) for who, weight in table.items()}
    given_out = {who: int(quota[who]) for who in table}
    while sum(given_out.values()) < total:
        neediest = min(table, key=lambda who: (given_out[who] - quota[who], who))
        given_out[neediest] += 1
    return {who: amount for who, amount in given_out.items() if amount}


@given(totals, weights)
def test_pro_rata__any_weights__equals_the_reference(total: int, table: dict[Address, int]):
    if total and not any(table.values()):
        with pytest.raises(NoWeights):
            pro_rata(total, table)
    else:
        assert pro_rata(total, table) == (reference(total, table) if total else {})


@given(totals, weights, st.randoms())
def test_pro_rata__any_order__same_result(total: int, table: dict[Address, int], random):
    if not any(table.values()):
        return
    shuffled = list(table.items())
    random.shuffle(shuffled)
    assert pro_rata(total, dict(shuffled)) == pro_rata(total, table)


@given(totals, weights)
def test_pro_rata__any_weights__nobody_is_an_atom_away_from_the_quota(total: int, table: dict[Address, int]):
    whole = sum(table.values())
    if not whole:
        return
    shares = pro_rata(total, table)
    assert sum(shares.values()) == total
    for who, weight in table.items():
        assert abs(shares.get(who, 0) - Fraction(total * weight, whole)) < 1


@given(totals, st.lists(st.tuples(addresses, st.integers(0, 1000)), max_size=20))
def test_merged__recipients_named_twice__split_as_if_named_once(total: int, pairs: list[tuple[Address, int]]):
    table = merged(pairs)
    assert sum(table.values()) == sum(weight for _, weight in pairs)
    assert set(table) == {who for who, _ in pairs}
    if any(table.values()):
        assert pro_rata(total, table) == pro_rata(total, merged(reversed(pairs)))


@given(totals, st.lists(addresses, min_size=1, max_size=20))
def test_equal__any_recipients__differ_by_one_atom_at_most(total: int, recipients: list[Address]):
    shares = equal(total, recipients)
    parts = [shares.get(who, 0) for who in set(recipients)]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (1, {A: 1}),  # one atom: the larger share has the larger fraction
        (10, {A: 7, B: 3}),
        (11, {A: 8, B: 3}),  # 7.7 and 3.3
        (UINT256_MAX, {A: UINT256_MAX * 7 // 10 + 1, B: UINT256_MAX * 3 // 10}),  # .5 and .5: the lower address
    ],
)
def test_by_shares__seventy_thirty__residual_to_the_largest_remainder(total: int, expected: dict[Address, int]):
    assert by_shares(total, [(A, 7000), (B, 3000)]) == expected


def test_by_shares__not_a_whole__refused():
    with pytest.raises(ValueError, match="9999 bps"):
        by_shares(5, [(A, 7000), (B, 2999)])


def test_pro_rata__tie__goes_to_the_lowest_address_bytes():
    assert pro_rata(2, {C: 1, B: 1, A: 1}) == {A: 1, B: 1}


def test_pro_rata__negative_weight__refused():
    with pytest.raises(ValueError, match="negative"):
        pro_rata(5, {A: 10, B: -1})
