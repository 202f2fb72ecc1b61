"""Tables: reconciliations, checks, breaks and break_history, which the database writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from bridge.domain.breaks import (
    CLEARS_ITSELF,
    Break,
    BreakChange,
    BreakKind,
    Check,
    Difference,
    LastLook,
    Level,
    Reconciliation,
    why_unresolvable,
)
from bridge.domain.errors import RefusedError
from bridge.domain.interventions import told
from bridge.domain.states import BREAK_ARROWS, BreakState
from bridge.domain.units import AssetId, BlockStamp

if TYPE_CHECKING:
    import asyncpg

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
                                 block_number, block_hash, lasting, about_block, about_after, agreed_block)
    SELECT $1, kind, chain, level, check_subject, subject, asset, amount, evidence::JSONB, block_number, block_hash,
           lasting, about_block, about_after,
           CASE WHEN level IN ('balance', 'suspense') AND NOT EXISTS (
                         SELECT FROM breaks b WHERE b.state <> 'resolved' AND b.asset = found.asset
                            AND (b.kind, b.chain, b.subject) = (found.kind, found.chain, found.subject))
                THEN (SELECT k.block_number FROM checks k JOIN reconciliations r USING (reconciliation_id)
                       WHERE (k.chain, k.level, k.subject, k.asset)
                             = (found.chain, found.level, found.check_subject, found.asset)
                         AND k.outcome = 'agreed' AND k.block_number < found.block_number AND r.finished_at IS NOT NULL
                       ORDER BY k.reconciliation_id DESC LIMIT 1) END
      FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::NUMERIC[], $9::TEXT[],
                  $10::BIGINT[], $11::BYTEA[], $12::BOOLEAN[], $13::BIGINT[], $14::BIGINT[])
           AS found (kind, chain, level, check_subject, subject, asset, amount, evidence, block_number, block_hash,
                     lasting, about_block, about_after)
     WHERE NOT (lasting AND EXISTS (
               SELECT FROM breaks b WHERE b.state = 'resolved' AND b.cleared_by IS NULL
                                      AND (b.kind, b.chain, b.subject) = (found.kind, found.chain, found.subject)
                                      AND b.evidence @> found.evidence::JSONB))
    ON CONFLICT (kind, chain, subject, COALESCE(asset, '')) WHERE state <> 'resolved' DO UPDATE
       SET last_seen = greatest(known.last_seen, excluded.last_seen), amount = excluded.amount,
           evidence = known.evidence || excluded.evidence,
           level = excluded.level, check_subject = excluded.check_subject, lasting = excluded.lasting,
           about_block = excluded.about_block, about_after = excluded.about_after
"""

SETTLE = """
    UPDATE checks k SET outcome = 'agreed', cause = 'settled by a person: ' || k.cause
      FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[]) AS settled (chain, level, subject, asset)
     WHERE k.reconciliation_id = $1 AND k.outcome = 'broken'
       AND (k.chain, k.level, k.subject) = (settled.chain, settled.level, settled.subject)
       AND k.asset IS NOT DISTINCT FROM settled.asset
"""

CLEAR = """
    -- Not what a run found that began later: it has seen more than this one.
    UPDATE breaks b
       SET state = 'resolved', resolved_at = clock_timestamp(), cleared_by = k.check_id,
           resolution = concat_ws('; ', b.resolution, 'cleared by check ' || k.check_id)
      FROM checks k
     WHERE k.reconciliation_id = $1 AND k.outcome <> 'skipped'
       AND (k.chain, k.level, k.subject) = (b.chain, b.level, b.check_subject)
       AND (k.asset IS NULL OR k.asset = b.asset)
       AND b.state <> 'resolved' AND b.kind = ANY($2) AND COALESCE(b.last_seen, 0) < $1
    RETURNING b.break_id
"""

_BREAKS = """
    SELECT break_id, kind, chain, level, subject, asset, amount, state, evidence, block_number, block_hash, opened_at,
           lasting, assignee, resolved_at, resolution
      FROM breaks
"""
IN_STATES = f"{_BREAKS} WHERE state = ANY($1) ORDER BY break_id"
ONE = f"{_BREAKS} WHERE break_id = $1"
LOCKED = f"{ONE} FOR UPDATE"

HISTORY = """
    SELECT changed_at AS at, changed_by AS by, from_state, to_state, words
      FROM break_history WHERE break_id = $1 ORDER BY entry_id
"""

LAST_LOOK = """
    SELECT k.reconciliation_id, k.chain, k.block_number, k.block_hash,
           COALESCE(b.last_seen >= k.reconciliation_id, FALSE) AS found
      FROM breaks b
      JOIN checks k ON (k.chain, k.level, k.subject) = (b.chain, b.level, b.check_subject)
                   AND (k.asset IS NULL OR k.asset = b.asset) AND k.outcome <> 'skipped'
      JOIN reconciliations r ON r.reconciliation_id = k.reconciliation_id AND r.finished_at IS NOT NULL
     WHERE b.break_id = $1 ORDER BY k.reconciliation_id DESC LIMIT 1
"""

UNSEEN_OUTFLOW = """
    -- Only `open`: once a person has taken it up (assigned or explained it), payouts go on
    SELECT break_id FROM breaks WHERE chain = $1 AND kind = 'unexpected_out' AND state = 'open'
     ORDER BY break_id LIMIT 1
"""

# Who changes it and with which words, for the database to write into the history; both end with the transaction.
NAME_PERSON = "SELECT set_config('bridge.person', $1, TRUE), set_config('bridge.words', $2, TRUE)"
ASSIGN = "UPDATE breaks SET state = 'assigned', assignee = $2 WHERE break_id = $1"
EXPLAIN = (
    "UPDATE breaks SET state = 'explained', resolution = concat_ws('; ', resolution, $2::TEXT) WHERE break_id = $1"
)
RESOLVE = """
    UPDATE breaks SET state = 'resolved', resolved_at = clock_timestamp(),
                      resolution = concat_ws('; ', resolution, $2::TEXT)
     WHERE break_id = $1
"""

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
        await self._settle(result)
        verdict = "balanced" if result.balanced else "breaks"
        assert await self._connection.fetchval(FINISH, reconciliation_id, verdict) == reconciliation_id
        await self._connection.execute(NOTIFY)
        return result

    async def _settle(self, result: Reconciliation) -> None:
        """What the chain says for ever and a person has resolved is no break any more: a check that found nothing else
        agrees, and says whose word that is."""
        standing = {(item.kind, item.chain, item.subject, item.asset) for item in result.breaks}
        settled = [
            check
            for check in result.checks
            if check.differences
            and all(
                item.lasting and (item.kind, check.at.chain, item.subject, item.asset) not in standing
                for item in check.differences
            )
        ]
        await self._connection.execute(
            SETTLE,
            result.reconciliation_id,
            [check.at.chain for check in settled],
            [check.level for check in settled],
            [check.subject for check in settled],
            [check.asset for check in settled],
        )

    async def assign(self, break_id: int, *, to: str, by: str) -> None:
        """`to` takes care of it from now on; it may be handed on. Raises RefusedError as `find` does, and where it is
        explained or resolved."""
        item = await self._lock(break_id)
        if item.state is not BreakState.ASSIGNED:
            _check_arrow(item, BreakState.ASSIGNED)
        await self._change(by, to, ASSIGN, break_id, to)

    async def explain(self, break_id: int, *, reason: str, by: str) -> None:
        """Say what it was. Raises RefusedError as `find` does, and where it is explained or resolved already."""
        _check_arrow(await self._lock(break_id), BreakState.EXPLAINED)
        await self._change(by, reason, EXPLAIN, break_id, told("explained", by, reason))

    async def resolve(self, break_id: int, *, reason: str, by: str) -> None:
        """It is settled. Raises RefusedError as `find` does, where it is resolved already, and where its evidence
        stands."""
        item = await self._lock(break_id)
        _check_arrow(item, BreakState.RESOLVED)
        refused = why_unresolvable(item, await self.last_look(break_id))
        if refused is not None:
            raise RefusedError(f"break {break_id} cannot be resolved: {refused}")
        await self._change(by, reason, RESOLVE, break_id, told("resolved", by, reason))

    async def _lock(self, break_id: int) -> Break:
        return self._known(break_id, await self._connection.fetchrow(LOCKED, break_id))

    async def _change(self, by: str, words: str, statement: str, *arguments: object) -> None:
        await self._connection.execute(NAME_PERSON, by, words)
        await self._connection.execute(statement, *arguments)
        await self._connection.execute(NAME_PERSON, "", "")
        await self._connection.execute(NOTIFY)

    async def unresolved(self) -> list[Break]:
        """Every break that is not resolved, oldest first."""
        return await self.in_states([state for state in BreakState if state is not BreakState.RESOLVED])

    async def in_states(self, states: Collection[BreakState]) -> list[Break]:
        """Those in one of `states`, oldest first."""
        return [_break(row) for row in await self._connection.fetch(IN_STATES, [str(state) for state in states])]

    async def find(self, break_id: int) -> Break:
        """Raises RefusedError where there is no such break."""
        return self._known(break_id, await self._connection.fetchrow(ONE, break_id))

    @staticmethod
    def _known(break_id: int, row: asyncpg.Record | None) -> Break:
        if row is None:
            raise RefusedError(f"there is no break {break_id}")
        return _break(row)

    async def history(self, break_id: int) -> list[BreakChange]:
        """From its opening on."""
        return [
            BreakChange(
                row["at"],
                row["by"],
                None if row["from_state"] is None else BreakState(row["from_state"]),
                BreakState(row["to_state"]),
                row["words"],
            )
            for row in await self._connection.fetch(HISTORY, break_id)
        ]

    async def last_look(self, break_id: int) -> LastLook | None:
        """None where no finished run made its check."""
        row = await self._connection.fetchrow(LAST_LOOK, break_id)
        if row is None:
            return None
        at = BlockStamp(row["chain"], row["block_number"], row["block_hash"])
        return LastLook(row["reconciliation_id"], at, row["found"])

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
            [item.block for _, item in found.values()],
            [item.after for _, item in found.values()],
        )


def _break(row: asyncpg.Record) -> Break:
    return Break(
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
        lasting=row["lasting"],
        assignee=row["assignee"],
        resolved_at=row["resolved_at"],
        resolution=row["resolution"],
    )


def _check_arrow(item: Break, target: BreakState) -> None:
    if target not in BREAK_ARROWS[item.state]:
        raise RefusedError(f"break {item.break_id} is {item.state} already")
