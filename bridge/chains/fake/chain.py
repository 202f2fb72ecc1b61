"""The scripted chain itself: blocks, logs and what accounts hold, all of it decided by the caller."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge.domain.calls import Argument, view_call
from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block, Log
from bridge.domain.units import Address, BlockStamp
from bridge.ports.reading import LogFilter


@dataclass(frozen=True, slots=True)
class Emit:
    """A log that a block is to hold."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes = b""
    tx_hash: bytes | None = None  # None: made up, the same on every fork, as for a transaction that moves


@dataclass(frozen=True, slots=True)
class FakeBlock:
    block: Block
    logs: tuple[Log, ...]
    # ("balance", account, asset), ("sequence", account); of calls, see `answer`
    state: dict[tuple[object, ...], int]


@dataclass(eq=False)
class FakeChain:
    """Starts with a genesis block. Everything is deterministic: the same script gives the same hashes."""

    name: str = "fake"
    finality_depth: int = 4
    seconds_per_block: int = 12
    genesis_timestamp: int = 1_600_000_000
    blocks: list[FakeBlock] = field(default_factory=list)
    state: dict[tuple[object, ...], int] = field(default_factory=dict)  # as the next block will hold it
    finalized: int = 0
    known: dict[bytes, FakeBlock] = field(default_factory=dict)  # every block there ever was
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _branches: int = 0  # salts the hashes, so that two forks never have equal blocks

    def __post_init__(self) -> None:
        self.mine()

    @property
    def head(self) -> Block:
        return self.blocks[-1].block

    def mine(self, *logs: Emit, timestamp: int | None = None) -> Block:
        """One more block, holding `logs`. Finality follows `finality_depth` blocks below."""
        number = len(self.blocks)
        parent = self.blocks[-1].block if self.blocks else Block(-1, bytes(32), bytes(32), self.genesis_timestamp)
        seconds = self.seconds_per_block if self.blocks else 0
        time = timestamp if timestamp is not None else parent.timestamp + seconds
        digest = _hash(b"block", parent.hash, str(self._branches).encode(), str(time).encode(), repr(logs).encode())
        block = Block(number, digest, parent.hash, time)
        stamp = BlockStamp(self.name, number, digest)
        made = tuple(
            Log(
                stamp,
                index,
                emit.tx_hash or _hash(b"tx", emit.address, *emit.topics, emit.data),
                index,
                emit.address,
                emit.topics,
                emit.data,
                time,
            )
            for index, emit in enumerate(logs)
        )
        added = FakeBlock(block, made, dict(self.state))
        self.blocks.append(added)
        self.known[digest] = added
        self.finalized = max(self.finalized, number - self.finality_depth)
        self._announce()
        return block

    def answer(self, contract: Address, signature: str, *arguments: Argument, words: Sequence[int]) -> None:
        """From the next block on, the view call of `contract` returns `words`; without any it reverts."""
        call = view_call(signature, arguments)
        key = ("call", contract, call.signature, call.words)
        self.state[key] = len(words)
        for place, word in enumerate(words):
            self.state[(*key, place)] = word % (1 << 256)  # a negative one as its two's complement

    def fork(self, depth: int) -> Block:
        """Drop the last `depth` blocks; what is mined next is another branch. Returns the common ancestor.

        Deeper than the finalized block is possible, and is what no real chain does.
        """
        assert 0 < depth < len(self.blocks)
        del self.blocks[-depth:]
        self._branches += 1
        self.finalized = min(self.finalized, self.head.number)
        self.state = dict(self.blocks[-1].state)
        self._announce()
        return self.head

    def restore(self, tip: bytes) -> None:
        """Make the branch that ends in block `tip`, orphaned before, canonical again."""
        branch: list[FakeBlock] = []
        at = self.known[tip]
        while self.blocks[min(at.block.number, len(self.blocks) - 1)].block != at.block:
            branch.append(at)
            at = self.known[at.block.parent_hash]
        self.blocks = [*self.blocks[: at.block.number + 1], *reversed(branch)]
        self._announce()

    def state_at(self, stamp: BlockStamp) -> dict[tuple[object, ...], int]:
        """Raises ChainDisagrees where the block is not on the canonical chain."""
        if stamp.number >= len(self.blocks) or self.blocks[stamp.number].block.hash != stamp.hash:
            raise ChainDisagrees(f"{stamp} is not canonical")
        return self.blocks[stamp.number].state

    def logs(self, number: int, filters: Sequence[LogFilter]) -> list[Log]:
        return [log for log in self.blocks[number].logs if any(matches(filter_, log) for filter_ in filters)]

    def _announce(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


def matches(filter_: LogFilter, log: Log) -> bool:
    if filter_.addresses and log.address not in filter_.addresses:
        return False
    if len(filter_.topics) > len(log.topics):
        return False
    return all(group is None or log.topics[at] in group for at, group in enumerate(filter_.topics))


def _hash(*parts: bytes) -> bytes:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8) + part)
    return sha.digest()
