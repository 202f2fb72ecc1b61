"""From what a window measured to who gets what: a pure function, with its reasons.

measurements ─► values ─► surplus formula ─► cooldown ─► caps ─► lot ─► minimum total ─► split ─► minimum per recipient
─► approval ─► Decision

    carried_in + surplus = total + carried_out + left

Nothing is dropped on the way. Surplus that is not paid is carried (key POOL) or, for rules that read a balance, left
where the next window finds it. What a split gave to a recipient and is not paid is carried as owed to that recipient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.domain.accumulators import SCALAR, Key, State
from bridge.domain.artifacts import POOL, by_account, canonical, describe_facts, excluded
from bridge.domain.events import Block
from bridge.domain.measurements import Facts, Undecidable, evaluate
from bridge.domain.plans import Plan
from bridge.domain.rules import Binding, Carry, Equal, Legs, ProRata, Shares, To
from bridge.domain.splits import Leg, NoWeights, by_shares, capped, in_legs, pro_rata, without
from bridge.domain.units import UINT256_MAX, Address, AssetId, format_address
from bridge.domain.windows import Window


class Verdict(StrEnum):
    PAY = "pay"  # total > 0
    CARRY = "carry"  # something is there, and a guardrail keeps it for later
    NOTHING = "nothing"  # nothing was found and nothing is carried
    HOLD = "hold"  # something a person should look at; what was found is kept as if carried


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
    determined: bool  # whether the formula had a result; if not, the next window counts this one's events too
    approval: str | None  # why a person must look before it is paid
    artifact: bytes = field(repr=False)

    @property
    def decision_id(self) -> bytes:
        """sha256 of the artifact, 32 bytes."""
        return hashlib.sha256(self.artifact).digest()


def close(plan: Plan, window: Window, facts: Facts, decision: Decision) -> dict[Key, State]:
    """The states that change because a window ended: marks rise, once what was found above them is on record."""
    if not decision.determined:
        return {}
    raised: dict[Key, State] = {}
    for name in plan.marks:
        measured = facts.inputs[name]
        if measured.problem is None:
            raised[name, SCALAR] = State(max(measured.value, int(measured.parts["now"])), 0, window.end)
    return raised


@dataclass(slots=True)
class _Outcome:
    """The decision under way. Invariant once finished: see the module's docstring."""

    carried: Mapping[Address, int]
    verdict: Verdict = Verdict.NOTHING
    reason: str = ""
    values: dict[str, int] = field(default_factory=dict)  # the named steps, as far as they could be calculated
    raw: int | None = None  # the formula's result, before a shortfall became no surplus
    approval: str | None = None
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
    except Undecidable as problem:
        outcome.verdict, outcome.reason = Verdict.HOLD, str(problem)
        outcome.shares, outcome.paid, outcome.pool, outcome.approval = {}, {}, 0, None
    return _finish(plan, binding, window, facts, outcome)


def _surplus(plan: Plan, facts: Facts, carried: Mapping[Address, int], outcome: _Outcome) -> int:
    """The formula's result; a shortfall is no surplus. Raises Undecidable where the result cannot be known."""
    for name, expression in plan.values.items():
        outcome.values[name] = evaluate(expression, plan, facts.inputs, outcome.values, name)
    raw = evaluate(plan.surplus, plan, facts.inputs, outcome.values)
    outcome.raw = raw
    if raw + sum(carried.values()) > UINT256_MAX:
        outcome.raw = None
        raise Undecidable("the surplus and what is carried do not fit 256 bits")
    return max(raw, 0)


def _apply_guardrails(plan: Plan, binding: Binding, window: Window, facts: Facts, outcome: _Outcome) -> None:
    """Set verdict, reason, pool, shares and paid. Raises Undecidable where nobody can be given the surplus."""
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
    if limits.cap_total is not None:
        left = max(limits.cap_total - facts.paid_before - sum(named.values()), 0)
        pool = outcome.guard("cap_total", limits.cap_total, pool, min(pool, left))
    if limits.lot > 1:
        pool = outcome.guard("lot", limits.lot, pool, pool // limits.lot * limits.lot)
    claimed = pool + sum(named.values())
    if limits.minimum_total:
        enough = claimed >= limits.minimum_total
        if outcome.guard("minimum_total", limits.minimum_total, claimed, claimed if enough else 0) < claimed:
            _rest(outcome, available, named, f"{claimed} to pay is below the minimum of {limits.minimum_total}")
            return
    shares = _capped(plan, binding, pool, facts, _split(plan, binding, pool, facts))
    if limits.cap_per_recipient is not None:
        pool = outcome.guard("cap_per_recipient", limits.cap_per_recipient, pool, sum(shares.values()))
    outcome.pool, outcome.shares = pool, shares
    outcome.paid = _payable(
        plan, binding, outcome, {who: named.get(who, 0) + shares.get(who, 0) for who in named.keys() | shares.keys()}
    )
    if outcome.paid:
        outcome.verdict = Verdict.PAY
        count = len(outcome.paid)
        total = sum(outcome.paid.values())
        outcome.reason = f"{total} to {count} recipient{'s' if count > 1 else ''}"
        if limits.approve_above is not None:
            above = total > limits.approve_above
            outcome.guards.append(Guard("approve_above", limits.approve_above, _asks(above), total, total))
            outcome.approval = f"{total} is above approve_above of {limits.approve_above}" if above else None
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


def _asks(above: bool) -> str:
    return "asks" if above else "passed"


def _split(plan: Plan, binding: Binding, pool: int, facts: Facts) -> Mapping[Address, int]:
    """Raises Undecidable where nobody can be given the pool, or a part of it."""
    if pool == 0:
        return {}
    match plan.rule.split:
        case Shares(shares):
            return by_shares(pool, shares)
        case Legs(legs):
            parts = [
                Leg(_name_of(leg.split), leg.bps, _weights(plan, binding, leg.split, facts), leg.residual)
                for leg in legs
            ]
            try:
                return in_legs(pool, parts)
            except NoWeights as problem:
                raise Undecidable(f"{problem}, so {pool} waits") from None
        case part:
            weights = _weights(plan, binding, part, facts)
            try:
                return pro_rata(pool, weights)
            except NoWeights:
                raise Undecidable(f"{_name_of(part)}: nobody has a weight in this window, so {pool} waits") from None


def _capped(
    plan: Plan, binding: Binding, pool: int, facts: Facts, shares: Mapping[Address, int]
) -> Mapping[Address, int]:
    """The split under the cap. What is above it goes to the others by weight, in a split of one table; elsewhere it is
    carried, for the shares are the rule's word."""
    cap = plan.rule.guardrails.cap_per_recipient
    if cap is None or not shares:
        return shares
    match plan.rule.split:
        case ProRata() | Equal() as part:
            return capped(pool, _weights(plan, binding, part, facts), cap)[0]
        case _:
            return {who: min(share, cap) for who, share in shares.items()}


def _weights(plan: Plan, binding: Binding, part: ProRata | Equal | To, facts: Facts) -> Mapping[Address, int]:
    """Raises Undecidable where the table cannot be relied on."""
    match part:
        case To(recipient):
            return {recipient: 1}
        case Equal(recipients) if not isinstance(recipients, str):
            return without(dict.fromkeys(recipients, 1), excluded(plan, binding))
    name = _name_of(part)
    measured = facts.inputs[name]
    if measured.problem is not None:
        raise Undecidable(f"{name}: {measured.problem}")
    weights = without(measured.weights, excluded(plan, binding))
    return dict.fromkeys(weights, 1) if isinstance(part, Equal) else weights


def _name_of(part: ProRata | Equal | To) -> str:
    match part:
        case ProRata(name) | Equal(str(name)):
            return name
        case To(recipient):
            return format_address(recipient)
        case _:
            return "equal"


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
        **describe_facts(plan, binding, window, facts),
        **_describe_outcome(outcome, allocations),
        "carried_in": {"total": str(carried_in), "by": by_account(outcome.carried)},
        "carried_out": {"total": str(carried_out), "by": by_account(carries)},
        "left": str(left),
        "surplus": {
            "formula": plan.surplus.text,
            "result": None if outcome.raw is None else str(outcome.raw),
            "found": str(outcome.surplus),
        },
        "values": {
            name: {"formula": expression.text, "result": str(outcome.values[name]) if name in outcome.values else None}
            for name, expression in plan.values.items()
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
        determined=outcome.raw is not None,
        approval=outcome.approval,
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


def _describe_outcome(outcome: _Outcome, allocations: list[Allocation]) -> dict[str, Any]:
    return {
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
        "approval": outcome.approval,
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
