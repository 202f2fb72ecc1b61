"""The run that all others are compared with, made once whatever number of processes tests run in."""

import fcntl
import pickle
from pathlib import Path

import pytest

from tests.crash.scenes import Result, undisturbed_run


@pytest.fixture
async def undisturbed(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Result:
    """What the seed of every scene comes to when nothing goes wrong."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    saved = shared / "undisturbed.pickle"
    with (shared / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not saved.exists():
            saved.write_bytes(pickle.dumps(await undisturbed_run(tmp_path / "undisturbed")))
        result: Result = pickle.loads(saved.read_bytes())
    return result
