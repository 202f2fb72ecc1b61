"""bridge report."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import DEFAULT_CONFIG, EXIT_NO, ConfigPath, app, check_writable, run
from bridge.cli.node import Names, open_node, parse_moment
from bridge.cli.progress import Progress
from bridge.compose.database import open_database
from bridge.domain.errors import ConfigError
from bridge.domain.reports.report import Verdict
from bridge.domain.windows import Window, calendar_period
from bridge.runtime.config import load_config
from bridge.stages.report import FORMATS, check_extras, report, write
from bridge.stages.report_files.program import file_sha256


@app.command("report")
def write_report(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path("report"),
    period: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Only this month (or year, or day) of UTC.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="DATE", help="Only from here on, in UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DATE", help="With --from: and before this.")] = None,
    ask_chain: Annotated[
        bool, typer.Option("--ask-chain", help="Ask nodes for balances that no reconciliation has read at the cut-off.")
    ] = False,
    formats: Annotated[
        str, typer.Option("--format", metavar="NAMES", help=f"Of {','.join(FORMATS)}; report.json is always written.")
    ] = "html,json",
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write the report as of the last reconciliation, or over a period; exits 1 when it has an open break."""
    asked, names = _period(period, since, until), _formats(formats)
    if "camt053" in names and asked is None:
        mend = "give --period, or --from and --to"
        raise ConfigError("camt053 is a statement of a period", where="--format", mend=mend)
    check_writable("--out", out, out)
    run(_report(config, out, asked, names, ask_chain=ask_chain))


def _formats(text: str) -> frozenset[str]:
    """Raises ConfigError for what is no format, or needs something that is not installed."""
    names = frozenset(name.strip() for name in text.split(","))
    unknown = sorted(names - set(FORMATS))
    if unknown:
        mend = f"name some of: {', '.join(FORMATS)}"
        raise ConfigError(f"`{unknown[0]}` is no format", where="--format", mend=mend)
    check_extras(names)
    return names


def _period(name: str | None, since: str | None, until: str | None) -> Window | None:
    """What the options mean together. Raises ConfigError where they make no period."""
    if name is not None and (since, until) != (None, None):
        raise ConfigError("names a period already", where="--period", mend="leave out --from and --to, or --period")
    if name is not None:
        try:
            return calendar_period(name)
        except ValueError as error:
            raise ConfigError(
                f"`{name}` {error}", where="--period", mend="--period 2026-11, 2026 or 2026-11-30"
            ) from None
    if since is None and until is None:
        return None
    if since is None or until is None:
        missing = "--from" if since is None else "--to"
        raise ConfigError("is missing", where=missing, mend="a period needs both --from DATE and --to DATE")
    start, end = _second("--from", since), _second("--to", until)
    if start >= end:
        raise ConfigError(f"`{until}` is not after `{since}`", where="--to", mend="the period ends before --to")
    return Window(start, end)


def _second(option: str, text: str) -> int:
    _, second = parse_moment(option, text)
    if second is None or second < 0:
        raise ConfigError(f"`{text}` is not a date since 1970", where=option, mend=f"{option} 2026-11-01 (UTC)")
    return second


async def _report(path: Path, out: Path, period: Window | None, formats: frozenset[str], *, ask_chain: bool) -> int:
    config = load_config(path)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(config, connections_max=1))
        asked = config.chains if ask_chain else ()
        nodes = {name: await stack.enter_async_context(open_node(Names(config, name))) for name in asked}
        chains = {name: node.reader for name, node in nodes.items()}
        with Progress() as progress:
            content = await report(
                database, period, chains=chains, config_sha256=file_sha256(path), progress=progress.tell
            )
            paths = await write(content, out, formats, progress=progress.tell)
    # Tables stand in folders of their own: one line for each.
    for line in dict.fromkeys(path if path.parent == out else path.parent for path in paths):
        print(line)
    print(content.sentence)
    return EXIT_NO if content.verdict is Verdict.BREAKS else 0
