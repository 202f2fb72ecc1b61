"""Rows and tables, made short."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.domain.reports.report import Amount
from bridge.stages.report_sections import Cell, Column, Part, Row, Table, Words

DASH = Words("—")


def row_of(*parts: Part, kind: str = "") -> Row:
    return Row(tuple(cell_of(part) for part in parts), kind)


def cell_of(part: Part) -> Cell:
    return (part,)


def table_of(
    caption: str,
    names: Sequence[str],
    rows: Sequence[Row],
    *,
    kind: str = "",
    empty: str = "",
    shares: Sequence[int] = (),
) -> Table:
    """A name that ends with # is that of a column of numbers."""
    shares = shares or (1,) * len(names)
    columns = tuple(
        Column(name.removesuffix("#"), name.endswith("#"), share) for name, share in zip(names, shares, strict=True)
    )
    assert all(len(row.cells) == len(columns) for row in rows)
    return Table(caption, columns, tuple(rows), kind, empty)


def signed(amount: Amount) -> str:
    return amount.text.replace("-", "−")
