"""A short run of the simulation, and that it is one: the same seed is the same run."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.chaos.run import Track
from tests.chaos.trouble import EVM

SEEDS = 32
"""Enough for every kind of trouble to come."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_chaos__fixed_seeds__clean_and_every_kind_of_trouble_came():
    """As scripts/chaos runs them, so that what fails here is repeated by what it prints."""
    command = [sys.executable, "-m", "tests.chaos.seeds", "--seeds", str(SEEDS), "--processes", "1"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = [*EVM, "fee bumps", "seeds with two instances"]
    assert [kind for kind in kinds if not re.search(rf"(^|\D)[1-9]\d* {re.escape(kind)}", done.stdout)] == []


def test_chaos__without_any_fault__everything_is_paid_and_balanced(track: Track):
    outcome = track.run(1, kinds=frozenset())
    assert outcome.problems == []
    assert outcome.figures.batches > 0


def test_chaos__same_seed_twice__same_run(track: Track):
    first, second = track.run(3), track.run(3)
    assert first.trace == second.trace
    assert first == second
    assert track.run(4).trace != first.trace
