"""The language of rules: what it computes, what it refuses, and that nothing gets out of it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.domain.events import Value
from bridge.domain.expressions import BITS_MAX, NUMERIC, Expression, ExpressionError, Kind, compile_expression
from bridge.domain.units import UINT256_MAX

NAMES = {
    "fees": Kind.AMOUNT,
    "assets": Kind.AMOUNT,
    "floor": Kind.NUMBER,
    "stake": Kind.TABLE,
    "token": Kind.ADDRESS,
    "asset": Kind.ADDRESS,
    "open": Kind.BOOL,
    "fee.amount": Kind.NUMBER,
}


def compiled(text: str, *wants: Kind) -> Expression:
    return compile_expression(text, NAMES, wants=wants or (*NUMERIC, Kind.BOOL))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fees", 7),
        ("assets - fees - floor", 1000 - 7 - 3),
        ("-fees * 3 + 1", -20),
        ("fees * floor", 21),
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
    ],
)
def test_expression__valid__exact_result(text: str, expected: int | bool):
    values: dict[str, Value] = {
        "fees": 7,
        "assets": 1000,
        "floor": 3,
        "token": b"\x11" * 20,
        "asset": b"\x22" * 20,
        "open": True,
        "fee.amount": 11,
    }
    result = compiled(text).evaluate(values)
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
        ("fees * assets", 0, "an amount times an amount"),
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
        ("floor_div(floor, fees)", 0, "neither an amount nor a number"),
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
        ("token == asset", 0, "an amount is due here"),
    ],
)
def test_expression__mistake__refused_at_its_place(text: str, offset: int, problem: str):
    with pytest.raises(ExpressionError, match=problem.replace("(", r"\(")) as caught:
        compiled(text, *NUMERIC)
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


TREES = st.recursive(
    st.sampled_from(["fees", "assets", "floor", "fee.amount", "0", "1", "7", str(UINT256_MAX)]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "floor_div", "ceil_div"]), inner, inner),
        st.builds("mul_div({}, {}, {})".format, inner, inner, inner),
        st.builds("({} if {} < {} else {})".format, inner, inner, inner, inner),
    ),
    max_leaves=8,
)
NUMBERS = st.one_of(st.integers(0, 3), st.just(UINT256_MAX), st.integers(0, UINT256_MAX))


@given(TREES, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_expression__accepted__never_wider_than_was_worked_out(text: str, a: int, b: int, c: int, d: int):
    try:
        expression = compiled(text)
    except ExpressionError:
        return
    try:
        result = expression.evaluate({"fees": a, "assets": b, "floor": c, "fee.amount": d})
    except (ZeroDivisionError, OverflowError):
        return
    assert isinstance(result, int)
    assert result.bit_length() <= expression.bits <= BITS_MAX
