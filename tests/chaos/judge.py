"""What must be true when the faults have ended, whatever happened before.

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

from bridge.domain.breaks import BreakKind, Reconciliation
from bridge.domain.confirmations import Confirmation
from bridge.domain.ledger import gas_code
from bridge.domain.states import ACTION_ARROWS, ActionState
from bridge.domain.units import UINT256_MAX, Address
from bridge.stages.reconcile import Reconcile
from bridge.store.database import Database
from tests.chaos.daemon import WINDOW_S
from tests.chaos.network import ACCOUNTS, Network, Sent
from tests.chaos.trouble import Fault
from tests.stages.books import OPERATOR

_, REPLACEMENT = ACCOUNTS
WAITING = """
    SELECT (SELECT count(*) FROM actions WHERE state NOT IN ('final', 'void')) AS "actions",
           (SELECT count(*) FROM decisions d WHERE verdict = 'pay'
               AND NOT EXISTS (SELECT FROM distributions p WHERE p.decision_id = d.decision_id)) AS "orders",
           (SELECT count(*) FROM unbooked) AS "facts to book",
           (SELECT count(*) FROM confirmations) - $1 AS "transitions to tell",
           (SELECT $2 - COALESCE(max(window_end), 0) FROM decisions) AS "seconds to decide",
           (SELECT COALESCE(max(block_number), 0) FROM attempts WHERE final)
             - COALESCE((SELECT block_number FROM cursors WHERE stage = 'post'), -1) AS "blocks to post"
"""
REASONS = "SELECT DISTINCT state, reason FROM actions WHERE state NOT IN ('final', 'void') ORDER BY 1, 2"
LETTERS = "SELECT stage, error FROM dead_letters WHERE resolved_at IS NULL"
DECISIONS = "SELECT window_start, window_end, surplus FROM decisions ORDER BY window_start"
OWED = """
    SELECT l.recipient, sum(l.amount) AS amount
      FROM allocations l
     WHERE NOT EXISTS (
               SELECT FROM distributions d JOIN payouts p USING (distribution_id)
                 JOIN actions a ON a.distribution_id = p.distribution_id AND a.ordinal = p.batch_index + 1
                WHERE d.decision_id = l.decision_id AND p.recipient = l.recipient AND a.state = 'void')
     GROUP BY recipient
"""
ENTITLED = "SELECT account, cumulative FROM entitlements"
BATCHES = "SELECT distribution_id, ordinal - 1 AS index FROM actions WHERE kind = 'execute' AND state <> 'void'"
GIVEN_UP_BY_NOBODY = """
    -- With its proposal; the proposal of a tree with its activation
    SELECT a.action_id, a.reason FROM actions a JOIN distributions d USING (distribution_id)
     WHERE a.state = 'void' AND NOT EXISTS (
               SELECT FROM interventions i JOIN actions o USING (action_id)
                WHERE o.distribution_id = a.distribution_id AND (i.kind, i.answer) = ('cancel', 'done')
                  AND (o.action_id = a.action_id OR o.ordinal = 0 OR d.leg = 'claim'))
"""
LOOSE = """
    SELECT (SELECT count(*) FROM slots WHERE state = 'live') AS "live slots",
           (SELECT count(*) FROM payouts p
              JOIN actions a ON a.distribution_id = p.distribution_id AND a.ordinal = p.batch_index + 1
             WHERE (outcome IS NULL) <> (a.state = 'void')) AS "payouts with a wrong outcome",
           (SELECT sum(debits_posted) - sum(credits_posted) FROM balances) AS "debits over credits",
           (SELECT sum(debits_pending) + sum(credits_pending) FROM balances) AS "pending"
"""
SLOTS = """
    SELECT n.account, n.first_nonce, array_agg(s.nonce) FILTER (WHERE s.state = 'settled') AS nonces
      FROM senders n LEFT JOIN slots s USING (chain, account) GROUP BY 1, 2
"""
ATTEMPTS = "SELECT tx_id, final FROM attempts"
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
ARROWS = "SELECT action_id, from_state, to_state FROM confirmations ORDER BY confirmation_id"


async def unsettled(database: Database, closed: int, told: Sequence[Confirmation]) -> str | None:
    """What still has to come before a verdict, or None. Windows that had begun by second `closed` are to be decided."""
    last_end = (closed // WINDOW_S + 1) * WINDOW_S
    async with database.snapshot() as transaction:
        sql = transaction.connection
        row = await sql.fetchrow(WAITING, len({one.confirmation_id for one in told}), last_end)
        assert row is not None
        waits = {name: count for name, count in row.items() if count > 0}
        if not waits:
            return None
        reasons = [f"{one['state']}: {one['reason']}" for one in await sql.fetch(REASONS)]
        letters = [f"{one['stage']}: {one['error']}" for one in await sql.fetch(LETTERS)]
    return f"{waits}; {'; '.join(reasons)}; {'; '.join(letters)}"


BOOKS_ARE_OPEN = """
    SELECT EXISTS (SELECT FROM cursors WHERE stage = 'post') AND EXISTS (SELECT FROM senders WHERE account = $1)
"""


async def books_are_open(database: Database, operator: Address) -> bool:
    """Whether the daemon has begun to count what the operator's account does."""
    async with database.snapshot() as transaction:
        is_open: bool = await transaction.connection.fetchval(BOOKS_ARE_OPEN, operator)
        return is_open


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
    problems: list[str] = []
    restored = counts.get(Fault.RESTORE, 0) > 0
    async with database.snapshot() as transaction:
        sql = transaction.connection
        for one in await sql.fetch(DECISIONS):
            fees = network.fees_in(one["window_start"], one["window_end"])
            if one["surplus"] != fees:
                problems.append(f"window {one['window_start']}: decided on {one['surplus']}, the fees were {fees}")
        owed = {Address(one["recipient"]): one["amount"] for one in await sql.fetch(OWED)}
        batches = Counter((one["distribution_id"], one["index"]) for one in await sql.fetch(BATCHES))
        entitled = {Address(one["account"]): one["cumulative"] for one in await sql.fetch(ENTITLED)}
        if entitled != network.claimable():
            problems.append(f"the newest tree gives {network.claimable()}, the rows say {entitled}")
        row = await sql.fetchrow(LOOSE)
        assert row is not None
        problems += [f"{count} {name}" for name, count in row.items() if count]
        attempts = {one["tx_id"]: one["final"] for one in await sql.fetch(ATTEMPTS)}
        unexplained = [
            one
            for one in network.sent()
            if not (attempts.get(one.tx_id) or one.has_event) and (restored or one.tx_id in network.strangers)
        ]
        problems += _nonces(network, [tuple(one) for one in await sql.fetch(SLOTS)], unexplained)
        problems += _transactions(network, attempts, unexplained, restored=restored)
        problems += [
            f"action {one['action_id']} was given up by nobody: {one['reason']}"
            for one in await sql.fetch(GIVEN_UP_BY_NOBODY)
        ]
        problems += [
            f"nonce {one['nonce']} was called a stranger's, and our attempt 0x{one['tx_id'].hex()[:8]} had spent it"
            for one in await sql.fetch(DISOWNED)
            if one["tx_id"] in {sent.tx_id for sent in network.sent()}
        ]
        problems += check_arrows([tuple(one) for one in await sql.fetch(ARROWS)])
    problems += check_payments(Counter(network.paid()), network.received(), owed, batches)
    # On the new branch a proposal may come later, or without its approval: what was open is shut then.
    shut_again = counts.get(Fault.REORG) and network.gate.auto_limit < UINT256_MAX
    if network.own_reverts() and not shut_again and not any(counts.get(kind) for kind in MAKE_REVERT):
        problems.append(f"{network.own_reverts()} of our transactions reverted: something was sent that had no use")
    problems += check_told(told)
    result = await reconciler.run(full=True)
    problems += _breaks(result, [one for one in unexplained if one.account == OPERATOR])
    problems += [f"skipped: {check}" for check in result.skipped]
    return problems


def _breaks(result: Reconciliation, unexplained: Sequence[Sent]) -> list[str]:
    """One for each nonce that nothing explains, one for their gas, and no other."""
    code = gas_code(OPERATOR)
    expected: set[tuple[BreakKind, str, int | None]] = {
        (BreakKind.UNEXPECTED_OUT, f"{code} nonce {one.nonce}", None) for one in unexplained
    }
    if unexplained:
        expected.add((BreakKind.UNEXPLAINED_BALANCE, code, -sum(one.fee_paid for one in unexplained)))
    # What was found of another key's account while that was the operator's is not looked at again.
    found = {
        (one.kind, one.subject, one.amount): one for one in result.breaks if gas_code(REPLACEMENT) not in one.subject
    }
    problems = [f"break: {one}" for what, one in found.items() if what not in expected]
    problems += [f"no break names {what}" for what in sorted(expected - found.keys(), key=repr)]
    if not result.balanced and not result.breaks:
        problems.append("the reconciliation is not balanced")
    return problems


def check_payments(
    paid: Counter[tuple[bytes, int]],
    received: Counter[Address],
    owed: dict[Address, int],
    batches: Counter[tuple[bytes, int]],
) -> list[str]:
    problems = [f"batch {key[1]} of {key[0].hex()[:8]} was paid {paid[key]} times" for key in paid if paid[key] > 1]
    problems += [f"batch {key[1]} of {key[0].hex()[:8]} was never paid" for key in batches if not paid[key]]
    problems += [f"batch {key[1]} of {key[0].hex()[:8]} was never planned" for key in paid if not batches[key]]
    return problems + [
        f"0x{who.hex()[:8]} got {received[who]}, was owed {owed.get(who, 0)}"
        for who in sorted(owed.keys() | received.keys())
        if received[who] != owed.get(who, 0)
    ]


def _transactions(
    network: Network, attempts: Mapping[bytes, bool], unexplained: Sequence[Sent], *, restored: bool
) -> list[str]:
    """A restored database has forgotten what it saved; what took effect it must have found again."""
    final = {tx_id for tx_id, is_final in attempts.items() if is_final}
    mined = {one.tx_id for one in network.sent()}
    missing = mined - final - {one.tx_id for one in unexplained}
    unsaved = set() if restored else network.offered - attempts.keys()
    return [
        *(f"0x{one.hex()[:8]} was sent and never saved" for one in sorted(unsaved)),
        *(f"0x{one.hex()[:8]} was executed and is no final attempt" for one in sorted(missing)),
        *(f"0x{one.hex()[:8]} is a final attempt and was not executed" for one in sorted(final - mined)),
    ]


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


def check_arrows(rows: Sequence[tuple[int, str, str]]) -> list[str]:
    at: dict[int, ActionState] = {}
    problems = []
    for action, source, target in rows:
        was = at.get(action, ActionState.PLANNED)
        if was != source or ActionState(target) not in ACTION_ARROWS[was]:
            problems.append(f"action {action} went from {was} to {target}, said to be from {source}")
        at[action] = ActionState(target)
    return problems


def check_told(told: Sequence[Confirmation]) -> list[str]:
    """Each for the first time in order, for each action; repetitions are promised to be possible."""
    newest: dict[int, int] = {}
    seen: set[int] = set()
    problems = []
    for one in told:
        if one.confirmation_id in seen:
            continue
        seen.add(one.confirmation_id)
        if one.confirmation_id < newest.get(one.action_id, 0):
            problems.append(f"transition {one.confirmation_id} was told after {newest[one.action_id]}")
        newest[one.action_id] = one.confirmation_id
    return problems
