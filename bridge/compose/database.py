"""The database that a configuration names."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from bridge.runtime.config import Config
from bridge.store.database import Database
from bridge.store.migrations import check_schema


@contextlib.asynccontextmanager
async def open_database(config: Config, *, connections_max: int = 10) -> AsyncIterator[Database]:
    """The database that the configuration names, at this program's schema. Raises ConfigError, here and in the block,
    with the file that it concerns."""
    with config.naming_file():
        database = await Database.open(config.database.resolve(), connections_max=connections_max)
        try:
            await check_schema(database, str(config.path))
            yield database
        finally:
            await database.close()
