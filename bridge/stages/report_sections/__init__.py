"""What a report says, in the order in which it is read, before anybody has decided how it looks.

    Report ──sections──► Page: sections of tables, figures and charts ──► HTML (report_html), PDF (report_pdf)

Both are made of the same page, so neither says what the other leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.domain.reports.report import Amount
from bridge.domain.units import format_tx


# ── What stands in a cell: each part on a line of its own ───────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Words:
    text: str
    small: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """A time where it is said beside it that times are of UTC; `before` is said in front of it."""

    timestamp: int | None
    before: str = ""

    @property
    def said(self) -> str:
        """Without seconds where there are none."""
        if self.timestamp is None:
            return "—"
        text = datetime.fromtimestamp(self.timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return self.before + (text.removesuffix(":00"))


@dataclass(frozen=True, slots=True)
class Money:
    amount: Amount
    signed: bool = False  # with + where it is more than nothing
    symbol: bool = False  # said after it, where no column does


@dataclass(frozen=True, slots=True)
class Difference:
    """Nothing is right, anything else is wrong; None was not looked at."""

    amount: Amount | None


@dataclass(frozen=True, slots=True)
class Hash:
    """Shown short, kept whole where the medium can."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Account:
    code: str


@dataclass(frozen=True, slots=True)
class State:
    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Text for machines: ids, whole hashes."""

    text: str


Part = Words | Moment | Money | Difference | Hash | Account | State | Code
Cell = tuple[Part, ...]


# ── What stands in a section ────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Column:
    name: str
    numeric: bool = False
    share: int = 1  # of the width, on paper


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[Cell, ...]
    kind: str = ""  # part, subtotal


@dataclass(frozen=True, slots=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    kind: str = ""  # wide: many amounts; pairs: two or three short columns; dense: a table on a phone too
    empty: str = ""  # said in its place where there is no row


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its words: `description` says in text what it shows, for those who do not see it."""

    name: str  # an identifier, once on the page
    title: str
    description: str
    draw: Callable[[str], str]  # font family (may be empty) ─► SVG


@dataclass(frozen=True, slots=True)
class Charts:
    """Side by side where there is room."""

    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: Part
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Points:
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    warns: bool = False


Block = Table | Charts | Figures | Points | Paragraph


@dataclass(frozen=True, slots=True)
class Section:
    name: str  # an identifier, once on the page
    title: str
    says: str  # one sentence: what it shows
    blocks: tuple[Block, ...]
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    verdict: str  # a word for the style
    sign: str  # the verdict without colour
    sentence: str
    period: str  # of what time it is
    cut_off: str  # and up to which block
    sections: tuple[Section, ...]


# ── Words for values ────────────────────────────────────────────────────────────────────────────────────────────────
def utc(timestamp: int | None) -> str:
    if timestamp is None:
        return "—"
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short_hash(value: bytes) -> str:
    text = format_tx(value)
    return f"{text[: 10 if text.startswith('0x') else 8]}…{text[-4:]}"


def short_account(code: str) -> tuple[str, str]:
    """What it is for, and its address shortened: (`vault`, `0x123456…abcd`)."""
    name, _, address = code.rpartition(":")
    return name, f"{address[:8]}…{address[-4:]}" if len(address) > 20 else address


def digits(amount: Amount) -> tuple[str, str]:
    """Every digit, and two decimals at least where the asset has them: up to the sixth decimal, and what follows it."""
    whole, _, fraction = amount.text.partition(".")
    fraction = fraction.ljust(min(2, amount.asset.decimals), "0")
    head = f"{whole}.{fraction[:6]}" if fraction else whole
    return head.replace("-", "−"), fraction[6:]


def duration(seconds: int | None) -> str:
    """In its two largest units, rounded down."""
    if seconds is None:
        return "—"
    for size, unit, less, small in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // less
            return f"{seconds // size} {unit} {rest} {small}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"


def milliseconds(ms: int | None) -> str:
    if ms is None or ms >= 60_000:
        return duration(None if ms is None else ms // 1000)
    return f"{ms} ms" if ms < 1_000 else f"{ms // 1_000}.{ms % 1_000 // 100} s"
