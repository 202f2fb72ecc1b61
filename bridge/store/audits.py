"""What the reconciler asks of the rows that other stages wrote. Reads only.

Costs: event and completeness questions follow the blocks that are asked about: what is new, and what is in doubt. Those
marked FULL read everything and are asked in a full run only; those about slots and intents read all rows of their small
tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from bridge.domain.breaks import AccountMove, Range, Spent, Waiting
from bridge.domain.events import Block, Log
from bridge.domain.ledger import Due, IntendedBatch, KeptBalance, Sums
from bridge.domain.payouts import Leg
from bridge.domain.records import Stored
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.domain.windows import Window
from bridge.store.ledger import BALANCES_AT
from bridge.store.log_rows import to_log

if TYPE_CHECKING:
    import asyncpg

    from bridge.store.connection import Connection

LAST_LOOKED = """
    -- Not where a break about blocks does not say about which: one from before they did.
    SELECT k.block_number FROM checks k JOIN reconciliations r USING (reconciliation_id)
     WHERE (k.chain, k.level, k.subject) = ($1, 'event', 'logs') AND r.finished_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM breaks WHERE chain = $1 AND state <> 'resolved' AND about_block IS NULL
                           AND check_subject IN ('logs', 'executed batches', 'finalized ranges', 'links',
                                                 'logs of ranges', 'logs of nodes'))
     ORDER BY k.reconciliation_id DESC LIMIT 1
"""
DOUBTED = """
    -- The blocks that breaks are about; and, where a balance is off, those in which it came off: from the last check
    -- that agreed to the first that did not.
    SELECT COALESCE(about_after, about_block - 1) AS after, about_block AS last FROM breaks
     WHERE chain = $1 AND state <> 'resolved' AND about_block IS NOT NULL
    UNION
    SELECT greatest(block_number - $2, agreed_block), block_number FROM breaks
     WHERE chain = $1 AND state <> 'resolved' AND level = 'balance'
     ORDER BY 1, 2
"""
EMPTY_UNTIL = """
    -- Where it is a break already, when it last agreed was noted with it.
    SELECT CASE WHEN found.break_id IS NULL THEN agreed.block_number ELSE found.agreed_block END
      FROM (SELECT min(break_id) AS break_id, min(agreed_block) AS agreed_block FROM breaks
             WHERE (chain, level, check_subject, asset) = ($1, 'suspense', $2, $3) AND state <> 'resolved') AS found
      LEFT JOIN LATERAL (
          SELECT k.block_number FROM checks k JOIN reconciliations r USING (reconciliation_id)
           WHERE found.break_id IS NULL AND (k.chain, k.level, k.subject, k.asset) = ($1, 'suspense', $2, $3)
             AND k.outcome = 'agreed' AND r.finished_at IS NOT NULL
           ORDER BY k.reconciliation_id DESC LIMIT 1) AS agreed ON TRUE
"""

TIME = "SELECT block_time($1, $2)"

JOURNALS_WITHOUT_LOG = """
    SELECT j.block_number, j.ref FROM journals j
     WHERE j.chain = $1 AND j.block_number BETWEEN $2 AND $3 AND j.source = 'log:' || $1
       AND NOT EXISTS (
           SELECT FROM logs l JOIN blocks b ON (b.chain, b.number, b.hash) = (l.chain, l.block_number, l.block_hash)
            WHERE b.status = 'finalized' AND l.chain = j.chain AND l.block_number = j.block_number
              AND l.block_hash = j.block_hash AND encode(l.block_hash, 'hex') || ':' || l.log_index = j.ref)
     ORDER BY j.block_number, j.journal_id LIMIT $4
"""

GAPS = """
    WITH ranges AS (
        SELECT first_block, last_block, lag(last_block, 1, $2::BIGINT - 1) OVER (ORDER BY first_block) AS before
          FROM finalized_ranges WHERE chain = $1 AND first_block <= $3 AND last_block >= $2
           AND first_block >= COALESCE((SELECT max(first_block) FROM finalized_ranges
                                         WHERE chain = $1 AND first_block <= $2), $2)
    )
    SELECT before + 1 AS first, first_block - 1 AS last FROM ranges WHERE first_block > before + 1
    UNION ALL
    SELECT COALESCE(max(last_block) + 1, $2), $3 FROM ranges HAVING COALESCE(max(last_block), $2 - 1) < $3
     ORDER BY 1
"""

BROKEN_LINKS = """
    SELECT b.number FROM blocks b
      JOIN blocks before ON before.chain = b.chain AND before.number = b.number - 1 AND before.status = 'finalized'
     WHERE b.chain = $1 AND b.number BETWEEN $2 AND $3 AND b.status = 'finalized' AND b.parent_hash <> before.hash
     ORDER BY b.number LIMIT $4
"""

SAMPLE = """
    -- Always the last block and those with an open break; for the rest chance decides.
    SELECT number, hash, parent_hash, timestamp FROM blocks
     WHERE chain = $1 AND status = 'finalized'
       AND (number BETWEEN $2 AND $3 OR number = ANY(ARRAY(
            SELECT split_part(subject, ' ', 2)::BIGINT FROM breaks
             WHERE chain = $1 AND level = 'completeness' AND check_subject = 'headers' AND state <> 'resolved')))
     ORDER BY number BETWEEN $2 AND $3 - 1, random() LIMIT $4
"""

OUTCOMES = """
    -- Batches that are over, by chance. What is void was not executed, at any block.
    SELECT a.distribution_id, a.ordinal - 1 AS batch, a.state = 'final' AS executed FROM actions a
     WHERE a.chain = $1 AND a.kind = 'execute' AND (a.state = 'void' OR a.state = 'final' AND EXISTS (
           SELECT FROM slots s JOIN attempts t USING (slot_id)
            WHERE s.action_id = a.action_id AND t.final AND t.block_number <= $2))
     ORDER BY random() LIMIT $3
"""

TORN_JOURNALS = """
    -- FULL. Keys without their journal, journals without their key, and the two with different hashes.
    SELECT COALESCE(k.source, j.source) || ' ' || COALESCE(k.ref, j.ref) AS journal
      FROM (SELECT * FROM journal_keys WHERE chain = $1) k
      FULL JOIN (SELECT * FROM journals WHERE chain = $1) j
        ON (j.journal_id, j.source, j.ref, j.payload_hash) = (k.journal_id, k.source, k.ref, k.payload_hash)
     WHERE k.journal_id IS NULL OR j.journal_id IS NULL
     ORDER BY 1 LIMIT $2
"""

CHAINS = "SELECT DISTINCT chain FROM assets ORDER BY 1"
KEPT = """
    SELECT a.account_id, a.code, a.asset, b.account_id IS NOT NULL AS kept,
           b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending
      FROM accounts a JOIN assets s USING (asset) LEFT JOIN balances b USING (account_id)
     WHERE s.chain = $1 AND a.account_id > $2 ORDER BY a.account_id LIMIT $3
"""
PAGE_END = """
    SELECT block_number, journal_id, seq FROM transfers
     WHERE chain = $1 AND (block_number, journal_id, seq) > ($2, $3, $4)
     ORDER BY block_number, journal_id, seq OFFSET $5 - 1 LIMIT 1
"""
ADDED_UP = """
    WITH page AS (
        SELECT debit_account, credit_account, phase, amount FROM transfers
         WHERE chain = $1 AND (block_number, journal_id, seq) > ($2, $3, $4)
           AND ($5 OR (block_number, journal_id, seq) <= ($6, $7, $8))
    ), sides AS (
        SELECT debit_account AS account_id, phase, amount AS debit, 0 AS credit FROM page
         WHERE debit_account BETWEEN $9 AND $10
        UNION ALL
        SELECT credit_account, phase, 0, amount FROM page WHERE credit_account BETWEEN $9 AND $10
    )
    SELECT account_id,
           sum(CASE WHEN phase IN ('posted', 'post') THEN debit ELSE 0 END) AS debits_posted,
           sum(CASE WHEN phase IN ('posted', 'post') THEN credit ELSE 0 END) AS credits_posted,
           sum(CASE phase WHEN 'pending' THEN debit WHEN 'posted' THEN 0 ELSE -debit END) AS debits_pending,
           sum(CASE phase WHEN 'pending' THEN credit WHEN 'posted' THEN 0 ELSE -credit END) AS credits_pending
      FROM sides GROUP BY account_id
"""

UNMATCHED = """
    -- Asked only where an account that should be empty is not: what it got, in transactions that do not net to zero,
    -- since it was empty; each with its log, where it books one.
    WITH moves AS (
        SELECT t.block_number, t.journal_id,
               sum(CASE t.debit_account WHEN a.account_id THEN t.amount ELSE -t.amount END) AS net
          FROM accounts a
          JOIN transfers t ON a.account_id IN (t.debit_account, t.credit_account)
         WHERE a.code = $2 AND a.asset = $3 AND t.chain = $1 AND t.block_number > $4 AND t.block_number <= $5
           AND t.phase IN ('posted', 'post')
         GROUP BY 1, 2
    ), odd AS (
        SELECT block_number FROM moves GROUP BY block_number HAVING sum(net) <> 0
    )
    SELECT j.source || ' ' || j.ref || ' ' || m.net || ' ' || j.reason AS line, m.net, l.*, j.valid_at AS timestamp
      FROM moves m JOIN odd USING (block_number)
      JOIN journals j ON (j.chain, j.block_number, j.journal_id) = ($1, m.block_number, m.journal_id)
      LEFT JOIN logs l ON j.source = 'log:' || $1 AND l.chain = j.chain AND l.block_number = j.block_number
                      AND l.block_hash = j.block_hash AND encode(l.block_hash, 'hex') || ':' || l.log_index = j.ref
     ORDER BY m.block_number, m.journal_id LIMIT $6
"""

MOVES = """
    -- FULL, of one account.
    SELECT t.block_number, sum(CASE t.debit_account WHEN a.account_id THEN t.amount ELSE -t.amount END) AS net
      FROM accounts a
      JOIN transfers t ON a.account_id IN (t.debit_account, t.credit_account)
     WHERE a.code = $2 AND a.asset = $3 AND t.chain = $1 AND t.block_number <= $4 AND t.phase IN ('posted', 'post')
     GROUP BY 1 ORDER BY 1
"""

ACCOUNT_MOVES = """
    SELECT j.block_number, j.kind, j.source, j.ref, j.reason, j.payload_hash,
           sum(CASE t.debit_account WHEN a.account_id THEN t.amount ELSE -t.amount END) AS net
      FROM accounts a
      JOIN transfers t ON a.account_id IN (t.debit_account, t.credit_account)
      JOIN journals j ON (j.chain, j.block_number, j.journal_id) = (t.chain, t.block_number, t.journal_id)
     WHERE a.code = $2 AND a.asset = $3 AND t.chain = $1 AND t.block_number BETWEEN $4 AND $5
       AND t.phase IN ('posted', 'post')
     GROUP BY j.chain, j.block_number, j.journal_id ORDER BY j.block_number, j.journal_id LIMIT $6
"""

PENDING = f"""
    -- In proportion to accounts, not to what was ever booked on them.
    SELECT asset, sum(credits_pending) AS pending FROM ({BALANCES_AT}) AS balances
     WHERE (code = 'suspense:out' OR code LIKE 'claimable:%') AND $3::TEXT[] IS NULL
     GROUP BY asset
"""  # noqa: S608  # of the constant above
OVERDRAWN = f"""
    SELECT code, asset, debits_posted - credits_posted AS amount FROM ({BALANCES_AT}) AS balances
     WHERE code LIKE 'claimable:%' AND debits_posted > credits_posted AND $3::TEXT[] IS NULL
"""  # noqa: S608
CLAIMANTS = """
    SELECT count(*) FROM accounts a JOIN assets s USING (asset) WHERE s.chain = $1 AND a.code LIKE 'claimable:%'
"""

SETTLED = """
    SELECT s.first_nonce, s.next_nonce,
           (SELECT count(*) FROM slots l JOIN attempts a USING (slot_id)
             WHERE l.chain = $1 AND l.account = $2 AND l.state = 'settled' AND a.final
               AND a.block_number <= $3) AS settled
      FROM senders s WHERE s.chain = $1 AND s.account = $2
"""
NONCE_GAPS = """
    WITH given AS (
        SELECT x.*, (SELECT count(*) FROM slots s WHERE s.chain = x.chain AND s.account = x.account) AS slots
          FROM senders x WHERE x.chain = $1 AND x.account = $2
    )
    SELECT n AS nonce FROM given, generate_series(first_nonce, next_nonce - 1) AS n
     WHERE slots < next_nonce - first_nonce
       AND NOT EXISTS (SELECT FROM slots s WHERE (s.chain, s.account, s.nonce) = ($1, $2, n))
     ORDER BY n
"""
FOREIGN = "SELECT nonce FROM slots WHERE chain = $1 AND account = $2 AND state = 'foreign'"
LIVE = """
    -- A slot with nothing signed cannot have been spent by us: it has no row here.
    SELECT l.nonce, min(COALESCE(a.sent_at, a.signed_at)) > now() - $3 * INTERVAL '1 second' AS fresh
      FROM slots l JOIN attempts a USING (slot_id)
     WHERE l.chain = $1 AND l.account = $2 AND l.state = 'live' GROUP BY l.nonce
"""

SLICE_END = """
    -- The block of the last of so many logs after a block; the last block where there are fewer.
    SELECT COALESCE((SELECT block_number FROM logs WHERE chain = $1 AND block_number > $2 AND block_number <= $3
                      ORDER BY block_number OFFSET $4 LIMIT 1), $3)
"""
CREDITED_AFTER = """
    SELECT DISTINCT a.code FROM accounts a JOIN assets s USING (asset)
     WHERE s.chain = $1 AND a.code LIKE 'owed\\_on\\_chain:%' AND a.code > $2 ORDER BY a.code LIMIT $3
"""
CREDITED_IN_DOUBT = """
    SELECT subject FROM breaks
     WHERE chain = $1 AND state <> 'resolved' AND check_subject = 'credited accounts'
    UNION
    SELECT code FROM (
        SELECT DISTINCT a.code FROM transfers t JOIN accounts a ON a.account_id IN (t.debit_account, t.credit_account)
         WHERE t.chain = $1 AND t.block_number > $2 AND a.code LIKE 'owed\\_on\\_chain:%' LIMIT $3) AS touched
"""

CLAIMANTS_AFTER = """
    SELECT DISTINCT a.code FROM accounts a JOIN assets s USING (asset)
     WHERE s.chain = $1 AND a.code LIKE 'claimable:%' AND a.code > $2 ORDER BY a.code LIMIT $3
"""
CLAIMANTS_IN_DOUBT = """
    -- What a tree gives releases what was pending; what is booked at once is a claim.
    SELECT subject FROM breaks
     WHERE chain = $1 AND state <> 'resolved' AND check_subject = 'claimed accounts'
    UNION
    SELECT code FROM (
        SELECT DISTINCT a.code FROM transfers t JOIN accounts a ON a.account_id = t.debit_account
         WHERE t.chain = $1 AND t.block_number > $2 AND t.phase = 'posted' AND a.code LIKE 'claimable:%'
         LIMIT $3) AS touched
"""
CLAIMED = f"""
    -- All debits, but for reversals: one that undoes a claim credits the account, one that undoes a tree debits it.
    WITH undone AS (
        SELECT account_id, sum(t.amount) AS amount
          FROM journal_keys k
          JOIN transfers t USING (chain, block_number, journal_id)
          CROSS JOIN LATERAL (VALUES (t.debit_account), (t.credit_account)) AS side (account_id)
         WHERE k.source = 'reversal' AND k.chain = $1 AND k.block_number <= $2
         GROUP BY account_id
    )
    SELECT b.code, b.asset, b.debits_posted - COALESCE(u.amount, 0) AS amount
      FROM ({BALANCES_AT}) AS b
      JOIN accounts a USING (code, asset)
      LEFT JOIN undone u USING (account_id)
     WHERE b.code LIKE 'claimable:%'
"""  # noqa: S608  # of the constant above

SETTLED_IN = """
    SELECT distribution_id, batch_index, block_number
      FROM unnest($1::BYTEA[], $2::BIGINT[]) AS wanted (distribution_id, batch_index)
      JOIN journal_keys k ON k.source = 'batch' AND k.ref = encode(distribution_id, 'hex') || ':' || batch_index
      JOIN journals j USING (chain, block_number, journal_id)
     WHERE j.kind = 'settlement'
"""

INTENDED = """
    SELECT p.distribution_id, p.batch_index, d.asset, d.leg, p.recipient, p.amount
      FROM unnest($1::BYTEA[], $2::BIGINT[]) AS wanted (distribution_id, batch_index)
      JOIN payouts p USING (distribution_id, batch_index)
      JOIN distributions d USING (distribution_id)
     ORDER BY p.distribution_id, p.batch_index, p.recipient
"""

WAITING = """
    SELECT d.distribution_id, p.batch_index AS index, d.asset, p.amount, e.window_end, h.reason AS held,
           (SELECT extract(epoch FROM now() - max(c.confirmed_at))::BIGINT
              FROM actions a JOIN confirmations c USING (action_id)
             WHERE a.distribution_id = d.distribution_id AND a.ordinal IN (0, p.batch_index + 1)
               AND c.from_state = 'held') AS resumed_s,
           (SELECT min(t.block_number) FROM actions a JOIN slots USING (action_id) JOIN attempts t USING (slot_id)
             WHERE a.distribution_id = d.distribution_id AND a.ordinal = p.batch_index + 1 AND a.state = 'final'
               AND t.final AND t.succeeded AND t.purpose = 'pay') AS landed
      FROM distributions d
      JOIN decisions e USING (decision_id)
      JOIN journal_keys k ON (k.source, k.ref) = ('distribution', encode(d.distribution_id, 'hex'))
      JOIN LATERAL (SELECT batch_index, sum(amount) AS amount FROM payouts
                     WHERE distribution_id = d.distribution_id GROUP BY batch_index) p ON TRUE
      LEFT JOIN held_batches h USING (distribution_id, batch_index)
     WHERE d.chain = $1
       AND NOT EXISTS (SELECT FROM journal_keys c WHERE c.source = 'batch'
                          AND c.ref = encode(d.distribution_id, 'hex') || ':' || p.batch_index)
     ORDER BY e.window_end, d.distribution_id, p.batch_index
"""

UNJUDGED = """
    -- Who was left out of a batch still counts to it, as far as the rows say: the books know already.
    SELECT count(*) FROM actions a
      JOIN journal_keys c ON (c.source, c.ref) = ('batch', encode(a.distribution_id, 'hex') || ':' || a.ordinal - 1)
     WHERE a.chain = $1 AND a.state NOT IN ('final', 'void')
"""

RANGES = """
    -- Those that end after block $3 and not after block $4. They follow each other, so their ends are in order too.
    SELECT first_block, last_block, logs, digest FROM finalized_ranges
     WHERE chain = $1 AND first_block > $2 AND last_block > $3 AND last_block <= $4
       AND first_block >= COALESCE((SELECT max(first_block) FROM finalized_ranges
                                     WHERE chain = $1 AND first_block <= $3), $3)
     ORDER BY first_block LIMIT $5
"""

STORED = """
    -- FULL. Decisions with everything that their record must bear out, in the order of windows of each rule.
    SELECT d.decision_id, d.rule, d.version, r.content_hash AS rule_hash, d.asset, d.window_start, d.window_end,
           sha256(convert_to(r.body, 'UTF8')) AS rule_text_hash, d.block_number, d.block_hash, d.verdict, d.surplus,
           d.total, d.carried_in, d.carried_out, d.artifact, p.distribution_id, p.total AS planned_total
      FROM decisions d JOIN rules r USING (chain, rule, version) LEFT JOIN distributions p USING (decision_id)
     WHERE d.chain = $1 AND (d.rule, d.window_start) > ($2, $3)
     ORDER BY d.rule, d.window_start LIMIT $4
"""
ALLOCATED = "SELECT decision_id, recipient, amount, carried_in FROM allocations WHERE decision_id = ANY($1)"
PLANNED = "SELECT distribution_id, recipient, amount FROM payouts WHERE distribution_id = ANY($1)"
CARRIED = "SELECT recipient, amount FROM carries WHERE chain = $1 AND rule = $2 AND asset = $3"
CARRIERS = "SELECT DISTINCT rule, asset FROM carries WHERE chain = $1 ORDER BY 1, 2"

JOURNALS_WITHOUT_FACT = """
    -- FULL. Nothing that the bridge did, and nothing that the chain did, is behind them.
    SELECT j.source || ' ' || j.ref FROM journals j
     WHERE j.chain = $1 AND j.block_number <= $2 AND CASE j.source
         WHEN 'decision' THEN NOT EXISTS (SELECT FROM decisions d WHERE encode(d.decision_id, 'hex') = j.ref)
         WHEN 'distribution' THEN
             NOT EXISTS (SELECT FROM distributions d WHERE encode(d.distribution_id, 'hex') = j.ref)
         WHEN 'attempt' THEN
             NOT EXISTS (SELECT FROM attempts a WHERE a.chain = $1 AND a.final AND encode(a.tx_id, 'hex') = j.ref)
         WHEN 'batch' THEN j.kind = 'settlement' AND NOT j.ref = ANY($3) OR j.kind = 'void' AND NOT EXISTS (
             SELECT FROM actions a WHERE a.kind = 'execute' AND a.state = 'void'
                AND encode(a.distribution_id, 'hex') || ':' || (a.ordinal - 1) = j.ref)
         WHEN 'adjustment' THEN NOT EXISTS (
             SELECT FROM corrections c JOIN correction_answers a USING (correction_id)
              WHERE a.answer = 'approved' AND c.chain = $1 AND c.correction_id::TEXT = j.ref)
         WHEN 'reversal' THEN NOT EXISTS (
             SELECT FROM corrections c JOIN correction_answers a USING (correction_id)
              WHERE a.answer = 'approved' AND c.chain = $1 AND c.reverses_source || ' ' || c.reverses_ref = j.ref)
         ELSE FALSE END
     ORDER BY j.block_number, j.journal_id LIMIT $4
"""

FALSE_OUTCOMES = """
    -- FULL. Payouts of settled batches whose outcome is not what the settlement booked: void and credited, or posted:
    -- paid, or claimable.
    SELECT encode(p.distribution_id, 'hex') || ' to ' || address_text(p.recipient)
      FROM payouts p
      JOIN distributions d USING (distribution_id)
      JOIN journal_keys k ON k.source = 'batch' AND k.ref = encode(p.distribution_id, 'hex') || ':' || p.batch_index
      JOIN journals j ON (j.chain, j.block_number, j.journal_id) = (k.chain, k.block_number, k.journal_id)
      JOIN transfers t ON (t.chain, t.block_number, t.journal_id) = (j.chain, j.block_number, j.journal_id)
      JOIN accounts a ON a.account_id = t.debit_account AND a.code = 'payable:' || address_text(p.recipient)
     WHERE k.chain = $1 AND j.kind = 'settlement' AND t.phase IN ('post', 'void')
       AND p.outcome <> CASE WHEN t.phase = 'void' THEN 'credited' WHEN d.leg = 'claim' THEN 'claimable' ELSE 'paid' END
     ORDER BY 1 LIMIT $2
"""

Place = tuple[int, int, int]
"""Of a transfer: block, journal, place in it."""


def _sums(row: asyncpg.Record) -> Sums:
    return Sums(*(int(row[name]) for name in Sums._fields))


class Audits:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def last_looked(self, chain: str) -> int | None:
        """The block up to which runs have looked at events; None where there was none, or all must be looked at."""
        number: int | None = await self._connection.fetchval(LAST_LOOKED, chain)
        return number

    async def doubted(self, chain: str, blocks_max: int) -> list[tuple[int, int]]:
        """Blocks that breaks which are not resolved are about, in order: (after, last), each `blocks_max` at most."""
        return [(row["after"], row["last"]) for row in await self._connection.fetch(DOUBTED, chain, blocks_max)]

    async def empty_until(self, chain: str, code: str, asset: AssetId) -> int | None:
        """The block at which the suspense account `code` was last seen empty; None where it never was."""
        number: int | None = await self._connection.fetchval(EMPTY_UNTIL, chain, code, asset)
        return number

    async def time(self, at: BlockStamp) -> int:
        """Seconds; of the nearest stored block before, where this one is not stored."""
        time: int = await self._connection.fetchval(TIME, at.chain, at.number)
        return time

    async def journals_without_log(self, chain: str, first: int, last: int, limit: int) -> list[tuple[int, str]]:
        """(block, ref) of journals that book a log which is not there, or whose block is not final."""
        return [
            (row[0], row[1]) for row in await self._connection.fetch(JOURNALS_WITHOUT_LOG, chain, first, last, limit)
        ]

    async def gaps(self, chain: str, first: int, last: int) -> list[tuple[int, int]]:
        """Runs of blocks between `first` and `last` that no finalized range covers."""
        return [(row[0], row[1]) for row in await self._connection.fetch(GAPS, chain, first, last)]

    async def broken_links(self, chain: str, first: int, last: int, limit: int) -> list[int]:
        """Finalized blocks whose parent hash is not the hash of the finalized block before."""
        return [row[0] for row in await self._connection.fetch(BROKEN_LINKS, chain, first, last, limit)]

    async def sample(self, chain: str, first: int, last: int, limit: int) -> list[Block]:
        """Stored finalized headers to ask a node for again: `last`, those in doubt, and some others by chance."""
        return [Block(**row) for row in await self._connection.fetch(SAMPLE, chain, first, last, limit)]

    async def outcomes(self, chain: str, last: int, limit: int) -> list[tuple[bytes, int, bool]]:
        rows = await self._connection.fetch(OUTCOMES, chain, last, limit)
        return [(row["distribution_id"], row["batch"], row["executed"]) for row in rows]

    async def torn_journals(self, chain: str, limit: int) -> list[str]:
        return [row[0] for row in await self._connection.fetch(TORN_JOURNALS, chain, limit)]

    async def chains(self) -> list[str]:
        """Those that have accounts."""
        return [row[0] for row in await self._connection.fetch(CHAINS)]

    async def kept(self, chain: str, after: int, limit: int) -> list[KeptBalance]:
        """What is kept of accounts, in the order of their ids, those after account `after`."""
        return [
            KeptBalance(row["account_id"], row["code"], row["asset"], _sums(row) if row["kept"] else None)
            for row in await self._connection.fetch(KEPT, chain, after, limit)
        ]

    async def page_end(self, chain: str, after: Place, transfers: int) -> Place | None:
        """Where the next `transfers` after `after` end; None where there are not more of them than that."""
        row = await self._connection.fetchrow(PAGE_END, chain, *after, transfers)
        return None if row is None else (row["block_number"], row["journal_id"], row["seq"])

    async def added_up(
        self, chain: str, after: Place, end: Place | None, accounts: tuple[int, int]
    ) -> list[tuple[int, Sums]]:
        """The sums of the transfers after `after` up to `end`, or of all, by account: of ids first … last."""
        rows = await self._connection.fetch(ADDED_UP, chain, *after, end is None, *(end or after), *accounts)
        return [(row["account_id"], _sums(row)) for row in rows]

    async def unmatched(
        self, chain: str, account: tuple[str, AssetId], after: int, through: int, limit: int
    ) -> list[tuple[int, str, Log | None]]:
        """(debits − credits, journal in words, log that it books) of blocks in which the account does not net."""
        rows = await self._connection.fetch(UNMATCHED, chain, *account, after, through, limit)
        return [(int(row["net"]), row["line"], None if row["tx_hash"] is None else to_log(row)) for row in rows]

    async def pending(self, at: BlockStamp) -> dict[AssetId, int]:
        """What batches in flight have put aside, in atoms."""
        rows = await self._connection.fetch(PENDING, at.chain, at.number, None)
        return {row["asset"]: int(row["pending"]) for row in rows}

    async def overdrawn(self, at: BlockStamp) -> tuple[int, dict[tuple[str, AssetId], int]]:
        """How many accounts may claim; and of those that have claimed more than they were given, by how much."""
        count: int = await self._connection.fetchval(CLAIMANTS, at.chain)
        rows = await self._connection.fetch(OVERDRAWN, at.chain, at.number, None)
        return count, {(row["code"], row["asset"]): int(row["amount"]) for row in rows}

    async def slice_end(self, chain: str, after: int, last: int, logs: int) -> int:
        """How far `logs` logs after block `after` reach, at most to block `last`."""
        end: int = await self._connection.fetchval(SLICE_END, chain, after, last, logs)
        return end

    async def credited_after(self, chain: str, code: str, limit: int | None) -> list[str]:
        """Accounts that the distributor has ever owed something, by code, after `code`."""
        return [row[0] for row in await self._connection.fetch(CREDITED_AFTER, chain, code, limit)]

    async def credited_in_doubt(self, chain: str, since: int, limit: int) -> list[str]:
        """Those of them that were moved after block `since`, `limit` at most, and those that are a break."""
        return [row[0] for row in await self._connection.fetch(CREDITED_IN_DOUBT, chain, since, limit)]

    async def claimants_after(self, chain: str, code: str, limit: int | None) -> list[str]:
        """Accounts that were ever given something to claim, by code, after `code`."""
        return [row[0] for row in await self._connection.fetch(CLAIMANTS_AFTER, chain, code, limit)]

    async def claimants_in_doubt(self, chain: str, since: int, limit: int) -> list[str]:
        """Those of them that claimed after block `since`, `limit` at most, and those that are a break."""
        return [row[0] for row in await self._connection.fetch(CLAIMANTS_IN_DOUBT, chain, since, limit)]

    async def claimed(self, at: BlockStamp, codes: Sequence[str]) -> dict[tuple[str, AssetId], int]:
        """What accounts have claimed by the books, in atoms."""
        rows = await self._connection.fetch(CLAIMED, at.chain, at.number, codes)
        return {(row["code"], row["asset"]): int(row["amount"]) for row in rows}

    async def settled_in(self, batches: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], int]:
        """The block in which each of `batches` was executed, as booked; those that are not booked are left out."""
        ids, indexes = [batch[0] for batch in batches], [batch[1] for batch in batches]
        rows = await self._connection.fetch(SETTLED_IN, ids, indexes)
        return {(row["distribution_id"], row["batch_index"]): row["block_number"] for row in rows}

    async def moves(self, chain: str, account: tuple[str, AssetId], through: int) -> list[tuple[int, int]]:
        """What `account` (code, asset) gained in each block in which it was booked: (block, debits − credits)."""
        rows = await self._connection.fetch(MOVES, chain, *account, through)
        return [(row["block_number"], int(row["net"])) for row in rows]

    async def account_moves(
        self, chain: str, account: tuple[str, AssetId], first: int, last: int, limit: int
    ) -> list[AccountMove]:
        """The journals that moved the account in blocks `first` to `last`, in order."""
        rows = await self._connection.fetch(ACCOUNT_MOVES, chain, *account, first, last, limit)
        return [AccountMove(**row) for row in rows]

    async def spent(self, chain: str, operator: Address, through: int, allowance_s: int) -> Spent | None:
        """None where the operator never sent anything for us."""
        row = await self._connection.fetchrow(SETTLED, chain, operator, through)
        if row is None:
            return None
        live = await self._connection.fetch(LIVE, chain, operator, allowance_s)
        return Spent(
            first_nonce=row["first_nonce"],
            next_nonce=row["next_nonce"],
            gaps=[gap["nonce"] for gap in await self._connection.fetch(NONCE_GAPS, chain, operator)],
            settled=row["settled"],
            live={slot["nonce"]: slot["fresh"] for slot in live},
            foreign=[slot["nonce"] for slot in await self._connection.fetch(FOREIGN, chain, operator)],
        )

    async def intended(self, batches: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], IntendedBatch]:
        """Those of `batches` (distribution id, index) that were planned here."""
        ids, indexes = [batch[0] for batch in batches], [batch[1] for batch in batches]
        rows = await self._connection.fetch(INTENDED, ids, indexes)
        return {
            key: IntendedBatch(
                *key, asset, tuple(Due(key[1], row["recipient"], row["amount"]) for row in group), Leg(leg)
            )
            for (*key_, asset, leg), group in groupby(
                rows, key=itemgetter("distribution_id", "batch_index", "asset", "leg")
            )
            for key in [(key_[0], key_[1])]
        }

    async def ranges(self, chain: str, span: tuple[int, int], after: int, limit: int) -> list[Range]:
        """Those that end within `span` (after, last) and begin after block `after`, in order."""
        return [Range(*row) for row in await self._connection.fetch(RANGES, chain, after, *span, limit)]

    async def stored(self, chain: str, after: tuple[str, int], limit: int) -> list[Stored]:
        """Decisions by rule and start of the window, those after `after`; with all that belongs to them."""
        rows = await self._connection.fetch(STORED, chain, *after, limit)
        allocations: defaultdict[bytes, dict[Address, tuple[int, int]]] = defaultdict(dict)
        for row in await self._connection.fetch(ALLOCATED, [row["decision_id"] for row in rows]):
            allocations[row["decision_id"]][row["recipient"]] = (row["amount"], row["carried_in"])
        planned: defaultdict[bytes, dict[Address, int]] = defaultdict(dict)
        ids = [row["distribution_id"] for row in rows if row["distribution_id"] is not None]
        for row in await self._connection.fetch(PLANNED, ids):
            planned[row["distribution_id"]][row["recipient"]] = row["amount"]
        same = set(Stored.__dataclass_fields__) & set(rows[0].keys() if rows else ())
        return [
            Stored(
                **{name: row[name] for name in same},
                window=Window(row["window_start"], row["window_end"]),
                allocations=allocations[row["decision_id"]],
                planned=None if row["distribution_id"] is None else planned[row["distribution_id"]],
            )
            for row in rows
        ]

    async def carries(self, chain: str) -> dict[tuple[str, AssetId], dict[Address, int]]:
        """What is carried now, by rule and asset."""
        return {
            (rule, asset): {
                row["recipient"]: row["amount"] for row in await self._connection.fetch(CARRIED, chain, rule, asset)
            }
            for rule, asset in await self._connection.fetch(CARRIERS, chain)
        }

    async def journals_without_fact(self, chain: str, last: int, executed: Sequence[str], limit: int) -> list[str]:
        """Journals of the bridge's own deeds that it has no row for; `executed` are refs of batches with a log."""
        rows = await self._connection.fetch(JOURNALS_WITHOUT_FACT, chain, last, executed, limit)
        return [row[0] for row in rows]

    async def false_outcomes(self, chain: str, limit: int) -> list[str]:
        """Payouts whose outcome is not what was booked."""
        return [row[0] for row in await self._connection.fetch(FALSE_OUTCOMES, chain, limit)]

    async def unjudged(self, chain: str) -> int:
        count: int = await self._connection.fetchval(UNJUDGED, chain)
        return count

    async def waiting(self, chain: str) -> list[Waiting]:
        """Batches whose intent is booked and that nothing has closed, oldest window first."""
        return [Waiting(**row) for row in await self._connection.fetch(WAITING, chain)]
