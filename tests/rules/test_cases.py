"""Every golden case of every shipped rule: events in, decision out.

A case is read like this: `accounts` gives short names to addresses. `windows` follow one another, each as long as the
rule says. An event is [name, seconds into the window, fields]; addresses may be short names, `USDX` or the names of
contracts. `reads` answers balance and read inputs. `expect` is compared key by key with the decision, amounts as text.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.accumulators import Key, Source, State, advance, count_sources, touches
from bridge.domain.artifacts import POOL
from bridge.domain.decisions import Decision, Verdict, decide
from bridge.domain.events import Block, Event, Log, Value
from bridge.domain.measurements import Facts, measure
from bridge.domain.readings import Reading
from bridge.domain.rules import Binding, Plan, parse_declaration
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.domain.windows import Every, Window
from bridge.runtime.rulefile import load_rule

RULES = Path(__file__).resolve().parents[2] / "rules"
CASES = sorted(RULES.glob("*/cases/*.json"))
WORLD = {
    "USDX": "0x" + "dd" * 20,
    "OTHER": "0x" + "ee" * 20,
    "vault": "0x" + "aa" * 20,
    "pool": "0x" + "bb" * 20,
    "obligations": "0x" + "cc" * 20,
}
BLOCK_SECONDS = 12
BINDING = Binding(
    reference="eip155:31337",
    asset=AssetId(f"eip155:31337/erc20:{WORLD['USDX']}"),
    token=Address(bytes.fromhex(WORLD["USDX"][2:])),
    contracts={name: Address(bytes.fromhex(WORLD[name][2:])) for name in ("vault", "pool", "obligations")},
)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_case__events_in__decision_out(path: Path):
    case = json.loads(path.read_text())
    plan = load_rule(path.parents[1] / "rule.yaml", contracts=BINDING.contracts, tokens={"USDX"})
    names = {**WORLD, **case.get("accounts", {})}
    for number, (expected, decision) in enumerate(zip(case["windows"], replay(plan, case, names), strict=True)):
        found = describe(decision, names)
        assert {key: found[key] for key in expected["expect"]} == expected["expect"], f"window {number}"
        assert decision.carried_in + decision.surplus == decision.total + decision.carried_out + decision.left


@pytest.mark.parametrize(
    "folder", sorted(path for path in RULES.iterdir() if path.is_dir()), ids=lambda path: path.name
)
def test_rule_folder__shipped__is_complete(folder: Path):
    plan = load_rule(folder / "rule.yaml")
    assert plan.rule.name == folder.name
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")
    assert len(list((folder / "cases").glob("*.json"))) >= 5


def replay(plan: Plan, case: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Decision]:
    """The decisions that the daemon would make, in memory."""
    assert isinstance(plan.rule.trigger, Every)
    every = plan.rule.trigger.seconds
    window = Window(1000 * every, 1001 * every)
    states: dict[Key, State] = {}
    carried: Mapping[Address, int] = {}
    owed = 0
    last_paid_end: int | None = None
    for step in case["windows"]:
        events = [made(plan, window, entry, index, names) for index, entry in enumerate(step.get("events", []))]
        selected = [event for event in events if plan.selects(event.source, event.fields, BINDING)]
        moved = [touch for event in selected for touch in touches(plan, event)]
        states |= advance(plan, window, moved, states)
        sources: dict[str, Source] = count_sources(window, selected, {})
        reads = {name: Reading(int(value), {}) for name, value in step.get("reads", {}).items()}
        last = (window.end - 1) // BLOCK_SECONDS
        facts = Facts(
            start_block=0,
            first_block=window.start // BLOCK_SECONDS,
            block=Block(last, last.to_bytes(32, "big"), bytes(32), last * BLOCK_SECONDS),
            counted_from=window.start,
            inputs=measure(plan, window, states, reads, owed + sum(carried.values())),
            sources=sources,
            last_paid_end=last_paid_end,
            paid_before=0,
        )
        decision = decide(plan, BINDING, window, facts, carried)
        assert decide(plan, BINDING, window, facts, carried).artifact == decision.artifact
        yield decision
        carried = decision.carries
        owed += decision.total
        last_paid_end = window.end if decision.verdict is Verdict.PAY else last_paid_end
        window = Window(window.end, window.end + every)


def made(plan: Plan, window: Window, entry: Any, index: int, names: Mapping[str, str]) -> Event:
    name, seconds, given = entry
    at = window.start + seconds
    stamp = BlockStamp("test", at // BLOCK_SECONDS, (at // BLOCK_SECONDS).to_bytes(32, "big"))
    source = plan.rule.events[name]
    log = Log(stamp, index, bytes(32), 0, BINDING.contracts[source.contracts[0]], (), b"", at)
    fields: dict[str, Value] = {}
    for field, kind in parse_declaration(source.declaration).fields.items():
        value = given.get(field, 0)
        if kind == "address":
            fields[field] = bytes.fromhex(names.get(value or "USDX", str(value))[2:])
        else:
            fields[field] = bytes(32) if kind == "bytes32" else int(value)
    return Event(name, log, fields)


def describe(decision: Decision, names: Mapping[str, str]) -> dict[str, Any]:
    short = {bytes.fromhex(address[2:]): name for name, address in names.items()} | {POOL: "pool"}
    artifact = json.loads(decision.artifact)
    return {
        "verdict": decision.verdict.value,
        "reason": decision.reason,
        "surplus": str(decision.surplus),
        "total": str(decision.total),
        "left": str(decision.left),
        "pays": {short.get(one.recipient, one.recipient.hex()): str(one.amount) for one in decision.allocations},
        "paid_from_carry": {short[one.recipient]: str(one.carried_in) for one in decision.allocations},
        "carries": {short.get(account, account.hex()): str(amount) for account, amount in decision.carries.items()},
        "guardrails": {guard["name"]: guard["verdict"] for guard in artifact["guardrails"]},
        "events": {name: event["count"] for name, event in artifact["events"].items()},
        "inputs": {name: each["value"] for name, each in artifact["inputs"].items() if "value" in each},
    }
