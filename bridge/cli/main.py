"""The program: all commands, and what becomes of their errors."""

from __future__ import annotations

import sys
import traceback

# Each of these registers its commands.
from bridge.cli import (  # noqa: F401
    backtest,
    breaks,
    daemon,
    deployment,
    gate,
    keystore,
    ledger,
    lookup_tables,
    payouts,
    reconciliation,
    reports,
    rules,
    simulation,
    verify,
)
from bridge.cli.app import EXIT_FAULT, EXIT_MEND, EXIT_NO, EXIT_NOT_READY, app
from bridge.domain.errors import BridgeError, ConfigError, RetryableError


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
    except Exception:  # noqa: BLE001  # a fault of ours must not look like an answer of ours
        traceback.print_exc()
        sys.exit(EXIT_FAULT)


def _say(error: BridgeError) -> None:
    print(f"bridge: {error}", file=sys.stderr)
