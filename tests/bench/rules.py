"""Splits, formulas and events of rules, each beside what one would take or write instead, on the same values.

split        an amount divided among a million recipients, beside sorting all of them and beside fractions
expressions  a formula as rules write it, beside rule-engine and two implementations of CEL
events       logs through the shipped rule fee_window to its states, beside taking them one by one
stored       the same from Postgres and back, as the stage does it
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import cel
import celpy
import numpy as np
import numpy.typing as npt
import rule_engine

from bridge.chains.evm.abi import compile_event
from bridge.domain.accumulators import Key, Source, State, advance, count_sources, touches
from bridge.domain.batches import advance_columns, count_source_columns, keys_of, moves_of
from bridge.domain.events import Block, BlockAdded, Finalized, LogColumns, TimedLogs, unpack_logs
from bridge.domain.expressions import Kind, Type, compile_expression
from bridge.domain.quantities import BPS_UNIT, amount_of
from bridge.domain.rules import Binding
from bridge.domain.splits import Leg, capped, in_legs, pro_rata
from bridge.domain.units import Address, AssetId
from bridge.domain.windows import Window
from bridge.runtime.rulefile import load_rule
from bridge.simulation.postgres import Postgres
from bridge.stages.binding import BoundRule
from bridge.store.database import Database
from bridge.store.migrations import migrate

Result = TypeVar("Result")
RULES = Path(__file__).resolve().parents[2] / "rules"
SLOW_PART = 20  # fractions are measured on one recipient in twenty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    for unknown in [name for name in arguments.sections if name not in SECTIONS]:
        parser.error(f"there is no section `{unknown}`")
    if arguments.recipients < SLOW_PART:
        parser.error(f"--recipients: {SLOW_PART} at least")
    gc.collect()
    gc.freeze()  # as the daemon does
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
    usdx = Type(Kind.NUMBER, amount_of("USDX"))
    types = {"fees": usdx, "refunds": usdx, "floor": usdx, "share": Type(Kind.NUMBER, BPS_UNIT)}
    compiled = compile_expression(text, types, wants=usdx)
    return lambda: compiled.evaluate(VALUES)


def rate_of(once: Callable[[], object], times: int) -> float:
    """Calls a second."""
    started = time.perf_counter()
    for _ in range(times):
        once()
    return times / (time.perf_counter() - started)


# ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────
ACCOUNTS = 50_000
STEP = 10_000  # logs, as the stage takes them
BLOCK_S, LOGS_PER_BLOCK = 12, 20
START = 1_700_006_400  # a midnight
ONE_BY_ONE = 100_000
STORED_MAX = 200_000


def events(arguments: argparse.Namespace) -> None:
    """Memory stands for the length of history: the accounts are the same in every window."""
    count: int = arguments.events
    rule = fee_window()
    print(f"events, {count:,} packed logs of {ACCOUNTS:,} accounts through fee_window to its states", flush=True)
    ours, theirs = Counting(rule, in_columns), Counting(rule, one_by_one)
    warm_mb = 0.0
    for number, (window, found) in enumerate(recorded(rule, count)):
        ours.count(window, found)
        if theirs.logs < ONE_BY_ONE:
            theirs.count(window, found)
            assert ours.states == theirs.states, "the states differ"
            assert ours.sources == theirs.sources, "the sources differ"
        if number == max(count // STEP // 10, ONE_BY_ONE // STEP):
            warm_mb = peak_memory_mb()
    for name, each in (("in columns", ours), ("one by one", theirs)):
        print(f"  {name}  {each.logs / each.wall_s:10,.0f} events/s    {each.logs / each.cpu_s:10,.0f} by CPU time")
    ratio = (theirs.cpu_s / theirs.logs) / (ours.cpu_s / ours.logs)
    print(f"  in columns is {ratio:.1f} × as fast by CPU time; the states agree")
    grown_mb = peak_memory_mb() - warm_mb
    print(f"  {ours.windows} windows; over the last nine tenths of the events peak memory grew by {grown_mb:,.1f} MB")


States = dict[Key, State]
Sources = Mapping[str, Source]
Count = Callable[[BoundRule, Window, TimedLogs, States, Sources], tuple[Mapping[Key, State], Sources]]


class Counting:
    """A rule that counts logs in one way, and the time that takes it."""

    def __init__(self, rule: BoundRule, way: Count) -> None:
        self._rule = rule
        self._way = way
        self._window: Window | None = None
        self.states: States = {}
        self.sources: Sources = {}
        self.logs = 0
        self.windows = 0
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def count(self, window: Window, found: TimedLogs) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        if window != self._window:
            self._window, self.sources = window, {}
            self.windows += 1
        changed, self.sources = self._way(self._rule, window, found, self.states, self.sources)
        self.states.update(changed)
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu
        self.logs += found.logs.count


def in_columns(
    rule: BoundRule, window: Window, found: TimedLogs, states: States, sources: Sources
) -> tuple[Mapping[Key, State], Sources]:
    """As the stage does it, from packed logs to new states."""
    selected = rule.columns(found, {})
    moved = moves_of(rule.plan, selected, found.times)
    changed = advance_columns(rule.plan, window, moved, states)
    return changed, count_source_columns(window, selected, found, sources)


def one_by_one(
    rule: BoundRule, window: Window, found: TimedLogs, states: States, sources: Sources
) -> tuple[Mapping[Key, State], Sources]:
    """What the columns are a short cut for."""
    happened = [event for log in unpack_logs("bench", found) for event in rule.events(log)]
    moved = [touch for event in happened for touch in touches(rule.plan, event)]
    return advance(rule.plan, window, moved, states), count_sources(window, happened, sources)


def fee_window() -> BoundRule:
    names = {name: Address(bytes([number]) * 20) for number, name in enumerate(("vault", "pool", "USDX"), start=1)}
    contracts = {"vault": names["vault"], "pool": names["pool"]}
    plan = load_rule(RULES / "fee_window" / "rule.yaml", contracts=contracts, tokens={"USDX"})
    binding = Binding(
        reference="eip155:31337",
        asset=AssetId("eip155:31337/erc20:bench"),
        token=names["USDX"],
        contracts=contracts,
        tokens={},
    )
    decoders = {source: compile_event(event.declaration) for source, event in plan.rule.events.items()}
    return BoundRule(plan, binding, decoders)


def recorded(rule: BoundRule, count: int) -> Iterator[tuple[Window, TimedLogs]]:
    """Fees, deposits and withdrawals, five to four to one, in steps that end with the day at the latest."""
    chance = np.random.default_rng(7)
    accounts = chance.integers(0, 256, (ACCOUNTS, 20), dtype=np.uint8)
    done = 0
    while done < count:
        second = START + done // LOGS_PER_BLOCK * BLOCK_S
        window = Window(second // 86_400 * 86_400, second // 86_400 * 86_400 + 86_400)
        in_window = (window.end - START) // BLOCK_S * LOGS_PER_BLOCK - done
        size = min(STEP, in_window, count - done)
        yield window, one_step(rule, chance, accounts, np.arange(done, done + size))
        done += size


def one_step(
    rule: BoundRule, chance: np.random.Generator, accounts: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]
) -> TimedLogs:
    size = len(places)
    kinds = chance.choice(3, size, p=(0.5, 0.4, 0.1))
    topics = np.zeros((size, 4, 32), dtype=np.uint8)
    emitters = np.zeros((size, 20), dtype=np.uint8)
    whose = accounts[chance.integers(0, ACCOUNTS, size)]
    for kind, (source, decoder) in enumerate(rule.decoders.items()):
        of_kind = kinds == kind
        topics[of_kind, 0] = np.frombuffer(decoder.topic0, dtype=np.uint8)
        emitters[of_kind] = np.frombuffer(min(rule.emitters(source)), dtype=np.uint8)
        if source == "fee":
            topics[of_kind, 1, 12:] = np.frombuffer(rule.binding.token, dtype=np.uint8)
            topics[of_kind, 2, 12:] = whose[of_kind]
        else:
            topics[of_kind, 1, 12:] = whose[of_kind]
    amounts = np.zeros((size, 32), dtype=np.uint8)
    amounts[:, 23:] = chance.integers(0, 256, (size, 9), dtype=np.uint8)  # up to 72 bits
    amounts[kinds == 2, 23:26] = 0  # and small withdrawals
    numbers = places // LOGS_PER_BLOCK
    logs = LogColumns(
        count=size,
        block_numbers=numbers.astype(">u8").tobytes(),
        block_hashes=b"".join(map(hash_of, numbers.tolist())),
        log_indexes=(places % LOGS_PER_BLOCK).astype(">u4").tobytes(),
        tx_hashes=bytes(32 * size),
        tx_indexes=bytes(4 * size),
        addresses=emitters.tobytes(),
        topic_counts=np.where(kinds == 0, 3, 2).astype(np.uint8).tobytes(),
        topics=topics.tobytes(),
        data=amounts.tobytes(),
        data_ends=(np.arange(1, size + 1) * 32).astype(">u8").tobytes(),
    )
    return TimedLogs(logs, (START + numbers * BLOCK_S).tolist())


# ── Stored ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def stored(arguments: argparse.Namespace) -> None:
    count = min(arguments.events, STORED_MAX)
    print(
        f"stored, {count:,} logs from Postgres through fee_window, states read and written, steps of {STEP:,}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        asyncio.run(from_postgres(Path(name), count))


async def from_postgres(directory: Path, count: int) -> None:
    rule, chain = fee_window(), "bench"
    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def measured(what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent[what] += time.perf_counter() - started

    postgres = await Postgres.start(directory / "postgres.log")
    try:
        database = await Database.open(postgres.url)
        await migrate(database)
        for window, first, last in await fill(database, chain, rule, count):
            async with database.snapshot() as transaction:
                with measured("logs as objects, for comparison"):
                    await transaction.events.logs(chain, first, last, limit=STEP)
                with measured("logs as columns"):
                    found = await transaction.events.log_columns(chain, first, last, limit=STEP)
                with measured("to what they do"):
                    moved = moves_of(rule.plan, rule.columns(found, {}), found.times)
                with measured("states read"):
                    known = await transaction.decisions.accumulators(chain, rule.name, keys_of(moved))
                with measured("advanced"):
                    changed = advance_columns(rule.plan, window, moved, known)
            async with database.begin() as transaction:
                with measured("states written"):
                    await transaction.decisions.save_accumulators(chain, rule.name, changed)
        await database.close()
    finally:
        await postgres.stop()
    for what, seconds in spent.items():
        print(f"  {what:32} {seconds / count * 1e6:6.1f} µs an event")
    whole = sum(seconds for what, seconds in spent.items() if "comparison" not in what)
    print(f"  {count / whole:,.0f} events/s")


async def fill(database: Database, chain: str, rule: BoundRule, count: int) -> list[tuple[Window, int, int]]:
    """Window, first and last block of each step."""
    async with database.begin() as transaction:
        await transaction.chains.register(chain, "evm", "eip155:31337", bytes(32), 0)
    steps: list[tuple[Window, int, int]] = []
    for window, found in recorded(rule, count):
        first, last = found.logs.number(0), found.logs.number(-1)
        blocks = [
            Block(each, hash_of(each), hash_of(each - 1), START + each * BLOCK_S) for each in range(first, last + 1)
        ]
        async with database.begin() as transaction:
            await transaction.events.add(chain, BlockAdded(first, tuple(blocks), found.logs), last)
            await transaction.events.finalize(
                chain, Finalized(first, blocks[-1], found.logs.count, bytes(32), "a", "a")
            )
        steps.append((window, first, last))
    return steps


def hash_of(number: int) -> bytes:
    return number.to_bytes(32, signed=True)


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


SECTIONS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "split": split,
    "expressions": expressions,
    "events": events,
    "stored": stored,
}

if __name__ == "__main__":
    main()
