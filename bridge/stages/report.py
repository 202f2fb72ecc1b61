"""Say what the books say, beside what the chain says, at one cut-off.

    one snapshot ──facts──► assemble ──► Report ──write──► report.json, report.html

The same rows give byte-identical files: no clock is read, everything is in a fixed order.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from bridge.domain.reports import Report, assemble, to_json
from bridge.domain.windows import Window
from bridge.ports import Database
from bridge.stages.report_html import render_html


async def report(database: Database, period: Window | None = None) -> Report:
    """The report over `period`; without one as of the last finished reconciliation, or of the last finalized blocks."""
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts(period)
    return assemble(facts)


def render_json(report: Report) -> str:
    """Canonical JSON: keys sorted, no spaces, amounts as strings of atoms, bytes as 0x hex."""
    return json.dumps(to_json(report), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


async def write(report: Report, directory: Path) -> tuple[Path, Path]:
    """Write report.html and report.json into `directory`, made where it is missing; returns both paths, HTML first."""
    page, data = await asyncio.to_thread(_write_both, report, directory)
    return page, data


def _write_both(report: Report, directory: Path) -> tuple[Path, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    return (
        _replace(directory / "report.html", render_html(report)),
        _replace(directory / "report.json", render_json(report)),
    )


def _replace(path: Path, text: str) -> Path:
    """Whole or not at all: a reader never sees half a file, and a failed run leaves the last good one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
