"""A short run of the simulation of a Solana vault: seeds that found something once, and one more.

`scripts/chaos --chain solana --seeds 300` runs many.
"""

from __future__ import annotations

import pytest

from tests.chaos.run import Track

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FOUND = (
    17,  # who was left out was told after the batch without him; and the books knew of it before the rows
    27,  # another database's transaction was faster than our signature, which was waited for ever after
    111,  # where accounts have no nonces, no difference of the operator's coins was ever a break
)
OTHER = 151


def test_chaos__seed_twice__clean_and_the_same_run(solana: Track):
    first, second = solana.run(OTHER), solana.run(OTHER)
    assert first.problems == [], f"scripts/chaos --chain solana --seeds 1 --from {OTHER}"
    assert first.trace == second.trace
    assert first == second


@pytest.mark.parametrize("seed", FOUND)
def test_chaos__seed_that_found_something__clean(solana: Track, seed: int):
    outcome = solana.run(seed)
    assert outcome.problems == []
    assert outcome.figures.batches > 0
