"""What is read of a chain, and prices of it and of markets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.domain.calls import Argument
from bridge.domain.events import Block, BlockAdded, ChainCursor, ChainEvent, EventColumns, Log, LogColumns, Value
from bridge.domain.prices import FeedAnswer, MarketAnswer
from bridge.domain.units import Address, AssetId, BlockStamp


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

    @property
    def name(self) -> str: ...
    @property
    def topic0(self) -> bytes: ...
    @property
    def fields(self) -> Mapping[str, str]:
        """Field name → ABI type, in the order of the declaration."""

    def decode(self, log: Log) -> Mapping[str, Value]:
        """The fields of `log` by name. Raises ValueError where the log does not have the declared shape."""

    def decode_columns(self, logs: LogColumns, addresses: Collection[Address]) -> EventColumns:
        """All logs of this event from one of `addresses`, each as `decode` has it. Raises ValueError as it does."""


class ChainReader(Protocol):
    """One chain, read. Implementations: chains.evm, chains.fake; one contract-test suite holds for all."""

    name: str
    reference: str  # CAIP-2

    async def check(self) -> None:
        """Raise ConfigError unless the endpoints serve the configured chain and its finality policy works."""

    async def genesis_hash(self) -> bytes: ...

    def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncGenerator[ChainEvent, None]:
        """Everything that happens to the chain after `cursor`, for ever, in order.

        The consumer commits an event before it asks for the next, and closes the walk that it gives up. Raises
        ChainUnavailable when no endpoint answers (the caller starts again from its committed cursor), DeepReorg when a
        finalized block was replaced.
        """

    async def node_head(self) -> int:
        """The highest block any endpoint claims; a claim, for the lag metric only."""

    def decoder(self, declaration: str) -> EventDecoder:
        """Raises ConfigError where the declaration is not an event of this chain's interface language."""

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        """Atoms of `asset` that `account` holds at the end of `at`. Raises ChainDisagrees where `at` is unknown."""

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[Argument],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        """What the view function `name(type,…)` returns at the end of block `at`: one number for each type in `returns`
        (see domain.calls).

        None where the contract does not answer so: it reverts, is not there, or returns something else. Raises
        ValueError for arguments that the signature does not take.
        """

    async def sequence(self, account: Address, at: BlockStamp) -> int | None:
        """How many transactions `account` had sent by the end of block `at` (the nonce); None where the accounts of
        this chain have no such count, and nothing but an expiry keeps a transaction from landing later."""

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Headers by number, as the node has them now; where the chain skipped a number, the block before it."""


class History(Protocol):
    """The finalized past of one chain, read in ranges: for whoever follows nothing."""

    async def finalized(self) -> Block | None:
        """The newest finalized block; None before the first, and where nodes do not know which blocks are final."""

    def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        """Blocks first … last, all of them final, in order and without a gap; each range with the logs that match.

        Raises ChainUnavailable, ChainDisagrees.
        """


class Executions(Protocol):
    """What a chain itself keeps of each batch that it executed, beside its events, and for ever."""

    async def executed(self, distribution_id: bytes, index: int, at: BlockStamp) -> bool:
        """Whether the batch was executed by the end of final block `at`; not where it was cancelled there. Raises
        RetryableError where that cannot be told."""


class ClaimedAmounts(Protocol):
    """What the contract that sets are claimed from keeps of each account. Implementation: chains.evm.claimed."""

    async def claimed(self, wanted: Sequence[tuple[Address, Address]], at: BlockStamp) -> list[int]:
        """Of each (token, account) what it has claimed in all by the end of final block `at`, in atoms; 0 where there
        was no contract yet.

        Raises ChainUnavailable, ChainDisagrees, and StateUnavailable where no node has that block's state.
        """


class PriceFeeds(Protocol):
    """The price feeds of one chain, pinned to a block. Implementation: chains.evm.aggregator."""

    async def rounds(self, feed: Address, at: Block, since: int | None) -> FeedAnswer:
        """What `feed` holds at the end of block `at`: its newest round, and with `since`, seconds, the rounds back to
        the one that was in force then, as far as they answer and at most prices.ROUNDS_MAX."""


class Market(Protocol):
    """A price that is asked for off the chain. Implementation: prices.http."""

    async def quote(self, at: Block) -> MarketAnswer:
        """The price at the time of block `at`, as near to it as the source can say. Raises SourceUnavailable where it
        does not answer, which may change; what is no price is an answer with a problem."""
