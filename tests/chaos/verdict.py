"""What must be true of a Solana vault when the faults have ended, whatever happened before.

no double payment    the chain paid each batch once, and nobody got more than was decided for him
no lost payout       nobody got less, and what was decided is what the chain's own fees were
given up             only what a person gave up, and nothing of that was paid
books                debits = credits, nothing pending, a full reconciliation finds nothing
rows                 final or given up, every transition was told in order
transactions         what an endpoint was sent was saved, and what the chain charged is what the attempts say

Charges that only a person can explain (a second database's failed transactions, and after a restore our own) are one
break over the operator's coins, to the lamport.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bridge.domain.breaks import BreakKind, Reconciliation
from bridge.domain.confirmations import Confirmation
from bridge.domain.ledger import gas_code
from bridge.domain.units import Address
from bridge.stages.reconcile import Reconcile
from bridge.store.database import Database
from tests.chaos.cluster import OPERATOR, Cluster, Deal
from tests.chaos.judge import (
    ARROWS,
    ATTEMPTS,
    BATCHES,
    DECISIONS,
    GIVEN_UP_BY_NOBODY,
    LOOSE,
    OWED,
    check_arrows,
    check_payments,
    check_told,
)
from tests.chaos.trouble import Fault

MAKE_FAIL = frozenset({
    Fault.ACCOUNT_FROZEN,  # between the simulation and the block
    Fault.ALLOWANCE,
    Fault.STRANGER_BATCH,  # somebody else was faster
    Fault.RESTORE,  # what the database forgot was faster
})  # fmt: skip
"""Without these, none of our transactions may fail: it was sent although it had no use."""
CHARGES = "SELECT tx_id, fee_paid, deposits FROM attempts WHERE final"


async def judge(
    database: Database,
    reconciler: Reconcile,
    cluster: Cluster,
    told: Sequence[Confirmation],
    counts: Mapping[Fault, int],
) -> list[str]:
    """Everything that is wrong. `counts`: the trouble that came."""
    problems: list[str] = []
    restored = counts.get(Fault.RESTORE, 0) > 0
    deals = cluster.deals()
    async with database.snapshot() as transaction:
        sql = transaction.connection
        for one in await sql.fetch(DECISIONS):
            fees = cluster.fees_in(one["window_start"], one["window_end"])
            if one["surplus"] != fees:
                problems.append(f"window {one['window_start']}: decided on {one['surplus']}, the fees were {fees}")
        owed = {Address(one["recipient"]): one["amount"] for one in await sql.fetch(OWED)}
        batches = Counter((one["distribution_id"], one["index"]) for one in await sql.fetch(BATCHES))
        row = await sql.fetchrow(LOOSE)
        assert row is not None
        problems += [f"{count} {name}" for name, count in row.items() if count]
        attempts = {one["tx_id"]: one["final"] for one in await sql.fetch(ATTEMPTS)}
        charges = {one["tx_id"]: one["fee_paid"] + one["deposits"] for one in await sql.fetch(CHARGES)}
        problems += [
            f"action {one['action_id']} was given up by nobody: {one['reason']}"
            for one in await sql.fetch(GIVEN_UP_BY_NOBODY)
        ]
        problems += check_arrows([tuple(one) for one in await sql.fetch(ARROWS)])
    unexplained = [
        one
        for one in deals
        if not (attempts.get(one.tx_id) or one.succeeded) and (restored or one.tx_id in cluster.strangers)
    ]
    problems += _transactions(cluster, deals, attempts, unexplained, restored=restored)
    problems += [
        f"0x{one.tx_id.hex()[:8]} cost {one.spent}, its attempt says {charges[one.tx_id]}"
        for one in deals
        if one.tx_id in charges and charges[one.tx_id] != one.spent
    ]
    problems += check_payments(cluster.paid(), cluster.received(), owed, batches)
    failed = sum(not one.succeeded for one in deals)
    if failed and not any(counts.get(kind) for kind in MAKE_FAIL):
        problems.append(f"{failed} of our transactions failed: something was sent that had no use")
    problems += check_told(told)
    result = await reconciler.run(full=True)
    problems += _breaks(result, sum(one.spent for one in unexplained))
    problems += [f"skipped: {check}" for check in result.skipped]
    return problems


def _transactions(
    cluster: Cluster,
    deals: Sequence[Deal],
    attempts: Mapping[bytes, bool],
    unexplained: Sequence[Deal],
    *,
    restored: bool,
) -> list[str]:
    """A restored database has forgotten what it saved; what took effect it must have found again."""
    final = {tx_id for tx_id, is_final in attempts.items() if is_final}
    charged = {one.tx_id for one in deals}
    missing = charged - final - {one.tx_id for one in unexplained}
    unsaved = set() if restored else cluster.offered - attempts.keys()
    return [
        *(f"0x{one.hex()[:8]} was sent and never saved" for one in sorted(unsaved)),
        *(f"0x{one.hex()[:8]} was charged and is no final attempt" for one in sorted(missing)),
        *(f"0x{one.hex()[:8]} is a final attempt and was not charged" for one in sorted(final - charged)),
    ]


def _breaks(result: Reconciliation, unexplained: int) -> list[str]:
    """One for what the operator was charged that nothing explains, and no other."""
    expected = {(BreakKind.UNEXPLAINED_BALANCE, gas_code(OPERATOR), -unexplained)} if unexplained else set()
    found = {(one.kind, one.subject, one.amount): one for one in result.breaks}
    problems = [f"break: {one}" for what, one in found.items() if what not in expected]
    problems += [f"no break names {what}" for what in sorted(expected - found.keys(), key=repr)]
    if not result.balanced and not result.breaks:
        problems.append("the reconciliation is not balanced")
    return problems
