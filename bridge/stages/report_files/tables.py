"""What stands in which table of a report, with the type and the meaning of each column.

    document (report.json) ──rows──► cells: text, whole numbers, truth values, None ──► CSV here, Parquet in parquet.py

Amounts are whole atoms of their asset in exact digits, as text: uint256 fits no number of a spreadsheet or of Parquet.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from bridge.domain.figures import LAG_BANDS
from bridge.domain.units import format_hash, parse_hash

Document = Mapping[str, Any]
"""report.json, parsed."""
Cell = str | int | bool | None


class Kind(StrEnum):
    """How a column is written: its value is for README.txt."""

    TEXT = "text"
    ATOMS = "whole number of atoms"  # text in Parquet
    INTEGER = "whole number"  # int64 in Parquet
    HEX = "0x and hex digits"  # text in Parquet
    HASH = "0x and hex digits, or base58 where the chain writes its hashes so"  # text in Parquet
    TIME = "time, UTC"  # seconds since 1970 in the document; timestamp[ms, UTC] in Parquet
    FLAG = "true or false"


def _is_hash(text: str) -> bool:
    try:
        return format_hash(parse_hash(text)) == text
    except ValueError:
        return False


_FITS: Mapping[Kind, Callable[[object], bool]] = {
    Kind.TEXT: lambda cell: isinstance(cell, str),
    Kind.ATOMS: lambda cell: isinstance(cell, str) and re.fullmatch("-?(0|[1-9][0-9]*)", cell, re.ASCII) is not None,
    Kind.INTEGER: lambda cell: type(cell) is int,
    Kind.HEX: lambda cell: isinstance(cell, str) and re.fullmatch("0x([0-9a-f]{2})*", cell, re.ASCII) is not None,
    Kind.HASH: lambda cell: isinstance(cell, str) and _is_hash(cell),
    Kind.TIME: lambda cell: type(cell) is int,
    Kind.FLAG: lambda cell: isinstance(cell, bool),
}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind
    meaning: str
    path: str = ""  # where it stands in an entry, if not under its name; a dot goes down
    optional: bool = False

    def cell(self, entry: Document) -> Cell:
        found: Any = entry
        for step in (self.path or self.name).split("."):
            found = None if found is None else found[step]
        if isinstance(found, list):
            return " ".join(map(str, found))
        if found is None and self.optional:
            return None
        if not _FITS[self.kind](found):
            raise TypeError(f"{self.name} is {found!r}, not {self.kind.value}")
        assert isinstance(found, str | int)
        return found


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    about: str
    columns: tuple[Column, ...]
    section: str = ""  # of the document, if not called as the table is; a dot goes down, through lists too

    def rows(self, document: Document) -> list[tuple[Cell, ...]]:
        """In the order of the document. Raises KeyError or TypeError where it is no report."""
        return [tuple(column.cell(entry) for column in self.columns) for entry in self._entries(document)]

    def _entries(self, document: Document) -> Iterable[Document]:
        assets = {asset["id"]: asset for asset in document["assets"]}
        for entry in _entries_at(document, (self.section or self.name).split(".")):
            asset = entry.get("asset")
            if isinstance(asset, str):
                # As for people: an asset that the ledger has not seen yet has whole atoms and the end of its id.
                known = assets.get(asset, {"id": asset, "symbol": asset.rsplit("/", 1)[-1], "decimals": 0})
                yield {**entry, "asset": known}
            else:
                yield {**entry, "asset": asset}


def _entries_at(entry: Document, path: Sequence[str]) -> Iterable[Document]:
    """Down `path`: a list's entries know what those that they are in say."""
    step, *rest = path
    found: Any = entry[step]
    if not isinstance(found, list):
        yield from _entries_at(found, rest)
        return
    for item in found:
        yield from ({**item, **below} for below in _entries_at(item, rest)) if rest else (item,)


def _atoms(name: str, meaning: str, *, optional: bool = False) -> Column:
    return Column(name, Kind.ATOMS, meaning, optional=optional)


def _count(name: str, meaning: str) -> Column:
    return Column(name, Kind.INTEGER, meaning)


def _text(name: str, meaning: str, *, optional: bool = False) -> Column:
    return Column(name, Kind.TEXT, meaning, optional=optional)


def _asset(*, optional: bool = False) -> tuple[Column, ...]:
    return (
        Column(
            "asset", Kind.TEXT, "CAIP-19 id: chain and contract of the token, or the native coin", "asset.id", optional
        ),
        Column("symbol", Kind.TEXT, "for people; two assets may have the same", "asset.symbol", optional),
        Column("decimals", Kind.INTEGER, "amount in units = atoms / 10^decimals", "asset.decimals", optional),
    )


TABLES = (
    Table(
        "roll_forward",
        "Each watched account and asset: opening + received - sent - fees + adjustments = closing",
        (
            _text("account", "code of the ledger: what it is for, and its address"),
            *_asset(),
            _atoms("opening", "held at the start: closing of the period before, or when the books were opened"),
            _atoms("received", "came in"),
            _atoms("sent", "went out"),
            _atoms("fees", "spent on gas"),
            _atoms("adjustments", "signed: reversals and corrections"),
            _atoms("closing", "held at the cut-off by the books"),
            _atoms("on_chain", "held at the cut-off by the chain; empty: not read", optional=True),
            _atoms("difference", "signed: on_chain - closing", optional=True),
        ),
    ),
    Table(
        "movements",
        "All that was posted, summed by accounts, source and asset: debits are what a watched account receives",
        (
            _text("debit", "account that is debited; recipients are summed under the kind of their accounts"),
            _text("credit", "account that is credited"),
            *_asset(),
            _text("source", "what caused it: opening, log, decision, distribution, batch, attempt, adjustment, ..."),
            Column("reverses", Kind.FLAG, "it takes back something that was posted before"),
            _atoms("amount", "from credit to debit"),
        ),
    ),
    Table(
        "waterfalls",
        "Surplus by asset: opening + earned + adjustments = allocated + carried + unallocated; "
        "promised + allocated = paid + credited + claimable + in_flight + held + given_up",
        (
            *_asset(),
            _atoms("opening", "surplus held at the start"),
            _atoms("earned", "found by rules' events"),
            _atoms("adjustments", "signed"),
            _atoms("promised", "allocated before the start and not paid then"),
            _atoms("allocated", "given to recipients by decisions, as booked"),
            _atoms("decided", "the same, as the decisions themselves say"),
            _atoms("paid", "arrived"),
            _atoms("credited", "transfer failed, kept for the recipient by the contract"),
            _atoms("claimable", "in a tree that accounts claim from, whether they have or not"),
            _atoms("in_flight", "decided, not final on the chain at the cut-off"),
            _atoms("held", "decided, and waits for a person"),
            _atoms("given_up", "owed to recipients, and no payment is on its way"),
            _atoms("carried", "left for later windows"),
            _atoms("unallocated", "not decided about"),
        ),
    ),
    Table(
        "pending",
        "What our contracts hold, by whom it is for: free + in_flight + held + given_up + owed = ledger",
        (
            *_asset(),
            _atoms("free", "nobody's yet"),
            _atoms("in_flight", "promised to recipients"),
            _atoms("held", "promised to recipients, and waits for a person"),
            _atoms("given_up", "promised to recipients, and no payment is on its way"),
            _atoms("owed", "credited or claimable, not taken yet"),
            _atoms("ledger", "held by the books"),
            _atoms("chain", "held by the chain; empty: not read", optional=True),
            _atoms("difference", "signed: chain - ledger", optional=True),
        ),
    ),
    Table(
        "held",
        "Batches that wait for a person, or whose proposal does, when the report was read",
        (
            Column("distribution", Kind.HEX, "its id", "distribution_id"),
            Column("batch", Kind.INTEGER, "its place in the distribution", "batch_index"),
            _text("chain", "name in the configuration"),
            _text("rule", "which rule decided"),
            _count("recipients", "how many"),
            _text("recipient", "whom it is for, where it is only one", optional=True),
            *_asset(),
            _atoms("amount", "to all of them"),
            Column("since", Kind.TIME, "when it was held"),
            _text("reason", "why"),
        ),
    ),
    Table(
        "distributions",
        "Every distribution, oldest window first",
        (
            Column("distribution", Kind.HEX, "its id", "distribution_id"),
            Column("decision", Kind.HEX, "id of the decision: sha256 of its record", "decision_id"),
            _text("chain", "name in the configuration"),
            _text("rule", "which rule decided"),
            _count("version", "of the rule"),
            Column("window_start", Kind.TIME, "first second of what it is about"),
            Column("window_end", Kind.TIME, "first second after it"),
            *_asset(),
            _atoms("total", "to all recipients"),
            _count("recipients", "how many"),
            _count("paid", "recipients whose transfer arrived"),
            _count("credited", "recipients for whom the contract keeps it"),
            _count("claimable", "recipients that may claim, or have"),
            _count("batches", "how many"),
            _text("state", "when the report was read"),
            Column("transactions", Kind.TEXT, "hashes with spaces between, in the order of the steps", "tx_hashes"),
            *(
                Column(f"{name}_at", Kind.TIME, meaning, f"passed.{name}_at", optional=True)
                for name, meaning in (
                    ("mined", "the last block that it is decided from, by the chain's clock"),
                    ("decided", "when it was decided"),
                    ("final", "when its last step was seen in a finalized block"),
                    ("posted", "when its last batch was booked"),
                )
            ),
        ),
    ),
    Table(
        "breaks",
        "Differences between books and chain, open ones first",
        (
            Column("break", Kind.INTEGER, "its number", "break_id"),
            _text("kind", "what kind of difference"),
            _text("chain", "name in the configuration"),
            _text("subject", "of what"),
            *_asset(optional=True),
            _atoms("amount", "signed: chain - books", optional=True),
            _text("state", "open, assigned, explained or resolved, when the report was read"),
            Column("opened_at", Kind.TIME, "when it was found"),
            Column("age_s", Kind.INTEGER, "seconds open", optional=True),
            Column("detected_s", Kind.INTEGER, "seconds from its block until it was found", optional=True),
            _text("assignee", "who takes care of it", optional=True),
            _text("resolution", "how it was explained or resolved", optional=True),
            _count("block_number", "at which it was found"),
            Column("block_hash", Kind.HASH, "of that block"),
            _text("evidence", "JSON"),
        ),
    ),
    Table(
        "break_history",
        "What was done about the breaks",
        (
            Column("break", Kind.INTEGER, "its number", "break_id"),
            Column("at", Kind.TIME, "when"),
            _text("by", "a person, a reconciliation, a check, or a role of the database"),
            _text("from_state", "empty: it was opened", optional=True),
            _text("to_state", "after it"),
            _text("words", "why, or who takes care of it now", optional=True),
        ),
        "breaks.history",
    ),
    Table(
        "corrections",
        "Adjustments and reversals that people asked for",
        (
            Column("correction", Kind.INTEGER, "its number", "correction_id"),
            _text("chain", "name in the configuration"),
            _text(
                "reverses", "source and reference of the journal that it undoes; empty: an adjustment", optional=True
            ),
            _text("debit", "account that an adjustment debits", optional=True),
            _text("credit", "account that it credits", optional=True),
            *_asset(optional=True),
            _atoms("amount", "of an adjustment", optional=True),
            _text("reason", "why"),
            Column("break", Kind.INTEGER, "the break that it explains", "break_id", optional=True),
            _text("asked_by", "user of the operating system"),
            Column("asked_at", Kind.TIME, "when"),
            _text("answer", "approved or refused; empty: it waits for another person", optional=True),
            _text("answered_by", "another user of the operating system", optional=True),
            Column("answered_at", Kind.TIME, "when", optional=True),
            _text("answer_reason", "why it was refused", optional=True),
            Column("block_number", Kind.INTEGER, "at which it was booked", optional=True),
        ),
    ),
    Table(
        "trend",
        "Reconciliations over time, in groups that followed each other, by level of checks",
        (
            Column("first_at", Kind.TIME, "when the first run of the group ended"),
            Column("last_at", Kind.TIME, "when the last one did"),
            _count("runs", "in the group"),
            Column("value_ppm", Kind.INTEGER, "value in books and chain alike, of the worst asset", optional=True),
            _text("level", "event, balance, nonce, completeness, suspense or payout"),
            *(
                Column(name, Kind.INTEGER, meaning, f"tally.{name}")
                for name, meaning in (
                    ("agreed", "checks"),
                    ("broken", "checks"),
                    ("skipped", "checks that could not be judged"),
                    ("exempt", "checks that are left out on purpose"),
                )
            ),
        ),
        "key_figures.trend.levels",
    ),
    Table(
        "lags",
        "From the moment in which a block was final here until its events were booked",
        (
            _text("chain", "name in the configuration"),
            _count("blocks", "that hold events of ours"),
            Column("p50_ms", Kind.INTEGER, "median", optional=True),
            Column("p95_ms", Kind.INTEGER, "95 % took no longer", optional=True),
            Column("bands", Kind.TEXT, f"blocks in each of: {', '.join(LAG_BANDS)}"),
        ),
        "key_figures.lags",
    ),
    Table(
        "seals",
        "How far the journals of the report are linked into the hash chain of all journals",
        (
            _text("chain", "name in the configuration"),
            _count("journals", "of the report"),
            _count("sealed", "of which sealed"),
            Column("last_sequence", Kind.INTEGER, "place of the newest of them in the hash chain", optional=True),
            Column("head", Kind.HEX, "of the hash chain there", optional=True),
        ),
    ),
    Table(
        "providers",
        "Endpoints, and the finalized ranges that they read or verified",
        (
            _text("chain", "name in the configuration"),
            _text("name", "of the endpoint"),
            _count("ranges_read", "how many"),
            _count("ranges_verified", "how many"),
        ),
    ),
    Table(
        "gas",
        "Finalized transactions of the operator",
        (
            _text("chain", "name in the configuration"),
            _count("transactions", "how many"),
            _count("reverted", "of which failed"),
            _count("gas_used", "by all"),
            *_asset(),
            _atoms("fees", "by their receipts"),
            _atoms(
                "budget", "what they were allowed to cost: gas limit * fee ceiling of each, and a rollup's other fees"
            ),
            _atoms("booked", "in the ledger"),
            _atoms("difference", "signed: booked - fees"),
        ),
    ),
    Table(
        "checks",
        "What the reconciliation looked at",
        (
            _text("level", "event, balance, nonce, completeness, suspense or payout"),
            _text("chain", "name in the configuration"),
            _text("outcome", "agreed, broken or skipped"),
            _text("cause", "of a broken or skipped check", optional=True),
            _count("count", "how many checks"),
        ),
    ),
    Table(
        "suspense",
        "What moved and is not explained: zero when all is",
        (_text("account", "of the ledger"), *_asset(), _atoms("balance", "signed: credits - debits")),
    ),
    Table(
        "chains",
        "Blocks that the report is about: after the opening, up to and with the cut-off",
        (
            _text("chain", "name in the configuration"),
            _text("reference", "CAIP-2 id"),
            Column("genesis_hash", Kind.HASH, "of its first block"),
            _count("start_block", "first block of the books"),
            Column("opening_number", Kind.INTEGER, "last block of the period before", "opening.number", optional=True),
            Column("opening_hash", Kind.HASH, "of that block", "opening.hash", optional=True),
            Column("cut_off_number", Kind.INTEGER, "last block of the report", "cut_off.number", optional=True),
            Column("cut_off_hash", Kind.HASH, "of that block", "cut_off.hash", optional=True),
            Column("cut_off_at", Kind.TIME, "of that block", "cut_off.timestamp", optional=True),
            Column("posted_through", Kind.INTEGER, "the ledger has come to this block", optional=True),
            _count("reorgs", "reorganisations that were followed"),
        ),
    ),
    Table(
        "rules",
        "Versions of rules that decided",
        (
            _text("rule", "its name"),
            _count("version", "of its text"),
            Column("sha256", Kind.HEX, "of its text", "content_hash"),
            _count("pay", "decisions to pay"),
            _count("carry", "decisions to carry on"),
            _count("nothing", "decisions that there was nothing"),
            _count("hold", "decisions that wait for a person"),
        ),
    ),
)

_DANGEROUS = ("=", "+", "-", "@", "\t", "\n")
"""A spreadsheet takes text that begins so for a formula."""


def csv_text(table: Table, document: Document) -> str:
    """UTF-8, commas, a header, lines that end with a line feed; None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    for row in table.rows(document):
        writer.writerow([_written(column, cell) for column, cell in zip(table.columns, row, strict=True)])
    return stream.getvalue()


def _written(column: Column, cell: Cell) -> str:
    match column.kind:
        case _ if cell is None:
            return ""
        case Kind.TIME:
            return datetime.fromtimestamp(int(cell), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case Kind.FLAG:
            return "true" if cell else "false"
        case Kind.TEXT:
            # A lone carriage return would end the row for some readers, quoted or not.
            text = str(cell).replace("\r\n", "\n").replace("\r", "\n")
            return f"'{text}" if text.startswith(_DANGEROUS) else text
    return str(cell)


def readme_text() -> str:
    """What every table and column means: README.txt."""
    lines = [
        "Tables of a surplus redistribution report, made of report.json",
        "",
        "csv/NAME.csv: UTF-8, comma, header, line feed. Empty: no value. Times like 2026-11-01T00:00:00Z.",
        "  Lines within text end with line feeds; text that a spreadsheet would take for a formula has an apostrophe",
        "  before it. Import amounts as text: a spreadsheet that makes numbers of them keeps 15 digits.",
        "parquet/NAME.parquet: the same columns. Whole numbers are int64, times timestamp[ms, UTC], truth values bool,",
        "  amounts and hex digits strings, for 256 bits fit no number.",
        "Amounts are whole atoms of their asset, with a minus sign where negative. Columns marked ? may be empty.",
        "",
    ]
    for table in TABLES:
        lines += [table.name, f"  {table.about}."]
        lines += [
            f"    {column.name + ('?' if column.optional else ''):<18} {column.kind.value:<22} {column.meaning}"
            for column in table.columns
        ]
        lines.append("")
    return "\n".join(lines)
