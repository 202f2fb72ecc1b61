"""Booking speed, balances maintained, on a real Postgres: the ledger beside one transaction for each entry.

ours    Ledger.post: each entry a journal of its own with its key and its place in the seal's queue; or all in one
plain   one transaction for each entry, and nothing else: the entry with a unique reference, then both balances

An entry is one amount from one account to another. `hot`: all entries move between two accounts, so all writers want
the same two balances. `spread`: ten thousand accounts. Nothing is flushed to the disk here, which spares the plain way
most of what its commits cost elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path

import asyncpg

from bridge.domain.ledger import Asset, Journal, Transfer
from bridge.domain.units import AssetId, BlockStamp
from bridge.runtime.clock import SystemClock
from bridge.simulation.postgres import Postgres
from bridge.stages.seal import JOURNALS_PER_STEP, Seal, verify
from bridge.store.database import Database
from bridge.store.migrations import migrate

CHAIN, TOKEN = "bench", AssetId("eip155:31337/erc20:0x70")
AT = BlockStamp(CHAIN, 1, bytes(32))
ACCOUNTS = {"hot": 2, "spread": 10_000}
BATCHES, WRITERS = (500, 5_000, 20_000), (1, 4, 16)
PLAIN_ENTRIES = 3_000
FIRST_ROWS = 10_000
GROWTH_BATCH = 5_000

Move = tuple[str, str, int]
_number = count()


def moves(entries: int, accounts: int, seed: int) -> list[Move]:
    chance = random.Random(seed)
    codes = [f"payable:0x{n:040x}" for n in range(accounts)]
    pairs = (chance.sample(codes, 2) for _ in range(entries))
    return [(debit, credit, chance.randrange(1, 10**20)) for debit, credit in pairs]


def journals(made: Sequence[Move], *, together: bool) -> list[Journal]:
    """One journal for each move, or one for all of them."""
    transfers = [Transfer(debit, credit, TOKEN, amount) for debit, credit, amount in made]
    groups = [tuple(transfers)] if together else [(transfer,) for transfer in transfers]
    return [Journal("bench", "bench", "bench", str(next(_number)), AT, 1, group) for group in groups]


async def seconds(work: Sequence[Callable[[], Awaitable[object]]], writers: int) -> float:
    """How long `writers` take for all of `work`, each taking the next piece when it is done with one."""
    waiting = iter(work)

    async def writer() -> None:
        for piece in waiting:
            await piece()

    started = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(writers)))
    return time.perf_counter() - started


# ── Ours ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def post(database: Database, batch: Sequence[Journal]) -> None:
    async with database.begin() as tx:
        await tx.ledger.post(batch)


def pieces(
    database: Database, entries: int, batch: int, accounts: int, *, together: bool = False
) -> list[Callable[[], Awaitable[object]]]:
    made = moves(entries, accounts, seed=batch)
    batches = [journals(made[at : at + batch], together=together) for at in range(0, entries, batch)]
    return [lambda each=each: post(database, each) for each in batches]  # type: ignore[misc]


async def ours(database: Database, entries: int) -> float:
    """Prints each way of batching; the best speed at one writer, in entries a second."""
    best = 0.0
    for kind, accounts in ACCOUNTS.items():
        # Accounts are opened once in the life of a ledger, not in every batch.
        await seconds(pieces(database, 2 * accounts, 20_000, accounts), 1)
        for writers in WRITERS:
            speeds = []
            for batch in BATCHES:
                total = max(entries, batch * writers)
                took = await seconds(pieces(database, total, batch, accounts), writers)
                speeds.append(total / took)
            best = max(best, *speeds) if writers == 1 else best
            say(f"ours, {kind}, {writers} writer{'s' if writers > 1 else ''}", speeds)
        speeds = [
            entries / await seconds(pieces(database, entries, batch, accounts, together=True), 1) for batch in BATCHES
        ]
        say(f"ours, {kind}, 1 writer, one journal a batch", speeds)
        best = max(best, *speeds)
    return best


def say(what: str, speeds: Sequence[float]) -> None:
    print(f"{what:46}" + "".join(f"{speed:>12,.0f}" for speed in speeds), flush=True)


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


async def plain_entry(pool: asyncpg.Pool[asyncpg.Record], move: Move) -> None:
    debit, credit, amount = move
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(PLAIN_ENTRY, str(next(_number)), debit, credit, amount)
        # In the order of accounts, or two writers would lock each other out.
        for account in sorted((debit, credit)):
            await connection.execute(PLAIN_BALANCE, account, amount * (account == debit), amount * (account == credit))


async def plain(url: str) -> float:
    """Prints each number of writers; the speed at one writer and spread accounts, in entries a second."""
    speeds: dict[tuple[str, int], float] = {}
    async with asyncpg.create_pool(url, min_size=16, max_size=16) as pool:
        await pool.execute(PLAIN_TABLES)
        for kind, accounts in ACCOUNTS.items():
            for writers in WRITERS:
                made = moves(PLAIN_ENTRIES, accounts, seed=writers)
                work = [lambda move=move: plain_entry(pool, move) for move in made]
                speeds[kind, writers] = PLAIN_ENTRIES / await seconds(work, writers)
    for kind in ACCOUNTS:
        say(f"plain, {kind}, {', '.join(map(str, WRITERS))} writers", [speeds[kind, writers] for writers in WRITERS])
    return max(speeds.values())


# ── Growth, and the seal ────────────────────────────────────────────────────────────────────────────────────────────
async def growth(database: Database, rows: int) -> None:
    """Cost of an entry in a ledger of ten thousand rows, and in the same one `rows` later."""

    async def cost() -> float:
        took = await seconds(pieces(database, 2 * GROWTH_BATCH, GROWTH_BATCH, ACCOUNTS["spread"]), 1)
        return took / (2 * GROWTH_BATCH) * 1e6

    await seconds(pieces(database, FIRST_ROWS, GROWTH_BATCH, ACCOUNTS["spread"]), 1)
    small = [await cost()]
    await seconds(pieces(database, rows, 20_000, ACCOUNTS["spread"]), 1)
    large = [await cost() for _ in range(3)]
    print(
        f"an entry, batches of {GROWTH_BATCH:,}: {min(small):.1f} µs at {FIRST_ROWS:,} rows, "
        f"{min(large):.1f} µs {rows:,} rows later",
        flush=True,
    )


async def seals(database: Database) -> None:
    stage = Seal(database=database, clock=SystemClock())
    started = time.perf_counter()
    while await stage.step():
        pass
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


async def run(entries: int, rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        postgres = await Postgres.start(Path(name) / "postgres.log")
        try:
            print(f"{'entries a second':46}" + "".join(f"{f'batch {batch:,}':>12}" for batch in BATCHES), flush=True)
            database, own = await fresh(postgres.url, "speed")
            best = await ours(database, entries)
            await database.close()
            best_plain = await plain(own)
            print(f"best of ours {best / best_plain:.1f} × the best of the plain way", flush=True)
            database, _ = await fresh(postgres.url, "growth")
            await growth(database, rows)
            await seals(database)
            await database.close()
        finally:
            await postgres.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=40_000, help="for each way of batching")
    parser.add_argument("--rows", type=int, default=300_000, help="by which the ledger grows")
    options = parser.parse_args()
    asyncio.run(run(options.entries, options.rows))
