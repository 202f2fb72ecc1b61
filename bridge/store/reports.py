"""What a report is made of: read-only queries over the whole schema, all within one snapshot.

Everything that is booked is cut off at a finalized block of each chain: that of the last finished reconciliation where
there is one, else the last finalized block. So a report compares books and chain at the same block hash. A period is
cut off at the last block before its end, and begins after the last block before its start, whatever was reconciled.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bridge.domain.breaks import EXEMPT, share_ppm
from bridge.domain.figures import LAG_BANDS, LAG_BOUNDS_MS, Lag, LevelTally, Milestones, Tally, TrendPoint
from bridge.domain.ledger import Asset
from bridge.domain.reports.facts import (
    Attention,
    BalanceCheck,
    BreakEvent,
    BreakFact,
    ChainScope,
    CheckCount,
    CorrectionFact,
    CutOff,
    DistributionFact,
    Facts,
    FinalizedSpan,
    Flow,
    GasFact,
    HeldFact,
    Reconciliation,
    RuleVersion,
    SealFact,
    ValueFact,
)
from bridge.domain.units import AssetId, hash_of
from bridge.domain.windows import Window
from bridge.store.ledger import BALANCES_AT
from bridge.store.milestones import MILESTONE_COLUMNS

if TYPE_CHECKING:
    import asyncpg

    from bridge.store.connection import Connection

RECONCILIATION = """
    SELECT reconciliation_id, extract(epoch FROM finished_at)::BIGINT AS finished_at, verdict
      FROM reconciliations WHERE finished_at IS NOT NULL ORDER BY reconciliation_id DESC LIMIT 1
"""

# A chain's cut-off is the block at which the last reconciliation compared balances; other checks only stand in where
# it compared none. A chain that it did not look at is cut off at its last finalized block.
CHAINS = """
    SELECT c.chain, c.kind, c.reference, c.genesis_hash, c.start_block,
           cut.number, cut.hash, stamp.timestamp,
           (SELECT block_number FROM cursors WHERE stage = 'post' AND scope = c.chain) AS posted_through,
           (SELECT count(*) FROM reorgs r WHERE r.chain = c.chain) AS reorgs,
           (SELECT COALESCE(sum(r.blocks_orphaned), 0) FROM reorgs r WHERE r.chain = c.chain)::BIGINT AS blocks_orphaned
      FROM chains c
      LEFT JOIN LATERAL (
          SELECT number, hash FROM (
              SELECT 0 AS choice, (k.level = 'balance') AS level, k.block_number AS number, k.block_hash AS hash
                FROM checks k WHERE k.reconciliation_id = $1 AND k.chain = c.chain
              UNION ALL
              SELECT 1, FALSE, h.finalized_number, h.finalized_hash
                FROM heads h WHERE h.chain = c.chain AND h.finalized_number >= c.start_block
          ) AS candidates
          ORDER BY choice, level DESC, number DESC LIMIT 1
      ) AS cut ON TRUE
      LEFT JOIN LATERAL (
          SELECT b.timestamp FROM blocks b
           WHERE b.chain = c.chain AND b.number <= cut.number AND b.status <> 'orphaned'
           ORDER BY b.number DESC LIMIT 1
      ) AS stamp ON TRUE
     ORDER BY c.chain
"""

# Of the blocks before a moment the last that is stored: no watched log lies between it and the moment. What changes as
# the chain goes on (the cursor, reorganisations) is told as far as it concerns the period: it reads the same next year.
CHAINS_OF_PERIOD = """
    SELECT c.chain, c.kind, c.reference, c.genesis_hash, c.start_block,
           cut.number, cut.hash, cut.timestamp,
           before.number AS opening_number, before.hash AS opening_hash, before.timestamp AS opening_timestamp,
           COALESCE(h.finalized_timestamp >= $2, FALSE) AS ended,
           LEAST((SELECT block_number FROM cursors WHERE stage = 'post' AND scope = c.chain), cut.number)
               AS posted_through,
           past.reorgs, past.blocks_orphaned
      FROM chains c
      LEFT JOIN heads h USING (chain)
      LEFT JOIN LATERAL (
          SELECT number, hash, timestamp FROM blocks b
           WHERE b.chain = c.chain AND b.timestamp < $2 AND b.number <= h.finalized_number AND b.status <> 'orphaned'
           ORDER BY b.number DESC LIMIT 1
      ) AS cut ON TRUE
      LEFT JOIN LATERAL (
          SELECT number, hash, timestamp FROM blocks b
           WHERE b.chain = c.chain AND b.timestamp < $1 AND b.number <= h.finalized_number AND b.status <> 'orphaned'
           ORDER BY b.number DESC LIMIT 1
      ) AS before ON TRUE
      LEFT JOIN LATERAL (
          SELECT count(*) AS reorgs, COALESCE(sum(r.blocks_orphaned), 0)::BIGINT AS blocks_orphaned FROM reorgs r
           WHERE r.chain = c.chain AND r.ancestor_number < cut.number
             AND r.ancestor_number >= COALESCE(before.number, r.ancestor_number)
      ) AS past ON TRUE
     ORDER BY c.chain
"""

# The first run that looked at each of these chains ($1) up to its block ($2) or further.
RECONCILIATION_OF_PERIOD = """
    -- Later runs reach as far or further, so nothing before the first that reached a cut-off need be looked at.
    SELECT r.reconciliation_id, extract(epoch FROM r.finished_at)::BIGINT AS finished_at, r.verdict
      FROM reconciliations r
     WHERE r.finished_at IS NOT NULL
       AND r.reconciliation_id >= (
               SELECT COALESCE(max((SELECT k.reconciliation_id FROM checks k
                                     WHERE k.chain = cut.chain AND k.block_number >= cut.number
                                     ORDER BY k.block_number, k.reconciliation_id LIMIT 1)), 0)
                 FROM unnest($1::TEXT[], $2::BIGINT[]) AS cut (chain, number))
       AND NOT EXISTS (
               SELECT FROM unnest($1::TEXT[], $2::BIGINT[]) AS cut (chain, number)
                WHERE NOT EXISTS (SELECT FROM checks k WHERE k.reconciliation_id = r.reconciliation_id
                                                         AND k.chain = cut.chain AND k.block_number >= cut.number))
     ORDER BY r.reconciliation_id LIMIT 1
"""

REACHED = """
    SELECT chain, max(block_number) AS number FROM checks WHERE reconciliation_id = $1 GROUP BY chain
"""

ASSETS = "SELECT asset AS id, chain, symbol, decimals, address FROM assets ORDER BY asset"

# Recipients are summed: a report of a million recipients is as long as one of ten.
FLOWS = """
    WITH codes AS (
        SELECT account_id, CASE WHEN code ~ '^(payable|owed_on_chain|claimable|external):' THEN split_part(code, ':', 1)
                                ELSE code END AS code
          FROM accounts
    )
    SELECT debit.code AS debit, credit.code AS credit, t.asset, split_part(j.source, ':', 1) AS source,
           j.reverses_id IS NOT NULL AS reverses, sum(t.amount) AS atoms
      FROM transfers t
      JOIN journals j USING (chain, block_number, journal_id)
      JOIN codes debit ON debit.account_id = t.debit_account
      JOIN codes credit ON credit.account_id = t.credit_account
     WHERE t.chain = $1 AND t.block_number <= $2 AND t.block_number > $3 AND t.phase IN ('posted', 'post')
     GROUP BY 1, 2, 3, 4, 5
     ORDER BY 1, 2, 3, 4, 5
"""

BALANCE_CHECKS = """
    SELECT DISTINCT ON (subject, asset) subject, asset, actual
      FROM checks WHERE reconciliation_id = $1 AND level = 'balance' AND asset IS NOT NULL
     ORDER BY subject, asset, block_number DESC, check_id DESC
"""

# Any run's that read exactly the cut-off block; runs agree, for the block has one hash.
BALANCE_CHECKS_OF_PERIOD = """
    SELECT DISTINCT ON (subject, asset) subject, asset, actual
      FROM checks WHERE chain = $1 AND block_number = $2 AND level = 'balance' AND asset IS NOT NULL
     ORDER BY subject, asset, actual IS NULL, check_id
"""

CHECKS = """
    SELECT level, chain, outcome, cause, count(*) AS count
      FROM checks WHERE reconciliation_id = $1
     GROUP BY 1, 2, 3, 4
     ORDER BY array_position(ARRAY['event', 'balance', 'nonce', 'completeness', 'suspense', 'payout'], level), 2, 3, 4
"""

# Runs of consecutive ranges with the same two readers; a run starts where the range before does not fit.
SPANS = """
    WITH marked AS (
        SELECT *, (first_block, read_by, verified_by) IS DISTINCT FROM
                  (lag(last_block) OVER w + 1, lag(read_by) OVER w, lag(verified_by) OVER w) AS starts
          FROM finalized_ranges
         WHERE chain = $1 AND first_block <= $2 AND last_block > $3
        WINDOW w AS (PARTITION BY chain ORDER BY first_block)
    ), numbered AS (
        SELECT *, count(*) FILTER (WHERE starts) OVER (PARTITION BY chain ORDER BY first_block) AS run FROM marked
    )
    SELECT chain, min(first_block) AS first_block, max(last_block) AS last_block, count(*) AS ranges,
           sum(logs)::BIGINT AS logs, read_by, verified_by
      FROM numbered GROUP BY chain, run, read_by, verified_by ORDER BY chain, first_block
"""

# Without spans (chain, last block, the one before the first): every version, with all its decisions. With them only
# versions that decided within them. A text that several chains have counts once, with the decisions of all.
RULES = """
    SELECT r.rule, r.version, r.content_hash,
           count(*) FILTER (WHERE d.verdict = 'pay') AS pay,
           count(*) FILTER (WHERE d.verdict = 'carry') AS carry,
           count(*) FILTER (WHERE d.verdict = 'nothing') AS nothing,
           count(*) FILTER (WHERE d.verdict = 'hold') AS hold
      FROM rules r
      LEFT JOIN decisions d ON (d.chain, d.rule, d.version) = (r.chain, r.rule, r.version)
     WHERE $1::TEXT[] IS NULL
        OR EXISTS (SELECT FROM unnest($1, $2::BIGINT[], $3::BIGINT[]) AS span (chain, last, before)
                    WHERE d.chain = span.chain AND d.block_number <= span.last AND d.block_number > span.before)
     GROUP BY r.rule, r.version, r.content_hash
     ORDER BY r.rule, r.version, r.content_hash
"""

# Distributions of decisions up to the cut-off, or within the period, oldest window first
DISTRIBUTIONS = f"""
    SELECT d.distribution_id, d.decision_id, d.chain, d.rule, e.version, d.asset, e.window_start, e.window_end,
           d.total, d.recipients, d.batches, s.state,
           (SELECT count(*) FROM payouts p WHERE p.distribution_id = d.distribution_id AND outcome = 'paid') AS paid,
           (SELECT count(*) FROM payouts p WHERE p.distribution_id = d.distribution_id AND outcome = 'credited')
               AS credited,
           (SELECT count(*) FROM payouts p WHERE p.distribution_id = d.distribution_id AND outcome = 'claimable')
               AS claimable,
           {MILESTONE_COLUMNS},
           ARRAY(SELECT t.tx_id FROM actions a JOIN slots USING (action_id) JOIN attempts t USING (slot_id)
                  WHERE a.distribution_id = d.distribution_id AND t.block_number IS NOT NULL
                  ORDER BY a.ordinal, t.attempt_id) AS tx_ids
      FROM distributions d
      JOIN decisions e USING (decision_id)
      JOIN distribution_states s USING (distribution_id)
     WHERE d.chain = $1 AND e.block_number <= $2 AND e.block_number > $3
     ORDER BY e.window_end, d.rule, d.distribution_id
"""  # noqa: S608  # only our own columns are put in

DECIDED = """
    SELECT asset, sum(total) AS total FROM decisions
     WHERE chain = $1 AND block_number <= $2 AND block_number > $3 AND verdict = 'pay'
     GROUP BY asset
"""

BREAKS = """
    SELECT break_id, kind, chain, subject, asset, amount, state, extract(epoch FROM opened_at)::BIGINT AS opened_at,
           extract(epoch FROM resolved_at)::BIGINT AS resolved_at, resolution, block_number, block_hash, evidence,
           assignee, extract(epoch FROM opened_at)::BIGINT - block_time(chain, block_number) AS detected_s
      FROM breaks ORDER BY break_id
"""

# Those that a run over the period could see (first seen by block $2 of chain $1) and that stood after it began ($3).
BREAKS_OF_PERIOD = """
    SELECT break_id, kind, b.chain, subject, asset, amount, state, extract(epoch FROM opened_at)::BIGINT AS opened_at,
           extract(epoch FROM resolved_at)::BIGINT AS resolved_at, resolution, block_number, block_hash, evidence,
           assignee, extract(epoch FROM opened_at)::BIGINT - block_time(chain, block_number) AS detected_s
      FROM breaks b JOIN unnest($1::TEXT[], $2::BIGINT[]) AS seen (chain, number) USING (chain)
     WHERE b.block_number <= seen.number AND (resolved_at IS NULL OR extract(epoch FROM resolved_at) >= $3)
     ORDER BY break_id
"""

HISTORY = """
    SELECT break_id, extract(epoch FROM changed_at)::BIGINT AS at, changed_by AS by, from_state, to_state, words
      FROM break_history WHERE break_id = ANY($1) ORDER BY break_id, entry_id
"""

# Without spans all of them; else those that were booked within one.
CORRECTIONS = """
    SELECT c.correction_id, c.chain, c.reason, c.break_id, c.asked_by,
           extract(epoch FROM c.asked_at)::BIGINT AS asked_at,
           c.reverses_source || ' ' || c.reverses_ref AS reverses, c.debit, c.credit, c.asset, c.amount,
           a.answer, a.answered_by, extract(epoch FROM a.answered_at)::BIGINT AS answered_at,
           a.reason AS answer_reason, k.block_number
      FROM corrections c
      LEFT JOIN correction_answers a USING (correction_id)
      LEFT JOIN journal_keys k ON a.answer = 'approved' AND (k.source, k.ref) =
            (CASE WHEN c.reverses_source IS NULL THEN 'adjustment' ELSE 'reversal' END,
             COALESCE(c.reverses_source || ' ' || c.reverses_ref, c.correction_id::TEXT))
     WHERE $1::TEXT[] IS NULL
        OR EXISTS (SELECT FROM unnest($1, $2::BIGINT[], $3::BIGINT[]) AS span (chain, last, before)
                    WHERE c.chain = span.chain AND k.block_number <= span.last AND k.block_number > span.before)
     ORDER BY c.correction_id
"""

# Of balances that books and chain both name, what they have in common, and the larger of the two.
VALUES = """
    SELECT asset, sum(greatest(least(expected, actual), 0)) AS common,
           sum(greatest(abs(expected), abs(actual))) AS whole
      FROM checks
     WHERE reconciliation_id = $1 AND level = 'balance' AND outcome <> 'skipped'
       AND asset IS NOT NULL AND expected IS NOT NULL AND actual IS NOT NULL
     GROUP BY asset ORDER BY asset
"""

SEALS = """
    SELECT $1::TEXT AS chain, found.journals, found.sealed, found.last_sequence, s.head
      FROM (SELECT count(*) AS journals, count(s.sequence) AS sealed, max(s.sequence) AS last_sequence
              FROM journal_keys k LEFT JOIN seals s USING (journal_id)
             WHERE k.chain = $1 AND k.block_number <= $2 AND k.block_number > $3) AS found
      LEFT JOIN seals s ON s.sequence = found.last_sequence
"""

ENTRIES = """
    SELECT count(*) FILTER (WHERE source NOT IN ('adjustment', 'reversal')) AS automatic,
           count(*) FILTER (WHERE source IN ('adjustment', 'reversal')) AS by_hand
      FROM journal_keys WHERE chain = $1 AND block_number <= $2 AND block_number > $3
"""

# From the moment in which a block was final here to that in which its logs were booked; $4: bounds of the bands.
LAGS = """
    WITH booked AS (
        SELECT block_number, min(recorded_at) AS recorded_at FROM journals
         WHERE chain = $1 AND block_number <= $2 AND block_number > $3 AND source LIKE 'log:%'
         GROUP BY block_number
    ), lags AS (
        SELECT greatest(0, (extract(epoch FROM b.recorded_at - r.verified_at) * 1000)::BIGINT) AS ms
          FROM booked b
          JOIN LATERAL (SELECT verified_at FROM finalized_ranges
                         WHERE chain = $1 AND first_block <= b.block_number
                         ORDER BY first_block DESC LIMIT 1) AS r ON TRUE
    ), bands AS (
        SELECT width_bucket(ms, $4::BIGINT[]) AS band, count(*) AS blocks FROM lags GROUP BY 1
    )
    SELECT $1::TEXT AS chain, count(*) AS blocks,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY ms) AS p50_ms,
           percentile_disc(0.95) WITHIN GROUP (ORDER BY ms) AS p95_ms,
           ARRAY(SELECT COALESCE(b.blocks, 0) FROM generate_series(0, $5::INTEGER) AS band
                   LEFT JOIN bands b USING (band) ORDER BY band) AS bands
      FROM lags
"""

# Runs that looked at a block of these spans, in so many groups ($4) of runs that followed each other.
_TREND_RUNS = """
    WITH runs AS (
        SELECT DISTINCT r.reconciliation_id, r.finished_at
          FROM reconciliations r
          JOIN checks k USING (reconciliation_id)
          JOIN unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[]) AS span (chain, last, before) ON k.chain = span.chain
         WHERE r.finished_at IS NOT NULL AND k.block_number <= span.last AND k.block_number > span.before
    ), placed AS (
        SELECT *, ntile($4) OVER (ORDER BY reconciliation_id) AS point FROM runs
    )
"""
TREND = f"""{_TREND_RUNS}
    SELECT p.point, k.level, count(*) FILTER (WHERE k.outcome = 'agreed') AS agreed,
           count(*) FILTER (WHERE k.outcome = 'broken') AS broken,
           count(*) FILTER (WHERE k.outcome = 'skipped' AND k.cause NOT LIKE $5) AS skipped,
           count(*) FILTER (WHERE k.outcome = 'skipped' AND k.cause LIKE $5) AS exempt,
           (SELECT count(*) FROM placed q WHERE q.point = p.point) AS runs,
           (SELECT extract(epoch FROM min(q.finished_at))::BIGINT FROM placed q WHERE q.point = p.point) AS first_at,
           (SELECT extract(epoch FROM max(q.finished_at))::BIGINT FROM placed q WHERE q.point = p.point) AS last_at
      FROM placed p JOIN checks k USING (reconciliation_id)
     GROUP BY p.point, k.level
     ORDER BY p.point, array_position(ARRAY['event', 'balance', 'nonce', 'completeness', 'suspense', 'payout'], k.level)
"""  # noqa: S608  # only constants are put in
TREND_VALUES = f"""{_TREND_RUNS}
    SELECT p.point, k.asset, sum(greatest(least(k.expected, k.actual), 0)) AS common,
           sum(greatest(abs(k.expected), abs(k.actual))) AS whole
      FROM placed p JOIN checks k USING (reconciliation_id)
     WHERE k.level = 'balance' AND k.outcome <> 'skipped' AND k.expected IS NOT NULL AND k.actual IS NOT NULL
     GROUP BY p.point, k.asset ORDER BY p.point, k.asset
"""  # noqa: S608

GAS = """
    SELECT chain, count(*) AS transactions, count(*) FILTER (WHERE NOT succeeded) AS reverted,
           COALESCE(sum(gas_used), 0)::BIGINT AS gas_used,
           COALESCE(sum(fee_paid + deposits), 0) AS fees,
           COALESCE(sum(gas_limit * max_fee + l1_fee + operator_fee + deposits), 0) AS budget
      FROM attempts WHERE final AND chain = $1 AND block_number <= $2 AND block_number > $3
     GROUP BY chain
"""

ATTENTION = """
    SELECT 'step ' || a.state AS kind, '0x' || encode(a.distribution_id, 'hex') || ' step ' || a.ordinal AS subject,
           a.reason
      FROM actions a WHERE a.state IN ('held', 'quarantined')
    UNION ALL
    SELECT 'decision held', d.rule || ' 0x' || encode(d.decision_id, 'hex'), d.reason
      FROM decisions d WHERE d.verdict = 'hold'
    UNION ALL
    SELECT 'correction asked for', 'correction ' || c.correction_id, c.asked_by || ': ' || c.reason
      FROM corrections c
     WHERE NOT EXISTS (SELECT FROM correction_answers a WHERE a.correction_id = c.correction_id)
    UNION ALL
    SELECT 'dead letter', stage || ' ' || scope, error FROM dead_letters WHERE resolved_at IS NULL
     ORDER BY kind, subject, reason
"""

# What the books had put aside at the cut-off, and had not closed; that it waits for a person is as of now.
HELD = """
    SELECT h.distribution_id, h.chain, d.rule, h.batch_index, d.asset, p.amount, p.recipients, p.recipient, h.reason,
           extract(epoch FROM h.since)::BIGINT AS since
      FROM held_batches h
      JOIN distributions d USING (distribution_id)
      JOIN journal_keys k ON (k.source, k.ref) = ('distribution', encode(h.distribution_id, 'hex'))
      JOIN LATERAL (SELECT sum(amount) AS amount, count(*) AS recipients,
                           CASE count(*) WHEN 1 THEN (array_agg(recipient))[1] END AS recipient
                      FROM payouts o
                     WHERE (o.distribution_id, o.batch_index) = (h.distribution_id, h.batch_index)) AS p
           ON p.recipients > 0
     WHERE h.chain = $1 AND k.block_number <= $2
       AND NOT EXISTS (SELECT FROM journal_keys c
                        WHERE (c.source, c.ref) = ('batch', encode(h.distribution_id, 'hex') || ':' || h.batch_index)
                          AND c.block_number <= $2)
     ORDER BY d.rule, h.distribution_id, h.batch_index
"""

# Payable at the cut-off, less what was put aside for batches, less what was decided and is to be planned.
GIVEN_UP = f"""
    SELECT asset, sum(amount) AS amount FROM (
        SELECT asset, credits_posted - debits_posted - debits_pending AS amount FROM ({BALANCES_AT}) AS balances
         WHERE code LIKE 'payable:%' AND $3::TEXT[] IS NULL
        UNION ALL
        SELECT d.asset, -d.total FROM decisions d
          JOIN journal_keys k ON (k.source, k.ref) = ('decision', encode(d.decision_id, 'hex'))
         WHERE d.chain = $1 AND d.verdict = 'pay' AND k.block_number <= $2
           AND NOT EXISTS (SELECT FROM distributions p
                             JOIN journal_keys i
                               ON (i.source, i.ref) = ('distribution', encode(p.distribution_id, 'hex'))
                            WHERE p.decision_id = d.decision_id AND i.block_number <= $2)
    ) AS parts GROUP BY asset HAVING sum(amount) <> 0
"""  # noqa: S608  # of the constant above

_BEFORE_ALL = -2
"""A block number below that of every journal: books that cover block 0 are opened before it."""
_NO_LIMIT = 2**62

TREND_POINTS = 24
"""Of a report: a year of runs is as many figures as a day of them."""


def _quiet(_: str) -> None:
    """Nobody waits for it."""


class Reports:
    """Reads; never writes. Open it from `Database.snapshot()`, or its parts may be of different moments."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def facts(self, period: Window | None = None, progress: Callable[[str], None] = _quiet) -> Facts:
        """Everything that a report is assembled from: of all blocks up to the cut-off, or of those within `period`.

        `progress` is told what is read next, in words.
        """
        fetch = self._connection.fetch
        progress("chains and the reconciliation")
        chains, run = await (self._all() if period is None else self._within(period))
        run_id: int | None = run["reconciliation_id"] if run else None
        spans = [_span(chain) for chain in chains if chain.cut_off]
        columns = [list(column) for column in zip(*spans, strict=True)] or [[], [], []]
        limits = [None] * 3 if period is None else columns
        read = spans if period is not None else [(chain.chain, _NO_LIMIT, _BEFORE_ALL) for chain in chains]
        earlier = [(chain.chain, chain.opening.number, _BEFORE_ALL) for chain in chains if chain.opening]
        decided: defaultdict[AssetId, int] = defaultdict(int)
        progress("entries of the ledger")
        flows = tuple(Flow(**row) for row in await self._each(FLOWS, spans))
        before = tuple(Flow(**row) for row in await self._each(FLOWS, earlier))
        entries = await self._each(ENTRIES, spans)
        progress("distributions")
        distributions = tuple(_distribution(row) for row in await self._each(DISTRIBUTIONS, spans))
        for row in await self._each(DECIDED, spans):
            decided[row["asset"]] += row["total"]
        ends = [(chain, last) for chain, last, _ in spans]
        held = [row for end in ends for row in await fetch(HELD, *end)]
        given_up = [row for end in ends for row in await fetch(GIVEN_UP, *end, None)]
        progress("breaks and checks")
        references = {chain.chain: chain.reference for chain in chains}
        breaks = tuple(_break(row, references) for row in await self._breaks(chains, run_id, period))
        history = await fetch(HISTORY, [item.break_id for item in breaks])
        trend = await self._trend(columns)
        progress("times and proofs of completeness")
        return Facts(
            chains=tuple(chains),
            assets=tuple(Asset(**row) for row in await fetch(ASSETS)),
            reconciliation=Reconciliation(**run) if run else None,
            flows=flows,
            balance_checks=tuple(BalanceCheck(**row) for row in await self._balance_checks(chains, run_id, period)),
            checks=tuple(CheckCount(**row) for row in await fetch(CHECKS, run_id)),
            spans=tuple(FinalizedSpan(**row) for row in await self._each(SPANS, read)),
            rules=tuple(RuleVersion(**row) for row in await fetch(RULES, *limits)),
            distributions=distributions,
            breaks=breaks,
            gas=tuple(GasFact(**row) for row in await self._each(GAS, spans)),
            attention=tuple(Attention(**row) for row in await fetch(ATTENTION)),
            decided=dict(decided),
            period=period,
            earlier=before,
            history=tuple(BreakEvent(**row) for row in history),
            corrections=tuple(CorrectionFact(**row) for row in await fetch(CORRECTIONS, *limits)),
            values=tuple(ValueFact(**row) for row in await fetch(VALUES, run_id)),
            seals=tuple(SealFact(**row) for row in await self._each(SEALS, spans)),
            lags=tuple(_lag(row) for row in await self._lags(spans)),
            trend=trend,
            entries_automatic=sum(row["automatic"] for row in entries),
            entries_by_hand=sum(row["by_hand"] for row in entries),
            held=tuple(HeldFact(**row) for row in held),
            given_up={row["asset"]: int(row["amount"]) for row in given_up},
        )

    async def _lags(self, spans: list[tuple[str, int, int]]) -> list[asyncpg.Record]:
        bands = (list(LAG_BOUNDS_MS), len(LAG_BANDS) - 1)
        return [row for span in spans for row in await self._connection.fetch(LAGS, *span, *bands)]

    async def _trend(self, columns: list[list[Any]]) -> tuple[TrendPoint, ...]:
        values: defaultdict[int, list[int]] = defaultdict(list)
        for row in await self._connection.fetch(TREND_VALUES, *columns, TREND_POINTS):
            values[row["point"]].append(share_ppm(int(row["common"]), int(row["whole"])))
        points: defaultdict[int, list[asyncpg.Record]] = defaultdict(list)
        for row in await self._connection.fetch(TREND, *columns, TREND_POINTS, f"{EXEMPT}%"):
            points[row["point"]].append(row)
        return tuple(
            TrendPoint(
                first_at=rows[0]["first_at"],
                last_at=rows[0]["last_at"],
                runs=rows[0]["runs"],
                levels=tuple(
                    LevelTally(row["level"], Tally(row["agreed"], row["broken"], row["skipped"], row["exempt"]))
                    for row in rows
                ),
                value_ppm=min(values[point], default=None),
            )
            for point, rows in points.items()
        )

    async def _all(self) -> tuple[list[ChainScope], asyncpg.Record | None]:
        run = await self._connection.fetchrow(RECONCILIATION)
        rows = await self._connection.fetch(CHAINS, run and run["reconciliation_id"])
        return [_chain(row) for row in rows], run

    async def _within(self, period: Window) -> tuple[list[ChainScope], asyncpg.Record | None]:
        rows = await self._connection.fetch(CHAINS_OF_PERIOD, period.start, period.end)
        chains = [
            dataclasses.replace(
                _chain(row),
                opening=None if row["opening_number"] is None else _stamp(row, "opening_"),
                ended=row["ended"],
            )
            for row in rows
        ]
        cut_offs = {chain.chain: chain.cut_off.number for chain in chains if chain.cut_off}
        if not cut_offs:
            return chains, None
        run = await self._connection.fetchrow(RECONCILIATION_OF_PERIOD, list(cut_offs), list(cut_offs.values()))
        return chains, run

    async def _balance_checks(
        self, chains: list[ChainScope], run_id: int | None, period: Window | None
    ) -> list[asyncpg.Record]:
        if period is None:
            return await self._connection.fetch(BALANCE_CHECKS, run_id)
        return [
            row
            for chain in chains
            if chain.cut_off
            for row in await self._connection.fetch(BALANCE_CHECKS_OF_PERIOD, chain.chain, chain.cut_off.number)
        ]

    async def _breaks(
        self, chains: list[ChainScope], run_id: int | None, period: Window | None
    ) -> list[asyncpg.Record]:
        if period is None:
            return await self._connection.fetch(BREAKS)
        seen = {chain.chain: chain.cut_off.number for chain in chains if chain.cut_off}
        seen |= {row["chain"]: row["number"] for row in await self._connection.fetch(REACHED, run_id)}
        return await self._connection.fetch(BREAKS_OF_PERIOD, list(seen), list(seen.values()), period.start)

    async def _each(self, query: str, spans: list[tuple[str, int, int]]) -> list[asyncpg.Record]:
        """The rows of `query`(chain, last block, the block before the first), chain after chain."""
        return [row for span in spans for row in await self._connection.fetch(query, *span)]


def _span(chain: ChainScope) -> tuple[str, int, int]:
    assert chain.cut_off is not None
    return chain.chain, chain.cut_off.number, _BEFORE_ALL if chain.opening is None else chain.opening.number


def _stamp(row: asyncpg.Record, prefix: str = "") -> CutOff:
    found = hash_of(row[f"{prefix}hash"], row["reference"])
    return CutOff(row[f"{prefix}number"], found, row[f"{prefix}timestamp"])


def _break(row: asyncpg.Record, references: Mapping[str, str]) -> BreakFact:
    return BreakFact(**{**row, "block_hash": hash_of(row["block_hash"], references[row["chain"]])})


def _chain(row: asyncpg.Record) -> ChainScope:
    cut_off = None
    if row["number"] is not None and row["timestamp"] is not None:
        cut_off = _stamp(row)
    return ChainScope(
        chain=row["chain"],
        kind=row["kind"],
        reference=row["reference"],
        genesis_hash=hash_of(row["genesis_hash"], row["reference"]),
        start_block=row["start_block"],
        cut_off=cut_off,
        posted_through=row["posted_through"],
        reorgs=row["reorgs"],
        blocks_orphaned=row["blocks_orphaned"],
    )


def _distribution(row: asyncpg.Record) -> DistributionFact:
    values = dict(row)
    mined, decided, final, posted = (values.pop(f"{name}_at") for name in ("mined", "decided", "final", "posted"))
    # Steps are final one by one: the distribution is once all of them are.
    passed = (
        Milestones(mined, decided, final if row["state"] == "final" else None, posted) if mined is not None else None
    )
    return DistributionFact(**{**values, "tx_ids": tuple(row["tx_ids"])}, passed=passed)


def _lag(row: asyncpg.Record) -> Lag:
    return Lag(row["chain"], row["blocks"], row["p50_ms"], row["p95_ms"], tuple(row["bands"]))
