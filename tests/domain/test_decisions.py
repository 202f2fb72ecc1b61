"""Decisions as a pure function: nothing lost over many windows, guardrails kept, same bytes for the same facts."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.artifacts import POOL, canonical
from bridge.domain.decisions import Decision, Verdict, decide
from bridge.domain.events import Block
from bridge.domain.measurements import Facts, Measurement
from bridge.domain.plans import Plan, compile_rule
from bridge.domain.quantities import amount_of
from bridge.domain.records import Stored, carries_as_recorded, compare_with_record, follows
from bridge.domain.rules import (
    Balance,
    Binding,
    By,
    Carry,
    Guardrails,
    Parameter,
    ProRata,
    Rule,
    RuleEvent,
    Sum,
    TimeWeighted,
)
from bridge.domain.units import UINT256_MAX, Address, AssetId
from bridge.domain.windows import Every, Window

VAULT = Address(b"\xaa" * 20)
A, B, C = (Address(bytes([n]) * 20) for n in (1, 2, 3))
BINDING = Binding("eip155:1", AssetId("eip155:1/erc20:0xdd"), Address(b"\xdd" * 20), {"vault": VAULT, "pool": VAULT})
WINDOW = Window(100, 200)
UNLIMITED = Guardrails()


def plan(guardrails: Guardrails = UNLIMITED, *, carry: Carry = Carry.SURPLUS, surplus: str = "found") -> Plan:
    deposited = "Deposited(address indexed account, uint256 amount)"
    units = {"amount": amount_of("USDX")}
    events = {
        "add": RuleEvent(("pool",), deposited, units=units),
        "take": RuleEvent(("pool",), deposited.replace("Dep", "Undep"), units=units),
        "fee": RuleEvent(("vault",), "Fee(uint256 amount)", units=units),
    }
    if carry is Carry.NONE:
        del events["fee"]
    rule = Rule(
        name="test",
        version=3,
        description="",
        asset="USDX",
        trigger=Every(100),
        events=events,
        inputs={
            "found": Sum("fee.amount") if carry is Carry.SURPLUS else Balance("vault"),
            "stake": TimeWeighted("add.amount", "take.amount", By("account", "account")),
        },
        parameters={"divisor": Parameter(0)},
        values={},
        surplus=surplus,
        carry=carry,
        guardrails=guardrails,
        split=ProRata("stake"),
        exclude=(),
        body="",
        content_hash=bytes(32),
    )
    return compile_rule(rule)


def facts(found: int, weights: Mapping[Address, int], **changes: Any) -> Facts:
    inputs = {"found": Measurement(found), "stake": Measurement(sum(weights.values()), weights)}
    block = Block(9, bytes(32), bytes(32), 190)
    usual: dict[str, Any] = {"counted_from": 100, "sources": {}, "last_paid_end": None, "paid_before": 0}
    return Facts(start_block=0, first_block=5, block=block, inputs=inputs, **{**usual, **changes})


amounts = st.one_of(st.integers(0, 200), st.integers(0, 2**200))
tables = st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 50))
guardrails = st.builds(
    Guardrails,
    cap_per_epoch=st.one_of(st.none(), st.integers(30, 200)),
    minimum_total=st.integers(0, 30),
    minimum_per_recipient=st.integers(0, 30),
    cooldown_s=st.sampled_from([0, 100, 101, 250]),
    lot=st.integers(1, 30),
)


@given(guardrails, st.lists(st.tuples(amounts, tables), min_size=1, max_size=8))
def test_decide__many_windows__nothing_is_lost_and_every_guardrail_holds(
    limits: Guardrails, windows: list[tuple[int, dict[Address, int]]]
):
    rule = plan(limits)
    carried: Mapping[Address, int] = {}
    found = paid = 0
    last_paid_end = None
    for number, (amount, weights) in enumerate(windows):
        window = Window(100 * number, 100 * number + 100)
        decision = decide(rule, BINDING, window, facts(amount, weights, last_paid_end=last_paid_end), carried)
        check_invariants(decision, carried)
        if decision.verdict is Verdict.PAY:
            assert limits.cap_per_epoch is None or decision.total <= limits.cap_per_epoch
            assert decision.total >= limits.minimum_total
            assert all(one.amount >= limits.minimum_per_recipient for one in decision.allocations)
            assert last_paid_end is None or window.end - last_paid_end >= limits.cooldown_s
            last_paid_end = window.end
        found, paid, carried = found + amount, paid + decision.total, decision.carries
        assert found == paid + sum(carried.values())


def check_invariants(decision: Decision, carried: Mapping[Address, int]) -> None:
    assert decision.carried_in == sum(carried.values())
    assert decision.carried_out == sum(decision.carries.values())
    assert decision.carried_in + decision.surplus == decision.total + decision.carried_out + decision.left
    assert (decision.verdict is Verdict.PAY) == (decision.total > 0)
    assert decision.total == sum(one.amount for one in decision.allocations)
    assert all(0 <= one.carried_in <= one.amount for one in decision.allocations)
    recipients = [one.recipient for one in decision.allocations]
    assert recipients == sorted(set(recipients))
    assert POOL not in recipients
    # What the books move out of `surplus:carried` was there, and what they move in was found in this window.
    newly_carried = decision.carried_out - decision.carried_in + sum(one.carried_in for one in decision.allocations)
    assert 0 <= newly_carried <= decision.surplus
    assert (decision.verdict is Verdict.NOTHING) == (not carried and decision.surplus == 0)


@given(guardrails, amounts, tables)
def test_decide__rule_on_a_balance__surplus_without_recipient_is_left_not_carried(
    limits: Guardrails, amount: int, weights: dict[Address, int]
):
    decision = decide(plan(limits, carry=Carry.NONE), BINDING, WINDOW, facts(amount, weights), {})
    check_invariants(decision, {})
    assert POOL not in decision.carries


@given(amounts, tables, st.randoms())
def test_decide__facts_in_another_order__same_bytes(amount: int, weights: dict[Address, int], random: Any):
    shuffled = list(weights.items())
    random.shuffle(shuffled)
    first = decide(plan(), BINDING, WINDOW, facts(amount, weights), {A: 5, POOL: 3})
    second = decide(plan(), BINDING, WINDOW, facts(amount, dict(shuffled)), {POOL: 3, A: 5})
    assert first.artifact == second.artifact
    assert first.decision_id == hashlib.sha256(first.artifact).digest()


def test_decide__carries_above_the_cap__largest_first_and_progress_always():
    limits = Guardrails(cap_per_epoch=100, minimum_per_recipient=10)
    carried: Mapping[Address, int] = {A: 9, B: 130, C: 60}
    decision = decide(plan(limits), BINDING, WINDOW, facts(0, {}), carried)
    assert [(one.recipient, one.amount) for one in decision.allocations] == [(B, 100)]
    assert decision.carries == {A: 9, B: 30, C: 60}


def test_decide__cooldown__judged_from_end_to_end():
    rule = plan(Guardrails(cooldown_s=100))
    assert decide(rule, BINDING, WINDOW, facts(5, {A: 1}, last_paid_end=100), {}).verdict is Verdict.PAY
    resting = decide(rule, BINDING, WINDOW, facts(5, {A: 1}, last_paid_end=101), {})
    assert (resting.verdict, resting.carries) == (Verdict.CARRY, {POOL: 5})
    assert "before 201" in resting.reason


@pytest.mark.parametrize(
    ("surplus", "found", "carried", "reason"),
    [
        ("floor_div(found, divisor)", 5, {}, "cannot be calculated"),
        ("mul_div(found, 2, 1)", UINT256_MAX, {}, "cannot be calculated: a quotient of 257 bits"),
        ("found", UINT256_MAX + 1, {}, "found does not fit 256 bits"),
        ("found", UINT256_MAX, {A: 1}, "do not fit 256 bits"),
    ],
)
def test_decide__numbers_without_a_result__held_and_carries_stay(
    surplus: str, found: int, carried: dict[Address, int], reason: str
):
    decision = decide(plan(surplus=surplus), BINDING, WINDOW, facts(found, {A: 1}), carried)
    assert (decision.verdict, decision.total, decision.surplus) == (Verdict.HOLD, 0, 0)
    assert decision.carries == carried
    assert reason in decision.reason


def test_decide__cooldown__what_is_owed_by_name_waits_too():
    rule = plan(Guardrails(cooldown_s=100))
    decision = decide(rule, BINDING, WINDOW, facts(0, {}, last_paid_end=150), {A: 5})
    assert (decision.verdict, decision.carries) == (Verdict.CARRY, {A: 5})


def test_decide__input_with_a_problem__held_only_where_it_matters():
    broken = facts(0, {})
    inputs = {**broken.inputs, "stake": Measurement(problem="it is broken")}
    rest = decide(plan(), BINDING, WINDOW, dataclasses.replace(broken, inputs=inputs), {})
    assert rest.verdict is Verdict.NOTHING  # nothing is to be split
    inputs["found"] = Measurement(7)
    held = decide(plan(), BINDING, WINDOW, dataclasses.replace(broken, inputs=inputs), {})
    assert (held.verdict, held.reason, held.carries) == (Verdict.HOLD, "stake: it is broken", {POOL: 7})


def test_decide__stake_of_an_account_that_cannot_be_paid__stays_owed_and_the_others_are_paid():
    binding = dataclasses.replace(BINDING, never_paid=frozenset({B}))
    decision = decide(plan(), binding, WINDOW, facts(90, {A: 1, B: 2}), {})
    assert [(one.recipient, one.amount) for one in decision.allocations] == [(A, 30)]
    assert decision.carries == {B: 60}
    artifact = json.loads(decision.artifact)
    assert artifact["never_paid"] == ["0x" + B.hex()]
    assert [(guard["name"], guard["before"], guard["after"]) for guard in artifact["guardrails"]] == [
        ("never_paid", "90", "30")
    ]
    alone = decide(plan(), binding, WINDOW, facts(90, {B: 2}), decision.carries)
    assert (alone.verdict, alone.carries) == (Verdict.CARRY, {B: 150})


def test_artifact__shape__names_everything_a_reader_needs():
    decision = decide(plan(Guardrails(cap_per_epoch=4)), BINDING, WINDOW, facts(5, {A: 1, B: 1}), {})
    artifact = json.loads(decision.artifact)
    assert artifact == {
        "allocations": [
            {"amount": "2", "carried_in": "0", "recipient": "0x" + A.hex()},
            {"amount": "2", "carried_in": "0", "recipient": "0x" + B.hex()},
        ],
        "asset": "eip155:1/erc20:0xdd",
        "blocks": {"first": 5, "hash": "0x" + "00" * 32, "last": 9, "start": 0, "timestamp": 190},
        "carried_in": {"by": {}, "total": "0"},
        "carried_out": {"by": {"pool": "1"}, "total": "1"},
        "chain": "eip155:1",
        "approval": None,
        "counted_from": 100,
        "excluded": [],
        "values": {},
        "contracts": {"pool": "0x" + VAULT.hex(), "vault": "0x" + VAULT.hex()},
        "events": artifact["events"],
        "format": "bridge.decision/2",
        "guardrails": [{"after": "4", "before": "5", "limit": "4", "name": "cap_per_epoch", "verdict": "limited"}],
        "inputs": {
            "found": {"sum": "fee.amount", "value": "5"},
            "stake": {
                "time_weighted": {"add": "add.amount", "by": "account", "subtract": "take.amount"},
                "total": "2",
                "weights": {"0x" + A.hex(): "1", "0x" + B.hex(): "1"},
            },
        },
        "last_paid_end": None,
        "left": "0",
        "never_paid": [],
        "parameters": {"divisor": "0 number"},
        "paid_before": "0",
        "reason": "4 to 2 recipients",
        "rule": {"name": "test", "sha256": "00" * 32, "version": 3},
        "split": {"pro_rata": "stake"},
        "surplus": {"formula": "found", "found": "5", "result": "5"},
        "token": "0x" + "dd" * 20,
        "total": "4",
        "verdict": "pay",
        "window": {"end": 200, "start": 100},
    }
    assert artifact["events"]["fee"] == {
        "contracts": ["0x" + VAULT.hex()],
        "count": 0,
        "declaration": "Fee(uint256 amount)",
        "first": None,
        "last": None,
        "units": {"amount": "amount<USDX>"},
        "where": None,
    }


def test_artifact__another_process_with_another_hash_seed__same_bytes():
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.domain.test_decisions import *\n"
        "print(decide(plan(), BINDING, WINDOW, facts(7, {C: 1, A: 2, B: 4}), {B: 1, POOL: 2}).decision_id.hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_canonical__float__refused():
    with pytest.raises(TypeError, match="float"):
        canonical({"a": [1, {"b": 1.0}]})
    assert canonical({"b": "é", "a": [1]}) == b'{"a":[1],"b":"\\u00e9"}'


def stored(decision: Decision) -> Stored:
    return Stored(
        decision_id=decision.decision_id,
        rule=decision.rule,
        version=decision.version,
        rule_hash=bytes(32),
        rule_text_hash=bytes(32),
        asset=decision.asset,
        window=decision.window,
        block_number=decision.block.number,
        block_hash=decision.block.hash,
        verdict=decision.verdict.value,
        surplus=decision.surplus,
        total=decision.total,
        carried_in=decision.carried_in,
        carried_out=decision.carried_out,
        artifact=decision.artifact,
        allocations={one.recipient: (one.amount, one.carried_in) for one in decision.allocations},
        planned={one.recipient: one.amount for one in decision.allocations},
        planned_total=decision.total,
    )


def test_record__rows_as_decided__nothing_to_say_and_windows_join():
    first = decide(plan(Guardrails(cap_per_epoch=4)), BINDING, WINDOW, facts(5, {A: 1, B: 1}), {})
    now = dataclasses.replace(facts(5, {A: 1}), first_block=10, block=Block(19, bytes(32), bytes(32), 290))
    second = decide(plan(Guardrails(cap_per_epoch=4)), BINDING, Window(200, 300), now, first.carries)
    before, after = compare_with_record(stored(first)), compare_with_record(stored(second))
    assert (before.contradictions, after.contradictions) == ((), ())
    assert (follows(None, before), follows(before, after)) == ((), ())
    assert follows(None, after) == ("carried in is not what was left",)
    assert follows(after, before) == ("window does not follow", "carried in is not what was left")
    assert carries_as_recorded(second.carries) == after.carried_out


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"artifact": b"{}"}, "artifact"),
        ({"version": 4}, "rule"),
        ({"rule_text_hash": b"\x01" * 32}, "rule text"),
        ({"asset": "eip155:1/erc20:0xee"}, "asset"),
        ({"window": Window(100, 201)}, "window"),
        ({"block_hash": b"\x01" * 32}, "block"),
        ({"verdict": "hold"}, "verdict"),
        ({"surplus": 6}, "surplus"),
        ({"total": 6}, "total"),
        ({"carried_in": 1}, "carried in"),
        ({"carried_out": 1}, "carried out"),
        ({"allocations": {A: (3, 0), B: (2, 1)}}, "allocations"),
        ({"allocations": {A: (3, 0)}}, "allocations"),
        ({"planned": {A: 2, B: 3}}, "payouts"),
        ({"planned_total": 4}, "distribution total"),
    ],
    ids=str,
)
def test_record__one_row_changed__it_is_named(changed: dict[str, Any], named: str):
    rows = stored(decide(plan(), BINDING, WINDOW, facts(5, {A: 3, B: 2}), {}))
    assert compare_with_record(dataclasses.replace(rows, **changed)).contradictions == (named,)


def test_record__pinned_to_a_block_after_its_window__named():
    late = dataclasses.replace(facts(5, {A: 1}), block=Block(9, bytes(32), bytes(32), 200))
    rows = stored(decide(plan(), BINDING, WINDOW, late, {}))
    assert compare_with_record(rows).contradictions == ("block after the window",)
