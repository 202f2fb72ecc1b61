"""Tables of a report as Parquet. Needs the extra `claims` (pyarrow); the same pyarrow writes the same bytes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from bridge.stages.report_files.tables import Cell, Document, Kind, Table

_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.ATOMS: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.HEX: pa.string(),
    Kind.HASH: pa.string(),
    Kind.TIME: pa.timestamp("ms", "UTC"),
    Kind.FLAG: pa.bool_(),
}


def schema_of(table: Table) -> pa.Schema:
    """Types, and the meaning of each column as its metadata."""
    return pa.schema(
        [
            pa.field(column.name, _TYPES[column.kind], column.optional, metadata={"meaning": column.meaning})
            for column in table.columns
        ],
        metadata={"about": table.about},
    )


def write_parquet(table: Table, document: Document, path: Path) -> None:
    """Raises ArrowInvalid where a value has not the type of its column: nothing is rounded."""
    schema, rows = schema_of(table), table.rows(document)
    columns = [_array(column.kind, [row[place] for row in rows]) for place, column in enumerate(table.columns)]
    pa.parquet.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def _array(kind: Kind, cells: list[Cell]) -> pa.Array:
    if kind is Kind.TIME:
        # Parquet has no whole seconds.
        return pa.array(cells, pa.timestamp("s", "UTC")).cast(_TYPES[kind])
    return pa.array(cells, _TYPES[kind])


class NotReadable(Exception):
    """It is no Parquet file, or a damaged one."""


def read_parquet(path: Path) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Names of columns, and rows with times as seconds. Raises NotReadable."""
    try:
        table = pa.parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise NotReadable(str(error)) from None
    columns = [
        _seconds(column) if pa.types.is_timestamp(column.type) else column.to_pylist() for column in table.columns
    ]
    return tuple(table.column_names), list(zip(*columns, strict=True))


def _seconds(column: pa.ChunkedArray) -> list[object]:
    """Whole seconds as numbers; what is none stays what it is."""
    times = column.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64()).to_pylist()
    return [f"{time} ms" if time is not None and time % 1000 else time and time // 1000 for time in times]
