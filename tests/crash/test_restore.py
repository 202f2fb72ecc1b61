"""The database is lost, and an older one takes its place: what was paid meanwhile is not paid again, and is booked."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.simulation.postgres import installed_binaries
from bridge.simulation.simulate import Simulation
from tests.crash.scenes import Result, check_outcome, settle, staged, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def _run(scene: Simulation, program: str, *arguments: str) -> None:
    socket = parse_qs(urlsplit(scene.sandbox.database_url).query)["host"][0]
    process = await asyncio.create_subprocess_exec(
        str(installed_binaries() / program), "-h", socket, "-U", "postgres", *arguments
    )
    assert await process.wait() == 0, program


async def _paid_finally(scene: Simulation) -> int:
    async with scene.database.snapshot() as transaction:
        return (await transaction.status.read()).distributions.get("final", 0)


async def test_restore__backup_from_before_payouts_became_final__paid_once_and_booked_from_the_chain(
    tmp_path: Path, undisturbed: Result
):
    backup = tmp_path / "backup.sql"

    async def busy() -> bool:
        """The first window is closed and paid in part: there are payouts in every state."""
        async with scene.database.snapshot() as transaction:
            status = await transaction.status.read()
        return status.actions.get("broadcast", 0) + status.actions.get("included", 0) > 0

    async def back_up() -> None:
        await until(busy, "paying")
        await _run(scene, "pg_dump", "-f", str(backup), "bridge")

    async with staged(tmp_path, kind=Simulation) as scene:
        async with scene.daemon_running():
            saving = asyncio.create_task(back_up())
            await scene.traffic()
            await settle(scene)
            await saving
        paid = await _paid_finally(scene)
        await _run(scene, "psql", "-qd", "postgres", "-c", "DROP DATABASE bridge WITH (FORCE)")
        await _run(scene, "psql", "-qd", "postgres", "-c", "CREATE DATABASE bridge")
        await _run(scene, "psql", "-qd", "bridge", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", str(backup))
        assert await _paid_finally(scene) < paid
        async with scene.daemon_running():
            await settle(scene)
        assert await check_outcome(scene) == undisturbed
