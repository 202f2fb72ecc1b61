"""Tables: confirmations (written by a trigger on `actions` alone) and subscribers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.domain.confirmations import Confirmation
from bridge.domain.states import ActionState

if TYPE_CHECKING:
    from bridge.store.connection import Connection

# Why no row is skipped and why order holds:
#   * Identity numbers are given before commit, so a lower one may appear after a higher one was read. Rows are
#     therefore read in order of (transaction, confirmation_id), and only those of transactions below the oldest that
#     still runs: nothing can appear before them any more.
#   * For one action, confirmation_id is the true order (its row is locked while the trigger writes), but a transaction
#     that began earlier may change the action later. So a page is told in order of confirmation_id, and takes along
#     whatever older rows of its actions would otherwise come in the next page.
UNTOLD = """
    WITH place AS (
        SELECT COALESCE(s.transaction, '0') AS transaction, COALESCE(s.confirmation_id, 0) AS confirmation_id
          FROM (SELECT) AS one LEFT JOIN subscribers s ON s.subscriber = $1
    ), settled AS NOT MATERIALIZED (
        SELECT c.* FROM confirmations c, place
         WHERE (c.transaction, c.confirmation_id) > (place.transaction, place.confirmation_id)
           AND c.transaction < pg_snapshot_xmin(pg_current_snapshot())
    ), page AS (
        SELECT action_id, confirmation_id FROM settled ORDER BY transaction, confirmation_id LIMIT $2
    )
    SELECT c.confirmation_id, a.distribution_id, a.chain, a.action_id, a.kind,
           CASE a.kind WHEN 'execute' THEN a.ordinal - 1 END AS batch_index,
           c.from_state, c.to_state, c.reason, c.tx_id, c.block_number, c.block_hash
      FROM settled c JOIN actions a USING (action_id)
     WHERE EXISTS (SELECT FROM page p WHERE p.action_id = c.action_id AND p.confirmation_id >= c.confirmation_id)
     ORDER BY c.confirmation_id
"""
# Moves over the longest beginning of (transaction, confirmation_id) that consists of rows that were told.
TOLD = """
    WITH place AS (
        SELECT COALESCE(s.transaction, '0') AS transaction, COALESCE(s.confirmation_id, 0) AS confirmation_id
          FROM (SELECT) AS one LEFT JOIN subscribers s ON s.subscriber = $1
    ), rows AS (
        SELECT c.transaction, c.confirmation_id,
               bool_and(c.confirmation_id = ANY($2)) OVER (ORDER BY c.transaction, c.confirmation_id) AS told
          FROM confirmations c, place
         WHERE (c.transaction, c.confirmation_id) > (place.transaction, place.confirmation_id)
           AND c.transaction <= (SELECT transaction FROM confirmations WHERE confirmation_id = ANY($2)
                                  ORDER BY transaction DESC LIMIT 1)
    )
    INSERT INTO subscribers (subscriber, transaction, confirmation_id)
    SELECT $1, transaction, confirmation_id FROM rows WHERE told ORDER BY transaction DESC, confirmation_id DESC LIMIT 1
    ON CONFLICT (subscriber) DO UPDATE
       SET transaction = excluded.transaction, confirmation_id = excluded.confirmation_id
"""

# Transaction ids belong to one Postgres cluster. A database that was restored into another holds ids that mean nothing
# there: those in the future would be waited for, and new rows would look as if they had been told. All old rows become
# one transaction, long over. Whom a subscriber may have been told of is then judged by confirmation_id alone, which the
# restore keeps: rather told twice than never.
OF_ANOTHER_CLUSTER = """
    SELECT EXISTS (SELECT FROM confirmations WHERE transaction >= pg_snapshot_xmax(pg_current_snapshot()))
        OR EXISTS (SELECT FROM subscribers WHERE transaction >= pg_snapshot_xmax(pg_current_snapshot()))
"""
ADOPT_PLACES = """
    UPDATE subscribers s
       SET transaction = '0',
           confirmation_id = COALESCE(
               (SELECT min(c.confirmation_id) - 1 FROM confirmations c
                 WHERE (c.transaction, c.confirmation_id) > (s.transaction, s.confirmation_id)
                    OR c.confirmation_id > s.confirmation_id),
               s.confirmation_id)
"""
ADOPT_ROWS = "UPDATE confirmations SET transaction = '0' WHERE transaction <> '0'"


class Confirmations:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def adopt(self) -> bool:
        """See ports.ConfirmationStore."""
        if not await self._connection.fetchval(OF_ANOTHER_CLUSTER):
            return False
        await self._connection.execute(ADOPT_PLACES)
        await self._connection.execute(ADOPT_ROWS)
        return True

    async def untold(self, subscriber: str, limit: int) -> list[Confirmation]:
        rows = await self._connection.fetch(UNTOLD, subscriber, limit)
        return [
            Confirmation(
                row["confirmation_id"],
                row["distribution_id"],
                row["chain"],
                row["action_id"],
                row["kind"],
                row["batch_index"],
                ActionState(row["from_state"]),
                ActionState(row["to_state"]),
                row["reason"],
                row["tx_id"],
                row["block_number"],
                row["block_hash"],
            )
            for row in rows
        ]

    async def told(self, subscriber: str, confirmations: Sequence[Confirmation]) -> None:
        await self._connection.execute(TOLD, subscriber, [one.confirmation_id for one in confirmations])
