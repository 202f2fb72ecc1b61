"""A day that is over ─► each chain's blocks of it, looked at again ─► days.

A day is closed once the books of every chain have passed its end. It opens no break: what is wrong by now the runs over
what is new have found; this says what a day's blocks were found to be, for whoever asks about that day later.
"""

from __future__ import annotations

from bridge.domain.breaks import Outcome
from bridge.ports.database import Database
from bridge.ports.running import Lease
from bridge.stages.reconcile import Reconcile

DAY_S = 86_400


async def close_day(reconcile: Reconcile, database: Database, lease: Lease | None, end: int) -> str | None:
    """The day that ends at `end`, in seconds; None where it is too early to say. Raises as Reconcile.run does."""
    if not await reconcile.booked_through(end):
        return None
    found = await reconcile.examine(end - DAY_S, end)
    async with database.begin(lease) as tx:
        for period, checks in found:
            await tx.jobs.close_day(end - DAY_S, period.last, period.first, checks)
    broken = sum(check.outcome is Outcome.BROKEN for _, checks in found for check in checks)
    return f"{len(found)} chains, {broken} checks broken"
