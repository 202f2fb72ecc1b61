"""Backfill speed on Solana: our listener into a real Postgres, beside a naive program and the floor, on a local chain.

ours    reader (every range read twice, signatures checked, balances linked), COPY with keys, finality, cursor
naive   solana-py: a page of signatures, then one transaction after the other; balances from the answer; nothing stored
floor   the same transactions once, over raw HTTP, many at once; neither parsed nor checked

The node is a process of its own and takes most of the time: it is Python, and answers each call alone.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import solders.system_program as system
from solana.rpc.async_api import AsyncClient
from solana.rpc.models import TxOpts
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from spl.token import instructions as token_instructions
from spl.token import models

from bridge.chains.solana.logs import TRANSFER
from bridge.chains.solana.reader import SolanaReader
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.tokens import Names, Token
from bridge.domain.units import Address, from_base58
from bridge.ports.reading import LogFilter
from bridge.simulation.postgres import Postgres
from bridge.simulation.svm.node import NodeProcess
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import SOL, derive_key
from bridge.simulation.svm.tokens import MINT_SIZE, TOKEN_PROGRAM
from bridge.stages.ingest import Ingest
from bridge.store.database import Database
from bridge.store.migrations import migrate
from tests.bench.ingest import seconds_until_final

SETTINGS = Settings(timer=False, confirmed_depth=0, finalized_depth=0, genesis_time=1_700_000_000)
PER_BLOCK = 50
CALLS_AT_ONCE = 16
NAIVE_MAX = 2_000


class Filler:
    """Makes a chain with transfers into a vault."""

    def __init__(self, node: NodeProcess, client: AsyncClient) -> None:
        self._node, self._client = node, client
        self.director, self.vault, self.payer = (derive_key(0, name) for name in ("director", "vault", "payer"))
        self.mint = derive_key(0, "mint")

    def account_of(self, owner: Keypair) -> Pubkey:
        return token_instructions.get_associated_token_address(owner.pubkey(), self.mint.pubkey(), TOKEN_PROGRAM)

    async def set_up(self) -> None:
        director, mint = self.director.pubkey(), self.mint.pubkey()
        for wallet in (director, self.payer.pubkey()):
            await self._client.request_airdrop(wallet, 1_000 * SOL)
        await self._node.order({"do": "advance", "slots": 1})
        rent = (await self._client.get_minimum_balance_for_rent_exemption(MINT_SIZE)).value
        begin = models.InitializeMint2Params(
            program_id=TOKEN_PROGRAM, mint=mint, decimals=6, mint_authority=director, freeze_authority=None
        )
        await self._send([_create(director, mint, rent), token_instructions.initialize_mint2(begin)],
                         self.director, self.mint)  # fmt: skip
        await self._node.order({"do": "advance", "slots": 1})
        opening = [
            token_instructions.create_idempotent_associated_token_account(director, owner.pubkey(), mint, TOKEN_PROGRAM)
            for owner in (self.vault, self.payer)
        ]
        printing = models.MintToParams(
            program_id=TOKEN_PROGRAM,
            mint=mint,
            dest=self.account_of(self.payer),
            mint_authority=director,
            amount=10**15,
        )
        await self._send([*opening, token_instructions.mint_to(printing)], self.director)
        await self._node.order({"do": "advance", "slots": 1})

    async def fill(self, transactions: int) -> None:
        for start in range(0, transactions, PER_BLOCK):
            blockhash = (await self._client.get_latest_blockhash()).value.blockhash
            for number in range(start, min(transactions, start + PER_BLOCK)):
                await self._send([self._pay(1 + number)], self.payer, blockhash=blockhash)
            await self._node.order({"do": "advance", "slots": 1})

    def _pay(self, atoms: int) -> Instruction:
        return token_instructions.transfer_checked(
            models.TransferCheckedParams(
                program_id=TOKEN_PROGRAM, source=self.account_of(self.payer), mint=self.mint.pubkey(),
                dest=self.account_of(self.vault), owner=self.payer.pubkey(), amount=atoms, decimals=6,
            )
        )  # fmt: skip

    async def _send(self, instructions: list[Instruction], *signers: Keypair, blockhash: Hash | None = None) -> None:
        if blockhash is None:
            blockhash = (await self._client.get_latest_blockhash()).value.blockhash
        message = MessageV0.try_compile(signers[0].pubkey(), instructions, [], blockhash)
        await self._client.send_raw_transaction(
            bytes(VersionedTransaction(message, list(signers))), opts=TxOpts(skip_preflight=True)
        )


def _create(payer: Pubkey, account: Pubkey, lamports: int) -> Instruction:
    make = system.CreateAccountParams(
        from_pubkey=payer, to_pubkey=account, lamports=lamports, space=MINT_SIZE, owner=TOKEN_PROGRAM
    )
    return system.create_account(make)


async def ours(postgres: str, url: str, filler: Filler, genesis: bytes, head: int) -> float:
    database = await Database.open(postgres)
    await migrate(database)
    rpc = SolanaRpc([url], timeout_ms=60_000)
    mint = Address(bytes(filler.mint.pubkey()))
    vault = Address(bytes(filler.vault.pubkey()))
    names = Names({"vault": vault}, Address(bytes(filler.director.pubkey())), {"USDX": Token(mint, 6)})
    reader = SolanaReader("bench", rpc, names, genesis_hash=genesis)
    async with database.begin() as transaction:
        await transaction.chains.register("bench", "solana", reader.reference, genesis, SETTINGS.first_slot)
    watched = [LogFilter((mint,), ((TRANSFER,), None, (vault,)))]
    ingest = Ingest(database=database, chain=reader, lease=None, filters=watched)
    took = await seconds_until_final(database, ingest, head)
    await rpc.close()
    await database.close()
    return took


async def naive(client: AsyncClient, filler: Filler, most: int) -> tuple[float, int]:
    started, read = time.perf_counter(), 0
    before: Signature | None = None
    account = filler.account_of(filler.vault)
    while read < most:
        page = (await client.get_signatures_for_address(account, before=before, limit=min(1000, most - read))).value
        if not page:
            break
        for entry in page:
            found = await client.get_transaction(entry.signature, max_supported_transaction_version=0)
            assert found.value is not None
            read += 1
        before = page[-1].signature
    return time.perf_counter() - started, read


async def floor(url: str, filler: Filler, transactions: int) -> float:
    turns = asyncio.Semaphore(CALLS_AT_ONCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CALLS_AT_ONCE)) as session:

        async def call(method: str, *params: Any) -> bytes:
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
            async with turns, session.post(url, data=orjson.dumps(request)) as response:
                return await response.read()

        started = time.perf_counter()
        signatures: list[str] = []
        options: dict[str, Any] = {"limit": 1000}
        while len(signatures) < transactions:
            page = orjson.loads(await call("getSignaturesForAddress", str(filler.account_of(filler.vault)), options))
            signatures += [entry["signature"] for entry in page["result"]]
            options = options | {"before": signatures[-1]}
        wanted = {"encoding": "base64", "maxSupportedTransactionVersion": 0}
        await asyncio.gather(*(call("getTransaction", signature, wanted) for signature in signatures[:transactions]))
        return time.perf_counter() - started


async def run(transactions: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        directory = Path(name)
        node = await NodeProcess.start(directory / "node.log", SETTINGS)
        postgres = await Postgres.start(directory / "postgres.log")
        try:
            async with AsyncClient(node.rpc_url, http2=False) as client:
                print(f"filling a chain with {transactions:,} transactions, {PER_BLOCK} a block …", flush=True)
                filler = Filler(node, client)
                await filler.set_up()
                await filler.fill(transactions)
                head = (await client.get_slot()).value
                genesis = from_base58(str((await client.get_genesis_hash()).value))
                least = await floor(node.rpc_url, filler, transactions)
                mine = await ours(postgres.url, node.rpc_url, filler, genesis, head)
                plain, read = await naive(client, filler, min(transactions, NAIVE_MAX))
        finally:
            await postgres.stop()
            await node.stop()
    speed = {"floor": transactions / least, "ours": transactions / mine, "naive": read / plain}
    for way, per_s in speed.items():
        print(f"{way:6} {per_s:>8,.0f} transactions/s   {per_s / speed['naive']:5.1f} × naive   "
              f"{per_s / speed['floor']:5.2f} × floor")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=5_000)
    asyncio.run(run(parser.parse_args().transactions))
