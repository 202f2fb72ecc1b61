"""Rules as data: declarations, units, and every way in which a rule makes no sense."""

import dataclasses
from typing import Any

import pytest

from bridge.domain.declarations import parse_declaration
from bridge.domain.expressions import ExpressionError
from bridge.domain.plans import compile_rule
from bridge.domain.quantities import amount_of
from bridge.domain.rules import (
    Balance,
    Binding,
    By,
    Carry,
    Committed,
    Equal,
    Guardrails,
    HighWater,
    Input,
    Parameter,
    ProRata,
    Read,
    Rule,
    RuleEvent,
    RuleMistake,
    Shares,
    Sum,
    TimeWeighted,
)
from bridge.domain.units import Address, AssetId
from bridge.domain.windows import Blocks, Each, Every

A, B = Address(b"\x01" * 20), Address(b"\x02" * 20)
USDX = amount_of("USDX")
UNITS = {"amount": USDX}
FEE = RuleEvent(("vault",), "FeePaid(address indexed token, uint256 amount)", "token == asset", UNITS)
IN = RuleEvent(("pool",), "Deposited(address indexed account, uint256 amount)", None, UNITS)
OUT = RuleEvent(("pool",), "Withdrawn(address indexed account, uint256 amount)", None, UNITS)

RULE = Rule(
    name="fees",
    version=1,
    description="",
    asset="USDX",
    trigger=Every(100),
    events={"fee": FEE, "deposit": IN, "withdrawal": OUT},
    inputs={
        "found": Sum("fee.amount"),
        "stake": TimeWeighted("deposit.amount", "withdrawal.amount", By("account", "account")),
    },
    parameters={"keep": Parameter(3, USDX)},
    values={},
    surplus="found - keep",
    carry=Carry.SURPLUS,
    guardrails=Guardrails(),
    split=ProRata("stake"),
    exclude=(),
    body="",
    content_hash=bytes(32),
)


def changed(**changes: Any) -> Rule:
    return dataclasses.replace(RULE, **changes)


def test_compile_rule__sound__knows_what_each_event_does():
    plan = compile_rule(RULE)
    assert {name: [(e.input, e.sign, e.account) for e in effects] for name, effects in plan.effects.items()} == {
        "fee": [("found", 1, None)],
        "deposit": [("stake", 1, "account")],
        "withdrawal": [("stake", -1, "account")],
    }
    assert plan.contracts() == {"vault", "pool"}
    binding = Binding("eip155:1", AssetId("x"), A, {"vault": B, "pool": B})
    assert plan.selects("fee", {"token": A, "amount": 1}, binding)
    assert not plan.selects("fee", {"token": B, "amount": 1}, binding)
    assert plan.selects("deposit", {}, binding)


NO_FEES = {"deposit": IN, "withdrawal": OUT}
STAKE = TimeWeighted("deposit.amount", "withdrawal.amount", By("account", "account"))


@pytest.mark.parametrize(
    ("changes", "trail", "problem"),
    [
        ({"name": "Fees"}, "rule", "small letters"),
        ({"version": 0}, "version", "count from 1"),
        ({"trigger": Every(0)}, "window.every", "a second at least"),
        ({"trigger": Blocks(0)}, "window.blocks", "one block at least"),
        ({"trigger": Each("fe")}, "window.each", "no event `fe`"),
        ({"inputs": {**RULE.inputs, "X": Read("vault", "total()")}}, "inputs.X", "small letters"),
        ({"parameters": {"found": Parameter(1)}}, "parameters.found", "already the name"),
        ({"surplus": "found - kep"}, "surplus", "unknown name `kep`"),
        ({"surplus": "found - stake"}, "surplus", "table by account"),
        ({"surplus": "found > 3"}, "surplus", "amount<USDX> is due"),
        ({"events": {**RULE.events, "fee": dataclasses.replace(FEE, where="token")}}, "events.fee.where", "is due"),
        (
            {"events": {**RULE.events, "fee": dataclasses.replace(FEE, where="tokn == asset")}},
            "events.fee.where",
            "tokn",
        ),
        ({"events": {**RULE.events, "fee": RuleEvent(("vault",), "FeePaid")}}, "events.fee.event", "not an event"),
        ({"events": {**RULE.events, "fee": RuleEvent(("vault",), "F(uint7 amount)")}}, "events.fee.event", "`uint7`"),
        ({"events": {**RULE.events, "fee": RuleEvent(("vault",), "F(uint a, bool a)")}}, "events.fee.event", "twice"),
        ({"events": {**RULE.events, "extra": FEE}}, "events.extra", "no input uses"),
        (
            {"events": {**RULE.events, "fee": RuleEvent(("vault",), "F(uint amount, bool keep)", "keep")}},
            "events.fee.event",
            "name of something else",
        ),
        ({"inputs": {**RULE.inputs, "found": Sum("fee.amont")}}, "inputs.found.sum", "`fee.amont`"),
        ({"inputs": {**RULE.inputs, "found": Sum("3")}}, "inputs.found.sum", "the fields of one event"),
        (
            {"inputs": {**RULE.inputs, "found": Sum("fee.amount + deposit.amount")}},
            "inputs.found.sum",
            "the fields of one event",
        ),
        ({"inputs": {**RULE.inputs, "found": Sum("fee.token")}}, "inputs.found.sum", "an address"),
        (
            {
                "inputs": {
                    **RULE.inputs,
                    "stake": TimeWeighted("deposit.amount", "withdrawal.amount", By("account", "amount")),
                }
            },
            "inputs.stake.time_weighted.by",
            "no field `amount` that is an address",
        ),
        (
            {"inputs": {**RULE.inputs, "debt": Read("vault", "total(")}},
            "inputs.debt.read.function",
            "no function",
        ),
        ({"split": ProRata("found")}, "split.pro_rata", "not an input that holds a table"),
        ({"split": Shares(((A, 9999),))}, "split.shares", "9999 bps"),
        ({"split": Shares(((A, 10_000), (B, 0)))}, "split.shares.1.bps", "one bps"),
        ({"split": Shares(((Address(bytes(20)), 10_000),))}, "split.shares.0.to", "burns"),
        ({"split": Equal(())}, "split.equal", "nobody"),
        ({"carry": Carry.NONE}, "carry", "would be forgotten"),
        ({"inputs": {**RULE.inputs, "held": Balance("vault")}}, "carry", "count twice"),
        ({"guardrails": Guardrails(lot=0)}, "guardrails.lot", "one atom"),
        ({"guardrails": Guardrails(cap_per_epoch=5, lot=6)}, "guardrails.lot", "ever be paid"),
        ({"guardrails": Guardrails(cap_per_epoch=5, minimum_total=6)}, "guardrails.minimum_total", "ever be paid"),
        (
            {"guardrails": Guardrails(cap_per_epoch=5, minimum_per_recipient=6)},
            "guardrails.minimum_per_recipient",
            "ever be paid",
        ),
    ],
)
def test_compile_rule__makes_no_sense__refused_at_its_place(changes: dict[str, Any], trail: str, problem: str):
    with pytest.raises(RuleMistake) as caught:
        compile_rule(changed(**changes))
    assert ".".join(caught.value.trail) == trail
    assert problem in caught.value.problem


def test_compile_rule__committed__counts_releases():
    rule = changed(
        events={**NO_FEES, "release": FEE},
        inputs={"stake": STAKE, "held": Balance("vault"), "committed": Committed("release.amount")},
        surplus="held - committed",
        carry=Carry.NONE,
    )
    assert [effect.input for effect in compile_rule(rule).effects["release"]] == ["committed"]


def test_parse_declaration__solidity__fields_in_order():
    shape = parse_declaration("event Paid(bytes32 indexed id, address indexed to, uint256 amount, bool, string note);")
    assert shape.name == "Paid"
    assert list(shape.fields.items()) == [
        ("id", "bytes32"),
        ("to", "address"),
        ("amount", "uint256"),
        ("field3", "bool"),
        ("note", "string"),
    ]
    assert not parse_declaration("Paused()").fields


@pytest.mark.parametrize(
    "text", ["", "Paid", "Paid(uint256 amount", "Paid(uint256[] a)", "Paid((uint256) a)", "P(int9 a)"]
)
def test_parse_declaration__not_for_rules__refused(text: str):
    with pytest.raises(ExpressionError):
        parse_declaration(text)


RATE = Read("vault", "convertToAssets(uint256)", USDX, (10**18,))


@pytest.mark.parametrize(
    ("mark", "inputs", "same"),
    [
        ("rate", {}, True),
        ("rate", {"rate": Read("vault", "index()", USDX)}, False),
        ("rate", {"rate": Read("other", "convertToAssets(uint256)", USDX, (10**18,))}, False),
        ("rate", {"rate": Read("vault", "convertToAssets(uint256)", USDX, (10**6,))}, False),
        ("rate", {"found": Sum("fee.amount * 2")}, True),  # no mark is held against it
        ("found", {"found": Sum("fee.amount * 2")}, False),
        ("found", {"rate": Read("vault", "index()", USDX)}, True),
    ],
)
def test_remembers__what_a_mark_is_held_against_changed__another_rule(mark: str, inputs: dict[str, Input], same: bool):
    marked = dataclasses.replace(RULE, inputs={**RULE.inputs, "rate": RATE, "best": HighWater(mark)})
    newer = dataclasses.replace(marked, version=2, inputs={**marked.inputs, **inputs})
    assert (compile_rule(newer).remembers() == compile_rule(marked).remembers()) is same
