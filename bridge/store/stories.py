"""What one payout's story is made of: read-only, within one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from bridge.domain.events import Log
from bridge.domain.ledger import Asset
from bridge.domain.payouts import Leg
from bridge.domain.reports.report import Amount
from bridge.domain.stories import (
    DecisionFact,
    Entry,
    JournalFact,
    Match,
    Planned,
    ShareFact,
    SignedAttempt,
    Slot,
    Step,
    StoryFacts,
    Transition,
)
from bridge.domain.units import Address, AssetId
from bridge.store.log_rows import to_log

if TYPE_CHECKING:
    import asyncpg

    from bridge.store.connection import Connection

# Ids between two bounds: a prefix is a range, so that primary keys serve it. Bounded, for a list of candidates is read
# by a person.
FIND = """
    SELECT 'decision' AS kind, decision_id AS id, decision_id
      FROM decisions WHERE decision_id BETWEEN $1 AND $2
    UNION ALL
    SELECT 'distribution', distribution_id, decision_id
      FROM distributions WHERE distribution_id BETWEEN $1 AND $2
    UNION ALL
    SELECT 'transaction', t.tx_id, d.decision_id
      FROM attempts t
      JOIN slots USING (slot_id) JOIN actions USING (action_id) JOIN distributions d USING (distribution_id)
     WHERE t.tx_id BETWEEN $1 AND $2
     ORDER BY kind, id LIMIT 20
"""

DECISION = """
    SELECT d.decision_id, d.chain, d.rule, d.version, r.content_hash, d.asset, d.window_start, d.window_end,
           d.block_number, d.block_hash, d.verdict, d.reason, extract(epoch FROM d.decided_at)::BIGINT AS decided_at,
           d.artifact
      FROM decisions d JOIN rules r USING (chain, rule, version)
     WHERE d.decision_id = $1
"""

ASSET = "SELECT asset AS id, chain, address, symbol, decimals FROM assets WHERE asset = $1"

# Largest first: who reads a part of the list reads the part that matters.
SHARES = """
    SELECT a.recipient, a.amount, a.carried_in, p.batch_index,
           COALESCE(p.outcome, CASE WHEN h.action_id IS NOT NULL THEN 'held'
                                    WHEN s.state = 'void' THEN 'given_up' END) AS outcome,
           CASE WHEN p.outcome IS NULL THEN h.reason END AS held
      FROM allocations a
      LEFT JOIN distributions d USING (decision_id)
      LEFT JOIN payouts p ON p.distribution_id = d.distribution_id AND p.recipient = a.recipient
      LEFT JOIN held_batches h ON (h.distribution_id, h.batch_index) = (p.distribution_id, p.batch_index)
      LEFT JOIN actions s ON (s.distribution_id, s.ordinal) = (p.distribution_id, p.batch_index + 1)
     WHERE a.decision_id = $1
     ORDER BY a.amount DESC, a.recipient
"""

DISTRIBUTION = """
    SELECT distribution_id, leg, recipients, batches, content_hash, state,
           extract(epoch FROM created_at)::BIGINT AS created_at
      FROM distributions JOIN distribution_states USING (distribution_id)
     WHERE decision_id = $1
"""

STEPS = """
    SELECT action_id, ordinal, kind, state, reason, target FROM actions WHERE distribution_id = $1 ORDER BY ordinal
"""

ATTEMPTS = """
    SELECT s.chain, c.kind AS chain_kind, s.action_id, s.slot_id, s.account, s.nonce, s.state,
           t.tx_id, t.ordinal, t.purpose, t.gas_limit, t.max_fee, t.priority_fee,
           extract(epoch FROM t.signed_at)::BIGINT AS signed_at, extract(epoch FROM t.sent_at)::BIGINT AS sent_at,
           t.block_number, t.block_hash, t.succeeded, t.gas_used, t.fee_paid, t.l1_fee, t.operator_fee, t.deposits,
           t.final
      FROM slots s JOIN actions a USING (action_id) JOIN chains c ON c.chain = s.chain
      LEFT JOIN attempts t USING (slot_id)
     WHERE a.distribution_id = $1
     ORDER BY s.slot_id, t.ordinal
"""

TRANSITIONS = """
    SELECT c.action_id, c.from_state, c.to_state, c.reason, c.tx_id, c.block_number,
           extract(epoch FROM c.confirmed_at)::BIGINT AS confirmed_at
      FROM confirmations c JOIN actions a USING (action_id)
     WHERE a.distribution_id = $1
     ORDER BY c.confirmation_id
"""

LOGS = """
    SELECT l.chain, l.block_number, l.block_hash, l.log_index, l.tx_hash, l.tx_index, l.address,
           l.topic0, l.topic1, l.topic2, l.topic3, l.data, b.timestamp
      FROM logs l
      JOIN blocks b ON (b.chain, b.number, b.hash) = (l.chain, l.block_number, l.block_hash)
     WHERE l.chain = $1 AND l.block_number BETWEEN $4 AND $6 AND l.address = ANY($2) AND l.topic0 = $3
       AND (l.block_number, l.log_index) BETWEEN ($4, $5) AND ($6, $7)
       AND b.status = 'finalized'
     ORDER BY l.block_number, l.log_index
     LIMIT $8
"""

LOG_REFS = """
    SELECT block_hash, log_index, topic1, topic2, topic3 FROM logs
     WHERE chain = $1 AND block_number = ANY($2) AND block_hash = ANY($3) AND tx_hash = ANY($4)
     ORDER BY block_number, log_index
"""

JOURNALS = """
    SELECT j.journal_id, j.source, j.ref, j.kind, j.reason, j.block_number, j.block_hash,
           debit.code AS debit, credit.code AS credit, t.amount, t.phase,
           t.asset, s.chain, s.address, s.symbol, s.decimals
      FROM unnest($1::TEXT[], $2::TEXT[]) AS wanted (source, ref)
      JOIN journal_keys k USING (source, ref)
      JOIN journals j USING (chain, block_number, journal_id)
      LEFT JOIN transfers t USING (chain, block_number, journal_id)
      LEFT JOIN assets s ON s.asset = t.asset
      LEFT JOIN accounts debit ON debit.account_id = t.debit_account
      LEFT JOIN accounts credit ON credit.account_id = t.credit_account
     ORDER BY j.block_number, j.journal_id, t.seq
"""


class Stories:
    """Reads; never writes. Open it from `Database.snapshot()`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, low: bytes, high: bytes) -> list[Match]:
        """What has an id in low … high, both included; 20 at most."""
        return [Match(**row) for row in await self._connection.fetch(FIND, low, high)]

    async def facts(self, decision_id: bytes) -> StoryFacts:
        """Everything about one decision that exists; raises LookupError where there is no such decision."""
        row = await self._connection.fetchrow(DECISION, decision_id)
        if row is None:
            raise LookupError(f"no decision 0x{decision_id.hex()}")
        decision = DecisionFact(**row)
        asset = await self._connection.fetchrow(ASSET, decision.asset)
        found = await self._connection.fetchrow(DISTRIBUTION, decision_id)
        return StoryFacts(
            decision=decision,
            # Before its first journal the ledger does not know the asset: whole atoms, under the asset's id.
            asset=Asset(**asset) if asset else Asset(AssetId(decision.asset), decision.chain, None, decision.asset, 0),
            shares=tuple(ShareFact(**share) for share in await self._connection.fetch(SHARES, decision_id)),
            distribution=Planned(**{**found, "leg": Leg(found["leg"])}) if found else None,
            steps=await self._steps(found["distribution_id"]) if found else (),
        )

    async def logs(
        self,
        chain: str,
        contracts: Sequence[Address],
        topic0: bytes,
        *,
        first: tuple[int, int],
        last: tuple[int, int],
        limit: int,
    ) -> list[Log]:
        """Finalized logs of one kind from position `first` to `last` (block, log index), both included, in order."""
        rows = await self._connection.fetch(LOGS, chain, contracts, topic0, *first, *last, limit)
        return [to_log(row) for row in rows]

    async def log_refs(self, chain: str, attempts: Sequence[SignedAttempt]) -> list[tuple[bytes, int, set[bytes]]]:
        """(block hash, log index, indexed fields) of every log that the included ones of `attempts` caused."""
        landed = [attempt for attempt in attempts if attempt.block_number is not None]
        rows = await self._connection.fetch(
            LOG_REFS,
            chain,
            [attempt.block_number for attempt in landed],
            [attempt.block_hash for attempt in landed],
            [attempt.tx_id for attempt in landed],
        )
        return [
            (row["block_hash"], row["log_index"], {row["topic1"], row["topic2"], row["topic3"]} - {None})
            for row in rows
        ]

    async def journals(self, keys: Sequence[tuple[str, str]]) -> list[JournalFact]:
        """The journals of these (source, ref), in the order of the books; those not booked are left out."""
        rows = await self._connection.fetch(JOURNALS, [key[0] for key in keys], [key[1] for key in keys])
        return [
            _journal(list(group))
            for _, group in groupby(rows, key=lambda row: (row["block_number"], row["journal_id"]))
        ]

    async def _steps(self, distribution_id: bytes) -> tuple[Step, ...]:
        attempts = await self._connection.fetch(ATTEMPTS, distribution_id)
        transitions = await self._connection.fetch(TRANSITIONS, distribution_id)
        return tuple(
            Step(
                ordinal=row["ordinal"],
                kind=row["kind"],
                state=row["state"],
                reason=row["reason"],
                target=row["target"],
                slots=_slots([one for one in attempts if one["action_id"] == row["action_id"]]),
                transitions=tuple(_transition(one) for one in transitions if one["action_id"] == row["action_id"]),
            )
            for row in await self._connection.fetch(STEPS, distribution_id)
        )


def _slots(rows: list[asyncpg.Record]) -> tuple[Slot, ...]:
    slots = []
    for _, group in groupby(rows, key=lambda row: row["slot_id"]):
        signed = list(group)
        # A slot is reserved before its first attempt is signed.
        attempts = tuple(_attempt(row) for row in signed if row["tx_id"] is not None)
        head = signed[0]
        nonce = head["nonce"] if head["chain_kind"] == "evm" else None  # elsewhere it is a number of ours
        slots.append(Slot(head["account"], nonce, head["state"], attempts))
    return tuple(slots)


def _attempt(row: asyncpg.Record) -> SignedAttempt:
    # Elsewhere a price may be finer than the coin's atoms, so nothing is said but the number.
    unit = "wei" if row["chain_kind"] == "evm" else "atoms"
    native = Asset(AssetId(f"{row['chain']}/native"), row["chain"], None, unit, 0)
    values = {name: row[name] for name in SignedAttempt.__dataclass_fields__}
    for name in ("max_fee", "priority_fee", "fee_paid", "l1_fee", "operator_fee", "deposits"):
        values[name] = None if row[name] is None else Amount(row[name], native)
    return SignedAttempt(**values)


def _transition(row: asyncpg.Record) -> Transition:
    return Transition(**{name: row[name] for name in Transition.__dataclass_fields__})


def _journal(rows: list[asyncpg.Record]) -> JournalFact:
    head = rows[0]
    entries = tuple(
        Entry(
            row["debit"],
            row["credit"],
            Amount(row["amount"], Asset(row["asset"], row["chain"], row["address"], row["symbol"], row["decimals"])),
            row["phase"],
        )
        for row in rows
        if row["amount"] is not None
    )
    names = ("journal_id", "source", "ref", "kind", "reason", "block_number", "block_hash")
    return JournalFact(**{name: head[name] for name in names}, entries=entries)
