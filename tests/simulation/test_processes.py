"""The local servers: they start, answer, and never outlive the one who asked for them."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import asyncpg
import pytest

from bridge.domain.errors import ConfigError, RefusedError
from bridge.simulation import anvil as anvil_module
from bridge.simulation import postgres as postgres_module
from bridge.simulation.anvil import FINALITY_DISTANCE, Anvil
from bridge.simulation.postgres import Postgres
from bridge.simulation.process import ServerProcess, make_scratch

GENESIS = 1_700_000_000


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pids: list[int], directories: list[Path], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while any(map(alive, pids)) or any(directory.exists() for directory in directories):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if alive(pid)]}, {directories}"
        time.sleep(0.02)


async def test_anvil__started_and_stopped__answers_and_leaves_no_process(tmp_path):
    anvil = await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS)
    try:
        assert int(await anvil.call("eth_chainId"), 16) == 31337
        genesis = await anvil.call("eth_getBlockByNumber", "0x0", False)
        assert int(genesis["timestamp"], 16) == GENESIS
    finally:
        await anvil.stop()
    assert not alive(anvil.process.pid)


async def test_anvil__blocks_mined__finalized_is_the_stated_distance_behind(tmp_path):
    anvil = await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS)
    try:
        for number in range(1, 11):
            await anvil.mine(GENESIS + 7 * number)
        head = await anvil.call("eth_getBlockByNumber", "latest", False)
        finalized = await anvil.call("eth_getBlockByNumber", "finalized", False)
        assert int(head["timestamp"], 16) == GENESIS + 70
        assert int(finalized["number"], 16) == 10 - FINALITY_DISTANCE
    finally:
        await anvil.stop()


async def test_anvil__asked_for_nonsense__is_refused_by_name(tmp_path):
    anvil = await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS)
    try:
        with pytest.raises(RefusedError, match="eth_noSuchThing"):
            await anvil.call("eth_noSuchThing")
    finally:
        await anvil.stop()


async def test_anvil__not_installed__says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(anvil_module, "REPOSITORY", tmp_path)
    with pytest.raises(ConfigError, match="run scripts/setup"):
        await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS)


async def test_postgres__started_and_stopped__answers_and_leaves_no_process_and_no_socket(tmp_path):
    postgres = await Postgres.start(tmp_path / "postgres.log")
    scratch = Path(postgres.url.partition("host=")[2])
    try:
        connection = await asyncpg.connect(postgres.url)
        assert await connection.fetchval("SELECT current_database()") == "bridge"
        await connection.close()
        assert (scratch / ".s.PGSQL.5432").is_socket()
    finally:
        await postgres.stop()
    wait_until_gone([postgres.process.pid], [scratch], timeout_s=0)


async def test_postgres__very_long_temporary_directory__socket_path_still_fits(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    postgres = await Postgres.start(tmp_path / "postgres.log")
    try:
        await (await asyncpg.connect(postgres.url)).close()
    finally:
        await postgres.stop()


def test_postgres__binaries_out_of_reach_of_the_unprivileged__are_copied_and_run(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres_module, "_everyone_can_reach", lambda _: False)
    binaries = postgres_module._binaries(tmp_path, "nobody")
    assert tmp_path in binaries.parents
    version = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("postgres (PostgreSQL)")


async def test_server__that_ends_at_once__error_shows_its_last_words(tmp_path):
    log = tmp_path / "server.log"
    scratch = make_scratch("test")
    server = await ServerProcess.start("Server", ("/bin/sh", "-c", "echo last words; exit 3"), scratch=scratch, log=log)
    with pytest.raises(ConfigError, match="last words"):
        await server.wait_ready(lambda: False)
    assert await server.ended() == 3
    assert not scratch.exists()


async def test_server__that_ignores_the_stop_signal__is_killed(tmp_path):
    scratch = make_scratch("test")
    script = "trap '' TERM; touch ready; while :; do sleep 0.1; done"
    server = await ServerProcess.start("Server", ("/bin/sh", "-c", script), scratch=scratch, log=tmp_path / "log")
    await server.wait_ready((scratch / "ready").exists)
    await server.stop()
    assert await server.ended() == 128 + signal.SIGKILL
    assert not alive(server.pid)


async def test_server__starting_is_cancelled__leaves_no_process(tmp_path):
    scratch = make_scratch("test")
    server = await ServerProcess.start("Server", ("/bin/sleep", "1000"), scratch=scratch, log=tmp_path / "log")
    waiting = asyncio.create_task(server.wait_ready(lambda: False))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not alive(server.pid)
    assert not scratch.exists()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_servers__asker_is_killed__leave_nothing_behind(tmp_path, end):
    program = textwrap.dedent("""
        import asyncio, sys, threading
        from pathlib import Path
        from bridge.simulation.anvil import Anvil
        from bridge.simulation.postgres import Postgres

        async def main():
            anvil = await Anvil.start(Path(sys.argv[1], "anvil.log"), genesis_timestamp=1)
            postgres = await Postgres.start(Path(sys.argv[1], "postgres.log"))
            print(anvil.process.pid, postgres.process.pid, postgres.url.partition("host=")[2], flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    asker = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert asker.stdout is not None
    anvil_pid, postgres_pid, scratch = asker.stdout.readline().split()
    assert alive(int(anvil_pid))
    assert alive(int(postgres_pid))
    asker.send_signal(end)
    asker.communicate()
    wait_until_gone([int(anvil_pid), int(postgres_pid)], [Path(scratch)])
