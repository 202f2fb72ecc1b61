"""Accumulators against the obvious way: all events of a window, counted from the start."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.accumulators import (
    SCALAR,
    Key,
    Source,
    State,
    Touch,
    advance,
    count_sources,
    sum_of,
    weight_of,
    weights_of,
)
from bridge.domain.events import Event, Log
from bridge.domain.plans import compile_rule
from bridge.domain.units import Address, BlockStamp
from bridge.domain.windows import Window
from tests.domain.test_rules import RULE, STAKE

PLAN = compile_rule(RULE)
A, B = Address(b"\x01" * 20), Address(b"\x02" * 20)
EVERY = 10

moves = st.lists(
    st.tuples(st.integers(0, 79), st.sampled_from([A, B]), st.integers(-5, 20)), max_size=25
).map(lambda found: sorted(found, key=lambda move: move[0]))  # fmt: skip


@given(moves, st.integers(1, 5))
def test_advance__windows_in_pieces__equals_counting_second_by_second(
    found: list[tuple[int, Address, int]], piece: int
):
    states: dict[Key, State] = {}
    below_zero = 0
    balances = {A: 0, B: 0}
    for start in range(0, 80, EVERY):
        window = Window(start, start + EVERY)
        touches = [
            Touch((name, account), amount, at)
            for at, who, amount in found
            if window.start <= at < window.end
            for name, account in (("found", SCALAR), ("stake", who))
        ]
        for first in range(0, len(touches), piece):
            states |= advance(PLAN, window, touches[first : first + piece], states)
        expected = {A: 0, B: 0}
        for second in range(window.start, window.end):
            for at, who, amount in found:
                if at == second:
                    balances[who] += amount
                    below_zero += balances[who] < 0
            for who, balance in balances.items():
                expected[who] += balance
        table = {account: state for (name, account), state in states.items() if name == "stake"}
        assert weights_of(STAKE, table, window) == {who: weight for who, weight in expected.items() if weight}
        assert sum_of(states.get(("found", SCALAR), State()), window) == sum(
            amount for at, _, amount in found if window.start <= at < window.end
        )
        assert states.get(("stake", SCALAR), State()).value == below_zero


def test_advance__before_the_first_window__moves_balances_only():
    window = Window(100, 200)
    touches = [Touch(("found", SCALAR), 9, 50), Touch(("stake", A), 7, 60), Touch(("stake", A), 1, 150)]
    states = advance(PLAN, window, touches, {})
    assert ("found", SCALAR) not in states
    assert weight_of(states["stake", A], window.start, window.end) == 7 * 50 + 8 * 50


def test_advance__events_of_one_window__writes_the_touched_keys_only():
    known: dict[Key, State] = {("stake", A): State(5, 0, 10), ("stake", B): State(6, 0, 10)}
    assert set(advance(PLAN, Window(100, 200), [Touch(("stake", A), 1, 120)], known)) == {("stake", A)}


def test_count_sources__events_of_the_window__first_and_last_place():
    def event(number: int, index: int, at: int) -> Event:
        stamp = BlockStamp("test", number, bytes(32))
        return Event("fee", Log(stamp, index, bytes(32), 0, A, (), b"", at), {})

    window = Window(100, 200)
    counted = count_sources(window, [event(1, 0, 99), event(2, 3, 100), event(2, 4, 100)], {})
    assert counted == {"fee": Source(2, (2, 3), (2, 4))}
    assert count_sources(window, [event(5, 0, 150)], counted) == {"fee": Source(3, (2, 3), (5, 0))}
