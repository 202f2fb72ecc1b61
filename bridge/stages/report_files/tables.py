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

Document = Mapping[str, Any]
"""report.json, parsed."""
Cell = str | int | bool | None


class Kind(StrEnum):
    """How a column is written: its value is for README.txt."""

    TEXT = "text"
    ATOMS = "whole number of atoms"  # text in Parquet
    INTEGER = "whole number"  # int64 in Parquet
    HEX = "0x and hex digits"  # text in Parquet
    TIME = "time, UTC"  # seconds since 1970 in the document; timestamp[ms, UTC] in Parquet
    FLAG = "true or false"


_FITS: Mapping[Kind, Callable[[object], bool]] = {
    Kind.TEXT: lambda cell: isinstance(cell, str),
    Kind.ATOMS: lambda cell: isinstance(cell, str) and re.fullmatch("-?(0|[1-9][0-9]*)", cell, re.ASCII) is not None,
    Kind.INTEGER: lambda cell: type(cell) is int,
    Kind.HEX: lambda cell: isinstance(cell, str) and re.fullmatch("0x([0-9a-f]{2})*", cell, re.ASCII) is not None,
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
    section: str = ""  # of the document, if not called as the table is

    def rows(self, document: Document) -> list[tuple[Cell, ...]]:
        """In the order of the document. Raises KeyError or TypeError where it is no report."""
        return [tuple(column.cell(entry) for column in self.columns) for entry in self._entries(document)]

    def _entries(self, document: Document) -> Iterable[Document]:
        assets = {asset["id"]: asset for asset in document["assets"]}
        for entry in document[self.section or self.name]:
            asset = entry.get("asset")
            if isinstance(asset, str):
                # As for people: an asset that the ledger has not seen yet has whole atoms and the end of its id.
                known = assets.get(asset, {"id": asset, "symbol": asset.rsplit("/", 1)[-1], "decimals": 0})
                yield {**entry, "asset": known}
            else:
                yield {**entry, "asset": asset}


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
        "promised + allocated = paid + credited + claimable + in_flight",
        (
            *_asset(),
            _atoms("opening", "surplus held at the start"),
            _atoms("earned", "found by rules' events"),
            _atoms("adjustments", "signed"),
            _atoms("promised", "in flight at the start"),
            _atoms("allocated", "given to recipients by decisions, as booked"),
            _atoms("decided", "the same, as the decisions themselves say"),
            _atoms("paid", "arrived"),
            _atoms("credited", "transfer failed, kept for the recipient by the contract"),
            _atoms("claimable", "in a tree that accounts claim from, whether they have or not"),
            _atoms("in_flight", "decided, not final on the chain at the cut-off"),
            _atoms("carried", "left for later windows"),
            _atoms("unallocated", "not decided about"),
        ),
    ),
    Table(
        "pending",
        "What our contracts hold, by whom it is for: free + in_flight + owed = ledger",
        (
            *_asset(),
            _atoms("free", "nobody's yet"),
            _atoms("in_flight", "promised to recipients"),
            _atoms("owed", "credited or claimable, not taken yet"),
            _atoms("ledger", "held by the books"),
            _atoms("chain", "held by the chain; empty: not read", optional=True),
            _atoms("difference", "signed: chain - ledger", optional=True),
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
            _text("resolution", "how it was explained or resolved", optional=True),
            _count("block_number", "at which it was found"),
            Column("block_hash", Kind.HEX, "of that block"),
            _text("evidence", "JSON"),
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
            Column("genesis_hash", Kind.HEX, "of its first block"),
            _count("start_block", "first block of the books"),
            Column("opening_number", Kind.INTEGER, "last block of the period before", "opening.number", optional=True),
            Column("opening_hash", Kind.HEX, "of that block", "opening.hash", optional=True),
            Column("cut_off_number", Kind.INTEGER, "last block of the report", "cut_off.number", optional=True),
            Column("cut_off_hash", Kind.HEX, "of that block", "cut_off.hash", optional=True),
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


def readme_text(tables: Sequence[Table] = TABLES) -> str:
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
    for table in tables:
        lines += [table.name, f"  {table.about}."]
        lines += [
            f"    {column.name + ('?' if column.optional else ''):<18} {column.kind.value:<22} {column.meaning}"
            for column in table.columns
        ]
        lines.append("")
    return "\n".join(lines)
