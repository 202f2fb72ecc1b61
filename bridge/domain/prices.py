"""Prices as exact integers: what a source said, whether it may be relied on, and what it comes to.

    rounds of a feed ──► judge_feed ────┐
                                        ├─► combine (deviation) ─► Reading(price<BASE/QUOTE>, evidence, problem)
    answer of a market ─► judge_market ─┘

A price<BASE/QUOTE> is the atoms of QUOTE for 10^36 atoms of BASE. From an answer with d decimals, that is whole QUOTE
for a whole BASE × 10^d, and tokens of b and q decimals:

    price = answer × 10^(36 + q − b − d)                      rounded towards zero

It is rounded once, at the very end, also where it is an average or an inverse: it is less than one atom of QUOTE per
10^36 atoms of BASE below the exact quotient, and never above it. With 36 + q − b − d ≥ 0 nothing is rounded at all.

Every age is measured against the block's timestamp, so that a decision that is made again judges as the first did. What
is missing, stale or in doubt is a problem in words, never a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.domain.readings import Reading
from bridge.domain.units import BPS, UINT256_MAX, Address, format_address

SCALE_DIGITS = 36
DECIMALS_MAX = 77  # 10^77 is the last power of ten within 256 bits
ROUNDS_MAX = 200  # of one average
PHASE_BITS = 64  # of a round's id: below them the number of the aggregator that a proxy asked, above the phase
NUMERAL_MAX = 120  # characters
SECOND = "second_"  # before the names of what is evidence of a second source
MARKET_EVIDENCE = ("market", "url", "status", "body_sha256", "numeral", "moment")
"""Names of what a market's adapter may tell of itself."""
EXPONENT_MAX = 100

_NUMERAL = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,6}))?\Z", re.ASCII)


# ── What a rule asks for ────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class PriceFrom:
    """One source: a `feed` on the chain or a market asked over `http`, never both."""

    feed: str | None = None  # a contract by its name
    http: str | None = None  # a [prices.NAME] section
    max_age_s: int = 0  # no price older than this counts, at no second of an average
    average_s: int = 0  # time-weighted over so many seconds up to the block; 0: the newest round alone
    inverse: bool = False  # it says BASE for a whole QUOTE


@dataclass(frozen=True, slots=True)
class PriceInput:
    """An input that is a price<base/quote>."""

    base: str
    quote: str
    base_decimals: int
    quote_decimals: int
    first: PriceFrom  # its price is the value
    second: PriceFrom | None = None  # must say the same, but for `deviation_bps`
    deviation_bps: int | None = None  # of the lower of the two

    def sources(self) -> tuple[PriceFrom, ...]:
        return (self.first,) if self.second is None else (self.first, self.second)


def mistakes(source: PriceInput) -> Iterator[tuple[str, str]]:
    """(key, problem) of everything in it that makes no sense."""
    for key, decimals in (("base_decimals", source.base_decimals), ("quote_decimals", source.quote_decimals)):
        if not 0 <= decimals <= DECIMALS_MAX:
            yield key, f"a token has 0 … {DECIMALS_MAX} decimals"
    if source.base == source.quote:
        yield "quote", f"a price of {source.base} in {source.base} is always 1"
    for key, each in zip(("first", "second"), source.sources(), strict=False):
        if (each.feed is None) == (each.http is None):
            yield key, "give either feed or http"
        if each.max_age_s < 1:
            yield key, "max_age is missing: how old a price may be, a second at least"
        if each.average_s and each.feed is None:
            yield key, "only the rounds of a feed can be averaged"
    if (source.second is None) != (source.deviation_bps is None):
        yield "deviation", "a second source and the deviation that it may have are given together"
    elif source.second is not None and source.deviation_bps is not None:
        if (source.second.feed, source.second.http) == (source.first.feed, source.first.http):
            yield "second", "it is the same as the first"
        if not 1 <= source.deviation_bps <= BPS:
            yield "deviation", f"it is 1 … {BPS} bps"


# ── What a source said ──────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Round:
    """What a feed said once; in force from `updated_at` on, until the next."""

    round_id: int
    answer: int  # × 10^-decimals of the feed
    updated_at: int  # seconds since 1970; 0: never finished
    answered_in: int  # the round that the answer is from

    def __str__(self) -> str:
        return f"{self.round_id}:{self.answer}@{self.updated_at}"


@dataclass(frozen=True, slots=True)
class FeedAnswer:
    """What a feed holds at a block. Empty or short where the contract does not answer there."""

    feed: Address
    decimals: int | None
    rounds: tuple[Round, ...]  # newest first, without a gap; at most ROUNDS_MAX


@dataclass(frozen=True, slots=True)
class MarketAnswer:
    """What a market said."""

    answer: int | None  # × 10^-decimals; None where there is a problem
    decimals: int
    quoted_at: int | None  # seconds since 1970; None where it was asked for a moment and does not repeat which
    parts: Mapping[str, str]  # evidence, by names of MARKET_EVIDENCE
    problem: str | None = None


# ── Whether it counts, and what it comes to ─────────────────────────────────────────────────────────────────────────
class Unreliable(Exception):
    """Why a price cannot be relied on, in words."""


def judge_feed(source: PriceInput, wanted: PriceFrom, said: FeedAnswer, block_time: int) -> Reading:
    """The price that `said` makes at a block of timestamp `block_time`."""
    parts = {"feed": format_address(said.feed)}
    try:
        return Reading(_price_of_feed(source, wanted, said, block_time, parts), parts)
    except Unreliable as problem:
        return Reading(0, parts, str(problem))


def _price_of_feed(
    source: PriceInput, wanted: PriceFrom, said: FeedAnswer, block_time: int, parts: dict[str, str]
) -> int:
    """Fills in `parts` as far as it gets. Raises Unreliable."""
    if said.decimals is None:
        raise Unreliable("the feed does not answer decimals()")
    parts["decimals"] = str(said.decimals)
    if said.decimals > DECIMALS_MAX:
        raise Unreliable(f"the feed has more than {DECIMALS_MAX} decimals")
    if not said.rounds:
        raise Unreliable("the feed has no round at this block")
    newest = said.rounds[0]
    parts |= {"round": str(newest.round_id), "answer": str(newest.answer), "updated_at": str(newest.updated_at)}
    if not wanted.average_s:
        check_round(newest, block_time, wanted.max_age_s)
        return _to_price(source, wanted, said.decimals, newest.answer, 1)
    start = block_time - wanted.average_s
    parts |= {"average_from": str(start), "rounds": " ".join(map(str, said.rounds))}
    weighted = weigh(said.rounds, start, block_time, wanted.max_age_s)
    parts["weighted"] = str(weighted)
    return _to_price(source, wanted, said.decimals, weighted, wanted.average_s)


def judge_market(source: PriceInput, wanted: PriceFrom, said: MarketAnswer, block_time: int) -> Reading:
    """The price that a market's answer makes. Its time may be after the block's: a block is final only later."""
    parts = dict(said.parts)
    try:
        return Reading(_price_of_market(source, wanted, said, block_time, parts), parts)
    except Unreliable as problem:
        return Reading(0, parts, str(problem))


def _price_of_market(
    source: PriceInput, wanted: PriceFrom, said: MarketAnswer, block_time: int, parts: dict[str, str]
) -> int:
    """Fills in `parts` as far as it gets. Raises Unreliable."""
    if said.problem is not None or said.answer is None:
        raise Unreliable(said.problem or "the market gave no price")
    parts |= {"decimals": str(said.decimals), "answer": str(said.answer)}
    if said.quoted_at is not None:
        parts["quoted_at"] = str(said.quoted_at)
        apart = abs(said.quoted_at - block_time)
        if apart > wanted.max_age_s:
            raise Unreliable(f"the market's price is {apart} s away from the block, {wanted.max_age_s} are allowed")
    if said.answer <= 0:
        raise Unreliable(f"the market's price is {said.answer}")
    return _to_price(source, wanted, said.decimals, said.answer, 1)


def combine(source: PriceInput, first: Reading, second: Reading | None) -> Reading:
    """The price of `first`, where `second` bears it out; all evidence of both."""
    if second is None:
        return first
    parts = {**first.parts, **{f"{SECOND}{part}": text for part, text in second.parts.items()}}
    if second.problem is not None:
        parts[f"{SECOND}problem"] = second.problem
    if first.problem is not None:
        return Reading(0, parts, first.problem)
    if second.problem is not None:
        return Reading(0, parts, f"second source: {second.problem}")
    assert source.deviation_bps is not None
    apart = deviation_bps(first.value, second.value)
    parts |= {"first_price": str(first.value), "second_price": str(second.value), "deviation_bps": str(apart)}
    if apart > source.deviation_bps:
        problem = f"the two sources are {apart} bps apart, {source.deviation_bps} are allowed"
        return Reading(0, parts, problem)
    return Reading(first.value, parts)


def market_on_record(parts: Mapping[str, str], problem: str | None) -> MarketAnswer:
    """What a market said, out of the evidence of a reading: judged again, it gives the same reading. No market can be
    asked again for what it said then.

    `parts` of a second source without SECOND before their names; `problem` with that source's.
    """
    evidence = {part: parts[part] for part in MARKET_EVIDENCE if part in parts}
    if "answer" not in parts:
        return MarketAnswer(None, 0, None, evidence, problem)
    quoted_at = int(parts["quoted_at"]) if "quoted_at" in parts else None
    return MarketAnswer(int(parts["answer"]), int(parts["decimals"]), quoted_at, evidence)


def deviation_bps(left: int, right: int) -> int:
    """How far two prices are apart, in bps of the lower, rounded up: what is above a limit never seems to be on it."""
    return -(-abs(left - right) * BPS // min(left, right))


def weigh(rounds: Sequence[Round], start: int, end: int, max_age_s: int) -> int:
    """Σ answer × seconds in force from `start` to `end`. Raises Unreliable where that is not known of every second.

         start                               end
    ●──────┼───────────●───────────●──────────┼
    └ r₀ ──┼─ r₀ × … ──┴─ r₁ × … ──┴─ r₂ × … ─┘       rounds = (r₂, r₁, r₀): the oldest must reach back to the start
    """
    assert start < end
    weighted, until = 0, end
    for each in rounds:
        check_round(each, until, max_age_s)
        weighted += each.answer * (until - max(each.updated_at, start))
        until = each.updated_at
        if until <= start:
            return weighted
    if len(rounds) >= ROUNDS_MAX:
        raise Unreliable(f"there are more than {ROUNDS_MAX} rounds in the average")
    oldest = rounds[-1].round_id if rounds else 0
    raise Unreliable(f"the round before {oldest} is missing, and {until - start} s of the average with it")


def previous_round(round_id: int) -> int | None:
    """The id of the round before; None for the first of a phase, whose predecessor nobody can name."""
    return round_id - 1 if round_id % (1 << PHASE_BITS) > 1 else None


def check_round(each: Round, until: int, max_age_s: int) -> None:
    """Raises Unreliable where a round does not count for the time up to `until`, when it was read or followed."""
    name = f"round {each.round_id}"
    if each.updated_at == 0:
        raise Unreliable(f"{name} was never finished")
    if each.updated_at > until:
        raise Unreliable(f"{name} is of {each.updated_at - until} s after it was read or followed by another")
    if each.answer <= 0:
        raise Unreliable(f"the answer of {name} is {each.answer}")
    if each.answered_in < each.round_id:
        raise Unreliable(f"{name} repeats the answer of round {each.answered_in}")
    if until - each.updated_at > max_age_s:
        raise Unreliable(f"{name} is stale: it was {until - each.updated_at} s old, {max_age_s} are allowed")


def _to_price(source: PriceInput, wanted: PriceFrom, decimals: int, numerator: int, denominator: int) -> int:
    """The price that an answer of numerator / denominator × 10^-decimals makes. Raises Unreliable where it is none."""
    if wanted.inverse:
        numerator, denominator, decimals = denominator, numerator, -decimals
    price = scale(numerator, denominator, SCALE_DIGITS + source.quote_decimals - source.base_decimals - decimals)
    if not 0 < price <= UINT256_MAX:
        raise Unreliable(f"the price is too {'large' if price else 'small'} for a whole number of 256 bits")
    return price


def scale(numerator: int, denominator: int, digits: int) -> int:
    """numerator / denominator × 10^digits, rounded towards zero; both positive."""
    assert numerator > 0
    assert denominator > 0
    power: int = 10 ** abs(digits)
    return numerator * power // denominator if digits >= 0 else numerator // (denominator * power)


def parse_numeral(text: str, decimals: int) -> int:
    """A decimal numeral as JSON writes numbers, × 10^decimals, rounded towards zero: `1.5` with 3 is 1500.

    Raises ValueError where it is none, or longer or larger than any price.
    """
    if len(text) > NUMERAL_MAX:
        raise ValueError(f"a number of {len(text)} characters")
    match = _NUMERAL.match(text)
    if match is None:
        raise ValueError(f"`{text}` is not a number")
    sign, whole, fraction, power = match[1], match[2], match[3] or "", int(match[4] or 0)
    if abs(power) > EXPONENT_MAX:
        raise ValueError(f"`{text}` is out of range")
    digits = int(whole + fraction)
    shift = decimals + power - len(fraction)
    scaling: int = 10 ** abs(shift)
    value = digits * scaling if shift >= 0 else digits // scaling
    return -value if sign else value
