"""Units: products of powers, and a text for each that reads as the same unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.quantities import (
    BPS_UNIT,
    NO_UNIT,
    SCALE_UNIT,
    SECONDS,
    Unit,
    amount_of,
    parse_unit,
    price_of,
)

TOKENS = st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,5}", fullmatch=True)
WRITTEN = st.one_of(
    st.sampled_from([NO_UNIT, BPS_UNIT, SECONDS]),
    TOKENS.map(amount_of),
    st.lists(TOKENS, min_size=2, max_size=2, unique=True).map(lambda pair: price_of(*pair)),
)
UNITS = st.lists(st.tuples(WRITTEN, st.booleans()), max_size=6).map(
    lambda parts: _product([each if above else NO_UNIT / each for each, above in parts])
)


def _product(units: list[Unit]) -> Unit:
    product = NO_UNIT
    for unit in units:
        product *= unit
    return product


@given(UNITS, UNITS, UNITS)
def test_units__any_three__an_abelian_group_whose_equals_are_equal(one: Unit, two: Unit, three: Unit):
    assert one * two == two * one
    assert one * (two * three) == (one * two) * three
    assert one * NO_UNIT == one / NO_UNIT == one
    assert one / one == NO_UNIT
    assert one * two / two == one
    assert one / two / three == one / (two * three)
    assert hash(one * two) == hash(two * one)
    assert str(one * two) == str(two * one)


@given(WRITTEN)
def test_parse_unit__its_text__the_same_unit(unit: Unit):
    assert parse_unit(str(unit)) == unit
    assert parse_unit(f"  {unit} ") == unit


@given(st.lists(TOKENS, min_size=2, max_size=2, unique=True))
def test_units__amount_times_price_by_the_scale__amount_of_the_quote(pair: list[str]):
    base, quote = pair
    value = amount_of(base) * price_of(base, quote) / SCALE_UNIT
    assert value == amount_of(quote)
    assert (value.token, value.pair) == (quote, None)
    assert (price_of(base, quote).token, price_of(base, quote).pair) == (None, (base, quote))


@given(UNITS, UNITS)
def test_units__two__one_text_only_where_they_are_one(one: Unit, two: Unit):
    assert (str(one) == str(two)) == (one == two)


@pytest.mark.parametrize("text", ["", "amount", "amount<>", "amount<1X>", "price<A>", "price<A/B/C>", "bps²", "wei"])
def test_parse_unit__no_unit__says_what_there_is(text: str):
    with pytest.raises(ValueError, match="is no unit: write amount<TOKEN>"):
        parse_unit(text)
