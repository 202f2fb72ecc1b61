"""Many events at once: what `accumulators` says of one after the other, said of columns of them.

    EventColumns ──select_columns──► those that count ──moves_of──► Moves by input ──advance_columns──► states

Nothing is decided here: the states are exactly those that `touches` and `advance` come to, event by event. What raises
there raises here, but without saying which event it was: a caller that needs to know goes through them one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, repeat
from operator import neg
from typing import cast

from bridge.domain.accumulators import SCALAR, Key, Source, State, Touch, advance, signed_sum_of, sum_of
from bridge.domain.events import EventColumns, TimedLogs, Value
from bridge.domain.expressions import Expression
from bridge.domain.plans import Effect, Plan
from bridge.domain.rules import Binding, Count, Sum, Sums, TimeWeighted
from bridge.domain.units import Address
from bridge.domain.windows import Window

_NEW = State()


@dataclass(frozen=True, slots=True)
class Moves:
    """What events do to one input, in order of the chain: the entries at one place of all columns are one touch."""

    accounts: Sequence[Address]
    amounts: Sequence[int]  # signed
    times: Sequence[int]  # seconds


def select_columns(plan: Plan, source: str, events: EventColumns, binding: Binding) -> EventColumns:
    """Those of `events` that count for the rule: see Plan.selects."""
    where = plan.wheres[source]
    if where is None or not events.rows:
        return events
    named: dict[str, Value] = {**plan.parameters, **binding.contracts, "asset": binding.token}
    keep = _each(where, {**_constants(named, len(events.rows)), **events.fields}, len(events.rows))
    if all(keep):
        return events
    fields = {name: list(compress(column, keep)) for name, column in events.fields.items()}
    return EventColumns(list(compress(events.rows, keep)), fields)


def moves_of(plan: Plan, selected: Mapping[str, EventColumns], times: Sequence[int]) -> dict[str, Moves]:
    """What the selected events do, by input: see touches. `selected` has the events of the rule in their order, `times`
    the second of each log that there is, of the rule or not."""
    parts: dict[str, list[tuple[Sequence[int], Moves]]] = {}
    for source, events in selected.items():
        seconds = [times[row] for row in events.rows]
        for effect in plan.effects[source] if seconds else ():
            moves = Moves(_accounts(effect, events), _amounts(plan, source, effect, events), seconds)
            parts.setdefault(effect.input, []).append(_of_somebody(events.rows, moves))
    return {name: _in_order(found) for name, found in parts.items()}


def keys_of(moved: Mapping[str, Moves]) -> set[Key]:
    """Every key that is touched."""
    return {(name, account) for name, moves in moved.items() for account in set(moves.accounts)}


def advance_columns(
    plan: Plan, window: Window, moved: Mapping[str, Moves], states: Mapping[Key, State]
) -> dict[Key, State]:
    """The new states of every key that is touched: see advance."""
    changed: dict[Key, State] = {}
    for name, moves in moved.items():
        match plan.rule.inputs[name]:
            case Sum() | Count():
                changed |= _add_up(name, window, moves, states)
            case Sums():
                changed |= _add_up_by_account(name, window, moves, states)
            case TimeWeighted():
                changed |= _weigh(name, window, moves, states)
            case _:
                touched = zip(moves.accounts, moves.amounts, moves.times, strict=True)
                one_by_one = (Touch((name, account), amount, at) for account, amount, at in touched)
                changed |= advance(plan, window, one_by_one, states)
    return changed


def count_source_columns(
    window: Window, selected: Mapping[str, EventColumns], found: TimedLogs, sources: Mapping[str, Source]
) -> dict[str, Source]:
    """`sources` of this window, with the selected events of the window added: see count_sources."""
    counted = dict(sources)
    for source, events in selected.items():
        skipped = bisect_left(events.rows, window.start, key=found.times.__getitem__)
        rows = events.rows[skipped:]
        if not rows:
            continue
        first, last = ((found.logs.number(row), found.logs.log_index(row)) for row in (rows[0], rows[-1]))
        known = counted.get(source)
        counted[source] = (
            Source(known.count + len(rows), known.first, last) if known else Source(len(rows), first, last)
        )
    return counted


# ── Columns ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _each(expression: Expression, columns: Mapping[str, Iterable[Value]], count: int) -> list[Value]:
    """The expression's value for each of `count` rows."""
    if not expression.names:
        return [expression.function()] * count
    return list(map(expression.function, *(columns[name] for name in expression.names)))


def _constants(values: Mapping[str, Value], count: int) -> dict[str, Iterable[Value]]:
    return {name: repeat(value, count) for name, value in values.items()}


def _of_somebody(rows: Sequence[int], moves: Moves) -> tuple[Sequence[int], Moves]:
    """Without those of the zero address: see touches."""
    nobody = bytes(len(moves.accounts[0])) if moves.accounts else SCALAR
    if nobody == SCALAR or nobody not in moves.accounts:
        return rows, moves
    keep = [account != nobody for account in moves.accounts]
    return list(compress(rows, keep)), Moves(
        list(compress(moves.accounts, keep)), list(compress(moves.amounts, keep)), list(compress(moves.times, keep))
    )


def _accounts(effect: Effect, events: EventColumns) -> Sequence[Address]:
    if effect.account is None:
        return [SCALAR] * len(events.rows)
    return cast("Sequence[Address]", events.fields[effect.account])  # checked when the rule was loaded


def _amounts(plan: Plan, source: str, effect: Effect, events: EventColumns) -> Sequence[int]:
    fields = {f"{source}.{name}": column for name, column in events.fields.items()}
    if effect.amount.text in fields:
        column = fields[effect.amount.text]
    else:
        column = _each(effect.amount, {**_constants(plan.parameters, len(events.rows)), **fields}, len(events.rows))
    amounts = cast("Sequence[int]", column)
    return amounts if effect.sign > 0 else list(map(neg, amounts))


def _in_order(parts: Sequence[tuple[Sequence[int], Moves]]) -> Moves:
    """All of an input's moves in order of the chain; those of one log in the order of the rule's events and effects."""
    if len(parts) == 1:
        return parts[0][1]
    places = [row * len(parts) + part for part, (rows, _) in enumerate(parts) for row in rows]
    order = sorted(range(len(places)), key=places.__getitem__)
    accounts = [account for _, moves in parts for account in moves.accounts]
    amounts = [amount for _, moves in parts for amount in moves.amounts]
    times = [second for _, moves in parts for second in moves.times]
    return Moves([accounts[at] for at in order], [amounts[at] for at in order], [times[at] for at in order])


# ── States ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _add_up(name: str, window: Window, moves: Moves, states: Mapping[Key, State]) -> dict[Key, State]:
    first = bisect_left(moves.times, window.start)
    if first == len(moves.times):
        return {}
    key = name, SCALAR
    before = states.get(key, _NEW)
    assert moves.times[0] >= before.since
    return {key: State(sum_of(before, window) + sum(moves.amounts[first:]), 0, moves.times[-1])}


def _add_up_by_account(name: str, window: Window, moves: Moves, states: Mapping[Key, State]) -> dict[Key, State]:
    first = bisect_left(moves.times, window.start)
    sums: dict[Address, int] = {}
    lasts: dict[Address, int] = {}
    for account, amount, at in zip(moves.accounts[first:], moves.amounts[first:], moves.times[first:], strict=True):
        sums[account] = sums.get(account, 0) + amount
        lasts[account] = at
    changed: dict[Key, State] = {}
    for account, amount in sums.items():
        before = states.get((name, account), _NEW)
        changed[name, account] = State(signed_sum_of(before, window) + amount, 0, lasts[account])
    return changed


def _weigh(name: str, window: Window, moves: Moves, states: Mapping[Key, State]) -> dict[Key, State]:
    start = window.start
    # A state in three parts: an object for each step of an account would cost more than the step.
    values: dict[Address, int] = {}
    weights: dict[Address, int] = {}
    sinces: dict[Address, int] = {}
    broken, broken_at = 0, 0
    for account, amount, at in zip(moves.accounts, moves.amounts, moves.times, strict=True):
        if account in values:
            value, weight, since = values[account], weights[account], sinces[account]
        else:
            state = states.get((name, account), _NEW)
            value, weight, since = state.value, state.weight, state.since
        assert at >= since
        if since < start:
            weight, since = 0, start
        if at > since:
            weight += value * (at - since)
        value += amount
        if value < 0:
            broken, broken_at = broken + 1, at
        values[account], weights[account], sinces[account] = value, weight, at
    changed = {(name, account): State(value, weights[account], sinces[account]) for account, value in values.items()}
    if broken:
        count = states.get((name, SCALAR), _NEW)
        changed[name, SCALAR] = replace(count, value=count.value + broken, since=broken_at)
    return changed
