"""What is judged alike on every chain when the faults have ended: the rows of a database, by what the chain did.

Each chain's verdict says that in Counters and sets: what was executed, what was paid, what an endpoint was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.domain.breaks import BreakKind, Reconciliation
from bridge.domain.confirmations import Confirmation
from bridge.domain.states import ACTION_ARROWS, ActionState
from bridge.domain.units import Address, hexed

if TYPE_CHECKING:
    from bridge.store.connection import Connection

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
ATTEMPTS = "SELECT tx_id, final FROM attempts"
ARROWS = "SELECT action_id, from_state, to_state FROM confirmations ORDER BY confirmation_id"


@dataclass(frozen=True, slots=True)
class Rows:
    """What was decided, planned and saved. `problems` is what is wrong with the rows by themselves."""

    owed: Mapping[Address, int]  # atoms, but for what a person gave up
    batches: Counter[tuple[bytes, int]]  # (distribution, batch), but for those that a person gave up
    attempts: Mapping[bytes, bool]  # by transaction; whether it is final
    problems: Sequence[str]


async def read_rows(sql: Connection, fees_in: Callable[[int, int], int]) -> Rows:
    """`fees_in`: what the chain's own fees from one second until another were."""
    problems = []
    for one in await sql.fetch(DECISIONS):
        fees = fees_in(one["window_start"], one["window_end"])
        if one["surplus"] != fees:
            problems.append(f"window {one['window_start']}: decided on {one['surplus']}, the fees were {fees}")
    row = await sql.fetchrow(LOOSE)
    assert row is not None
    problems += [f"{count} {name}" for name, count in row.items() if count]
    problems += [
        f"action {one['action_id']} was given up by nobody: {one['reason']}"
        for one in await sql.fetch(GIVEN_UP_BY_NOBODY)
    ]
    problems += _check_arrows([tuple(one) for one in await sql.fetch(ARROWS)])
    return Rows(
        owed={Address(one["recipient"]): one["amount"] for one in await sql.fetch(OWED)},
        batches=Counter((one["distribution_id"], one["index"]) for one in await sql.fetch(BATCHES)),
        attempts={one["tx_id"]: one["final"] for one in await sql.fetch(ATTEMPTS)},
        problems=problems,
    )


def _check_arrows(rows: Sequence[tuple[int, str, str]]) -> list[str]:
    at: dict[int, ActionState] = {}
    problems = []
    for action, source, target in rows:
        was = at.get(action, ActionState.PLANNED)
        if was != source or ActionState(target) not in ACTION_ARROWS[was]:
            problems.append(f"action {action} went from {was} to {target}, said to be from {source}")
        at[action] = ActionState(target)
    return problems


def check_payments(
    paid: Counter[tuple[bytes, int]],
    received: Counter[Address],
    owed: Mapping[Address, int],
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


def check_transactions(
    attempts: Mapping[bytes, bool],
    happened: Collection[bytes],
    offered: Collection[bytes],
    unexplained: Collection[bytes],
    *,
    restored: bool,
) -> list[str]:
    """`happened`: the transactions that the chain charged us for; `offered`: those that any node was ever sent.

    A restored database has forgotten what it saved; what took effect it must have found again.
    """
    final = {tx_id for tx_id, is_final in attempts.items() if is_final}
    missing = set(happened) - final - set(unexplained)
    unsaved = set() if restored else set(offered) - attempts.keys()
    return [
        *(f"{hexed(one)[:10]} was sent and never saved" for one in sorted(unsaved)),
        *(f"{hexed(one)[:10]} was executed and is no final attempt" for one in sorted(missing)),
        *(f"{hexed(one)[:10]} is a final attempt and was not executed" for one in sorted(final - set(happened))),
    ]


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


def check_books(
    result: Reconciliation, expected: Collection[tuple[BreakKind, str, int | None]], *, but_of: str | None = None
) -> list[str]:
    """`result`, of a full reconciliation, has just the breaks (kind, subject, amount) that are `expected`; those about
    the account `but_of` do not count."""
    found = {
        (one.kind, one.subject, one.amount): one for one in result.breaks if but_of is None or but_of not in one.subject
    }
    problems = [f"break: {one}" for what, one in found.items() if what not in expected]
    problems += [f"no break names {what}" for what in sorted(set(expected) - found.keys(), key=repr)]
    if not result.balanced and not result.breaks:
        problems.append("the reconciliation is not balanced")
    return problems + [f"skipped: {check}" for check in result.skipped]
