"""A short run of the simulation, and that it is one: the same seed is the same run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.chaos.run import Track
from tests.chaos.servers import start_server

SEEDS = 12


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Track]:
    with asyncio.Runner() as runner:
        postgres = runner.run(start_server(tmp_path_factory.mktemp("chaos") / "postgres.log"))
        track = Track(postgres.url)
        yield track
        track.close()
        runner.run(postgres.stop())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


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
