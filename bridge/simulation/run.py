"""What the daemon's database says of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.domain.units import Address
from bridge.simulation.audit import Paid
from bridge.simulation.scenario import Decided
from bridge.store.database import Database, Transaction
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


async def unbooked(database: Database, chain: str, final: int) -> str | None:
    """What is final on the chain, through block (or slot) `final`, and not in the books yet, or None."""
    async with database.snapshot() as transaction:
        cursor = await transaction.chains.cursor("post", chain)
        if cursor is None or cursor[0] < final:
            return f"{chain} is posted through {cursor and cursor[0]}, final is {final}"
        if count := await transaction.bookings.unbooked_count(chain, final):
            return f"{count} facts without a journal"
    return None
