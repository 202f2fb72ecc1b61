"""The commands and what becomes of their errors."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.domain.errors import BridgeError, ConfigError, RetryableError

EXIT_NO = 1
EXIT_MEND = 2
EXIT_NOT_READY = 3

app = typer.Typer(
    name="bridge",
    help="Finds surplus on chains by readable rules, pays it back exactly once, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
DEFAULT_CONFIG = Path("bridge.toml")


def main() -> None:
    """Entry point. Every error on purpose becomes one message and an exit code; a stack trace is a fault of ours."""
    try:
        app()
    except ConfigError as error:
        _say(error)
        sys.exit(EXIT_MEND)
    except RetryableError as error:
        _say(error)
        sys.exit(EXIT_NOT_READY)
    except BridgeError as error:
        _say(error)
        sys.exit(EXIT_NO)


def run(work: Coroutine[Any, Any, int]) -> None:
    """Run a command's coroutine and exit with the code that it returns."""
    raise typer.Exit(asyncio.run(work))


def _say(error: BridgeError) -> None:
    print(f"bridge: {error}", file=sys.stderr)


# Each module registers its commands on `app`.
from bridge.cli import daemon, reports, simulation  # noqa: E402, F401
