"""What a backtest found: sums by rule and recipient, and the newest epochs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.domain.decisions import Decision, Verdict
from bridge.domain.events import Block
from bridge.domain.ledger import Asset
from bridge.domain.units import Address, format_address, format_hash
from bridge.stages.binding import BoundRule

EPOCHS_SHOWN = 60
"""Newest epochs in the page; all of them are in epochs.csv."""

RECIPIENTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Plot:
    """A part of history: blocks `start` … `head`, all final."""

    start: Block
    head: Block


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    plot: Plot
    block: int  # everything up to here is done
    logs: int  # that a rule counted
    decisions: int


@dataclass(frozen=True, slots=True)
class Contest:
    """What is replayed. `companions` are other rules of the asset, for what they owe concerns a rule that asks."""

    rule: BoundRule
    against: BoundRule | None = None
    companions: Sequence[BoundRule] = ()

    def rules(self) -> Iterator[BoundRule]:
        yield from (self.rule, *([self.against] if self.against else []), *self.companions)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One decision, as far as tables and charts need it. Amounts in atoms."""

    start: int
    end: int
    block: int
    verdict: Verdict
    reason: str
    surplus: int
    total: int
    recipients: int
    carried_in: int
    carried_out: int
    left: int
    guards: Mapping[str, str]  # those that did not pass everything: limited or stopped
    decision_id: bytes

    @classmethod
    def of(cls, decision: Decision) -> Epoch:
        guards = json.loads(decision.artifact)["guardrails"]
        return cls(
            start=decision.window.start,
            end=decision.window.end,
            block=decision.block.number,
            verdict=decision.verdict,
            reason=decision.reason,
            surplus=decision.surplus,
            total=decision.total,
            recipients=len(decision.allocations),
            carried_in=decision.carried_in,
            carried_out=decision.carried_out,
            left=decision.left,
            guards={guard["name"]: guard["verdict"] for guard in guards if guard["verdict"] != "passed"},
            decision_id=decision.decision_id,
        )


@dataclass(frozen=True, slots=True)
class Word:
    """What a decision says, as far as two rules are compared."""

    end: int  # of the window
    verdict: str
    surplus: int
    total: int
    shares: Mapping[Address, int]

    @classmethod
    def of(cls, decision: Decision) -> Word:
        shares = {one.recipient: one.amount for one in decision.allocations}
        return cls(decision.window.end, decision.verdict.value, decision.surplus, decision.total, shares)


@dataclass(slots=True)
class Tally:
    """Sums over all epochs of one rule."""

    rule: BoundRule
    epochs: int = 0
    surplus: int = 0
    total: int = 0
    carried_out: int = 0  # after the newest epoch
    left: int = 0  # by the newest epoch
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    guards: Counter[tuple[str, str]] = field(default_factory=Counter)  # (name, limited or stopped)
    paid: defaultdict[Address, int] = field(default_factory=lambda: defaultdict(int))
    newest: deque[Epoch] = field(default_factory=lambda: deque(maxlen=EPOCHS_SHOWN))
    held: deque[Epoch] = field(default_factory=lambda: deque(maxlen=EPOCHS_SHOWN))

    def add(self, decision: Decision) -> Epoch:
        epoch = Epoch.of(decision)
        self.epochs += 1
        self.surplus += epoch.surplus
        self.total += epoch.total
        self.carried_out, self.left = epoch.carried_out, epoch.left
        self.verdicts[epoch.verdict] += 1
        self.guards.update(epoch.guards.items())
        for one in decision.allocations:
            self.paid[one.recipient] += one.amount
        self.newest.append(epoch)
        if epoch.verdict is Verdict.HOLD:
            self.held.append(epoch)
        return epoch

    def largest(self) -> list[tuple[Address, int]]:
        """Who got most; ties by address."""
        return sorted(self.paid.items(), key=lambda item: (-item[1], item[0]))[:RECIPIENTS_SHOWN]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished backtest."""

    plot: Plot
    asset: Asset
    logs: int
    tally: Tally
    against: Tally | None
    companions: tuple[str, ...]
    differing: int = 0  # epochs that the two rules decide differently

    def compared(self) -> list[tuple[Address, int, int]]:
        """(recipient, by the rule, by the other) where they differ in all; the largest difference first."""
        if self.against is None:
            return []
        mine, theirs = self.tally.paid, self.against.paid
        pairs = [(who, mine.get(who, 0), theirs.get(who, 0)) for who in mine.keys() | theirs.keys()]
        return sorted(
            (pair for pair in pairs if pair[1] != pair[2]), key=lambda pair: (-abs(pair[1] - pair[2]), pair[0])
        )


def summary(outcome: Outcome) -> dict[str, Any]:
    """What summary.json says. Amounts are strings of atoms."""
    plot, asset = outcome.plot, outcome.asset
    return {
        "chain": outcome.tally.rule.binding.reference,
        "asset": {"id": asset.id, "symbol": asset.symbol, "decimals": asset.decimals},
        "from": _stamp(plot.start),
        "to": _stamp(plot.head),
        "logs": outcome.logs,
        "companions": list(outcome.companions),
        "rule": _sums(outcome.tally),
        "against": None if outcome.against is None else {**_sums(outcome.against), "differing": outcome.differing},
    }


def _stamp(block: Block) -> dict[str, Any]:
    return {"block": block.number, "hash": format_hash(block.hash), "timestamp": block.timestamp}


def _sums(tally: Tally) -> dict[str, Any]:
    rule = tally.rule.plan.rule
    guards: dict[str, dict[str, int]] = {}
    for (name, verdict), count in sorted(tally.guards.items()):
        guards.setdefault(name, {})[verdict] = count
    return {
        "name": rule.name,
        "version": rule.version,
        "sha256": rule.content_hash.hex(),
        "epochs": tally.epochs,
        "verdicts": {verdict.value: tally.verdicts[verdict] for verdict in Verdict},
        "surplus": str(tally.surplus),
        "total": str(tally.total),
        "left": str(tally.left),
        "carried_out": str(tally.carried_out),
        "recipients": len(tally.paid),
        "largest": [{"recipient": format_address(who), "amount": str(amount)} for who, amount in tally.largest()],
        "guardrails": guards,
    }
