"""Fenced leases: at most one instance writes for a (stage, chain), judged by the database's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.ports.running import Lease

if TYPE_CHECKING:
    from bridge.store.database import Database

ACQUIRE = """
    -- Takes the lease when it is free, expired, or ours already; each change of hands raises the epoch.
    INSERT INTO leases AS held (name, epoch, holder, expires_at)
    VALUES ($1, 1, $2, clock_timestamp() + $3 * INTERVAL '1 millisecond')
    ON CONFLICT (name) DO UPDATE
       SET epoch = held.epoch + 1, holder = excluded.holder, expires_at = excluded.expires_at
     WHERE held.expires_at < clock_timestamp() OR held.holder = excluded.holder
    RETURNING epoch
"""

RENEW = """
    UPDATE leases SET expires_at = clock_timestamp() + $3 * INTERVAL '1 millisecond'
     WHERE name = $1 AND epoch = $2
    RETURNING epoch
"""

RELEASE = """
    UPDATE leases SET expires_at = '-infinity' WHERE name = $1 AND epoch = $2
"""

HOLDER = "SELECT holder FROM leases WHERE name = $1 AND expires_at >= clock_timestamp()"


class Leases:
    """The leases of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, duration_ms: int) -> Lease | None:
        """The lease, with a new epoch, or None while another instance holds it."""
        async with self._database.begin() as transaction:
            epoch = await transaction.connection.fetchval(ACQUIRE, name, holder, duration_ms)
        return None if epoch is None else Lease(name, epoch, holder)

    async def renew(self, lease: Lease, duration_ms: int) -> bool:
        """False when another instance has taken it."""
        async with self._database.begin() as transaction:
            return await transaction.connection.fetchval(RENEW, lease.name, lease.epoch, duration_ms) is not None

    async def release(self, lease: Lease) -> None:
        """Hand it back at once, so that a restart need not wait for it to expire."""
        async with self._database.begin() as transaction:
            await transaction.connection.execute(RELEASE, lease.name, lease.epoch)

    async def holder(self, name: str) -> str | None:
        async with self._database.begin() as transaction:
            holder: str | None = await transaction.connection.fetchval(HOLDER, name)
            return holder
