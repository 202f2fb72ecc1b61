"""Splits against slow, obvious references in exact fractions."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from random import Random
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.domain.splits import Leg, NoWeights, by_shares, capped, in_legs, merged, pro_rata, without
from bridge.domain.units import BPS, UINT256_MAX, Address

Who = TypeVar("Who", Address, int)
A, B, C, D = (Address(bytes([n]) * 20) for n in (0xA, 0xB, 0xC, 0xD))

addresses = st.integers(0, 30).map(lambda n: Address(bytes([n]) * 20))
one_weight = st.one_of(st.integers(0, 5), st.integers(0, UINT256_MAX), st.integers(0, 2**300))
weights = st.dictionaries(addresses, one_weight, min_size=1)
totals = st.one_of(st.integers(0, 100), st.integers(0, UINT256_MAX), st.just(UINT256_MAX))


# ── References ──────────────────────────────────────────────────────────────────────────────────────────────────────
def rounded(quotas: Mapping[Who, Fraction]) -> dict[Who, int]:
    """Hand out floors, then one atom at a time to whoever is furthest below the exact quota, ties by key."""
    given_out = {who: int(quota) for who, quota in quotas.items()}
    while sum(given_out.values()) < sum(quotas.values()):
        neediest = min(quotas, key=lambda who: (given_out[who] - quotas[who], who))
        given_out[neediest] += 1
    return given_out


def above_zero(table: Mapping[Address, int]) -> dict[Address, int]:
    return {who: amount for who, amount in table.items() if amount}


def reference(total: int, table: Mapping[Address, int]) -> dict[Address, int]:
    whole = sum(table.values())
    return above_zero(rounded({who: Fraction(total * weight, whole) for who, weight in table.items()}))


def reference_capped(total: int, table: Mapping[Address, int], cap: int) -> tuple[dict[Address, int], int]:
    """Tries every level at which some of the heaviest are at the cap, and takes the one that gives out all."""
    heaviest = sorted((weight for weight in table.values() if weight), reverse=True)
    if cap * len(heaviest) <= total:
        return {who: cap for who, weight in table.items() if weight and cap}, total - cap * len(heaviest)
    for count in range(len(heaviest)):
        level = Fraction(total - cap * count, sum(heaviest[count:]))
        quotas = {who: min(Fraction(cap), level * weight) for who, weight in table.items()}
        if sum(quotas.values()) == total:
            return above_zero(rounded(quotas)), 0
    raise AssertionError("no level gives out all")


def reference_in_legs(total: int, legs: Sequence[Leg]) -> dict[Address, int]:
    exact = {place: Fraction(total * leg.bps, BPS) for place, leg in enumerate(legs)}
    residual = next((leg for leg in legs if leg.residual), None)
    amounts = {place: int(amount) for place, amount in exact.items()} if residual else rounded(exact)
    result: dict[Address, int] = {}
    for place, leg in enumerate(legs):
        if leg is residual or not leg.bps:
            continue
        whole = sum(leg.weights.values())
        quotas = {who: Fraction(amounts[place] * weight, whole) for who, weight in leg.weights.items()}
        shares = {who: int(quota) for who, quota in quotas.items()} if residual else rounded(quotas)
        for who, share in shares.items():
            result[who] = result.get(who, 0) + share
    if residual:
        [last] = [who for who, weight in residual.weights.items() if weight]
        result[last] = result.get(last, 0) + total - sum(result.values())
    return above_zero(result)


def shuffled(table: Mapping[Address, int], random: Random) -> dict[Address, int]:
    pairs = list(table.items())
    random.shuffle(pairs)
    return dict(pairs)


# ── Pro rata ────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(totals, weights)
@example(UINT256_MAX, {A: UINT256_MAX, B: UINT256_MAX, C: 1})
@example(1, {A: 1, B: UINT256_MAX})
@example(2, {A: 0, B: 1, C: 1, D: 1})
# Fractions that differ only far below the first bits that are looked at.
@example(2, {A: 2**280 + 1, B: 2**280, C: 2**280 + 2})
def test_pro_rata__any_weights__equals_the_reference(total: int, table: dict[Address, int]):
    if total and not any(table.values()):
        with pytest.raises(NoWeights):
            pro_rata(total, table)
    else:
        assert pro_rata(total, table) == (reference(total, table) if total else {})


@given(totals, weights, st.randoms())
def test_pro_rata__any_order__same_result(total: int, table: dict[Address, int], random: Random):
    if any(table.values()):
        assert pro_rata(total, shuffled(table, random)) == pro_rata(total, table)


@given(totals, weights)
def test_pro_rata__any_weights__nobody_is_an_atom_away_from_the_quota(total: int, table: dict[Address, int]):
    whole = sum(table.values())
    if not whole:
        return
    shares = pro_rata(total, table)
    assert sum(shares.values()) == total
    for who, weight in table.items():
        assert abs(shares.get(who, 0) - Fraction(total * weight, whole)) < 1


@given(st.integers(0, 3000), st.integers(1, 1000), st.integers(0, 2**32))
def test_pro_rata__many_recipients__equals_sorting_all_of_them(total: int, count: int, seed: int):
    random = Random(seed)
    kinds = [1, 2, 3, 2**100, 2**100 + 1, 0]
    table = {Address(random.randbytes(20)): random.choice(kinds[: 1 + seed % 6]) for _ in range(count)}
    whole = sum(table.values())
    if whole == 0:
        return
    expected = {who: total * weight // whole for who, weight in table.items()}
    neediest = sorted(table, key=lambda who: (-(total * table[who] % whole), who))
    for who in neediest[: total - sum(expected.values())]:
        expected[who] += 1
    assert pro_rata(total, table) == above_zero(expected)


@given(totals, st.lists(st.tuples(addresses, st.integers(0, 1000)), max_size=20))
def test_merged__recipients_named_twice__split_as_if_named_once(total: int, pairs: list[tuple[Address, int]]):
    table = merged(pairs)
    assert sum(table.values()) == sum(weight for _, weight in pairs)
    assert set(table) == {who for who, _ in pairs}
    if any(table.values()):
        assert pro_rata(total, table) == pro_rata(total, merged(reversed(pairs)))


def test_pro_rata__tie__goes_to_the_lowest_address_bytes():
    assert pro_rata(2, {C: 1, B: 1, A: 1}) == {A: 1, B: 1}


@pytest.mark.parametrize("table", [{}, {A: 0}, {A: 0, B: 0}])
def test_pro_rata__nobody_with_a_weight__says_so_unless_there_is_nothing_to_give(table: dict[Address, int]):
    with pytest.raises(NoWeights, match="7 to give"):
        pro_rata(7, table)
    assert pro_rata(0, table) == {}


@pytest.mark.parametrize(("total", "table"), [(5, {A: 10, B: -1}), (-5, {A: 10}), (0, {A: -1}), (5, {A: 1, B: -1})])
def test_pro_rata__negative__refused(total: int, table: dict[Address, int]):
    for split in (pro_rata, lambda total, table: capped(total, table, 3)):
        with pytest.raises(ValueError, match="negative"):
            split(total, table)


# ── Capped ──────────────────────────────────────────────────────────────────────────────────────────────────────────
caps = st.one_of(st.integers(0, 40), st.integers(0, UINT256_MAX))


@given(totals, weights, caps)
@example(UINT256_MAX, {A: UINT256_MAX, B: UINT256_MAX, C: 1}, UINT256_MAX // 3)
@example(UINT256_MAX, {A: UINT256_MAX, B: UINT256_MAX, C: 1}, UINT256_MAX // 3 + 1)
@example(30, {A: 8, B: 1, C: 1}, 10)  # the quotas of the others end exactly at the cap
@example(30, {A: 5, B: 4, C: 1}, 12)  # taking the heaviest out lifts the next above the cap
@example(1, {A: 1, B: 0}, 0)
def test_capped__any_weights__equals_the_reference(total: int, table: dict[Address, int], cap: int):
    if total and not any(table.values()):
        with pytest.raises(NoWeights):
            capped(total, table, cap)
        return
    shares, rest = capped(total, table, cap)
    assert (shares, rest) == reference_capped(total, table, cap)
    assert sum(shares.values()) + rest == total
    assert max(shares.values(), default=0) <= cap


@given(
    st.dictionaries(addresses, st.integers(1, 2**100), min_size=1), st.fractions(0, 1), st.fractions(0, 1), st.randoms()
)
def test_capped__taken_out_in_any_order__same_shares(
    table: dict[Address, int], part: Fraction, cap_part: Fraction, random: Random
):
    """The other way to say it: as long as anybody is above the cap, one of those gets the cap and leaves with it."""
    total = int(part * 2**90)
    cap = int(cap_part * total)
    taken: dict[Address, int] = {}
    left, rest = dict(table), total
    while above := [who for who in left if rest * left[who] > cap * sum(left.values())]:
        chosen = random.choice(above)
        del left[chosen]
        taken[chosen] = cap
        rest -= cap
    expected = (above_zero(taken | pro_rata(rest, left)), 0) if left else (above_zero(taken), rest)
    assert capped(total, table, cap) == expected


@given(totals, weights, caps, st.randoms())
def test_capped__any_order__same_result(total: int, table: dict[Address, int], cap: int, random: Random):
    if any(table.values()):
        assert capped(total, shuffled(table, random), cap) == capped(total, table, cap)


@given(totals, weights, st.integers(0, UINT256_MAX))
def test_capped__a_cap_that_nobody_reaches__is_pro_rata(total: int, table: dict[Address, int], more: int):
    if any(table.values()):
        assert capped(total, table, total + more) == (pro_rata(total, table), 0)


@pytest.mark.parametrize(
    ("total", "cap", "expected", "rest"),
    [
        (100, 50, {A: 50, B: 33, C: 17}, 0),  # 80, 13.3, 6.7: what A may not have goes to B and C, two to one
        (100, 30, {A: 30, B: 30, C: 30}, 10),
        (100, 33, {A: 33, B: 33, C: 33}, 1),
        (100, 34, {A: 34, B: 34, C: 32}, 0),
        (100, 0, {}, 100),
        (1, 1, {A: 1}, 0),
        (2, 1, {A: 1, B: 1}, 0),
        (0, 0, {}, 0),
    ],
)
def test_capped__twelve_to_two_to_one__by_hand(total: int, cap: int, expected: dict[Address, int], rest: int):
    assert capped(total, {C: 1, A: 12, B: 2, D: 0}, cap) == (expected, rest)


def test_capped__negative_cap__refused():
    with pytest.raises(ValueError, match="cap cannot be negative"):
        capped(5, {A: 1}, -1)


# ── Legs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@st.composite
def several_legs(draw: st.DrawFn) -> list[Leg]:
    """Up to five legs of any parts, some of 0 bps, with or without a residual one; each has somebody to give to."""
    cuts = sorted(draw(st.lists(st.integers(0, BPS), max_size=4)))
    parts = [end - start for start, end in zip([0, *cuts], [*cuts, BPS], strict=True)]
    some = weights.filter(lambda table: any(table.values()))
    legs = [Leg(f"leg {place}", bps, draw(some)) for place, bps in enumerate(parts)]
    if draw(st.booleans()):
        place = draw(st.integers(0, len(legs) - 1))
        table = {draw(addresses): 0, draw(addresses): draw(st.integers(1, 9))}
        legs[place] = Leg("residual", legs[place].bps, table, residual=True)
    return legs


@given(totals, several_legs(), st.randoms())
def test_in_legs__any_legs__equals_the_reference(total: int, legs: list[Leg], random: Random):
    shares = in_legs(total, legs)
    assert shares == (reference_in_legs(total, legs) if total else {})
    assert sum(shares.values()) == total
    turned = [Leg(leg.name, leg.bps, shuffled(leg.weights, random), leg.residual) for leg in legs]
    assert in_legs(total, turned) == shares


@given(totals, weights)
def test_in_legs__one_leg__is_pro_rata(total: int, table: dict[Address, int]):
    if any(table.values()):
        assert in_legs(total, [Leg("all", BPS, table)]) == pro_rata(total, table)


def test_in_legs__two_halves_of_an_odd_amount__the_first_gets_the_atom():
    assert in_legs(7, [Leg("b", 5000, {B: 1}), Leg("a", 5000, {A: 1})]) == {B: 4, A: 3}
    # More legs than one byte counts: their order is still that of the list.
    many = [Leg(str(place), 10, {Address(place.to_bytes(20)): 1}) for place in reversed(range(1000))]
    assert in_legs(1, many) == {Address((999).to_bytes(20)): 1}


def test_in_legs__residual__gets_what_both_roundings_leave():
    members = Leg("members", 9500, {A: 1, B: 1, C: 1})
    # 95 % of 101 is 95.95, so 95, of which each of three gets 31; 101 - 93 = 8 are left, more than 5 %.
    assert in_legs(101, [members, Leg("fee", 500, {D: 1}, residual=True)]) == {A: 31, B: 31, C: 31, D: 8}
    assert in_legs(1, [members, Leg("fee", 500, {D: 1}, residual=True)]) == {D: 1}


def test_in_legs__residual_who_is_in_another_leg__gets_both():
    legs = [Leg("fee", 500, {A: 1}, residual=True), Leg("members", 9500, {A: 1, B: 1})]
    assert in_legs(1000, legs) == {A: 525, B: 475}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("total", [1, 1000])
def test_in_legs__a_leg_without_weights__is_named_and_nothing_goes_elsewhere(total: int, residual: bool):
    legs = [Leg("members", 9999, {A: 1}), Leg("guests", 1, {B: 0}, residual=residual)]
    with pytest.raises(NoWeights, match=f"guests: {total} to divide"):
        in_legs(total, legs)
    assert in_legs(0, legs) == {}


def test_in_legs__a_leg_of_nothing__needs_nobody():
    assert in_legs(5, [Leg("members", BPS, {A: 1}), Leg("guests", 0, {})]) == {A: 5}
    with pytest.raises(NoWeights, match="fee"):
        in_legs(5, [Leg("members", BPS, {A: 1}), Leg("fee", 0, {}, residual=True)])


@pytest.mark.parametrize(
    ("legs", "problem"),
    [
        ([Leg("a", 9999, {A: 1})], "9999 bps"),
        ([], "0 bps"),
        ([Leg("a", 10_001, {A: 1}), Leg("b", -1, {B: 1})], "negative"),
        ([Leg("a", 5000, {A: 1}, residual=True), Leg("b", 5000, {B: 1}, residual=True)], "only one leg"),
        ([Leg("a", BPS, {A: 1, B: 1}, residual=True)], "more than one recipient"),
        ([Leg("a", 5000, {A: 1, B: -1}), Leg("b", 5000, {B: 1})], "negative"),
    ],
)
def test_in_legs__that_make_no_sense__refused(legs: list[Leg], problem: str):
    with pytest.raises(ValueError, match=problem):
        in_legs(5, legs)
    with pytest.raises(ValueError, match="negative"):
        in_legs(-5, [Leg("a", BPS, {A: 1})])


# ── The rest ────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(totals, weights, st.sets(addresses))
def test_without__some__divides_as_if_they_had_no_weight(total: int, table: dict[Address, int], some: set[Address]):
    before = dict(table)
    kept = without(table, some)
    assert table == before
    assert kept == {who: weight for who, weight in table.items() if who not in some}
    if any(kept.values()):
        zeroed = {who: weight * (who not in some) for who, weight in table.items()}
        assert pro_rata(total, kept) == pro_rata(total, zeroed)


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
