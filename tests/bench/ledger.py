"""Booking speed, balances maintained, on a real Postgres: the ledger beside one transaction for each entry.

ours      Ledger.post in batches: each entry a journal of its own, with its key and its place in the seal's queue
          (`each`), or one journal for the batch (`one`)
plain     one transaction for each entry, and nothing else: the entry with a unique reference, then both balances
pgledger  with --pgledger: its function, one transaction for each entry, and 500 in one

An entry is one amount from one account to another. `hot`: all entries move between two accounts, so all writers want
the same two balances. `spread`: ten thousand accounts. The ways take turns for each number of writers, so that what
else the machine does meets all of them. Nothing is flushed to the disk here, which spares the one-by-one ways most of
what their commits cost elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from bridge.domain.ledger import Asset, Journal, Transfer
from bridge.domain.units import AssetId, BlockStamp
from bridge.simulation.postgres import Postgres
from bridge.stages.seal import JOURNALS_PER_STEP, verify
from bridge.store.database import Database
from bridge.store.migrations import migrate

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

CHAIN, TOKEN = "bench", AssetId("eip155:31337/erc20:0x70")
AT = BlockStamp(CHAIN, 1, bytes(32))
ACCOUNTS = {"hot": 2, "spread": 10_000}
BATCHES, WRITERS = (500, 5_000, 20_000), (1, 4, 16)
ONE_BY_ONE = 2_000
"""Entries of each turn of the ways that commit each by itself."""
PGLEDGER_BATCH = 500
FIRST_ROWS = 10_000
GROWTH_BATCH, GROWTH_WRITERS, GROWTH_TURNS = 5_000, 4, 7
JOURNALS_A_BLOCK = 20

Move = tuple[str, str, int]
_number = count()


def moves(entries: int, accounts: int, seed: int) -> list[Move]:
    chance = random.Random(seed)
    codes = [f"payable:0x{n:040x}" for n in range(accounts)]
    pairs = (chance.sample(codes, 2) for _ in range(entries))
    return [(debit, credit, chance.randrange(1, 10**20)) for debit, credit in pairs]


def journals(made: Sequence[Move], *, together: bool) -> list[Journal]:
    """One journal for each move, or one for all of them; with references as logs have them."""
    transfers = [Transfer(debit, credit, TOKEN, amount) for debit, credit, amount in made]
    groups = [tuple(transfers)] if together else [(transfer,) for transfer in transfers]
    return [Journal("bench", "bench", f"log:{CHAIN}", reference(next(_number)), AT, 1, group) for group in groups]


def reference(number: int) -> str:
    block, index = divmod(number, JOURNALS_A_BLOCK)
    return f"{hashlib.sha256(block.to_bytes(8)).hexdigest()}:{index}"


async def seconds(work: Sequence[Callable[[], Awaitable[object]]], writers: int) -> float:
    """How long `writers` take for all of `work`, each taking the next piece when it is done with one."""
    waiting = iter(work)

    async def writer() -> None:
        for piece in waiting:
            await piece()

    # What waits to be booked is made beforehand; a daemon never holds that much, and is not stopped to look through it.
    gc.collect()
    gc.freeze()
    started = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(writers)))
    taken = time.perf_counter() - started
    gc.unfreeze()
    return taken


# ── Ours ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def post(database: Database, batch: Sequence[Journal]) -> None:
    async with database.begin() as tx:
        await tx.ledger.post(batch)


def pieces(
    database: Database, entries: int, batch: int, accounts: int, *, together: bool = False
) -> list[Callable[[], Awaitable[object]]]:
    made = moves(entries, accounts, seed=batch)
    batches = [journals(made[at : at + batch], together=together) for at in range(0, entries, batch)]
    return [partial(post, database, each) for each in batches]


async def ours(database: Database, entries: int, accounts: int, writers: int, *, together: bool) -> list[float]:
    """Entries a second for each size of batch."""
    speeds = []
    for batch in BATCHES:
        total = max(entries, batch * writers)
        work = pieces(database, total, batch, accounts, together=together)
        speeds.append(total / await seconds(work, writers))
    return speeds


def say(what: str, speeds: Sequence[float]) -> None:
    print(f"{what:38}" + "".join(f"{speed:>14,.0f}" for speed in speeds), flush=True)


# ── Plain ───────────────────────────────────────────────────────────────────────────────────────────────────────────
PLAIN_TABLES = """
    CREATE TABLE plain_balances (account TEXT PRIMARY KEY, debits NUMERIC NOT NULL, credits NUMERIC NOT NULL);
    CREATE TABLE plain_entries (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref TEXT NOT NULL UNIQUE,
                                debit TEXT NOT NULL, credit TEXT NOT NULL, amount NUMERIC NOT NULL,
                                booked_at TIMESTAMPTZ NOT NULL DEFAULT now());
"""
PLAIN_ENTRY = "INSERT INTO plain_entries (ref, debit, credit, amount) VALUES ($1, $2, $3, $4)"
PLAIN_BALANCE = """
    INSERT INTO plain_balances AS b VALUES ($1, $2, $3)
    ON CONFLICT (account) DO UPDATE SET debits = b.debits + excluded.debits, credits = b.credits + excluded.credits
"""


async def plain_entry(pool: Pool, move: Move) -> None:
    debit, credit, amount = move
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(PLAIN_ENTRY, str(next(_number)), debit, credit, amount)
        # In the order of accounts, or two writers would lock each other out.
        for account in sorted((debit, credit)):
            await connection.execute(PLAIN_BALANCE, account, amount * (account == debit), amount * (account == credit))


async def one_by_one(work: Sequence[Callable[[], Awaitable[object]]], writers: int) -> float:
    """Entries a second."""
    return len(work) / await seconds(work, writers)


async def plain(pool: Pool, accounts: int, writers: int) -> float:
    """Entries a second."""
    made = moves(ONE_BY_ONE, accounts, seed=writers)
    return await one_by_one([partial(plain_entry, pool, move) for move in made], writers)


# ── pgledger ────────────────────────────────────────────────────────────────────────────────────────────────────────
PGLEDGER_FILES = (
    "vendor/scoville-pgsql-ulid/ulid-to-uuid.sql",
    "vendor/scoville-pgsql-ulid/uuid-to-ulid.sql",
    "pgledger.sql",
)
PGLEDGER_ACCOUNTS = """
    SELECT made.id FROM generate_series(1, $1) AS n, pgledger_create_account('account ' || n, 'BENCH') AS made
"""
PGLEDGER_ENTRY = "SELECT * FROM pgledger_create_transfer($1, $2, $3)"
PGLEDGER_ENTRIES = """
    SELECT count(*) FROM pgledger_create_transfers(
        transfer_requests => ARRAY(SELECT ROW(credit, debit, amount)::TRANSFER_REQUEST
                                     FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT::NUMERIC[])
                                          AS entry (credit, debit, amount)),
        event_at => now())
"""


class Pgledger:
    """Another ledger in Postgres, where somebody has a copy of it: its accounts, by ours."""

    def __init__(self, pool: Pool, ids: Sequence[str]) -> None:
        self._pool = pool
        self._ids = ids

    @classmethod
    async def load(cls, pool: Pool, directory: Path) -> Pgledger:
        for name in PGLEDGER_FILES:
            await pool.execute((directory / name).read_text(encoding="utf-8"))
        return cls(pool, [row["id"] for row in await pool.fetch(PGLEDGER_ACCOUNTS, max(ACCOUNTS.values()))])

    async def speeds(self, accounts: int, writers: int) -> tuple[float, float]:
        """Entries a second, one by one and in batches."""
        made = [(self._ids[c], self._ids[d], amount) for d, c, amount in numbered(2 * ONE_BY_ONE, accounts, writers)]
        single = [partial(self._entry, entry) for entry in made[:ONE_BY_ONE]]
        total = max(len(made), PGLEDGER_BATCH * writers)
        entries = (made * (total // len(made) + 1))[:total]
        batches = [entries[at : at + PGLEDGER_BATCH] for at in range(0, total, PGLEDGER_BATCH)]
        batched = [partial(self._batch, batch) for batch in batches]
        return await one_by_one(single, writers), total / await seconds(batched, writers)

    async def _entry(self, entry: tuple[str, str, int]) -> None:
        await self._pool.fetch(PGLEDGER_ENTRY, *entry)

    async def _batch(self, batch: Sequence[tuple[str, str, int]]) -> None:
        payers, payees, amounts = zip(*batch, strict=True)
        await self._pool.fetch(PGLEDGER_ENTRIES, payers, payees, f"{{{','.join(map(str, amounts))}}}")


def numbered(entries: int, accounts: int, seed: int) -> list[tuple[int, int, int]]:
    """Moves between accounts by their number."""
    chance = random.Random(seed)
    pairs = (chance.sample(range(accounts), 2) for _ in range(entries))
    return [(debit, credit, chance.randrange(1, 10**20)) for debit, credit in pairs]


# ── Side by side ────────────────────────────────────────────────────────────────────────────────────────────────────
async def speeds(database: Database, pool: Pool, pgledger: Pgledger | None, entries: int) -> None:
    """Prints all ways for each kind of accounts and number of writers; the best of ours beside the best plain one."""
    print(f"{'entries a second':38}" + "".join(f"{f'batch {batch:,}':>14}" for batch in BATCHES), flush=True)
    best = {"plain": 0.0, "each": 0.0, "one": 0.0}
    for kind, accounts in ACCOUNTS.items():
        # Accounts are opened once in the life of a ledger, not in every batch.
        await seconds(pieces(database, 2 * accounts, 20_000, accounts), 1)
        for writers in WRITERS:
            which = f"{kind}, {writers} writer{'s' if writers > 1 else ''}"
            found = {"plain": [await plain(pool, accounts, writers)]}
            say(f"{which}, plain", found["plain"])
            if pgledger is not None:
                single, batched = await pgledger.speeds(accounts, writers)
                say(f"{which}, pgledger", [single])
                say(f"{which}, pgledger {PGLEDGER_BATCH} at once", [batched])
            for way in ("each", "one"):
                found[way] = await ours(database, entries, accounts, writers, together=way == "one")
                say(f"{which}, ours, {way}", found[way])
            best = {way: max(value, *found[way]) for way, value in best.items()}
            print(f"{'':38}" + times(*(max(found[way]) / found["plain"][0] for way in ("each", "one"))), flush=True)
    print("best of all: " + times(best["each"] / best["plain"], best["one"] / best["plain"]), flush=True)


def times(each: float, one: float) -> str:
    return f"× plain: a journal for each entry {each:.1f}, for each batch {one:.1f}"


# ── Growth, and the seal ────────────────────────────────────────────────────────────────────────────────────────────
async def growth(small: Database, large: Database, rows: int) -> None:
    """Cost of an entry in a ledger of ten thousand rows and in one of `rows`, in turns."""
    accounts = ACCOUNTS["spread"]
    for database in (small, large):
        await seconds(pieces(database, FIRST_ROWS, GROWTH_BATCH, accounts), 1)
    taken, step = 0.0, 20_000 * GROWTH_WRITERS * 2
    for start in range(FIRST_ROWS, rows, step):
        more = min(step, rows - start)
        taken += await seconds(pieces(large, more, 20_000, accounts), GROWTH_WRITERS)
    print(f"grown to {rows:,} rows at {(rows - FIRST_ROWS) / taken:,.0f} entries a second", flush=True)

    async def cost(database: Database) -> float:
        count = 2 * GROWTH_BATCH
        return await seconds(pieces(database, count, GROWTH_BATCH, accounts), 1) / count * 1e6

    turns = [(await cost(small), await cost(large)) for _ in range(GROWTH_TURNS)]
    for name, costs in zip((f"{FIRST_ROWS:,} rows", f"{rows:,} rows"), zip(*turns, strict=True), strict=True):
        print(
            f"an entry, batches of {GROWTH_BATCH:,}, at {name}: median {statistics.median(costs):.1f} µs, "
            f"least {min(costs):.1f} µs",
            flush=True,
        )
    print(f"the larger one costs {statistics.median(b / a for a, b in turns):.2f} × the smaller, median of turns")


async def seals(database: Database) -> None:
    started, more = time.perf_counter(), True
    while more:
        async with database.begin() as tx:
            more = (await tx.seals.seal(JOURNALS_PER_STEP))[0] == JOURNALS_PER_STEP
    sealing = time.perf_counter() - started
    started = time.perf_counter()
    found = await verify(database)
    verifying = time.perf_counter() - started
    assert found.fault is None
    sealed = found.tip.count
    print(
        f"seal: {sealed:,} journals in steps of {JOURNALS_PER_STEP:,}, {sealed / sealing:,.0f} a second; "
        f"verified at {sealed / verifying:,.0f} a second",
        flush=True,
    )


async def fresh(url: str, name: str) -> tuple[Database, str]:
    """A migrated database of its own, so that no part grows another's tables."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    own = url.replace("/bridge?", f"/{name}?")
    database = await Database.open(own, connections_max=16)
    await migrate(database)
    async with database.begin() as tx:
        await tx.chains.register(CHAIN, "evm", "eip155:31337", bytes(32), 0)
        await tx.ledger.register_assets([Asset(TOKEN, CHAIN, None, "BENCH", 18)])
    return database, own


async def run(entries: int, rows: int, pgledger_directory: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        postgres = await Postgres.start(Path(name) / "postgres.log")
        try:
            if entries:
                database, own = await fresh(postgres.url, "speed")
                async with asyncpg.create_pool(own, min_size=16, max_size=16) as pool:
                    await pool.execute(PLAIN_TABLES)
                    pgledger = None if pgledger_directory is None else await Pgledger.load(pool, pgledger_directory)
                    await speeds(database, pool, pgledger, entries)
                await database.close()
            if rows:
                (small, _), (large, _) = await fresh(postgres.url, "small"), await fresh(postgres.url, "large")
                await growth(small, large, rows)
                await seals(small)
                await small.close()
                await large.close()
        finally:
            await postgres.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=40_000, help="for each way of batching; 0 for the growth alone")
    parser.add_argument("--rows", type=int, default=300_000, help="that a ledger grows to; 0 for the speeds alone")
    parser.add_argument("--pgledger", type=Path, metavar="DIR", help="a copy of pgledger's repository")
    options = parser.parse_args()
    asyncio.run(run(options.entries, options.rows, options.pgledger))
