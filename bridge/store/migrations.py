"""Bring a database to the schema the code expects; refuse one that is older or newer.

Migrations are numbered SQL files, each applied in a transaction of its own with its sha256. A file that was changed
after it had been applied is refused: the database would no longer be what the files say.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from bridge.domain.errors import ConfigError

if TYPE_CHECKING:
    from bridge.store.database import Database

DIRECTORY = Path(__file__).resolve().parents[2] / "migrations"

CREATE_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    INTEGER PRIMARY KEY,
        name       TEXT NOT NULL,
        sha256     BYTEA NOT NULL,
        applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
"""
LOCK = "SELECT pg_advisory_xact_lock(hashtext('bridge migrate'))"
APPLIED = "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
EXISTS = "SELECT to_regclass('schema_migrations') IS NOT NULL"
GRANT_APPLICATION = "SELECT grant_application($1)"
RECORD = "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str = field(repr=False)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def read_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """All migrations in order. Raises ConfigError where numbers repeat or leave a gap."""
    found = [
        Migration(int(path.name.split("_", 1)[0]), path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(directory.glob("[0-9]*_*.sql"))
    ]
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ConfigError("migration numbers must run 1, 2, 3, … without a gap", where=str(directory))
    return found


async def migrate(database: Database, directory: Path = DIRECTORY) -> list[Migration]:
    """Apply what is missing, one transaction each; returns what was applied. Two at once wait for each other."""
    applied: list[Migration] = []
    for migration in read_migrations(directory):
        async with database.begin() as transaction:
            await transaction.connection.execute(LOCK)
            await transaction.connection.execute(CREATE_TABLE)
            known = {row["version"]: row for row in await transaction.connection.fetch(APPLIED)}
            if migration.version in known:
                _check_unchanged(migration, known[migration.version]["sha256"])
                continue
            await transaction.connection.execute(migration.sql)
            await transaction.connection.execute(RECORD, migration.version, migration.name, migration.sha256)
            applied.append(migration)
    return applied


async def grant_application(database: Database, role: str) -> None:
    """Give the daemon's role what it needs and nothing that changes the books.

    Raises ConfigError where there is no such role, or one from which nothing can be kept.
    """
    try:
        async with database.begin() as transaction:
            await transaction.connection.execute(GRANT_APPLICATION, role)
    except (asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError) as error:
        raise ConfigError(
            str(error),
            where="--application",
            mend="name a role that the daemon logs in as, and that owns nothing: CREATE ROLE name LOGIN PASSWORD '…'",
        ) from error


async def check_schema(database: Database, config_path: str, directory: Path = DIRECTORY) -> None:
    """Raise ConfigError, with the command to type, unless the database has exactly the code's migrations."""
    expected = read_migrations(directory)
    async with database.begin() as transaction:
        known = await transaction.connection.fetch(APPLIED) if await transaction.connection.fetchval(EXISTS) else []
    if len(known) < len(expected):
        raise ConfigError(
            f"the database is at schema version {len(known)}, this program needs {len(expected)}",
            where="[database]",
            mend=f"run: bridge migrate --config {config_path}",
        )
    if len(known) > len(expected):
        raise ConfigError(
            f"the database is at schema version {len(known)}, newer than this program's {len(expected)}",
            where="[database]",
            mend="run the newer version of the bridge, or point it at another database",
        )
    for migration, row in zip(expected, known, strict=True):
        _check_unchanged(migration, row["sha256"])


def _check_unchanged(migration: Migration, applied_sha256: bytes) -> None:
    if migration.sha256 != applied_sha256:
        raise ConfigError(
            "this migration was changed after it had been applied to the database",
            where=f"migrations/{migration.name}.sql",
            mend="restore the file as it was released; put changes in a new migration",
        )
