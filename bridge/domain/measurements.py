"""What the inputs of a rule measured when a window ended, and formulas over them.

accumulators + pinned reads ──measure──► Measurement by input ──evaluate──► a number, or the reason why there is none
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.domain.accumulators import SCALAR, Key, Source, State, overdraft_of, sum_of, weights_of
from bridge.domain.events import Block, Value
from bridge.domain.expressions import Expression
from bridge.domain.plans import Plan
from bridge.domain.readings import Reading
from bridge.domain.rules import Balances, Committed, Count, HighWater, Last, Members, Sum, Sums, Table, TimeWeighted
from bridge.domain.units import UINT256_MAX, Address, format_address
from bridge.domain.windows import Window


class Undecidable(Exception):
    """The surplus is not known, or nobody can be given it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The value of one input. Of a table `value` is the sum of its `weights`, by account."""

    value: int = 0
    weights: Mapping[Address, int] = field(default_factory=dict)
    overdraft: int = 0  # of a table of sums
    parts: Mapping[str, str] = field(default_factory=dict)  # what the value was made of, where it is not read as such
    problem: str | None = None  # why it cannot be relied on


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision rests on. Every measurement is of finalized data up to and including `block`."""

    start_block: int  # balances are counted from here on
    first_block: int  # the logs of the window are in blocks first_block … block.number
    block: Block  # the window's last
    counted_from: int  # second: events since then count; earlier than the window where one before was undetermined
    inputs: Mapping[str, Measurement]
    sources: Mapping[str, Source]  # by event; those without events are left out
    last_paid_end: int | None  # end of the last window that paid, for the cooldown
    paid_before: int  # all that the rule decided to pay so far


def measure(
    plan: Plan, span: Window, states: Mapping[Key, State], reads: Mapping[str, Reading], owed: int
) -> dict[str, Measurement]:
    """The value of every input at the end of `span`, the stretch from Facts.counted_from to the window's end.

    `states` holds every accumulator of the rule, `reads` what was read at the window's block by input, `owed` all that
    was ever decided in the asset, and all that is carried, by whatever rule.
    """
    measured: dict[str, Measurement] = {}
    for name, source in plan.rule.inputs.items():
        scalar = states.get((name, SCALAR), State())
        match source:
            case Sum() | Count():
                measured[name] = Measurement(sum_of(scalar, span))
            case Last():
                measured[name] = Measurement(scalar.value)
            case TimeWeighted() | Balances() | Sums() | Members():
                table = {account: state for (held, account), state in states.items() if held == name}
                measured[name] = _measureby_account(source, table, scalar, span)
            case Committed():
                value = owed - scalar.value
                short = "more was released than decisions account for: was the vault used by something else?"
                parts = {"owed": str(owed), "released": str(scalar.value)}
                measured[name] = Measurement(value, parts=parts, problem=short if value < 0 else None)
            case HighWater():
                pass
            case _:
                read = reads[name]
                measured[name] = Measurement(read.value, parts=read.parts, problem=read.problem)
    for name in plan.marks:
        measured[name] = _measure_mark(plan, name, states.get((name, SCALAR)), measured)
    return measured


def _measureby_account(source: Table, table: Mapping[Address, State], broken: State, span: Window) -> Measurement:
    if not (broken.value and isinstance(source, (TimeWeighted, Balances))):
        weights = weights_of(source, table, span)
        overdraft = overdraft_of(table, span) if isinstance(source, Sums) else 0
        return Measurement(sum(weights.values()), weights, overdraft)
    below = sorted(format_address(account) for account, state in table.items() if state.value < 0)
    problem = (
        f"{broken.value} events took an account below zero{f', {below[0]} still is' if below else ''}: "
        "the chain was not read from the first deposit on, so set start_block earlier and use a new database"
    )
    return Measurement(problem=problem)


def _measure_mark(plan: Plan, name: str, state: State | None, measured: Mapping[str, Measurement]) -> Measurement:
    """The mark of earlier windows; in the first, what there is now."""
    expression = plan.marks[name]
    try:
        now = evaluate(expression, plan, measured, {})
    except Undecidable as problem:
        return Measurement(0 if state is None else state.value, problem=str(problem))
    return Measurement(now if state is None else state.value, parts={"now": str(now)})


def evaluate(
    expression: Expression,
    plan: Plan,
    inputs: Mapping[str, Measurement],
    values: Mapping[str, int],
    what: str = "the surplus",
) -> int:
    """Raises Undecidable where an input that it reads has a problem, or the numbers have no result."""
    given: dict[str, Value] = {}
    for name in expression.names:
        aggregate, _, table = name.rstrip(")").rpartition("(")
        if name in plan.parameters:
            given[name] = plan.parameters[name]
        elif name in values:
            given[name] = values[name]
        else:
            given[name] = _aggregate(aggregate, inputs[table], table)
    try:
        result = expression.evaluate(given)
    except ArithmeticError as error:
        raise Undecidable(f"{what} cannot be calculated: {error}") from None
    assert isinstance(result, int)
    if not -UINT256_MAX <= result <= UINT256_MAX and what != "the surplus":
        raise Undecidable(f"{what} does not fit 256 bits")
    return result


def _aggregate(aggregate: str, measured: Measurement, name: str) -> int:
    """The value of an input, or what is asked of a table."""
    if measured.problem is not None:
        raise Undecidable(f"{name}: {measured.problem}")
    numbers = {"count": len(measured.weights), "overdraft": measured.overdraft}
    number = numbers.get(aggregate, measured.value)
    if not -UINT256_MAX <= number <= UINT256_MAX:
        raise Undecidable(f"{name} does not fit 256 bits")
    return number
