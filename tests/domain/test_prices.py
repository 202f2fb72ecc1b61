"""Prices against a slow reference: exact fractions, and averages taken second by second."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.domain.prices import (
    PHASE_BITS,
    ROUNDS_MAX,
    FeedAnswer,
    MarketAnswer,
    PriceFrom,
    PriceInput,
    Round,
    Unreliable,
    combine,
    deviation_bps,
    judge_feed,
    judge_market,
    market_on_record,
    mistakes,
    parse_numeral,
    previous_round,
    scale,
    weigh,
)
from bridge.domain.readings import Reading
from bridge.domain.units import BPS, UINT256_MAX, Address

FEED = Address(b"\xfe" * 20)
SPOT = PriceFrom(feed="eth_usd", max_age_s=3600)
MEAN = replace(SPOT, average_s=1800)
MARKET = PriceFrom(http="exchange", max_age_s=3600)
ETH = PriceInput("WETH", "USDX", 18, 6, SPOT)
NOW = 1_700_000_000


def round_of(answer: int, age_s: int, round_id: int = 7) -> Round:
    return Round(round_id, answer, NOW - age_s, round_id)


def feed_said(*rounds: Round, decimals: int | None = 8) -> FeedAnswer:
    return FeedAnswer(FEED, decimals, rounds)


def judged(*rounds: Round, wanted: PriceFrom = SPOT, decimals: int | None = 8) -> Reading:
    return judge_feed(ETH, wanted, feed_said(*rounds, decimals=decimals), NOW)


# ── What it comes to ────────────────────────────────────────────────────────────────────────────────────────────────
decimals = st.integers(0, 77)
answers = st.one_of(st.integers(1, 1000), st.integers(1, 2**255 - 1))


@given(answers, decimals, decimals, decimals, st.booleans())
def test_judge_feed__any_answer_and_decimals__the_exact_price_rounded_towards_zero(
    answer: int, of_feed: int, of_base: int, of_quote: int, inverse: bool
):
    wanted = replace(SPOT, inverse=inverse)
    source = PriceInput("A", "B", of_base, of_quote, wanted)
    reading = judge_feed(source, wanted, feed_said(round_of(answer, 1), decimals=of_feed), NOW)
    quote_for_base = Fraction(answer, 10**of_feed) ** (-1 if inverse else 1)  # whole tokens
    exact = quote_for_base * 10**of_quote / 10**of_base * 10**36
    if 1 <= exact < 2**256:
        assert reading.problem is None
        assert 0 <= exact - reading.value < 1
    else:
        assert reading.problem is not None
        assert reading.value == 0


def test_judge_feed__dollars_for_ether__as_worked_out_by_hand():
    """2 000.00 USDX for a WETH: 2 × 10^9 atoms for 10^18, so 2 × 10^27 for 10^36."""
    reading = judged(round_of(2_000 * 10**8, 60))
    assert reading == Reading(
        2 * 10**27,
        {
            "feed": "0x" + "fe" * 20,
            "decimals": "8",
            "round": "7",
            "answer": "200000000000",
            "updated_at": str(NOW - 60),
        },
    )
    whole = 3 * 10**18  # three WETH
    assert whole * reading.value // 10**36 == 6_000 * 10**6


@given(st.integers(1, 10**40), st.integers(1, 10**40), st.integers(-80, 80))
def test_scale__any__exact_quotient_rounded_towards_zero(numerator: int, denominator: int, digits: int):
    exact = Fraction(numerator, denominator) * Fraction(10) ** digits
    assert scale(numerator, denominator, digits) == exact.numerator // exact.denominator


# ── Whether it counts ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("rounds", "problem"),
    [
        ([], "no round"),
        ([round_of(0, 60)], "answer of round 7 is 0"),
        ([round_of(-5, 60)], "answer of round 7 is -5"),
        ([round_of(5, 3601)], "stale: it was 3601 s old, 3600 are allowed"),
        ([round_of(5, -1)], "1 s after"),
        ([replace(round_of(5, 0), updated_at=0)], "never finished"),
        ([replace(round_of(5, 1), answered_in=6)], "repeats the answer of round 6"),
    ],
)
def test_judge_feed__not_to_be_relied_on__held_with_the_reason(rounds: list[Round], problem: str):
    for wanted in (SPOT, MEAN):
        reading = judged(*rounds, wanted=wanted)
        assert reading.value == 0
        assert problem in str(reading.problem)
        assert reading.parts["decimals"] == "8"


def test_judge_feed__as_old_as_may_be__counts():
    assert judged(round_of(5, 3600)).problem is None
    assert judged(round_of(5, 0)).problem is None


def test_judge_feed__decimals__missing_or_absurd__held():
    assert "decimals()" in str(judged(round_of(5, 1), decimals=None).problem)
    assert "more than 77" in str(judged(round_of(5, 1), decimals=78).problem)


# ── Averages ────────────────────────────────────────────────────────────────────────────────────────────────────────
histories = st.lists(st.tuples(st.integers(1, 10**12), st.integers(0, 40)), min_size=1, max_size=12)


def rounds_of(history: list[tuple[int, int]]) -> tuple[Round, ...]:
    """(answer, seconds before the next round or the block), newest first."""
    age, found = 0, []
    for place, (answer, lasted) in enumerate(history):
        age += lasted
        found.append(Round(100 - place, answer, NOW - age, 100 - place))
    return tuple(found)


@given(histories, st.integers(1, 120), st.integers(1, 60))
def test_weigh__any_history__the_sum_second_by_second(history: list[tuple[int, int]], seconds: int, max_age: int):
    rounds = rounds_of(history)
    start = NOW - seconds
    weighted, known = 0, True
    for second in range(start, NOW):
        in_force = next((each for each in rounds if each.updated_at <= second), None)
        if in_force is None or second + 1 - in_force.updated_at > max_age:
            known = False
            break
        weighted += in_force.answer
    if known:
        assert weigh(rounds, start, NOW, max_age) == weighted
    else:
        with pytest.raises(Unreliable):
            weigh(rounds, start, NOW, max_age)


@given(histories, st.integers(1, 120))
def test_judge_feed__average__rounded_once_and_between_the_extremes(history: list[tuple[int, int]], seconds: int):
    rounds = rounds_of(history)
    assume(rounds[-1].updated_at <= NOW - seconds)
    wanted = PriceFrom(feed="f", max_age_s=1000, average_s=seconds)
    source = PriceInput("A", "B", 30, 0, wanted)  # 36 + 0 − 30 − 8 < 0: it has to be rounded
    reading = judge_feed(source, wanted, feed_said(*rounds), NOW)
    exact = Fraction(weigh(rounds, NOW - seconds, NOW, 1000), seconds) / 100
    assert reading.value == exact.numerator // exact.denominator
    assert (reading.problem is None) == (exact >= 1)
    assert min(each.answer for each in rounds) // 100 <= exact <= max(each.answer for each in rounds)


words = st.one_of(st.integers(0, 3), st.integers(NOW - 4000, NOW + 10), st.integers(0, 2**256 - 1))
any_rounds = st.lists(st.builds(Round, words, st.integers(-(2**255), 2**255 - 1), words, words), max_size=5)


@given(any_rounds, st.one_of(st.none(), st.integers(0, 255)), st.booleans(), st.sampled_from([SPOT, MEAN]))
def test_judge_feed__whatever_a_contract_says__a_price_or_a_reason(
    rounds: list[Round], of_feed: int | None, inverse: bool, wanted: PriceFrom
):
    reading = judged(*rounds, wanted=replace(wanted, inverse=inverse), decimals=of_feed)
    if reading.problem is None:
        assert 0 < reading.value <= UINT256_MAX
        assert 0 <= NOW - rounds[0].updated_at <= wanted.max_age_s
    else:
        assert reading.value == 0
        assert reading.problem.isprintable()
        assert len(reading.problem) < 300


def test_judge_feed__average__steps_by_hand():
    """The last half hour: ten minutes at 30, twenty at 60, of which the price was 50 on average."""
    rounds = (round_of(60, 1200, 9), round_of(30, 2000, 8), round_of(1000, 5000, 7))
    reading = judged(*rounds[:2], wanted=MEAN, decimals=0)
    assert reading.value == 50 * 10**24
    assert reading.parts["weighted"] == str(50 * 1800)
    assert reading.parts["rounds"] == f"9:60@{NOW - 1200} 8:30@{NOW - 2000}"
    assert reading.parts["average_from"] == str(NOW - 1800)
    assert judged(*rounds, wanted=MEAN, decimals=0).value == reading.value


def test_judge_feed__average_older_than_the_rounds__held():
    assert "the round before 7 is missing" in str(judged(round_of(5, 1799), wanted=MEAN).problem)


def test_judge_feed__more_rounds_than_are_read__held():
    rounds = [round_of(5, age, 1000 - age) for age in range(ROUNDS_MAX)]
    assert f"more than {ROUNDS_MAX}" in str(judged(*rounds, wanted=MEAN).problem)


def test_judge_feed__stood_still_within_the_average__held():
    stood = (round_of(5, 10, 9), round_of(5, 3700, 8))
    assert "round 8 is stale: it was 3690 s old" in str(judged(*stood, wanted=MEAN).problem)
    assert judged(*stood).problem is None


def test_judge_feed__time_goes_back__held():
    assert "after it was read or followed" in str(judged(round_of(5, 600, 9), round_of(5, 599, 8), wanted=MEAN).problem)


def test_previous_round__first_of_a_phase__nobody_knows():
    phase = 3 << PHASE_BITS
    assert previous_round(phase + 2) == phase + 1
    assert previous_round(phase + 1) is None
    assert previous_round(0) is None


# ── Markets, and two sources ────────────────────────────────────────────────────────────────────────────────────────
def market_said(answer: int | None, quoted_at: int | None = NOW, problem: str | None = None) -> MarketAnswer:
    return MarketAnswer(answer, 2, quoted_at, {"market": "exchange"}, problem)


@pytest.mark.parametrize("apart", [0, -3600, 3600])
def test_judge_market__near_the_block__counts(apart: int):
    reading = judge_market(ETH, MARKET, market_said(2_000_00, NOW + apart), NOW)
    assert (reading.value, reading.problem) == (2 * 10**27, None)
    assert reading.parts["quoted_at"] == str(NOW + apart)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (market_said(5, NOW - 3601), "3601 s away from the block"),
        (market_said(5, NOW + 3601), "3601 s away from the block"),
        (market_said(0), "price is 0"),
        (market_said(-1, None), "price is -1"),
        (market_said(None, None, "market exchange: HTTP 404"), "HTTP 404"),
    ],
)
def test_judge_market__not_to_be_relied_on__held_with_the_reason(said: MarketAnswer, problem: str):
    reading = judge_market(ETH, MARKET, said, NOW)
    assert reading.value == 0
    assert problem in str(reading.problem)
    assert reading.parts["market"] == "exchange"


BOTH = replace(ETH, second=MARKET, deviation_bps=100)


@given(st.integers(1, UINT256_MAX), st.integers(1, UINT256_MAX), st.integers(1, BPS))
def test_combine__any_two_prices__within_the_limit_or_held(left: int, right: int, limit: int):
    source = replace(BOTH, deviation_bps=limit)
    reading = combine(source, Reading(left, {}), Reading(right, {}))
    within = Fraction(abs(left - right), min(left, right)) <= Fraction(limit, BPS)
    assert (reading.problem is None) == within
    assert reading.value == (left if within else 0)
    assert deviation_bps(left, right) == deviation_bps(right, left)


def test_combine__an_atom_above_the_limit__held():
    on_it, above = Reading(10**30 + 10**28, {}), Reading(10**30 + 10**28 + 1, {})
    assert combine(BOTH, on_it, Reading(10**30, {})).problem is None
    assert combine(BOTH, Reading(10**30, {}), on_it).problem is None
    assert "101 bps apart" in str(combine(BOTH, above, Reading(10**30, {})).problem)


def test_combine__second_in_doubt__held_with_the_evidence_of_both():
    first, second = Reading(5, {"round": "7"}), Reading(0, {"market": "exchange"}, "HTTP 404")
    reading = combine(BOTH, first, second)
    evidence = {"round": "7", "second_market": "exchange", "second_problem": "HTTP 404"}
    assert reading == Reading(0, evidence, "second source: HTTP 404")
    assert combine(BOTH, replace(first, problem="stale"), second).problem == "stale"
    assert combine(ETH, first, None) == first


said_by_markets = st.builds(
    MarketAnswer,
    st.one_of(st.none(), st.integers(-5, 5), st.integers(1, 2**255)),
    decimals,
    st.one_of(st.none(), st.integers(NOW - 4000, NOW + 4000)),
    st.just({"market": "exchange", "url": "https://exchange.example", "numeral": "1.5"}),
    st.none(),
).map(lambda said: replace(said, problem="market exchange: HTTP 404") if said.answer is None else said)


@given(said_by_markets)
def test_market_on_record__judged_again__the_same_reading(said: MarketAnswer):
    reading = judge_market(ETH, MARKET, said, NOW)
    again = judge_market(ETH, MARKET, market_on_record(reading.parts, reading.problem), NOW)
    assert again == reading


# ── What a rule may ask for ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("source", "key", "problem"),
    [
        (replace(ETH, base_decimals=78), "base_decimals", "0 … 77"),
        (replace(ETH, quote_decimals=-1), "quote_decimals", "0 … 77"),
        (replace(ETH, quote="WETH"), "quote", "always 1"),
        (replace(ETH, first=PriceFrom(max_age_s=1)), "first", "either"),
        (replace(ETH, first=replace(SPOT, http="x")), "first", "either"),
        (replace(ETH, first=replace(SPOT, max_age_s=0)), "first", "max_age"),
        (replace(ETH, first=replace(MARKET, average_s=1)), "first", "averaged"),
        (replace(BOTH, second=replace(MARKET, average_s=1)), "second", "averaged"),
        (replace(BOTH, deviation_bps=None), "deviation", "together"),
        (replace(BOTH, second=None), "deviation", "together"),
        (replace(BOTH, deviation_bps=0), "deviation", "1 … 10000"),
        (replace(BOTH, second=replace(SPOT, max_age_s=7)), "second", "same"),
    ],
)
def test_mistakes__one__named(source: PriceInput, key: str, problem: str):
    [(found, text)] = mistakes(source)
    assert found == key
    assert problem in text


def test_mistakes__what_makes_sense__none():
    assert list(mistakes(ETH)) == list(mistakes(BOTH)) == []


# ── Numerals ────────────────────────────────────────────────────────────────────────────────────────────────────────
numerals = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True).filter(
    str.isascii
)


@given(numerals, st.integers(0, 36))
def test_parse_numeral__any__exact_and_cut_towards_zero(text: str, kept: int):
    exact = Fraction(text) * 10**kept
    assert parse_numeral(text, kept) == int(exact)


@pytest.mark.parametrize(
    ("text", "kept", "value"),
    [
        ("1.5", 3, 1500),
        ("0.1", 0, 0),
        ("-1.9", 0, -1),
        ("1e3", 2, 100_000),
        ("12E-1", 1, 12),
        ("3456.7899999999999636202", 8, 345_678_999_999),  # a double would make it 3456.79
        ("0.30000000000000001", 17, 30_000_000_000_000_001),
    ],
)
def test_parse_numeral__by_hand__every_digit(text: str, kept: int, value: int):
    assert parse_numeral(text, kept) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", " 1", "1 ", "+1", "01", ".5", "1.", "1,5", "1_0", "0x10", "NaN", "Infinity", "1e", "١", "true", "1\n"),
        *("1e400", "1e-400", "1e9999999", "1" * 121),
    ],
)
def test_parse_numeral__no_number__refused(text: str):
    with pytest.raises(ValueError, match=r"not a number|out of range|characters"):
        parse_numeral(text, 8)
