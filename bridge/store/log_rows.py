"""A row of `logs`, joined to its block's timestamp, as a Log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.domain.events import Log
from bridge.domain.units import Address, BlockStamp

if TYPE_CHECKING:
    import asyncpg


def to_log(row: asyncpg.Record) -> Log:
    topics = (row["topic0"], row["topic1"], row["topic2"], row["topic3"])
    return Log(
        block=BlockStamp(row["chain"], row["block_number"], row["block_hash"]),
        log_index=row["log_index"],
        tx_hash=row["tx_hash"],
        tx_index=row["tx_index"],
        address=Address(row["address"]),
        topics=tuple(topic for topic in topics if topic is not None),
        data=row["data"],
        timestamp=row["timestamp"],
    )
