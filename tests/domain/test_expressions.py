"""The language of rules: what it computes, what it refuses, and that nothing gets out of it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.domain.events import Value
from bridge.domain.expressions import BITS_MAX, PLAIN, Expression, ExpressionError, Kind, Type, compile_expression
from bridge.domain.quantities import NO_UNIT, SECONDS, Unit, amount_of, parse_unit, price_of
from bridge.domain.units import UINT256_MAX, base58, from_base58, parse_address

USDX, WETH = amount_of("USDX"), amount_of("WETH")


def number(unit: Unit) -> Type:
    return Type(Kind.NUMBER, unit)


BASE58 = "GRXzFRLncnpy8AE6zE5gPTx24G7uUGhk2wpFcR3Vq1Wh"
DIGIT_FIRST = "4Nd1mBQtrMJVYVfKf2PJy9NZUZdTAsp7D4xWLs4gDB4T"  # no word to Python
ZERO = "1" * 32  # nothing but digits: a number, were it not beside an address
NAMES = {
    "holder": Type(Kind.ADDRESS),
    "fees": number(USDX),
    "assets": number(USDX),
    "floor": number(USDX),
    "eth": number(WETH),
    "price": number(price_of("WETH", "USDX")),
    "rate": number(parse_unit("bps")),
    "months": PLAIN,
    "period": number(SECONDS),
    "stake": Type(Kind.TABLE, USDX * SECONDS),
    "token": Type(Kind.ADDRESS),
    "asset": Type(Kind.ADDRESS),
    "open": Type(Kind.BOOL),
    "fee.amount": number(USDX),
}


def compiled(text: str, wants: Type | Kind = Kind.NUMBER) -> Expression:
    return compile_expression(text, NAMES, wants=wants)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fees", 7),
        ("assets - fees - floor", 1000 - 7 - 3),
        ("-fees * 3 + 1", -20),
        ("fees * months", 49),
        ("mul_div(fees, floor, fees)", 3),
        ("mul_div(fees, rate, BPS)", 3),
        ("value(eth, price)", 3),
        ("value_up(eth, price)", 4),
        ("value(eth, price) - floor", 0),
        ("floor_div(total(stake), period)", 5),
        ("mul_div(max(assets - fees, 0), rate, BPS) - max(fees - floor * months, 0)", 496),
        ("floor_div(max(assets - fees, 0) * max(fees - floor, 0), fees)", 567),
        ("fees * count(stake) - mul_div(assets, 1, 2)", 7 * 9 - 500),
        ("fee.amount * 2", 22),
        ("min(fees, assets, floor)", 3),
        ("max(fees, 0)", 7),
        ("clamp(assets, 0, 500)", 500),
        ("floor_div(fees, 2)", 3),
        ("ceil_div(fees, 2)", 4),
        ("floor_div(0 - fees, 2)", -4),
        ("ceil_div(0 - fees, 2)", -3),
        ("mul_div(fees, 1, 2)", 3),
        ("mul_div_up(fees, 1, 2)", 4),
        ("fees if open else assets", 7),
        ("fees if token == asset and not open else assets", 1000),
        ("1 < fees < 10", True),
        ("token != asset or fees >= 8", True),
        ("token == 0x1111111111111111111111111111111111111111", True),
        ("token == 0x1111111111111111111111111111111111111112", False),
        (f"token == {BASE58} or fees > 8", False),
        (f"holder == {BASE58} and fees < 8", True),
        (f"{ZERO} != holder", True),
        (f"holder == asset or holder == {DIGIT_FIRST}", False),
        ("111111111111111111111111111111111111111111 > fees", True),
    ],
)
def test_expression__valid__exact_result(text: str, expected: int | bool):
    values: dict[str, Value] = {
        "fees": 7,
        "assets": 1000,
        "floor": 3,
        "eth": 7,
        "price": 10**36 // 2,
        "rate": 5_000,
        "months": 7,
        "period": 10,
        "total(stake)": 59,
        "count(stake)": 9,
        "token": b"\x11" * 20,
        "asset": b"\x22" * 20,
        "open": True,
        "fee.amount": 11,
        "holder": from_base58(BASE58),
    }
    kind = Kind.BOOL if isinstance(expected, bool) else Kind.NUMBER
    expression = compiled(text, kind)
    for result in (expression.evaluate(values), expression.function(*(values[name] for name in expression.names))):
        assert result == expected
        assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("text", "offset", "problem"),
    [
        ("fes", 0, "unknown name `fes`"),
        ("fees + asets", 7, "unknown name `asets`"),
        ("fees / 2", 0, "operator"),
        ("fees ** 2", 0, "operator"),
        ("1 << fees", 0, "operator"),
        ("fees + 1.5", 7, "not a whole number"),
        ("fees + eth", 7, "amount<WETH> cannot be added to amount<USDX>"),
        ("fees + months", 7, "a number cannot be added to amount<USDX>"),
        ("fees < eth", 7, "amount<WETH> cannot be compared with amount<USDX>"),
        ("max(fees, eth)", 10, "amount<WETH> cannot be chosen beside amount<USDX>"),
        ("max(0, fees, eth)", 13, "amount<WETH> cannot be chosen beside amount<USDX>"),
        ("fees if open else eth", 18, "amount<WETH> cannot be an alternative to amount<USDX>"),
        ("fees * assets", 0, "this is amount<USDX> × amount<USDX>, but amount<USDX> is due here"),
        ("mul_div(fees, rate, 10_000)", 0, "this is amount<USDX> × bps, but amount<USDX> is due here"),
        ("eth", 0, "this is amount<WETH>, but amount<USDX> is due here"),
        ("months", 0, "this is a number, but amount<USDX> is due here"),
        ("value(fees, price)", 6, "this is amount<USDX>, but the price is of WETH"),
        ("value(eth, fees)", 11, "this is amount<USDX>, but a price is due here"),
        ("mul_div(eth, price, 10)", 0, "10^36"),
        ("total(fees)", 0, "total takes one table"),
        ("total(stake, stake)", 0, "total takes one table"),
        ("total(stake)", 0, "this is amount<USDX> × seconds, but amount<USDX> is due here"),
        ("fees + token", 7, "an address"),
        ("fees + stake", 7, "table by account"),
        ("token < asset", 8, "no order"),
        ("token == fees", 9, "cannot be compared"),
        ("fees and open", 0, "true or false is due"),
        ("fees if fees else 0", 8, "true or false is due"),
        ("token if open else 0", 19, "one branch"),
        ("minn(fees, 1)", 0, "unknown function"),
        ("min(fees)", 0, "min takes 2 to 8"),
        ("floor_div(fees, 0)", 16, "division by zero"),
        ("floor_div(floor, fees)", 0, "this is a number"),
        ("floor * floor * floor", 0, "768 bits"),
        ("fees.amount", 0, "unknown name `fees.amount`"),
        ("fees.__class__", 0, "unknown name"),
        ("().__class__", 0, "only source.field"),
        ("[x for x in fees]", 0, "not part"),
        ("lambda: fees", 0, "not part"),
        ("(fees := 3)", 1, "not part"),
        ("__import__('os')", 0, "unknown function"),
        ("min(*fees)", 0, "min takes"),
        ("min(fees, key=fees)", 0, "min takes"),
        ("fees is fees", 8, "comparison"),
        ("~fees", 0, "only - and not"),
        ("fees + )", 7, "not an expression"),
        ("", 0, "missing"),
        ("fees + é", 7, "cannot stand"),
        ("token == asset", 0, "amount<USDX> is due here"),
    ],
)
def test_expression__mistake__refused_at_its_place(text: str, offset: int, problem: str):
    with pytest.raises(ExpressionError, match=re.escape(problem)) as caught:
        compiled(text, number(USDX))
    assert caught.value.offset == offset


def test_expression__near_miss__names_the_neighbour():
    with pytest.raises(ExpressionError) as caught:
        compiled("fes + 1")
    assert caught.value.mend == "did you mean `fees`?"


def test_expression__zero_divisor_or_wide_quotient__arithmetic_error_only():
    with pytest.raises(ZeroDivisionError):
        compiled("floor_div(fees, floor)").evaluate({"fees": 1, "floor": 0})
    with pytest.raises(OverflowError, match="512 bits"):
        compiled("mul_div(fees, floor, 1)").evaluate({"fees": UINT256_MAX, "floor": UINT256_MAX})


def test_expression__huge_text__refused_before_it_is_walked():
    with pytest.raises(ExpressionError, match="longer than"):
        compiled("1+" * 100_000 + "1")
    with pytest.raises(ExpressionError, match="too large"):
        compiled("1" + "+1" * 200)
    with pytest.raises(ExpressionError):
        compiled("(" * 400 + "1" + ")" * 400)
    with pytest.raises(ExpressionError):
        compiled("-" * 999 + "1")


@given(st.text(max_size=60))
@example("\x00")
@example("1" * 900)
def test_expression__any_text__compiles_or_is_refused(text: str):
    offset = 0
    try:
        compiled(text)
    except ExpressionError as refused:
        offset = refused.offset
    assert 0 <= offset <= max(len(text), 1)


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("mul_div(fees, rate, 10_000)", "divide basis points by BPS"),
        ("months", "say what the number counts"),
        ("eth", "value(amount, price<WETH/USDX>)"),
        ("mul_div(eth, price, 10)", "use value(amount, price)"),
    ],
)
def test_expression__wrong_unit__mend_says_what_was_forgotten(text: str, mend: str):
    with pytest.raises(ExpressionError) as caught:
        compiled(text, number(USDX))
    assert caught.value.mend is not None
    assert mend in caught.value.mend


BASES = st.sampled_from(["number", "bps", "seconds", "amount<A>", "amount<B>", "price<A/B>", "price<B/A>"])


@given(BASES, BASES)
def test_unit__products_and_quotients__undo_each_other(left: str, right: str):
    a, b = parse_unit(left), parse_unit(right)
    assert (str(a), str(b)) == (left, right)
    assert a * b / b == a
    assert a / b * b == a
    assert a / a == NO_UNIT
    assert (a * b == a) == (right == "number")


@pytest.mark.parametrize("text", ["", "amount", "amount<>", "amount<A/B>", "price<A>", "wei", "amount<A B>", "bps bps"])
def test_parse_unit__not_one__refused(text: str):
    with pytest.raises(ValueError, match="no unit"):
        parse_unit(text)


@given(st.text(max_size=40))
def test_expression__accepted__reads_nothing_but_the_names_given(text: str):
    try:
        expression = compiled(text)
    except ExpressionError:
        return
    code = expression.function.__code__
    assert set(expression.names) <= {*NAMES, "total(stake)", "count(stake)", "overdraft(stake)"}
    assert set(code.co_names) <= {"min", "max"} | set(code.co_names) & set(expression.function.__globals__)
    assert code.co_freevars == ()


TREES = st.recursive(
    st.sampled_from(["fees", "assets", "floor", "months", "fee.amount", "0", "1", "7", str(UINT256_MAX)]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "floor_div", "ceil_div"]), inner, inner),
        st.builds("mul_div({}, {}, {})".format, inner, inner, inner),
        st.builds("({} if {} < {} else {})".format, inner, inner, inner, inner),
    ),
    max_leaves=8,
)
NUMBERS = st.one_of(st.integers(0, 3), st.just(UINT256_MAX), st.integers(0, UINT256_MAX))


@given(TREES, st.lists(NUMBERS, min_size=5, max_size=5))
def test_expression__accepted__never_wider_than_was_worked_out(text: str, numbers: list[int]):
    try:
        expression = compiled(text)
    except ExpressionError:
        return
    values = dict(zip(["fees", "assets", "floor", "fee.amount", "months"], numbers, strict=True))
    try:
        result = expression.evaluate(values)
    except (ZeroDivisionError, OverflowError):
        return
    assert result == expression.function(*(values[name] for name in expression.names))
    assert isinstance(result, int)
    assert result.bit_length() <= expression.bits <= BITS_MAX


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
def test_expression__any_address_in_base58__as_its_bytes_and_its_place(address: bytes):
    text = f"open or  {base58(address)} == holder"
    expression = compiled(text, Kind.BOOL)
    assert expression.addresses == ((9, address),)
    assert expression.evaluate({"open": False, "holder": address})
    assert not expression.evaluate({"open": False, "holder": bytes(31) + b"\7"})


def test_expression__addresses_of_both_forms__each_with_its_place():
    text = f"token == 0x{'11' * 20} or holder == {DIGIT_FIRST}"
    assert compiled(text, Kind.BOOL).addresses == ((9, bytes([0x11]) * 20), (65, parse_address(DIGIT_FIRST)))


def test_expression__name_that_is_an_address_too__refused_where_it_stands():
    with pytest.raises(ExpressionError, match="is a name here and an address") as caught:
        compile_expression(f"open and holder == {BASE58}", {**NAMES, BASE58: Type(Kind.ADDRESS)}, wants=Kind.BOOL)
    assert caught.value.offset == 19
    assert caught.value.mend == "give the name another word"
