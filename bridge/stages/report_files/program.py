"""Which program made a report: its version, and a hash over its own files."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

import bridge
from bridge.domain.reports.report import Origin

_CODE = frozenset((".py", ".j2", ".css", ".typ", ".json"))


def origin_of(config_sha256: str | None) -> Origin:
    """`config_sha256` is of the bytes of the configuration file."""
    return Origin(metadata.version("bridge"), code_sha256(), config_sha256)


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def code_sha256() -> str:
    """Over the program's own files as they are installed, by their names: whoever has the same has the same program."""
    root = Path(bridge.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in _CODE and path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
