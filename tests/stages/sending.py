"""A chain in memory and a real database, driven block by block: what the tests of pay, confirm and notify stand on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Self

from bridge.chains.fake.chain import FakeChain
from bridge.chains.fake.payer import FakePayer
from bridge.chains.fake.reader import FakeReader
from bridge.domain.ledger import gas_code
from bridge.domain.payouts import NO_CEILINGS, Ceilings, GasFloor
from bridge.domain.units import Address, AssetId
from bridge.ports.running import Lease
from bridge.stages.confirm import Confirm
from bridge.stages.pay import Pay
from bridge.store.database import Database
from bridge.store.leases import Leases
from bridge.store.summaries import Summary

CHAIN = "fake"
RULE_ADDED = (
    "INSERT INTO rules (chain, rule, version, content_hash, body) VALUES ($1, 'fees', 1, '\\x01', 'name: fees')"
)
TOKEN = AssetId("fake:1/erc20:0x" + "aa" * 20)
COIN = AssetId("fake:1/slip44:60")
GAS_WANTED = 1000
OPERATOR, DISTRIBUTOR, CLAIMS = Address(b"\x03" * 20), Address(b"\x02" * 20), Address(b"\x04" * 20)
FINALITY_DISTANCE = 2
STEPS_MAX = 200


def recipients(count: int) -> list[Address]:
    return [Address(n.to_bytes(20, "big")) for n in range(1, count + 1)]


class SendingWorld:
    """Blocks exist because a test says so; ingest is played by `_save`, finality is two blocks behind the head."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self.database = database
        self.lease = lease
        self.chain = FakeChain(CHAIN, finality_depth=FINALITY_DISTANCE)
        self.chain.state["balance", OPERATOR, COIN] = GAS_WANTED
        self.payer = FakePayer(self.chain, account=OPERATOR, distributor=DISTRIBUTOR, bump_after_blocks=3)
        self.stages = self.start()

    @classmethod
    async def create(cls, database: Database) -> Self:
        lease = await Leases(database).acquire(f"pay:{CHAIN}", "test", 60_000)
        assert lease is not None
        world = cls(database, lease)
        async with database.begin() as transaction:
            await transaction.chains.register(CHAIN, "evm", "fake:1", world.chain.head.hash, 0)
            await transaction.connection.execute(RULE_ADDED, CHAIN)
        await world._save()
        await world.mine(FINALITY_DISTANCE)
        return world

    @property
    def head(self) -> int:
        return self.chain.head.number

    def start(
        self, ceilings: Ceilings = NO_CEILINGS, *, in_flight_max: int = 16, claims_above: int | None = None
    ) -> tuple[Pay, Confirm]:
        """New stages, as after a restart: all that the old ones remembered is gone."""
        reader = FakeReader(self.chain)
        pay = Pay(
            database=self.database,
            chain=reader,
            payer=self.payer,
            lease=self.lease,
            ceilings=ceilings,
            batch_recipients=2,
            claims_above={} if claims_above is None else {TOKEN: claims_above},
            in_flight_max=in_flight_max,
            gas_floor=GasFloor(COIN, GAS_WANTED),
        )
        confirm = Confirm(database=self.database, chain=reader, payer=self.payer, lease=self.lease)
        self.stages = pay, confirm
        return self.stages

    async def decide(
        self,
        amounts: Sequence[int],
        *,
        window: int = 0,
        to: Sequence[Address] | None = None,
        approval: str | None = None,
    ) -> bytes:
        """A decision to pay `amounts` to recipients 0x…01, 0x…02, …; returns its id."""
        decision_id = hashlib.sha256(f"decision {window}".encode()).digest()
        async with self.database.begin() as transaction:
            await transaction.connection.execute(
                """INSERT INTO decisions VALUES
                   ($1, $2, 'fees', 1, $3, $4, $5, 0, $6, 'pay', 'test', $7, $7, 0, 0, '\\x7b7d', now(),
                           DEFAULT, true, $8)""",
                decision_id,
                CHAIN,
                TOKEN,
                window,
                window + 1,
                self.chain.blocks[0].block.hash,
                sum(amounts),
                approval,
            )
            await transaction.connection.copy_records_to_table(
                "allocations",
                columns=["decision_id", "recipient", "amount", "carried_in"],
                records=[
                    (decision_id, recipient, amount, 0)
                    for recipient, amount in zip(to or recipients(len(amounts)), amounts, strict=True)
                ],
            )
        return decision_id

    async def work(self) -> None:
        """Step both stages until neither has anything to do at this head."""
        for _ in range(STEPS_MAX):
            moved = [await stage.step() for stage in self.stages]
            if not any(moved):
                return
        raise AssertionError("the stages never come to rest")

    async def mine(self, blocks: int = 1, *, ingest: bool = True, skip_s: int = 12) -> None:
        """Blocks `skip_s` seconds apart; without `ingest` the database does not hear of them."""
        for _ in range(blocks):
            self.payer.mine(timestamp=self.chain.head.timestamp + skip_s)
            if ingest:
                await self._save()

    async def advance(self, blocks: int = 1) -> None:
        """Mine, and let the stages rest after each block."""
        for _ in range(blocks):
            await self.mine()
            await self.work()

    async def reorg(self, depth: int, *, put_back: bool = False) -> None:
        """Replace the last `depth` blocks by as many of another branch."""
        assert depth <= FINALITY_DISTANCE
        self.payer.reorg(depth, put_back=put_back)
        async with self.database.begin() as transaction:
            await transaction.connection.execute(
                "UPDATE blocks SET status = 'orphaned' WHERE number > $1 AND status = 'canonical'", self.head
            )
        await self.mine(depth)

    async def _save(self) -> None:
        """What ingest would commit for a new head and the finality that follows it."""
        block = self.chain.head
        final = max(block.number - FINALITY_DISTANCE, 0)
        async with self.database.begin() as transaction:
            execute = transaction.connection.execute
            await execute(
                "INSERT INTO blocks VALUES ($1, $2, $3, $4, $5, 'canonical')",
                *(CHAIN, block.number, block.hash, block.parent_hash, block.timestamp),
            )
            for log in self.chain.blocks[-1].logs:
                topics = [*log.topics, None, None, None, None][:4]
                await execute(
                    "INSERT INTO logs VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                    *(CHAIN, block.number, block.hash, log.log_index, log.tx_hash, log.tx_index, log.address),
                    *(*topics, log.data),
                )
            await execute("UPDATE blocks SET status = 'finalized' WHERE number <= $1 AND status = 'canonical'", final)
            await execute("DELETE FROM heads")
            await execute(
                """INSERT INTO heads (chain, head_number, head_hash, head_timestamp, finalized_number, finalized_hash,
                                      finalized_timestamp, node_head)
                   SELECT $1, $2, $3, $4, number, hash, timestamp, $2 FROM blocks
                    WHERE number = $5 AND status = 'finalized'""",
                *(CHAIN, block.number, block.hash, block.timestamp, final),
            )

    async def take_up_nonces(self) -> None:
        """What the reconciler finds of nonces that no slot accounts for, and a person explains."""
        async with self.database.begin() as transaction:
            await transaction.connection.execute(
                """INSERT INTO breaks (kind, chain, level, check_subject, subject, state, evidence, block_number,
                                       block_hash)
                   SELECT 'unexpected_out', $1, 'nonce', $2, $2 || ' nonce ' || n, 'explained', '{}', 0, ''
                     FROM senders, generate_series(first_nonce, $3) AS n
                   ON CONFLICT DO NOTHING""",
                *(CHAIN, gas_code(OPERATOR), self.chain.state.get(("sequence", OPERATOR), 0)),
            )

    async def forget_payouts(self) -> None:
        """As in a backup from before the first payout: the operator is known, and nothing that it sent."""
        async with self.database.begin() as transaction:
            for table in ("confirmations", "attempts", "slots", "actions", "payouts", "distributions", "entitlements"):
                await transaction.connection.execute(f"DELETE FROM {table}")
            await transaction.connection.execute("DELETE FROM unbooked WHERE source = 'attempt'")
            await transaction.connection.execute("UPDATE senders SET next_nonce = first_nonce")
        self.start()

    # ── what came of it ──
    async def summary(self, window: int = 0) -> Summary:
        async with self.database.snapshot() as transaction:
            [found] = [one for one in await transaction.summaries.read() if one.window_start == window]
            return found

    async def states(self, window: int = 0) -> list[str]:
        return [step.state for step in (await self.summary(window)).steps]

    async def reasons(self, window: int = 0) -> list[str | None]:
        return [step.reason for step in (await self.summary(window)).steps]

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        async with self.database.snapshot() as transaction:
            return [tuple(row) for row in await transaction.connection.fetch(query)]

    def assert_paid_once(self, batches: int) -> None:
        paid = self.payer.paid()
        assert len(paid) == batches
        assert set(paid.values()) <= {1}
