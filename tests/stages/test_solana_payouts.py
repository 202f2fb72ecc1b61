"""Pay and confirm on Solana: the real stages, a real database, the real reader and payer, a local chain.

What no chain with nonces has: bytes that expire, recipients that are left out, numbers in the place of nonces.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from bridge.chains.solana.payer import SolanaPayer
from bridge.chains.solana.reader import SolanaReader
from bridge.chains.solana.tokens import Names, Token
from bridge.domain.confirmations import Spent
from bridge.domain.errors import RetryableError
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Action, ActionKind, Attempt, Payout, Purpose, Refusal, Signed, Slot
from bridge.domain.units import format_tx
from bridge.ports.reading import LogFilter
from bridge.ports.running import Lease, Stage
from bridge.simulation.svm.chain import Commitment, Fate
from bridge.simulation.svm.faults import Fault, Kind
from bridge.simulation.svm.transactions import parse
from bridge.stages.confirm import Confirm
from bridge.stages.guard import Verdict
from bridge.stages.ingest import Ingest
from bridge.stages.pay import Pay
from bridge.store.database import Database
from bridge.store.leases import Leases
from bridge.store.summaries import Summary
from tests.chains.svm_scene import CHAIN, FINALIZED_DEPTH, SvmScene, address_of, payouts_of, svm_scene
from tests.stages.sending import RULE_ADDED

STEPS_MAX = 200
EVENTS_MAX = 20
TRIES_MAX = 10
LIFE_BLOCKS = 151


class SolanaWorld:
    """Blocks exist because a test says so; everything else is what a daemon runs."""

    def __init__(self, scene: SvmScene, database: Database, lease: Lease) -> None:
        self.scene = scene
        self.database = database
        self.lease = lease
        self.start()

    @classmethod
    async def create(cls, scene: SvmScene, database: Database) -> SolanaWorld:
        lease = await Leases(database).acquire(f"pay:{CHAIN}", "test", 60_000)
        assert lease is not None
        world = cls(scene, database, lease)
        head = await scene.head()
        async with database.begin() as transaction:
            genesis = bytes(scene.node.chain.genesis_hash)
            await transaction.chains.register(CHAIN, "solana", scene.reference, genesis, head.number)
            await transaction.connection.execute(RULE_ADDED, CHAIN)
        await world.advance()
        return world

    def start(self) -> None:
        """New stages on a new payer, as after a restart: all that the old ones remembered is gone."""
        scene = self.scene
        vault, operator = address_of(scene.vault), address_of(scene.operator)
        names = Names({"vault": vault}, operator, {"USD": Token(scene.coin.mint, scene.coin.decimals)})
        genesis = bytes(scene.node.chain.genesis_hash)
        reader = SolanaReader(CHAIN, scene.rpc, names, genesis_hash=genesis, poll_interval_ms=10)
        payer = scene.make_payer()
        self.ingest = Ingest(
            database=self.database, chain=reader, lease=self.lease, filters=[LogFilter((vault, scene.coin.mint))]
        )
        self.pay = Pay(database=self.database, chain=reader, payer=payer, lease=self.lease, batch_recipients=4)
        self.confirm = Confirm(database=self.database, chain=reader, payer=payer, lease=self.lease)

    async def advance(self, blocks: int = 1) -> None:
        """So many blocks; everything rests after what has become final by then."""
        self.scene.node.chain.advance_blocks(blocks)
        head = await self.scene.head()
        for _ in range(EVENTS_MAX):
            async with self.database.snapshot() as transaction:
                final = await transaction.events.finalized(CHAIN)
            if final is not None and final.number >= head.number:
                break
            await self.attempt(self.ingest)
        else:
            raise AssertionError("ingest never reaches the finalized block")
        for _ in range(STEPS_MAX):
            if not any([await self.attempt(self.pay), await self.attempt(self.confirm)]):
                return
        raise AssertionError("the stages never come to rest")

    async def attempt(self, stage: Stage) -> bool:
        """A step; one that an endpoint spoils is made again, as the daemon does."""
        for _ in range(TRIES_MAX):
            with contextlib.suppress(RetryableError):
                return await stage.step()
        raise AssertionError(f"{stage.name} never gets through")

    async def settle(self, turns: int = 6) -> None:
        """Until what can land has landed."""
        for _ in range(turns):
            await self.advance(1 + FINALIZED_DEPTH)

    async def decide(self, payouts: Sequence[Payout]) -> None:
        decision_id = hashlib.sha256(b"decision").digest()
        head = await self.scene.head()
        async with self.database.begin() as transaction:
            await transaction.connection.execute(
                """INSERT INTO decisions VALUES
                   ($1, $2, 'fees', 1, $3, 0, 1, $4, $5, 'pay', 'test', $6, $6, 0, 0, '\\x7b7d', now(),
                           DEFAULT, true)""",
                decision_id,
                CHAIN,
                self.scene.asset,
                head.number,
                head.hash,
                sum(payout.amount for payout in payouts),
            )
            await transaction.connection.copy_records_to_table(
                "allocations",
                columns=["decision_id", "recipient", "amount", "carried_in"],
                records=[(decision_id, payout.recipient, payout.amount, 0) for payout in payouts],
            )

    async def forget_payouts(self) -> None:
        """As in a backup from before the first payout: the operator is known, and nothing that it sent."""
        async with self.database.begin() as transaction:
            for table in ("confirmations", "attempts", "slots", "actions", "payouts", "distributions", "entitlements"):
                await transaction.connection.execute(f"DELETE FROM {table}")
            await transaction.connection.execute("DELETE FROM unbooked WHERE source = 'attempt'")
            await transaction.connection.execute("UPDATE senders SET next_nonce = first_nonce")
        self.start()

    async def order(self, kind: InterventionKind, ordinal: int) -> None:
        async with self.database.begin() as transaction:
            [step] = [step for step in (await self.summary()).steps if step.ordinal == ordinal]
            action = await transaction.payouts.action(step.action_id)
            assert await transaction.interventions.order(action, kind, "thawed", "test") is None

    async def summary(self) -> Summary:
        async with self.database.snapshot() as transaction:
            [found] = await transaction.summaries.read()
            return found

    async def states(self) -> list[str]:
        return [step.state for step in (await self.summary()).steps]

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        async with self.database.snapshot() as transaction:
            return [tuple(row) for row in await transaction.connection.fetch(query)]

    def balances(self, payouts: Sequence[Payout]) -> list[int]:
        return [self.scene.balance(payout.recipient) for payout in payouts]


@pytest.fixture
async def world(database: Database) -> AsyncIterator[SolanaWorld]:
    async with svm_scene() as scene:
        yield await SolanaWorld.create(scene, database)


def people(count: int) -> tuple[Payout, ...]:
    return payouts_of(*(f"person {number}" for number in range(count)))


def allow(world: SolanaWorld, atoms: int) -> None:
    """So much may the operator move of what the vault has."""
    vault = address_of("vault")
    world.scene.hold(vault, world.scene.balance(vault), delegate=(address_of("operator"), atoms))


def amounts(payouts: Sequence[Payout]) -> list[int]:
    return [payout.amount for payout in payouts]


async def test_pay__two_batches__final_with_fees_and_deposits(world: SolanaWorld):
    payouts = people(7)
    for payout in payouts:
        world.scene.hold(payout.recipient)
    await world.decide(payouts)
    operator = address_of("operator")
    before = world.scene.lamports(operator)
    await world.settle()
    assert await world.states() == ["final", "final", "final"]
    assert world.balances(payouts) == amounts(payouts)
    summary = await world.summary()
    assert summary.paid_total == sum(amounts(payouts))
    [(fees, deposits)] = await world.rows("SELECT sum(fee_paid)::bigint, sum(deposits)::bigint FROM attempts")
    assert before - world.scene.lamports(operator) == fees + deposits  # type: ignore[operator]


async def test_pay__recipient_left_out__waits_in_a_batch_of_its_own_until_a_person_releases_it(world: SolanaWorld):
    payouts = people(7)
    for payout in payouts:
        world.scene.hold(payout.recipient, frozen=payout == payouts[5])
    await world.decide(payouts)
    await world.settle()
    assert await world.states() == ["final", "final", "final", "held"]
    held = (await world.summary()).steps[-1]
    assert "is frozen" in (held.reason or "")
    expected = [0 if payout == payouts[5] else payout.amount for payout in payouts]
    assert world.balances(payouts) == expected
    world.scene.hold(payouts[5].recipient)
    await world.order(InterventionKind.RELEASE, held.ordinal)
    await world.settle()
    assert await world.states() == ["final", "final", "final", "final"]
    assert world.balances(payouts) == amounts(payouts)


async def test_pay__bytes_expire_on_the_way__signed_again_and_both_attempts_stay_on_record(world: SolanaWorld):
    payouts = people(2)
    for payout in payouts:
        world.scene.hold(payout.recipient)
    await world.decide(payouts)
    await world.settle(2)
    assert await world.states() == ["final", "broadcast"]
    world.scene.node.faults.drop_next = 10**6
    world.scene.node.chain.fork(FINALIZED_DEPTH, Fate.DROPPED)
    await world.advance(LIFE_BLOCKS - 10)
    assert await world.rows("SELECT count(*) FROM attempts") == [(2,)]
    await world.advance(20 + FINALIZED_DEPTH)
    assert await world.rows("SELECT count(*) FROM attempts") == [(3,)]
    world.scene.node.faults.drop_next = 0
    await world.settle(3)
    assert await world.states() == ["final", "final"]
    assert world.balances(payouts) == amounts(payouts)
    assert await world.rows("SELECT count(*), count(block_hash) FROM attempts") == [(3, 2)]


async def test_pay__another_database_cancels_it__held_with_the_transaction_that_did(world: SolanaWorld):
    payouts = people(2)
    for payout in payouts:
        world.scene.hold(payout.recipient)
    await world.decide(payouts)
    await world.settle(2)
    world.scene.node.chain.fork(FINALIZED_DEPTH, Fate.DROPPED)
    assert await world.states() == ["final", "broadcast"]
    async with world.database.snapshot() as transaction:
        [flight] = await transaction.payouts.in_flight(CHAIN)
    rival = world.scene.make_payer()
    signed = await rival.sign(flight.action, flight.slot, None, Purpose.CANCEL)
    assert isinstance(signed, Signed)
    world.scene.node.faults.drop_next = 10**6
    await world.advance(1)
    world.scene.node.faults.drop_next = 0
    await rival.broadcast(signed.raw)
    world.scene.node.chain.advance_blocks(1)
    await world.advance(LIFE_BLOCKS + 2 * FINALIZED_DEPTH)
    await world.settle(2)
    step = (await world.summary()).steps[1]
    assert step.state == "held"
    assert step.reason == f"cancelled on chain in {format_tx(signed.tx_id)}"
    assert world.balances(payouts) == [0, 0]


@pytest.mark.parametrize("kind", list(ActionKind))
async def test_pay__another_database_cancels_it_before_our_signature__held_and_not_waited_for(
    world: SolanaWorld, monkeypatch: pytest.MonkeyPatch, kind: ActionKind
):
    """A slot is reserved, and the marker is taken: nothing can be signed for it any more."""
    payouts, sign, cancels = people(2), SolanaPayer.sign, list[Signed]()
    for payout in payouts:
        world.scene.hold(payout.recipient)

    async def too_late(
        self: SolanaPayer, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | Refusal:
        if action.kind is not kind or cancels:
            return await sign(self, action, slot, previous, purpose)
        signed = await sign(self, action, slot, previous, Purpose.CANCEL)
        assert isinstance(signed, Signed)
        cancels.append(signed)
        world.scene.node.chain.submit(parse(signed.raw))
        return Refusal("not yet", temporary=True)

    monkeypatch.setattr(SolanaPayer, "sign", too_late)
    await world.decide(payouts)
    await world.settle()
    step = (await world.summary()).steps[0 if kind is ActionKind.PROPOSE else 1]
    assert (step.kind, step.state) == (kind, "held")
    told = Verdict.CANCELLED if kind is ActionKind.PROPOSE else f"cancelled on chain in {format_tx(cancels[0].tx_id)}"
    assert step.reason == told
    reasons = await world.rows("SELECT reason FROM confirmations WHERE to_state = 'quarantined'")
    assert reasons == [(Spent.STEP,)], "which names no nonce, for there is none"
    await world.order(InterventionKind.RELEASE, step.ordinal)
    await world.settle(2)
    assert (await world.summary()).steps[step.ordinal].state == "held", "nothing can be paid under its id"
    await world.order(InterventionKind.CANCEL, step.ordinal)
    await world.settle(2)
    assert await world.states() == (["void", "void"] if kind is ActionKind.PROPOSE else ["final", "void"])
    assert world.balances(payouts) == [0, 0]


async def test_pay__allowance_for_one_batch_of_two__the_other_waits_and_nothing_fails(world: SolanaWorld):
    """Both would pass a pre-flight that counts what is on the chain, and nothing that is on its way there."""
    payouts = people(8)
    for payout in payouts:
        world.scene.hold(payout.recipient)
    allow(world, sum(amounts(payouts)) - 1)
    await world.decide(payouts)
    await world.settle(2)
    assert await world.states() == ["final", "broadcast", "planned"]
    reason = (await world.summary()).steps[2].reason
    assert reason is not None
    assert f"({sum(amounts(payouts[:4]))} of that for batches that are on their way)" in reason
    await world.settle(3)
    assert await world.states() == ["final", "final", "planned"]
    allow(world, 10**15)
    await world.settle(3)
    assert await world.states() == ["final", "final", "final"]
    assert world.balances(payouts) == amounts(payouts)
    assert await world.rows("SELECT count(*), count(*) FILTER (WHERE succeeded) FROM attempts") == [(3, 3)]


async def test_pay__allowance_shrinks_under_two_batches_that_are_sent__one_fails_and_is_paid_later(world: SolanaWorld):
    payouts = people(8)
    for payout in payouts:
        world.scene.hold(payout.recipient)
    await world.decide(payouts)
    await world.settle(2)
    assert await world.states() == ["final", "broadcast", "broadcast"]
    allow(world, sum(amounts(payouts)) - 1)
    await world.settle(3)
    assert sorted(await world.states()) == ["final", "final", "planned"]
    [waits] = [step for step in (await world.summary()).steps if step.state == "planned"]
    assert waits.reason is not None
    assert "approve more" in waits.reason
    allow(world, 10**15)
    await world.settle(3)
    assert await world.states() == ["final", "final", "final"]
    assert world.balances(payouts) == amounts(payouts)
    assert await world.rows("SELECT count(*), count(*) FILTER (WHERE succeeded) FROM attempts WHERE final") == [(4, 3)]


async def test_pay__allowance_is_taken_back_before_the_next_signature__waits_with_the_reason_until_it_is_given(
    world: SolanaWorld,
):
    payouts = people(2)
    vault, operator = address_of("vault"), address_of("operator")
    for payout in payouts:
        world.scene.hold(payout.recipient)
    await world.decide(payouts)
    await world.settle(2)
    world.scene.node.chain.fork(FINALIZED_DEPTH, Fate.DROPPED)
    world.scene.node.faults.drop_next = 10**6
    world.scene.hold(vault, 10**15, delegate=(operator, 1))
    await world.advance(LIFE_BLOCKS + 2 * FINALIZED_DEPTH)
    step = (await world.summary()).steps[1]
    assert step.state == "broadcast"
    assert step.reason is not None
    assert "move 1 atoms of the token more" in step.reason
    world.scene.node.faults.drop_next = 0
    world.scene.hold(vault, 10**15, delegate=(operator, 10**15))
    await world.settle(3)
    assert await world.states() == ["final", "final"]
    assert world.balances(payouts) == amounts(payouts)


async def test_pay__another_database_with_our_key_is_faster_than_our_signature__found_on_chain_and_booked(
    world: SolanaWorld, monkeypatch: pytest.MonkeyPatch
):
    payouts, sign = people(2), SolanaPayer.sign
    for payout in payouts:
        world.scene.hold(payout.recipient)

    async def too_late(
        self: SolanaPayer, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | Refusal:
        signed = await sign(self, action, slot, previous, purpose)
        if action.kind is ActionKind.PROPOSE or isinstance(signed, Refusal):
            return signed
        world.scene.node.chain.submit(parse(signed.raw))
        return Refusal("not yet", temporary=True)

    monkeypatch.setattr(SolanaPayer, "sign", too_late)
    await world.decide(payouts)
    await world.settle()
    assert await world.states() == ["final", "final"]
    assert world.balances(payouts) == amounts(payouts)
    assert await world.rows("SELECT count(*), count(*) FILTER (WHERE fee_paid > 0) FROM attempts WHERE final") == [
        (2, 2)
    ]


async def test_pay__database_is_lost__planned_alike_found_on_chain_and_nobody_is_paid_twice(world: SolanaWorld):
    payouts = people(7)
    for payout in payouts:
        world.scene.hold(payout.recipient, frozen=payout == payouts[0])
    await world.decide(payouts)
    await world.settle()
    before = await world.rows("SELECT ordinal, payload, state FROM actions ORDER BY ordinal")
    fees = await world.rows("SELECT tx_id, fee_paid, deposits FROM attempts ORDER BY tx_id")
    await world.forget_payouts()
    await world.settle()
    assert await world.rows("SELECT ordinal, payload, state FROM actions ORDER BY ordinal") == before
    assert await world.rows("SELECT tx_id, fee_paid, deposits FROM attempts ORDER BY tx_id") == fees
    assert world.balances(payouts) == [0, *amounts(payouts)[1:]]


async def test_pay__bad_endpoint_forks_drops_restarts_and_a_lost_database__everyone_is_paid_once(database: Database):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}: to run it again, set it here")
    chance = random.Random(seed)
    async with svm_scene(nodes=3, create_accounts=chance.random() < 0.5) as scene:
        await live(await SolanaWorld.create(scene, database), chance)


def spoil(scene: SvmScene, chance: random.Random) -> None:
    """What the third endpoint does from now on; two others must be enough."""
    faults = scene.nodes[2].faults
    faults.clear()
    what = chance.randrange(6)
    if what == 0:
        faults.lag_blocks = chance.randint(1, 8)
    elif what == 1:
        faults.forgotten_before_slot = scene.node.chain.head.slot
    elif what == 2:
        faults.no_history = True
    elif what == 3:
        kind = chance.choice([Kind.ERROR, Kind.CLOSE, Kind.GARBAGE, Kind.LOSE_ANSWER])
        faults.requests.append(Fault(kind, remaining=None, per_mille=300))
    elif what == 4:
        faults.drop_per_mille = 1000
    if chance.random() < 0.2:  # and the second one now and then, so that nothing goes on for a moment
        kind = chance.choice([Kind.ERROR, Kind.CLOSE, Kind.LOSE_ANSWER])
        scene.nodes[1].faults.requests.append(Fault(kind, remaining=3))


async def trouble(world: SolanaWorld, chance: random.Random) -> None:
    scene, chain = world.scene, world.scene.node.chain
    spoil(scene, chance)
    what = chance.randrange(6)
    if what == 0:
        loose = chain.head.height - chain.newest(Commitment.FINALIZED).height
        chain.fork(chance.randint(0, min(3, loose)), chance.choice(list(Fate)))
    elif what == 1:
        for node in scene.nodes[:2]:  # else the other one passes it on
            node.faults.drop_next = chance.choice([0, 1, 4])
    elif what == 2:
        world.start()
    elif what == 3 and chance.random() < 0.3:
        await world.forget_payouts()


async def live(world: SolanaWorld, chance: random.Random) -> None:
    scene = world.scene
    payouts = people(9)
    shut = {payout.recipient for payout in payouts if chance.random() < 0.2}
    bare = {payout.recipient for payout in payouts if scene.create_accounts and chance.random() < 0.5} - shut
    for payout in payouts:
        if payout.recipient not in bare:
            scene.hold(payout.recipient, frozen=payout.recipient in shut)
    await world.advance(1 + FINALIZED_DEPTH)
    await world.decide(payouts)
    for _ in range(12):
        await trouble(world, chance)
        await world.advance(chance.choice([1, 2, 3, FINALIZED_DEPTH + 1, 170]))
    for node in scene.nodes:
        node.faults.clear()
    for _ in range(30):
        if {"final", "held"} >= set(await world.states()):
            break
        await world.advance(chance.choice([FINALIZED_DEPTH + 1, 80]))
    assert {"final", "held"} >= set(await world.states())
    for payout in payouts:
        assert scene.balance(payout.recipient) == (0 if payout.recipient in shut else payout.amount)
