"""Following the tip of one EVM chain: what is new, what was replaced, what is final.

     look ─► tip's chain? ─┬─ behind or equal ─► nothing new
      ▲                    ├─ far below final ─► backfill
      │                    ├─ linked ──────────► BlockAdded
      │                    └─ not linked ──────► Reorged (fork found by walking back by hash) or DeepReorg
      └──────── wait ◄───── Finalized, once a second read agrees with what was handed on ◄┘

Nothing is cached between looks, so an orphaned chain cannot confirm itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from bridge.chains.evm.backfill import Backfill
from bridge.chains.evm.blocks import Header, may_hold, parse_header
from bridge.chains.evm.ranges import LogReader, Span, agreed_blocks, headers_on
from bridge.chains.evm.rpc import QUORUM, Endpoint, EvmRpc, RpcRefused
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, DeepReorg
from bridge.domain.events import (
    Block,
    BlockAdded,
    ChainCursor,
    ChainEvent,
    Finalized,
    LogColumns,
    Reorged,
    join_columns,
)
from bridge.domain.units import hexed

RUN_MAX = 32  # blocks in one BlockAdded near the head
BACKFILL_MIN = 64  # blocks below the finalized one from which wide ranges pay
QUIET_LOOKS_MAX = 5  # looks without news after which the other endpoints are asked too


@dataclass(frozen=True, slots=True)
class Finality:
    """The chain's policy: the node's own tag, or a number of blocks under the head. Exactly one is set."""

    tag: str | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        if (self.tag is None) == (self.depth is None):
            raise ValueError("finality is either a tag or a depth")

    async def ask(self, rpc: EvmRpc, endpoint: Endpoint) -> tuple[Header | None, Header | None]:
        """(latest, final) as `endpoint` has them; None where it has none yet."""
        if self.tag is not None:
            latest, final = await headers_on(rpc, endpoint, ["latest", self.tag])
            return latest, final
        assert self.depth is not None
        (latest,) = await headers_on(rpc, endpoint, ["latest"])
        if latest is None or latest.block.number < self.depth:
            return latest, None
        (final,) = await headers_on(rpc, endpoint, [latest.block.number - self.depth])
        return latest, final


@dataclass(frozen=True, slots=True)
class View:
    """One look at the chain through one endpoint."""

    endpoint: Endpoint
    head: Header
    final: Header | None


@dataclass(slots=True)
class Added:
    """A block above the finalized one, with its logs as they were handed on."""

    block: Block
    logs: LogColumns
    read_by: Endpoint | None  # None where it was read before a restart


class Follower:
    """One walk along the chain from a cursor. An error ends it; its owner starts a new one from what is committed."""

    def __init__(
        self,
        chain: str,
        logs: LogReader,
        cursor: ChainCursor,
        *,
        finality: Finality,
        span: Span,
        poll_interval_ms: int,
        trust_bloom: bool,
    ) -> None:
        self._chain = chain
        self._rpc = logs.rpc
        self._finality = finality
        self._logs = logs
        self._backfill = Backfill(logs, span)
        self._poll_interval_ms = poll_interval_ms
        self._trust_bloom = trust_bloom
        self._quiet_looks = 0
        self.node_head = -1
        self._start = cursor.start_block
        # Invariant: _final is the highest finalized block, None before the first; _pending follows it without a gap.
        self._final: Block | None = None
        tail = cursor.tail
        if tail and tail[0].number == cursor.finalized_number:
            self._final, tail = tail[0], tail[1:]
        self._pending = [Added(block, cursor.logs.between(block.number, block.number), None) for block in tail]

    @property
    def _tip(self) -> Block | None:
        return self._pending[-1].block if self._pending else self._final

    @property
    def _final_number(self) -> int:
        return self._final.number if self._final is not None else self._start - 1

    @property
    def _next(self) -> int:
        return self._tip.number + 1 if self._tip is not None else self._start

    async def events(self) -> AsyncGenerator[ChainEvent, None]:
        while True:
            view = await self._rpc.first_of(self._look)
            quiet = True
            try:
                async with contextlib.aclosing(self._advance(view)) as news:
                    async for event in news:
                        quiet = False
                        yield event
            except ChainDisagrees:
                # Whoever is wrong: the next walk looks through another endpoint, where there is one.
                view.endpoint.doubt()
                raise
            self._quiet_looks = self._quiet_looks + 1 if quiet else 0
            if quiet:
                if self._quiet_looks % QUIET_LOOKS_MAX == 0:
                    await self._find_longer_chain()
                await asyncio.sleep(self._poll_interval_ms / 1000)

    async def _look(self, endpoint: Endpoint) -> View:
        head, final = await self._finality.ask(self._rpc, endpoint)
        if head is None:
            endpoint.failed()
            raise ChainUnavailable(f"{endpoint.name} has no latest block")
        self.node_head = max(self.node_head, head.block.number)
        return View(endpoint, head, final)

    async def _find_longer_chain(self) -> None:
        """The best endpoint has had no news: it may have fallen behind. One that has the next block becomes the best;
        it must show that block, for a head is only claimed."""
        if len(self._rpc.endpoints) == 1:
            return
        for answer in await self._rpc.call_on_each("eth_getBlockByNumber", [hex(self._next), False]):
            if answer.error is None and isinstance(answer.result, dict) and not answer.endpoint.doubted:
                self._rpc.prefer(answer.endpoint)
                self.node_head = max(self.node_head, self._next)

    async def _advance(self, view: View) -> AsyncGenerator[ChainEvent, None]:
        # What can be:
        #   final far above the tip, nothing pending  → backfill up to final
        #   head above the tip, or another block at its height → extend, or find the fork
        #   head below the tip                        → the node is behind; wait
        # and then, with the tip settled: finalize what is final.
        final_number = view.final.block.number if view.final is not None else -1
        if not self._pending and final_number - self._next >= BACKFILL_MIN:
            async with contextlib.aclosing(self._fill(view)) as filled:
                async for added in filled:
                    yield added
            return
        event = await self._extend(view)
        if event is not None:
            yield event
            if isinstance(event, Reorged):
                return
        if final_number > self._final_number and self._pending:
            settled = await self._finalize(view)
            if settled is not None:
                yield settled

    # ── Below the finalized block ────────────────────────────────────────────────────────────────────────────────
    async def _fill(self, view: View) -> AsyncGenerator[ChainEvent, None]:
        target = await self._agreed_final()
        if target is None:
            return
        if self._final is not None and target.number >= self._next:
            await self._check_final_is_known(view)
        async with contextlib.aclosing(self._backfill.read(self._next, target.number, self._final)) as ranges:
            async for event in ranges:
                last = event.block if isinstance(event, Finalized) else event.blocks[-1]
                if last.number == target.number and last != target:
                    raise ChainDisagrees(f"{self._chain}: block {target.number} is called final under two hashes")
                if isinstance(event, Finalized):
                    self._final = event.block
                yield event

    async def _check_final_is_known(self, view: View) -> None:
        assert self._final is not None
        (header,) = await headers_on(self._rpc, view.endpoint, [self._final.number])
        if header is not None and header.block.hash != self._final.hash:
            await self._refuse_deep_reorg(self._final)

    async def _agreed_final(self) -> Block | None:
        """The highest block that two endpoints call final, as two tell it; the only one's word where one is configured.
        None where fewer call anything final yet.

        Raises ChainUnavailable where no second endpoint answers: nothing becomes final on one node's word alone.
        """
        called: list[Block] = []

        async def final_of(endpoint: Endpoint) -> int | None:
            _, final = await self._finality.ask(self._rpc, endpoint)
            if final is None:
                return None
            called.append(final.block)
            return final.block.number

        try:
            number = await self._rpc.reached_by_two(final_of)
        except ChainUnavailable as error:
            raise ChainUnavailable(f"no second endpoint says what is final: {error}") from None
        if number is None:
            return None
        [block] = await agreed_blocks(self._rpc, [number])
        # A number is not enough: behind one URL there may be nodes on two branches, and only one of them was asked
        # what is final.
        alike = [final for final in called if final.number > number or final == block]
        if len(alike) < min(QUORUM, len(self._rpc.endpoints)):
            raise ChainDisagrees(f"{self._chain}: block {number} is called final under two hashes")
        return block

    # ── At the tip ───────────────────────────────────────────────────────────────────────────────────────────────
    async def _extend(self, view: View) -> BlockAdded | Reorged | None:
        head, tip = view.head.block, self._tip
        if head.number < self._next:
            if tip is not None and head.number == tip.number and head.hash != tip.hash:
                return await self._reorg(view, head)
            return None
        last = min(head.number, self._next + RUN_MAX - 1)
        numbers = list(range(self._next, last + 1))
        # The usual case near the head: the one new block was seen in the look itself.
        found = [view.head] if numbers == [head.number] else await headers_on(self._rpc, view.endpoint, numbers)
        run: list[Header] = []
        for header in found:
            before = run[-1].block if run else tip
            if header is None:
                break  # a null at the head is a node that has not caught up with itself
            if before is not None and header.block.parent_hash != before.hash:
                if not run:
                    return await self._reorg(view, header.block)
                break  # replaced while we were reading; the next look sees it
            run.append(header)
        if not run:
            return None
        logs = await self._logs_of(view.endpoint, run)
        self._pending.extend(Added(header.block, logs_, view.endpoint) for header, logs_ in zip(run, logs, strict=True))
        return BlockAdded(run[0].block.number, tuple(header.block for header in run), join_columns(logs))

    async def _logs_of(self, endpoint: Endpoint, run: list[Header]) -> list[LogColumns]:
        """Logs by block hash. Empty ones are asked for again where the bloom says that there may be some."""
        logs = await self._logs.of_blocks(endpoint, [header.block for header in run])
        if not self._trust_bloom:
            return logs
        doubtful = [
            index
            for index, header in enumerate(run)
            if not logs[index].count and may_hold(header.bloom, self._logs.filters)
        ]
        if doubtful:
            others = [other for other in self._rpc.ranked() if other is not endpoint] or [endpoint]
            again = await self._again(others, [run[index].block for index in doubtful])
            for index, answer in zip(doubtful, again, strict=True):
                logs[index] = answer
        return logs

    async def _again(self, others: list[Endpoint], blocks: list[Block]) -> list[LogColumns]:
        """A second answer. Blooms err towards yes, so a second empty one is believed until the block is finalized."""
        last: ChainUnavailable | ChainDisagrees | RpcRefused | None = None
        for other in others:
            try:
                return await self._logs.of_blocks(other, blocks)
            except (ChainUnavailable, ChainDisagrees, RpcRefused) as error:
                last = error
        raise ChainUnavailable(f"empty logs under a bloom that is not, and nobody else answers: {last}")

    async def _reorg(self, view: View, block: Block) -> Reorged:
        """`block` does not follow our chain: walk back by hash to where it does."""
        ours = {added.block.number: added.block for added in self._pending}
        if self._final is not None:
            ours[self._final.number] = self._final
        while True:
            known = ours.get(block.number - 1)
            if known is not None and known.hash == block.parent_hash:
                return self._cut_above(known)
            if self._final is not None and block.number - 1 <= self._final.number:
                await self._refuse_deep_reorg(self._final)
            parent = await self._block_by_hash(view.endpoint, block.parent_hash, block.number - 1)
            if known is None and parent.number < self._start:
                return self._cut_above(parent)  # everything we had is gone, and nothing of it was final
            block = parent

    def _cut_above(self, ancestor: Block) -> Reorged:
        self._pending = [added for added in self._pending if added.block.number <= ancestor.number]
        return Reorged(ancestor)

    async def _block_by_hash(self, endpoint: Endpoint, hash_: bytes, number: int) -> Block:
        header = parse_header(
            endpoint.name, await self._rpc.call_on(endpoint, "eth_getBlockByHash", [hexed(hash_), False])
        )
        if header is None or header.block.hash != hash_ or header.block.number != number:
            raise ChainDisagrees(f"{endpoint.name} does not know the parent of a block that it gave")
        return header.block

    async def _refuse_deep_reorg(self, final: Block) -> None:
        """A node contradicts the finalized block. Only if every node that answers does, at least two where two are
        configured, and none is syncing, is that a reorganisation; otherwise one of them is wrong, which passes or is
        the operator's to mend."""
        contradictions = 0
        for answer in await self._rpc.call_on_each("eth_getBlockByNumber", [hex(final.number), False]):
            header = parse_header(answer.endpoint.name, answer.result) if answer.error is None else None
            if header is None:
                continue
            syncing = await self._rpc.call_on(answer.endpoint, "eth_syncing")
            if header.block.hash == final.hash or syncing:
                raise ChainDisagrees(f"endpoints disagree about finalized block {final.number}, or are syncing")
            contradictions += 1
        if contradictions < min(QUORUM, len(self._rpc.endpoints)):
            raise ChainDisagrees(f"too few endpoints have another finalized block {final.number}: {contradictions}")
        raise DeepReorg(
            f"{self._chain}: finalized block {final.number} (0x{final.hash.hex()}) was replaced on every endpoint; "
            "compare with an independent source before going on"
        )

    # ── Finality ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def _finalize(self, view: View) -> Finalized | Reorged | None:
        final = await self._agreed_final()
        if final is None:
            return None
        range_ = [added for added in self._pending if added.block.number <= final.number]
        if not range_:
            return None
        # After a restart in the middle of a backfill, not every block is here: the last one below the target counts.
        block = range_[-1].block
        told = await agreed_blocks(self._rpc, [added.block.number for added in range_])
        wrong = next((added for added, right in zip(range_, told, strict=True) if added.block != right), None)
        if wrong is not None and wrong.read_by is not None:
            wrong.read_by.doubt()
        if told[-1].hash != block.hash:
            return await self._reorg(view, told[-1])  # final on a branch that is not ours, nor longer yet
        if wrong is not None:  # the same hash under another time: one endpoint told us, and two tell otherwise
            right = [added.block for added in range_ if added.block.number < wrong.block.number]
            return self._cut_above(right[-1] if right else self._final or await self._block_before_start())
        first = self._final_number + 1
        stored = join_columns([added.logs for added in range_])
        agreed = await self._second_read(first, block, stored, [added.read_by for added in range_])
        if isinstance(agreed, LogColumns):
            return self._cut_above(await self._last_right(range_, agreed))
        self._final = block
        self._pending = self._pending[len(range_) :]
        return Finalized(first, block, stored.count, stored.digest(), *agreed)

    async def _last_right(self, range_: list[Added], agreed: LogColumns) -> Block:
        """Two reads agree with each other and not with what was handed on: the block from which to hand it on again.

        It is one that was handed on itself: of a backfill not every block is here, nor need the wrong one be.
        """
        right, next_ = self._final, self._final_number + 1
        for added in range_:
            if added.logs != agreed.between(next_, added.block.number):
                break
            right, next_ = added.block, added.block.number + 1
        return right or await self._block_before_start()

    async def _block_before_start(self) -> Block:
        if self._start == 0:
            return Block(-1, bytes(32), bytes(32), 0)
        [before] = await agreed_blocks(self._rpc, [self._start - 1])
        return before

    async def _second_read(
        self, first: int, last: Block, stored: LogColumns, sources: list[Endpoint | None]
    ) -> tuple[str, str] | LogColumns:
        """(read by, verified by) once two endpoints stand for `stored`, or what two say against it.

        The endpoint that `stored` came from is one of the two. Where only one endpoint is configured, its second answer
        is the second read. Raises ChainDisagrees where no two agree, ChainUnavailable where too few answer.
        """
        source = sources[0] if len(set(sources)) == 1 else None
        alone = len(self._rpc.endpoints) == 1
        said_so = [source.name] if source is not None else []
        against: list[bytes] = []
        others = [endpoint for endpoint in self._rpc.ranked() if endpoint is not source]
        askable = self._rpc.endpoints * 2 if alone else others + ([source] if source is not None else [])
        last_error: ChainUnavailable | ChainDisagrees | RpcRefused | None = None
        for endpoint in askable:
            try:
                logs = await self._read_final(endpoint, first, last)
            except (ChainUnavailable, ChainDisagrees, RpcRefused) as error:
                last_error = error
                continue
            if logs.digest() != stored.digest():
                if logs.digest() in against:
                    if source is not None:
                        source.doubt()
                    return logs
                against.append(logs.digest())
            elif alone or endpoint is not source:
                said_so.append(endpoint.name)
                if len(said_so) == 2:
                    return said_so[0], said_so[1]
        if against:
            raise ChainDisagrees(f"endpoints give different logs for final blocks {first} … {last.number}")
        raise ChainUnavailable(f"no second endpoint confirms blocks {first} … {last.number}: {last_error}")

    async def _read_final(self, endpoint: Endpoint, first: int, last: Block) -> LogColumns:
        # A node that lags answers [] past its head, not an error: so it must show that it has the last block.
        (header,) = await headers_on(self._rpc, endpoint, [last.number])
        if header is None or header.block.hash != last.hash:
            raise ChainUnavailable(f"{endpoint.name} does not have block {last.number} of this branch")
        return await self._backfill.logs(endpoint, first, last.number)
