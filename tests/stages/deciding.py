"""The decide stage on a real database, over a scripted chain that holds its blocks and logs in memory."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from bridge.domain.calls import Argument
from bridge.domain.declarations import parse_declaration
from bridge.domain.events import Block, ChainCursor, Log, TimedLogs, Value, pack_logs
from bridge.domain.plans import Plan
from bridge.domain.rules import Token
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.database import Database as DatabasePort
from bridge.ports.reading import ChainReader, EventDecoder
from bridge.ports.running import Lease
from bridge.runtime.rulefile import parse_rule
from bridge.stages.binding import BoundRule, bind_rules
from bridge.stages.decide import Decide
from bridge.store.database import Database, Transaction
from bridge.store.leases import Leases
from tests.stages.decoders import OneByOne

VAULT, POOL, BOOK, TOKEN = (Address(bytes([n]) * 20) for n in (0xAA, 0xBB, 0xCC, 0xDD))
ALICE, BOB = (Address(bytes([n]) * 20) for n in (0xA1, 0xB0))
CONTRACTS = {"vault": VAULT, "pool": POOL, "obligations": BOOK}
TOKENS = {
    "USDX": Token(AssetId("eip155:31337/erc20:0xdd"), TOKEN),
    "USDY": Token(AssetId("eip155:31337/erc20:0xde"), BOB),
}

FEES = """
rule: fees
version: 1
description: fees of 100 s by deposits
asset: USDX
window: {every: 100 s}
events:
  fee:
    contract: vault
    event: "FeePaid(address token, address payer, uint256 amount)"
    where: token == asset
    units: {amount: amount<USDX>}
  deposit:
    {contract: pool, event: "Deposited(address account, uint256 amount)", units: {amount: amount<USDX>}}
  withdrawal:
    {contract: pool, event: "Withdrawn(address account, uint256 amount)", units: {amount: amount<USDX>}}
inputs:
  fees: {sum: fee.amount}
  stake: {time_weighted: {add: deposit.amount, subtract: withdrawal.amount, by: account}}
surplus: fees
carry: surplus
split: {pro_rata: stake}
"""

BUFFER = """
rule: reserve
version: 1
description: what the vault holds above its floor
asset: USDX
window: {every: 100 s}
events:
  release:
    contract: vault
    event: "Released(address token, uint256 amount)"
    where: token == asset
    units: {amount: amount<USDX>}
inputs:
  assets: {balance: vault}
  liabilities: {read: {contract: obligations, function: total, returns: amount<USDX>}}
  committed: {committed: release.amount}
parameters: {floor: 10 amount<USDX>}
surplus: assets - liabilities - committed - floor
carry: none
split: {equal: [0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1]}
"""


SKIM = """
rule: skim
version: 1
description: what the book says above its best
asset: USDX
window: {every: 100 s}
inputs:
  rate: {read: {contract: obligations, function: total, returns: amount<USDX>}}
  best: {high_water: rate}
surplus: rate - best
carry: surplus
split: {equal: [0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1]}
"""


@dataclasses.dataclass
class Decoder(OneByOne):
    """Declarations become topics by sha256, fields travel as JSON: no chain's encoding is needed here."""

    name: str
    topic0: bytes
    fields: Mapping[str, str]

    def decode(self, log: Log) -> Mapping[str, Value]:
        fields = json.loads(log.data)
        if set(fields) != set(self.fields):
            raise ValueError("other fields")
        return {
            name: bytes.fromhex(value) if self.fields[name] == "address" else int(value)
            for name, value in fields.items()
        }


class ScriptedChain:
    """Blocks ten seconds apart from second 1000; everything up to `final` is finalized."""

    name = "test"
    reference = "eip155:31337"

    def __init__(self, *, start: int = 0, stored_every: int = 1) -> None:
        self.start = start
        self.stored_every = stored_every  # a backfill stores some blocks only
        self.final = -1
        self.entries: list[Log] = []
        self.held = 0
        self.liabilities: int | None = 0  # None: the contract does not answer
        self.second_of: dict[int, int] = {}  # of blocks that are not ten seconds after the one before
        self.reads: list[tuple[str, BlockStamp]] = []

    def at(self, number: int) -> Block:
        second = self.second_of.get(number, 1000 + 10 * number)
        return Block(number, hashlib.sha256(b"%d" % number).digest(), b"", second)

    def emit(self, number: int, address: Address, declaration: str, **fields: bytes | int) -> None:
        block = self.at(number)
        data = {key: each.hex() if isinstance(each, bytes) else str(each) for key, each in fields.items()}
        index = sum(log.block.number == number for log in self.entries)
        stamp = BlockStamp(self.name, number, block.hash)
        topics = (hashlib.sha256(declaration.encode()).digest(),)
        log = Log(stamp, index, bytes(32), 0, address, topics, json.dumps(data).encode(), block.timestamp)
        self.entries.append(log)
        self.entries.sort(key=lambda each: (each.block.number, each.log_index))

    def fee(self, number: int, amount: int, token: Address = TOKEN, emitter: Address = VAULT) -> None:
        self.emit(
            number,
            emitter,
            "FeePaid(address token, address payer, uint256 amount)",
            token=token,
            payer=ALICE,
            amount=amount,
        )

    def deposit(self, number: int, account: Address, amount: int) -> None:
        self.emit(number, POOL, "Deposited(address account, uint256 amount)", account=account, amount=amount)

    def withdraw(self, number: int, account: Address, amount: int) -> None:
        self.emit(number, POOL, "Withdrawn(address account, uint256 amount)", account=account, amount=amount)

    # ChainReader, as far as the stage uses it
    def decoder(self, declaration: str) -> EventDecoder:
        shape = parse_declaration(declaration)
        return Decoder(shape.name, hashlib.sha256(declaration.encode()).digest(), shape.fields)

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        assert (account, asset, at.hash) == (VAULT, TOKENS["USDX"].asset, self.at(at.number).hash)
        self.reads.append(("balance", at))
        return self.held

    async def read_call(
        self, contract: Address, signature: str, arguments: Sequence[Argument], at: BlockStamp
    ) -> tuple[int, ...] | None:
        assert (contract, signature, arguments, at.hash) == (BOOK, "total()", [], self.at(at.number).hash)
        self.reads.append(("total", at))
        return None if self.liabilities is None else (self.liabilities,)

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        return [self.at(number) for number in numbers]

    # EventStore, likewise
    async def cursor(self, chain: str) -> ChainCursor:
        return ChainCursor(self.start, self.final, ())

    async def finalized(self, chain: str) -> Block | None:
        return self.at(self.final) if self.final >= self.start else None

    async def finalized_before(self, chain: str, timestamp: int) -> Block | None:
        stored = [self.at(number) for number in range(self.start, self.final + 1) if number % self.stored_every == 0]
        return max((block for block in stored if block.timestamp < timestamp), key=lambda b: b.number, default=None)

    async def block(self, chain: str, number: int) -> Block | None:
        return self.at(number) if number % self.stored_every == 0 and self.start <= number <= self.final else None

    async def logs(
        self,
        chain: str,
        first: int,
        last: int,
        *,
        addresses: Sequence[Address] = (),
        topic0s: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> list[Log]:
        assert last <= self.final
        found: list[Log] = []
        for log in self.entries:
            if limit is not None and len(found) >= limit and log.block != found[-1].block:
                break
            watched = not addresses or log.address in addresses
            if first <= log.block.number <= last and watched and log.topics[0] in topic0s:
                found.append(log)
        return found

    async def log_columns(self, chain: str, first: int, last: int, **asked: Any) -> TimedLogs:
        found = await self.logs(chain, first, last, **asked)
        return TimedLogs(pack_logs(found), [log.timestamp for log in found])


class Scripted:
    """The database, whose event store is the scripted chain."""

    def __init__(self, database: Database, chain: ScriptedChain) -> None:
        self._database = database
        self._chain = chain

    @contextlib.asynccontextmanager
    async def begin(self, lease: Lease | None = None) -> AsyncIterator[Transaction]:
        async with self._database.begin(lease) as transaction:
            transaction.__dict__["events"] = self._chain
            yield transaction

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        async with self._database.snapshot() as transaction:
            transaction.__dict__["events"] = self._chain
            yield transaction


class World:
    def __init__(self, database: Database, chain: ScriptedChain, lease: Lease) -> None:
        self.database = database
        self.chain = chain
        self.lease = lease
        self.port = cast("DatabasePort", Scripted(database, chain))

    @classmethod
    async def create(cls, database: Database) -> "World":
        async with database.begin() as transaction:
            await transaction.chains.register("test", "evm", "eip155:31337", bytes(32), 0)
        lease = await Leases(database).acquire("decide:test", "a test", 60_000)
        assert lease is not None
        return cls(database, ScriptedChain(), lease)

    def bound(
        self, *texts: str, from_blocks: Sequence[int] = (), contracts: Mapping[str, Address] | None = None
    ) -> tuple[BoundRule, ...]:
        plans: list[Plan] = [parse_rule(text, name="rule.yaml") for text in texts]
        chain = cast("ChainReader", self.chain)
        named = {**CONTRACTS, **(contracts or {})}
        return bind_rules(plans, chain=chain, contracts=named, tokens=TOKENS, from_blocks=from_blocks)

    def stage(
        self,
        *texts: str,
        logs_max: int = 1000,
        from_blocks: Sequence[int] = (),
        contracts: Mapping[str, Address] | None = None,
    ) -> Decide:
        return Decide(
            database=self.port,
            chain=cast("ChainReader", self.chain),
            rules=self.bound(*texts, from_blocks=from_blocks, contracts=contracts),
            lease=self.lease,
            logs_max=logs_max,
        )

    async def run(self, stage: Decide, steps_max: int = 200) -> int:
        for steps in range(steps_max):
            if not await stage.step():
                return steps
        raise AssertionError("the stage does not come to rest")

    async def forget(self) -> None:
        """As if nothing had been decided yet."""
        async with self.database.begin() as transaction:
            await transaction.connection.execute(
                "TRUNCATE decisions, allocations, carries, accumulators, sources, cursors CASCADE"
            )

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        async with self.database.snapshot() as transaction:
            return [dict(row) for row in await transaction.connection.fetch(statement)]

    async def decisions(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM decisions ORDER BY window_end, rule")

    async def allocations(self) -> list[tuple[int, bytes, int]]:
        rows = await self.rows(
            "SELECT window_start, recipient, amount FROM allocations JOIN decisions USING (decision_id)"
            " ORDER BY window_end, rule, recipient"
        )
        return [tuple(row.values()) for row in rows]
