"""Chains for the contract tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.simulation.anvil import Anvil
from tests.chains.world import AnvilWorld, FakeWorld, World

GENESIS_TIMESTAMP = 1_700_000_000


@pytest.fixture
async def anvil_world(tmp_path: Path) -> AsyncIterator[AnvilWorld]:
    anvil = await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS_TIMESTAMP)
    try:
        world = await AnvilWorld.start(anvil, GENESIS_TIMESTAMP)
        yield world
        await world.rpc.close()
    finally:
        await anvil.stop()


@pytest.fixture(params=["fake", "anvil"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return FakeWorld()
    anvil_world: World = request.getfixturevalue("anvil_world")
    return anvil_world
