"""Table: interventions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from bridge.domain.interventions import Answer, Intervention, InterventionKind, objection, told
from bridge.domain.payouts import Action
from bridge.domain.states import ActionState

if TYPE_CHECKING:
    from bridge.store.connection import Connection

OPEN = """
    SELECT i.intervention_id, i.action_id, i.kind, i.reason, i.ordered_by, a.state
      FROM interventions i JOIN actions a USING (action_id)
     WHERE a.chain = $1 AND i.answer IS NULL
     ORDER BY i.intervention_id
"""
LOCK_ACTION = "SELECT state FROM actions WHERE action_id = $1 FOR UPDATE"
OPEN_ORDER = "SELECT kind, ordered_by, ordered_at FROM interventions WHERE action_id = $1 AND answer IS NULL"
ORDER = """
    INSERT INTO interventions (action_id, kind, reason, ordered_by) VALUES ($1, $2, $3, $4) RETURNING intervention_id
"""
HOLD = "UPDATE actions SET state = 'held', reason = $2, updated_at = now() WHERE action_id = $1 AND state = 'planned'"
ANSWER = """
    UPDATE interventions SET answer = $2, answer_reason = $3, answered_at = now()
     WHERE intervention_id = $1 AND answer IS NULL
"""
# A release that came later means: pay it after all.
CANCELLED = """
    SELECT kind, ordered_by, reason FROM interventions
     WHERE action_id = $1 AND answer = 'done' AND kind IN ('cancel', 'release')
     ORDER BY intervention_id DESC LIMIT 1
"""
OF_DISTRIBUTION = """
    SELECT i.action_id, i.kind, i.reason, i.ordered_by, i.ordered_at, i.answer, i.answer_reason, i.answered_at
      FROM interventions i JOIN actions a USING (action_id)
     WHERE $1::BYTEA IS NULL OR a.distribution_id = $1
     ORDER BY i.intervention_id
"""
NOTIFY = "SELECT pg_notify('bridge', 'interventions')"


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order as people see it. Times are the database's."""

    action_id: int
    kind: str
    reason: str
    ordered_by: str
    ordered_at: datetime
    answer: str | None  # None while it is open
    answer_reason: str | None
    answered_at: datetime | None


class Interventions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def open(self, chain: str) -> list[Intervention]:
        return [
            Intervention(
                row["intervention_id"],
                row["action_id"],
                InterventionKind(row["kind"]),
                row["reason"],
                row["ordered_by"],
                ActionState(row["state"]),
            )
            for row in await self._connection.fetch(OPEN, chain)
        ]

    async def order(self, action: Action, kind: InterventionKind, reason: str, by: str) -> str | None:
        # Locked first: no stage moves the action between the look at its state and the order.
        state = ActionState(await self._connection.fetchval(LOCK_ACTION, action.action_id))
        refused = objection(kind, state)
        if refused is not None:
            return refused
        waiting = await self._connection.fetchrow(OPEN_ORDER, action.action_id)
        if waiting is not None:
            since = f"{waiting['ordered_at']:%Y-%m-%d %H:%M:%S} UTC"
            return f"an order to {waiting['kind']} by {waiting['ordered_by']} waits for the daemon since {since}"
        intervention_id = await self._connection.fetchval(ORDER, action.action_id, kind, reason, by)
        if kind is InterventionKind.HOLD:
            await self._connection.execute(HOLD, action.action_id, told("held", by, reason))
            await self._connection.execute(ANSWER, intervention_id, Answer.DONE, None)
        await self._connection.execute(NOTIFY)
        return None

    async def cancelled(self, action_id: int) -> str | None:
        row = await self._connection.fetchrow(CANCELLED, action_id)
        if row is None or row["kind"] != InterventionKind.CANCEL:
            return None
        return told("cancelled", row["ordered_by"], row["reason"])

    async def done(self, intervention: Intervention) -> None:
        await self._connection.execute(ANSWER, intervention.intervention_id, Answer.DONE, None)

    async def refuse(self, intervention: Intervention, reason: str) -> None:
        await self._connection.execute(ANSWER, intervention.intervention_id, Answer.REFUSED, reason)

    # ── for people ──
    async def ordered(self, distribution_id: bytes | None = None) -> list[Ordered]:
        """Every order (of one distribution), oldest first."""
        return [Ordered(**row) for row in await self._connection.fetch(OF_DISTRIBUTION, distribution_id)]
