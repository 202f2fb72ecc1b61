"""What must be true of an EVM vault when the faults have ended, whatever happened before.

no double payment    the chain executed each batch once, and nobody got more than was decided for him
no lost payout       nobody got less, and what was decided is what the chain's own fees were
given up             only what a person gave up, and nothing of that was paid
books                debits = credits, nothing pending, a full reconciliation finds nothing
rows                 final or given up, every nonce of the chain has its slot, every transition was told in order
transactions         what a node was sent was saved, and what the chain executed is what the attempts say

Nonces that only a person can explain (a stranger's, and after a restore our own without an event) have a break each,
and their gas, to the atom, is the one thing that the books do not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bridge.domain.breaks import BreakKind
from bridge.domain.confirmations import Confirmation
from bridge.domain.ledger import gas_code
from bridge.domain.units import UINT256_MAX, Address, hexed
from bridge.stages.reconcile import Reconcile
from bridge.store.database import Database
from tests.chaos.network import ACCOUNTS, Network, Sent
from tests.chaos.rows import check_books, check_payments, check_told, check_transactions, read_rows
from tests.chaos.trouble import Fault
from tests.stages.books import OPERATOR

_, REPLACEMENT = ACCOUNTS
ENTITLED = "SELECT account, cumulative FROM entitlements"
SLOTS = """
    SELECT n.account, n.first_nonce, array_agg(s.nonce) FILTER (WHERE s.state = 'settled') AS nonces
      FROM senders n LEFT JOIN slots s USING (chain, account) GROUP BY 1, 2
"""
DISOWNED = """
    -- Attempts that were saved already when their nonce was said to be spent by a stranger
    SELECT s.nonce, t.tx_id
      FROM confirmations c
      JOIN LATERAL (
          SELECT slot_id, nonce FROM slots JOIN attempts b USING (slot_id)
           WHERE action_id = c.action_id AND b.signed_at < c.confirmed_at
             AND starts_with(c.reason, 'nonce ' || nonce || ' ')  -- slots may have been given to other steps since
           ORDER BY slot_id DESC LIMIT 1
      ) s ON TRUE
      JOIN attempts t ON t.slot_id = s.slot_id AND t.signed_at < c.confirmed_at
     WHERE c.to_state = 'quarantined' AND t.raw <> ''
"""

MAKE_REVERT = frozenset({
    Fault.REVERT,  # the world does
    Fault.STRANGER_BATCH,  # somebody else was faster
    Fault.APPROVAL_EXPIRED,  # between the pre-flight and its block
    Fault.VETO,
    Fault.RESTORE,  # what the database forgot was faster
})  # fmt: skip
"""Without these, none of our transactions may fail: it was sent although it had no use."""


async def judge(
    database: Database,
    reconciler: Reconcile,
    network: Network,
    told: Sequence[Confirmation],
    counts: Mapping[Fault, int],
) -> list[str]:
    """Everything that is wrong. `counts`: the trouble that came."""
    restored = counts.get(Fault.RESTORE, 0) > 0
    async with database.snapshot() as transaction:
        sql = transaction.connection
        rows = await read_rows(sql, network.fees_in)
        problems = list(rows.problems)
        entitled = {Address(one["account"]): one["cumulative"] for one in await sql.fetch(ENTITLED)}
        if entitled != network.claimable():
            problems.append(f"the newest tree gives {network.claimable()}, the rows say {entitled}")
        unexplained = [
            one
            for one in network.sent()
            if not (rows.attempts.get(one.tx_id) or one.has_event) and (restored or one.tx_id in network.strangers)
        ]
        problems += _nonces(network, [tuple(one) for one in await sql.fetch(SLOTS)], unexplained)
        mined = {one.tx_id for one in network.sent()}
        problems += [
            f"nonce {one['nonce']} was called a stranger's, and our attempt {hexed(one['tx_id'])[:10]} had spent it"
            for one in await sql.fetch(DISOWNED)
            if one["tx_id"] in mined
        ]
    strange = {one.tx_id for one in unexplained}
    problems += check_transactions(rows.attempts, mined, network.offered, strange, restored=restored)
    problems += check_payments(Counter(network.paid()), network.received(), rows.owed, rows.batches)
    # On the new branch a proposal may come later, or without its approval: what was open is shut then.
    shut_again = counts.get(Fault.REORG) and network.gate.auto_limit < UINT256_MAX
    if network.own_reverts() and not shut_again and not any(counts.get(kind) for kind in MAKE_REVERT):
        problems.append(f"{network.own_reverts()} of our transactions reverted: something was sent that had no use")
    problems += check_told(told)
    expected = _expected_breaks([one for one in unexplained if one.account == OPERATOR])
    # What was found of another key's account while that was the operator's is not looked at again.
    problems += check_books(await reconciler.run(full=True), expected, but_of=gas_code(REPLACEMENT))
    return problems


def _expected_breaks(unexplained: Sequence[Sent]) -> set[tuple[BreakKind, str, int | None]]:
    """One for each nonce that nothing explains, and one for their gas."""
    code = gas_code(OPERATOR)
    expected: set[tuple[BreakKind, str, int | None]] = {
        (BreakKind.UNEXPECTED_OUT, f"{code} nonce {one.nonce}", None) for one in unexplained
    }
    if unexplained:
        expected.add((BreakKind.UNEXPLAINED_BALANCE, code, -sum(one.fee_paid for one in unexplained)))
    return expected


def _nonces(
    network: Network, rows: Sequence[tuple[bytes, int, list[int] | None]], unexplained: Sequence[Sent]
) -> list[str]:
    """From the first on, a settled slot for each nonce that was spent, but for those that nothing explains."""
    problems = []
    for account, first, nonces in rows:
        spent = {one.nonce for one in network.sent() if one.account == account and one.nonce >= first}
        settled = set(nonces or ())
        strange = {one.nonce for one in unexplained if one.account == account}
        if settled != spent - strange:
            problems.append(f"0x{account.hex()[:8]}: nonces {spent} were spent, {strange} strangely, {settled} settled")
    return problems
