"""A short run of the simulation, and that it is one: the same seed is the same run."""

from __future__ import annotations

import pytest

from tests.chaos.run import Track

SEEDS = 12


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_chaos__seed__clean(track: Track, seed: int):
    assert track.run(seed).problems == [], f"again with: scripts/chaos --seeds 1 --from {seed}"


def test_chaos__without_any_fault__everything_is_paid_and_balanced(track: Track):
    outcome = track.run(1, kinds=frozenset())
    assert outcome.problems == []
    assert outcome.batches > 0


def test_chaos__same_seed_twice__same_run(track: Track):
    first, second = track.run(3), track.run(3)
    assert first.trace == second.trace
    assert first == second
    assert track.run(4).trace != first.trace
