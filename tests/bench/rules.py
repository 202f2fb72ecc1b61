"""Splits, formulas and events of rules, each beside what one would take or write instead, on the same values.

split        an amount divided among a million recipients, beside sorting all of them and beside fractions
expressions  a formula as rules write it, beside rule-engine and two implementations of CEL
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeVar

import cel
import celpy
import rule_engine

from bridge.domain.expressions import Kind, Type, compile_expression
from bridge.domain.quantities import BPS_UNIT, amount_of
from bridge.domain.splits import Leg, capped, in_legs, pro_rata
from bridge.domain.units import Address

Result = TypeVar("Result")
SLOW_PART = 20  # fractions are measured on one recipient in twenty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--recipients", type=int, default=1_000_000)
    arguments = parser.parse_args()
    for unknown in [name for name in arguments.sections if name not in SECTIONS]:
        parser.error(f"there is no section `{unknown}`")
    if arguments.recipients < SLOW_PART:
        parser.error(f"--recipients: {SLOW_PART} at least")
    for name in arguments.sections or SECTIONS:
        SECTIONS[name](arguments)


# ── Split ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def split(arguments: argparse.Namespace) -> None:
    count: int = arguments.recipients
    chance = random.Random(7)
    # Amounts of up to 80 bits held for up to a month: amount × seconds has about 100 bits.
    weights = {
        Address(chance.randbytes(20)): chance.randrange(1 << 80) * chance.randrange(1, 30 * 86_400)
        for _ in range(count)
    }
    total = chance.randrange(1 << 89, 1 << 90)
    print(f"split over {count:,} recipients, by amount × seconds, in seconds", flush=True)

    before_mb = peak_memory_mb()
    ours_s, shares = timed(lambda: pro_rata(total, weights))
    grown_mb = peak_memory_mb() - before_mb
    sorted_s, expected = timed(lambda: sort_everything(total, weights))
    assert shares == expected, "the shares differ"

    few = dict(list(weights.items())[::SLOW_PART])
    fractions_s, expected = timed(lambda: with_fractions(total, few))
    fractions_s *= count / len(few)
    assert pro_rata(total, few) == expected, "the shares differ"

    # The cap bites for about a fifth of all; and equal weights, where every remainder is a tie.
    cap = 2 * total // count
    capped_s, (shares, rest) = timed(lambda: capped(total, weights, cap))
    assert sum(shares.values()) + rest == total
    equal_s, _ = timed(lambda: pro_rata(total, dict.fromkeys(weights, 1)))
    legs = [Leg("members", 9500, weights), Leg("fee", 500, {Address(bytes(20)): 1}, residual=True)]
    legs_s, _ = timed(lambda: in_legs(total, legs))

    print(f"  pro rata         {ours_s:8.2f}              {grown_mb:,.0f} MB more at its peak than its input")
    print(f"  sort everything  {sorted_s:8.2f}   {sorted_s / ours_s:6.1f} ×")
    print(f"  fractions        {fractions_s:8.2f}   {fractions_s / ours_s:6.1f} ×   reckoned from {len(few):,}")
    print(
        f"  with a cap       {capped_s:8.2f}              {sum(share == cap for share in shares.values()):,} reach it"
    )
    print(f"  equal weights    {equal_s:8.2f}")
    print(f"  in two legs      {legs_s:8.2f}")


def sort_everything(total: int, weights: Mapping[Address, int]) -> dict[Address, int]:
    """The obvious way with integers."""
    whole = sum(weights.values())
    shares = {who: total * weight // whole for who, weight in weights.items()}
    neediest = sorted(weights, key=lambda who: (-(total * weights[who] % whole), who))
    for who in neediest[: total - sum(shares.values())]:
        shares[who] += 1
    return {who: share for who, share in shares.items() if share}


def with_fractions(total: int, weights: Mapping[Address, int]) -> dict[Address, int]:
    """The obvious way to be exact."""
    whole = sum(weights.values())
    quotas = {who: Fraction(total * weight, whole) for who, weight in weights.items()}
    shares = {who: int(quota) for who, quota in quotas.items()}
    neediest = sorted(quotas, key=lambda who: (shares[who] - quotas[who], who))
    for who in neediest[: total - sum(shares.values())]:
        shares[who] += 1
    return {who: share for who, share in shares.items() if share}


# ── Expressions ─────────────────────────────────────────────────────────────────────────────────────────────────────
# Small enough for the others: CEL's integers have 64 bits, and the decimals of rule-engine 28 digits.
VALUES = {"fees": 1_234_567_890_123, "refunds": 1_000_000_007, "share": 9_500, "floor": 50_000_000}


def expressions(arguments: argparse.Namespace) -> None:
    del arguments
    evaluate = our_expression("mul_div(fees, share, BPS) - refunds if fees > floor else 0")
    rule = rule_engine.Rule("fees > floor ? fees * share // 10000 - refunds : 0")
    environment = celpy.Environment()
    text = "fees > floor ? fees * share / 10000 - refunds : 0"
    program = environment.program(environment.compile(text))
    typed = {name: celpy.celtypes.IntType(value) for name, value in VALUES.items()}
    native = cel.compile(text)
    ways: Mapping[str, tuple[Callable[[], object], int]] = {
        # name: (one evaluation, how many are measured)
        "ours": (evaluate, 500_000),
        "rule-engine": (lambda: rule.evaluate(VALUES), 20_000),
        "CEL in Python (cel-python)": (lambda: program.evaluate(typed), 2_000),
        "CEL in Rust (common-expression-language)": (lambda: native.execute(VALUES), 200_000),
    }
    print("expressions, evaluations a second", flush=True)
    expected = 9_500 * VALUES["fees"] // 10_000 - VALUES["refunds"]
    ours = 0.0
    for name, (once, times) in ways.items():
        assert once() == expected, f"{name} says {once()}, not {expected}"
        rate = max(rate_of(once, times) for _ in range(3))
        ours = ours or rate
        print(f"  {name:42} {rate:12,.0f}" + (f"   ours is {ours / rate:7,.1f} × as fast" if rate != ours else ""))


def our_expression(text: str) -> Callable[[], object]:
    amount = Type(Kind.NUMBER, amount_of("USDX"))
    types = {"fees": amount, "refunds": amount, "share": Type(Kind.NUMBER, BPS_UNIT), "floor": amount}
    compiled = compile_expression(text, types, wants=amount)
    return lambda: compiled.evaluate(VALUES)


def rate_of(once: Callable[[], object], times: int) -> float:
    """Calls a second."""
    started = time.perf_counter()
    for _ in range(times):
        once()
    return times / (time.perf_counter() - started)


# ── Parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def peak_memory_mb() -> float:
    """Of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kB elsewhere


SECTIONS: Mapping[str, Callable[[argparse.Namespace], None]] = {"split": split, "expressions": expressions}

if __name__ == "__main__":
    main()
