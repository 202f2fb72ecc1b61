"""What the tests of the simulation share: a server, a loop and a connection for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.chaos.run import Track
from tests.chaos.servers import start_server


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Track]:
    with asyncio.Runner() as runner:
        postgres = runner.run(start_server(tmp_path_factory.mktemp("chaos") / "postgres.log"))
        track = Track(postgres.url)
        yield track
        track.close()
        runner.run(postgres.stop())


@pytest.fixture(scope="module")
def solana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Track]:
    with asyncio.Runner() as runner:
        postgres = runner.run(start_server(tmp_path_factory.mktemp("chaos") / "postgres.log"))
        track = Track(postgres.url, "solana")
        yield track
        track.close()
        runner.run(postgres.stop())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)
