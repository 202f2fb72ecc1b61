"""What a long command is at, on standard error: standard output stays what the command says."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.status import Status

QUIET_S = 3
"""Whoever waits for less need not be told; after that, without a terminal, one line in so many seconds."""


class Progress:
    """On a terminal one line that changes; elsewhere now and then a line, so that a log shows what takes long."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._status: Status | None = None
        self._told = time.monotonic()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, what: str) -> None:
        """Called before each piece of work, from any thread."""
        if self._status is not None:
            self._status.update(what)
        elif time.monotonic() - self._told >= QUIET_S:
            self._told = time.monotonic()
            self._console.print(what, markup=False)
