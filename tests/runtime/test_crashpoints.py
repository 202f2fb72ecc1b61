"""Crash points: nothing in production, SIGKILL where the environment says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bridge.runtime.crashpoints import VARIABLE, CrashPoint

PROGRAM = """
from bridge.runtime.crashpoints import CrashPoint, reach
for _ in range(3):
    reach(CrashPoint.EVENT_SAVED)
    reach(CrashPoint.SLOT_RESERVED)
    print("alive", flush=True)
"""


def run(value: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: text for key, text in os.environ.items() if key != VARIABLE}
    if value is not None:
        environment[VARIABLE] = value
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_reach__no_point_chosen__does_nothing():
    finished = run(None)
    assert (finished.returncode, finished.stdout.count("alive")) == (0, 3)


@pytest.mark.parametrize(("value", "lives"), [("SLOT_RESERVED", 0), ("SLOT_RESERVED:1", 0), ("SLOT_RESERVED:3", 2)])
def test_reach__the_chosen_point__dies_there_by_sigkill(value: str, lives: int):
    finished = run(value)
    assert (finished.returncode, finished.stdout.count("alive")) == (-signal.SIGKILL, lives)


@pytest.mark.parametrize("value", ["NO_SUCH_POINT", "SLOT_RESERVED:0", "SLOT_RESERVED:x"])
def test_reach__a_point_that_does_not_exist__says_which_do(value: str):
    finished = run(value)
    assert finished.returncode == 1
    assert value in finished.stderr
    assert "ATTEMPT_SAVED_NOT_SENT" in finished.stderr


def test_crash_points__each__says_how_recovery_works():
    assert all(len(point.value) > 20 for point in CrashPoint)
    assert len({point.value for point in CrashPoint}) == len(CrashPoint)
