"""A short run of the simulation of a Solana vault: seeds that found something once, and one more.

`scripts/chaos --chain solana --seeds 300` runs many.
"""

from __future__ import annotations

import pytest

from tests.chaos import trouble
from tests.chaos.run import Track
from tests.chaos.trouble import Fault

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


def test_chaos__databases_lost_with_recipients_left_out__clean(solana: Track, monkeypatch: pytest.MonkeyPatch):
    """The ledger came to the payment of who was left out before the rows did, and took it for a theft."""
    kinds = {Fault.ACCOUNT_FROZEN: 0.6, Fault.RESTORE: 0.3}
    monkeypatch.setattr(trouble, "RATES", {**trouble.RATES, **kinds})
    outcome = solana.run(0, kinds=frozenset(kinds), instances=1)
    assert outcome.problems == []
    assert all(outcome.counts[kind] for kind in kinds)


@pytest.mark.parametrize("seed", FOUND)
def test_chaos__seed_that_found_something__clean(solana: Track, seed: int):
    outcome = solana.run(seed)
    assert outcome.problems == []
    assert outcome.figures.batches > 0
