"""books at a block, chain at the same block ─► the block where they part, with what is known of it.

    opening                        found                    cut-off
    ───●────────── … ──────────────●│●───────────── … ─────────●───
     agree                    agree │ differ                 differ

Books are summed from the transfers of each block, not taken from the running balances: a row that was changed shows
where it stands. The chain is asked for its balance after a block, by its hash; so the node must have old states.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate

from bridge.domain.breaks import AccountMove
from bridge.domain.errors import ConfigError, RetryableError
from bridge.domain.events import Event, TimedLogs, unpack_logs
from bridge.domain.ledger import Mirror, Watched, log_ref
from bridge.domain.units import AssetId, BlockStamp, format_address
from bridge.ports.database import Database
from bridge.ports.reading import ChainReader, History, LogFilter
from bridge.stages.headers import headers
from bridge.stages.post import EventReader

BLOCKS_AROUND = 2
"""Before and after the block: so many blocks in which the account was booked."""
LOGS_MAX = 1_000
JOURNALS_MAX = 100


@dataclass(frozen=True, slots=True)
class Probe:
    """What books and chain say of the account after one block. Atoms."""

    at: BlockStamp
    books: int
    chain: int

    @property
    def difference(self) -> int:
        """Chain minus books."""
        return self.chain - self.books


@dataclass(frozen=True, slots=True)
class BlockLog:
    """A log of the block, as the database or the node has it."""

    event: Event
    stored: bool
    on_node: bool
    booked: bool


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where books and chain part. `agreed` is None where the opening differs already."""

    mirror: Mirror
    cut_off: Probe
    agreed: Probe | None
    first: Probe | None  # None where they agree at the cut-off
    running: int  # the balance that the ledger keeps, at the cut-off
    probes: int
    logs: tuple[BlockLog, ...] = ()
    journals: tuple[tuple[AccountMove, bool], ...] = ()  # True: its rows are not those it was booked with


def find_mirror(watched: Sequence[Watched], account: str, symbol: str | None) -> Mirror:
    """The one account that is compared with a chain and goes by `account`: a code, its first word or all but its
    address, or an address.

    Raises ConfigError where none does, or several do; then it names them.
    """
    mirrors = [mirror for each in watched for mirror in each.mirrors]
    # As it is written, first: in base58 another case is another address.
    named = [mirror for mirror in mirrors if account in _names(mirror)]
    named = named or [mirror for mirror in mirrors if account.lower() in _names(mirror)]
    found = [mirror for mirror in named if symbol is None or mirror.asset.symbol.lower() == symbol.lower()]
    if len(found) == 1:
        return found[0]
    choices = ", ".join(f"{mirror.code} --asset {mirror.asset.symbol}" for mirror in found or named or mirrors)
    problem = "several accounts are called so" if found else "no account that the chain is compared with is called so"
    where = f"--find-divergence {account}" + (f" --asset {symbol}" if symbol else "")
    raise ConfigError(problem, where=where, mend=f"name one of {choices}")


def _names(mirror: Mirror) -> tuple[str, ...]:
    return mirror.code, mirror.code.partition(":")[0], mirror.code.rpartition(":")[0], format_address(mirror.address)


@dataclass(frozen=True, slots=True)
class _Books:
    """What the transfers of one account add up to, block by block."""

    numbers: Sequence[int]  # blocks in which it was booked, ascending
    sums: Sequence[int]

    def after(self, number: int) -> int:
        index = bisect_right(self.numbers, number)
        return self.sums[index - 1] if index else 0

    def around(self, number: int) -> tuple[int, int]:
        """From the booked blocks before `number` to those after it."""
        before, after = bisect_left(self.numbers, number), bisect_right(self.numbers, number)
        low, high = max(before - BLOCKS_AROUND, 0), min(after + BLOCKS_AROUND, len(self.numbers))
        return min([number, *self.numbers[low:before]]), max([number, *self.numbers[after:high]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """For one account of one chain."""

    database: Database
    chain: ChainReader
    history: History
    watched: Watched
    mirror: Mirror
    start_block: int

    async def run(self) -> Divergence:
        """Search between the opening and the last booked block.

        Where books and chain parted, met and parted again, one of the partings is found: that they agree before it and
        differ after it is certain, that it is the first is not. Raises RetryableError where nothing is booked yet,
        StateUnavailable where no node has a state that is asked for.
        """
        async with self.database.snapshot() as tx:
            cursor = await tx.chains.cursor("post", self.chain.name)
            if cursor is None:
                raise RetryableError("nothing is booked yet: the ledger starts with the first finalized block")
            end = BlockStamp(self.chain.name, *cursor)
            moves = await tx.audits.moves(end.chain, self._account, end.number)
            running = await tx.ledger.balance_at(end.chain, *self._account, end.number)
        books = _Books([number for number, _ in moves], list(accumulate(net for _, net in moves)))
        cut_off = await self._probe(books, end)
        if not cut_off.difference:
            return Divergence(self.mirror, cut_off, agreed=None, first=None, running=running, probes=1)
        agreed, first, probes = await self._bisect(books, cut_off)
        return Divergence(
            mirror=self.mirror,
            cut_off=cut_off,
            agreed=agreed,
            first=first,
            running=running,
            probes=probes + 1,
            logs=await self._logs(first.at),
            journals=await self._journals(first.at.chain, *books.around(first.at.number)),
        )

    @property
    def _account(self) -> tuple[str, AssetId]:
        return self.mirror.code, self.mirror.asset.id

    async def _bisect(self, books: _Books, cut_off: Probe) -> tuple[Probe | None, Probe, int]:
        """The last that agrees (None where the opening does not), the next, which differs, and how many were made."""
        known = max(self.start_block - 1, 0)
        low, high, probes = await self._probe_at(books, known), cut_off, 1
        if low.difference:
            return None, low, probes
        # Invariant: books and chain agree at `low`, after which no block comes up to `known`, and differ at `high`.
        while high.at.number - known > 1:
            number = (known + high.at.number) // 2
            middle = await self._probe_at(books, number)
            if middle.difference:
                high = middle
            else:
                low, known = middle, number
            probes += 1
        return low, high, probes

    async def _probe_at(self, books: _Books, number: int) -> Probe:
        [block] = await headers(self.chain, [number])
        return await self._probe(books, BlockStamp(self.chain.name, block.number, block.hash))

    async def _probe(self, books: _Books, at: BlockStamp) -> Probe:
        held = await self.chain.balance(self.mirror.address, self.mirror.asset.id, at)
        return Probe(at, books.after(at.number), held)

    async def _logs(self, at: BlockStamp) -> tuple[BlockLog, ...]:
        """What the database has of the block; and what the node has of it from our contracts and the token."""
        reader = EventReader(self.chain, self.watched)
        async with self.database.snapshot() as tx:
            stored = await tx.bookings.logs(at.chain, at.number, at.number, reader.coverage, LOGS_MAX)
            refs = [log_ref(log) for log in stored]
            booked = {journal.ref for journal in await tx.ledger.journals(f"log:{at.chain}", refs)}
        token = self.mirror.asset.address
        filters = (*reader.filters, *(() if token is None else (LogFilter((token,)),)))
        found = {log_ref(log): log for log in stored}
        told: set[str] = set()
        async with aclosing(self.history.ranges(at.number, at.number, filters)) as ranges:
            async for added in ranges:
                times = [added.blocks[-1].timestamp] * added.logs.count
                for log in unpack_logs(at.chain, TimedLogs(added.logs, times)):
                    told.add(log_ref(log))
                    found.setdefault(log_ref(log), log)
        return tuple(
            BlockLog(reader.read(log), stored=ref in refs, on_node=ref in told, booked=ref in booked)
            for ref, log in sorted(found.items(), key=lambda item: item[1].log_index)
        )

    async def _journals(self, chain: str, first: int, last: int) -> tuple[tuple[AccountMove, bool], ...]:
        async with self.database.snapshot() as tx:
            moves = await tx.audits.account_moves(chain, self._account, first, last, JOURNALS_MAX)
            hashes = {
                (journal.source, journal.ref): journal.payload_hash
                for source in sorted({move.source for move in moves})
                for journal in await tx.ledger.journals(source, [move.ref for move in moves if move.source == source])
            }
        return tuple((move, hashes.get((move.source, move.ref)) != move.payload_hash) for move in moves)
