"""The program as a person runs it: a process, its exit code, what it says. Or the same without a process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from bridge.cli import main

TIMEOUT_S = 60


def bridge(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bridge", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )


def bridge_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, in a thread without an event loop, one at a time: for tests of many commands. To start
    a process takes seconds of a processor, and where others want it too, longer than anybody should wait."""
    command, said, complaints, code = ["bridge", *map(str, arguments)], io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", command), redirect_stdout(said), redirect_stderr(complaints):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return subprocess.CompletedProcess(command, code, said.getvalue(), complaints.getvalue())
