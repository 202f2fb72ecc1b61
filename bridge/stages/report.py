"""Say what the books say, beside what the chain says, at one cut-off.

    one snapshot ──facts──► assemble ──► Report ──write──► report.json, report.html, report.pdf
                                                                └────────► csv/, parquet/, camt053.xml
                                                                └────────► manifest.json, last

The same rows give byte-identical files: no clock is read, everything is in a fixed order.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from bridge.domain.errors import ConfigError
from bridge.domain.reports.assembly import assemble
from bridge.domain.reports.balances import unread
from bridge.domain.reports.canonical import to_json
from bridge.domain.reports.facts import BalanceCheck, Facts
from bridge.domain.reports.report import Report
from bridge.domain.units import BlockStamp, parse_address
from bridge.domain.windows import Window
from bridge.ports.database import Database
from bridge.ports.reading import ChainReader
from bridge.stages.report_files import camt053
from bridge.stages.report_files.manifest import HTML, MANIFEST, PDF, README, Entry, manifest_text
from bridge.stages.report_files.program import origin_of
from bridge.stages.report_files.tables import TABLES, Document, Table, csv_text, readme_text
from bridge.stages.report_html import render_html

FORMATS = ("html", "pdf", "json", "csv", "parquet", "camt053")


Progress = Callable[[str], None]


def _quiet(_: str) -> None:
    """Nobody waits for it."""


async def report(
    database: Database,
    period: Window | None = None,
    *,
    chains: Mapping[str, ChainReader] | None = None,
    config_sha256: str | None = None,
    progress: Progress = _quiet,
) -> Report:
    """The report over `period`; without one as of the last finished reconciliation, or of the last finalized blocks.

    `config_sha256` is of the configuration file's bytes; `progress` is told what is done next, in words.

    With `chains`, by name, they are asked for the balances at the cut-off that no reconciliation has read there. Then
    it raises StateUnavailable where no endpoint has the state of that block any more.
    """
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts(period, lambda what: progress(f"reading {what}"))
    if chains:
        facts = await _read_balances(facts, chains, progress)
    return assemble(facts, origin_of(config_sha256))


async def _read_balances(facts: Facts, chains: Mapping[str, ChainReader], progress: Progress) -> Facts:
    found = []
    for scope in facts.chains:
        chain = chains.get(scope.chain)
        if chain is None or scope.cut_off is None:
            continue
        at = BlockStamp(scope.chain, scope.cut_off.number, scope.cut_off.hash)
        progress(f"asking {scope.chain} for balances")
        for code, asset in unread(facts):
            if asset.startswith(f"{scope.reference}/"):
                address = parse_address(code.rpartition(":")[2])
                found.append(BalanceCheck(code, asset, await chain.balance(address, asset, at)))
    # Of two of one account the later one counts: those that were skipped have no balance.
    return dataclasses.replace(facts, balance_checks=(*facts.balance_checks, *found))


def render_json(report: Report) -> str:
    """Canonical JSON: keys sorted, no spaces, amounts as strings of atoms, bytes as 0x hex."""
    return json.dumps(to_json(report), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


async def write(
    report: Report, directory: Path, formats: Collection[str] = ("html", "json"), *, progress: Progress = _quiet
) -> tuple[Path, ...]:
    """Write the files of FORMATS that are asked for into `directory`, made where it is missing, and manifest.json last.

    report.json is always written: the others are checked against it. camt053 is about a period, and about nothing where
    there is no account. What an earlier report left there and this one does not have is removed. `progress` is told
    what is written next. Returns the paths. Raises ConfigError where an extra is not installed.
    """
    return await asyncio.to_thread(_write_all, report, directory, frozenset(formats), progress)


def _write_all(report: Report, directory: Path, formats: frozenset[str], progress: Progress) -> tuple[Path, ...]:
    assert formats <= set(FORMATS)
    check_extras(formats)
    text = render_json(report)
    document = json.loads(text)
    planned: dict[str, tuple[Callable[[Path], object], int | None]] = {}  # path: how it is written, rows of a table
    if "html" in formats:
        planned[HTML] = _text(lambda: render_html(report)), None
    if "pdf" in formats:
        planned[PDF] = _pdf(report), None
    planned["report.json"] = _text(lambda: text), None
    if "camt053" in formats and report.period is not None and camt053.has_statements(document):
        planned[camt053.NAME] = _text(lambda: camt053.camt_text(document)), None
    if formats & {"csv", "parquet"}:
        planned[README] = _text(readme_text), None
    for table in TABLES:
        rows = len(table.rows(document))
        if "csv" in formats:
            planned[f"csv/{table.name}.csv"] = _text(partial(csv_text, table, document)), rows
        if "parquet" in formats:
            planned[f"parquet/{table.name}.parquet"] = _parquet(table, document), rows
    # Without a manifest a folder that is half written is no report yet.
    (directory / MANIFEST).unlink(missing_ok=True)
    for name in _all_names() - planned.keys():
        (directory / name).unlink(missing_ok=True)
    paths = []
    for number, (name, (how, _)) in enumerate(planned.items(), 1):
        progress(f"writing {name} ({number} of {len(planned)})")
        paths.append(_replace(directory / name, how))
    entries = [Entry.of(directory / name, directory, rows) for name, (_, rows) in planned.items()]
    paths.append(_replace(directory / MANIFEST, _text(lambda: manifest_text(document, entries))))
    return tuple(paths)


def check_extras(formats: Collection[str]) -> None:
    """Raises ConfigError where a format needs what is not installed: before the work, not after it."""
    for name, package, extra in (("parquet", "pyarrow", "claims"), ("pdf", "typst", "pdf")):
        if name in formats and importlib.util.find_spec(package) is None:
            mend = f"install the extra: bridge[{extra}]"
            raise ConfigError(f"{name} needs {package}", where="--format", mend=mend)


def _all_names() -> set[str]:
    """Every file that any report has, but for the manifest."""
    tables = {f"{kind}/{table.name}.{kind}" for kind in ("csv", "parquet") for table in TABLES}
    return {HTML, PDF, "report.json", README, camt053.NAME} | tables


def _text(made: Callable[[], str]) -> Callable[[Path], object]:
    return lambda path: path.write_text(made(), encoding="utf-8", newline="\n")


def _pdf(report: Report) -> Callable[[Path], object]:
    from bridge.stages.report_pdf import render_pdf  # noqa: PLC0415 - an extra

    return lambda path: path.write_bytes(render_pdf(report))


def _parquet(table: Table, document: Document) -> Callable[[Path], object]:
    from bridge.stages.report_files.parquet import write_parquet  # noqa: PLC0415 - an extra

    return lambda path: write_parquet(table, document, path)


def _replace(path: Path, write_to: Callable[[Path], object]) -> Path:
    """Whole or not at all: a reader never sees half a file, and a failed run leaves the last good one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        write_to(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
