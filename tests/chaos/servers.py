"""A Postgres for simulations alone, with one migrated database.

Each process has a server of its own: which transitions may be told depends on the oldest transaction of the whole
server, so another run beside this one, or a vacuum by itself, would change what happens.
"""

from __future__ import annotations

from pathlib import Path

import asyncpg

from bridge.simulation.postgres import Postgres
from bridge.store.database import Database
from bridge.store.migrations import migrate


async def start_server(log: Path) -> Postgres:
    postgres = await Postgres.start(log)
    connection = await asyncpg.connect(postgres.url)
    for setting in ("autovacuum = off", "synchronous_commit = off", "full_page_writes = off"):
        await connection.execute(f"ALTER SYSTEM SET {setting}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    database = await Database.open(postgres.url)
    await migrate(database)
    await database.close()
    return postgres
