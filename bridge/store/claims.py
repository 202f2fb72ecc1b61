"""Table entitlements, and the distributions whose leg is 'claim'.

planned ─► proofs published ─► proposed ─► activated: each payout claimable, each entitlement raised, in one commit
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.domain.errors import RefusedError
from bridge.domain.payouts import Action, Payout
from bridge.domain.units import Address, AssetId
from bridge.store.ledger import ROWS_AT_ONCE

if TYPE_CHECKING:
    from bridge.store.connection import Connection

ENTITLED = "SELECT account, cumulative FROM entitlements WHERE chain = $1 AND contract = $2 AND asset = $3"
UNPUBLISHED = """
    SELECT d.distribution_id
      FROM distributions d JOIN decisions e USING (decision_id) JOIN distribution_states v USING (distribution_id)
     WHERE d.chain = $1 AND d.leg = 'claim' AND d.published_at IS NULL AND v.state <> 'void'
     ORDER BY e.decision_number LIMIT 1
"""
NEWEST = """
    SELECT DISTINCT ON (d.asset) d.distribution_id
      FROM distributions d JOIN decisions e USING (decision_id) JOIN distribution_states v USING (distribution_id)
     WHERE d.chain = $1 AND d.leg = 'claim' AND d.published_at IS NOT NULL AND v.state <> 'void'
     ORDER BY d.asset, e.decision_number DESC
"""
SUPERSEDED = """
    SELECT EXISTS (
        SELECT FROM distributions later JOIN decisions e USING (decision_id)
         WHERE later.leg = 'claim' AND (later.chain, later.asset) = (d.chain, d.asset)
           AND e.decision_number > own.decision_number)
      FROM distributions d JOIN decisions own USING (decision_id)
     WHERE d.distribution_id = $1 AND d.leg = 'claim'
"""
LEAVES = """
    -- What was activated before, and what this tree adds to it until it is activated itself
    SELECT account, sum(amount) AS cumulative
      FROM (SELECT n.account, n.cumulative AS amount
              FROM distributions d
              JOIN actions a ON (a.distribution_id, a.ordinal) = (d.distribution_id, 1)
              JOIN entitlements n ON (n.chain, n.contract, n.asset) = (d.chain, a.target, d.asset)
             WHERE d.distribution_id = $1
            UNION ALL
            SELECT recipient, amount FROM payouts WHERE distribution_id = $1 AND outcome IS NULL) AS given
     GROUP BY account ORDER BY account
"""
MARK_PUBLISHED = "UPDATE distributions SET published_at = now() WHERE distribution_id = $1 AND published_at IS NULL"
ASK_NOW = "UPDATE actions SET reason = NULL WHERE distribution_id = $1 AND state = 'planned'"
ACTIVATED = """
    -- Each payout once, however often this is said
    WITH part AS (
        SELECT recipient FROM payouts WHERE distribution_id = $1 AND outcome IS NULL ORDER BY recipient LIMIT $3
    ), claimable AS (
        UPDATE payouts p SET outcome = 'claimable' FROM part
         WHERE p.distribution_id = $1 AND p.recipient = part.recipient AND p.outcome IS NULL
        RETURNING p.recipient, p.amount
    )
    INSERT INTO entitlements (chain, contract, asset, account, cumulative)
    SELECT d.chain, $2, d.asset, c.recipient, c.amount
      FROM claimable c, distributions d WHERE d.distribution_id = $1
    ON CONFLICT (chain, contract, asset, account)
    DO UPDATE SET cumulative = entitlements.cumulative + excluded.cumulative
    RETURNING account
"""
NOTIFY = "SELECT pg_notify('bridge', 'claims')"


class Claims:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def entitled(self, chain: str, contract: Address, asset: AssetId) -> dict[Address, int]:
        """What the activated trees of `contract` give each account. Atoms."""
        rows = await self._connection.fetch(ENTITLED, chain, contract, asset)
        return {Address(row["account"]): row["cumulative"] for row in rows}

    async def unpublished(self, chain: str) -> bytes | None:
        """The oldest claim distribution whose proofs are not published and that is not given up."""
        found: bytes | None = await self._connection.fetchval(UNPUBLISHED, chain)
        return found

    async def newest(self, chain: str) -> list[bytes]:
        """Of each asset, the newest claim distribution that is published and not given up."""
        return [row["distribution_id"] for row in await self._connection.fetch(NEWEST, chain)]

    async def leaves(self, distribution_id: bytes) -> tuple[Payout, ...]:
        """Ascending leaves of its tree. Raises RefusedError unless it is the newest of its asset: an older tree is only
        in its files."""
        if await self._connection.fetchval(SUPERSEDED, distribution_id) is not False:
            raise RefusedError(f"0x{distribution_id.hex()} is not the newest claim distribution of its asset")
        rows = await self._connection.fetch(LEAVES, distribution_id)
        return tuple(Payout(Address(row["account"]), row["cumulative"]) for row in rows)

    async def mark_published(self, distribution_id: bytes) -> None:
        await self._connection.execute(MARK_PUBLISHED, distribution_id)
        await self._connection.execute(ASK_NOW, distribution_id)
        await self._connection.execute(NOTIFY)

    async def activated(self, action: Action) -> None:
        """The tree that `action` activates counts from now on. Safe to repeat."""
        while await self._connection.fetch(ACTIVATED, action.distribution_id, action.target, ROWS_AT_ONCE):
            pass
