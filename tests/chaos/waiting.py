"""What a run waits for: first that the books are open, then all that has to come before a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.domain.confirmations import Confirmation
from bridge.domain.units import Address
from bridge.store.database import Database
from tests.chaos.daemon import WINDOW_S

WAITING = """
    SELECT (SELECT count(*) FROM actions WHERE state NOT IN ('final', 'void')) AS "actions",
           (SELECT count(*) FROM decisions d WHERE verdict = 'pay'
               AND NOT EXISTS (SELECT FROM distributions p WHERE p.decision_id = d.decision_id)) AS "orders",
           (SELECT count(*) FROM unbooked) AS "facts to book",
           (SELECT count(*) FROM confirmations) - $1 AS "transitions to tell",
           (SELECT $2 - COALESCE(max(window_end), 0) FROM decisions) AS "seconds to decide",
           (SELECT COALESCE(max(block_number), 0) FROM attempts WHERE final)
             - COALESCE((SELECT block_number FROM cursors WHERE stage = 'post'), -1) AS "blocks to post"
"""
REASONS = "SELECT DISTINCT state, reason FROM actions WHERE state NOT IN ('final', 'void') ORDER BY 1, 2"
LETTERS = "SELECT stage, error FROM dead_letters WHERE resolved_at IS NULL"


async def unsettled(database: Database, closed: int, told: Sequence[Confirmation]) -> str | None:
    """What still has to come before a verdict, or None. Windows that had begun by second `closed` are to be decided."""
    last_end = (closed // WINDOW_S + 1) * WINDOW_S
    async with database.snapshot() as transaction:
        sql = transaction.connection
        row = await sql.fetchrow(WAITING, len({one.confirmation_id for one in told}), last_end)
        assert row is not None
        waits = {name: count for name, count in row.items() if count > 0}
        if not waits:
            return None
        reasons = [f"{one['state']}: {one['reason']}" for one in await sql.fetch(REASONS)]
        letters = [f"{one['stage']}: {one['error']}" for one in await sql.fetch(LETTERS)]
    return f"{waits}; {'; '.join(reasons)}; {'; '.join(letters)}"


BOOKS_ARE_OPEN = """
    SELECT EXISTS (SELECT FROM cursors WHERE stage = 'post') AND EXISTS (SELECT FROM senders WHERE account = $1)
"""


async def books_are_open(database: Database, operator: Address) -> bool:
    """Whether the daemon has begun to count what the operator's account does."""
    async with database.snapshot() as transaction:
        is_open: bool = await transaction.connection.fetchval(BOOKS_ARE_OPEN, operator)
        return is_open
