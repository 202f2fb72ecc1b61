"""Chains for the contract tests."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.simulation.anvil import Anvil
from tests.chains.solana_world import SolanaWorld
from tests.chains.world import AnvilWorld, FakeWorld, ForkingWorld, World

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


@pytest.fixture
async def solana_world() -> AsyncIterator[SolanaWorld]:
    async with SolanaWorld.start() as world:
        yield world


@pytest.fixture(params=["fake", "anvil", "solana"])
def world(request: pytest.FixtureRequest) -> World:
    world: World = _world(request)
    return world


@pytest.fixture(params=["fake", "anvil"])
def forking(request: pytest.FixtureRequest) -> ForkingWorld:
    world: ForkingWorld = _world(request)
    return world


def _world(request: pytest.FixtureRequest) -> Any:
    return FakeWorld() if request.param == "fake" else request.getfixturevalue(f"{request.param}_world")
