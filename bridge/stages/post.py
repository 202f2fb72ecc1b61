"""finalized logs, decisions, distributions, gas ─► journals ─► balances.

    cursor         through       finalized
    ───●──────────────●─────────────●───   one step: first everything other stages committed for blocks ≤ through,
       └─ these logs ─┘                    then exactly one journal for each covered log, then the cursor: one commit

A batch is settled by its own journal as soon as both its intent and its log (BatchExecuted, RootActivated) are there,
in whichever order they come: with a database that was lost and is rebuilt from the chain, the log comes first. So may
that of a batch which is only known once another one is seen to have left a recipient out: then the intent comes again.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence

from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block, Event, Log
from bridge.domain.ledger import (
    Coverage,
    Watched,
    book_decision,
    book_event,
    book_gas,
    book_intent,
    book_opening,
    book_settlement,
    book_void,
)
from bridge.domain.payouts import Leg
from bridge.domain.units import Address, BlockStamp
from bridge.ports.database import Database, Transaction
from bridge.ports.reading import ChainReader, EventDecoder, LogFilter
from bridge.ports.running import Lease
from bridge.runtime.crashpoints import CrashPoint, reach

LOGS_PER_STEP = 5_000
BLOCKS_PER_STEP = 50_000
"""Bounds what one step scans where hardly any log is ours."""
FACTS_AT_ONCE = 100
"""Decisions, distributions and attempts read at once; a distribution alone may have many thousands of recipients."""

TRANSFER = "Transfer(address indexed from, address indexed to, uint256 value)"
OF_VAULT = ("FeePaid(address indexed token, address indexed payer, uint256 amount)",)
OF_DISTRIBUTOR = (
    "BatchExecuted(bytes32 indexed id, uint32 indexed index, address indexed token, uint256 paid, uint256 credited)",
    "Credited(bytes32 indexed id, address indexed token, address indexed to, uint32 index, uint256 amount)",
    "Withdrawn(address indexed token, address indexed account, address indexed to, uint256 amount)",
    "Skipped(bytes32 indexed id, address indexed token, address indexed to, uint32 index)",
)
OF_CLAIMS = (
    (
        "RootActivated(bytes32 indexed id, address indexed token, bytes32 indexed root, uint256 total, "
        "uint256 cumulativeTotal, uint64 claimableAt)"
    ),
    (
        "Claimed(address indexed token, address indexed account, address indexed recipient, uint256 amount, "
        "uint256 cumulative)"
    ),
)
DECLARATIONS = {"vault": OF_VAULT, "distributor": OF_DISTRIBUTOR, "claims": OF_CLAIMS}
TRANSFERRED, EXECUTED, CREDITED = "token.Transfer", "distributor.BatchExecuted", "distributor.Credited"
SKIPPED = "distributor.Skipped"
ACTIVATED = "claims.RootActivated"


class EventReader:
    """Reads the logs that the books cover."""

    def __init__(self, chain: ChainReader, watched: Watched) -> None:
        transfer, contracts = chain.decoder(TRANSFER), watched.contracts
        self.coverage = Coverage(
            contracts=tuple(contracts.values()),
            tokens=tuple(token.address for token in watched.tokens if token.address is not None),
            transfer=transfer.topic0,
            holders=tuple(holder.rjust(32, b"\0") for holder in watched.holders.values()),
        )
        self._names = {address: name for name, address in contracts.items()}
        emitters = {"vault": watched.vault, "distributor": watched.distributor, "claims": watched.claims}
        self._decoders: dict[tuple[Address, bytes], tuple[str, EventDecoder]] = {
            (address, decoder.topic0): (f"{name}.{decoder.name}", decoder)
            for name, address in emitters.items()
            if address is not None
            for decoder in map(chain.decoder, DECLARATIONS[name])
        }
        self._decoders |= {(token, transfer.topic0): (TRANSFERRED, transfer) for token in self.coverage.tokens}

    @property
    def filters(self) -> tuple[LogFilter, ...]:
        """What ingest must bring for the books to be complete."""
        tokens, transfer, holders = self.coverage.tokens, (self.coverage.transfer,), self.coverage.holders
        contracts = LogFilter(self.coverage.contracts)
        if not tokens:  # a filter without addresses would match every token there is
            return (contracts,)
        return (contracts, LogFilter(tokens, (transfer, holders)), LogFilter(tokens, (transfer, None, holders)))

    def read(self, log: Log) -> Event:
        """The log by name: CONTRACT.EVENT; CONTRACT.other where it moves nothing or has not its declared shape."""
        source, decoder = self._decoders.get((log.address, log.topics[0]), (None, None)) if log.topics else (None, None)
        if source is not None and decoder is not None:
            # What has not its shape is no entry we can make; if it moved anything, the balances will say so.
            with contextlib.suppress(ValueError):
                return Event(source, log, decoder.decode(log))
        return Event(f"{self._names.get(log.address, 'token')}.other", log, {})


def log_filters(chain: ChainReader, watched: Watched) -> tuple[LogFilter, ...]:
    """What ingest must bring for the books to be complete."""
    return EventReader(chain, watched).filters


class Post:
    """The bookkeeper of one chain."""

    name = "post"

    def __init__(
        self,
        *,
        database: Database,
        chain: ChainReader,
        watched: Watched,
        start_block: int,
        lease: Lease,
        logs_per_step: int = LOGS_PER_STEP,
    ) -> None:
        self._database = database
        self._chain = chain
        self._watched = watched
        self._start_block = start_block
        self._lease = lease
        self._logs_per_step = logs_per_step
        self._reader = EventReader(chain, watched)
        self._contracts = {Leg.PUSH: watched.distributor}
        if watched.claims is not None:
            self._contracts[Leg.CLAIM] = watched.claims

    async def step(self) -> bool:
        async with self._database.snapshot() as tx:
            cursor = await tx.chains.cursor(self.name, self._chain.name)
        return await self._open() if cursor is None else await self._follow(cursor[0])

    # ── First run ──────────────────────────────────────────────────────────────────────────────────────────────────
    async def _open(self) -> bool:
        """Book what the accounts held before the first block that is followed.

        start_block = n > 0        opening at n − 1, the books cover n, n + 1, …
        start_block = 0            opening at block 0, which holds no transaction, the books cover 1, 2, …
        """
        async with self._database.snapshot() as tx:
            first = await tx.bookings.next_stop(self._chain.name, self._start_block - 1, 1)
        if first is None:
            return False  # nothing is final yet
        [block] = await self._chain.blocks([max(self._start_block - 1, 0)])
        _check_linked(block, first)
        at = BlockStamp(self._chain.name, block.number, block.hash)
        held = {
            mirror: await self._chain.balance(mirror.address, mirror.asset.id, at) for mirror in self._watched.mirrors
        }
        async with self._database.begin(self._lease) as tx:
            await tx.chains.ensure_partitions(self._chain.name, block.number)
            await tx.ledger.register_assets(self._watched.assets)
            await tx.ledger.post([book_opening(self._watched, at, block.timestamp, held)])
            await tx.chains.move_cursor(self.name, self._chain.name, at)
        return True

    # ── Then ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _follow(self, cursor: int) -> bool:
        chain, limit = self._chain.name, self._logs_per_step
        async with self._database.begin(self._lease) as tx:
            stop = await tx.bookings.next_stop(chain, cursor, BLOCKS_PER_STEP)
            # At the end the cursor's own block: a fact about an old block may have come since.
            stop = stop or await tx.bookings.next_stop(chain, cursor - 1, 1)
            if stop is None:
                return False
            at, time = BlockStamp(chain, stop.number, stop.hash), stop.timestamp
            logs = await tx.bookings.logs(chain, cursor + 1, at.number, self._reader.coverage, limit)
            if len(logs) >= limit:  # there may be more: up to the last whole block
                at, time = logs[-1].block, logs[-1].timestamp
            await self._book_facts(tx, cursor, at, time)
            await self._book_logs(tx, logs)
            if at.number > cursor:
                await tx.chains.move_cursor(self.name, chain, at)
            reach(CrashPoint.FINALIZED_NOT_POSTED)
        reach(CrashPoint.JOURNAL_SAVED)
        return at.number > cursor

    async def _book_facts(self, tx: Transaction, cursor: int, at: BlockStamp, time: int) -> None:
        """Everything that other stages committed for blocks up to `at`; each turn takes some off the table."""
        while (facts := await tx.bookings.unbooked(at.chain, at.number, FACTS_AT_ONCE)).entries:
            await tx.ledger.post([
                *map(book_decision, facts.decisions),
                *map(book_intent, facts.intents),
                *(book_gas(paid, self._watched.native.id) for paid in facts.gas),
            ])  # fmt: skip
            for leg, contract in self._contracts.items():  # the chain may have been faster: a database that is rebuilt
                decided = {each.distribution_id: each.at.number for each in facts.intents if each.leg is leg}
                if decided:
                    await self._settle(tx, await tx.events.logs_about(at.chain, contract, decided, cursor))
            if facts.voids:
                given_up = await tx.bookings.open_batches(facts.voids)
                await tx.ledger.post([book_void(batch, at, time) for batch in given_up])
            await tx.bookings.forget(facts.entries)

    async def _book_logs(self, tx: Transaction, logs: Sequence[Log]) -> None:
        if logs:
            await tx.ledger.post([book_event(self._reader.read(log), self._watched) for log in logs])
            await self._settle(tx, logs)

    async def _settle(self, tx: Transaction, logs: Sequence[Log]) -> None:
        """Close the intended batches that `logs` say were executed.

        A batch that nobody here intended is not closed: what it moved stays in suspense, where it is a break.
        """
        executed: dict[tuple[bytes, int], Log] = {}
        credited: defaultdict[tuple[bytes, int], set[Address]] = defaultdict(set)
        left_out: defaultdict[tuple[bytes, int], set[Address]] = defaultdict(set)
        for event in map(self._reader.read, logs):
            if event.source in (EXECUTED, ACTIVATED):
                executed.setdefault(batch_of(event), event.log)
            elif event.source == CREDITED:
                credited[batch_of(event)].add(_address(event.fields["to"]))
            elif event.source == SKIPPED:
                left_out[batch_of(event)].add(_address(event.fields["to"]))
        if executed:
            batches = await tx.bookings.open_batches(list(executed))
            keys = [(batch.distribution_id, batch.index) for batch in batches]
            await tx.ledger.post([
                book_settlement(batch, executed[key], credited[key], left_out[key])
                for batch, key in zip(batches, keys, strict=True)
            ])  # fmt: skip


def batch_of(event: Event) -> tuple[bytes, int]:
    """The batch (distribution id, index) that an event of the distributor is about; a tree is one batch."""
    distribution_id, index = event.fields["id"], event.fields.get("index", 0)
    assert isinstance(distribution_id, bytes)
    assert isinstance(index, int)
    return distribution_id, index


def _address(value: object) -> Address:
    assert isinstance(value, bytes)
    return Address(value)


def _check_linked(opening: Block, first: Block) -> None:
    """`first` is the first finalized block that ingest kept; where it is near enough, its hashes prove the opening."""
    if first.number == opening.number and first.hash != opening.hash:
        raise ChainDisagrees(f"block {opening.number} is not the one that was followed")
    if first.number == opening.number + 1 and first.parent_hash != opening.hash:
        raise ChainDisagrees(f"block {opening.number} is not the parent of block {first.number}")
