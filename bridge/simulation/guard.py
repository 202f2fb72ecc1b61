"""Runs one server and ends it with whoever asked for it, however that one ends.

    asker ──holds open──► pipe ──stdin──► guard ──signals──► server

The kernel closes the pipe when the asker exits, is cancelled or is killed, so nobody has to be alive to clean up: the
guard then stops the server and removes the server's scratch directory. Should the guard itself be killed, Linux takes
the server down with it.

It runs as a program of its own and knows the standard library only: `python -I -S guard.py STOP_SIGNAL SCRATCH USER
COMMAND...`, where USER is empty to stay who we are. The first line that it prints is the server's process id; the
server's own output goes to the guard's standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

STOP_TIMEOUT_S = 5
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """See above. Returns the server's exit code, 128 + signal where a signal ended it."""
    stop_signal, scratch, user, *command = arguments
    try:
        return run(signal.Signals(int(stop_signal)), Path(scratch), user or None, command)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(stop_signal: signal.Signals, scratch: Path, user: str | None, command: list[str]) -> int:
    """Start the server and wait for its end or the asker's."""

    def die_with_guard() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal)

    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        cwd=scratch,
        start_new_session=True,
        user=user,
        group=None if user is None else _group_of(user),
        extra_groups=None if user is None else [],
        preexec_fn=die_with_guard,  # noqa: PLW1509 -- no thread runs yet
    )

    def signal_all(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)

    def stop(_signal: int = 0, _frame: FrameType | None = None) -> None:
        signal_all(stop_signal)
        impatience = threading.Timer(STOP_TIMEOUT_S, signal_all, [signal.SIGKILL])
        impatience.daemon = True
        impatience.start()

    def stop_when_alone() -> None:
        os.read(0, 1)  # nothing is ever written, so this returns when the last writer is gone
        stop()

    for end in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(end, stop)
    threading.Thread(target=stop_when_alone, daemon=True).start()
    print(server.pid, flush=True)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _group_of(user: str) -> int:
    import pwd  # noqa: PLC0415 -- only root needs it

    return pwd.getpwnam(user).pw_gid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
