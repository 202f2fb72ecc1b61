"""Random money, random faults, restarts anywhere: the logs of a model that knows who paid whom, each of them once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from solders.instruction import Instruction
from solders.keypair import Keypair
from spl.token import instructions as token_instructions
from spl.token import models

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana.events import compile_event
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.tokens import Token
from bridge.domain.errors import RetryableError
from bridge.domain.events import TimedLogs, unpack_logs
from bridge.domain.units import Address
from bridge.ports.reading import LogFilter
from bridge.simulation.svm import stage
from bridge.simulation.svm.faults import Fault, Faults, Kind
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.tokens import TOKEN_2022_PROGRAM
from tests.chains.consumer import Consumer
from tests.chains.solana_world import SolanaWorld, address_of, memo

NOBODY = bytes(32)
PLANS = [
    compile_event(declaration)
    for declaration in (
        "Transfer(address indexed from, address indexed to, uint256 value)",
        "FeePaid(address indexed token, address indexed payer, uint256 amount)",
        "Deposited(address indexed account, uint256 amount)",
        "Withdrawn(address indexed account, uint256 amount)",
    )
]
NAMES = {plan.topic0: plan for plan in PLANS}
Told = tuple[object, ...]


class FlakyRpc(SolanaRpc):
    """Endpoints that forget one listed transaction now and then, or give a transaction without its tokens."""

    def __init__(self, urls: list[str], chance: random.Random) -> None:
        super().__init__(urls, timeout_ms=2_000)
        self.chance = chance
        self.liar: str | None = None  # one at a time: two that lie alike are believed

    async def call_on(self, endpoint: Endpoint, method: str, params: Any = ()) -> Any:
        return self._told(endpoint, method, await super().call_on(endpoint, method, params))

    async def batch_on(self, endpoint: Endpoint, calls: Any) -> list[Any]:
        answers = await super().batch_on(endpoint, calls)
        return [self._told(endpoint, method, answer) for (method, _), answer in zip(calls, answers, strict=True)]

    def _told(self, endpoint: Endpoint, method: str, answer: Any) -> Any:
        if endpoint.name != self.liar or self.chance.random() < 0.5:
            return answer
        if method == "getSignaturesForAddress" and answer:
            forgotten = self.chance.randrange(len(answer))
            return answer[:forgotten] + answer[forgotten + 1 :]
        if method == "getTransaction" and answer:
            return answer | {"meta": answer["meta"] | {"preTokenBalances": []}}
        return answer


@dataclass
class Model:
    """What the logs must be, by transaction; made from what was sent, not from balances."""

    world: SolanaWorld
    vault: bytes
    pool: bytes
    exact: dict[bytes, list[Told]] = field(default_factory=dict)  # by signature
    nets: dict[bytes, Counter[tuple[bytes, bytes]]] = field(default_factory=dict)  # of (holder, mint), where it is more

    def expect(
        self, signature: bytes, mint: bytes, payer: bytes, payee: bytes, atoms: int, *, fee: bool, lost: int = 0
    ) -> None:
        told: list[Told] = []
        for to, amount in ((payee, atoms - lost), (NOBODY, lost)):
            ours = {self.vault, self.pool} & {payer, to}
            if amount == 0 or not ours or payer == to:
                continue
            told.append(("Transfer", mint, payer, to, amount))
            if payer == self.pool:
                told.append(("Withdrawn", self.pool, to, amount))
            if to == self.pool:
                told.append(("Deposited", self.pool, payer, amount))
            if to == self.vault and fee:
                told.append(("FeePaid", self.vault, mint, payer, amount))
        self.exact[signature] = told


class Play:
    def __init__(self, world: SolanaWorld, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        scene = world.scene
        self.feex = scene.create_token("FEEX", 6, TOKEN_2022_PROGRAM, transfer_fee_bps=100)
        self.holders = [world.vault, world.pool, *world.people[:3]]
        for holder in self.holders:
            scene.mint(world.token, holder.pubkey(), 1_000)
            scene.mint(self.feex, holder.pubkey(), 100_000)
        world.names = replace(
            world.names,
            tokens={**world.names.tokens, "FEEX": Token(Address(bytes(self.feex.mint)), 6)},
        )
        self.model = Model(world, bytes(world.vault.pubkey()), bytes(world.pool.pubkey()))
        world.first = world.node.chain.next_slot

    def act(self) -> None:
        kind = self.chance.choice(["pay", "pay", "pay", "pay", "withheld", "mint", "burn", "many", "fail", "idle"])
        world, chance, model = self.world, self.chance, self.model
        payer, payee = chance.sample(self.holders, 2)
        mint, atoms = bytes(world.token.mint), chance.randrange(1, 50)
        who, whom = bytes(payer.pubkey()), bytes(payee.pubkey())
        fee = chance.random() < 0.5
        note = [memo("fee")] if fee else []
        if kind == "pay":
            signature = world.send([world.pay(payer, payee, atoms), *note], payer)
            model.expect(signature, mint, who, whom, atoms, fee=fee)
        elif kind == "withheld":
            paid = stage.transfer_checked(self.feex, payer.pubkey(), payee.pubkey(), atoms)
            signature = world.send([paid, *note], payer)
            lost = -(-atoms // 100)  # 1 %, rounded up
            model.expect(signature, bytes(self.feex.mint), who, whom, atoms, fee=fee, lost=lost)
        elif kind == "mint":
            signature = world.send([world.print_money(payee, atoms), *note], world.scene.director)
            model.expect(signature, mint, NOBODY, whom, atoms, fee=fee)
        elif kind == "burn":
            signature = world.send([self.burn(payer, atoms)], payer)
            model.expect(signature, mint, who, NOBODY, atoms, fee=False)
        elif kind == "many":
            self.pay_many(note)
        elif kind == "fail":
            signature = world.send([world.pay(payer, payee, 10**15), *note], payer)
            model.expect(signature, mint, who, whom, 0, fee=fee)

    def pay_many(self, note: list[Instruction]) -> None:
        world = self.world
        net: Counter[tuple[bytes, bytes]] = Counter()
        pays, signers = [], [world.people[0]]
        for _ in range(self.chance.randrange(2, 5)):
            payer, payee = self.chance.sample(self.holders, 2)
            atoms = self.chance.randrange(1, 9)
            pays.append(world.pay(payer, payee, atoms))
            net[bytes(payer.pubkey()), bytes(world.token.mint)] -= atoms
            net[bytes(payee.pubkey()), bytes(world.token.mint)] += atoms
            signers += [payer] if payer not in signers else []
        self.model.nets[world.send([*pays, *note], *signers)] = net

    def burn(self, owner: Keypair, atoms: int) -> Instruction:
        token = self.world.token
        account = token.account_of(owner.pubkey())
        return token_instructions.burn(
            models.BurnParams(
                program_id=token.program, account=account, mint=token.mint, owner=owner.pubkey(), amount=atoms
            )
        )

    def disturb(self, rpc: FlakyRpc) -> None:
        """At most one node lies at a time, and any number is unwell."""
        chance = self.chance
        rpc.liar = chance.choice([None, *(endpoint.name for endpoint in rpc.endpoints)])
        for node in self.world.nodes:
            node.faults.clear()
            node.faults.strict_cursors = chance.random() < 0.5
            if chance.random() < 0.6:
                self.make_unwell(node.faults)

    def make_unwell(self, faults: Faults) -> None:
        match self.chance.randrange(6):
            case 0:
                faults.lag_blocks = self.chance.randrange(1, 6)
            case 1:
                faults.unwritten_blocks = self.chance.randrange(1, 4)
            case 2:
                faults.forgotten_before_slot = self.world.node.chain.head.slot - self.chance.randrange(4)
            case 3:
                faults.no_history = True
            case _:
                kind = self.chance.choice([Kind.ERROR, Kind.RATE_LIMIT, Kind.CLOSE, Kind.LOSE_ANSWER, Kind.GARBAGE])
                faults.requests.append(Fault(kind, remaining=self.chance.randrange(1, 30), per_mille=300))


async def follow_for_a_while(consumer: Consumer, world: SolanaWorld, chance: random.Random) -> None:
    """Some events, then everything in memory is forgotten, wherever it was."""
    events = chance.randrange(1, 6)
    with contextlib.suppress(RetryableError, TimeoutError):
        async with asyncio.timeout(0.3), contextlib.aclosing(
            world.read_by(world.rpc).follow(consumer.cursor(), world.filters)
        ) as news:  # fmt: skip
            for _ in range(events):
                consumer.apply(await anext(news))


def told_by(consumer: Consumer) -> dict[bytes, list[Told]]:
    found: defaultdict[bytes, list[Told]] = defaultdict(list)
    for log in unpack_logs("solana", TimedLogs(consumer.logs, [0] * consumer.logs.count)):
        plan = NAMES[log.topics[0]]
        found[log.tx_hash].append((plan.name, log.address, *plan.decode(log).values()))
    return found


async def play(seed: int) -> None:
    chance = random.Random(seed)
    settings = Settings(
        seed=seed % 1000, timer=False, confirmed_depth=0, finalized_depth=0, genesis_time=1_700_000_000,
        skipped_per_mille=chance.choice([0, 300]),
    )  # fmt: skip
    async with SolanaWorld.start(settings, nodes=chance.choice([2, 3])) as world:
        scene = Play(world, chance)
        world.rpc = rpc = FlakyRpc([node.rpc_url for node in world.nodes], chance)
        mints = tuple(token.mint for token in world.names.tokens.values())
        world.filters = [LogFilter((address_of(world.vault), address_of(world.pool), *mints))]
        consumer = Consumer(world.first)
        for _ in range(8):
            for _ in range(chance.randrange(1, 4)):
                for _ in range(chance.randrange(4)):
                    scene.act()
                world.node.chain.advance_blocks()
            scene.disturb(rpc)
            await follow_for_a_while(consumer, world, chance)
        rpc.liar = None
        for node in world.nodes:
            node.faults.clear()
        for endpoint in rpc.endpoints:
            endpoint.cool_until_ms = endpoint.doubted_until_ms = 0
        world.reader = world.read_by(rpc)
        await consumer.listen(world, until_final=world.node.chain.head.slot)
        await rpc.close()
        compare(consumer, scene.model)


def compare(consumer: Consumer, model: Model) -> None:
    told = told_by(consumer)
    landed = [record for block in model.world.node.chain.blocks for record in block.records]
    order = []
    for record in landed:
        signature = bytes(record.wire.transaction.signatures[0])
        if signature in model.exact:
            expected = model.exact[signature] if record.err is None else []
            assert told.pop(signature, []) == expected
            order += [signature] if expected else []
        elif signature in model.nets:
            net = Counter(model.nets[signature]) if record.err is None else Counter()
            found = told.pop(signature, [])
            order += [signature] if found else []
            for name, mint, payer, payee, atoms in (each for each in found if each[0] == "Transfer"):
                assert name == "Transfer"
                net[payer, mint] += atoms  # type: ignore[index, operator]
                net[payee, mint] -= atoms  # type: ignore[index, operator]
            assert not net[model.vault, bytes(model.world.token.mint)]
            assert not net[model.pool, bytes(model.world.token.mint)]
    assert told == {}
    hashes = [consumer.logs.tx_hashes[at : at + 64] for at in range(0, len(consumer.logs.tx_hashes), 64)]
    assert list(dict.fromkeys(hashes)) == order


async def test_follow__random_money_faults_and_restarts__every_log_once():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    await play(seed)
