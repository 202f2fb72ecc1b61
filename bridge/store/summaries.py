"""Distributions as people see them, each with its steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.store.connection import Connection

SUMMARIES = """
    SELECT p.distribution_id, p.decision_id, p.chain, p.rule, p.asset, p.total, p.recipients, p.batches, p.leg, v.state,
           d.window_start, d.window_end, paid.paid_total, paid.credited_total, paid.claimable_total
      FROM distributions p
      JOIN decisions d USING (decision_id)
      JOIN distribution_states v USING (distribution_id)
      LEFT JOIN LATERAL (
          SELECT COALESCE(sum(amount) FILTER (WHERE outcome = 'paid'), 0) AS paid_total,
                 COALESCE(sum(amount) FILTER (WHERE outcome = 'credited'), 0) AS credited_total,
                 COALESCE(sum(amount) FILTER (WHERE outcome = 'claimable'), 0) AS claimable_total
            FROM payouts o WHERE o.distribution_id = p.distribution_id
      ) AS paid ON TRUE
     WHERE $1::BYTEA IS NULL OR p.distribution_id = $1
     ORDER BY d.window_end, p.rule
"""
STEPS = """
    SELECT a.action_id, a.distribution_id, a.ordinal, a.kind, a.state, a.reason, a.updated_at,
           CASE k.kind WHEN 'evm' THEN s.nonce END AS nonce,  -- elsewhere it is a number of ours
           t.tx_id, COALESCE(n.attempts, 0) AS attempts
      FROM actions a JOIN chains k ON k.chain = a.chain
      -- the newest slot tells the story; older ones were spent by others
      LEFT JOIN LATERAL (
          SELECT * FROM slots WHERE action_id = a.action_id ORDER BY slot_id DESC LIMIT 1
      ) AS s ON TRUE
      LEFT JOIN LATERAL (
          SELECT * FROM attempts WHERE slot_id = s.slot_id ORDER BY (block_number IS NULL), ordinal DESC LIMIT 1
      ) AS t ON TRUE
      LEFT JOIN LATERAL (SELECT count(*) AS attempts FROM attempts WHERE slot_id = s.slot_id) AS n ON TRUE
     WHERE $1::BYTEA IS NULL OR a.distribution_id = $1
     ORDER BY a.distribution_id, a.ordinal
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One action with its newest slot and the attempt that counts."""

    action_id: int
    distribution_id: bytes
    ordinal: int
    kind: str
    state: str
    reason: str | None  # held: why; otherwise what it waits for
    updated_at: datetime
    nonce: int | None
    tx_id: bytes | None  # the included attempt, else the latest
    attempts: int  # of the newest slot


@dataclass(frozen=True, slots=True)
class Summary:
    """One distribution."""

    distribution_id: bytes
    decision_id: bytes
    chain: str
    rule: str
    asset: str
    total: int  # atoms
    recipients: int
    batches: int
    leg: str
    state: str
    window_start: int  # seconds, chain time; half-open
    window_end: int
    paid_total: int  # atoms that reached their recipients
    credited_total: int  # atoms that wait for a withdrawal by their recipients
    claimable_total: int  # atoms that its accounts may claim, or have claimed
    steps: tuple[Step, ...]

    @property
    def tx_ids(self) -> tuple[bytes, ...]:
        return tuple(step.tx_id for step in self.steps if step.tx_id is not None)


class Summaries:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, distribution_id: bytes | None = None) -> list[Summary]:
        """All distributions, or one, in order of window end and rule."""
        steps: dict[bytes, list[Step]] = {}
        for row in await self._connection.fetch(STEPS, distribution_id):
            steps.setdefault(row["distribution_id"], []).append(Step(**row))
        return [
            Summary(**row, steps=tuple(steps.get(row["distribution_id"], ())))
            for row in await self._connection.fetch(SUMMARIES, distribution_id)
        ]
