"""Tables: blocks, logs, heads, finalized_ranges, reorgs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import (
    NO_LOGS,
    Block,
    BlockAdded,
    ChainCursor,
    Finalized,
    Log,
    LogColumns,
    TimedLogs,
    pack_logs,
)
from bridge.domain.units import Address, BlockStamp
from bridge.store.log_rows import to_log

if TYPE_CHECKING:
    import asyncpg

    from bridge.store.connection import Connection

HEAD = "SELECT * FROM heads WHERE chain = $1"
START_BLOCK = "SELECT start_block FROM chains WHERE chain = $1"
TAIL = """
    -- The canonical chain from the finalized block up. Below that, a backfill keeps only blocks that carry logs.
    SELECT number, hash, parent_hash, timestamp FROM blocks
     WHERE chain = $1 AND number >= $2 AND status <> 'orphaned'
     ORDER BY number
"""
BRING_BACK = """
    -- A block that was orphaned may be canonical again: its row is there. What a node says of it now replaces what one
    -- said then: it may have been orphaned because its time was wrong.
    UPDATE blocks SET status = 'canonical', parent_hash = added.parent_hash, timestamp = added.timestamp
      FROM unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[]) AS added (number, hash, parent_hash, timestamp)
     WHERE blocks.chain = $1 AND blocks.number = added.number AND blocks.hash = added.hash AND status = 'orphaned'
    RETURNING blocks.number, blocks.hash
"""
ADD_BLOCKS = """
    INSERT INTO blocks (chain, number, hash, parent_hash, timestamp)
    SELECT $1, * FROM unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[])
"""
FORGET_LOGS = """
    -- Of a block that comes back: what its node says now replaces what was said then, which may have been incomplete.
    DELETE FROM logs WHERE chain = $1 AND block_number = $2 AND block_hash = $3
"""
MOVE_HEAD = """
    INSERT INTO heads (chain, head_number, head_hash, head_timestamp,
                       finalized_number, finalized_hash, finalized_timestamp, node_head)
    -- Nothing is final yet: no hash, no time.
    VALUES ($1, $2::bigint, $3, $4, $6, '', 0, greatest($5::bigint, $2::bigint))
    ON CONFLICT (chain) DO UPDATE
       SET head_number = excluded.head_number, head_hash = excluded.head_hash,
           head_timestamp = excluded.head_timestamp, node_head = excluded.node_head, updated_at = now()
"""
ORPHAN_ABOVE = """
    UPDATE blocks SET status = 'orphaned' WHERE chain = $1 AND number > $2 AND status = 'canonical'
"""
RECORD_REORG = """
    INSERT INTO reorgs (chain, ancestor_number, ancestor_hash, old_head, blocks_orphaned) VALUES ($1, $2, $3, $4, $5)
"""
CUT_HEAD = """
    UPDATE heads SET head_number = $2, head_hash = $3, head_timestamp = $4, updated_at = now() WHERE chain = $1
"""
FINALIZE_BLOCKS = """
    UPDATE blocks SET status = 'finalized'
     WHERE chain = $1 AND number BETWEEN $2 AND $3 AND status = 'canonical'
"""
RECORD_RANGE = """
    INSERT INTO finalized_ranges (chain, first_block, last_block, last_hash, logs, digest, read_by, verified_by)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
MOVE_FINALIZED = """
    UPDATE heads SET finalized_number = $2, finalized_hash = $3, finalized_timestamp = $4, updated_at = now()
     WHERE chain = $1
"""
FINALIZED_BEFORE = """
    SELECT number, hash, parent_hash, timestamp FROM blocks
     WHERE chain = $1 AND status = 'finalized' AND timestamp < $2
     ORDER BY number DESC LIMIT 1
"""
BLOCK = """
    SELECT number, hash, parent_hash, timestamp FROM blocks
     WHERE chain = $1 AND number = $2 AND status <> 'orphaned'
"""
IS_CANONICAL = """
    SELECT EXISTS (SELECT FROM blocks WHERE chain = $1 AND number = $2 AND hash = $3 AND status <> 'orphaned')
"""
LOGS = """
    SELECT logs.chain, block_number, block_hash, log_index, tx_hash, tx_index, address,
           topic0, topic1, topic2, topic3, data, blocks.timestamp
      FROM logs JOIN blocks ON blocks.chain = logs.chain AND blocks.number = logs.block_number
                           AND blocks.hash = logs.block_hash
     WHERE logs.chain = $1 AND block_number BETWEEN $2 AND $3 AND blocks.status = ANY($6::text[])
       AND (cardinality($4::bytea[]) = 0 OR address = ANY($4)) AND (cardinality($5::bytea[]) = 0 OR topic0 = ANY($5))
     ORDER BY block_number, log_index
     LIMIT $7
"""
LOG_COLUMNS = """
    -- As LOGS, packed: one value holds a column of all rows, so that nothing is made for a row here or at the client.
    -- The block in which the limit is reached is whole. Read in the order of the index, up to the limit: with the two
    -- tables joined, all that is left would be read and sorted for each page.
    WITH chosen AS (
        SELECT block_number, block_hash, log_index, tx_hash, tx_index, address,
               topic0, topic1, topic2, topic3, data, timestamp
          FROM logs
         CROSS JOIN LATERAL (SELECT timestamp FROM blocks
                              WHERE (chain, number, hash) = (logs.chain, logs.block_number, logs.block_hash)
                                AND status = 'finalized' OFFSET 0) AS of_block
         WHERE logs.chain = $1 AND block_number BETWEEN $2 AND $3
           AND (cardinality($4::bytea[]) = 0 OR address = ANY($4))
           AND (cardinality($5::bytea[]) = 0 OR topic0 = ANY($5))
         ORDER BY block_number
         FETCH FIRST $6 ROWS WITH TIES
    )
    SELECT count(*) AS count,
           string_agg(int8send(block_number), '' ORDER BY block_number, log_index) AS block_numbers,
           string_agg(block_hash, '' ORDER BY block_number, log_index) AS block_hashes,
           string_agg(int4send(log_index), '' ORDER BY block_number, log_index) AS log_indexes,
           string_agg(tx_hash, '' ORDER BY block_number, log_index) AS tx_hashes,
           string_agg(int4send(tx_index), '' ORDER BY block_number, log_index) AS tx_indexes,
           string_agg(address, '' ORDER BY block_number, log_index) AS addresses,
           string_agg(set_byte('\\x00', 0, num_nonnulls(topic0, topic1, topic2, topic3)), ''
                      ORDER BY block_number, log_index) AS topic_counts,
           string_agg(coalesce(topic0, $7) || coalesce(topic1, $7) || coalesce(topic2, $7) || coalesce(topic3, $7), ''
                      ORDER BY block_number, log_index) AS topics,
           string_agg(data, '' ORDER BY block_number, log_index) AS data,
           string_agg(int8send(octet_length(data)), '' ORDER BY block_number, log_index) AS data_sizes,
           string_agg(int8send(timestamp), '' ORDER BY block_number, log_index) AS times
      FROM chosen
"""
# `logs` has no index beside its key, for it is written far more often than it is searched: each subject names where
# to begin.
LOGS_ABOUT = """
    SELECT l.*, b.timestamp
      FROM unnest($3::BYTEA[], $4::BIGINT[]) AS subject (topic1, after)
      JOIN logs l ON l.chain = $1 AND l.block_number > subject.after AND l.block_number <= $5
                 AND l.address = $2 AND l.topic1 = subject.topic1
      JOIN blocks b ON (b.chain, b.number, b.hash) = (l.chain, l.block_number, l.block_hash) AND b.status = 'finalized'
     ORDER BY l.block_number, l.log_index
"""
NOTIFY = "SELECT pg_notify('bridge', 'events')"
ENSURE_PARTITIONS = "SELECT ensure_partitions($1, $2)"
PARTITION_BLOCKS_AHEAD = 100_000
"""Where the job that makes partitions has not run, they are made here, so far ahead of the head that no other stage
ever finds one missing."""

_Field = npt.NDArray[np.uint8]  # rows × bytes
_NO_LIMIT = 2**63 - 1
_NO_TOPIC = bytes(32)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
_COLUMNS = (
    *("chain", "block_number", "block_hash", "log_index", "tx_hash", "tx_index", "address"),
    *("topic0", "topic1", "topic2", "topic3", "data"),
)


class Events:
    """Implements ports.EventStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def cursor(self, chain: str) -> ChainCursor:
        """Where ingest goes on: from committed rows."""
        start_block = await self._start_block(chain)
        head = await self._connection.fetchrow(HEAD, chain)
        if head is None:
            return ChainCursor(start_block, start_block - 1, ())
        tail = [_block(row) for row in await self._connection.fetch(TAIL, chain, head["finalized_number"])]
        pending = await self._logs(chain, head["finalized_number"] + 1, head["head_number"], "canonical")
        return ChainCursor(start_block, head["finalized_number"], tuple(tail), pack_logs(pending))

    async def add(self, chain: str, event: BlockAdded, node_head: int) -> None:
        """Append a run of blocks with its logs. Raises ChainDisagrees where it does not follow the stored head."""
        last = event.blocks[-1]
        finalized_number = await self._check_follows(chain, event)
        # One look, where they are there; and they are: a job makes them long before.
        await self._connection.execute(ENSURE_PARTITIONS, chain, last.number + PARTITION_BLOCKS_AHEAD)
        await self._add_blocks(chain, event.blocks)
        if event.logs.count:
            await self._connection.copy_to_table(
                "logs", source=io.BytesIO(encode_copy(chain, event.logs)), columns=_COLUMNS, format="binary"
            )
        await self._connection.execute(
            MOVE_HEAD, chain, last.number, last.hash, last.timestamp, node_head, finalized_number
        )
        await self._connection.execute(NOTIFY)

    async def orphan_above(self, chain: str, ancestor: Block) -> int:
        """Mark every canonical block above `ancestor` orphaned; returns how many. Never touches finalized blocks.

        Raises ChainDisagrees where `ancestor` is neither a block that counts here nor the one before the first.
        """
        head = await self._connection.fetchrow(HEAD, chain)
        if head is None:
            return 0
        if ancestor.number < head["finalized_number"]:
            raise ChainDisagrees(f"{chain}: a reorg to block {ancestor.number} is below the finalized block")
        before_all = ancestor.number == await self._start_block(chain) - 1
        if not before_all and await self.block(chain, ancestor.number) != ancestor:
            raise ChainDisagrees(f"{chain}: block {ancestor.number}, common to two branches, is not the one stored")
        orphaned = int((await self._connection.execute(ORPHAN_ABOVE, chain, ancestor.number)).split()[-1])
        await self._connection.execute(CUT_HEAD, chain, ancestor.number, ancestor.hash, ancestor.timestamp)
        await self._connection.execute(
            RECORD_REORG, chain, ancestor.number, ancestor.hash, head["head_number"], orphaned
        )
        await self._connection.execute(NOTIFY)
        return orphaned

    async def finalize(self, chain: str, event: Finalized) -> None:
        """Raises ChainDisagrees where the range does not follow the finalized block, or its end is not stored."""
        block = event.block
        head = await self._connection.fetchrow(HEAD, chain)
        if head is None or event.first != head["finalized_number"] + 1:
            raise ChainDisagrees(f"{chain}: blocks from {event.first} do not follow the finalized block as stored")
        if await self.block(chain, block.number) != block:
            raise ChainDisagrees(f"{chain}: block {block.number} was to be finalized, and is not the one stored")
        await self._connection.execute(FINALIZE_BLOCKS, chain, event.first, block.number)
        await self._connection.execute(
            RECORD_RANGE,
            *(chain, event.first, block.number, block.hash),
            *(event.logs, event.digest, event.read_by, event.verified_by),
        )
        await self._connection.execute(MOVE_FINALIZED, chain, block.number, block.hash, block.timestamp)
        await self._connection.execute(NOTIFY)

    async def head(self, chain: str) -> Block | None:
        """The highest canonical block that is stored, or None before the first."""
        head = await self._connection.fetchrow(HEAD, chain)
        return None if head is None else await self.block(chain, head["head_number"])

    async def finalized(self, chain: str) -> Block | None:
        """The highest finalized block, or None before the first."""
        head = await self._connection.fetchrow(HEAD, chain)
        return None if head is None else await self.block(chain, head["finalized_number"])

    async def finalized_before(self, chain: str, timestamp: int) -> Block | None:
        """The last stored finalized block with block.timestamp < `timestamp` (seconds)."""
        row = await self._connection.fetchrow(FINALIZED_BEFORE, chain, timestamp)
        return None if row is None else _block(row)

    async def block(self, chain: str, number: int) -> Block | None:
        """The canonical (or finalized) block of that number that is stored."""
        row = await self._connection.fetchrow(BLOCK, chain, number)
        return None if row is None else _block(row)

    async def is_canonical(self, stamp: BlockStamp) -> bool:
        found: bool = await self._connection.fetchval(IS_CANONICAL, stamp.chain, stamp.number, stamp.hash)
        return found

    async def logs(
        self,
        chain: str,
        first: int,
        last: int,
        *,
        addresses: Sequence[Address] = (),
        topic0s: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> list[Log]:
        """See ports.EventStore. Finalized logs only."""
        if limit is None:
            return await self._logs(chain, first, last, "finalized", addresses=addresses, topic0s=topic0s)
        found = await self._logs(chain, first, last, "finalized", addresses=addresses, topic0s=topic0s, limit=limit)
        if len(found) < limit:
            return found
        # The limit may have cut the last block in two: read that one whole.
        border = found[-1].block.number
        whole = await self._logs(chain, border, border, "finalized", addresses=addresses, topic0s=topic0s)
        return [log for log in found if log.block.number < border] + whole

    async def log_columns(
        self,
        chain: str,
        first: int,
        last: int,
        *,
        addresses: Sequence[Address] = (),
        topic0s: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> TimedLogs:
        """See ports.EventStore. Finalized logs only."""
        most = _NO_LIMIT if limit is None else limit
        row = await self._connection.fetchrow(
            LOG_COLUMNS, chain, first, last, list(addresses), list(topic0s), most, _NO_TOPIC
        )
        assert row is not None  # it counts
        return _unpack(row) if row["count"] else TimedLogs(NO_LOGS, ())

    async def logs_about(self, chain: str, address: Address, subjects: Mapping[bytes, int], last: int) -> list[Log]:
        """See ports.EventStore."""
        rows = await self._connection.fetch(LOGS_ABOUT, chain, address, list(subjects), list(subjects.values()), last)
        return [to_log(row) for row in rows]

    async def _logs(
        self,
        chain: str,
        first: int,
        last: int,
        status: str,
        *,
        addresses: Sequence[Address] = (),
        topic0s: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> list[Log]:
        rows = await self._connection.fetch(LOGS, chain, first, last, list(addresses), list(topic0s), [status], limit)
        return [to_log(row) for row in rows]

    async def _start_block(self, chain: str) -> int:
        start_block = await self._connection.fetchval(START_BLOCK, chain)
        assert start_block is not None, f"chain {chain} is not registered"
        return int(start_block)

    async def _check_follows(self, chain: str, event: BlockAdded) -> int:
        """Returns the finalized number, for the row of a chain that has none yet."""
        head = await self._connection.fetchrow(HEAD, chain)
        if head is None:
            start_block = await self._start_block(chain)
            if event.first != start_block:
                raise ChainDisagrees(f"{chain}: the first block must be {start_block}, not {event.first}")
            return start_block - 1
        first = event.blocks[0]
        linked = first.number != event.first or first.parent_hash == head["head_hash"]
        if event.first != head["head_number"] + 1 or not linked:
            raise ChainDisagrees(f"{chain}: block {event.first} does not follow the stored head {head['head_number']}")
        return int(head["finalized_number"])

    async def _add_blocks(self, chain: str, blocks: Sequence[Block]) -> None:
        known = await self._connection.fetch(BRING_BACK, chain, *_block_columns(blocks))
        back = {row["hash"]: row["number"] for row in known}
        for hash_, number in back.items():
            await self._connection.execute(FORGET_LOGS, chain, number, hash_)
        new = [block for block in blocks if block.hash not in back]
        await self._connection.execute(ADD_BLOCKS, chain, *_block_columns(new))


def encode_copy(chain: str, logs: LogColumns) -> bytes:
    """`logs` as rows of table `logs` in COPY's binary format, without a Python object for each.

    Rows of the same shape (number of topics, size of data) have the same length: each shape becomes one matrix, a row a
    log, filled column by column. So rows come shape by shape, which a table does not mind.
    """
    counts = np.frombuffer(logs.topic_counts, dtype=np.uint8)
    ends = np.frombuffer(logs.data_ends, dtype=">u8").astype(np.int64)
    starts = np.concatenate(([0], ends[:-1]))
    shapes = counts.astype(np.int64) << 48 | (ends - starts)
    chunks = [_COPY_HEADER]
    for shape in np.unique(shapes).tolist():
        rows = np.flatnonzero(shapes == shape)
        fields = _fields_of(chain.encode(), logs, rows, starts[rows], (shape >> 48, shape & (1 << 48) - 1))
        chunks.append(_encode_rows(fields, len(rows)))
    chunks.append(_COPY_TRAILER)
    return b"".join(chunks)


def _fields_of(
    chain: bytes,
    logs: LogColumns,
    rows: npt.NDArray[np.intp],
    data_starts: npt.NDArray[np.int64],
    shape: tuple[int, int],
) -> list[_Field | None]:
    """The columns of `rows`, which all have `shape`: (number of topics, bytes of data). None is NULL."""

    def column(packed: bytes, width: int) -> _Field:
        return np.frombuffer(packed, dtype=np.uint8).reshape(-1, width)[rows]

    topic_count, data_size = shape
    topics = column(logs.topics, 128)
    data = np.empty((len(rows), 0), dtype=np.uint8)
    if data_size:
        windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(logs.data, dtype=np.uint8), data_size)
        data = windows[data_starts]
    return [
        np.broadcast_to(np.frombuffer(chain, dtype=np.uint8), (len(rows), len(chain))),
        column(logs.block_numbers, 8),
        column(logs.block_hashes, 32),
        column(logs.log_indexes, 4),
        column(logs.tx_hashes, logs.tx_width),
        column(logs.tx_indexes, 4),
        column(logs.addresses, logs.address_width),
        *(topics[:, 32 * at : 32 * at + 32] if at < topic_count else None for at in range(4)),
        data,
    ]


def _encode_rows(fields: Sequence[_Field | None], count: int) -> bytes:
    """A row is the number of fields, then each field's size (-1: NULL) and bytes."""
    width = 2 + sum(4 + (field.shape[1] if field is not None else 0) for field in fields)
    matrix = np.empty((count, width), dtype=np.uint8)
    matrix[:, :2] = np.frombuffer(len(fields).to_bytes(2), dtype=np.uint8)
    at = 2
    for field in fields:
        size = -1 if field is None else field.shape[1]
        matrix[:, at : at + 4] = np.frombuffer(size.to_bytes(4, signed=True), dtype=np.uint8)
        at += 4
        if field is not None:
            matrix[:, at : at + size] = field
            at += size
    return matrix.tobytes()


def _unpack(row: asyncpg.Record) -> TimedLogs:
    sizes = np.frombuffer(row["data_sizes"], dtype=">i8")
    logs = LogColumns(
        row["count"],
        *(row["block_numbers"], row["block_hashes"], row["log_indexes"], row["tx_hashes"], row["tx_indexes"]),
        *(row["addresses"], row["topic_counts"], row["topics"], row["data"]),
        data_ends=np.cumsum(sizes, dtype=np.int64).astype(">u8").tobytes(),
    )
    return TimedLogs(logs, np.frombuffer(row["times"], dtype=">i8").tolist())


def _block(row: asyncpg.Record) -> Block:
    return Block(row["number"], row["hash"], row["parent_hash"], row["timestamp"])


def _block_columns(blocks: Sequence[Block]) -> tuple[list[int], list[bytes], list[bytes], list[int]]:
    return (
        [block.number for block in blocks],
        [block.hash for block in blocks],
        [block.parent_hash for block in blocks],
        [block.timestamp for block in blocks],
    )
