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

from collections.abc import Mapping, Sequence

from bridge.domain.breaks import BreakKind
from bridge.domain.confirmations import Confirmation
from bridge.domain.ledger import gas_code
from bridge.domain.units import hexed
from bridge.stages.reconcile import Reconcile
from bridge.store.database import Database
from tests.chaos.cluster import OPERATOR, Cluster
from tests.chaos.rows import check_books, check_payments, check_told, check_transactions, read_rows
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
    restored = counts.get(Fault.RESTORE, 0) > 0
    deals = cluster.deals()
    async with database.snapshot() as transaction:
        sql = transaction.connection
        rows = await read_rows(sql, cluster.fees_in)
        charges = {one["tx_id"]: one["fee_paid"] + one["deposits"] for one in await sql.fetch(CHARGES)}
    problems = list(rows.problems)
    unexplained = [
        one
        for one in deals
        if not (rows.attempts.get(one.tx_id) or one.succeeded) and (restored or one.tx_id in cluster.strangers)
    ]
    charged, strange = {one.tx_id for one in deals}, {one.tx_id for one in unexplained}
    problems += check_transactions(rows.attempts, charged, cluster.offered, strange, restored=restored)
    problems += [
        f"{hexed(one.tx_id)[:10]} cost {one.spent}, its attempt says {charges[one.tx_id]}"
        for one in deals
        if one.tx_id in charges and charges[one.tx_id] != one.spent
    ]
    problems += check_payments(cluster.paid(), cluster.received(), rows.owed, rows.batches)
    failed = sum(not one.succeeded for one in deals)
    if failed and not any(counts.get(kind) for kind in MAKE_FAIL):
        problems.append(f"{failed} of our transactions failed: something was sent that had no use")
    problems += check_told(told)
    lost = sum(one.spent for one in unexplained)
    expected = {(BreakKind.UNEXPLAINED_BALANCE, gas_code(OPERATOR), -lost)} if lost else set()
    problems += check_books(await reconciler.run(full=True), expected)
    return problems
