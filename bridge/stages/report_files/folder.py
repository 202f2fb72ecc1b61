"""Whether a report's folder is whole: its files against the manifest, its tables and sums against report.json.

    manifest.json ──sha256, size──► each file          report.json ──sums──► agrees in itself
                                                            ├──tables──► each row of csv/ and parquet/
                                                            └──made again──► report.html, report.pdf, README.txt

Who changes a file is found by its hash, who changes the manifest too by what the files say of each other, and who
changes all of them alike by the chain (chain.py).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.domain.errors import ConfigError
from bridge.domain.reports.report import Report
from bridge.stages.report_files import camt053
from bridge.stages.report_files.manifest import HTML, MANIFEST, OLDER, PDF, README, Entry, entries_of, subject
from bridge.stages.report_files.program import code_sha256
from bridge.stages.report_files.reading import report_of
from bridge.stages.report_files.sums import disagreements
from bridge.stages.report_files.tables import TABLES, Document, Table, csv_text, readme_text
from bridge.stages.report_html import render_html

_NO_REPORT = (KeyError, TypeError, ValueError, AttributeError)
ROWS_NAMED = 3
"""Of one table; a table that differs in more has been made anew."""


@dataclass(frozen=True, slots=True)
class Checked:
    document: Document | None  # None where report.json cannot be read
    files: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]  # what was not looked at, and why


def check_folder(directory: Path) -> Checked:
    """Everything that can be said of a report without a network. Raises ConfigError where there is no manifest."""
    try:
        text = (directory / MANIFEST).read_bytes()
    except OSError as error:
        mend = "name the folder that `bridge report --out` wrote"
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(directory / MANIFEST), mend=mend) from None
    try:
        manifest = json.loads(text)
        entries = entries_of(manifest)
    except _NO_REPORT as error:
        return Checked(None, 0, (f"{MANIFEST}: is not the manifest of a report: {error}",), ())
    problems = [*_files(directory, entries), *_strangers(directory, entries)]
    notes: list[str] = []
    try:
        older = manifest["format"] in OLDER
        document = _brought_up(_document(directory)) if older else _document(directory)
        problems += [f"report.json: {problem}" for problem in disagreements(document)]
        about = subject(document)
        problems += [
            f"{MANIFEST}: {name} is not what report.json says" for name in about if manifest.get(name) != about[name]
        ]
        if older:
            notes.append(f"the tables were checked by sha256 alone: the report has the format {manifest['format']}")
        else:
            problems += _tables(directory, entries, document, notes)
        problems += _statements(directory, document)
        problems += _pages(directory, document, notes)
    except OSError:
        document = None  # it is named as missing already
    except _NO_REPORT as error:
        document = None
        problems.append(f"report.json: is not a report of this version: {error!r}")
    return Checked(document, len(entries), tuple(problems), tuple(notes))


def _document(directory: Path) -> Document:
    def refuse(text: str) -> object:
        raise ValueError(f"{text} is no whole number")

    parsed: Any = json.loads((directory / "report.json").read_bytes(), parse_float=refuse, parse_constant=refuse)
    if not isinstance(parsed, dict):
        raise TypeError("not an object")
    return parsed


def _brought_up(document: Document) -> Document:
    """A report.json from before what is held and what is given up had columns of their own: both were in flight."""
    none = {"held": "0", "given_up": "0"}
    apart = {name: [none | row for row in document[name]] for name in ("waterfalls", "pending")}
    return {"held": [], **document, **apart}


def _files(directory: Path, entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        try:
            content = (directory / entry.path).read_bytes()
        except OSError as error:
            yield f"{entry.path}: cannot be read: {error.strerror}"
            continue
        found = hashlib.sha256(content).hexdigest()
        if len(content) < entry.size and found != entry.sha256:
            yield f"{entry.path}: is {len(content):,} of {entry.size:,} bytes long: something is missing"
        elif found != entry.sha256:
            yield f"{entry.path}: was changed: its sha256 is {found}, by the manifest {entry.sha256}"


def _strangers(directory: Path, entries: Sequence[Entry]) -> Iterator[str]:
    known = {MANIFEST, *(entry.path for entry in entries)}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name.as_posix() not in known:
            yield f"{name.as_posix()}: is not in the manifest"
    if "report.json" not in known:
        yield f"{MANIFEST}: report.json is not in it"


# ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _tables(directory: Path, entries: Sequence[Entry], document: Document, notes: list[str]) -> Iterator[str]:
    tables = {table.name: table for table in TABLES}
    counts = {table.name: len(table.rows(document)) for table in TABLES}  # whatever is listed: it must be a report
    listed = {entry.path for entry in entries}
    for kind in ("csv", "parquet"):
        some = {name for name in tables if f"{kind}/{name}.{kind}" in listed}
        if some and some != tables.keys():
            yield f"{MANIFEST}: of {kind} the tables {', '.join(sorted(tables.keys() - some))} are missing"
    for entry in entries:
        kind, _, file = entry.path.rpartition("/")
        table = tables.get(file.removesuffix(f".{kind}"))
        if table is None or kind not in ("csv", "parquet"):
            continue
        if entry.rows != counts[table.name]:
            yield f"{MANIFEST}: {entry.path} has {entry.rows} rows by it, by report.json {counts[table.name]}"
        if not (directory / entry.path).is_file():
            continue  # named already
        if kind == "csv":
            yield from _csv(directory / entry.path, entry.path, table, document)
        else:
            yield from _parquet(directory / entry.path, entry.path, table, document, notes)


def _statements(directory: Path, document: Document) -> Iterator[str]:
    path = directory / camt053.NAME
    try:
        if path.is_file() and path.read_bytes() != camt053.camt_text(document).encode():
            yield f"{camt053.NAME}: is not what report.json says"
    except ConfigError as error:
        yield f"{camt053.NAME}: cannot be of this report: {error.problem}"


def _pages(directory: Path, document: Document, notes: list[str]) -> Iterator[str]:
    """The pages, made again of report.json: who changes one of them and its hash is found too.

    Another version of this program may set them otherwise: then a difference says nothing, and that is noted.
    """
    made_with = document["origin"]["code_sha256"]
    if made_with not in (None, code_sha256()):
        notes.append("the report was made by another version of this program: its pages were checked by sha256 alone")
        return
    yield from _differs(directory / README, lambda: readme_text().encode())
    if not (directory / HTML).is_file() and not (directory / PDF).is_file():
        return
    try:
        report = report_of(document)
    except AssertionError as error:
        yield f"report.json: its figures do not add up: {error}"
        return
    yield from _differs(directory / HTML, lambda: render_html(report).encode())
    yield from _pdf(directory / PDF, report, notes)


def _pdf(path: Path, report: Report, notes: list[str]) -> Iterator[str]:
    if not path.is_file():
        return
    try:
        from bridge.stages.report_pdf import made_by, render_pdf  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        notes.append(f"{PDF} was checked by its sha256 alone: making it again needs typst (bridge[pdf])")
        return
    due, content = render_pdf(report), path.read_bytes()
    if made_by(content) != made_by(due):
        notes.append(f"{PDF} was checked by its sha256 alone: it was typeset by another version of typst")
    elif content != due:
        yield f"{PDF}: is not what report.json says"


def _differs(path: Path, made: Callable[[], bytes]) -> Iterator[str]:
    if not path.is_file():
        return
    found, due = path.read_bytes(), made()
    if found != due:
        lines = zip(found.splitlines(), due.splitlines(), strict=False)
        number = next((at for at, (one, other) in enumerate(lines, 1) if one != other), 0)
        yield f"{path.name}: is not what report.json says" + (f", from line {number} on" if number else "")


def _csv(path: Path, name: str, table: Table, document: Document) -> Iterator[str]:
    due, content = csv_text(table, document), path.read_bytes()
    if content == due.encode():
        return
    try:
        found = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        yield f"{name}: cannot be read: {error}"
        return
    named = list(_rows(name, found, list(csv.reader(io.StringIO(due, newline="")))))
    yield from named or [f"{name}: is written in another way than this version does"]


def _parquet(path: Path, name: str, table: Table, document: Document, notes: list[str]) -> Iterator[str]:
    try:
        from bridge.stages.report_files.parquet import NotReadable, read_parquet  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        note = "tables in parquet/ were checked by their sha256 alone: their rows need pyarrow (bridge[claims])"
        notes += [] if note in notes else [note]
        return
    try:
        columns, rows = read_parquet(path)
    except NotReadable as error:
        yield f"{name}: cannot be read: {error}"
        return
    header = tuple(column.name for column in table.columns)
    yield from _rows(name, [columns, *rows], [header, *table.rows(document)])


def _rows(name: str, found: Sequence[Sequence[object]], due: Sequence[Sequence[object]]) -> Iterator[str]:
    """`found` and `due` begin with the header, which is row 0."""
    differing = [
        number for number, (one, other) in enumerate(zip(found, due, strict=False)) if list(one) != list(other)
    ]
    for number in differing[:ROWS_NAMED]:
        columns = zip(due[0], found[number], due[number], strict=False)
        column, one, other = next(
            (cells for cells in columns if cells[1] != cells[2]),
            ("number of columns", len(found[number]), len(due[number])),
        )
        yield f"{name}: row {number}: {column} is {one!r}, by report.json {other!r}"
    if len(differing) > ROWS_NAMED:
        yield f"{name}: {len(differing) - ROWS_NAMED:,} more rows differ"
    if len(found) < len(due):
        yield f"{name}: has {max(len(found) - 1, 0):,} of {len(due) - 1:,} rows: its tail is missing"
    if len(found) > len(due):
        yield f"{name}: has {len(found) - len(due):,} rows that report.json does not have"
