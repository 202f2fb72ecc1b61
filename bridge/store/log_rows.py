"""A row of `logs`, joined to its block's timestamp, as a Log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.domain.events import Log
from bridge.domain.units import BlockStamp

if TYPE_CHECKING:
    import asyncpg


def to_log(row: asyncpg.Record) -> Log:
    topics = (row["topic0"], row["topic1"], row["topic2"], row["topic3"])
    return Log(
        BlockStamp(row["chain"], row["block_number"], row["block_hash"]),
        row["log_index"],
        row["tx_hash"],
        row["tx_index"],
        row["address"],
        tuple([topic for topic in topics if topic is not None]),
        row["data"],
        row["timestamp"],
    )
