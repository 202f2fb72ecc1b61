"""Tables: distributions, payouts, actions, senders, slots, attempts.

Every UPDATE of a state names the state it comes from. Two stages write here (pay and confirm); whoever comes second
changes nothing and looks again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bridge.domain.confirmations import Transition
from bridge.domain.errors import RefusedError
from bridge.domain.ledger import gas_code
from bridge.domain.payouts import (
    Action,
    ActionKind,
    Attempt,
    Batch,
    Distribution,
    Inclusion,
    InFlight,
    Landed,
    LeftOut,
    Leg,
    Order,
    Payout,
    PlannedCall,
    Purpose,
    Sender,
    Signed,
    Slot,
)
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import Address, AssetId, BlockStamp

if TYPE_CHECKING:
    import asyncpg

    from bridge.store.connection import Connection

NEXT_ORDER = """
    -- Each tree of a token builds on the one before, so no other is planned until that one can be relied on
    SELECT d.decision_id, d.chain, d.rule, d.asset, d.window_start, d.window_end, d.total, d.approval
      FROM decisions d LEFT JOIN unnest($2::TEXT[], $3::BIGINT[]) AS claims (asset, above) ON claims.asset = d.asset
     WHERE d.chain = $1 AND d.verdict = 'pay'
       AND NOT EXISTS (SELECT FROM distributions p WHERE p.decision_id = d.decision_id)
       AND NOT (claims.above IS NOT NULL
                AND (SELECT count(*) FROM allocations a WHERE a.decision_id = d.decision_id) > claims.above
                AND EXISTS (SELECT FROM distributions t JOIN distribution_states v USING (distribution_id)
                             WHERE t.chain = d.chain AND t.asset = d.asset AND t.leg = 'claim'
                               AND v.state NOT IN ('final', 'void')))
     ORDER BY d.decision_number
     LIMIT 1
"""
ALLOCATIONS = "SELECT recipient, amount FROM allocations WHERE decision_id = $1 ORDER BY recipient"

INSERT_DISTRIBUTION = """
    INSERT INTO distributions
        (distribution_id, decision_id, chain, rule, asset, total, recipients, batches, content_hash, leg)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
INSERT_ACTION = """
    INSERT INTO actions (distribution_id, ordinal, kind, chain, payload, target, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
DISTRIBUTION = """
    SELECT p.distribution_id, p.content_hash, p.total, p.leg,
           d.decision_id, d.chain, d.rule, d.asset, d.window_start, d.window_end, d.approval
      FROM distributions p JOIN decisions d USING (decision_id)
     WHERE p.distribution_id = $1
"""
BATCHES = """
    SELECT batch_index, recipient, amount FROM payouts
     WHERE distribution_id = $1 AND ($2::INTEGER IS NULL OR batch_index = $2)
     ORDER BY batch_index, recipient
"""
RECENT_RECIPIENTS = """
    -- Of the last $2 distributions that are pushed: each recipient once for each asset
    SELECT DISTINCT recent.asset, p.recipient
      FROM (SELECT d.distribution_id, d.asset FROM distributions d JOIN decisions e USING (decision_id)
             WHERE d.chain = $1 AND d.leg = 'push' ORDER BY e.decision_number DESC LIMIT $2) AS recent
      JOIN payouts p USING (distribution_id)
     ORDER BY recent.asset, p.recipient
"""

_ACTION = """
    a.action_id, a.distribution_id, a.chain, a.ordinal, a.kind, a.state, a.reason, a.target, a.payload,
    d.content_hash, d.leg, e.block_number AS decided_at
"""
PLANNED = f"""
    -- A batch may go as soon as its proposal is in a block and succeeded: nonces keep them in order, and where a reorg
    -- takes the proposal away, its own bytes are sent again under the lower nonce.
    SELECT {_ACTION}
      FROM actions a JOIN distributions d USING (distribution_id) JOIN decisions e USING (decision_id)
      JOIN actions proposal ON proposal.distribution_id = a.distribution_id AND proposal.ordinal = 0
     WHERE a.chain = $1 AND a.state = 'planned' AND (d.leg = 'push' OR d.published_at IS NOT NULL)
       AND (a.ordinal = 0 OR proposal.state = 'final' OR proposal.state = 'included' AND NOT EXISTS (
               SELECT FROM attempts t JOIN slots s USING (slot_id)
                WHERE s.action_id = proposal.action_id AND NOT t.succeeded))
     ORDER BY a.reason IS NOT NULL, a.action_id  -- what waits with a reason is asked after what was never asked
     LIMIT $2
"""  # noqa: S608  # only constants are put in
QUARANTINED = f"""
    SELECT {_ACTION}
      FROM actions a JOIN distributions d USING (distribution_id) JOIN decisions e USING (decision_id)
     WHERE a.chain = $1 AND a.state = 'quarantined'
     ORDER BY a.action_id
"""  # noqa: S608
ACTION = f"""
    SELECT {_ACTION}
      FROM actions a JOIN distributions d USING (distribution_id) JOIN decisions e USING (decision_id)
     WHERE a.action_id = $1
"""  # noqa: S608
STEPS_OF = f"""
    SELECT {_ACTION}
      FROM actions a JOIN distributions d USING (distribution_id) JOIN decisions e USING (decision_id)
     WHERE a.distribution_id BETWEEN $1 AND $2
     ORDER BY a.distribution_id, a.ordinal
"""  # noqa: S608
REVERTED = f"""
    -- Held by the revert itself: what a person or the pre-flight held since then waits for a person.
    SELECT {_ACTION}
      FROM actions a JOIN distributions d USING (distribution_id) JOIN decisions e USING (decision_id)
     WHERE a.chain = $1 AND a.state = 'held'
       AND 'included' = (SELECT c.from_state FROM confirmations c WHERE c.action_id = a.action_id
                          ORDER BY c.confirmation_id DESC LIMIT 1)
       AND (SELECT count(*) FROM slots s WHERE s.action_id = a.action_id AND s.state = 'settled') < $2
       AND EXISTS (
           SELECT FROM attempts t
            WHERE t.final AND NOT t.succeeded AND t.purpose = 'pay'
              AND t.slot_id = (SELECT max(slot_id) FROM slots s WHERE s.action_id = a.action_id))
     ORDER BY a.action_id
"""  # noqa: S608
LIVE_SLOTS = f"""
    SELECT {_ACTION}, s.slot_id, s.account, s.nonce, s.gas_limit
      FROM slots s JOIN actions a USING (action_id) JOIN distributions d USING (distribution_id)
      JOIN decisions e USING (decision_id)
     WHERE s.chain = $1 AND s.state = 'live'
     ORDER BY s.account, s.nonce
"""  # noqa: S608
ATTEMPTS = "SELECT * FROM attempts WHERE slot_id = ANY($1) ORDER BY slot_id, ordinal"

SPENT_SINCE = """
    -- An action counts once, whatever became of its earlier slots.
    SELECT COALESCE(sum(p.amount), 0)
      FROM actions a
      JOIN distributions d USING (distribution_id)
      JOIN payouts p ON p.distribution_id = a.distribution_id AND p.batch_index = a.ordinal - 1
     WHERE a.chain = $1 AND d.asset = $2 AND a.kind = 'execute'
       AND EXISTS (SELECT FROM slots s WHERE s.action_id = a.action_id AND s.reserved_at >= $3)
"""

OPEN_SENDER = """
    INSERT INTO senders (chain, account, first_nonce, next_nonce) VALUES ($1, $2, $3, $3) ON CONFLICT DO NOTHING
"""
SENDER = """
    SELECT x.first_nonce, x.next_nonce,
           (SELECT count(*) FROM slots s
             WHERE s.chain = x.chain AND s.account = x.account AND s.state <> 'live') AS over
      FROM senders x WHERE x.chain = $1 AND x.account = $2
"""
BESIDE_GAS = """
    SELECT COALESCE(max(l1_fee + operator_fee), 0)
      FROM (SELECT t.l1_fee, t.operator_fee FROM slots s JOIN attempts t USING (slot_id)
             WHERE (s.chain, s.account) = ($1, $2) AND t.final ORDER BY s.nonce DESC LIMIT 100) AS latest
"""
NOTE_GAS = """
    UPDATE senders
       SET gas_balance = $3, gas_wanted = $4,
           gas_low_since = CASE WHEN $3 < $4 THEN COALESCE(gas_low_since, now()) END
     WHERE chain = $1 AND account = $2 AND (gas_balance, gas_wanted) IS DISTINCT FROM ($3, $4)
"""
FORGOTTEN = """
    -- A break is taken up by its subject, as judge_nonce names it
    SELECT n AS nonce, EXISTS (
               SELECT FROM breaks b
                WHERE b.chain = x.chain AND b.kind = 'unexpected_out' AND b.subject = $5 || n AND b.state <> 'open'
           ) AS taken_up
      FROM senders x, generate_series(greatest(x.first_nonce, $3), $4::BIGINT - 1) AS n
     WHERE x.chain = $1 AND x.account = $2
       AND NOT EXISTS (SELECT FROM slots s WHERE (s.chain, s.account, s.nonce) = (x.chain, x.account, n))
     ORDER BY n
"""
SETTLED_BY_WORD = f"""
    SELECT {_ACTION}
      FROM actions a JOIN distributions d USING (distribution_id) JOIN decisions e USING (decision_id)
     WHERE a.chain = $1
       AND a.action_id IN (SELECT action_id FROM confirmations WHERE to_state = 'final' AND from_state <> 'included')
       AND NOT EXISTS (SELECT FROM slots s JOIN attempts t USING (slot_id)
                        WHERE s.action_id = a.action_id AND t.final AND t.succeeded AND t.purpose = 'pay')
     ORDER BY a.action_id
"""  # noqa: S608
SLOT_WITH = """
    -- Where accounts have no nonces, the attempt alone says which slot it filled
    SELECT s.slot_id, s.state, s.nonce FROM slots s JOIN attempts a USING (slot_id)
     WHERE a.chain = $1 AND s.account = $2 AND a.tx_id = $3 FOR UPDATE OF s
"""
SLOT_OF = "SELECT slot_id, state FROM slots WHERE chain = $1 AND account = $2 AND nonce = $3 FOR UPDATE"
ADOPT_SLOT = "UPDATE slots SET action_id = $2, state = 'settled' WHERE slot_id = $1"
ADOPT_ATTEMPT = """
    -- Known already where every endpoint denied its receipt: then only what became of it is new
    INSERT INTO attempts (slot_id, ordinal, chain, tx_id, raw, gas_limit, max_fee, priority_fee, signed_head, sent_at,
                          block_number, block_hash, succeeded, gas_used, fee_paid, l1_fee, operator_fee, deposits,
                          final)
    SELECT $1, COALESCE(max(ordinal) + 1, 0), $2, $3, $4, $5, $6, $7, $8, now(), $8, $9, $10, $11, $12, $13, $14, $15,
           TRUE
      FROM attempts WHERE slot_id = $1
    ON CONFLICT (chain, tx_id) DO UPDATE
       SET block_number = excluded.block_number, block_hash = excluded.block_hash, succeeded = excluded.succeeded,
           gas_used = excluded.gas_used, fee_paid = excluded.fee_paid, l1_fee = excluded.l1_fee,
           operator_fee = excluded.operator_fee, deposits = excluded.deposits, final = TRUE
"""
SPENT_THROUGH = """
    UPDATE senders SET next_nonce = greatest(next_nonce, $3 + 1) WHERE chain = $1 AND account = $2
"""
LOCK_SENDER = "SELECT first_nonce, next_nonce FROM senders WHERE chain = $1 AND account = $2 FOR UPDATE"
TAKE_NONCE = "UPDATE senders SET next_nonce = $3 WHERE chain = $1 AND account = $2"
INSERT_SLOT = """
    INSERT INTO slots (chain, account, nonce, action_id, gas_limit, reserved_at, state)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

MOVE = """
    UPDATE actions SET state = $3, reason = $4, updated_at = now() WHERE action_id = $1 AND state = $2
    RETURNING action_id
"""
WAIT = """
    UPDATE actions SET reason = $3, updated_at = now()
     WHERE action_id = $1 AND state = $2 AND reason IS DISTINCT FROM $3
"""
LOCK_ACTION = "SELECT state FROM actions WHERE action_id = $1 FOR UPDATE"
INSERT_ATTEMPT = """
    INSERT INTO attempts
        (slot_id, ordinal, chain, tx_id, raw, purpose, gas_limit, max_fee, priority_fee, signed_head, valid_through)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
COUNT_ATTEMPTS = "SELECT count(*) FROM attempts WHERE slot_id = $1"
MARK_SENT = "UPDATE attempts SET sent_at = now() WHERE attempt_id = $1 AND sent_at IS NULL"
CLEAR_INCLUSION = """
    UPDATE attempts t
       SET block_number = NULL, block_hash = NULL, succeeded = NULL, gas_used = NULL, fee_paid = NULL,
           l1_fee = 0, operator_fee = 0, deposits = 0, signed_head = h.head_number
      FROM heads h
     WHERE h.chain = t.chain AND t.slot_id = $1 AND t.block_number IS NOT NULL AND NOT t.final
"""
INCLUDE = """
    UPDATE attempts
       SET block_number = $2, block_hash = $3, succeeded = $4, gas_used = $5, fee_paid = $6, l1_fee = $7,
           operator_fee = $8, deposits = $9, final = $10, sent_at = COALESCE(sent_at, now())
     WHERE attempt_id = $1
"""
END_SLOT = "UPDATE slots SET state = $2 WHERE slot_id = $1"
LEAVE_OUT = """
    UPDATE payouts SET batch_index = $4 WHERE distribution_id = $1 AND recipient = $2 AND batch_index = $3
    RETURNING recipient
"""
BOOK_AGAIN = """
    -- In a database that is rebuilt the ledger may have passed the block that says the new batch was executed: it looks
    -- at all logs of the distribution once more
    INSERT INTO unbooked (chain, block_number, source, ref)
    SELECT d.chain, e.block_number, 'distribution', d.distribution_id
      FROM distributions d JOIN decisions e USING (decision_id) WHERE d.distribution_id = $1
"""
SETTLE_BATCH = """
    UPDATE payouts SET outcome = CASE WHEN recipient = ANY($3) THEN 'credited' ELSE 'paid' END
     WHERE distribution_id = $1 AND batch_index = $2
"""
# Two arrows each, for nothing planned is given up without having been held.
HOLD_PLANNED = """
    UPDATE actions SET state = 'held', reason = $2, updated_at = now()
     WHERE distribution_id = $1 AND state = 'planned'
    RETURNING action_id
"""
GIVEN_UP = "SELECT EXISTS (SELECT FROM actions WHERE (distribution_id, ordinal, state) = ($1, $2, 'void'))"
VOID_HELD = "UPDATE actions SET state = 'void', reason = $2, updated_at = now() WHERE action_id = ANY($1)"
HOLD_PROPOSAL = "UPDATE actions SET state = 'held', reason = $2 WHERE distribution_id = $1 AND ordinal = 0"
ASKS = "read it with `bridge explain`, then pay it with `bridge payouts release`, or `cancel` it"
NOTIFY = "SELECT pg_notify('bridge', 'payouts')"

SUMMARIES = """
    SELECT p.distribution_id, p.decision_id, p.chain, p.rule, p.asset, p.total, p.recipients, p.batches, p.leg, v.state,
           p.created_at, d.window_start, d.window_end,
           b.timestamp AS decided_block_timestamp, b.added_at AS decided_block_added_at,
           last.block_number AS last_block_number, told.final_at, paid.paid_total, paid.credited_total,
           paid.claimable_total
      FROM distributions p
      JOIN decisions d USING (decision_id)
      JOIN distribution_states v USING (distribution_id)
      LEFT JOIN blocks b ON b.chain = d.chain AND b.number = d.block_number AND b.hash = d.block_hash
      LEFT JOIN LATERAL (
          SELECT COALESCE(sum(amount) FILTER (WHERE outcome = 'paid'), 0) AS paid_total,
                 COALESCE(sum(amount) FILTER (WHERE outcome = 'credited'), 0) AS credited_total,
                 COALESCE(sum(amount) FILTER (WHERE outcome = 'claimable'), 0) AS claimable_total
            FROM payouts o WHERE o.distribution_id = p.distribution_id
      ) AS paid ON TRUE
      LEFT JOIN LATERAL (
          SELECT max(t.block_number) AS block_number
            FROM actions a JOIN slots s USING (action_id) JOIN attempts t USING (slot_id)
           WHERE a.distribution_id = p.distribution_id AND t.final
      ) AS last ON TRUE
      LEFT JOIN LATERAL (
          SELECT max(c.confirmed_at) AS final_at
            FROM confirmations c JOIN actions a USING (action_id)
           WHERE a.distribution_id = p.distribution_id AND c.to_state = 'final'
      ) AS told ON v.state = 'final'
     WHERE $1::BYTEA IS NULL OR p.distribution_id = $1
     ORDER BY d.window_end, p.rule
"""
STEPS = """
    SELECT a.action_id, a.distribution_id, a.ordinal, a.kind, a.state, a.reason, a.updated_at,
           CASE k.kind WHEN 'evm' THEN s.nonce END AS nonce,  -- elsewhere it is a number of ours
           t.tx_id, t.block_number, t.block_hash, b.timestamp AS block_timestamp, t.gas_used, t.fee_paid,
           COALESCE(n.attempts, 0) AS attempts,
           (SELECT c.confirmed_at FROM confirmations c
             WHERE c.action_id = a.action_id AND c.to_state = 'final') AS final_at
      FROM actions a JOIN chains k ON k.chain = a.chain
      -- the newest slot tells the story; older ones were spent by others
      LEFT JOIN LATERAL (
          SELECT * FROM slots WHERE action_id = a.action_id ORDER BY slot_id DESC LIMIT 1
      ) AS s ON TRUE
      LEFT JOIN LATERAL (
          SELECT * FROM attempts WHERE slot_id = s.slot_id ORDER BY (block_number IS NULL), ordinal DESC LIMIT 1
      ) AS t ON TRUE
      LEFT JOIN LATERAL (SELECT count(*) AS attempts FROM attempts WHERE slot_id = s.slot_id) AS n ON TRUE
      LEFT JOIN blocks b ON b.chain = t.chain AND b.number = t.block_number AND b.hash = t.block_hash
     WHERE $1::BYTEA IS NULL OR a.distribution_id = $1
     ORDER BY a.distribution_id, a.ordinal
"""


AWAITS_PROOFS = "its proofs are not published yet"
"""Why the steps of a claim distribution wait at first."""


@dataclass(frozen=True, slots=True)
class Step:
    """One action as people see it, with its newest slot and the attempt that counts."""

    action_id: int
    distribution_id: bytes
    ordinal: int
    kind: str
    state: str
    reason: str | None  # held: why; otherwise what it waits for
    updated_at: datetime
    nonce: int | None
    tx_id: bytes | None  # the included attempt, else the latest
    block_number: int | None
    block_hash: bytes | None
    block_timestamp: int | None  # seconds, chain time
    gas_used: int | None
    fee_paid: int | None  # wei
    attempts: int  # of the newest slot
    final_at: datetime | None  # database time


@dataclass(frozen=True, slots=True)
class Summary:
    """One distribution as people see it."""

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
    created_at: datetime
    window_start: int  # seconds, chain time; half-open
    window_end: int
    decided_block_timestamp: int | None  # seconds, chain time
    decided_block_added_at: datetime | None  # when ingest committed that block, database time
    last_block_number: int | None  # of the last final transaction
    paid_total: int  # atoms that reached their recipients
    credited_total: int  # atoms that wait for a withdrawal by their recipients
    claimable_total: int  # atoms that its accounts may claim, or have claimed
    final_at: datetime | None  # when its last step became final, database time
    steps: tuple[Step, ...]

    @property
    def latency_ms(self) -> int | None:
        """From the commit of the decision's block to the last step's finality; None until then."""
        if self.final_at is None or self.decided_block_added_at is None:
            return None
        return (self.final_at - self.decided_block_added_at) // timedelta(milliseconds=1)

    @property
    def tx_ids(self) -> tuple[bytes, ...]:
        return tuple(step.tx_id for step in self.steps if step.tx_id is not None)


class Payouts:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ── plan ──
    async def next_order(self, chain: str, claims_above: Mapping[AssetId, int]) -> Order | None:
        limits = list(claims_above), list(claims_above.values())
        row = await self._connection.fetchrow(NEXT_ORDER, chain, *limits)
        if row is None:
            return None
        allocations = await self._connection.fetch(ALLOCATIONS, row["decision_id"])
        return _order(row, tuple(Payout(Address(one["recipient"]), one["amount"]) for one in allocations))

    async def plan(self, distribution: Distribution, calls: Sequence[PlannedCall]) -> None:
        order, batches = distribution.order, distribution.batches
        await self._connection.execute(
            INSERT_DISTRIBUTION,
            distribution.distribution_id,
            order.decision_id,
            order.chain,
            order.rule,
            order.asset,
            order.total,
            sum(len(batch.payouts) for batch in batches),
            len(batches),
            distribution.content_hash,
            distribution.leg,
        )
        await self._connection.copy_records_to_table(
            "payouts",
            columns=["distribution_id", "recipient", "batch_index", "amount"],
            records=[
                (distribution.distribution_id, payout.recipient, batch.index, payout.amount)
                for batch in batches
                for payout in batch.payouts
            ],
        )
        reason = AWAITS_PROOFS if distribution.leg is Leg.CLAIM else None
        await self._connection.executemany(
            INSERT_ACTION,
            [
                (distribution.distribution_id, call.ordinal, call.kind, order.chain, call.payload, call.target, reason)
                for call in calls
            ],
        )
        if order.approval is not None:
            # Nothing of it can go before its proposal.
            await self._connection.execute(HOLD_PROPOSAL, distribution.distribution_id, f"{order.approval}; {ASKS}")
        await self._connection.execute(NOTIFY)

    async def distribution(self, distribution_id: bytes, batch_index: int | None = None) -> Distribution:
        """With all batches, or with the one that is named. Raises RefusedError where there is none."""
        row = await self._connection.fetchrow(DISTRIBUTION, distribution_id)
        if row is None:
            raise RefusedError(f"there is no distribution 0x{distribution_id.hex()}")
        payouts: dict[int, list[Payout]] = {}
        for one in await self._connection.fetch(BATCHES, distribution_id, batch_index):
            payouts.setdefault(one["batch_index"], []).append(Payout(Address(one["recipient"]), one["amount"]))
        batches = tuple(Batch(index, tuple(members)) for index, members in payouts.items())
        order = _order(row, tuple(payout for batch in batches for payout in batch.payouts))
        return Distribution(distribution_id, order, row["content_hash"], batches, Leg(row["leg"]))

    # ── what there is to do ──
    async def planned(self, chain: str, limit: int) -> list[Action]:
        return [_action(row) for row in await self._connection.fetch(PLANNED, chain, limit)]

    async def quarantined(self, chain: str) -> list[Action]:
        return [_action(row) for row in await self._connection.fetch(QUARANTINED, chain)]

    async def reverted(self, chain: str, slots_max: int) -> list[Action]:
        return [_action(row) for row in await self._connection.fetch(REVERTED, chain, slots_max)]

    async def in_flight(self, chain: str) -> list[InFlight]:
        rows = await self._connection.fetch(LIVE_SLOTS, chain)
        attempts: dict[int, list[Attempt]] = {}
        for row in await self._connection.fetch(ATTEMPTS, [row["slot_id"] for row in rows]):
            attempts.setdefault(row["slot_id"], []).append(_attempt(row))
        return [InFlight(_action(row), _slot(row), tuple(attempts.get(row["slot_id"], ()))) for row in rows]

    async def spent_since(self, chain: str, asset: AssetId, since: int) -> int:
        spent: int = await self._connection.fetchval(SPENT_SINCE, chain, asset, since)
        return spent

    # ── reserve, sign, send ──
    async def open_sender(self, chain: str, account: Address, finalized_sequence: int) -> Sender:
        await self._connection.execute(OPEN_SENDER, chain, account, finalized_sequence)
        row = await self._connection.fetchrow(SENDER, chain, account)
        assert row is not None
        return Sender(account, row["first_nonce"], row["next_nonce"], row["over"])

    async def beside_gas(self, chain: str, account: Address) -> int:
        return int(await self._connection.fetchval(BESIDE_GAS, chain, account))

    async def note_gas(self, chain: str, account: Address, balance: int, wanted: int) -> None:
        await self._connection.execute(NOTE_GAS, chain, account, balance, wanted)

    async def forgotten(self, chain: str, account: Address, since: int, sequence: int) -> list[tuple[int, bool]]:
        subject = f"{gas_code(account)} nonce "
        rows = await self._connection.fetch(FORGOTTEN, chain, account, since, sequence, subject)
        return [(row["nonce"], row["taken_up"]) for row in rows]

    async def settled_by_word(self, chain: str) -> list[Action]:
        return [_action(row) for row in await self._connection.fetch(SETTLED_BY_WORD, chain)]

    async def adopt(self, action: Action, landed: Landed, chain_time: int) -> bool:
        chain, account, nonce, signed, seen = (
            action.chain,
            landed.account,
            landed.nonce,
            landed.signed,
            landed.inclusion,
        )
        sender = await self._connection.fetchrow(LOCK_SENDER, chain, account)
        if sender is None or (nonce is not None and nonce < sender["first_nonce"]):
            return True  # another's account, or from before the books
        if nonce is None:
            slot = await self._connection.fetchrow(SLOT_WITH, chain, account, signed.tx_id)
            nonce = sender["next_nonce"] if slot is None else slot["nonce"]
        else:
            slot = await self._connection.fetchrow(SLOT_OF, chain, account, nonce)
        if slot is None:
            values = (action.action_id, signed.gas_limit, chain_time, SlotState.SETTLED)
            await self._connection.execute(INSERT_SLOT, chain, account, nonce, *values)
            slot = await self._connection.fetchrow(SLOT_OF, chain, account, nonce)
            assert slot is not None
        elif slot["state"] == SlotState.FOREIGN:
            await self._connection.execute(ADOPT_SLOT, slot["slot_id"], action.action_id)
        else:
            return bool(slot["state"] == SlotState.SETTLED)
        await self._connection.execute(
            ADOPT_ATTEMPT,
            slot["slot_id"],
            chain,
            signed.tx_id,
            signed.raw,
            signed.gas_limit,
            signed.max_fee,
            signed.priority_fee,
            *_columns(seen),
        )
        await self._connection.execute(SPENT_THROUGH, chain, account, nonce)
        return True

    async def reserve(
        self,
        action: Action,
        account: Address,
        gas_limit: int,
        finalized_sequence: int,
        chain_time: int,
        *,
        foreign: Sequence[int] = (),
    ) -> bool:
        if not await self.move(action, ActionState.RESERVED):
            return False
        sender = await self._connection.fetchrow(LOCK_SENDER, action.chain, account)
        assert sender is not None, "the account is opened before anything of it is reserved"
        nonce = max(sender["next_nonce"], finalized_sequence)
        states = [(at, SlotState.FOREIGN) for at in foreign] + [(nonce, SlotState.LIVE)]
        await self._connection.executemany(
            INSERT_SLOT,
            [(action.chain, account, at, action.action_id, gas_limit, chain_time, state) for at, state in states],
        )
        await self._connection.execute(TAKE_NONCE, action.chain, account, nonce + 1)
        return True

    async def wait(self, action: Action, reason: str | None) -> None:
        await self._connection.execute(WAIT, action.action_id, action.state, reason)

    async def move(self, action: Action, to: ActionState, reason: str | None = None) -> bool:
        """One arrow; the database refuses one that does not exist."""
        return await self._connection.fetchval(MOVE, action.action_id, action.state, to, reason) is not None

    async def save_attempt(self, flight: InFlight, signed: Signed, head_number: int) -> bool:
        action, ordinal = flight.action, len(flight.attempts)
        if ordinal == 0:
            if not await self.move(action, ActionState.SIGNED):
                return False
        elif await self._connection.fetchval(LOCK_ACTION, action.action_id) != action.state:
            return False
        await self._connection.execute(
            INSERT_ATTEMPT,
            flight.slot.slot_id,
            ordinal,
            action.chain,
            signed.tx_id,
            signed.raw,
            signed.purpose,
            signed.gas_limit,
            signed.max_fee,
            signed.priority_fee,
            head_number,
            signed.valid_through,
        )
        return True

    async def mark_sent(self, flight: InFlight) -> bool:
        if await self._connection.fetchval(LOCK_ACTION, flight.action.action_id) != flight.action.state:
            return False
        await self._connection.execute(MARK_SENT, flight.latest.attempt_id)
        return flight.action.state is ActionState.BROADCAST or await self.move(flight.action, ActionState.BROADCAST)

    # ── confirm ──
    async def apply(self, flight: InFlight, transition: Transition) -> bool:
        # The action's row is locked before anything else is written: the loser of a race has written nothing.
        if await self._connection.fetchval(LOCK_ACTION, flight.action.action_id) != flight.action.state:
            return False
        # Nor where an attempt was saved since: nobody looked it up, and after a restore it may be in a block already.
        if await self._connection.fetchval(COUNT_ATTEMPTS, flight.slot.slot_id) != len(flight.attempts):
            return False
        await self._connection.execute(CLEAR_INCLUSION, flight.slot.slot_id)
        if transition.attempt is not None and transition.inclusion is not None:
            settled = transition.slot is SlotState.SETTLED
            await self._connection.execute(
                INCLUDE, transition.attempt.attempt_id, *_columns(transition.inclusion), settled
            )
        if transition.slot is not SlotState.LIVE:
            await self._connection.execute(END_SLOT, flight.slot.slot_id, transition.slot)
        # Last, for the trigger records the inclusion that it finds.
        return await self.move(flight.action, transition.to, transition.reason)

    async def leave_out(self, action: Action, left_out: Sequence[LeftOut]) -> None:
        for one in left_out:
            call = one.call
            values = (call.kind, action.chain, call.payload, call.target, None)
            if await self._connection.fetchval(
                LEAVE_OUT, action.distribution_id, one.recipient, action.batch_index, call.ordinal - 1
            ):
                await self._connection.execute(INSERT_ACTION, action.distribution_id, call.ordinal, *values)
        if left_out:
            await self._connection.execute(BOOK_AGAIN, action.distribution_id)
            await self._connection.execute(NOTIFY)

    async def recent_recipients(self, chain: str, distributions: int) -> list[tuple[AssetId, Address]]:
        """Whom the last so many distributions of a chain pay, ascending, each once for each asset."""
        rows = await self._connection.fetch(RECENT_RECIPIENTS, chain, distributions)
        return [(AssetId(row["asset"]), Address(row["recipient"])) for row in rows]

    async def settle_batch(self, distribution_id: bytes, batch_index: int, credited: frozenset[Address]) -> None:
        await self._connection.execute(SETTLE_BATCH, distribution_id, batch_index, list(credited))

    # ── for people ──
    async def action(self, action_id: int) -> Action:
        """Raises RefusedError where there is none."""
        row = await self._connection.fetchrow(ACTION, action_id)
        if row is None:
            raise RefusedError(f"there is no step {action_id}")
        return _action(row)

    async def steps(self, low: bytes, high: bytes) -> list[Action]:
        """Actions of distributions whose id is in low … high, both included, in order."""
        return [_action(row) for row in await self._connection.fetch(STEPS_OF, low, high)]

    async def given_up(self, distribution_id: bytes, ordinal: int) -> bool:
        void: bool = await self._connection.fetchval(GIVEN_UP, distribution_id, ordinal)
        return void

    async def void_planned(self, distribution_id: bytes, reason: str) -> None:
        """Give up what is still planned of a distribution whose proposal was given up."""
        held = await self._connection.fetch(HOLD_PLANNED, distribution_id, reason)
        await self._connection.execute(VOID_HELD, [row["action_id"] for row in held], reason)

    async def summaries(self, distribution_id: bytes | None = None) -> list[Summary]:
        """All distributions (or one) with their steps, in order of window end and rule."""
        steps: dict[bytes, list[Step]] = {}
        for row in await self._connection.fetch(STEPS, distribution_id):
            steps.setdefault(row["distribution_id"], []).append(Step(**row))
        return [
            Summary(**row, steps=tuple(steps.get(row["distribution_id"], ())))
            for row in await self._connection.fetch(SUMMARIES, distribution_id)
        ]


def _order(row: asyncpg.Record, payouts: tuple[Payout, ...]) -> Order:
    return Order(
        row["decision_id"],
        row["chain"],
        row["rule"],
        AssetId(row["asset"]),
        row["window_start"],
        row["window_end"],
        row["total"],
        payouts,
        row["approval"],
    )


def _action(row: asyncpg.Record) -> Action:
    return Action(
        row["action_id"],
        row["distribution_id"],
        row["chain"],
        row["ordinal"],
        ActionKind(row["kind"]),
        ActionState(row["state"]),
        row["reason"],
        Address(row["target"]),
        row["payload"],
        row["content_hash"],
        row["decided_at"],
        Leg(row["leg"]),
    )


def _slot(row: asyncpg.Record) -> Slot:
    return Slot(row["slot_id"], Address(row["account"]), row["nonce"], row["gas_limit"], SlotState.LIVE)


def _attempt(row: asyncpg.Record) -> Attempt:
    signed = Signed(
        row["tx_id"],
        row["raw"],
        row["gas_limit"],
        row["max_fee"],
        row["priority_fee"],
        Purpose(row["purpose"]),
        row["valid_through"],
    )
    return Attempt(
        row["attempt_id"], row["ordinal"], signed, row["signed_head"], row["sent_at"] is not None, _inclusion(row)
    )


def _columns(seen: Inclusion) -> tuple[object, ...]:
    """Of an attempt, from block_number on; what `_inclusion` reads."""
    fees = (seen.fee_paid, seen.l1_fee, seen.operator_fee, seen.deposits)
    return (seen.block.number, seen.block.hash, seen.succeeded, seen.gas_used, *fees)


def _inclusion(row: Any) -> Inclusion | None:
    if row["block_number"] is None:
        return None
    block = BlockStamp(row["chain"], row["block_number"], row["block_hash"])
    fees = (row["fee_paid"], row["l1_fee"], row["operator_fee"], row["deposits"])
    return Inclusion(block, row["succeeded"], row["gas_used"], *fees)
