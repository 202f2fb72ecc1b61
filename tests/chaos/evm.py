"""The world of a chain with contracts, gas and nonces: what goes wrong with them, block by block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import asyncpg

from bridge.chains.fake.gate import Gate
from bridge.domain.rules import Token
from bridge.domain.units import Address
from tests.chaos.daemon import Shared, Side
from tests.chaos.judge import judge
from tests.chaos.loop import SeededLoop
from tests.chaos.network import ACCOUNTS, CHAIN_SECONDS, FINALITY_DEPTH, POOL, Network, Traffic
from tests.chaos.nodes import Payer, Reader
from tests.chaos.people import EvmPeople, People
from tests.chaos.process import Process
from tests.chaos.trouble import GATE, Fault, Trouble
from tests.chaos.world import Figures, World
from tests.stages.books import CLAIMS, DISTRIBUTOR, TOKEN, USDX, VAULT, WATCHED

USUAL_FEE = 10
DEAR_BLOCKS = (4, 10)


class EvmWorld(World):
    """A chain with contracts, gas and nonces."""

    accounts = ACCOUNTS

    def __init__(
        self, loop: SeededLoop, connection: asyncpg.Connection[Any], trouble: Trouble, *, seed: int, instances: int
    ) -> None:
        self.network = Network.start()
        self.network.l1_fee = seed % 2 * 777_777  # every other chain is a rollup
        shared = Shared(loop, self._connect, connection, self._notify)
        shared.claims_above = trouble.chance.choice([None, 1, 2])
        self.network.claims = None if shared.claims_above is None else CLAIMS
        self._traffic = Traffic(self.network, trouble.chance)
        self._dear_blocks = 0  # how many the fee spike still lasts
        self._begin(shared, trouble, instances=instances)
        if trouble.kinds & GATE:
            self.network.gate = Gate(
                auto_limit=trouble.chance.choice([0, 0, 10**12]),
                delay_s=trouble.chance.choice([0, 2]) * CHAIN_SECONDS,
                lifetime_s=(3 if Fault.APPROVAL_EXPIRED in trouble.kinds else 1000) * CHAIN_SECONDS,
            )

    def _connect(self, process: Process, account: Address) -> Side:
        return Side(
            kind="evm",
            start_block=0,
            reader=Reader(self.network, process),
            payer=Payer(self.network, process, account),
            watched=replace(WATCHED, operator=account, claims=self.network.claims),
            contracts={"vault": VAULT, "distributor": DISTRIBUTOR, "claims": CLAIMS, "pool": POOL},
            token=Token(USDX, TOKEN),
        )

    def _call_people(self) -> People:
        return EvmPeople(self.network, self._person.database, self._trouble)

    @property
    def _now(self) -> int:
        return self.network.chain.head.timestamp

    def _mend(self) -> None:
        self.network.faults.reverts = False
        self.network.base_fee = USUAL_FEE

    async def judged(self) -> list[str]:
        return await judge(
            self._person.database,
            self._person.reconciler(),
            self.network,
            self._shared.told,
            self._trouble.counts,
        )

    # ── the chain ──
    def _disturb(self) -> None:
        chain, strikes = self.network.chain, self._trouble.strikes
        if strikes(Fault.REORG):
            depth = self._chance.randint(1, min(FINALITY_DEPTH, chain.head.number - chain.finalized) or 1)
            if depth <= chain.head.number - chain.finalized:
                self._loop.note(f"reorg {depth}")
                self.network.reorg(depth, put_back=self._chance.random() < 0.5)
                for _ in range(depth - 1):
                    self._mine()
        self._change_fees()
        self.network.faults.reverts = strikes(Fault.REVERT)
        if strikes(Fault.RESTART) and self._running:
            self._restart(self._chance.choice(sorted(self._running)))

    def _change_fees(self) -> None:
        """Fees rise over what was offered and stay there for some blocks: what was sent waits, and is replaced."""
        self._dear_blocks = max(0, self._dear_blocks - 1)
        if self._dear_blocks == 0:
            self.network.base_fee = USUAL_FEE
            if self.network.pool and self._trouble.strikes(Fault.FEE_SPIKE):
                self.network.base_fee = self._chance.choice([30, 90, 400, 5000])  # the last one is over our ceiling
                self._dear_blocks = self._chance.randint(*DEAR_BLOCKS)
        replaced = self.network.replaced()
        if replaced is not None and self._trouble.strikes(Fault.OLD_ATTEMPT):
            self.network.base_fee, self._dear_blocks = USUAL_FEE, 0
            self.network.bring_back(replaced)
            self._loop.note(f"a replaced attempt is mined: {replaced.tx_id.hex()[:8]}")

    def _mine(self) -> None:
        emits = self._traffic.block() if self._busy else []
        block = self.network.mine(*emits, timestamp=self.network.chain.head.timestamp + CHAIN_SECONDS)
        self._loop.note(f"block {block.number} {block.hash.hex()[:8]}")

    @property
    def figures(self) -> Figures:
        network = self.network
        return Figures(network.chain.head.number, len(network.paid()), network.trees, network.bumps)
