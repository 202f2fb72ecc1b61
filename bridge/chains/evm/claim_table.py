"""A claim set as one Parquet file: a row an account, ascending.

    account string | cumulative string | leaf fixed[32] | proof list of fixed[32]

Amounts are text, because uint256 fits no number of Parquet's. Needs the extra `claims` (pyarrow).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from bridge.chains.evm.claims import ClaimSet
from bridge.chains.evm.keccak import DIGEST, Bytes
from bridge.domain.units import format_address

ROWS_PER_GROUP = 1 << 14
_HASH = pa.binary(DIGEST)
SCHEMA = pa.schema([
    pa.field("account", pa.string(), nullable=False),
    pa.field("cumulative", pa.string(), nullable=False),
    pa.field("leaf", _HASH, nullable=False),
    pa.field("proof", pa.list_(pa.field("element", _HASH, nullable=False)), nullable=False),
])  # fmt: skip


def write_table(claims: ClaimSet, path: Path) -> None:
    """Memory is bounded by a row group. The same pyarrow writes the same bytes."""
    # Proofs share their upper hashes, so a dictionary with room for all takes a third of the space.
    with pa.parquet.ParquetWriter(
        path,
        SCHEMA,
        compression="zstd",
        use_dictionary=["proof.list.element"],
        dictionary_pagesize_limit=1 << 26,
        write_statistics=["account"],
    ) as writer:
        for start in range(0, len(claims), ROWS_PER_GROUP):
            writer.write_batch(_batch(claims, range(len(claims))[start : start + ROWS_PER_GROUP]))


def _batch(claims: ClaimSet, rows: range) -> pa.RecordBatch:
    some = slice(rows.start, rows.stop)
    siblings, lengths = claims.tree.proofs(some)
    hashes = siblings[np.arange(claims.tree.depth) < lengths[:, None]]
    ends = pa.array(itertools.accumulate(lengths.tolist(), initial=0), pa.int32())
    columns = [
        pa.array([format_address(claims.account(row)) for row in rows]),
        pa.array([str(claims.cumulative(row)) for row in rows]),
        _hashes(claims.tree.nodes[claims.tree.positions[some]]),
        pa.ListArray.from_arrays(ends, _hashes(hashes), type=SCHEMA.field("proof").type),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _hashes(rows: Bytes) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(_HASH, len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])
