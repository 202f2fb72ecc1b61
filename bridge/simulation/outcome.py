"""The verdict of a run, in lines and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.domain.payouts import Leg
from bridge.domain.reports.wording import count_of
from bridge.domain.units import format_address, format_amount, format_tx, hexed
from bridge.simulation.run import Run
from bridge.store.summaries import Summary


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
