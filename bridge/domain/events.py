"""What a chain tells: blocks, raw logs, and the three things that can happen to a chain's tip.

Raw logs travel from the node to Postgres as packed columns (`LogColumns`), never as one object a log; `Log` and `Event`
are made only where a rule or the ledger asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    Invariant: every fixed-width column has exactly count × width bytes, and `data_ends[-1] == len(data)`.
    """

    count: int
    block_numbers: bytes  # n × 8
    block_hashes: bytes  # n × 32
    log_indexes: bytes  # n × 4
    tx_hashes: bytes  # n × 32
    tx_indexes: bytes  # n × 4
    addresses: bytes  # n × 20
    topic_counts: bytes  # n × 1, each 0..4
    topics: bytes  # n × 4 × 32; absent topics are zero
    data: bytes  # all data fields, one after the other
    data_ends: bytes  # n × 8: where each data field ends in `data`


NO_LOGS = LogColumns(0, b"", b"", b"", b"", b"", b"", b"", b"", b"", b"")


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


Value = int | bool | bytes | str
"""A decoded field: integers and booleans as such, addresses and bytesN as bytes, strings as str."""


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded log. `source` is the name that a rule (or the ledger) gave this kind of event."""

    source: str
    log: Log
    fields: Mapping[str, Value]


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
