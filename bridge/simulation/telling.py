"""What happened in a run besides plain payouts, in words for somebody who sees it for the first time, and where the
report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.domain.reports.wording import count_of
from bridge.domain.units import AssetId, format_address, format_amount
from bridge.simulation.incidents import Failed, Gift, Incident, Refused
from bridge.store.database import Transaction

REORGS = "SELECT count(*) AS times, COALESCE(sum(blocks_orphaned), 0)::BIGINT AS blocks FROM reorgs"
BREAK = """
    SELECT break_id, state, (SELECT string_agg(n.asked_by || ' and ' || r.answered_by, ', ')
                               FROM corrections n JOIN correction_answers r USING (correction_id)
                              WHERE n.break_id = b.break_id AND r.answer = 'approved') AS people
      FROM breaks b WHERE kind = 'unexpected_in' AND asset = $1 ORDER BY break_id LIMIT 1
"""
CREDIT = """
    SELECT p.amount, p.batch_index AS batch, d.asset FROM payouts p JOIN distributions d USING (distribution_id)
     WHERE p.distribution_id = $1 AND p.recipient = $2 AND p.outcome = 'credited'
"""
FAILURE = """
    SELECT t.fee_paid, later.tx_id, later.block_number
      FROM attempts t JOIN slots s USING (slot_id)
      LEFT JOIN LATERAL (
          SELECT o.tx_id, o.block_number FROM attempts o JOIN slots n USING (slot_id)
           WHERE n.action_id = s.action_id AND o.final AND o.succeeded LIMIT 1
      ) AS later ON TRUE
     WHERE t.tx_id = $1 AND t.final AND NOT t.succeeded
"""
ASSETS = "SELECT asset, symbol, decimals FROM assets"
UNSAID = "do not say so"


async def tell(transaction: Transaction, incidents: Sequence[Incident], reorgs: int) -> list[str]:
    """One sentence for each thing that happened, in order; what nobody would look for in a quiet run."""
    fetchrow = transaction.connection.fetchrow
    assets = {row["asset"]: row for row in await transaction.connection.fetch(ASSETS)}
    told = []
    if reorgs:
        row = await fetchrow(REORGS)
        assert row is not None
        told.append(
            f"{count_of(row['times'], 'reorganisation')} took {count_of(row['blocks'], 'block')} away: what the daemon "
            "had in them was sent again, the same bytes, and paid once (Scope)"
        )
    for each in incidents:
        match each:
            case Gift():
                told.append(_gift(each, await fetchrow(BREAK, each.asset), assets))
            case Refused():
                told.append(_refused(each, await fetchrow(CREDIT, each.distribution_id, each.recipient), assets))
            case Failed():
                told.append(_failed(each, await fetchrow(FAILURE, each.tx_id)))
    return told


def _gift(gift: Gift, found: Any, assets: dict[str, Any]) -> str:
    what = f"block {gift.block}: somebody sent the vault {_amount(gift.asset, gift.amount, assets)}, which was no fee: "
    if found is None:
        return f"{what}the books {UNSAID}"
    settled = f"two people, {found['people']}, booked it as surplus" if found["people"] else "nobody said what it was"
    where = "(Break register; Surplus: adjustments)"
    return f"{what}it lay in suspense, break {found['break_id']} named it, and {settled} {where}"


def _refused(refused: Refused, found: Any, assets: dict[str, Any]) -> str:
    who = f"{format_address(refused.recipient)[:10]}…"
    what = f"block {refused.block}: the token refused its transfer to {who} alone: "
    if found is None:
        return f"{what}the books {UNSAID}"
    amount = _amount(found["asset"], found["amount"], assets)
    what += f"the others of batch {found['batch']} were paid, and {amount} was kept for {who}"
    if refused.withdrawn is not None:
        return f"{what}, who took it in block {refused.withdrawn} (Distributions: credited)"
    return f"{what}, who can take it at any time (Distributions: credited; Pending bridge: owed on chain)"


def _failed(failed: Failed, found: Any) -> str:
    who = f"transaction {_short(failed.tx_id)}"
    what = f"block {failed.block}: {who} failed, for the vault had just been paused: "
    if found is None:
        return f"{what}the books {UNSAID}"
    what += f"its gas, {found['fee_paid']:,} wei, is booked (Gas: reverted)"
    return what if found["tx_id"] is None else f"{what}; its batch was paid later, by {_short(found['tx_id'])}"


def _amount(asset: AssetId, atoms: int, assets: dict[str, Any]) -> str:
    row = assets[asset]
    return f"{format_amount(atoms, row['decimals'])} {row['symbol']}"


def _short(tx_id: bytes) -> str:
    return f"0x{tx_id.hex()[:16]}…"
