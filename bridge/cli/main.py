"""The program: all commands, and what becomes of their errors."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from bridge.cli.app import EXIT_FAULT, EXIT_MEND, EXIT_NO, EXIT_NOT_READY, app
from bridge.domain.errors import BridgeError, ConfigError, RetryableError

COMMANDS: Final = {
    "breaks": "breaks",
    "check": "check",
    "deploy": "deployment",
    "explain": "explain",
    "keystore": "keystore",
    "ledger": "ledger",
    "lookup-tables": "lookup_tables",
    "migrate": "migrations",
    "payouts": "payouts",
    "payouts approve": "gate",
    "payouts veto": "gate",
    "reconcile": "reconciliation",
    "report": "reports",
    "rules": "rules",
    "rules backtest": "backtest",
    "run": "daemon",
    "sandbox": "simulation",
    "simulate": "simulation",
    "status": "status",
    "verify": "verify",
}
"""The module of this package that registers a command, by its first words. Only the one that is asked for is loaded:
all of them take seconds, which go to libraries that most commands have no use for."""


def main() -> None:
    """Entry point. Every error on purpose becomes one message and an exit code; a stack trace is a fault of ours."""
    register(sys.argv[1:3])
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
    except Exception:  # noqa: BLE001  # a fault of ours must not look like an answer of ours
        traceback.print_exc()
        sys.exit(EXIT_FAULT)


def register(words: Sequence[str]) -> None:
    """Load the command that `words` begin with; where they name none, all that could be meant, for the help to list."""
    if words[:1] == ["--version"]:
        return
    group, rest = " ".join(words[:1]), words[1:2]
    exact = [name for name in (group, f"{group} {' '.join(rest)}") if name in COMMANDS]
    asks_for_help = not rest or rest[0].startswith("-")
    all_of_group = [name for name in COMMANDS if name.split()[0] == group]
    for name in (all_of_group if asks_for_help else exact) or COMMANDS:
        importlib.import_module(f"bridge.cli.{COMMANDS[name]}")


def _say(error: BridgeError) -> None:
    print(f"bridge: {error}", file=sys.stderr)
