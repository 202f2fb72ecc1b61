"""What a rule remembers between events: advanced by each event at constant cost, never recomputed from the start.

event ──touches──► Touch(input, account, amount) ──advance──► State of that key alone

Nothing is written when a window ends. A state says up to which second it is counted (`since`); what it counted before
the window's start is over, and `State` reads as if it had been reset. So a window costs as much as its events do.

time-weighted balance of one account (weight = shaded area; balances live on, weights do not):

     balance │        ┌──────┐
             │   ┌────┤░░░░░░└───
             │   │░░░░│░░░░░░│░░│
             └───┼────┼──────┼──┼──► t
               start  since     end

The window here is the stretch that is counted together: a rule's window, and before it those whose surplus could not be
determined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from bridge.domain.events import Event, Value
from bridge.domain.plans import Plan
from bridge.domain.rules import At, Balances, Count, Input, Last, Members, Sum, Sums, Table, TimeWeighted
from bridge.domain.units import Address
from bridge.domain.windows import Window

SCALAR = Address(b"")
"""The account of inputs that are no tables. In a table it counts the events that took some account below zero."""

NOBODY = Address(bytes(20))
"""Tokens come from the zero address and go there: it is nobody's account, however wide the chain's addresses are, and
nothing is counted for it."""

Key = tuple[str, Address]  # input, account


@dataclass(frozen=True, slots=True)
class State:
    """One accumulator of one account."""

    value: int = 0  # in the unit of the input
    weight: int = 0  # time-weighted: value × seconds, counted up to `since`; balances: the value before that second
    since: int = 0  # second of the last event


@dataclass(frozen=True, slots=True)
class Touch:
    """What one event does to one key. Amounts are signed."""

    key: Key
    amount: int
    at: int  # second


@dataclass(frozen=True, slots=True)
class Source:
    """The events of one kind that a window counts; first and last as (block number, log index)."""

    count: int
    first: tuple[int, int]
    last: tuple[int, int]


def touches(plan: Plan, event: Event) -> Iterator[Touch]:
    """What a selected event does, by the rule's effects."""
    values: dict[str, Value] = dict(plan.parameters)
    values.update((f"{event.source}.{name}", value) for name, value in event.fields.items())
    for effect in plan.effects[event.source]:
        amount = effect.amount.evaluate(values)
        assert isinstance(amount, int)
        account = SCALAR
        if effect.account is not None:
            field = event.fields[effect.account]
            assert isinstance(field, bytes)
            if not any(field):
                continue
            account = Address(field)
        yield Touch((effect.input, account), effect.sign * amount, event.log.timestamp)


def advance(plan: Plan, window: Window, touched: Iterable[Touch], states: Mapping[Key, State]) -> dict[Key, State]:
    """The new states of every key that `touched` changes, in order of the chain.

    `states` must hold every key of `touched` that is known, and SCALAR of each table. Events before the window's start
    (they come before the first window only) move balances and nothing else.
    """
    changed: dict[Key, State] = {}
    for touch in touched:
        name = touch.key[0]
        before = changed.get(touch.key) or states.get(touch.key) or State()
        assert touch.at >= before.since, f"{name}: time went back from {before.since} to {touch.at}"
        after = _advanced(plan.rule.inputs[name], window, before, touch)
        if after is None:
            continue
        changed[touch.key] = after
        if after.value < 0 and isinstance(plan.rule.inputs[name], (TimeWeighted, Balances)):
            broken = (name, SCALAR)
            count = changed.get(broken) or states.get(broken) or State()
            changed[broken] = replace(count, value=count.value + 1, since=touch.at)
    return changed


def _advanced(source: Input, window: Window, before: State, touch: Touch) -> State | None:  # noqa: PLR0911  # one for each kind of input
    """`before` after one touch; None where the touch is from before the window and the input counts windows only."""
    match source:
        case Sum() | Count() | Sums() if touch.at < window.start:
            return None
        case Sum() | Count():
            return State(sum_of(before, window) + touch.amount, 0, touch.at)
        case Sums():
            return State(signed_sum_of(before, window) + touch.amount, 0, touch.at)
        case TimeWeighted():
            return State(before.value + touch.amount, weight_of(before, window.start, touch.at), touch.at)
        case Balances():
            return State(before.value + touch.amount, _value_before(before, touch.at), touch.at)
        case Members():
            return State(int(touch.amount > 0), _value_before(before, touch.at), touch.at)
        case Last():
            return State(touch.amount, 0, touch.at)
        case _:
            return State(before.value + touch.amount, 0, touch.at)


def count_sources(window: Window, events: Iterable[Event], sources: Mapping[str, Source]) -> dict[str, Source]:
    """`sources` of this window, with `events` of the window added."""
    counted = dict(sources)
    for event in events:
        if event.log.timestamp < window.start:
            continue
        place = (event.log.block.number, event.log.log_index)
        known = counted.get(event.source)
        counted[event.source] = Source(known.count + 1, known.first, place) if known else Source(1, place, place)
    return counted


def sum_of(state: State, window: Window) -> int:
    """What was added up in the window."""
    return state.value if state.since >= window.start else 0


def weight_of(state: State, start: int, until: int) -> int:
    """∫ balance dt from `start` to `until`, in amount × seconds."""
    counted = state.weight if state.since >= start else 0
    return counted + state.value * max(until - max(state.since, start), 0)


def signed_sum_of(state: State, window: Window) -> int:
    """What was added up in the window, on top of an overdraft that earlier windows left."""
    return state.value if state.since >= window.start else min(state.value, 0)


def _value_before(state: State, second: int) -> int:
    """The value before `second`, which is not earlier than the last touch."""
    return state.weight if state.since == second else state.value


def weights_of(source: Table, states: Mapping[Address, State], window: Window) -> dict[Address, int]:
    """The weight of every account that has one at the end of the window."""
    accounts = {account: state for account, state in states.items() if account != SCALAR}
    match source:
        case TimeWeighted():
            weights = {account: weight_of(each, window.start, window.end) for account, each in accounts.items()}
        case Sums():
            weights = {account: max(signed_sum_of(each, window), 0) for account, each in accounts.items()}
        case Balances(at=at) | Members(at=at):
            last = window.end - 1
            weights = {
                account: each.value if at is At.END else _value_before(each, last) for account, each in accounts.items()
            }
        case _:
            assert_never(source)
    return {account: weight for account, weight in weights.items() if weight}


def overdraft_of(states: Mapping[Address, State], window: Window) -> int:
    """What all actors together are below zero at the end of the window, as a positive number."""
    return sum(max(-signed_sum_of(state, window), 0) for account, state in states.items() if account != SCALAR)
