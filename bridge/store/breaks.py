"""Tables: reconciliations, checks and breaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.domain.breaks import CLEARS_ITSELF, Break, BreakKind, Check, Difference, Level, Reconciliation
from bridge.domain.errors import RefusedError
from bridge.domain.states import BreakState
from bridge.domain.units import AssetId, BlockStamp

if TYPE_CHECKING:
    from bridge.store.connection import Connection

START = "INSERT INTO reconciliations DEFAULT VALUES RETURNING reconciliation_id"

FINISH = """
    UPDATE reconciliations SET finished_at = clock_timestamp(), verdict = $2
     WHERE reconciliation_id = $1 AND finished_at IS NULL
    RETURNING reconciliation_id
"""

ADD_CHECKS = """
    INSERT INTO checks (reconciliation_id, level, chain, subject, asset, block_number, block_hash, expected, actual,
                        outcome, cause)
    SELECT $1, * FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::BIGINT[], $7::BYTEA[], $8::NUMERIC[],
                             $9::NUMERIC[], $10::TEXT[], $11::TEXT[])
"""

# Found again, a break is the same row: it keeps where and when it was first found, and what was evidence then stays.
OPEN_BREAKS = """
    INSERT INTO breaks AS known (last_seen, kind, chain, level, check_subject, subject, asset, amount, evidence,
                                 block_number, block_hash)
    SELECT $1, kind, chain, level, check_subject, subject, asset, amount, evidence::JSONB, block_number, block_hash
      FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::NUMERIC[], $9::TEXT[],
                  $10::BIGINT[], $11::BYTEA[], $12::BOOLEAN[])
           AS found (kind, chain, level, check_subject, subject, asset, amount, evidence, block_number, block_hash,
                     lasting)
     WHERE NOT (lasting AND EXISTS (
               SELECT FROM breaks b WHERE b.state = 'resolved' AND b.cleared_by IS NULL
                                      AND (b.kind, b.chain, b.subject) = (found.kind, found.chain, found.subject)))
    ON CONFLICT (kind, chain, subject, COALESCE(asset, '')) WHERE state <> 'resolved' DO UPDATE
       SET last_seen = excluded.last_seen, amount = excluded.amount, evidence = known.evidence || excluded.evidence,
           level = excluded.level, check_subject = excluded.check_subject
"""

CLEAR = """
    UPDATE breaks b
       SET state = 'resolved', resolved_at = clock_timestamp(), cleared_by = k.check_id,
           resolution = concat_ws('; ', b.resolution, 'cleared by check ' || k.check_id)
      FROM checks k
     WHERE k.reconciliation_id = $1 AND k.outcome <> 'skipped'
       AND (k.chain, k.level, k.subject) = (b.chain, b.level, b.check_subject)
       AND (k.asset IS NULL OR k.asset = b.asset)
       AND b.state <> 'resolved' AND b.kind = ANY($2) AND b.last_seen IS DISTINCT FROM $1
    RETURNING b.break_id
"""

UNRESOLVED = """
    SELECT break_id, kind, chain, level, subject, asset, amount, state, evidence, block_number, block_hash, opened_at
      FROM breaks WHERE state <> 'resolved' ORDER BY break_id
"""

UNSEEN_OUTFLOW = """
    -- Only `open`: once a person has taken it up (assigned or explained it), payouts go on
    SELECT break_id FROM breaks WHERE chain = $1 AND kind = 'unexpected_out' AND state = 'open'
     ORDER BY break_id LIMIT 1
"""

EXPLAIN = """
    UPDATE breaks SET state = 'explained', resolution = $2 WHERE break_id = $1 AND state IN ('open', 'assigned')
    RETURNING break_id
"""
STATE = "SELECT state FROM breaks WHERE break_id = $1"

NOTIFY = "SELECT pg_notify('bridge', 'reconciliations')"


class Breaks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def unseen_outflow(self, chain: str) -> int | None:
        """The break of money that left without our intent and that no person has taken up yet, if there is one."""
        break_id: int | None = await self._connection.fetchval(UNSEEN_OUTFLOW, chain)
        return break_id

    async def start(self) -> int:
        """Note that a run begins; one that never finishes has no verdict."""
        reconciliation_id: int = await self._connection.fetchval(START)
        return reconciliation_id

    async def finish(self, reconciliation_id: int, checks: Sequence[Check]) -> Reconciliation:
        """Write what a run found: its checks, breaks opened, seen again or cleared, and the verdict."""
        await self._add_checks(reconciliation_id, checks)
        await self._open(reconciliation_id, checks)
        cleared = await self._connection.fetch(CLEAR, reconciliation_id, [str(kind) for kind in sorted(CLEARS_ITSELF)])
        result = Reconciliation(
            reconciliation_id=reconciliation_id,
            at=tuple(dict.fromkeys(check.at for check in checks)),
            checks=tuple(checks),
            breaks=tuple(await self.unresolved()),
            cleared=len(cleared),
        )
        verdict = "balanced" if result.balanced else "breaks"
        assert await self._connection.fetchval(FINISH, reconciliation_id, verdict) == reconciliation_id
        await self._connection.execute(NOTIFY)
        return result

    async def explain(self, break_id: int, explanation: str) -> None:
        """A person takes it up. Raises RefusedError where there is no such break, or it is not open any more."""
        if await self._connection.fetchval(EXPLAIN, break_id, explanation) is None:
            state = await self._connection.fetchval(STATE, break_id)
            raise RefusedError(
                f"there is no break {break_id}" if state is None else f"break {break_id} is {state} already"
            )
        await self._connection.execute(NOTIFY)

    async def unresolved(self) -> list[Break]:
        """Every break that is not resolved, oldest first."""
        return [
            Break(
                break_id=row["break_id"],
                kind=BreakKind(row["kind"]),
                chain=row["chain"],
                level=Level(row["level"]),
                subject=row["subject"],
                asset=None if row["asset"] is None else AssetId(row["asset"]),
                amount=row["amount"],
                state=BreakState(row["state"]),
                evidence=row["evidence"],
                at=BlockStamp(row["chain"], row["block_number"], row["block_hash"]),
                opened_at=row["opened_at"],
            )
            for row in await self._connection.fetch(UNRESOLVED)
        ]

    async def _add_checks(self, reconciliation_id: int, checks: Sequence[Check]) -> None:
        await self._connection.execute(
            ADD_CHECKS,
            reconciliation_id,
            [check.level for check in checks],
            [check.at.chain for check in checks],
            [check.subject for check in checks],
            [check.asset for check in checks],
            [check.at.number for check in checks],
            [check.at.hash for check in checks],
            [check.expected for check in checks],
            [check.actual for check in checks],
            [check.outcome for check in checks],
            [check.cause for check in checks],
        )

    async def _open(self, reconciliation_id: int, checks: Sequence[Check]) -> None:
        found: dict[tuple[str, str, str, str | None], tuple[Check, Difference]] = {}
        for check in checks:
            for item in check.differences:
                found.setdefault((item.kind, check.at.chain, item.subject, item.asset), (check, item))
        await self._connection.execute(
            OPEN_BREAKS,
            reconciliation_id,
            [item.kind for _, item in found.values()],
            [check.at.chain for check, _ in found.values()],
            [check.level for check, _ in found.values()],
            [check.subject for check, _ in found.values()],
            [item.subject for _, item in found.values()],
            [item.asset for _, item in found.values()],
            [item.amount for _, item in found.values()],
            [json.dumps(item.evidence, sort_keys=True, separators=(",", ":")) for _, item in found.values()],
            [check.at.number for check, _ in found.values()],
            [check.at.hash for check, _ in found.values()],
            [item.lasting for _, item in found.values()],
        )
