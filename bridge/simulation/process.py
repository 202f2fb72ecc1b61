"""A local server that cannot outlive us."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.domain.errors import ConfigError

GUARD = Path(__file__).with_name("guard.py")
POLL_S = 0.02
START_TIMEOUT_S = 30
LOG_TAIL_LINES = 15

# A Unix socket's path holds 104 bytes on macOS and 108 on Linux; this leaves room for what the servers append.
SCRATCH_PATH_LENGTH_MAX = 70


def make_scratch(purpose: str) -> Path:
    """A fresh directory with a short path, for what a server needs only while it runs. Its guard removes it."""
    prefix = f"bridge-{purpose}-"
    usual = Path(tempfile.gettempdir()).resolve()
    parent = usual if len(str(usual)) + len(prefix) < SCRATCH_PATH_LENGTH_MAX else Path("/tmp")  # noqa: S108
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


class ServerProcess:
    """One running server behind its guard (see guard.py)."""

    def __init__(self, name: str, guard: asyncio.subprocess.Process, pid: int, log: Path) -> None:
        self.name = name
        self.pid = pid
        self.log = log
        self._guard = guard

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        scratch: Path,
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> ServerProcess:
        """Start `command` in `scratch` with its output in `log`, as `user` where given.

        Raises ConfigError when it cannot be started at all.
        """
        # The servers read many variables (addresses, ports, data directories): none of the caller's may leak in.
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(scratch), "TMPDIR": str(scratch), "TZ": "UTC"}
        arguments = ("-I", "-S", str(GUARD), str(int(stop_signal)), str(scratch), user or "", *command)
        try:
            with log.open("wb") as output:
                guard = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *arguments,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=output,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for us; we then stop the servers in order
                )
        except BaseException:
            shutil.rmtree(scratch)
            raise
        assert guard.stdin is not None
        assert guard.stdout is not None
        try:
            first_line = await guard.stdout.readline()
        except BaseException:
            guard.stdin.close()
            await guard.wait()
            raise
        if not first_line.strip().isdigit():
            await guard.wait()
            raise ConfigError(f"{name} cannot be started:\n{_tail(log)}", where=str(log))
        return cls(name, guard, int(first_line), log)

    async def wait_ready(self, ready: Callable[[], bool]) -> None:
        """Return once `ready` holds. Stops the server otherwise, with ConfigError if it ends or takes too long."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        try:
            while not ready():
                self._check_starting(in_time=asyncio.get_running_loop().time() < deadline)
                await asyncio.sleep(POLL_S)
        except BaseException:
            await self.stop()
            raise

    def _check_starting(self, *, in_time: bool) -> None:
        ended = self._guard.returncode is not None
        if ended or not in_time:
            problem = "ended while it was starting" if ended else f"was not ready within {START_TIMEOUT_S} s"
            raise ConfigError(f"{self.name} {problem}:\n{_tail(self.log)}", where=str(self.log))

    async def ended(self) -> int:
        """Wait until the server has ended, asked or not; its exit code."""
        return await self._guard.wait()

    async def stop(self) -> None:
        """Stop the server and return when it is gone. Harmless when it is gone already."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        await asyncio.shield(self._guard.wait())


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
