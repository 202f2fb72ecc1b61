"""What a reconciliation costs: from scratch, and of what is new, as the books grow; beside computing everything anew.

Ten thousand accounts; each row of the ledger is a transfer of its own journal, most of them with the log that it books.
The chain is scripted: it says at once what it holds, so all that is measured is ours and Postgres'.

scratch      every log made into its journal again and compared field by field, every balance summed from its transfers,
             every journal held against its key and its seal
incremental  a run as the daemon makes it, after so many new rows
naive        what a run over everything would take each time at least: the balances of all accounts summed from all
             transfers, and each log joined to its journal's key, in two statements, without comparing what they say
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.domain.events import Block, ChainCursor, ChainEvent, Log, pack_logs
from bridge.domain.ledger import Asset, Journal, Mirror, Transfer, Watched, book_event, book_opening
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.reading import LogFilter
from bridge.simulation.postgres import Postgres
from bridge.stages.post import OF_VAULT, TRANSFER, EventReader
from bridge.stages.reconcile import Reconcile
from bridge.stages.seal import JOURNALS_PER_STEP, walk_on
from bridge.stages.view import Books
from bridge.store.database import Database
from tests.bench.ledger import fresh
from tests.stages.books import Declaration, block_hash

CHAIN = "bench"
TOKEN, VAULT, DISTRIBUTOR, OPERATOR = (Address(bytes([n]) * 20) for n in (0x70, 0xAA, 0xDD, 0x0E))
USDX, ETH = AssetId("eip155:31337/erc20:0x" + TOKEN.hex()), AssetId("eip155:31337/slip44:60")
WATCHED = Watched(
    chain=CHAIN,
    vault=VAULT,
    distributor=DISTRIBUTOR,
    operator=OPERATOR,
    tokens=(Asset(USDX, CHAIN, TOKEN, "USDX", 6),),
    native=Asset(ETH, CHAIN, None, "ETH", 18),
)
ACCOUNTS = 10_000
LOGS_PER_BLOCK = 50  # a fee is two logs: the transfer, and what it was for
GROWN = (10_000, 100_000, 1_000_000)
NEW = (0, 100, 10_000)
REPEATS = 5
POSTED_AT_ONCE = 20_000
T0 = 1_790_000_000

Row = tuple[object, ...]

BLOCK_COLUMNS = ("chain", "number", "hash", "parent_hash", "timestamp", "status")
RANGE_COLUMNS = ("chain", "first_block", "last_block", "last_hash", "logs", "digest", "read_by", "verified_by")
NAIVE_BALANCES = """
    SELECT account_id, sum(debit) - sum(credit) FROM (
        SELECT debit_account AS account_id, amount AS debit, 0 AS credit FROM transfers WHERE chain = $1
        UNION ALL SELECT credit_account, 0, amount FROM transfers WHERE chain = $1) AS sides
     GROUP BY account_id
"""
NAIVE_EVENTS = """
    SELECT count(*) FROM logs l
      LEFT JOIN journal_keys k ON (k.source, k.ref) = ('log:' || $1, encode(l.block_hash, 'hex') || ':' || l.log_index)
     WHERE l.chain = $1 AND k.journal_id IS NULL
"""


@dataclass
class ScriptedChain:
    """As many blocks as were made. Implements ports.ChainReader."""

    name: str = CHAIN
    reference: str = "eip155:31337"
    tip: int = 0
    held: list[int] = field(default_factory=lambda: [0])  # by the vault, after each block

    def stamp(self, number: int) -> BlockStamp:
        return BlockStamp(CHAIN, number, block_hash(number))

    async def check(self) -> None: ...

    async def genesis_hash(self) -> bytes:
        return block_hash(0)

    def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncGenerator[ChainEvent, None]:
        raise NotImplementedError

    async def node_head(self) -> int:
        return self.tip

    def decoder(self, declaration: str) -> Declaration:
        return Declaration(declaration)

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        return self.held[at.number] if (account, asset) == (VAULT, USDX) else 0

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[int | bytes],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        raise NotImplementedError

    async def sequence(self, account: Address, at: BlockStamp) -> int:
        return 0

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        return [Block(number, block_hash(number), block_hash(number - 1), T0 + number) for number in numbers]


class World:
    """A ledger that grows: fees from ten thousand payers, and between them what decisions would book."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.chain = ScriptedChain()
        self.rows = 0
        self._reader = EventReader(self.chain, WATCHED)
        self._transfer, self._paid = Declaration(TRANSFER), Declaration(OF_VAULT[0])
        self._chance = random.Random(1)
        self._payers = [Address(n.to_bytes(20)) for n in range(1, ACCOUNTS + 1)]
        self._number = 0

    @classmethod
    async def create(cls, url: str) -> World:
        database, _ = await fresh(url, "reconciled")
        world = cls(database)
        held: dict[Mirror, int] = dict.fromkeys(WATCHED.mirrors, 0)
        async with database.begin() as tx:
            await tx.ledger.register_assets(WATCHED.assets)
            await tx.ledger.post([book_opening(WATCHED, world.chain.stamp(0), T0, held)])
            await tx.chains.move_cursor("post", CHAIN, world.chain.stamp(0))
        return world

    async def grow(self, rows: int) -> None:
        """So many transfers more, in new blocks; each block is a finalized range."""
        goal = self.rows + rows
        while self.rows < goal:
            logs: list[Log] = []
            ranges: list[Row] = []
            blocks: list[Row] = []
            while len(logs) < min(POSTED_AT_ONCE, goal - self.rows):
                mined = self._mine(min(LOGS_PER_BLOCK, goal - self.rows - len(logs)))
                number = self.chain.tip
                blocks.append((CHAIN, number, block_hash(number), block_hash(number - 1), T0 + number, "finalized"))
                packed = pack_logs(mined)
                ranges.append(
                    (CHAIN, number, number, block_hash(number), packed.count, packed.digest(), "one", "other")
                )
                logs += mined
            await self._save(logs, blocks, ranges)

    def _mine(self, logs: int) -> list[Log]:
        self.chain.tip += 1
        number, held, made = self.chain.tip, self.chain.held[-1], []
        stamp, tx_hash = self.chain.stamp(number), block_hash(number, "tx")
        for index in range(max(logs // 2, 1)):
            payer, amount = self._chance.choice(self._payers), self._chance.randrange(1, 10**12)
            held += amount
            moved = self._transfer.encode({"from": payer, "to": VAULT, "value": amount})
            paid = self._paid.encode({"token": TOKEN, "payer": payer, "amount": amount})
            for place, (address, (topics, data)) in enumerate(((TOKEN, moved), (VAULT, paid))):
                made.append(Log(stamp, 2 * index + place, tx_hash, 0, address, topics, data, T0 + number))
        self.chain.held.append(held)
        return made

    async def _save(self, logs: Sequence[Log], blocks: Sequence[Row], ranges: Sequence[Row]) -> None:
        journals = [book_event(self._reader.read(log), WATCHED) for log in logs]
        # As a decision would: from nobody's to one account's, so that there are ten thousand.
        at = self.chain.stamp(self.chain.tip)
        shares = [
            Transfer("surplus:unallocated", f"payable:0x{self._chance.choice(self._payers).hex()}", USDX, 1)
            for _ in range(max(len(logs) // 50, 1))
        ]
        self._number += 1
        journals.append(Journal("bench", "shares", "bench", str(self._number), at, T0 + at.number, tuple(shares)))
        async with self.database.begin() as tx:
            copy = tx.connection.copy_records_to_table
            await copy("blocks", columns=BLOCK_COLUMNS, records=blocks)
            await copy("finalized_ranges", columns=RANGE_COLUMNS, records=ranges)
            await copy("logs", records=[_row(log) for log in logs])
            await tx.ledger.post(journals)
            await tx.chains.move_cursor("post", CHAIN, at)
        self.rows += sum(len(journal.transfers) for journal in journals)

    async def seal(self) -> None:
        more = True
        while more:
            async with self.database.begin() as tx:
                more = (await tx.seals.seal(JOURNALS_PER_STEP))[0] == JOURNALS_PER_STEP

    async def analyze(self) -> None:
        """What autovacuum does in a minute or so."""
        async with self.database.begin() as tx:
            await tx.connection.execute("ANALYZE")

    def reconciler(self) -> Reconcile:
        return Reconcile(database=self.database, books=[Books(self.chain, WATCHED, 1)])

    async def incremental(self) -> float:
        started = time.perf_counter()
        result = await self.reconciler().run(full=False)
        took = time.perf_counter() - started
        assert result.balanced, result.breaks
        return took

    async def naive(self) -> float:
        started = time.perf_counter()
        async with self.database.snapshot() as tx:
            await tx.connection.fetch(NAIVE_BALANCES, CHAIN)
            assert await tx.connection.fetchval(NAIVE_EVENTS, CHAIN) == 0
        return time.perf_counter() - started

    async def scratch(self) -> float:
        started = time.perf_counter()
        result = await self.reconciler().run(full=True)
        took = time.perf_counter() - started
        assert result.balanced, result.breaks
        return took


def _row(log: Log) -> Row:
    topics = [*log.topics, None, None, None, None][:4]
    return (
        *(CHAIN, log.block.number, log.block.hash, log.log_index, log.tx_hash, log.tx_index, log.address),
        *(*topics, log.data),
    )


async def run(rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        postgres = await Postgres.start(Path(name) / "postgres.log")
        try:
            await measure(await World.create(postgres.url), [size for size in GROWN if size < rows] + [rows])
        finally:
            await postgres.stop()


async def measure(world: World, sizes: Sequence[int]) -> None:
    print(
        f"{'milliseconds':>18}" + "".join(f"{f'+{new:,} rows':>14}" for new in NEW) + f"{'naive':>12}{'× at +100':>12}"
    )
    for size in sizes:
        await world.grow(max(size - world.rows, 0))
        await world.seal()
        await world.analyze()
        await walk_on(world.database)
        await world.incremental()
        took: dict[int, list[float]] = {new: [] for new in NEW}
        for new in NEW:
            for _ in range(REPEATS if new < size else 1):
                if new:
                    await world.grow(new)
                took[new].append(await world.incremental())
        naive = min([await world.naive() for _ in range(3)])
        middle = {new: statistics.median(took[new]) for new in NEW}
        print(
            f"{f'{size:,} old rows':>18}"
            + "".join(f"{middle[new] * 1000:>14,.0f}" for new in NEW)
            + f"{naive * 1000:>12,.0f}{naive / middle[100]:>12,.0f}",
            flush=True,
        )
    await world.seal()
    took_s = await world.scratch()
    print(
        f"from scratch, {world.rows:,} rows, {ACCOUNTS:,} accounts: {took_s:.1f} s, {world.rows / took_s:,.0f} rows/s"
    )
    await world.database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=GROWN[-1], help="how large the ledger grows")
    asyncio.run(run(parser.parse_args().rows))
