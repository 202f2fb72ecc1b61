"""bridge migrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, app, run
from bridge.runtime.config import load_config
from bridge.store.database import Database
from bridge.store.migrations import grant_application, migrate


@app.command("migrate")
def migrate_database(
    config: ConfigPath = DEFAULT_CONFIG,
    application: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE", help="Give this database role what `bridge run` needs, and no right to change the books."
        ),
    ] = None,
) -> None:
    """Bring the database to this program's schema."""
    run(_migrate(config, application))


async def _migrate(path: Path, application: str | None) -> int:
    config = load_config(path)
    with config.naming_file():
        database = await Database.open(config.database.resolve(), connections_max=1)
    try:
        applied = await migrate(database)
        if application is not None:
            await grant_application(database, application)
    finally:
        await database.close()
    for migration in applied:
        print(f"applied {migration.name}")
    print("the database is up to date")
    return 0
