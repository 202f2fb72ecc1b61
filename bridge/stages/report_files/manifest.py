"""manifest.json: what belongs to a report, and what it is about: enough to check a folder without anything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.stages.report_files.tables import Document

MANIFEST = "manifest.json"
HTML, PDF, README = "report.html", "report.pdf", "README.txt"
FORMAT = "bridge.report/3"
"""Since 3 what is held or given up is told apart from what is in flight; since 2 hashes are as their chain writes them,
in 1 all are 0x hex."""
OLDER = ("bridge.report/2", "bridge.report/1")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, by its path in the folder with forward slashes."""

    path: str
    sha256: str
    size: int  # bytes
    rows: int | None  # of a table, without its header

    @classmethod
    def of(cls, path: Path, directory: Path, rows: int | None) -> Entry:
        content = path.read_bytes()
        return cls(path.relative_to(directory).as_posix(), hashlib.sha256(content).hexdigest(), len(content), rows)


def manifest_text(document: Document, entries: list[Entry]) -> str:
    """Sorted and indented, for people may read it."""
    content = {
        "format": FORMAT,
        **subject(document),
        "files": [
            {"path": entry.path, "sha256": entry.sha256, "size": entry.size, "rows": entry.rows}
            for entry in sorted(entries, key=lambda entry: entry.path)
        ],
    }
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def subject(document: Document) -> dict[str, Any]:
    """What a report is about and what it says of it: the part of the manifest that report.json says too."""
    return {
        "verdict": document["verdict"],
        "sentence": document["sentence"],
        "period": document["period"],
        "chains": [
            {name: chain[name] for name in ("chain", "reference", "genesis_hash", "opening", "cut_off")}
            for chain in document["chains"]
        ],
        "rules": [
            {"rule": rule["rule"], "version": rule["version"], "sha256": rule["content_hash"]}
            for rule in document["rules"]
        ],
        "seals": document["seals"],
        "code_sha256": document["origin"]["code_sha256"],
        "config_sha256": document["origin"]["config_sha256"],
    }


def entries_of(content: Mapping[str, Any]) -> list[Entry]:
    """Raises KeyError, TypeError or ValueError where it is no manifest, or names a file outside of its folder."""
    if content["format"] not in (FORMAT, *OLDER):
        raise ValueError(f"has the format {content['format']!r}, this version reads {', '.join((FORMAT, *OLDER))}")
    found = [Entry(file["path"], file["sha256"], file["size"], file["rows"]) for file in content["files"]]
    for entry in found:
        parts = entry.path.split("/")
        if not all(parts) or {".", ".."} & set(parts) or "\\" in entry.path:
            raise ValueError(f"names {entry.path!r}, which is no path in a report's folder")
    return found
