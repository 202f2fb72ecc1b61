"""From what a window measured to who gets what: a pure function, with its reasons.

measurements ─► surplus formula ─► cooldown ─► cap ─► lot ─► minimum total ─► split ─► minimum per recipient ─► Decision

    carried_in + surplus = total + carried_out + left

Nothing is dropped on the way. Surplus that is not paid is carried (key POOL) or, for rules that read a balance, left
where the next window finds it. What a split gave to a recipient and is not paid is carried as owed to that recipient.

The artifact is canonical JSON (sorted keys, no spaces, amounts as strings of digits); its sha256 is the decision's id.
It says where each name of the rule's text points, and names nothing else as a configuration does: with the rule's text
and a node it can be made again, and every machine writes the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.domain.accumulators import SCALAR, Key, Source, State, sum_of, weights_of
from bridge.domain.events import Block
from bridge.domain.rules import (
    Balance,
    Binding,
    Carry,
    Committed,
    Input,
    Plan,
    ProRata,
    Read,
    Shares,
    Split,
    Sum,
    TimeWeighted,
    Window,
)
from bridge.domain.splits import NoWeights, by_shares, equal, pro_rata
from bridge.domain.units import UINT256_MAX, Address, AssetId, format_address

FORMAT = "bridge.decision/1"
POOL = Address(b"")
"""The key of carried surplus that no recipient has yet."""


class Verdict(StrEnum):
    PAY = "pay"  # total > 0
    CARRY = "carry"  # something is there, and a guardrail keeps it for later
    NOTHING = "nothing"  # nothing was found and nothing is carried
    HOLD = "hold"  # something a person should look at; what was found is kept as if carried


@dataclass(frozen=True, slots=True)
class Measurement:
    """The value of one input. `weights` for a table, in amount × seconds by account."""

    value: int = 0
    weights: Mapping[Address, int] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)  # what the value was made of, where it is not read as such
    problem: str | None = None  # why it cannot be relied on


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision rests on. Every measurement is of finalized data up to and including `block`."""

    start_block: int  # balances are counted from here on
    first_block: int  # the logs behind the sources are in blocks first_block … block.number
    block: Block  # the window's last
    inputs: Mapping[str, Measurement]
    sources: Mapping[str, Source]  # by event; those without events are left out
    last_paid_end: int | None  # end of the last window that paid, for the cooldown


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a recipient gets now; `carried_in` of it was found in earlier windows."""

    recipient: Address
    amount: int
    carried_in: int


@dataclass(frozen=True, slots=True)
class Guard:
    """What one guardrail said: the amount before and after it, in atoms."""

    name: str
    limit: int
    verdict: str  # passed, limited, stopped
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What the bridge does about one window of one rule."""

    rule: str
    version: int
    asset: AssetId
    window: Window
    block: Block
    verdict: Verdict
    reason: str
    surplus: int  # found in this window, before guardrails
    total: int  # Σ allocations
    carried_in: int  # Σ carries before
    carried_out: int  # Σ carries after
    left: int  # found, and left in the balance it was found in
    allocations: tuple[Allocation, ...]  # by recipient, ascending
    carries: Mapping[Address, int]  # after; POOL for surplus without recipient
    artifact: bytes = field(repr=False)

    @property
    def decision_id(self) -> bytes:
        """sha256 of the artifact, 32 bytes."""
        return hashlib.sha256(self.artifact).digest()


def measure(
    plan: Plan, window: Window, states: Mapping[Key, State], reads: Mapping[str, int], owed: int
) -> dict[str, Measurement]:
    """The value of every input at the end of `window`.

    `states` holds every accumulator of the rule, `reads` what was read at the window's block by input, `owed` all that
    was ever decided in the asset, and all that is carried, by whatever rule.
    """
    measured: dict[str, Measurement] = {}
    for name, source in plan.rule.inputs.items():
        scalar = states.get((name, SCALAR), State())
        match source:
            case Sum():
                measured[name] = Measurement(sum_of(scalar, window))
            case TimeWeighted():
                table = {account: state for (held, account), state in states.items() if held == name}
                measured[name] = _measure_table(table, scalar, window)
            case Committed():
                value = owed - scalar.value
                short = "more was released than decisions account for: was the vault used by something else?"
                parts = {"owed": owed, "released": scalar.value}
                measured[name] = Measurement(value, parts=parts, problem=short if value < 0 else None)
            case _:
                measured[name] = Measurement(reads[name])
    return measured


def _measure_table(table: Mapping[Address, State], broken: State, window: Window) -> Measurement:
    if not broken.value:
        return Measurement(weights=weights_of(table, window))
    below = sorted(format_address(account) for account, state in table.items() if state.value < 0)
    problem = (
        f"{broken.value} events took an account below zero{f', {below[0]} still is' if below else ''}: "
        "the chain was not read from the first deposit on, so set start_block earlier and use a new database"
    )
    return Measurement(problem=problem)


class _Undecidable(Exception):
    """The surplus is not known, or nobody can be given it."""


@dataclass(slots=True)
class _Outcome:
    """The decision under way. Invariant once finished: see the module's docstring."""

    carried: Mapping[Address, int]
    verdict: Verdict = Verdict.NOTHING
    reason: str = ""
    raw: int | None = None  # the formula's result, before a shortfall became no surplus
    surplus: int = 0
    shares: Mapping[Address, int] = field(default_factory=dict)
    paid: Mapping[Address, int] = field(default_factory=dict)
    pool: int = 0  # what was split
    guards: list[Guard] = field(default_factory=list)

    def guard(self, name: str, limit: int, before: int, after: int) -> int:
        verdict = "passed" if after == before else "limited" if after else "stopped"
        self.guards.append(Guard(name, limit, verdict, before, after))
        return after


def decide(plan: Plan, binding: Binding, window: Window, facts: Facts, carried: Mapping[Address, int]) -> Decision:
    """The decision of `plan` about `window`. `carried` is what earlier windows left, by recipient, all positive.

    Equal arguments give equal bytes. Never raises for anything that the chain can cause: that is a held decision.
    """
    assert set(facts.inputs) == set(plan.rule.inputs)
    assert all(amount > 0 for amount in carried.values())
    outcome = _Outcome(carried)
    try:
        outcome.surplus = _surplus(plan, facts, carried, outcome)
        _apply_guardrails(plan, binding, window, facts, outcome)
    except _Undecidable as problem:
        outcome.verdict, outcome.reason = Verdict.HOLD, str(problem)
        outcome.shares, outcome.paid, outcome.pool = {}, {}, 0
    return _finish(plan, binding, window, facts, outcome)


def _surplus(plan: Plan, facts: Facts, carried: Mapping[Address, int], outcome: _Outcome) -> int:
    """The formula's result; a shortfall is no surplus. Raises _Undecidable where the result cannot be known."""
    rule = plan.rule
    for name in plan.surplus.names:
        measured = facts.inputs.get(name)
        if measured is None:
            continue  # a parameter
        if measured.problem is not None:
            raise _Undecidable(f"{name}: {measured.problem}")
        if not -UINT256_MAX <= measured.value <= UINT256_MAX:
            raise _Undecidable(f"{name} does not fit 256 bits")
    values = {**rule.parameters, **{name: measured.value for name, measured in facts.inputs.items()}}
    try:
        raw = plan.surplus.evaluate(values)
    except ArithmeticError as error:
        raise _Undecidable(f"the surplus cannot be calculated: {error}") from None
    assert isinstance(raw, int)
    outcome.raw = raw
    if raw + sum(carried.values()) > UINT256_MAX:
        raise _Undecidable("the surplus and what is carried do not fit 256 bits")
    return max(raw, 0)


def _apply_guardrails(plan: Plan, binding: Binding, window: Window, facts: Facts, outcome: _Outcome) -> None:
    """Set verdict, reason, pool, shares and paid. Raises _Undecidable where nobody can be given the surplus."""
    limits, carried = plan.rule.guardrails, outcome.carried
    available = outcome.surplus + carried.get(POOL, 0)
    named = {recipient: amount for recipient, amount in carried.items() if recipient != POOL}
    if limits.cooldown_s and facts.last_paid_end is not None:
        until = facts.last_paid_end + limits.cooldown_s
        waiting = available + sum(named.values())
        if outcome.guard("cooldown", limits.cooldown_s, waiting, waiting if window.end >= until else 0) < waiting:
            _rest(outcome, available, named, f"cooldown: no payment in a window that ends before {until}")
            return
    pool = available
    if limits.cap_per_epoch is not None:
        pool = outcome.guard("cap_per_epoch", limits.cap_per_epoch, pool, min(pool, limits.cap_per_epoch))
    if limits.lot > 1:
        pool = outcome.guard("lot", limits.lot, pool, pool // limits.lot * limits.lot)
    claimed = pool + sum(named.values())
    if limits.minimum_total:
        enough = claimed >= limits.minimum_total
        if outcome.guard("minimum_total", limits.minimum_total, claimed, claimed if enough else 0) < claimed:
            _rest(outcome, available, named, f"{claimed} to pay is below the minimum of {limits.minimum_total}")
            return
    shares = _split(plan.rule.split, pool, facts)
    outcome.pool, outcome.shares = pool, shares
    outcome.paid = _payable(
        plan, binding, outcome, {who: named.get(who, 0) + shares.get(who, 0) for who in named.keys() | shares.keys()}
    )
    if outcome.paid:
        outcome.verdict = Verdict.PAY
        count = len(outcome.paid)
        outcome.reason = f"{sum(outcome.paid.values())} to {count} recipient{'s' if count > 1 else ''}"
    elif available and not pool:
        _rest(outcome, available, named, f"{available} is less than a lot")
    else:
        _rest(outcome, available, named, "what each is owed is too little to pay")


def _payable(plan: Plan, binding: Binding, outcome: _Outcome, owed: Mapping[Address, int]) -> Mapping[Address, int]:
    """Who of those who are owed something is paid now, and how much; the rest stays owed to them by name."""
    limits = plan.rule.guardrails
    if not binding.never_paid.isdisjoint(owed):
        whole = sum(owed.values())
        owed = {who: amount for who, amount in owed.items() if who not in binding.never_paid}
        outcome.guard("never_paid", 0, whole, sum(owed.values()))
    paid = {who: amount for who, amount in owed.items() if amount >= limits.minimum_per_recipient}
    total = sum(paid.values())
    if limits.minimum_per_recipient:
        outcome.guard("minimum_per_recipient", limits.minimum_per_recipient, sum(owed.values()), total)
    if limits.cap_per_epoch is not None and total > limits.cap_per_epoch:
        paid = _within(paid, limits.cap_per_epoch, limits.minimum_per_recipient)
        total = outcome.guard("cap_per_epoch_with_carries", limits.cap_per_epoch, total, sum(paid.values()))
    if 0 < total < limits.minimum_total:
        outcome.guard("minimum_total_of_payable", limits.minimum_total, total, 0)
        return {}
    return paid


def _rest(outcome: _Outcome, available: int, named: Mapping[Address, int], reason: str) -> None:
    """Nothing is paid: carried where there is something, else nothing."""
    if available or named:
        outcome.verdict, outcome.reason = Verdict.CARRY, reason
    elif outcome.raw is not None and outcome.raw < 0:
        outcome.verdict, outcome.reason = Verdict.NOTHING, f"no surplus: {-outcome.raw} short"
    else:
        outcome.verdict, outcome.reason = Verdict.NOTHING, "no surplus"


def _split(split: Split, pool: int, facts: Facts) -> Mapping[Address, int]:
    if pool == 0:
        return {}
    match split:
        case Shares(shares):
            return by_shares(pool, shares)
        case ProRata(name):
            measured = facts.inputs[name]
            if measured.problem is not None:
                raise _Undecidable(f"{name}: {measured.problem}")
            try:
                return pro_rata(pool, measured.weights)
            except NoWeights:
                raise _Undecidable(f"{name}: nobody has a weight in this window, so {pool} waits") from None
        case _:
            return equal(pool, split.recipients)


def _within(paid: Mapping[Address, int], cap: int, minimum: int) -> dict[Address, int]:
    """`paid`, cut to the cap, the largest first. Only carried shares can lift a sum above the cap."""
    kept: dict[Address, int] = {}
    for recipient, amount in sorted(paid.items(), key=lambda item: (-item[1], item[0])):
        part = min(amount, cap)
        if part >= max(minimum, 1):
            kept[recipient] = part
            cap -= part
    return kept


def _finish(plan: Plan, binding: Binding, window: Window, facts: Facts, outcome: _Outcome) -> Decision:
    """Who gets what, who is owed what afterwards, and the record of it all."""
    allocations, carries = _settle(outcome)
    unsplit = outcome.carried.get(POOL, 0) + outcome.surplus - outcome.pool
    left = unsplit if plan.rule.carry is Carry.NONE else 0
    if unsplit > left:
        carries[POOL] = unsplit
    total, carried_in, carried_out = (sum(table.values()) for table in (outcome.paid, outcome.carried, carries))
    assert carried_in + outcome.surplus == total + carried_out + left
    assert total == sum(one.amount for one in allocations)
    document = {
        **_describe_facts(plan, binding, window, facts),
        **_describe_outcome(outcome, allocations),
        "carried_in": {"total": str(carried_in), "by": _table(outcome.carried)},
        "carried_out": {"total": str(carried_out), "by": _table(carries)},
        "left": str(left),
        "surplus": {
            "formula": plan.surplus.text,
            "result": None if outcome.raw is None else str(outcome.raw),
            "found": str(outcome.surplus),
        },
        "total": str(total),
    }
    return Decision(
        rule=plan.rule.name,
        version=plan.rule.version,
        asset=binding.asset,
        window=window,
        block=facts.block,
        verdict=outcome.verdict,
        reason=outcome.reason,
        surplus=outcome.surplus,
        total=total,
        carried_in=carried_in,
        carried_out=carried_out,
        left=left,
        allocations=tuple(allocations),
        carries=carries,
        artifact=canonical(document),
    )


def _settle(outcome: _Outcome) -> tuple[list[Allocation], dict[Address, int]]:
    """Allocations by recipient, ascending, and what stays owed to named recipients."""
    carried, allocations = outcome.carried, []
    carries: dict[Address, int] = {}
    # The oldest surplus is split first, so the carried part of the pool is spread over the shares in proportion.
    from_pool = min(carried.get(POOL, 0), outcome.pool)
    older = pro_rata(from_pool, outcome.shares)
    for recipient in sorted(outcome.shares.keys() | carried.keys() - {POOL}):
        owed = carried.get(recipient, 0) + outcome.shares.get(recipient, 0)
        amount = outcome.paid.get(recipient, 0)
        if amount:
            earlier = carried.get(recipient, 0) + older.get(recipient, 0)
            allocations.append(Allocation(recipient, amount, min(earlier, amount)))
        if owed > amount:
            carries[recipient] = owed - amount
    return allocations, carries


# ── The artifact ────────────────────────────────────────────────────────────────────────────────────────────────────
def canonical(document: Any) -> bytes:
    """JSON with one way to write it: sorted keys, no spaces, ASCII. Floats are refused."""
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _refuse_floats(document: Any) -> None:
    if isinstance(document, float):
        raise TypeError("an artifact holds no floats")
    if isinstance(document, dict):
        for value in document.values():
            _refuse_floats(value)
    elif isinstance(document, (list, tuple)):
        for value in document:
            _refuse_floats(value)


def _describe_facts(plan: Plan, binding: Binding, window: Window, facts: Facts) -> dict[str, Any]:
    rule = plan.rule
    return {
        "format": FORMAT,
        "chain": binding.reference,
        "asset": binding.asset,
        "token": format_address(binding.token),
        "contracts": {name: format_address(address) for name, address in binding.contracts.items()},
        "never_paid": [format_address(account) for account in sorted(binding.never_paid)],
        "rule": {"name": rule.name, "version": rule.version, "sha256": rule.content_hash.hex()},
        "split": _describe_split(rule.split),
        "window": {"start": window.start, "end": window.end},
        "last_paid_end": facts.last_paid_end,
        "blocks": {
            "start": facts.start_block,
            "first": facts.first_block,
            "last": facts.block.number,
            "hash": "0x" + facts.block.hash.hex(),
            "timestamp": facts.block.timestamp,
        },
        "events": {
            name: {
                "contract": format_address(binding.contracts[event.contract]),
                "declaration": event.declaration,
                "where": event.where,
                **_describe_source(facts.sources.get(name)),
            }
            for name, event in rule.events.items()
        },
        "inputs": {
            name: _describe_input(rule.inputs[name], binding, measured) for name, measured in facts.inputs.items()
        },
        "parameters": {name: str(value) for name, value in rule.parameters.items()},
    }


def _describe_outcome(outcome: _Outcome, allocations: list[Allocation]) -> dict[str, Any]:
    return {
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
        "guardrails": [
            {
                "name": guard.name,
                "limit": str(guard.limit),
                "verdict": guard.verdict,
                "before": str(guard.before),
                "after": str(guard.after),
            }
            for guard in outcome.guards
        ],
        "allocations": [
            {"recipient": format_address(one.recipient), "amount": str(one.amount), "carried_in": str(one.carried_in)}
            for one in allocations
        ],
    }


def _describe_split(split: Split) -> dict[str, Any]:
    match split:
        case ProRata(name):
            return {"pro_rata": name}
        case Shares(shares):
            return {"shares": [{"to": format_address(recipient), "bps": bps} for recipient, bps in shares]}
        case _:
            return {"equal": [format_address(recipient) for recipient in split.recipients]}


def _describe_source(source: Source | None) -> dict[str, Any]:
    if source is None:
        return {"count": 0, "first": None, "last": None}
    return {"count": source.count, "first": list(source.first), "last": list(source.last)}


def _describe_input(source: Input, binding: Binding, measured: Measurement) -> dict[str, Any]:
    value: dict[str, Any] = {"value": str(measured.value)}
    value |= {part: str(amount) for part, amount in measured.parts.items()}
    match source:
        case Sum(amount):
            value["sum"] = amount
        case Committed(released):
            value["committed"] = released
        case Balance(contract):
            value["balance"] = format_address(binding.contracts[contract])
        case Read(contract, function):
            value["read"] = {"contract": format_address(binding.contracts[contract]), "function": function}
        case TimeWeighted(add, subtract, by):
            value = {
                "time_weighted": {"add": add, "subtract": subtract, "by": by},
                "total": str(sum(measured.weights.values())),
                "weights": _table(measured.weights),
            }
    return value if measured.problem is None else {**value, "problem": measured.problem}


def _table(amounts: Mapping[Address, int]) -> dict[str, str]:
    """By account; surplus without a recipient stands under `pool`."""
    return {
        "pool" if account == POOL else format_address(account): str(amount)
        for account, amount in sorted(amounts.items())
    }


# ── Holding stored rows against their record ────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Stored:
    """A decision as its rows tell it now: what was decided stands in the artifact, whose hash is the id."""

    decision_id: bytes
    rule: str
    version: int
    rule_hash: bytes  # as the table of rules has it
    rule_text_hash: bytes  # of the text as it is stored now
    asset: AssetId
    window: Window
    block_number: int
    block_hash: bytes
    verdict: str
    surplus: int
    total: int
    carried_in: int
    carried_out: int
    artifact: bytes
    allocations: Mapping[Address, tuple[int, int]]  # amount, carried_in
    planned: Mapping[Address, int] | None  # payouts of its distribution; None before it is planned
    planned_total: int | None


@dataclass(frozen=True, slots=True)
class RuleText:
    """A version of a rule that has decided, as it is stored."""

    rule: str
    version: int
    body: str
    window_start: int  # of the first window that it decided
    artifact: bytes  # of that decision


@dataclass(frozen=True, slots=True)
class Record:
    """What an artifact says of itself and of its neighbours."""

    stored: Stored
    contradictions: tuple[str, ...]  # what the rows say otherwise, by name
    first_block: int  # of the window; the last is the decision's
    carried_in: Mapping[str, str]
    carried_out: Mapping[str, str]


def compare_with_record(stored: Stored) -> Record:
    """Every word of the rows that the artifact does not bear out."""
    if hashlib.sha256(stored.artifact).digest() != stored.decision_id:
        return Record(stored, ("artifact",), stored.block_number, {}, {})
    told = json.loads(stored.artifact)
    rule_hash, rows = stored.rule_hash.hex(), stored.allocations
    pairs = {
        "rule": ([stored.rule, stored.version], [told["rule"]["name"], told["rule"]["version"]]),
        "rule text": ([rule_hash, stored.rule_text_hash.hex()], [told["rule"]["sha256"]] * 2),
        "asset": (stored.asset, told["asset"]),
        "window": ({"start": stored.window.start, "end": stored.window.end}, told["window"]),
        "block": (
            [stored.block_number, "0x" + stored.block_hash.hex()],
            [told["blocks"]["last"], told["blocks"]["hash"]],
        ),
        "block after the window": (told["blocks"]["timestamp"] >= stored.window.end, False),
        "verdict": (stored.verdict, told["verdict"]),
        "surplus": (str(stored.surplus), told["surplus"]["found"]),
        "total": (str(stored.total), told["total"]),
        "carried in": (str(stored.carried_in), told["carried_in"]["total"]),
        "carried out": (str(stored.carried_out), told["carried_out"]["total"]),
        "allocations": (
            {format_address(who): [str(part) for part in rows[who]] for who in rows},
            {one["recipient"]: [one["amount"], one["carried_in"]] for one in told["allocations"]},
        ),
    }
    if stored.planned is not None:
        paid = {format_address(who): str(amount) for who, amount in stored.planned.items()}
        pairs["payouts"] = (paid, {one["recipient"]: one["amount"] for one in told["allocations"]})
        pairs["distribution total"] = (str(stored.planned_total), told["total"])
    wrong = tuple(name for name, (row, record) in pairs.items() if row != record)
    return Record(stored, wrong, told["blocks"]["first"], told["carried_in"]["by"], told["carried_out"]["by"])


def follows(before: Record | None, record: Record) -> tuple[str, ...]:
    """What of two decisions of a rule, one after the other, does not join; `before` is None for its first."""
    gap = before is not None and (before.stored.window.end, before.stored.block_number + 1) != (
        record.stored.window.start,
        record.first_block,
    )
    lost = record.carried_in != (before.carried_out if before is not None else {})
    return (*(("window does not follow",) if gap else ()), *(("carried in is not what was left",) if lost else ()))


def carries_as_recorded(carries: Mapping[Address, int]) -> Mapping[str, str]:
    """Carried amounts as an artifact writes them."""
    return _table(carries)
