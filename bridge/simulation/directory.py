"""A sandbox's directory belongs to one sandbox at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.domain.errors import ConfigError

LOCK = "sandbox.lock"


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the directory as ours alone. An old sandbox's may be used again: its files are written anew.

    Raises ConfigError for a directory that is in use, holds something else, or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        ours = (directory / LOCK).exists() or not any(directory.iterdir())
        if not ours:
            raise ConfigError(
                "is not empty and no sandbox", where=str(directory), mend="name a new or an empty directory"
            )
        lock = (directory / LOCK).open("w")
    except OSError as error:
        problem = f"cannot be used: {error.strerror}"
        raise ConfigError(problem, where=str(directory), mend="name a directory that you may write in") from None
    with lock:
        try:
            # The lock belongs to the open file, so it ends with us however we end.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "a sandbox is running here", where=str(directory), mend="stop it, or name another directory"
            ) from None
        yield
