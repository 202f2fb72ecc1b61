"""Following one Solana chain: only what is final is looked at, so nothing is ever undone.

 wait ─► what two endpoints call final ─► above our last block? ─► two witnesses read a range ─► do they agree?
  ▲                                             │ no                                               │
  ├─────────────────────────────────────────────┘                 BlockAdded, Finalized ◄──── yes ─┤
  └──────────────────────────────────────────── the next walk asks others first ◄──────────── no ──┘

crash after BlockAdded ─► the range is in the cursor's tail ─► read again ─┬─ the same ──────► Finalized
                                                                          └─ something else ► Reorged, and again
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from bridge.chains.jsonrpc import QUORUM, Endpoint
from bridge.chains.solana import blocks
from bridge.chains.solana.logs import Watch
from bridge.chains.solana.rpc import RpcRefused, SolanaRpc
from bridge.chains.solana.wake import Wake
from bridge.chains.solana.witness import Contradiction, Span, Witness
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, DeepReorg
from bridge.domain.events import Block, BlockAdded, ChainCursor, ChainEvent, Finalized, Reorged
from bridge.domain.units import Address
from bridge.ports.reading import LogFilter

TRANSACTIONS_MAX = 512  # about so many in one range: what a crash makes us read again, and what is held in memory


class Panel:
    """All endpoints as witnesses. What two of them say alike counts; the only one's word twice, where there is one."""

    def __init__(
        self, chain: str, rpc: SolanaRpc, watch: Watch, filters: Sequence[LogFilter], before: Panel | None = None
    ) -> None:
        """`before`: the panel of the walk before this one, whose last range may be what this one begins after."""
        self._chain = chain
        self._rpc = rpc
        self.witnesses = {
            endpoint.name: Witness(chain, rpc, endpoint, watch, filters) for endpoint in rpc.endpoints
        }  # fmt: skip
        if len(rpc.endpoints) < QUORUM:
            again = Witness(chain, rpc, rpc.endpoints[0], watch, filters)
            self._alone = [*self.witnesses.values(), again]
        # What token accounts held at the end of a block, as two witnesses said last: they hold that before the next.
        self._held_at: Block | None = None if before is None else before._held_at
        self._held: dict[Address, int] = {} if before is None else before._held

    def _ranked(self) -> list[Witness]:
        if len(self._rpc.endpoints) < QUORUM:
            return self._alone
        return [self.witnesses[endpoint.name] for endpoint in self._rpc.ranked()]

    async def cut(self, first: int, last: Block | None, head: int) -> int:
        """The last slot of the range that begins with `first`, as the first witness that answers sees it."""
        problem: Exception | None = None
        for witness in self._ranked():
            try:
                return await witness.cut(first, last, head, TRANSACTIONS_MAX)
            except ChainDisagrees as error:
                witness.endpoint.doubt()
                problem = error
            except (ChainUnavailable, RpcRefused) as error:
                problem = error
        assert problem is not None
        await self.refuse_deep_reorg(last)
        raise problem

    async def read(self, first: int, last: Block | None, stop: int, head: int) -> tuple[Span, str, str]:
        """(what slots first … stop hold, who said so, who said so too).

        Raises ChainDisagrees where no two agree, ChainUnavailable where too few answer, DeepReorg.
        """
        said: list[tuple[Span, Witness]] = []
        problems: list[ChainUnavailable | ChainDisagrees | RpcRefused] = []
        witnesses = self._ranked()
        for turn in (witnesses[:QUORUM], *([each] for each in witnesses[QUORUM:])):
            spans = [self._hear(witness, first, last, stop, head) for witness in turn]
            for witness, word in zip(turn, await asyncio.gather(*spans), strict=True):
                if not isinstance(word, Span):
                    problems.append(word)
                    continue
                for span, earlier in said:
                    if span == word:
                        self._doubt_others(said, span)
                        self._held_at = span.blocks[-1]
                        self._held = {
                            account: span.held[account] for account, _ in span.held.items() & word.held.items()
                        }
                        return word, earlier.endpoint.name, witness.endpoint.name
                said.append((word, witness))
        await self.refuse_deep_reorg(last)
        if len(said) >= QUORUM:
            for _, witness in said:
                witness.endpoint.doubt()
            raise ChainDisagrees(f"{self._chain}: endpoints tell slots {first} … {stop} differently")
        raise problems[0]

    async def _hear(
        self, witness: Witness, first: int, last: Block | None, stop: int, head: int
    ) -> Span | ChainUnavailable | ChainDisagrees | RpcRefused:
        try:
            known = self._held if last is not None and last == self._held_at else {}
            return await witness.read(first, last, stop, head, known)
        except ChainDisagrees as error:
            witness.endpoint.doubt()
            return error
        except (ChainUnavailable, RpcRefused) as error:
            return error

    def _doubt_others(self, said: Sequence[tuple[Span, Witness]], right: Span) -> None:
        for span, witness in said:
            if span != right:
                witness.endpoint.doubt()

    async def refuse_deep_reorg(self, last: Block | None) -> None:
        """Only if every endpoint that answers has another final block, and two do where there are two, was it
        replaced; otherwise one of them is wrong, or of another cluster, which is for the operator to mend."""
        if last is None:
            return

        async def contradicts(endpoint: Endpoint) -> bool:
            return await blocks.read_header(self.witnesses[endpoint.name].ask, last.number) != last

        words = [contradicted for contradicted, error in await self._rpc.each(contradicts) if error is None]
        if words and all(words) and len(words) >= min(QUORUM, len(self._rpc.endpoints)):
            raise DeepReorg(
                f"{self._chain}: finalized block {last.number} was replaced on every endpoint; compare with an "
                "independent source before going on"
            )


class Follower:
    """One walk along the chain from a cursor. An error ends it; its owner starts a new one from what is committed."""

    def __init__(
        self, chain: str, rpc: SolanaRpc, panel: Panel, cursor: ChainCursor, *, wake: Wake, poll_interval_ms: int
    ) -> None:
        self._chain = chain
        self._rpc = rpc
        self._panel = panel
        self._wake = wake
        self._poll_interval_ms = poll_interval_ms
        self._start = cursor.start_block
        # Invariant: _final is the highest finalized block, None before the first. What the cursor has above it was
        # handed on, and not yet called final: nothing else is done until that is settled.
        self._final: Block | None = None
        tail = cursor.tail
        if tail and tail[0].number == cursor.finalized_number:
            self._final, tail = tail[0], tail[1:]
        self._stored, self._stored_logs = tail, cursor.logs
        self.node_head = -1

    @property
    def _next(self) -> int:
        return self._final.number + 1 if self._final is not None else self._start

    async def events(self) -> AsyncGenerator[ChainEvent, None]:
        try:
            while self._stored:
                yield await self._settle()
            async with contextlib.aclosing(self._news()) as news:
                async for event in news:
                    yield event
        finally:
            await self._wake.close()

    async def _news(self) -> AsyncGenerator[BlockAdded | Finalized, None]:
        while True:
            head = await self._agreed_final()
            if head is None or head.number < self._next:
                if head is not None:
                    await self._check_same(head)
                await self._wake.wait(self._poll_interval_ms)
                continue
            async with contextlib.aclosing(self._ranges(head)) as ranges:
                async for event in ranges:
                    yield event

    async def _check_same(self, head: Block) -> None:
        if self._final is not None and head.number == self._final.number and head != self._final:
            await self._panel.refuse_deep_reorg(self._final)
            raise Contradiction(f"{self._chain}: block {head.number} is called final under two hashes")

    async def _settle(self) -> Finalized | Reorged:
        """What a walk before this one handed on becomes final if it is read the same once more."""
        stop = self._stored[-1].number
        span, *names = await self._panel.read(self._next, self._final, stop, stop)
        stored, self._stored = self._stored, ()
        if (span.blocks, span.logs.digest()) != (stored, self._stored_logs.digest()):
            return Reorged(self._final or await self._block_before_start())
        return self._finalize(span, *names)

    async def _ranges(self, head: Block) -> AsyncGenerator[BlockAdded | Finalized, None]:
        while self._next <= head.number:
            stop = await self._panel.cut(self._next, self._final, head.number)
            span, *names = await self._panel.read(self._next, self._final, stop, head.number)
            if stop == head.number and span.blocks[-1] != head:
                raise ChainDisagrees(f"{self._chain}: block {stop} is called final under two hashes")
            yield BlockAdded(span.first, span.blocks, span.logs)
            yield self._finalize(span, *names)

    def _finalize(self, span: Span, read_by: str, verified_by: str) -> Finalized:
        self._final = span.blocks[-1]
        return Finalized(span.first, self._final, span.logs.count, span.logs.digest(), read_by, verified_by)

    async def _agreed_final(self) -> Block | None:
        """The highest block that two endpoints call final, as two tell it; the only one's word where one is
        configured."""

        async def slot_of(endpoint: Endpoint) -> int:
            slot = await blocks.final_slot(self._rpc, endpoint)
            self.node_head = max(self.node_head, slot)
            return slot

        number = await self._rpc.reached_by_two(slot_of)
        if number is None or number < self._next - 1:
            return None
        return await agreed_block(self._rpc, number)

    async def _block_before_start(self) -> Block:
        """What is left where everything was taken back: under the number before the first, whose slot may be empty."""
        if self._start == 0:
            return Block(-1, bytes(32), bytes(32), 0)
        block = await agreed_block(self._rpc, self._start - 1)
        return blocks.before(block, self._start - 1)


async def agreed_block(rpc: SolanaRpc, slot: int) -> Block:
    """The newest block up to a slot, as two endpoints tell it; the only one's word where one is configured.

    Raises ChainDisagrees where they differ or have not got so far, ChainUnavailable where no two answer.
    """

    async def ask(endpoint: Endpoint) -> Block:
        async def call(method: str, params: list[object]) -> object:
            return await rpc.call_on(endpoint, method, params)

        return await blocks.read_at_or_before(call, slot)

    try:
        return await rpc.agreed_by(ask, f"getBlock {slot}")
    except RpcRefused as refused:
        raise ChainDisagrees(f"no endpoint has block {slot}: {refused}") from None
