"""Backfill speed: our ingest into a real Postgres, beside a naive program and the floor, on one recorded chain.

ours    reader (each range read twice), parse, check, COPY with primary keys, blocks, finality, cursor
naive   web3.py: get_logs, process_log, executemany
floor   raw HTTP fetch of the same logs once, then COPY of ready rows with the primary key: no parsing, no checks
"""

from __future__ import annotations

import argparse
import asyncio
import io
import pickle
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import asyncpg
import orjson
from web3 import AsyncHTTPProvider, AsyncWeb3

from bridge.chains.evm.follow import Finality
from bridge.chains.evm.logs import scan_logs
from bridge.chains.evm.reader import EvmReader
from bridge.chains.evm.rpc import EvmRpc
from bridge.domain.events import LogColumns
from bridge.domain.units import hexed
from bridge.ports.reading import LogFilter
from bridge.simulation.anvil import CHAIN_ID, Anvil
from bridge.simulation.postgres import Postgres
from bridge.stages.ingest import Ingest
from bridge.store.database import Database
from bridge.store.events import encode_copy
from bridge.store.migrations import migrate
from tests.bench.replay import Recording
from tests.chains.world import TOPIC, AnvilWorld

LOGS_PER_BLOCK = 100
NAIVE_LOGS_MAX = 10_000
RANGE_BLOCKS = 100
GENESIS_TIMESTAMP = 1_700_000_000
DEPTH = 4
ABI = [
    {
        "type": "event",
        "name": "Emitted",
        "anonymous": False,
        "inputs": [
            {"name": "id", "type": "uint256", "indexed": True},
            {"name": "value", "type": "uint256", "indexed": False},
        ],
    }
]


async def record(directory: Path, logs: int) -> tuple[Recording, LogFilter]:
    """Fill an Anvil with `logs` logs, LOGS_PER_BLOCK in each block, and note what it says of every block."""
    anvil = await Anvil.start(directory / "anvil.log", genesis_timestamp=GENESIS_TIMESTAMP)
    try:
        world = await AnvilWorld.start(anvil, GENESIS_TIMESTAMP)
        for _ in range(logs // LOGS_PER_BLOCK):
            await world.emit(LOGS_PER_BLOCK)
        await world.mine(*[0] * DEPTH)
        recording = Recording([], [])
        for number in range(await anvil.head() + 1):
            recording.headers.append(orjson.dumps(await anvil.call("eth_getBlockByNumber", hex(number), False)))
            block = hex(number)
            found = await anvil.call("eth_getLogs", {"fromBlock": block, "toBlock": block, "topics": [hexed(TOPIC)]})
            recording.logs.append(orjson.dumps(found)[1:-1])
        await world.rpc.close()
        return recording, world.filters[0]
    finally:
        await anvil.stop()


async def ours(postgres: str, url: str, watched: LogFilter, last: int) -> float:
    database = await Database.open(postgres)
    await migrate(database)
    rpc = EvmRpc([url])
    reader = EvmReader("bench", rpc, chain_id=CHAIN_ID, finality=Finality(depth=DEPTH))
    async with database.begin() as transaction:
        await transaction.chains.register("bench", "evm", reader.reference, await reader.genesis_hash(), 0)
    ingest = Ingest(database=database, chain=reader, lease=None, filters=[watched])
    took = await seconds_until_final(database, ingest, last)
    await rpc.close()
    await database.close()
    return took


async def seconds_until_final(database: Database, ingest: Ingest, last: int) -> float:
    """Steps until block (or slot) `last` of the chain `bench` is stored as final."""
    started, final = time.perf_counter(), -1
    while final < last:
        await ingest.step()
        async with database.begin() as transaction:
            block = await transaction.events.finalized("bench")
            final = block.number if block is not None else -1
    return time.perf_counter() - started


async def naive(postgres: str, url: str, watched: LogFilter, last: int) -> float:
    connection = await asyncpg.connect(postgres)
    await connection.execute("CREATE TABLE decoded (block BIGINT, index INTEGER, id NUMERIC, value NUMERIC,"
                             " PRIMARY KEY (block, index))")  # fmt: skip
    started = time.perf_counter()
    web3 = AsyncWeb3(AsyncHTTPProvider(url))
    event = web3.eth.contract(address=web3.to_checksum_address(watched.addresses[0]), abi=ABI).events.Emitted()
    for first in range(0, last + 1, RANGE_BLOCKS):
        found = await web3.eth.get_logs({"fromBlock": first, "toBlock": min(last, first + RANGE_BLOCKS - 1)})
        decoded = [event.process_log(log) for log in found]
        rows = [(log["blockNumber"], log["logIndex"], log["args"]["id"], log["args"]["value"]) for log in decoded]
        await connection.executemany("INSERT INTO decoded VALUES ($1, $2, $3, $4)", rows)
    took = time.perf_counter() - started
    await web3.provider.disconnect()
    await connection.close()
    return took


async def floor(postgres: str, url: str, last: int) -> float:
    connection = await asyncpg.connect(postgres)
    await connection.execute("CREATE TABLE ready (chain TEXT, block_number BIGINT, block_hash BYTEA, log_index INTEGER,"
                             " tx_hash BYTEA, tx_index INTEGER, address BYTEA, topic0 BYTEA, topic1 BYTEA,"
                             " topic2 BYTEA, topic3 BYTEA, data BYTEA,"
                             " PRIMARY KEY (chain, block_number, block_hash, log_index))")  # fmt: skip
    async with aiohttp.ClientSession() as session:

        async def fetch(first: int) -> bytes:
            window = {"fromBlock": hex(first), "toBlock": hex(min(last, first + RANGE_BLOCKS - 1))}
            request = {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [window]}
            async with session.post(url, data=orjson.dumps(request)) as response:
                return await response.read()

        started = time.perf_counter()
        bodies = [await fetch(first) for first in range(0, last + 1, RANGE_BLOCKS)]
        took = time.perf_counter() - started
    ready = [encode_copy("bench", _columns(body)) for body in bodies]
    started = time.perf_counter()
    for rows in ready:
        await connection.copy_to_table("ready", source=io.BytesIO(rows), format="binary")
    took += time.perf_counter() - started
    await connection.close()
    return took


async def run(logs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        directory = Path(name)
        print(f"filling and recording a chain of {logs:,} logs, {LOGS_PER_BLOCK} a block …", flush=True)
        recording, watched = await record(directory, logs)
        (directory / "recording").write_bytes(pickle.dumps(recording))
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.replay", str(directory / "recording")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert server.stdout is not None
        assert server.stdin is not None
        url = f"http://127.0.0.1:{int(await server.stdout.readline())}"
        postgres = await Postgres.start(directory / "postgres.log")
        try:
            last = len(recording.headers) - 1 - DEPTH
            least = await floor(postgres.url, url, last)
            mine = await ours(postgres.url, url, watched, last)
            naive_logs = min(logs, NAIVE_LOGS_MAX)
            plain = await naive(postgres.url, url, watched, naive_logs // LOGS_PER_BLOCK + 1)
        finally:
            await postgres.stop()
            server.stdin.close()
            await server.wait()
    speed = {"floor": logs / least, "ours": logs / mine, "naive": naive_logs / plain}
    for way, logs_per_s in speed.items():
        print(f"{way:6} {logs_per_s:>10,.0f} logs/s   {logs_per_s / speed['naive']:6.1f} × naive   "
              f"{logs_per_s / speed['floor']:5.2f} × floor")  # fmt: skip


def _columns(body: bytes) -> LogColumns:
    columns = scan_logs(body)
    assert columns is not None
    return columns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=60_000)
    asyncio.run(run(parser.parse_args().logs))
