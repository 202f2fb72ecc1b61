"""What `bridge status` and the live view show: read in one snapshot, written by nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from bridge.domain.breaks import AGE_BANDS, AGES, EXEMPT, share_ppm
from bridge.domain.figures import (
    LAG_BANDS,
    LAG_BOUNDS_MS,
    Entries,
    Lag,
    Latencies,
    Milestones,
    Tally,
    latencies,
)
from bridge.store.milestones import MILESTONE_COLUMNS
from bridge.store.reports import LAGS

if TYPE_CHECKING:
    from bridge.store.connection import Connection

_BOUNDS = [int(bound.total_seconds()) for bound in AGES]

CHAINS = """
    SELECT c.chain, c.reference, c.start_block, h.head_number, h.head_timestamp, h.finalized_number,
           h.finalized_timestamp, h.node_head, h.updated_at,
           (SELECT count(*) FROM reorgs r WHERE r.chain = c.chain) AS reorgs,
           -- finalized_ranges already counts, so that this need not walk the logs
           COALESCE((SELECT sum(f.logs) FROM finalized_ranges f WHERE f.chain = c.chain), 0)::BIGINT AS finalized_logs
      FROM chains c LEFT JOIN heads h USING (chain)
     ORDER BY c.chain
"""
CURSORS = "SELECT stage, scope, block_number, updated_at FROM cursors ORDER BY stage, scope"
LEASES = """
    SELECT name, holder, epoch, expires_at >= clock_timestamp() AS live FROM leases ORDER BY name
"""
RULES = """
    SELECT d.chain, d.rule, d.asset, COALESCE(a.symbol, d.asset) AS symbol, COALESCE(a.decimals, 0) AS decimals,
           count(*) AS windows,
           count(*) FILTER (WHERE d.verdict = 'pay') AS paying,
           count(*) FILTER (WHERE d.verdict = 'hold') AS holding,
           -- what a balance rule leaves in the vault it finds again: only what was taken up counts
           sum(d.total + d.carried_out - d.carried_in) AS surplus,
           sum(d.total) AS allocated, max(d.window_end) AS decided_until
      FROM decisions d LEFT JOIN assets a ON a.asset = d.asset
     GROUP BY d.chain, d.rule, d.asset, a.symbol, a.decimals
     ORDER BY d.chain, d.rule
"""
DISTRIBUTIONS = "SELECT state, count(*) AS distributions FROM distribution_states GROUP BY state ORDER BY state"
ACTIONS = "SELECT state, count(*) AS actions FROM actions GROUP BY state ORDER BY state"
PAYOUTS = """
    -- What is held or given up is found by its batches, so that all payouts are gone through once.
    WITH aside AS (
        SELECT 'held' AS outcome, distribution_id, batch_index FROM held_batches
        UNION ALL
        SELECT 'given_up', distribution_id, ordinal - 1 FROM actions WHERE state = 'void' AND kind = 'execute'
    ), counted AS (
        SELECT a.outcome, count(*) AS payouts
          FROM aside a JOIN payouts p USING (distribution_id, batch_index) WHERE p.outcome IS NULL GROUP BY 1
    ), whole AS (
        SELECT outcome, count(*) AS payouts FROM payouts GROUP BY 1
    )
    SELECT outcome, payouts FROM whole WHERE outcome IS NOT NULL
    UNION ALL
    SELECT outcome, payouts FROM counted
    UNION ALL
    SELECT 'in_flight', payouts - (SELECT COALESCE(sum(payouts), 0) FROM counted)::BIGINT
      FROM whole WHERE outcome IS NULL AND payouts > (SELECT COALESCE(sum(payouts), 0) FROM counted)
     ORDER BY 1
"""
HELD = """
    SELECT h.chain, d.asset, COALESCE(a.symbol, d.asset) AS symbol, COALESCE(a.decimals, 0) AS decimals,
           count(DISTINCT h.action_id) AS batches, count(*) AS payouts, sum(p.amount) AS amount
      FROM held_batches h
      JOIN distributions d USING (distribution_id)
      JOIN payouts p USING (distribution_id, batch_index)
      LEFT JOIN assets a ON a.asset = d.asset
     GROUP BY h.chain, d.asset, a.symbol, a.decimals ORDER BY h.chain, d.asset
"""
# What a person may want to look at, the oldest first: every action that waits with a reason, every held decision, and
# every decision that waits for a tree.
WAITING = """
    SELECT a.chain, a.state, a.kind, encode(a.distribution_id, 'hex') AS id, a.reason, a.updated_at AS since
      FROM actions a WHERE a.reason IS NOT NULL AND a.state NOT IN ('final', 'void')
    UNION ALL
    SELECT d.chain, 'held', 'decision', encode(d.decision_id, 'hex'), d.rule || ': ' || d.reason, d.decided_at
      FROM decisions d WHERE d.verdict = 'hold'
    UNION ALL
    SELECT p.chain, 'paused', 'rule', p.rule, p.paused, p.paused_at FROM rule_pauses p WHERE p.resumed_at IS NULL
    UNION ALL
    -- Sets that are claimed are planned one after another.
    SELECT d.chain, 'planned', 'decision', encode(d.decision_id, 'hex'),
           d.rule || ': waits until claim distribution 0x' || encode(tree.distribution_id, 'hex') || ' is over',
           d.decided_at
      FROM decisions d
      JOIN LATERAL (SELECT t.distribution_id FROM distributions t JOIN distribution_states v USING (distribution_id)
                     WHERE (t.chain, t.asset, t.leg) = (d.chain, d.asset, 'claim') AND v.state NOT IN ('final', 'void')
                     LIMIT 1) AS tree ON TRUE
     WHERE d.verdict = 'pay' AND NOT EXISTS (SELECT FROM distributions p WHERE p.decision_id = d.decision_id)
     ORDER BY since
     LIMIT 100
"""
BREAKS = "SELECT kind, count(*) AS breaks FROM breaks WHERE state <> 'resolved' GROUP BY kind ORDER BY kind"
BREAK_AGES = """
    SELECT width_bucket(extract(epoch FROM now() - opened_at), $1::NUMERIC[]) AS band, count(*) AS breaks
      FROM breaks WHERE state <> 'resolved' GROUP BY 1 ORDER BY 1
"""
LAST_RECONCILIATION = """
    SELECT reconciliation_id, verdict, finished_at FROM reconciliations WHERE finished_at IS NOT NULL
     ORDER BY reconciliation_id DESC LIMIT 1
"""

CHECKS = """
    SELECT count(*) FILTER (WHERE outcome = 'agreed') AS agreed, count(*) FILTER (WHERE outcome = 'broken') AS broken,
           count(*) FILTER (WHERE outcome = 'skipped' AND cause NOT LIKE $2) AS skipped,
           count(*) FILTER (WHERE outcome = 'skipped' AND cause LIKE $2) AS exempt
      FROM checks WHERE reconciliation_id = $1
"""
# Of balances that books and chain both name, what they have in common, and the larger of the two.
VALUES = """
    SELECT k.chain, k.asset, COALESCE(a.symbol, k.asset) AS symbol,
           sum(greatest(least(expected, actual), 0)) AS common, sum(greatest(expected, actual)) AS whole
      FROM checks k LEFT JOIN assets a USING (asset)
     WHERE k.reconciliation_id = $1 AND k.level = 'balance' AND k.outcome <> 'skipped'
     GROUP BY k.chain, k.asset, a.symbol ORDER BY k.chain, k.asset
"""
# From the block in which it was first found, and from then to its end. A chain's clock is not ours: never less than 0.
BREAK_TIMES = """
    SELECT percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY greatest(detect, 0)) AS detect,
           percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY resolve) AS resolve
      FROM (SELECT extract(epoch FROM opened_at)::BIGINT - block_time(chain, block_number) AS detect,
                   extract(epoch FROM resolved_at - opened_at)::BIGINT AS resolve FROM breaks) AS times
"""

# ── How well it goes: of what is newest, so that asking costs the same for ever ─────────────────────────────────────
NEWEST = 10_000
"""Journals and blocks that the figures are made of."""
NEWEST_DISTRIBUTIONS = 500

ENTRIES = """
    SELECT count(*) FILTER (WHERE source NOT IN ('adjustment', 'reversal')) AS automatic,
           count(*) FILTER (WHERE source IN ('adjustment', 'reversal')) AS by_hand,
           (SELECT count(*) FROM breaks WHERE state <> 'resolved') AS unmatched
      FROM (SELECT source FROM journal_keys ORDER BY journal_id DESC LIMIT $1) AS newest
"""
MILESTONES = f"""
    SELECT {MILESTONE_COLUMNS}
      FROM (SELECT * FROM distributions ORDER BY created_at DESC, distribution_id LIMIT $1) AS d
      JOIN decisions e USING (decision_id)
     WHERE NOT EXISTS (SELECT FROM actions a WHERE a.distribution_id = d.distribution_id AND a.state <> 'final')
"""  # noqa: S608  # only our own columns are put in
POSTED = "SELECT scope, block_number FROM cursors WHERE stage = 'post' ORDER BY scope"
SUSPENSE = """
    SELECT c.code AS account, c.asset, a.symbol, b.credits_posted - b.debits_posted AS balance
      FROM balances b JOIN accounts c USING (account_id) JOIN assets a USING (asset)
     WHERE c.code IN ('suspense:in', 'suspense:out') ORDER BY c.code, c.asset
"""


@dataclass(frozen=True, slots=True)
class SuspenseStatus:
    account: str
    asset: str
    symbol: str
    balance: int  # atoms, credits − debits; zero when all is explained


@dataclass(frozen=True, slots=True)
class Performance:
    """Of what is newest: NEWEST journals and blocks, NEWEST_DISTRIBUTIONS."""

    entries: Entries
    latencies: Latencies
    lags: tuple[Lag, ...]
    suspense: tuple[SuspenseStatus, ...]


@dataclass(frozen=True, slots=True)
class ChainStatus:
    chain: str
    reference: str
    start_block: int
    head_number: int | None  # None until ingest committed its first block
    head_timestamp: int | None
    finalized_number: int | None
    finalized_timestamp: int | None
    node_head: int | None
    updated_at: datetime | None
    reorgs: int
    finalized_logs: int

    @property
    def lag_blocks(self) -> int | None:
        """Blocks that the node has and we have not."""
        return None if self.node_head is None or self.head_number is None else max(0, self.node_head - self.head_number)


@dataclass(frozen=True, slots=True)
class CursorStatus:
    stage: str
    scope: str
    block_number: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    name: str
    holder: str
    epoch: int
    live: bool


@dataclass(frozen=True, slots=True)
class RuleStatus:
    chain: str
    rule: str
    asset: str
    symbol: str
    decimals: int
    windows: int
    paying: int
    holding: int
    surplus: int  # atoms, taken up in all windows: paid or carried
    allocated: int  # atoms, decided to be paid
    decided_until: int  # seconds since 1970, end of the last decided window


@dataclass(frozen=True, slots=True)
class HeldStatus:
    """What waits for a person of one asset: in batches that are held, or behind a proposal that is."""

    chain: str
    asset: str
    symbol: str
    decimals: int
    batches: int
    payouts: int
    amount: int  # atoms


@dataclass(frozen=True, slots=True)
class Waiting:
    chain: str
    state: str
    kind: str
    id: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the balances of one asset are the same in the books and on the chain. Atoms."""

    chain: str
    asset: str
    symbol: str
    common: int
    whole: int

    @property
    def ppm(self) -> int:
        return share_ppm(self.common, self.whole)


@dataclass(frozen=True, slots=True)
class Consistency:
    """What the last finished reconciliation judged, and how long breaks take."""

    agreed: int
    broken: int
    skipped: int
    exempt: int  # left out on purpose
    values: tuple[Agreement, ...]
    detect_s: tuple[int, int] | None  # p50 and p95 of all breaks, seconds from the block to the break
    resolve_s: tuple[int, int] | None  # p50 and p95 of those that are resolved

    @property
    def tally(self) -> Tally:
        return Tally(self.agreed, self.broken, self.skipped, self.exempt)

    @property
    def agreed_ppm(self) -> int:
        return self.tally.agreed_ppm

    @property
    def coverage_ppm(self) -> int:
        return self.tally.coverage_ppm


@dataclass(frozen=True, slots=True)
class Status:
    chains: tuple[ChainStatus, ...]
    cursors: tuple[CursorStatus, ...]
    leases: tuple[LeaseStatus, ...]
    rules: tuple[RuleStatus, ...]
    distributions: dict[str, int]  # by state
    actions: dict[str, int]  # by state
    payouts: dict[str, int]  # by outcome: paid, credited, claimable; or held, given_up, in_flight
    held: tuple[HeldStatus, ...]
    waiting: tuple[Waiting, ...]
    breaks: dict[str, int]  # unresolved ones by kind
    break_ages: dict[str, int]  # unresolved ones by band of age
    reconciled: tuple[str, datetime] | None  # verdict and time of the last reconciliation
    consistency: Consistency


class StatusReader:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self) -> Status:
        fetch = self._connection.fetch
        last = await self._connection.fetchrow(LAST_RECONCILIATION)
        return Status(
            chains=tuple([ChainStatus(**row) for row in await fetch(CHAINS)]),
            cursors=tuple([CursorStatus(**row) for row in await fetch(CURSORS)]),
            leases=tuple([LeaseStatus(**row) for row in await fetch(LEASES)]),
            rules=tuple([RuleStatus(**row) for row in await fetch(RULES)]),
            distributions=dict([tuple(row) for row in await fetch(DISTRIBUTIONS)]),
            actions=dict([tuple(row) for row in await fetch(ACTIONS)]),
            payouts=dict([tuple(row) for row in await fetch(PAYOUTS)]),
            held=tuple([HeldStatus(**{**row, "amount": int(row["amount"])}) for row in await fetch(HELD)]),
            waiting=tuple([Waiting(**row) for row in await fetch(WAITING)]),
            breaks=dict([tuple(row) for row in await fetch(BREAKS)]),
            break_ages={AGE_BANDS[row["band"]]: row["breaks"] for row in await fetch(BREAK_AGES, _BOUNDS)},
            reconciled=None if last is None else (last["verdict"], last["finished_at"]),
            consistency=await self._consistency(None if last is None else last["reconciliation_id"]),
        )

    async def performance(self) -> Performance:
        """Asked for by people and by scrapes, not by each beat of a heart."""
        fetch = self._connection.fetch
        [entries] = await fetch(ENTRIES, NEWEST)
        passed = [Milestones(**row) for row in await fetch(MILESTONES, NEWEST_DISTRIBUTIONS) if row["mined_at"]]
        spans = [(row["scope"], row["block_number"], row["block_number"] - NEWEST) for row in await fetch(POSTED)]
        bands = (list(LAG_BOUNDS_MS), len(LAG_BANDS) - 1)
        lags = [row for span in spans for row in await fetch(LAGS, *span, *bands)]
        return Performance(
            entries=Entries(**entries),
            latencies=latencies(passed),
            lags=tuple(Lag(**{**row, "bands": tuple(row["bands"])}) for row in lags),
            suspense=tuple(
                SuspenseStatus(row["account"], row["asset"], row["symbol"], int(row["balance"]))
                for row in await fetch(SUSPENSE)
            ),
        )

    async def _consistency(self, reconciliation_id: int | None) -> Consistency:
        fetch = self._connection.fetch
        [checks], [times] = await fetch(CHECKS, reconciliation_id, f"{EXEMPT}%"), await fetch(BREAK_TIMES)
        return Consistency(
            **checks,
            values=tuple([Agreement(**row) for row in await fetch(VALUES, reconciliation_id)]),
            detect_s=None if times["detect"] is None else tuple(times["detect"]),
            resolve_s=None if times["resolve"] is None else tuple(times["resolve"]),
        )
