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
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from bridge.domain.events import Event
from bridge.domain.rules import Plan, Sum, TimeWeighted, Window
from bridge.domain.units import Address

SCALAR = Address(b"")
"""The account of inputs that are no tables. In a table it counts the events that took some account below zero."""

Key = tuple[str, Address]  # input, account


@dataclass(frozen=True, slots=True)
class State:
    """One accumulator of one account."""

    value: int = 0  # in the unit of the input
    weight: int = 0  # value × seconds, counted up to `since`
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
    values = {f"{event.source}.{name}": value for name, value in event.fields.items()}
    for effect in plan.effects[event.source]:
        amount = effect.amount.evaluate(values)
        assert isinstance(amount, int)
        account = SCALAR
        if effect.account is not None:
            field = event.fields[effect.account]
            assert isinstance(field, bytes)
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
        match plan.rule.inputs[name]:
            case Sum():
                if touch.at < window.start:
                    continue
                changed[touch.key] = State(sum_of(before, window) + touch.amount, 0, touch.at)
            case TimeWeighted():
                after = State(before.value + touch.amount, weight_of(before, window.start, touch.at), touch.at)
                changed[touch.key] = after
                if after.value < 0:
                    broken = (name, SCALAR)
                    count = changed.get(broken) or states.get(broken) or State()
                    changed[broken] = replace(count, value=count.value + 1, since=touch.at)
            case _:
                changed[touch.key] = State(before.value + touch.amount, 0, touch.at)
    return changed


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


def weights_of(states: Mapping[Address, State], window: Window) -> dict[Address, int]:
    """The weight of every account that has one, over the whole window."""
    weights = {
        account: weight_of(state, window.start, window.end) for account, state in states.items() if account != SCALAR
    }
    return {account: weight for account, weight in weights.items() if weight}
