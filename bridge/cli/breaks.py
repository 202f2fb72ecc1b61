"""bridge breaks list, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, app, run
from bridge.cli.person import user
from bridge.daemon import open_database
from bridge.domain.errors import ConfigError
from bridge.domain.interventions import told
from bridge.runtime.config import load_config

breaks = typer.Typer(
    name="breaks", help="Where books and chain part, and what a person knows of it.", no_args_is_help=True
)
app.add_typer(breaks)


@breaks.command("list")
def list_breaks(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Every break that is not resolved, oldest first."""
    run(_list(config))


async def _list(path: Path) -> int:
    async with (
        open_database(load_config(path), connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        found = await transaction.breaks.unresolved()
    for one in found:
        amount = "" if one.amount is None else f", {one.amount:+,} atoms"
        since = f"{one.opened_at:%Y-%m-%d %H:%M:%S} UTC"
        print(f"break {one.break_id}: {one.kind} of {one.subject}{amount} on {one.chain}, {one.state} since {since}")
        print(f"  {one.evidence}")
    if not found:
        print("no break is open")
    return 0


@breaks.command("explain")
def explain_break(
    break_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The break's number.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What it was; kept with the break, with your user name.")],
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Say what a break was. It stays listed until books and chain agree; after unexpected_out, payouts go on."""
    run(_explain(config, break_id, reason))


async def _explain(path: Path, break_id: int, reason: str) -> int:
    if not reason.strip():
        raise ConfigError("is empty", where="--reason", mend="say what it was: it is kept with the break")
    async with open_database(load_config(path), connections_max=1) as database, database.begin() as transaction:
        await transaction.breaks.explain(break_id, told("explained", user(), reason.strip()))
    print(f"break {break_id}: explained")
    return 0
