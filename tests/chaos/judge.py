"""What must be true when the faults have ended, whatever happened before.

no double payment    the chain executed each batch once, and nobody got more than was decided for him
no lost payout       nobody got less, and what was decided is what the chain's own fees were
books                debits = credits, nothing pending, a full reconciliation finds nothing
rows                 final or given up, every nonce of the chain has its slot, every transition was told in order
transactions         what a node was sent was saved, and what the chain executed is what the attempts say
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bridge.domain.confirmations import Confirmation
from bridge.domain.states import ACTION_ARROWS, ActionState
from bridge.domain.units import Address
from bridge.stages.reconcile import Reconcile
from bridge.store.database import Database
from tests.chaos.daemon import WINDOW_S
from tests.chaos.network import Network
from tests.stages.books import CHAIN

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
OWED = "SELECT recipient, sum(amount) AS amount FROM allocations GROUP BY recipient"
BATCHES = "SELECT distribution_id, ordinal - 1 AS index FROM actions WHERE kind = 'execute'"
LOOSE = """
    SELECT (SELECT count(*) FROM slots WHERE state = 'live') AS "live slots",
           (SELECT count(*) FROM slots WHERE state = 'foreign') AS "foreign slots",
           (SELECT count(*) FROM payouts WHERE outcome IS NULL) AS "payouts without an outcome",
           (SELECT sum(debits_posted) - sum(credits_posted) FROM balances) AS "debits over credits",
           (SELECT sum(debits_pending) + sum(credits_pending) FROM balances) AS "pending"
"""
SLOTS = """
    SELECT n.account, n.first_nonce, n.next_nonce, count(*) AS slots
      FROM senders n JOIN slots s USING (chain, account) GROUP BY 1, 2, 3
"""
ATTEMPTS = "SELECT tx_id, final FROM attempts"
DISOWNED = """
    -- Attempts that were signed here, on nonces that were said to be spent by a stranger
    SELECT s.nonce, t.tx_id FROM confirmations c JOIN slots s USING (action_id) JOIN attempts t USING (slot_id)
     WHERE c.to_state = 'quarantined' AND c.reason LIKE 'nonce ' || s.nonce || ' %' AND t.raw <> ''
"""
ARROWS = "SELECT action_id, from_state, to_state FROM confirmations ORDER BY confirmation_id"


async def unsettled(database: Database, network: Network, closed: int, told: Sequence[Confirmation]) -> str | None:
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


async def books_are_open(database: Database) -> bool:
    async with database.snapshot() as transaction:
        return await transaction.chains.cursor("post", CHAIN) is not None


async def judge(
    database: Database, reconciler: Reconcile, network: Network, told: Sequence[Confirmation], *, reverts: bool
) -> list[str]:
    """Everything that is wrong. With `reverts` the world made transactions fail; without, none of ours may."""
    problems: list[str] = []
    async with database.snapshot() as transaction:
        sql = transaction.connection
        for one in await sql.fetch(DECISIONS):
            fees = network.fees_in(one["window_start"], one["window_end"])
            if one["surplus"] != fees:
                problems.append(f"window {one['window_start']}: decided on {one['surplus']}, the fees were {fees}")
        owed = {Address(one["recipient"]): one["amount"] for one in await sql.fetch(OWED)}
        batches = Counter((one["distribution_id"], one["index"]) for one in await sql.fetch(BATCHES))
        row = await sql.fetchrow(LOOSE)
        assert row is not None
        problems += [f"{count} {name}" for name, count in row.items() if count]
        problems += _nonces(network, [tuple(one) for one in await sql.fetch(SLOTS)])
        attempts = {one["tx_id"]: one["final"] for one in await sql.fetch(ATTEMPTS)}
        problems += _transactions(network, attempts)
        problems += [
            f"nonce {one['nonce']} was called a stranger's, and our attempt 0x{one['tx_id'].hex()[:8]} had spent it"
            for one in await sql.fetch(DISOWNED)
            if one["tx_id"] in network.mined()
        ]
        problems += _arrows([tuple(one) for one in await sql.fetch(ARROWS)])
    problems += _payments(network, owed, batches)
    if network.own_reverts() and not reverts:
        problems.append(f"{network.own_reverts()} of our transactions reverted: something was sent that had no use")
    problems += _told(told)
    result = await reconciler.run(full=True)
    problems += [f"break: {one}" for one in result.breaks]
    problems += [f"skipped: {check}" for check in result.skipped]
    if not result.balanced:
        problems.append("the reconciliation is not balanced")
    return problems


def _payments(network: Network, owed: dict[Address, int], batches: Counter[tuple[bytes, int]]) -> list[str]:
    paid, received = Counter(network.paid()), network.received()
    problems = [f"batch {key[1]} of {key[0].hex()[:8]} was paid {paid[key]} times" for key in paid if paid[key] > 1]
    problems += [f"batch {key[1]} of {key[0].hex()[:8]} was never paid" for key in batches if not paid[key]]
    problems += [f"batch {key[1]} of {key[0].hex()[:8]} was never planned" for key in paid if not batches[key]]
    return problems + [
        f"0x{who.hex()[:8]} got {received[who]}, was owed {owed.get(who, 0)}"
        for who in sorted(owed.keys() | received.keys())
        if received[who] != owed.get(who, 0)
    ]


def _transactions(network: Network, attempts: Mapping[bytes, bool]) -> list[str]:
    final, mined = {tx_id for tx_id, is_final in attempts.items() if is_final}, set(network.mined())
    return [
        *(f"0x{one.hex()[:8]} was sent and never saved" for one in sorted(network.offered - attempts.keys())),
        *(f"0x{one.hex()[:8]} was executed and is no final attempt" for one in sorted(mined - final)),
        *(f"0x{one.hex()[:8]} is a final attempt and was not executed" for one in sorted(final - mined)),
    ]


def _nonces(network: Network, rows: Sequence[tuple[bytes, int, int, int]]) -> list[str]:
    problems = []
    for account, first, following, slots in rows:
        spent = network.chain.state.get(("sequence", account), 0)
        if not following == spent == first + slots:
            problems.append(f"0x{account.hex()[:8]}: {spent} nonces spent, {following} given out, {slots} slots")
    return problems


def _arrows(rows: Sequence[tuple[int, str, str]]) -> list[str]:
    at: dict[int, ActionState] = {}
    problems = []
    for action, source, target in rows:
        was = at.get(action, ActionState.PLANNED)
        if was != source or ActionState(target) not in ACTION_ARROWS[was]:
            problems.append(f"action {action} went from {was} to {target}, said to be from {source}")
        at[action] = ActionState(target)
    return problems


def _told(told: Sequence[Confirmation]) -> list[str]:
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
