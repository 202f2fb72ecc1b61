"""Reads a FakeChain as ports.ChainReader says: the same events in the same order as a real adapter, at once."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence

from bridge.chains.fake.chain import FakeChain
from bridge.domain.calls import WORD, Argument, view_call
from bridge.domain.errors import BridgeError, ChainDisagrees, DeepReorg
from bridge.domain.events import Block, BlockAdded, ChainCursor, ChainEvent, Finalized, Reorged, pack_logs
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.reading import EventDecoder, LogFilter

RUN_MAX = 32


class FakeReader:
    """Implements ports.ChainReader.

    `faults` are raised one by one, each by the next look at the chain or read of it: time-outs, nodes that disagree,
    nodes that are syncing all arrive as such errors. `stale_head` hides every block above it.
    """

    def __init__(self, chain: FakeChain, decoders: dict[str, EventDecoder] | None = None) -> None:
        """`decoders` by declaration: the fake has no interface language of its own."""
        self.name = chain.name
        self.reference = f"fake:{chain.name}"
        self.chain = chain
        self.faults: deque[BridgeError] = deque()
        self.stale_head: int | None = None
        self._decoders = decoders or {}

    async def check(self) -> None:
        self._fail_if_scripted()

    async def genesis_hash(self) -> bytes:
        return self.chain.blocks[0].block.hash

    async def node_head(self) -> int:
        return self.chain.head.number

    def decoder(self, declaration: str) -> EventDecoder:
        return self._decoders[declaration]

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        return self._read(("balance", account, asset), at)

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[Argument],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        self._fail_if_scripted()
        call = view_call(signature, arguments, returns)
        state = self.chain.state_at(at)
        key = ("call", contract, call.signature, call.words)
        words = (state[(*key, place)] for place in range(state.get(key, 0)))
        return call.read(b"".join(word.to_bytes(WORD) for word in words))

    async def sequence(self, account: Address, at: BlockStamp) -> int:
        return self._read(("sequence", account), at)

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        self._fail_if_scripted()
        if any(number >= len(self.chain.blocks) for number in numbers):
            raise ChainDisagrees(f"{self.name} has {len(self.chain.blocks)} blocks only")
        return [self.chain.blocks[number].block for number in numbers]

    async def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncGenerator[ChainEvent, None]:
        # Invariant: `tail` is what was handed on, from the finalized block (where there is one) to the tip.
        tail = list(cursor.tail)
        final = cursor.finalized_number
        while True:
            self._fail_if_scripted()
            changed = self.chain.changed
            visible = self.chain.blocks if self.stale_head is None else self.chain.blocks[: self.stale_head + 1]
            event = self._next(visible, tail, final, cursor.start_block, filters)
            match event:
                case None:
                    await changed.wait()
                    continue
                case BlockAdded():
                    tail.extend(event.blocks)
                case Reorged():
                    tail = [block for block in tail if block.number <= event.ancestor.number]
                case Finalized():
                    final = event.block.number
                    tail = [block for block in tail if block.number >= final]
            yield event

    def _next(
        self,
        visible: Sequence[object],
        tail: list[Block],
        final: int,
        start: int,
        filters: Sequence[LogFilter],
    ) -> ChainEvent | None:
        chain, count = self.chain, len(visible)
        canonical = [entry.block for entry in chain.blocks[:count]]
        kept = [block for block in tail if block.number < count and canonical[block.number] == block]
        # A shorter chain says nothing yet: it is a node that is behind, until it is longer or differs.
        if len(kept) < len(tail) and not (kept and kept[-1].number == count - 1):
            if final >= start and (not kept or kept[-1].number < final):
                raise DeepReorg(f"{self.name}: finalized block {final} was replaced")
            if kept or start > 0:
                return Reorged(kept[-1] if kept else canonical[start - 1])
            raise DeepReorg(f"{self.name}: the first block was replaced")
        following = tail[-1].number + 1 if tail else start
        if following < count:
            run = canonical[following : following + RUN_MAX]
            logs = [log for block in run for log in chain.logs(block.number, filters)]
            return BlockAdded(following, tuple(run), pack_logs(logs))
        last = min(chain.finalized, following - 1, count - 1)
        if last > final:
            logs = [log for number in range(final + 1, last + 1) for log in chain.logs(number, filters)]
            packed = pack_logs(logs)
            return Finalized(final + 1, canonical[last], packed.count, packed.digest(), self.name, self.name)
        return None

    def _read(self, key: tuple[object, ...], at: BlockStamp) -> int:
        self._fail_if_scripted()
        return self.chain.state_at(at).get(key, 0)

    def _fail_if_scripted(self) -> None:
        if self.faults:
            raise self.faults.popleft()
