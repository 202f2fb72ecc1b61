"""bridge explain."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, app, run
from bridge.compose.chain import compile_event
from bridge.compose.database import open_database
from bridge.runtime.config import load_config
from bridge.stages.explain import explain, render_json
from bridge.stages.story_text import render


@app.command("explain")
def explain_payout(
    asked: Annotated[
        str, typer.Argument(metavar="ID", help="A decision, distribution or transaction: hex, or its start.")
    ],
    recipient: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Only this recipient's share.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """A payout's whole story, from source logs to ledger rows."""
    run(_explain(config, asked, recipient, as_json))


async def _explain(path: Path, asked: str, recipient: str | None, as_json: bool) -> int:
    config = load_config(path)
    async with open_database(config, connections_max=1) as database:
        story = await explain(database, asked, decoder=partial(compile_event, config), recipient=recipient)
    print(render_json(story) if as_json else render(story))
    return 0
