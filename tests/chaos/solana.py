"""The world of a Solana vault: forks, bytes that expire, endpoints that forget, accounts that freeze and thaw.

Everything between the stages and the wire is the real adapter; everything behind the wire is the local chain, whose
slots pass as the run's clock does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import asyncpg

from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.payer import SolanaPayer
from bridge.chains.solana.reader import SolanaReader
from bridge.chains.solana.signer import KeystoreSigner
from bridge.chains.solana.tokens import Names
from bridge.chains.solana.tokens import Token as Mint
from bridge.domain.ledger import Asset, Watched
from bridge.domain.rules import Token
from bridge.domain.units import Address, AssetId
from bridge.simulation.svm.chain import Fate
from tests.chains.svm_scene import address_of, key_of
from tests.chaos.cluster import ALLOWANCE, CHAIN, DECIMALS, MINT, OPERATOR, POOL, VAULT, Cluster
from tests.chaos.daemon import Shared, Side
from tests.chaos.endpoints import Wire
from tests.chaos.loop import SeededLoop
from tests.chaos.people import People
from tests.chaos.process import Process
from tests.chaos.savers import SolanaPeople
from tests.chaos.trouble import Fault, Trouble
from tests.chaos.verdict import judge
from tests.chaos.world import Figures, World

SLOTS = (1, 2, 8, 24, 64)
"""That pass in a round while there is trouble: sometimes many happen in one slot, sometimes bytes expire between."""
HEALING_SLOTS = 20
LEASE_MS, POLL_MS = 6_000, 3_000
"""Longer than on a chain whose every block is a round: here the rounds are longer."""
DEEP = 31
CEILING = 1_000_000
SHORT_ALLOWANCE = 1
REPLACED = "SELECT count(*) - count(DISTINCT slot_id) FROM attempts"
PERIOD = (2, 12)
"""Rounds that a lag, a gap or a freeze lasts."""
TABLES_CHANCE = 0.25
"""Of a run in which lookup tables let a batch pay more people than fit without."""
GROWTH_CHANCE = 0.1
"""In each round, that a table gets one of the people more."""
JAM = (4, 20)
"""Rounds without room: what is sent meanwhile expires before the longest is over."""


class SolanaWorld(World):
    """A vault whose delegate is the operator, a pool that people put tokens into, and one to three endpoints."""

    accounts = (OPERATOR,)

    def __init__(
        self, loop: SeededLoop, connection: asyncpg.Connection[Any], trouble: Trouble, *, seed: int, instances: int
    ) -> None:
        chance = trouble.chance
        # Chosen apart, so that runs without tables stay what they were.
        tables = random.Random(f"room {seed}")
        self._has_tables = tables.random() < TABLES_CHANCE
        few, many = chance.randint(2, 6), tables.randint(9, 14)
        self.cluster = Cluster(
            chance,
            seed=seed,
            endpoints=chance.choice([1, 2, 3, 3]),
            people=many if self._has_tables else few,
            newcomer=chance.random() < 0.3,
            tables=(address_of("table"),) if self._has_tables else (),
        )
        self._create_accounts = chance.random() < 0.5 or self._has_tables
        self._replaced = 0  # attempts that other bytes took the place of
        self._until: list[tuple[int, Callable[[], None]]] = []  # rounds in which something ends
        shared = Shared(loop, self._connect, connection, self._notify)
        shared.lease_ms, shared.poll_ms = LEASE_MS, POLL_MS
        shared.batch_recipients = chance.choice([1, 2, 3, 20])
        if self._has_tables:
            shared.batch_recipients = 20
            for person in self.cluster.people:
                self.cluster.deposit(person, tables.randint(1, 10**9))
        self._begin(shared, trouble, instances=instances)

    def _connect(self, process: Process, account: Address) -> Side:
        cluster = self.cluster
        wire = Wire(cluster, process)
        contracts, genesis = {"vault": VAULT, "pool": POOL}, bytes(cluster.chain.genesis_hash)
        names = Names(contracts, account, {"USDX": Mint(MINT, DECIMALS)})
        tokens = (Asset(cluster.asset, CHAIN, MINT, "USDX", DECIMALS),)
        native = Asset(AssetId(f"{cluster.reference}/slip44:501"), CHAIN, None, "SOL", 9)
        return Side(
            kind="solana",
            start_block=cluster.start_slot,
            reader=SolanaReader(CHAIN, wire, names, genesis_hash=genesis, poll_interval_ms=POLL_MS),
            payer=self.make_payer(wire),
            watched=Watched(CHAIN, VAULT, VAULT, account, tokens, native),
            contracts=contracts,
            token=Token(cluster.asset, MINT),
        )

    def make_payer(self, wire: Wire) -> SolanaPayer:
        return SolanaPayer(
            chain=CHAIN,
            reference=self.cluster.reference,
            genesis=bytes(self.cluster.chain.genesis_hash),
            rpc=wire,
            signer=KeystoreSigner(key_of("operator")),
            vault=VAULT,
            ceilings=FeeCeilings(CEILING),
            create_accounts=self._create_accounts,
            ours=[VAULT, POOL],
            lookup_tables=self.cluster.tables,
        )

    def _call_people(self) -> People:
        payer = self._person.payer
        assert isinstance(payer, SolanaPayer)
        return SolanaPeople(self.cluster, payer, self._person.database, self._trouble)

    @property
    def _now(self) -> int:
        return self.cluster.chain.head.time

    @property
    def figures(self) -> Figures:
        return Figures(self.cluster.chain.head.height, len(self.cluster.paid()), 0, self._replaced)

    async def judged(self) -> list[str]:
        database = self._person.database
        async with database.snapshot() as transaction:
            self._replaced = await transaction.connection.fetchval(REPLACED)
        return await judge(database, self._person.reconciler(), self.cluster, self._shared.told, self._trouble.counts)

    # ── the chain ──
    def _disturb(self) -> None:
        due = [end for at, end in self._until if at <= self._rounds]
        self._until = [one for one in self._until if one[0] > self._rounds]
        for end in due:
            end()
        chance, strikes, cluster = self._chance, self._trouble.strikes, self.cluster
        if strikes(Fault.REORG):
            fate = chance.choice(list(Fate))
            depth = cluster.fork(chance.choice([1, 2, 3, 6, DEEP]), fate)
            self._loop.note(f"fork {depth} {fate}")
        faults = chance.choice(cluster.views).faults
        if strikes(Fault.LAG):
            faults.lag_blocks = chance.choice([1, 5, 40])
            self._later(lambda: setattr(faults, "lag_blocks", 0))
        if strikes(Fault.FORGETFUL):
            faults.forgotten_before_slot = cluster.chain.head.slot
            self._later(lambda: setattr(faults, "forgotten_before_slot", 0))
        if strikes(Fault.CONGESTION):
            cluster.congested = True
            self._later(lambda: setattr(cluster, "congested", False), JAM)
        if strikes(Fault.LATE):
            cluster.late_slots = chance.choice([2, 20, 100])
            self._later(lambda: setattr(cluster, "late_slots", 0))
        if strikes(Fault.ACCOUNT_FROZEN):
            person = chance.choice(cluster.people)
            cluster.frozen.add(person)
            self._later(lambda: cluster.frozen.discard(person))
        if strikes(Fault.ALLOWANCE):
            cluster.allowance = SHORT_ALLOWANCE
            self._later(lambda: setattr(cluster, "allowance", ALLOWANCE))
        if strikes(Fault.RESTART) and self._running:
            self._restart(chance.choice(sorted(self._running)))

    def _later(self, end: Callable[[], None], period: tuple[int, int] = PERIOD) -> None:
        self._until.append((self._rounds + self._chance.randint(*period), end))

    def _mend(self) -> None:
        self._until.clear()
        self.cluster.mend()

    def _mine(self) -> None:
        cluster, chance = self.cluster, self._chance
        if self._has_tables and cluster.listed < len(cluster.people) and chance.random() < GROWTH_CHANCE:
            cluster.listed += 1
        cluster.keep_house()
        if self._busy:
            self._traffic()
        cluster.advance(chance.choice(SLOTS) if self._trouble.active else HEALING_SLOTS)
        self._loop.note(f"slot {cluster.chain.head.slot}, final {cluster.final.slot}")

    def _traffic(self) -> None:
        cluster, chance = self.cluster, self._chance
        if chance.random() < 0.5:
            cluster.pay_fee(chance.randint(1, 10**9))
        if chance.random() < 0.5:
            person = chance.choice(cluster.people)
            staked = cluster.staked(person)
            if staked and chance.random() < 0.3:
                cluster.withdraw(person, staked)
            else:
                cluster.deposit(person, chance.randint(1, 10**9))
