"""The daemon as an operator runs it, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from bridge.domain.errors import RetryableError

STOP_TIMEOUT_S = 20
LOG_TAIL_LINES = 20


class DaemonProcess:
    """`bridge run --config FILE`; its log goes to `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, config: Path, log: Path, environment: Mapping[str, str] | None = None) -> DaemonProcess:
        """Start it. Whoever started it ends it, by `stop` or `kill`."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", "run", "--config", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises RetryableError, with the end of its log, where it has ended."""
        if self._process.returncode is not None:
            tail = self._log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            raise RetryableError(
                "\n".join(
                    [f"the daemon ended with exit code {self._process.returncode}; the end of {self._log}:", *tail]
                )
            )

    async def stop(self) -> int:
        """Ask it to stop (SIGTERM) and wait; its exit code. Raises RetryableError when it does not."""
        self.check()
        self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            raise RetryableError(f"the daemon did not stop within {STOP_TIMEOUT_S} s; its log is {self._log}") from None

    def send(self, number: signal.Signals) -> None:
        """Any other signal: SIGSTOP, as when the machine sleeps, and SIGCONT."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, as when the machine loses power. Does nothing to one that has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def wait(self) -> int:
        """Its exit code, when it has ended by itself; negative for a signal."""
        return await self._process.wait()
