"""Say what the books say, beside what the chain says, at one cut-off.

    one snapshot ──facts──► assemble ──► Report ──write──► report.json ──► report.html, csv/, parquet/, camt053.xml
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
from pathlib import Path

from bridge.domain.errors import ConfigError
from bridge.domain.reports import BalanceCheck, Facts, Report, assemble, to_json, unread
from bridge.domain.units import BlockStamp, parse_address
from bridge.domain.windows import Window
from bridge.ports import ChainReader, Database
from bridge.stages.report_files import camt053
from bridge.stages.report_files.manifest import MANIFEST, Entry, manifest_text
from bridge.stages.report_files.tables import TABLES, Document, Table, csv_text, readme_text
from bridge.stages.report_html import render_html

FORMATS = ("html", "json", "csv", "parquet", "camt053")


async def report(
    database: Database, period: Window | None = None, *, chains: Mapping[str, ChainReader] | None = None
) -> Report:
    """The report over `period`; without one as of the last finished reconciliation, or of the last finalized blocks.

    With `chains`, by name, they are asked for the balances at the cut-off that no reconciliation has read there. Then
    it raises StateUnavailable where no endpoint has the state of that block any more.
    """
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts(period)
    return assemble(await _read_balances(facts, chains) if chains else facts)


async def _read_balances(facts: Facts, chains: Mapping[str, ChainReader]) -> Facts:
    found = []
    for scope in facts.chains:
        chain = chains.get(scope.chain)
        if chain is None or scope.cut_off is None:
            continue
        at = BlockStamp(scope.chain, scope.cut_off.number, scope.cut_off.hash)
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
    report: Report, directory: Path, formats: Collection[str] = ("html", "json"), *, config_sha256: str | None = None
) -> tuple[Path, ...]:
    """Write the files of FORMATS that are asked for into `directory`, made where it is missing, and manifest.json last.

    report.json is always written: the others are checked against it. camt053 is about a period, and about nothing where
    there is no account. What an earlier report left there and this one
    does not have is removed. Returns the paths. Raises ConfigError where Parquet is asked for without pyarrow.
    """
    return await asyncio.to_thread(_write_all, report, directory, frozenset(formats), config_sha256)


def _write_all(report: Report, directory: Path, formats: frozenset[str], config_sha256: str | None) -> tuple[Path, ...]:
    assert formats <= set(FORMATS)
    if "parquet" in formats:
        check_parquet()
    text = render_json(report)
    document = json.loads(text)
    planned: dict[str, tuple[Callable[[Path], object], int | None]] = {}  # path: how it is written, rows of a table
    if "html" in formats:
        planned["report.html"] = _text(render_html(report)), None
    planned["report.json"] = _text(text), None
    if "camt053" in formats and report.period is not None and camt053.has_statements(document):
        planned[camt053.NAME] = _text(camt053.camt_text(document)), None
    if formats & {"csv", "parquet"}:
        planned["README.txt"] = _text(readme_text()), None
    for table in TABLES:
        rows = len(table.rows(document))
        if "csv" in formats:
            planned[f"csv/{table.name}.csv"] = _text(csv_text(table, document)), rows
        if "parquet" in formats:
            planned[f"parquet/{table.name}.parquet"] = _parquet(table, document), rows
    # Without a manifest a folder that is half written is no report yet.
    (directory / MANIFEST).unlink(missing_ok=True)
    for name in _all_names() - planned.keys():
        (directory / name).unlink(missing_ok=True)
    paths = [_replace(directory / name, how) for name, (how, _) in planned.items()]
    entries = [Entry.of(directory / name, directory, rows) for name, (_, rows) in planned.items()]
    paths.append(_replace(directory / MANIFEST, _text(manifest_text(document, entries, config_sha256))))
    return tuple(paths)


def check_parquet() -> None:
    """Raises ConfigError where pyarrow is missing: before the work, not after it."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("parquet needs pyarrow", where="--format", mend="install the extra: bridge[claims]")


def _all_names() -> set[str]:
    """Every file that any report has, but for the manifest."""
    tables = {f"{kind}/{table.name}.{kind}" for kind in ("csv", "parquet") for table in TABLES}
    return {"report.html", "report.json", "README.txt", camt053.NAME} | tables


def _text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8", newline="\n")


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
