"""What a chain tells: blocks, raw logs, and the three things that can happen to a chain's tip.

Raw logs travel from the node to Postgres as packed columns (`LogColumns`), never as one object a log; `Log` and `Event`
are made only where a rule or the ledger asks for them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.domain.units import Address, BlockStamp


@dataclass(frozen=True, slots=True)
class Block:
    """A block header, as far as the bridge cares."""

    number: int
    hash: bytes  # 32 bytes
    parent_hash: bytes  # 32 bytes
    timestamp: int  # seconds since 1970, as the block says


@dataclass(frozen=True, slots=True)
class LogColumns:
    """Raw logs in (block number, log index) order as packed big-endian columns; n = count.

    Invariant: every fixed-width column has exactly count × width bytes, and `data_ends[-1] == len(data)`. How wide an
    address and the id of a transaction are is the chain's affair; all of one chain are alike.
    """

    count: int
    block_numbers: bytes  # n × 8
    block_hashes: bytes  # n × 32
    log_indexes: bytes  # n × 4
    tx_hashes: bytes  # n × width of a transaction's id
    tx_indexes: bytes  # n × 4
    addresses: bytes  # n × width of an address
    topic_counts: bytes  # n × 1, each 0..4
    topics: bytes  # n × 4 × 32; absent topics are zero
    data: bytes  # all data fields, one after the other
    data_ends: bytes  # n × 8: where each data field ends in `data`

    @property
    def address_width(self) -> int:
        return len(self.addresses) // self.count if self.count else 0

    @property
    def tx_width(self) -> int:
        return len(self.tx_hashes) // self.count if self.count else 0

    def emitter(self, row: int) -> Address:
        """Where a log comes from."""
        width = self.address_width
        return Address(self.addresses[width * row : width * (row + 1)])

    def number(self, row: int) -> int:
        """The number of the block of a log; rows count from the end where negative."""
        row %= self.count
        return int.from_bytes(self.block_numbers[8 * row : 8 * row + 8])

    def log_index(self, row: int) -> int:
        row %= self.count
        return int.from_bytes(self.log_indexes[4 * row : 4 * row + 4])

    def digest(self) -> bytes:
        """sha256 over the count and every column, so over the logs in order: equal digests mean equal logs."""
        sha = hashlib.sha256(self.count.to_bytes(8))
        for column in (
            *(self.block_numbers, self.block_hashes, self.log_indexes, self.tx_hashes, self.tx_indexes),
            *(self.addresses, self.topic_counts, self.topics, self.data_ends, self.data),
        ):
            sha.update(column)
        return sha.digest()

    def between(self, first: int, last: int) -> LogColumns:
        """The logs of blocks first … last."""
        # Big-endian numbers compare as bytes do.
        rows, numbers = range(self.count), self.block_numbers
        start = bisect_left(rows, first.to_bytes(8), key=lambda row: numbers[8 * row : 8 * row + 8])
        stop = bisect_right(rows, last.to_bytes(8), key=lambda row: numbers[8 * row : 8 * row + 8])
        if (start, stop) == (0, self.count):
            return self
        data_start = int.from_bytes(self.data_ends[8 * start - 8 : 8 * start]) if start else 0
        ends = [int.from_bytes(self.data_ends[8 * row : 8 * row + 8]) for row in range(start, stop)]
        tx, address = self.tx_width, self.address_width
        return LogColumns(
            stop - start,
            self.block_numbers[8 * start : 8 * stop],
            self.block_hashes[32 * start : 32 * stop],
            self.log_indexes[4 * start : 4 * stop],
            self.tx_hashes[tx * start : tx * stop],
            self.tx_indexes[4 * start : 4 * stop],
            self.addresses[address * start : address * stop],
            self.topic_counts[start:stop],
            self.topics[128 * start : 128 * stop],
            self.data[data_start : ends[-1] if ends else data_start],
            b"".join((end - data_start).to_bytes(8) for end in ends),
        )


@dataclass(frozen=True, slots=True)
class TimedLogs:
    """Packed logs, with when each was."""

    logs: LogColumns
    times: Sequence[int]  # of each log's block, seconds


NO_LOGS = LogColumns(0, b"", b"", b"", b"", b"", b"", b"", b"", b"", b"")


def pack_logs(logs: Sequence[Log]) -> LogColumns:
    """Columns of `logs`, which are in (block number, log index) order. For logs that are objects already."""
    ends: list[bytes] = []
    size = 0
    for log in logs:
        size += len(log.data)
        ends.append(size.to_bytes(8))
    return LogColumns(
        len(logs),
        b"".join(log.block.number.to_bytes(8) for log in logs),
        b"".join(log.block.hash for log in logs),
        b"".join(log.log_index.to_bytes(4) for log in logs),
        b"".join(log.tx_hash for log in logs),
        b"".join(log.tx_index.to_bytes(4) for log in logs),
        b"".join(log.address for log in logs),
        bytes(len(log.topics) for log in logs),
        b"".join(b"".join(log.topics).ljust(128, b"\0") for log in logs),
        b"".join(log.data for log in logs),
        b"".join(ends),
    )


def join_columns(parts: Sequence[LogColumns]) -> LogColumns:
    """One after the other; the blocks of each part come after those of the part before."""
    filled = [part for part in parts if part.count]
    if len(filled) <= 1:
        return filled[0] if filled else NO_LOGS
    ends: list[bytes] = []
    size = 0
    for part in filled:
        ends.extend(
            (size + int.from_bytes(part.data_ends[at : at + 8])).to_bytes(8) for at in range(0, len(part.data_ends), 8)
        )
        size += len(part.data)
    return LogColumns(
        sum(part.count for part in filled),
        b"".join(part.block_numbers for part in filled),
        b"".join(part.block_hashes for part in filled),
        b"".join(part.log_indexes for part in filled),
        b"".join(part.tx_hashes for part in filled),
        b"".join(part.tx_indexes for part in filled),
        b"".join(part.addresses for part in filled),
        b"".join(part.topic_counts for part in filled),
        b"".join(part.topics for part in filled),
        b"".join(part.data for part in filled),
        b"".join(ends),
    )


@dataclass(frozen=True, slots=True)
class Log:
    """One raw log."""

    block: BlockStamp
    log_index: int
    tx_hash: bytes
    tx_index: int
    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    timestamp: int  # of its block, seconds


def unpack_logs(chain: str, timed: TimedLogs) -> list[Log]:
    """The other way: an object for each log. For code that looks at logs one by one."""
    logs = timed.logs
    ends = [int.from_bytes(logs.data_ends[at : at + 8]) for at in range(0, len(logs.data_ends), 8)]
    tx = logs.tx_width
    return [
        Log(
            BlockStamp(
                chain,
                int.from_bytes(logs.block_numbers[8 * row : 8 * row + 8]),
                logs.block_hashes[32 * row : 32 * row + 32],
            ),
            int.from_bytes(logs.log_indexes[4 * row : 4 * row + 4]),
            logs.tx_hashes[tx * row : tx * row + tx],
            int.from_bytes(logs.tx_indexes[4 * row : 4 * row + 4]),
            logs.emitter(row),
            tuple(logs.topics[at : at + 32] for at in range(128 * row, 128 * row + 32 * logs.topic_counts[row], 32)),
            logs.data[ends[row - 1] if row else 0 : ends[row]],
            timed.times[row],
        )
        for row in range(logs.count)
    ]


Value = int | bool | bytes | str
"""A decoded field: integers and booleans as such, addresses and bytesN as bytes, strings as str."""


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded log. `source` is the name that a rule (or the ledger) gave this kind of event."""

    source: str
    log: Log
    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Decoded logs of one kind, in order of the chain: the entries at one place of all columns are of one log."""

    rows: Sequence[int]  # where each log stands in the LogColumns it comes from
    fields: Mapping[str, Sequence[Value]]


@dataclass(frozen=True, slots=True)
class BlockAdded:
    """The canonical chain grew by a run of blocks, `first` … `blocks[-1].number`, with all their watched logs.

    Near the head `blocks` holds every block of the run, each linked to the one before by its parent hash. In a backfill
    below the finalized block it may hold only the blocks that carry logs, and always the last one of the run.

         previous tip │ first                         blocks[-1]
        ──────────────┼───●───────●───────────●────────────●
                      │   └─ run of blocks, all canonical ─┘
    """

    first: int
    blocks: tuple[Block, ...]
    logs: LogColumns


@dataclass(frozen=True, slots=True)
class Reorged:
    """Everything above `ancestor` is orphaned; `BlockAdded` for the new branch follows."""

    ancestor: Block


@dataclass(frozen=True, slots=True)
class Finalized:
    """Blocks first … block.number can never change again, and a second read agreed on every log in them."""

    first: int
    block: Block
    logs: int  # number of logs in the range
    digest: bytes  # sha256 over the range's logs in order
    read_by: str  # endpoint names
    verified_by: str


ChainEvent = BlockAdded | Reorged | Finalized


@dataclass(frozen=True, slots=True)
class ChainCursor:
    """Where to go on following a chain; made from committed rows only.

    `tail` is the canonical chain from the finalized block (at the very start: nothing) up to the head, ascending and
    linked by parent hash.

          finalized_number            head
        ─────────●──────●──────●───────●
                 └──────── tail ───────┘
    """

    start_block: int
    finalized_number: int  # start_block - 1 until something is final
    tail: tuple[Block, ...]
    logs: LogColumns = NO_LOGS  # as stored, of the tail above the finalized block: what a second read must agree with
