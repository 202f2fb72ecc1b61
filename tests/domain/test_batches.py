"""Columns of events come to the states that the events one after the other come to, for every kind of input."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.accumulators import Key, Source, State, advance, count_sources, touches
from bridge.domain.batches import advance_columns, count_source_columns, keys_of, moves_of, select_columns
from bridge.domain.events import Event, EventColumns, Log, TimedLogs, Value, pack_logs
from bridge.domain.rules import Binding
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.domain.windows import Window
from bridge.runtime.rulefile import parse_rule

TEXT = """
rule: everything
version: 1
description: every kind of input that events move
asset: USDX
window: {every: 100 s}
events:
  fee:
    contract: vault
    event: "Fee(address token, uint256 amount)"
    where: token == asset and amount < limit
    units: {amount: amount<USDX>}
  odd_fee:
    contract: vault
    event: "Fee(address token, uint256 amount)"
    where: token != asset or vault == pool
    units: {amount: amount<USDX>}
  deposit: {contract: pool, event: "In(address account, uint256 amount)", units: {amount: amount<USDX>}}
  withdrawal: {contract: pool, event: "Out(address account, uint256 amount)", units: {amount: amount<USDX>}}
  trade: {contract: pool, event: "Trade(address account, int256 gain)", where: "1 == 1", units: {gain: amount<USDX>}}
  never: {contract: pool, event: "Trade(address account, int256 gain)", where: "1 == 2", units: {gain: amount<USDX>}}
parameters: {limit: 1_000_000 amount<USDX>, part: 5_000 bps}
inputs:
  fees: {sum: fee.amount}
  halves: {sum: "mul_div(fee.amount, part, BPS)"}
  odd: {sum: odd_fee.amount}
  none: {sum: never.gain}
  number: {count: fee}
  newest: {last: odd_fee.amount}
  stake: {time_weighted: {add: deposit.amount, subtract: withdrawal.amount, by: account}}
  same: {time_weighted: {add: 2 * deposit.amount, subtract: deposit.amount, by: account}}
  held: {balances: {add: deposit.amount, subtract: withdrawal.amount, by: account, at: before}}
  gains: {sums: {of: trade.gain, by: account}}
  members: {members: {add: [deposit.account], remove: [withdrawal.account, trade.account], at: end}}
surplus: fees
carry: surplus
split: {pro_rata: stake}
"""
VAULT, POOL, USDX, OTHER = (Address(bytes([n]) * 20) for n in (1, 2, 3, 4))
BINDING = Binding(
    reference="eip155:1",
    asset=AssetId("eip155:1/erc20:0x03"),
    token=USDX,
    contracts={"vault": VAULT, "pool": POOL},
    tokens={},
)
PLAN = parse_rule(TEXT, name="everything")
START = 1000
accounts = st.integers(0, 4).map(lambda number: Address(bytes([number]) * 20))
amounts = st.one_of(st.integers(0, 20), st.integers(0, 2**255))

# (name of the event in Solidity, fields)
Happening = tuple[str, Mapping[str, Value]]
happenings: st.SearchStrategy[Happening] = st.one_of(
    st.tuples(st.just("Fee"), st.fixed_dictionaries({"token": st.sampled_from([USDX, OTHER]), "amount": amounts})),
    st.tuples(st.sampled_from(["In", "Out"]), st.fixed_dictionaries({"account": accounts, "amount": amounts})),
    st.tuples(st.just("Trade"), st.fixed_dictionaries({"account": accounts, "gain": st.integers(-30, 30)})),
    st.tuples(st.just("Unknown"), st.just({})),
)
# Seconds since the log before: many logs share a block.
steps = st.lists(st.tuples(st.sampled_from([0, 0, 1, 7, 60]), happenings), max_size=25)


def logs_of(happened: Sequence[tuple[int, Happening]], first: int) -> list[Log]:
    """Second `first` comes before the window where it is below START."""
    logs: list[Log] = []
    second = first
    for index, (later, _) in enumerate(happened):
        second += later
        stamp = BlockStamp("test", second, second.to_bytes(32))
        logs.append(Log(stamp, index, bytes(32), index, VAULT, (), b"", second))
    return logs


def events_of(logs: Sequence[Log], happened: Sequence[tuple[int, Happening]]) -> list[Event]:
    """What the logs are to the rule, as stages find it: event by event of the rule for each log."""
    return [
        Event(source, log, fields)
        for log, (_, (name, fields)) in zip(logs, happened, strict=True)
        for source, event in PLAN.rule.events.items()
        if event.declaration.startswith(name) and PLAN.selects(source, fields, BINDING)
    ]


def columns_of(happened: Sequence[tuple[int, Happening]]) -> dict[str, EventColumns]:
    columns: dict[str, EventColumns] = {}
    for source, event in PLAN.rule.events.items():
        found = [
            (row, fields) for row, (_, (name, fields)) in enumerate(happened) if event.declaration.startswith(name)
        ]
        names = {"F": ("token", "amount"), "I": ("account", "amount"), "O": ("account", "amount")}
        fields_of = names.get(event.declaration[0], ("account", "gain"))
        every = {name: [fields[name] for _, fields in found] for name in fields_of}
        columns[source] = select_columns(PLAN, source, EventColumns([row for row, _ in found], every), BINDING)
    return columns


@given(st.lists(steps, min_size=1, max_size=3), st.integers(0, 120))
def test_columns__any_events_in_any_portions__same_states_as_one_by_one(
    portions: list[list[tuple[int, Happening]]], early: int
):
    """Each portion goes on with the states of the one before; the window moves on with the third."""
    slow: dict[Key, State] = {}
    fast: dict[Key, State] = {}
    slow_sources: dict[str, Source] = {}
    fast_sources: dict[str, Source] = {}
    second = START - early
    window = Window(START, START + 10_000)
    for number, happened in enumerate(portions):
        if number == 2:
            window = Window(second, second + 10_000)
        logs = logs_of(happened, second)
        second = logs[-1].timestamp if logs else second
        events = events_of(logs, happened)
        slow |= advance(PLAN, window, [touch for event in events for touch in touches(PLAN, event)], slow)
        slow_sources = count_sources(window, events, slow_sources)

        found = TimedLogs(pack_logs(logs), [log.timestamp for log in logs])
        selected = columns_of(happened)
        moved = moves_of(PLAN, selected, found.times)
        assert keys_of(moved) == {touch.key for event in events for touch in touches(PLAN, event)}
        fast |= advance_columns(PLAN, window, moved, fast)
        fast_sources = count_source_columns(window, selected, found, fast_sources)
        assert fast == slow
        assert fast_sources == slow_sources


def test_select__a_where_over_constants_alone__all_or_none():
    found = EventColumns([3, 5], {"account": [POOL, VAULT], "gain": [1, -1]})
    assert select_columns(PLAN, "trade", found, BINDING) == found
    assert select_columns(PLAN, "never", found, BINDING) == EventColumns([], {"account": [], "gain": []})


def test_advance_columns__time_goes_back__refused():
    happened: list[tuple[int, Happening]] = [(0, ("In", {"account": POOL, "amount": 1}))]
    moved = moves_of(PLAN, columns_of(happened), [START])
    later = {("stake", POOL): State(1, 0, START + 1)}
    with pytest.raises(AssertionError):
        advance_columns(PLAN, Window(START, START + 100), moved, later)


def test_moves__a_formula_without_a_result__raises():
    plan = parse_rule(TEXT.replace("part, BPS)", "part, part - part)"), name="everything")
    columns = EventColumns([0], {"token": [USDX], "amount": [1]})
    with pytest.raises(ZeroDivisionError):
        moves_of(plan, {"fee": columns}, [START])


def test_moves__a_formula_without_a_result_for_the_zero_address__raises_as_one_by_one():
    plan = parse_rule(
        TEXT.replace(
            "subtract: deposit.amount,",
            "subtract: 'mul_div(deposit.amount, 1, floor_div(deposit.amount, deposit.amount))',",
        ),
        name="x",
    )
    nobody: Mapping[str, Value] = {"account": bytes(20), "amount": 0}
    [log] = logs_of([(0, ("In", nobody))], START)
    with pytest.raises(ZeroDivisionError):
        list(touches(plan, Event("deposit", log, nobody)))
    with pytest.raises(ZeroDivisionError):
        moves_of(plan, {"deposit": EventColumns([0], {name: [value] for name, value in nobody.items()})}, [START])
