"""What the stages need from the world, as Protocols.

Adapters live in `chains/` and `store/`; stages know only what is written here. Reads that could depend on time take a
`BlockStamp`: nothing here answers for "latest" by accident.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from bridge.domain.events import Block, BlockAdded, ChainCursor, ChainEvent, Finalized, Log, Value
from bridge.domain.units import Address, AssetId, BlockStamp


# ── Time ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> int:
        """Seconds since 1970, for people and reports; never decides what the chain can decide."""

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never goes back, for lags and time-outs."""

    async def sleep_ms(self, duration_ms: int) -> None: ...


# ── Chains: reading ─────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs are watched: from any of `addresses` (all where empty) and matching `topics` by position.

    A position is None (anything) or a set of alternatives. Several filters are a union; a log that two of them match
    counts once.
    """

    addresses: tuple[Address, ...]
    topics: tuple[tuple[bytes, ...] | None, ...] = ()


class EventDecoder(Protocol):
    """A plan compiled once from an event declaration, for example `Paid(address indexed to, uint256 amount)`."""

    name: str
    topic0: bytes
    fields: Mapping[str, str]  # field name → ABI type, in order of declaration

    def decode(self, log: Log) -> Mapping[str, Value]:
        """The fields of `log` by name. Raises ValueError where the log does not have the declared shape."""


class ChainReader(Protocol):
    """One chain, read. Implementations: chains.evm, chains.fake; one contract-test suite holds for all."""

    name: str
    reference: str  # CAIP-2

    async def check(self) -> None:
        """Raise ConfigError unless the endpoints serve the configured chain and its finality policy works."""

    async def genesis_hash(self) -> bytes: ...

    def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncIterator[ChainEvent]:
        """Everything that happens to the chain after `cursor`, for ever, in order.

        The consumer commits an event before it asks for the next. Raises ChainUnavailable when no endpoint answers
        (the caller starts again from its committed cursor), DeepReorg when a finalized block was replaced.
        """

    async def node_head(self) -> int:
        """The highest block any endpoint claims; a claim, for the lag metric only."""

    def decoder(self, declaration: str) -> EventDecoder:
        """Raises ConfigError where the declaration is not an event of this chain's interface language."""

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        """Atoms of `asset` that `account` holds at the end of block `at`. Raises ChainDisagrees where `at` is unknown."""

    async def read_uint(self, contract: Address, function: str, at: BlockStamp) -> int:
        """The single uint256 that the view function `name()` returns at the end of block `at`."""

    async def sequence(self, account: Address, at: BlockStamp) -> int:
        """How many transactions `account` had sent by the end of block `at` (the nonce)."""

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Headers by number, as the node has them now. Used to audit what is stored."""


# ── Leases ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for one (stage, chain). Every transaction that names it checks the epoch."""

    name: str
    epoch: int
    holder: str


class LeaseStore(Protocol):
    async def acquire(self, name: str, holder: str, duration_ms: int) -> Lease | None:
        """The lease with a new epoch, or None while another instance holds it."""

    async def renew(self, lease: Lease, duration_ms: int) -> bool:
        """False when another instance has taken it."""

    async def release(self, lease: Lease) -> None: ...


# ── Stores ──────────────────────────────────────────────────────────────────────────────────────────────────────────
# One Protocol a noun. Each lists exactly what stages call; all work inside the transaction that they come from.
class ChainStore(Protocol):
    async def register(self, chain: str, kind: str, reference: str, genesis_hash: bytes, start_block: int) -> None: ...
    async def ensure_partitions(self, chain: str, through_block: int) -> None: ...
    async def cursor(self, stage: str, scope: str) -> tuple[int, bytes] | None: ...
    async def move_cursor(self, stage: str, scope: str, stamp: BlockStamp) -> None: ...


class EventStore(Protocol):
    """Blocks, raw logs, heads."""

    async def cursor(self, chain: str) -> ChainCursor:
        """Where ingest goes on: from committed rows."""

    async def add(self, chain: str, event: BlockAdded, node_head: int) -> None: ...

    async def orphan_above(self, chain: str, ancestor: Block) -> int:
        """Mark every canonical block above `ancestor` orphaned; returns how many. Never touches finalized blocks."""

    async def finalize(self, chain: str, event: Finalized) -> None: ...

    async def finalized(self, chain: str) -> Block | None:
        """The highest finalized block, or None before the first."""

    async def finalized_before(self, chain: str, timestamp: int) -> Block | None:
        """The last finalized block with block.timestamp < `timestamp`."""

    async def block(self, chain: str, number: int) -> Block | None:
        """The canonical (or finalized) block of that number that is stored."""

    async def is_canonical(self, stamp: BlockStamp) -> bool: ...

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
        """Finalized logs of blocks first…last in (block, index) order; empty sequences do not restrict.

        With `limit`, whole blocks are returned until at least `limit` logs are there.
        """


class DeadLetterStore(Protocol):
    async def record(self, stage: str, scope: str, error: str, retries: int) -> None: ...
    async def resolve(self, stage: str, scope: str) -> None: ...


class Transaction(Protocol):
    """One database transaction; it commits when the block that opened it ends."""

    @property
    def chains(self) -> ChainStore: ...
    @property
    def events(self) -> EventStore: ...
    @property
    def dead_letters(self) -> DeadLetterStore: ...


class Database(Protocol):
    def begin(self, lease: Lease | None = None) -> AbstractAsyncContextManager[Transaction]:
        """Read and write; raises LeaseLost where `lease` is not the newest epoch."""

    def snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """Read only; every statement sees the same moment."""


class Stage(Protocol):
    """One arrow of the flow."""

    name: str

    async def step(self) -> bool:
        """Do the next piece of work and commit it. True when there may be more to do at once, False when idle."""
