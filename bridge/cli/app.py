"""What all commands share: the application, its exit codes, the --config option."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from bridge.domain.errors import ConfigError

EXIT_NO = 1
EXIT_MEND = 2
EXIT_NOT_READY = 3
EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h

PLAIN_WIDTH = 160
"""Columns where nobody's terminal says how many there are."""

app = typer.Typer(
    name="bridge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"bridge {metadata.version('bridge')}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Finds surplus on chains by readable rules, pays it back exactly once, and proves it."""


ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
DEFAULT_CONFIG = Path("bridge.toml")


def check_writable(option: str, path: Path, directory: Path) -> None:
    """Make `directory`, where the command will leave its result. Raises ConfigError: before the work, not after it."""
    problem = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror
    else:
        if path.is_dir() and path != directory:
            problem = "Is a directory"
        elif not os.access(directory, os.W_OK):
            problem = "Permission denied"
    if problem:
        raise ConfigError(f"cannot be written: {problem}", where=f"{option} {path}", mend="name another place")


def print_json(content: object) -> None:
    """For machines. Amounts are strings of atoms in all our JSON: readers of JSON round large integers."""
    print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())


def run(work: Coroutine[Any, Any, int]) -> None:
    """Run a command's coroutine and exit with the code that it returns."""
    raise typer.Exit(asyncio.run(work))
