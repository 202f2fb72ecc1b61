"""What a simulation found out, and how it is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.domain.payouts import Leg
from bridge.domain.reports import count_of
from bridge.domain.units import Address, format_address, format_amount, format_tx, hexed
from bridge.simulation.audit import Paid
from bridge.simulation.scenario import Decided
from bridge.store.database import Transaction
from bridge.store.payouts import Summary
from bridge.store.status import Status

PAYOUTS = """
    SELECT p.distribution_id, a.address AS token, p.recipient, p.amount, p.outcome
      FROM payouts p JOIN distributions d USING (distribution_id) JOIN assets a ON a.asset = d.asset
     ORDER BY p.distribution_id, p.recipient
"""
DECISIONS = """
    SELECT decision_id, chain, rule, window_start, window_end, surplus, carried_in + carried_out AS carried
      FROM decisions ORDER BY chain, rule, window_start
"""
ALLOCATIONS = """
    SELECT d.decision_id, p.recipient, p.amount FROM payouts p JOIN distributions d USING (distribution_id)
"""
SYMBOLS = "SELECT asset, symbol, decimals FROM assets"
BREAKS = """
    SELECT kind, subject, asset, amount, state, evidence FROM breaks WHERE state <> 'resolved' ORDER BY break_id
"""
# From the moment the last block of the window was seen to the moment the last payout of it was final, both by the
# database's clock: what a participant waits for.
LATENCIES = """
    SELECT (extract(epoch FROM max(c.confirmed_at) - max(b.added_at)) * 1000)::BIGINT AS latency_ms
      FROM distributions p
      JOIN decisions d USING (decision_id)
      JOIN blocks b ON b.chain = d.chain AND b.number = d.block_number AND b.hash = d.block_hash
      JOIN actions a USING (distribution_id)
      JOIN confirmations c ON c.action_id = a.action_id AND c.to_state = 'final'
     GROUP BY p.distribution_id
     ORDER BY latency_ms
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What the daemon's database says of a run."""

    status: Status
    distributions: tuple[Summary, ...]
    payouts: tuple[Paid, ...]
    decided: dict[tuple[str, str], list[Decided]]  # by chain and rule, in order of windows
    symbols: dict[str, tuple[str, int]]  # asset → symbol, decimals
    breaks: tuple[dict[str, Any], ...]
    latencies_ms: tuple[int, ...]  # ascending, one a distribution

    @classmethod
    async def read(cls, transaction: Transaction) -> Run:
        fetch = transaction.connection.fetch
        return cls(
            status=await transaction.status.read(),
            distributions=tuple(await transaction.payouts.summaries()),
            payouts=tuple([Paid(**row) for row in await fetch(PAYOUTS)]),
            decided=_decided(await fetch(DECISIONS), await fetch(ALLOCATIONS)),
            symbols={row["asset"]: (row["symbol"], row["decimals"]) for row in await fetch(SYMBOLS)},
            breaks=tuple([dict(row) for row in await fetch(BREAKS)]),
            latencies_ms=tuple([row["latency_ms"] for row in await fetch(LATENCIES)]),
        )

    def figures(self) -> dict[str, int]:
        return {
            "events": sum(chain.finalized_logs for chain in self.status.chains),
            "blocks": sum((chain.head_number or 0) - chain.start_block + 1 for chain in self.status.chains),
            "payouts": len(self.payouts),
            "latency_p50_ms": percentile(self.latencies_ms, 50),
            "latency_p95_ms": percentile(self.latencies_ms, 95),
        }


def _decided(decisions: Sequence[Any], allocations: Sequence[Any]) -> dict[tuple[str, str], list[Decided]]:
    paid: defaultdict[bytes, dict[Address, int]] = defaultdict(dict)
    for row in allocations:
        paid[row["decision_id"]][Address(row["recipient"])] = row["amount"]
    found: defaultdict[tuple[str, str], list[Decided]] = defaultdict(list)
    for row in decisions:
        window = (row["window_start"], row["window_end"])
        found[row["chain"], row["rule"]].append(
            Decided(window, row["surplus"], row["carried"], paid[row["decision_id"]])
        )
    return found


def percentile(ascending: tuple[int, ...], percent: int) -> int:
    """The smallest value that at least `percent` of a hundred values do not exceed (nearest rank); 0 of nothing."""
    if not ascending:
        return 0
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(rank, 1) - 1]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at in the report's folder, and on the chain for it. No `problems`: all is as the report says."""

    files: int
    blocks: int
    balances: int
    problems: tuple[str, ...]

    def line(self) -> str:
        return (
            f"verified: {count_of(self.files, 'file')} whole offline; on the chain, "
            f"{count_of(self.blocks, 'block')} and {count_of(self.balances, 'balance')} are as the report says"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict of a run and what it rests on. `reasons` says why it is not balanced; empty means balanced."""

    seed: int
    epochs: int
    reasons: tuple[str, ...]
    sandbox: dict[str, Any]  # what sandbox.json says
    directory: Path
    report_directory: Path
    run: Run
    figures: dict[str, int]
    happened: tuple[str, ...]  # see telling.py
    verification: Verification | None  # None where no report was written

    @property
    def balanced(self) -> bool:
        return not self.reasons

    def lines(self) -> Iterable[str]:
        """The run in plain lines, verdict last."""
        several = len({summary.chain for summary in self.run.distributions}) > 1
        for summary in self.run.distributions:
            where = f" on {summary.chain}" if several else ""
            symbol, decimals = self.run.symbols[summary.asset]
            how = f"in {count_of(summary.batches, 'batch')}" if summary.leg == Leg.PUSH else "to be claimed"
            yield (
                f"{summary.rule}{where}: {format_amount(summary.total, decimals)} {symbol} to {summary.recipients} "
                f"recipients {how}, {summary.state}  0x{summary.distribution_id.hex()[:16]}…"
            )
        figures = self.figures
        yield (
            f"{figures['events']} events, {figures['payouts']} payouts, {figures['reorgs']} reorgs, "
            f"{figures['wall_time_ms'] / 1000:.1f} s; from closing block to final payout: "
            f"p50 {figures['latency_p50_ms']} ms, p95 {figures['latency_p95_ms']} ms"
        )
        if self.happened:
            yield "on the way, and where the report shows it:"
        for sentence in self.happened:
            yield f"  {sentence}"
        yield f"report: {self.report_directory / 'report.html'}"
        if self.verification is not None and not self.verification.problems:
            yield self.verification.line()
        for reason in self.reasons:
            yield f"NOT BALANCED: {reason}"
        if self.balanced:
            yield f"balanced: seed {self.seed}; every distribution is final, every unit is explained, no break is open"

    def to_json(self) -> dict[str, Any]:
        """Amounts are strings of atoms, ids 0x hex, transactions as their chain writes them."""
        return {
            "verdict": "balanced" if self.balanced else "not balanced",
            "reasons": list(self.reasons),
            **self.sandbox,
            "seed": self.seed,
            "epochs": self.epochs,
            "distributions": [self._distribution(summary) for summary in self.run.distributions],
            "breaks": [
                row | {"amount": None if row["amount"] is None else str(row["amount"])} for row in self.run.breaks
            ],
            "figures": self.figures,
            "happened": list(self.happened),
            "verified": self.verification is not None and not self.verification.problems,
            "directory": str(self.directory),
            "report_dir": str(self.report_directory),
        }

    def _distribution(self, summary: Summary) -> dict[str, Any]:
        return {
            "id": hexed(summary.distribution_id),
            "decision": hexed(summary.decision_id),
            "chain": summary.chain,
            "rule": summary.rule,
            "token": self.run.symbols[summary.asset][0],
            "asset": summary.asset,
            "total": str(summary.total),
            "window_start": summary.window_start,
            "window_end": summary.window_end,
            "recipients": summary.recipients,
            "batches": summary.batches,
            "leg": summary.leg,
            "tx_hashes": [format_tx(tx_id) for tx_id in summary.tx_ids],
            "status": summary.state,
            "payouts": [
                {"recipient": format_address(paid.recipient), "amount": str(paid.amount), "outcome": paid.outcome}
                for paid in self.run.payouts
                if paid.distribution_id == summary.distribution_id
            ],
        }
