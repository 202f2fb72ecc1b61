"""A chain in a few lines and the rows that ingest, decide and pay would write: what the tests of the books stand on.

The chain keeps its own balances, changed only by what a test says happened on it, never by the code under test.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.domain.artifacts import canonical
from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block, ChainCursor, ChainEvent, Log, Value, pack_logs
from bridge.domain.ledger import Asset, Watched
from bridge.domain.payouts import Leg
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.reading import LogFilter
from bridge.ports.running import Lease
from bridge.stages.post import OF_CLAIMS, OF_DISTRIBUTOR, OF_VAULT, TRANSFER, Post
from bridge.store.database import Database
from bridge.store.leases import Leases
from tests.stages.decoders import OneByOne

CHAIN = "anvil"
TOKEN, VAULT, DISTRIBUTOR, OPERATOR = (Address(bytes([n]) * 20) for n in (0x70, 0xAA, 0xDD, 0x0E))
ALICE, BOB, PAYER, THIEF = (Address(bytes([n]) * 20) for n in (0xA1, 0xB0, 0xFE, 0x66))
USDX = AssetId("eip155:31337/erc20:0x" + TOKEN.hex())
ETH = AssetId("eip155:31337/slip44:60")
VAULT_CODE, DISTRIBUTOR_CODE = f"vault:0x{VAULT.hex()}", f"distributor:0x{DISTRIBUTOR.hex()}"
OPERATOR_CODE = f"operator:gas:0x{OPERATOR.hex()}"
WATCHED = Watched(
    chain=CHAIN,
    vault=VAULT,
    distributor=DISTRIBUTOR,
    operator=OPERATOR,
    tokens=(Asset(USDX, CHAIN, TOKEN, "USDX", 6),),
    native=Asset(ETH, CHAIN, None, "ETH", 18),
)
CLAIMS = Address(b"\xcc" * 20)
CLAIMS_CODE = f"claims:0x{CLAIMS.hex()}"
WITH_CLAIMS = dataclasses.replace(WATCHED, claims=CLAIMS)
T0 = 1_790_000_000
FEE_PAID, (BATCH_EXECUTED, CREDITED, WITHDRAWN, SKIPPED) = OF_VAULT[0], OF_DISTRIBUTOR
ACTIVATED, CLAIMED = OF_CLAIMS
DISTRIBUTION = hashlib.sha256(b"distribution").digest()


Emitted = tuple[Address, str, Mapping[str, Value]]
"""A log before it has a place: emitter, declaration, fields."""


class Declaration(OneByOne):
    """A decoder for events whose fields are one word each; topic 0 is a hash of the declaration, not keccak."""

    def __init__(self, declaration: str) -> None:
        self.name = declaration.partition("(")[0]
        self.topic0 = hashlib.sha256(declaration.encode()).digest()
        parts = [part.split() for part in re.findall(r"[^(),]+", declaration)[1:]]
        self.fields: Mapping[str, str] = {part[-1]: part[0] for part in parts}
        self._indexed = [part[-1] for part in parts if "indexed" in part]
        self._plain = [part[-1] for part in parts if "indexed" not in part]

    def encode(self, values: Mapping[str, Value]) -> tuple[tuple[bytes, ...], bytes]:
        words = {name: _word(value) for name, value in values.items()}
        topics = (self.topic0, *(words[name] for name in self._indexed))
        return topics, b"".join(words[name] for name in self._plain)

    def decode(self, log: Log) -> Mapping[str, Value]:
        words = [*log.topics[1:], *(log.data[at : at + 32] for at in range(0, len(log.data), 32))]
        names = [*self._indexed, *self._plain]
        if len(words) != len(names):
            raise ValueError("not of this shape")
        return {name: _value(self.fields[name], word) for name, word in zip(names, words, strict=True)}


def _word(value: Value) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(32)
    assert isinstance(value, bytes)
    return value.rjust(32, b"\0")


def _value(kind: str, word: bytes) -> Value:
    if kind == "address":
        return word[12:]
    return word if kind == "bytes32" else int.from_bytes(word)


def block_hash(number: int, branch: str = "") -> bytes:
    return hashlib.sha256(f"block {number} {branch}".encode()).digest()


@dataclass
class Chain:
    """Blocks 0 … tip, all final; holdings as they are after the tip. Implements ports.ChainReader."""

    database: Database
    name: str = CHAIN
    reference: str = "eip155:31337"
    start_block: int = 0
    tip: int = -1
    held: dict[tuple[bytes, AssetId], int] = field(default_factory=lambda: defaultdict(int))
    nonce: int = 0
    lies: dict[int, bytes] = field(default_factory=dict)  # headers the node now tells otherwise: number → hash
    owed: dict[tuple[bytes, bytes], int] = field(
        default_factory=lambda: defaultdict(int)
    )  # (token, account), by DISTRIBUTOR
    history: list[tuple[dict[tuple[bytes, AssetId], int], int]] = field(default_factory=list)
    owed_then: list[dict[tuple[bytes, bytes], int]] = field(default_factory=list)
    claimed_so_far: dict[tuple[bytes, bytes], int] = field(default_factory=lambda: defaultdict(int))  # (token, account)
    claimed_then: list[dict[tuple[bytes, bytes], int]] = field(default_factory=list)
    calls: int = 0
    claims_asked: list[bytes] = field(default_factory=list)

    # ── What happens on it ─────────────────────────────────────────────────────────────────────────────────────────
    async def mine(self, *events: Emitted, gas: int = 0) -> BlockStamp:
        """One more finalized block with `events` as its logs, ingested. Transfers move holdings; `gas` is burnt."""
        self.tip += 1
        number = self.tip
        for emitter, declaration, values in events:
            if declaration == TRANSFER:
                self.move(emitter, values)
            if declaration in (CREDITED, WITHDRAWN):
                self._owe(values, -1 if declaration == WITHDRAWN else 1)
            if declaration == CLAIMED:
                self._claim(values)
        self.held[OPERATOR, ETH] -= gas
        self.nonce += bool(gas)
        self.history.append((dict(self.held), self.nonce))
        self.owed_then.append(dict(self.owed))
        self.claimed_then.append(dict(self.claimed_so_far))
        if number >= self.start_block:
            await self._ingest(number, events)
        return self.stamp(number)

    def move(self, token: Address, values: Mapping[str, Value]) -> None:
        asset, amount = AssetId(f"eip155:31337/erc20:0x{token.hex()}"), values["value"]
        source, target = values["from"], values["to"]
        assert isinstance(amount, int)
        assert isinstance(source, bytes)
        assert isinstance(target, bytes)
        self.held[source, asset] -= amount
        self.held[target, asset] += amount

    def _owe(self, values: Mapping[str, Value], sign: int) -> None:
        token, account, amount = values["token"], values.get("to", values.get("account")), values["amount"]
        assert isinstance(token, bytes)
        assert isinstance(account, bytes)
        assert isinstance(amount, int)
        self.owed[token, account] += sign * amount

    def _claim(self, values: Mapping[str, Value]) -> None:
        token, account, amount = values["token"], values["account"], values["amount"]
        assert isinstance(token, bytes)
        assert isinstance(account, bytes)
        assert isinstance(amount, int)
        self.claimed_so_far[token, account] += amount

    def stamp(self, number: int) -> BlockStamp:
        return BlockStamp(CHAIN, number, block_hash(number))

    async def _ingest(self, number: int, events: Sequence[Emitted]) -> None:
        found, before, tx_hash = block_hash(number), block_hash(number - 1), block_hash(number, "tx")
        words = [Declaration(declaration).encode(values) for _, declaration, values in events]
        stamp = self.stamp(number)
        logs = [
            Log(stamp, index, tx_hash, 0, events[index][0], topics, data, T0 + number)
            for index, (topics, data) in enumerate(words)
        ]
        async with self.database.begin() as tx:
            sql = tx.connection
            await sql.execute(
                "INSERT INTO blocks (chain, number, hash, parent_hash, timestamp, status) "
                "VALUES ($1, $2, $3, $4, $5, 'finalized')",
                *(CHAIN, number, found, before, T0 + number),
            )
            await sql.execute(
                "INSERT INTO finalized_ranges VALUES ($1, $2, $2, $3, $4, $5, 'node', 'node')",
                *(CHAIN, number, found, len(events), pack_logs(logs).digest()),
            )
            for index, (topics, data) in enumerate(words):
                emitter = events[index][0]
                four = [*topics, None, None, None][:4]
                await sql.execute(
                    "INSERT INTO logs VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, $9, $10, $11)",
                    *(CHAIN, number, found, index, tx_hash, emitter, *four, data),
                )

    # ── ports.ChainReader ──────────────────────────────────────────────────────────────────────────────────────────
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
        return self._at(at)[0].get((account, asset), 0)

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[int | bytes],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        assert (contract, signature) == (DISTRIBUTOR, "owed(address,address)")
        token, account = arguments
        assert isinstance(token, bytes)
        assert isinstance(account, bytes)
        self._at(at)
        self.calls += 1
        return (self.owed_then[at.number].get((token, account), 0),)

    async def claimed(self, wanted: Sequence[tuple[Address, Address]], at: BlockStamp) -> list[int]:
        """Implements ports.ClaimedAmounts."""
        self._at(at)
        self.claims_asked += [account for _, account in wanted]
        return [self.claimed_then[at.number].get(key, 0) for key in wanted]

    async def sequence(self, account: Address, at: BlockStamp) -> int:
        return self._at(at)[1]

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        return [self._block(number) for number in numbers]

    def _block(self, number: int) -> Block:
        return Block(number, self.lies.get(number, block_hash(number)), block_hash(number - 1), T0 + number)

    def _at(self, at: BlockStamp) -> tuple[dict[tuple[bytes, AssetId], int], int]:
        if at.hash != self.lies.get(at.number, block_hash(at.number)):
            raise ChainDisagrees(f"{at} is unknown")
        return self.history[at.number]


# ── What happens ────────────────────────────────────────────────────────────────────────────────────────────────────
def transfer(source: Address, target: Address, value: int) -> Emitted:
    return TOKEN, TRANSFER, {"from": source, "to": target, "value": value}


def fee(amount: int) -> list[Emitted]:
    paid: Mapping[str, Value] = {"token": TOKEN, "payer": PAYER, "amount": amount}
    return [transfer(PAYER, VAULT, amount), (VAULT, FEE_PAID, paid)]


def batch(
    paid: Mapping[Address, int], credited: Mapping[Address, int], distribution: bytes = DISTRIBUTION, index: int = 0
) -> list[Emitted]:
    """The logs of one executed batch."""
    total_paid, total_credited = sum(paid.values()), sum(credited.values())
    logs = [transfer(VAULT, DISTRIBUTOR, total_paid + total_credited)]
    logs += [transfer(DISTRIBUTOR, recipient, amount) for recipient, amount in paid.items()]
    for recipient, amount in credited.items():
        fields: Mapping[str, Value] = {
            "id": distribution,
            "token": TOKEN,
            "to": recipient,
            "index": index,
            "amount": amount,
        }
        logs.append((DISTRIBUTOR, CREDITED, fields))
    fields = {"id": distribution, "index": index, "token": TOKEN, "paid": total_paid, "credited": total_credited}
    return [*logs, (DISTRIBUTOR, BATCH_EXECUTED, fields)]


def activation(total: int, distribution: bytes = DISTRIBUTION) -> list[Emitted]:
    """The logs of a tree that may be claimed from now on."""
    fields: Mapping[str, Value] = {
        "id": distribution,
        "token": TOKEN,
        "root": bytes(32),
        "total": total,
        "cumulativeTotal": total,
        "claimableAt": T0,
    }
    return [(CLAIMS, ACTIVATED, fields), transfer(VAULT, CLAIMS, total)]


def claim(account: Address, amount: int, *, to: Address | None = None) -> list[Emitted]:
    recipient = to or account
    fields: Mapping[str, Value] = {
        "token": TOKEN,
        "account": account,
        "recipient": recipient,
        "amount": amount,
        "cumulative": amount,
    }
    return [(CLAIMS, CLAIMED, fields), transfer(CLAIMS, recipient, amount)]


# ── Rows of decide and pay ──────────────────────────────────────────────────────────────────────────────────────────
async def decide(chain: Chain, at: int, amounts: Mapping[Address, int], *, carried_out: int = 0) -> None:
    """A decision whose rows say what its artifact says. What is carried has no recipient yet."""
    total, body = sum(amounts.values()), "fees"
    rule_hash = hashlib.sha256(body.encode()).digest()
    left = {"pool": str(carried_out)} if carried_out else {}
    artifact = canonical({
        "rule": {"name": "fee_window", "version": 1, "sha256": rule_hash.hex()},
        "asset": USDX,
        "window": {"start": T0, "end": T0 + at + 1},
        "blocks": {"first": 0, "last": at, "hash": f"0x{block_hash(at).hex()}", "timestamp": T0 + at},
        "verdict": "pay",
        "surplus": {"found": str(total)},
        "total": str(total),
        "carried_in": {"total": "0", "by": {}},
        "carried_out": {"total": str(carried_out), "by": left},
        "allocations": [
            {"recipient": f"0x{recipient.hex()}", "amount": str(amount), "carried_in": "0"}
            for recipient, amount in amounts.items()
        ],
    })  # fmt: skip
    decision_id = hashlib.sha256(artifact).digest()
    async with chain.database.begin() as tx:
        sql = tx.connection
        await sql.execute(
            "INSERT INTO rules (chain, rule, version, content_hash, body) VALUES ($1, 'fee_window', 1, $2, $3) "
            "ON CONFLICT DO NOTHING",
            *(CHAIN, rule_hash, body),
        )
        await sql.execute(
            "INSERT INTO decisions (decision_id, chain, rule, version, asset, window_start, window_end, block_number, "
            "block_hash, verdict, reason, surplus, total, carried_in, carried_out, artifact) "
            "VALUES ($1, $2, 'fee_window', 1, $3, $4, $5, $6, $7, 'pay', '', $8, $8, 0, $9, $10)",
            *(decision_id, CHAIN, USDX, T0, T0 + at + 1, at, block_hash(at), total, carried_out, artifact),
        )
        for recipient, amount in amounts.items():
            await sql.execute("INSERT INTO allocations VALUES ($1, $2, $3, 0)", decision_id, recipient, amount)
        if carried_out:
            await sql.execute("INSERT INTO carries VALUES ($1, 'fee_window', $2, '', $3)", CHAIN, USDX, carried_out)


async def plan(chain: Chain, amounts: Mapping[Address, int], leg: Leg = Leg.PUSH) -> int:
    """One distribution with one batch; returns the id of the action that executes it."""
    async with chain.database.begin() as tx:
        sql = tx.connection
        await sql.execute(
            "INSERT INTO distributions (distribution_id, decision_id, chain, rule, asset, total, recipients, batches, "
            "content_hash, leg) SELECT $1, decision_id, $2, 'fee_window', $3, $4, $5, 1, '', $6 FROM decisions",
            *(DISTRIBUTION, CHAIN, USDX, sum(amounts.values()), len(amounts), leg),
        )
        for recipient, amount in amounts.items():
            await sql.execute("INSERT INTO payouts VALUES ($1, $2, 0, $3)", DISTRIBUTION, recipient, amount)
        action_id: int = await sql.fetchval(
            "INSERT INTO actions (distribution_id, ordinal, kind, chain, payload, target) "
            "VALUES ($1, 1, 'execute', $2, '', $3) RETURNING action_id",
            *(DISTRIBUTION, CHAIN, CLAIMS if leg is Leg.CLAIM else DISTRIBUTOR),
        )
        return action_id


async def land(chain: Chain, action_id: int, at: int, *, gas: int, nonce: int = 0, final: bool = True) -> None:
    """The action's transaction is in block `at`, and the confirm stage knows, unless it is not `final` yet."""
    async with chain.database.begin() as tx:
        sql = tx.connection
        await sql.execute(
            "INSERT INTO senders VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING", CHAIN, OPERATOR, nonce + 1
        )
        slot_id = await sql.fetchval(
            "INSERT INTO slots (chain, account, nonce, action_id, state, gas_limit, reserved_at) "
            "VALUES ($1, $2, $3, $4, $5, 0, 0) RETURNING slot_id",
            *(CHAIN, OPERATOR, nonce, action_id, "settled" if final else "live"),
        )
        await sql.execute(
            "INSERT INTO attempts (slot_id, ordinal, chain, tx_id, raw, gas_limit, max_fee, priority_fee, signed_head, "
            "sent_at, block_number, block_hash, succeeded, gas_used, fee_paid, final) "
            "VALUES ($1, 0, $2, $3, '', 0, 0, 0, 0, now(), $4, $5, TRUE, 0, $6, $7)",
            *(slot_id, CHAIN, block_hash(at, f"sent {nonce}"), at, block_hash(at), gas, final),
        )
        if final:
            await advance(chain, action_id, "reserved", "signed", "broadcast", "included", "final")


async def advance(chain: Chain, action_id: int, *states: str) -> None:
    async with chain.database.begin() as tx:
        for state in states:
            await tx.connection.execute(
                "UPDATE actions SET state = $2, reason = 'test' WHERE action_id = $1", action_id, state
            )


# ── The bookkeeper ──────────────────────────────────────────────────────────────────────────────────────────────────
async def start(database: Database, *, start_block: int = 0, held: Mapping[tuple[Address, AssetId], int] = {}) -> Chain:
    """A registered chain with the blocks before `start_block` and that one; `held` was there before all of them."""
    chain = Chain(database, start_block=start_block)
    chain.held.update({(bytes(address), asset): amount for (address, asset), amount in held.items()})
    async with database.begin() as tx:
        await tx.chains.register(CHAIN, "evm", chain.reference, block_hash(0), start_block)
    while chain.tip < start_block:
        await chain.mine()
    return chain


async def lease_for(database: Database, stage: str) -> Lease:
    lease = await Leases(database).acquire(f"{stage}:{CHAIN}", "test", 600_000)
    assert lease is not None
    return lease


async def bookkeeper(chain: Chain, watched: Watched = WATCHED, **options: int) -> Post:
    return Post(
        database=chain.database,
        chain=chain,
        watched=watched,
        start_block=chain.start_block,
        lease=await lease_for(chain.database, "post"),
        **options,
    )


async def run(post: Post) -> None:
    """Step until idle, then once more, for idle must stay idle."""
    for _ in range(100):
        if not await post.step():
            assert not await post.step()
            return
    raise AssertionError("post never becomes idle")


async def posted(database: Database, through: int = 10**9) -> dict[tuple[str, str], int]:
    """Debits minus credits of every account that is not empty, by code and symbol."""
    symbols = {USDX: "USDX", ETH: "ETH"}
    async with database.snapshot() as tx:
        balances = await tx.ledger.balances(CHAIN, through)
    return {(b.code, symbols[b.asset]): b.posted for b in balances if b.posted}


async def pending(database: Database) -> int:
    async with database.snapshot() as tx:
        return sum(balance.debits_pending for balance in await tx.ledger.balances(CHAIN, 10**9))
