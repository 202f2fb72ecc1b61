"""What the Solana payer promises beyond tests/chains/test_payer_contract.py: expiry, markers, recipients left out.

Every test has a local chain of its own, whose slots pass only when told to.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from bridge.chains.solana.accounts import SOL as SOL_COIN
from bridge.chains.solana.accounts import Extension
from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.markers import Deed, marker_of
from bridge.chains.solana.messages import Budget, Draft, unsigned
from bridge.chains.solana.programs import MEMO, TOKEN_2022
from bridge.chains.solana.signer import KeystoreSigner
from bridge.domain.errors import RetryableError
from bridge.domain.payouts import (
    CANCELLED,
    Action,
    Attempt,
    Distribution,
    Inclusion,
    InFlight,
    LeftOut,
    Order,
    Payout,
    Purpose,
    Refusal,
    Signed,
    Slot,
)
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import Address, format_address
from bridge.ports.paying import BroadcastOutcome, Payer, Ready, Settlement
from bridge.simulation.svm.chain import Commitment, Fate
from bridge.simulation.svm.faults import Fault, Kind
from tests.chains.svm_scene import (
    CHAIN,
    FINALIZED_DEPTH,
    RENT_EMPTY,
    RENT_HOLDING,
    RENT_MARKER,
    SOL,
    SvmScene,
    address_of,
    fee_extension,
    key_of,
    mint_bytes,
    payouts_of,
    svm_scene,
    token_coin,
)
from tests.chains.test_payer_contract import action_of

LIFE_BLOCKS = 151
FEE_COIN = token_coin(TOKEN_2022, may_take_fees=True)
PEOPLE = ("alice", "bob", "carol")
OTHER_CONTENT = Refusal("the proposal on chain binds other content", temporary=False)
OPERATOR = format_address(address_of("operator"))


@pytest.fixture
async def one() -> AsyncIterator[SvmScene]:
    """One endpoint, one SPL token, accounts are not made."""
    async with svm_scene() as scene:
        yield scene


async def plan(
    scene: SvmScene, payouts: Sequence[Payout] | None = None, room: int = 20, window: int = 0
) -> tuple[Distribution, list[Action]]:
    found = tuple(scene.payouts if payouts is None else payouts)
    total = sum(one.amount for one in found)
    order = Order(b"\2" * 32, CHAIN, "fees", scene.asset, window, window + 1, total, found)
    distribution, calls = scene.payer.plan(order, await scene.payer.pack(order, room))
    return distribution, [action_of(distribution, call) for call in calls]


@dataclass
class Sender:
    """The stage's part, by hand: an action, and every attempt at it."""

    scene: SvmScene
    action: Action
    payer: Payer
    attempts: list[Attempt] = field(default_factory=list)

    @classmethod
    def of(cls, scene: SvmScene, action: Action, payer: Payer | None = None) -> Sender:
        return cls(scene, action, payer or scene.payer)

    @property
    def flight(self) -> InFlight:
        slot = Slot(1, self.payer.account, 0, 0, SlotState.LIVE)
        action = dataclasses.replace(self.action, state=ActionState.BROADCAST)
        return InFlight(action, slot, tuple(self.attempts))

    async def ready(self) -> Ready | Refusal:
        return await self.payer.preflight(self.action, await self.scene.head())

    async def refusal(self) -> Refusal:
        found = await self.ready()
        assert isinstance(found, Refusal)
        return found

    async def sign(self, purpose: Purpose = Purpose.PAY) -> Signed:
        signed = await self.try_sign(purpose)
        assert isinstance(signed, Signed), signed
        return signed

    async def try_sign(self, purpose: Purpose = Purpose.PAY) -> Signed | Refusal | None:
        previous = self.attempts[-1] if self.attempts else None
        signed = await self.payer.sign(self.action, self.flight.slot, previous, purpose)
        if isinstance(signed, Signed):
            number = len(self.attempts)
            self.attempts.append(Attempt(number, number, signed, 0, sent=False, inclusion=None))
        return signed

    async def send(self, attempt: int = -1) -> None:
        answer = await self.payer.broadcast(self.attempts[attempt].signed.raw)
        assert answer.outcome is BroadcastOutcome.ACCEPTED

    async def may_replace(self) -> Refusal | None:
        return await self.payer.may_replace(self.flight, await self.scene.head())

    async def land(self) -> tuple[Inclusion, Settlement]:
        """Pre-flight, sign, send, one block, until it is final."""
        ready = await self.ready()
        assert isinstance(ready, Ready), ready
        signed = await self.sign()
        await self.send()
        _, logs = await self.scene.mine()
        [inclusion] = await self.payer.inclusions(signed.tx_id)
        return inclusion, self.payer.settlement(self.action, logs)


async def proposed(
    scene: SvmScene, payouts: Sequence[Payout] | None = None, room: int = 20, window: int = 0
) -> list[Action]:
    """The batches of a distribution whose proposal is final."""
    _, (propose, *batches) = await plan(scene, payouts, room, window)
    inclusion, _ = await Sender.of(scene, propose).land()
    assert inclusion.succeeded
    return batches


def single_of(batch: Action, left: LeftOut) -> Action:
    """The action that the stage makes for a recipient who was left out."""
    return dataclasses.replace(batch, ordinal=left.call.ordinal, payload=left.call.payload)


def hold_all(scene: SvmScene, *names: str) -> None:
    for name in names or PEOPLE:
        scene.hold(address_of(name))


# ── Life and death of the signed bytes ──────────────────────────────────────────────────────────────────────────────
async def test_expiry__lost_on_the_way__same_bytes_until_they_are_dead_then_others(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    sender = Sender.of(one, batch)
    first = await sender.sign()
    one.node.faults.drop_next = 10**6
    await sender.send()
    one.node.chain.advance_blocks(LIFE_BLOCKS - 1)
    refusal = await sender.may_replace()
    assert refusal is not None
    assert refusal.temporary
    assert f"until block height {first.valid_through}" in refusal.reason
    assert await sender.try_sign() == refusal, "signing asks again"
    one.node.chain.advance_blocks(1 + FINALIZED_DEPTH)
    assert await sender.may_replace() is None
    one.node.faults.drop_next = 0
    second = await sender.sign()
    assert second.tx_id != first.tx_id
    assert second.valid_through is not None
    assert first.valid_through is not None
    assert second.valid_through > first.valid_through
    for attempt in (0, 1):
        await sender.send(attempt)
    await one.mine()
    assert await one.payer.inclusions(first.tx_id) == ()
    assert [inclusion.succeeded for inclusion in await one.payer.inclusions(second.tx_id)] == [True]
    assert [one.balance(payout.recipient) for payout in one.payouts] == [payout.amount for payout in one.payouts]


async def test_expiry__due__says_which_could_be_dead_and_leaves_the_rest_alone(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    sender = Sender.of(one, batch)
    waiting = sender.flight
    signed = await sender.sign()
    assert signed.valid_through is not None
    head = one.header(one.node.chain.head)
    late = dataclasses.replace(head, number=signed.valid_through + 1)
    early = dataclasses.replace(head, number=signed.valid_through)
    assert one.payer.due([sender.flight, waiting], late) == {batch.action_id}
    assert one.payer.due([sender.flight, waiting], early) == frozenset()


async def test_fork__confirmed_payout_is_rolled_back__lands_again_and_once(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    sender = Sender.of(one, batch)
    signed = await sender.sign()
    await sender.send()
    one.node.chain.advance_blocks(3)
    assert one.balance(address_of("alice")) > 0, "it is in a block"
    assert await one.payer.inclusions(signed.tx_id) == (), "of what is not final nothing is said"
    assert not await one.payer.executed(batch, await one.head())
    one.node.chain.fork(3, Fate.DROPPED)
    assert one.balance(address_of("alice")) == 0
    await sender.send()
    await one.mine()
    [inclusion] = await one.payer.inclusions(signed.tx_id)
    assert inclusion.succeeded
    assert await one.payer.executed(batch, inclusion.block)
    assert [one.balance(payout.recipient) for payout in one.payouts] == [payout.amount for payout in one.payouts]


async def test_landed__by_forgetful_endpoint__not_signed_again():
    """One endpoint that has lost its history says that it knows nothing; the marker and the other one do."""
    async with svm_scene(nodes=2) as two:
        hold_all(two)
        [batch] = await proposed(two)
        sender = Sender.of(two, batch)
        signed = await sender.sign()
        await sender.send()
        two.node.chain.advance_blocks(2 * LIFE_BLOCKS)
        forgetful = two.nodes[1]
        head = await two.head()
        forgetful.faults.forgotten_before_slot = head.number
        assert not await two.payer.disowned([signed.tx_id], head)
        assert await sender.may_replace() is not None
        assert isinstance(await sender.try_sign(), Refusal)
        with pytest.raises(RetryableError):
            await two.payer.settled(signed.tx_id)
        async with two.alone(forgetful) as payer:
            alone = Sender.of(two, batch, payer)
            alone.attempts = list(sender.attempts)
            refusal = await alone.may_replace()
            assert refusal is not None, "the marker is there, whatever became of the history"
            assert refusal.temporary
            with pytest.raises(RetryableError):
                await payer.executed(batch, head)


async def test_may_replace__an_endpoint_that_does_not_answer__waits():
    async with svm_scene(nodes=2) as two:
        hold_all(two)
        [batch] = await proposed(two)
        sender = Sender.of(two, batch)
        await sender.sign()
        two.node.chain.advance_blocks(2 * LIFE_BLOCKS)
        two.nodes[1].faults.requests.append(Fault(Kind.ERROR, "getSignatureStatuses", code=-32005))
        refusal = await sender.may_replace()
        assert refusal is not None
        assert "not every endpoint" in refusal.reason
        assert await sender.may_replace() is None


# ── Once ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_rival__restored_database_signs_the_same_batch__one_lands_and_the_other_is_charged(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    ours, theirs = Sender.of(one, batch), Sender.of(one, batch, one.make_payer())
    first = await ours.sign()
    one.node.chain.advance_blocks(1)
    second = await theirs.sign()
    assert first.tx_id != second.tx_id
    await ours.send()
    await theirs.send()
    await one.mine()
    found = [(await one.payer.inclusions(signed.tx_id))[0] for signed in (first, second)]
    assert [inclusion.succeeded for inclusion in found] == [True, False]
    assert [inclusion.deposits for inclusion in found] == [RENT_MARKER, 0]
    assert all(inclusion.fee_paid > 0 for inclusion in found)
    assert await theirs.payer.executed(batch, await one.head())
    assert [one.balance(payout.recipient) for payout in one.payouts] == [payout.amount for payout in one.payouts]


async def test_rival__executed_it_meanwhile__ours_is_not_signed_again(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    ours, theirs = Sender.of(one, batch), Sender.of(one, batch, one.make_payer())
    lost = await ours.sign()
    one.node.chain.advance_blocks(1)  # else both would sign the very same bytes
    await theirs.land()
    one.node.chain.advance_blocks(2 * LIFE_BLOCKS)
    refusal = await ours.may_replace()
    assert refusal is not None
    assert refusal.temporary
    assert refusal.reason.startswith("executed by another transaction: ")
    assert await ours.try_sign() == refusal
    assert await one.payer.executed(batch, await one.head())
    assert await one.payer.disowned([lost.tx_id], await one.head()), "so the stage knows that another one did it"


async def test_marker__funded_by_a_stranger_beforehand__changes_nothing(one: SvmScene):
    """And a stranger's memo with our words is nobody's proposal."""
    hold_all(one)
    distribution, (propose, batch) = await plan(one)
    operator = address_of("operator")
    false = Deed(distribution.distribution_id, None, b"\3" * 32)
    for index in (None, 0):
        marker = Pubkey(marker_of(operator, distribution.distribution_id, index))
        one.stranger_sends(
            transfer(TransferParams(from_pubkey=key_of("stranger").pubkey(), to_pubkey=marker, lamports=SOL)),
            one.memo(false.memo),
        )
        await one.mine()
    assert await one.payer.proposed(propose, await one.head()) is None
    inclusion, settlement = await Sender.of(one, propose).land()
    assert (inclusion.succeeded, settlement.executed) == (True, True)
    one.stranger_sends(one.memo(false.memo), *one.touches(marker_of(operator, distribution.distribution_id, None)))
    await one.mine()
    fresh = one.make_payer()
    assert await fresh.proposed(propose, await one.head()) == distribution.content_hash
    inclusion, settlement = await Sender.of(one, batch, fresh).land()
    assert (inclusion.succeeded, settlement.executed) == (True, True)


@pytest.mark.parametrize("native", [False, True])
async def test_preflight__beside_another_batch__what_that_takes_is_counted_until_it_is_gone(native: bool):
    async with svm_scene(SOL_COIN if native else None) as scene:
        if not native:
            hold_all(scene)
        first, second = await proposed(scene, room=2)
        operator, vault = address_of("operator"), address_of("vault")

        def leave(atoms: int) -> None:
            """So much the operator can move from now on."""
            if native:
                scene.endow(vault, atoms + RENT_EMPTY)
            else:
                scene.hold(vault, 10**15, delegate=(operator, atoms))
            scene.node.chain.advance_blocks(2)

        total = sum(payout.amount for payout in scene.payouts)
        leave(total - 1)
        at = await scene.head()
        assert isinstance(await scene.payer.preflight(second, at), Ready), "it is enough for this one alone"
        refusal = await scene.payer.preflight(second, at, [first])
        assert isinstance(refusal, Refusal)
        assert refusal.temporary
        assert "of that for batches that are on their way" in refusal.reason
        leave(total)
        assert isinstance(await scene.payer.preflight(second, at, [first]), Ready)
        sender = Sender.of(scene, first)
        await sender.sign()
        await sender.send()
        scene.node.chain.advance_blocks(2)
        assert isinstance(await scene.payer.preflight(second, at, [first]), Ready), "what is gone is not counted again"


async def test_operator__another_key_than_before__knows_what_the_former_one_did(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    await Sender.of(one, batch).land()
    signer = KeystoreSigner(key_of("new operator"))
    strange = one.make_payer(signer=signer)
    assert not await strange.executed(batch, await one.head())
    heir = one.make_payer(signer=signer, former_operators=[address_of("operator")])
    assert await heir.executed(batch, await one.head())


async def test_content__other_than_what_was_proposed__never_paid(one: SvmScene):
    hold_all(one)
    await proposed(one)
    more = [dataclasses.replace(payout, amount=payout.amount + 1) for payout in one.payouts]
    _, (propose, batch) = await plan(one, more)
    assert await Sender.of(one, batch).refusal() == Refusal(
        "the proposal on chain binds other content", temporary=False
    )
    assert await one.payer.proposed(propose, await one.head()) not in (None, propose.content_hash)


# ── Cancelled ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_cancel__payment_is_dead__marker_is_taken_and_nothing_paid(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    sender = Sender.of(one, batch)
    one.node.faults.drop_next = 1
    await sender.sign()
    await sender.send()
    assert isinstance(await sender.try_sign(Purpose.CANCEL), Refusal), "the payment may still land"
    one.node.chain.advance_blocks(LIFE_BLOCKS + FINALIZED_DEPTH)
    cancel = await sender.sign(Purpose.CANCEL)
    assert cancel.purpose is Purpose.CANCEL
    await sender.send()
    _, logs = await one.mine()
    [inclusion] = await one.payer.inclusions(cancel.tx_id)
    assert inclusion.succeeded
    assert one.payer.settlement(batch, logs) == Settlement(executed=False, credited=frozenset())
    assert not await one.payer.executed(batch, inclusion.block)
    refusal = await Sender.of(one, batch).refusal()
    assert refusal.reason.startswith("cancelled on chain in ")
    assert not refusal.temporary
    assert one.balance(address_of("alice")) == 0


async def test_cancel__of_a_proposal__nothing_can_be_paid_under_its_id(one: SvmScene):
    hold_all(one)
    _, (propose, batch) = await plan(one)
    sender = Sender.of(one, propose)
    cancel = await sender.sign(Purpose.CANCEL)
    await sender.send()
    await one.mine()
    [inclusion] = await one.payer.inclusions(cancel.tx_id)
    assert inclusion.succeeded
    assert await one.payer.proposed(propose, inclusion.block) == CANCELLED
    assert await Sender.of(one, batch).refusal() == Refusal(
        "the proposal on chain binds other content", temporary=False
    )


# ── Recipients who can take nothing ─────────────────────────────────────────────────────────────────────────────────
def frozen(scene: SvmScene, bob: Address) -> None:
    scene.hold(bob, frozen=True)


def missing(scene: SvmScene, bob: Address) -> None:
    scene.endow(scene.coin.account_of(bob), 0)


def only_sol(scene: SvmScene, bob: Address) -> None:
    scene.endow(scene.coin.account_of(bob), SOL)


def sold(scene: SvmScene, bob: Address) -> None:
    scene.hold(bob, real_owner=address_of("buyer"))


def something_else(scene: SvmScene, bob: Address) -> None:
    scene.endow(scene.coin.account_of(bob), SOL, b"", MEMO)


def wants_memo(scene: SvmScene, bob: Address) -> None:
    scene.hold(bob, more_extensions=[(8, b"\1")])


FAULTS: dict[str, tuple[Callable[[SvmScene, Address], None], str]] = {
    "frozen": (frozen, "cannot take the token: its account "),
    "missing": (missing, "has no account for the token, and none is made"),
    "only SOL": (only_sol, "has no account for the token, and none is made"),
    "sold": (sold, "does not own its account for the token any more"),
    "something else": (something_else, "has no account for the token: something else is at "),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_recipient__who_can_take_nothing__left_out_named_and_held_alone(one: SvmScene, name: str):
    spoil, reason = FAULTS[name]
    hold_all(one)
    bob = address_of("bob")
    spoil(one, bob)
    [batch] = await proposed(one)
    inclusion, settlement = await Sender.of(one, batch).land()
    assert inclusion.succeeded
    assert settlement.executed
    assert [left.recipient for left in settlement.left_out] == [bob]
    assert one.balance(bob) == 0
    assert one.balance(address_of("alice")) > 0
    alone = Sender.of(one, single_of(batch, settlement.left_out[0]))
    refusal = await alone.refusal()
    assert refusal.reason.startswith(f"{format_address(bob)} {reason}")
    assert not refusal.temporary
    one.hold(bob)
    one.node.chain.advance_blocks(1)
    _, settlement = await alone.land()
    assert settlement == Settlement(executed=True, credited=frozenset())
    paid = {payout.recipient: payout.amount for payout in one.payouts}
    assert one.balance(bob) == paid[bob], "once the reason is gone"
    assert isinstance(await alone.ready(), Refusal)


async def test_recipient__whose_transfer_fails_unforeseen__found_by_simulation():
    """An account that asks for a memo right before each transfer: no inspection looks for that."""
    async with svm_scene(FEE_COIN) as scene:
        people = payouts_of(*(f"person {number}" for number in range(8)))
        for payout in people:
            scene.hold(payout.recipient)
        asking = [people[index].recipient for index in (2, 5)]
        for recipient in asking:
            wants_memo(scene, recipient)
        [batch] = await proposed(scene, people)
        _, settlement = await Sender.of(scene, batch).land()
        assert [left.recipient for left in settlement.left_out] == asking
        for left in settlement.left_out:
            _, alone = await Sender.of(scene, single_of(batch, left)).land()
            assert alone.executed, "alone, its transfer comes right after the memo"
        assert [scene.balance(payout.recipient) for payout in people] == [payout.amount for payout in people]


async def test_recipients__none_can_take_it__held_with_every_reason(one: SvmScene):
    [batch] = await proposed(one)
    refusal = await Sender.of(one, batch).refusal()
    assert not refusal.temporary
    assert all(f"{format_address(address_of(name))} has no account" in refusal.reason for name in PEOPLE)


async def test_creation__accounts_are_missing__made_at_our_cost_and_counted():
    async with svm_scene(create_accounts=True) as scene:
        scene.hold(address_of("alice"))
        scene.endow(scene.coin.account_of(address_of("bob")), RENT_EMPTY)
        [batch] = await proposed(scene)
        before = scene.lamports(address_of("operator"))
        inclusion, settlement = await Sender.of(scene, batch).land()
        assert settlement == Settlement(executed=True, credited=frozenset())
        assert inclusion.deposits == RENT_MARKER + 2 * RENT_HOLDING - RENT_EMPTY
        assert before - scene.lamports(address_of("operator")) == inclusion.fee_paid + inclusion.deposits
        assert [scene.balance(payout.recipient) for payout in scene.payouts] == [one.amount for one in scene.payouts]


async def test_creation__owner_that_cannot_have_one_made__left_out():
    async with svm_scene(create_accounts=True) as scene:
        program_s, _ = Pubkey.find_program_address([b"some"], MEMO)
        token_account, wallet = address_of("a token account"), address_of("smart wallet")
        scene.hold(address_of("alice"))
        scene.endow(token_account, SOL, scene.holding_of(address_of("alice")), scene.coin.program)
        scene.endow(wallet, SOL, b"", MEMO)
        odd = [Address(bytes(program_s)), token_account, wallet]
        people = sorted((*payouts_of("alice"), *(Payout(who, 7) for who in odd)), key=lambda one: one.recipient)
        [batch] = await proposed(scene, people)
        _, settlement = await Sender.of(scene, batch).land()
        assert {left.recipient for left in settlement.left_out} == set(odd)
        scene.hold(odd[0])
        scene.node.chain.advance_blocks(1)
        [left] = [left for left in settlement.left_out if left.recipient == odd[0]]
        _, alone = await Sender.of(scene, single_of(batch, left)).land()
        assert alone.executed, "a program may be paid where it has an account"


async def test_creation__account_that_we_paid_into_was_closed__not_made_a_second_time():
    async with svm_scene(create_accounts=True) as scene:
        [first] = await proposed(scene, payouts_of("alice", "bob"))
        inclusion, _ = await Sender.of(scene, first).land()
        assert inclusion.deposits == RENT_MARKER + 2 * RENT_HOLDING
        alice, dora = address_of("alice"), address_of("dora")
        for payout in payouts_of("alice", "dora"):
            scene.endow(scene.coin.account_of(payout.recipient), 0)
        # Whoever names dora's account beside a memo of ours does not keep her from being paid for the first time.
        named = TransferParams(
            from_pubkey=key_of("stranger").pubkey(),
            to_pubkey=Pubkey(scene.coin.account_of(dora)),
            lamports=RENT_EMPTY,
        )
        scene.stranger_sends(transfer(named), scene.memo(f"bridge:1:{first.distribution_id.hex()}:0"))
        await scene.mine()
        [second] = await proposed(scene, payouts_of("alice", "bob", "dora"), window=1)
        inclusion, settlement = await Sender.of(scene, second).land()
        [left] = settlement.left_out
        assert left.recipient == alice
        assert inclusion.deposits == RENT_MARKER + RENT_HOLDING - RENT_EMPTY
        alone = Sender.of(scene, single_of(second, left))
        refusal = await alone.refusal()
        assert not refusal.temporary
        assert " has closed the account that " in refusal.reason
        scene.hold(alice)
        scene.node.chain.advance_blocks(1)
        _, settled = await alone.land()
        assert settled.executed, "she has made one herself"


async def test_creation__allowed_after_the_batch_was_packed__only_as_many_as_there_is_room_for():
    async with svm_scene() as scene:
        people = payouts_of(*(f"person {number}" for number in range(10)))
        for payout in people[:4]:
            scene.hold(payout.recipient)
        [batch] = await proposed(scene, people)
        generous = scene.make_payer(create_accounts=True)
        _, settlement = await Sender.of(scene, batch, generous).land()
        assert settlement.executed
        assert 0 < len(settlement.left_out) < 6
        for left in settlement.left_out:
            await Sender.of(scene, single_of(batch, left), generous).land()
        assert [scene.balance(payout.recipient) for payout in people] == [payout.amount for payout in people]


# ── SOL ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("vault", ["vault", "operator"], ids=["by_the_vault_s_own_key", "the_operator_is_the_vault"])
async def test_sol__paid_by_the_vault__fresh_account_under_rent_is_left_out(vault: str):
    async with svm_scene(SOL_COIN, vault=vault) as scene:
        fresh, poor, known = payouts_of("fresh"), payouts_of("poor", first=RENT_EMPTY - 1), payouts_of("known", first=1)
        scene.endow(known[0].recipient, SOL)
        people = sorted((*fresh, *poor, *known), key=lambda one: one.recipient)
        [batch] = await proposed(scene, people)
        before = {who: scene.lamports(address_of(who)) for who in {"operator", vault}}
        inclusion, settlement = await Sender.of(scene, batch).land()
        assert settlement.executed
        assert [left.recipient for left in settlement.left_out] == [poor[0].recipient]
        assert scene.balance(fresh[0].recipient) == fresh[0].amount
        assert scene.balance(known[0].recipient) == SOL + 1
        assert inclusion.deposits == RENT_MARKER
        spent = {who: before[who] - scene.lamports(address_of(who)) for who in before}
        paid = fresh[0].amount + 1
        costs = inclusion.fee_paid + RENT_MARKER
        assert spent == ({"operator": costs + paid} if vault == "operator" else {"operator": costs, "vault": paid})


async def test_sol__without_the_vault_s_key__waits_and_says_what_is_missing():
    async with svm_scene(SOL_COIN) as scene:
        [batch] = await proposed(scene)
        payer = scene.make_payer(vault_signer=None)
        refusal = await Sender.of(scene, batch, payer).refusal()
        assert refusal == Refusal("only the vault's own key can pay SOL: configure vault_key", temporary=True)


async def test_sol__vault_would_fall_under_its_rent__waits():
    async with svm_scene(SOL_COIN) as scene:
        scene.endow(address_of("vault"), RENT_EMPTY + 1)
        scene.node.chain.advance_blocks(2)
        [batch] = await proposed(scene)
        refusal = await Sender.of(scene, batch).refusal()
        assert refusal.temporary
        assert "lamports, needs " in refusal.reason


# ── What stops a batch as a whole ───────────────────────────────────────────────────────────────────────────────────
def vault_holds(**options: object) -> Callable[[SvmScene], None]:
    def spoil(scene: SvmScene) -> None:
        given = {"amount": 10**15, "delegate": (address_of("operator"), 10**15), **options}
        scene.hold(address_of("vault"), **given)  # type: ignore[arg-type]

    return spoil


def mint_has(*extensions: tuple[int, bytes]) -> Callable[[SvmScene], None]:
    return lambda scene: scene.set_mint(mint_bytes(extensions=[fee_extension(0), *extensions]))


WHOLE: dict[str, tuple[Callable[[SvmScene], None], str, bool]] = {
    "frozen vault": (vault_holds(frozen=True), "the vault's account ", True),
    "no delegate": (vault_holds(delegate=None), f"{OPERATOR} is not the delegate", True),
    "small allowance": (
        vault_holds(delegate=(address_of("operator"), 15_000_002)),
        f"the vault lets {OPERATOR} move 15000002 atoms of the token more, the batch needs 15000003: approve more",
        True,
    ),
    "poor vault": (vault_holds(amount=3), "the vault has 3 atoms of the token, the batch needs 15000003", True),
    "no account": (
        lambda scene: scene.endow(scene.coin.account_of(address_of("vault")), 0),
        "the vault has no account for the token",
        True,
    ),
    "paused": (mint_has((Extension.PAUSABLE, bytes(32) + b"\1")), "the token is paused", True),
    "fee": (
        lambda scene: scene.set_mint(mint_bytes(extensions=[fee_extension(30)])),
        "the token takes a fee of",
        False,
    ),
    "hook": (mint_has((Extension.TRANSFER_HOOK, bytes(32) + b"\1" * 32)), "the token runs a program of its own", False),
    "soulbound": (mint_has((Extension.NON_TRANSFERABLE, b"")), "the token cannot be transferred", False),
    "poor operator": (lambda scene: scene.endow(address_of("operator"), SOL // 1000), "low gas balance: ", True),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_batch__that_nobody_can_be_paid_from__refused_with_the_reason(name: str):
    spoil, reason, temporary = WHOLE[name]
    async with svm_scene(FEE_COIN) as scene:
        hold_all(scene)
        [batch] = await proposed(scene)
        sender = Sender.of(scene, batch)
        spoil(scene)
        scene.node.chain.advance_blocks(2)
        refusal = await sender.refusal()
        assert refusal.reason.startswith(reason)
        assert refusal.temporary is temporary
        assert await sender.try_sign() == refusal
        scene.furnish()
        scene.node.chain.advance_blocks(2)
        inclusion, _ = await sender.land()
        assert inclusion.succeeded


async def test_fee__begins_after_signing__nothing_moves_rather_than_less_than_decided():
    async with svm_scene(FEE_COIN) as scene:
        hold_all(scene)
        [batch] = await proposed(scene)
        sender = Sender.of(scene, batch)
        signed = await sender.sign()
        scene.set_mint(mint_bytes(extensions=[fee_extension(30)]))
        await sender.send()
        await scene.mine()
        [inclusion] = await scene.payer.inclusions(signed.tx_id)
        assert not inclusion.succeeded
        assert inclusion.deposits == 0
        assert not await scene.payer.executed(batch, inclusion.block)
        assert [scene.balance(payout.recipient) for payout in scene.payouts] == [0, 0, 0]


async def test_price__others_pay_for_their_place__offered_up_to_the_ceiling_and_charged_to_the_lamport(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    payer = one.make_payer(ceilings=FeeCeilings(50_000, 2_000))
    sender = Sender.of(one, batch, payer)
    one.node.faults.drop_next = 1
    first = await sender.sign()
    await sender.send()
    assert first.max_fee == first.priority_fee == 2_000
    for expected in (10_000, 20_000, 40_000, 50_000, 50_000):
        one.node.chain.advance_blocks(LIFE_BLOCKS + FINALIZED_DEPTH)
        assert (await sender.sign()).max_fee == expected
    await sender.send()
    await one.mine()
    last = sender.attempts[-1].signed
    [inclusion] = await payer.inclusions(last.tx_id)
    assert inclusion.fee_paid == 5_000 + -(-last.gas_limit * 50_000 // 10**6)
    assert inclusion.gas_used <= last.gas_limit


# ── Endpoints that lie or fail ──────────────────────────────────────────────────────────────────────────────────────
async def test_endpoint__names_an_absurd_rent__not_believed(one: SvmScene, monkeypatch: pytest.MonkeyPatch):
    hold_all(one)
    [batch] = await proposed(one)
    ask = one.rpc.call

    async def call(method: str, params: Sequence[object] = ()) -> object:
        return 10**12 if method == "getMinimumBalanceForRentExemption" else await ask(method, params)

    monkeypatch.setattr(one.rpc, "call", call)
    with pytest.raises(RetryableError, match="lamports for a small account"):
        await Sender.of(one, batch, one.make_payer()).ready()


async def test_endpoint__on_another_fork__no_word_of_it_counts(one: SvmScene):
    hold_all(one)
    [batch] = await proposed(one)
    stranger = dataclasses.replace(await one.head(), hash=b"\7" * 32)
    for ask in (one.payer.preflight, one.payer.executed, one.payer.proposed):
        with pytest.raises(RetryableError):
            await ask(batch, stranger)
    assert not await one.payer.disowned([b"\1" * 64], stranger)


async def test_broadcast__one_endpoint_is_dead__the_other_takes_it():
    async with svm_scene(nodes=2) as two:
        hold_all(two)
        _, (propose, *_) = await plan(two)
        sender = Sender.of(two, propose)
        signed = await sender.sign()
        two.nodes[0].faults.requests.append(Fault(Kind.CLOSE, "sendTransaction", remaining=None))
        await sender.send()
        two.nodes[1].faults.requests.append(Fault(Kind.LOSE_ANSWER, "sendTransaction", remaining=None))
        assert (await two.payer.broadcast(signed.raw)).outcome is BroadcastOutcome.UNKNOWN
        await two.mine()
        assert len(await two.payer.inclusions(signed.tx_id)) == 1


@pytest.mark.parametrize(
    ("code", "message", "outcome"),
    [
        (-32002, "Transaction simulation failed: This transaction has already been processed", BroadcastOutcome.KNOWN),
        (-32002, "Transaction simulation failed: Blockhash not found", BroadcastOutcome.REJECTED),
        (-32003, "Transaction signature verification failure", BroadcastOutcome.REJECTED),
        (-32602, "base64 encoded transaction too large: 1644 bytes", BroadcastOutcome.REJECTED),
        (-32005, "Node is behind by 42 slots", BroadcastOutcome.UNKNOWN),
        (-32603, "Internal error", BroadcastOutcome.UNKNOWN),
    ],
)
async def test_broadcast__refused__what_it_means(one: SvmScene, code: int, message: str, outcome: BroadcastOutcome):
    _, (propose, *_) = await plan(one)
    signed = await Sender.of(one, propose).sign()
    one.node.faults.requests.append(Fault(Kind.ERROR, "sendTransaction", code=code, message=message))
    answer = await one.payer.broadcast(signed.raw)
    assert answer.outcome is outcome
    assert message in (answer.reason or "")


async def test_signer__that_signs_something_else__is_caught(one: SvmScene):
    class Forger(KeystoreSigner):
        async def sign(self, transaction: object) -> tuple[bytes, bytes]:
            drafted: Draft = Draft(self.account, (), ())
            return await super().sign({"raw": unsigned(drafted.message(bytes(32), Budget(1, 1)))})

    _, (propose, *_) = await plan(one)
    payer = one.make_payer(signer=Forger(key_of("operator")))
    with pytest.raises(AssertionError, match="changed what it signed"):
        await Sender.of(one, propose, payer).sign()


# ── A whole life, at random ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("turn", range(4))
async def test_life__drops_forks_rivals_and_restarts__everyone_is_paid_once(turn: int):
    """Two databases with the same operator, each with what it has signed itself, on a chain that forgets and forks."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}: to run it again, set it here")
    await live(random.Random(seed))


async def live(chance: random.Random) -> None:
    async with svm_scene(create_accounts=chance.random() < 0.5) as scene:
        people = payouts_of(*(f"person {number}" for number in range(7)))
        for payout in people:
            if chance.random() < 0.7:
                scene.hold(payout.recipient)
        batches = await proposed(scene, people, room=4)
        senders = [Sender.of(scene, batch, scene.make_payer()) for batch in batches for _ in range(2)]
        for _ in range(40):
            await step(scene, chance.choice(senders), chance)
        scene.node.faults.clear()
        for payout in people:
            scene.hold(payout.recipient, keep=True)
        for _ in range(60):
            waiting = [batch for batch in batches if not await scene.payer.executed(batch, await scene.head())]
            if not waiting:
                break
            for sender in senders:
                if sender.action in waiting:
                    await advance(sender)
            await scene.mine()
            scene.node.chain.advance_blocks(chance.choice([0, 0, 50]))
        left_out: set[Address] = set()
        for batch in batches:
            assert await scene.payer.executed(batch, await scene.head())
            left_out |= await scene.left_out_of(batch)
        for payout in people:
            assert scene.balance(payout.recipient) == (0 if payout.recipient in left_out else payout.amount)


async def step(scene: SvmScene, sender: Sender, chance: random.Random) -> None:
    chain = scene.node.chain
    loose = min(3, chain.head.height - chain.newest(Commitment.FINALIZED).height)
    what = chance.randrange(8)
    if what <= 2:
        await advance(sender)
    elif what == 3:
        chain.advance_blocks(chance.choice([1, 1, 2, FINALIZED_DEPTH, 160]))
    elif what == 4:
        chain.fork(chance.randint(0, loose), chance.choice(list(Fate)))
    elif what == 5:
        scene.node.faults.drop_next = chance.choice([0, 1, 3])
    elif what == 6:
        sender.payer = scene.make_payer()  # restarted: what was saved stays
    else:
        scene.hold(chance.choice(scene.people(sender.action)), keep=True)


async def advance(sender: Sender) -> None:
    """What the stage does at each head: sign the first, or another where that may be; else send the same again."""
    if not sender.attempts or await sender.may_replace() is None:
        await sender.try_sign()
    if sender.attempts:
        await sender.send()
