"""What every Payer promises: on a chain in memory, on a real Anvil with our contracts, and on a local Solana chain.

Some promises are those of nonces and contracts; tests/chains/test_solana_payer.py has what stands for them on Solana.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import orjson
import pytest
from eth_hash.auto import keccak

from bridge.chains.evm.claims import ClaimSet
from bridge.chains.evm.culprits import NEVER
from bridge.chains.evm.data_fees import FIELDS_BYTES
from bridge.chains.evm.fees import FeeCeilings
from bridge.chains.evm.payer import EvmPayer
from bridge.chains.evm.rpc import Answer, Endpoint, EvmRpc
from bridge.chains.evm.signer import KeystoreSigner
from bridge.chains.evm.storage import Layout
from bridge.chains.fake.chain import FakeChain
from bridge.chains.fake.gate import Gate
from bridge.chains.fake.payer import FakePayer
from bridge.domain.errors import RetryableError
from bridge.domain.events import Log
from bridge.domain.payouts import (
    Action,
    Attempt,
    Batch,
    Distribution,
    Inclusion,
    Leg,
    Order,
    Payout,
    PlannedCall,
    Purpose,
    Refusal,
    Signed,
    Slot,
    cumulate,
    pack_batches,
)
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import Address, AssetId, BlockStamp, format_address
from bridge.ports.paying import BroadcastOutcome, Payer, Ready, Settlement
from bridge.simulation.anvil import CHAIN_ID, Anvil
from bridge.simulation.deploy import ACTIVATION_DELAY_S, APPROVAL_LIFETIME_S, GATE_DELAY_S, Deployer, Deployment
from bridge.simulation.wallets import Wallet
from tests.chains.svm_scene import SvmScene, svm_scene
from tests.crash.proxy import Proxy

CHAIN = "here"
GENESIS_TIMESTAMP = 1_900_000_000
STEP_S = 12
UNIT = 10**6
ALICE, BOB, CAROL = (Address(bytes([n]) * 20) for n in (0xA1, 0xB0, 0xCA))
PAYOUTS = (Payout(ALICE, 5 * UNIT), Payout(BOB, 6 * UNIT), Payout(CAROL, 7 * UNIT))
GWEI = 10**9


class AnyScene(Protocol):
    """A chain whose blocks the test makes."""

    @property
    def payer(self) -> Payer: ...
    @property
    def asset(self) -> AssetId: ...
    @property
    def payouts(self) -> tuple[Payout, ...]:
        """To three recipients, ascending."""

    async def head(self) -> BlockStamp: ...
    async def mine(self) -> tuple[BlockStamp, list[Log]]:
        """The newest block, with what was sent before, and its logs."""


class Scene(AnyScene, Protocol):
    """One whose accounts have nonces, and whose payouts pass through contracts."""

    async def reorg(self, depth: int) -> None:
        """Replace the last `depth` blocks by empty ones; their transactions are lost."""

    def pass_time(self, seconds: int) -> None:
        """The next block is so much later."""

    # each in a block of its own
    async def forbid_unapproved(self) -> None: ...
    async def approve(self, distribution: Distribution) -> None: ...
    async def veto(self, distribution: Distribution) -> None: ...


class FakeScene:
    payouts = PAYOUTS

    def __init__(self) -> None:
        self.chain = FakeChain(CHAIN)
        self.fake = FakePayer(self.chain, account=Address(b"\x03" * 20), distributor=Address(b"\x02" * 20))
        self.fake.claims = Address(b"\x04" * 20)
        self.payer: Payer = self.fake
        self.asset = AssetId("fake:1/erc20:0x" + "aa" * 20)
        self._skip_s = 0

    async def head(self) -> BlockStamp:
        return BlockStamp(CHAIN, self.chain.head.number, self.chain.head.hash)

    async def mine(self) -> tuple[BlockStamp, list[Log]]:
        self.fake.mine(timestamp=self.chain.head.timestamp + STEP_S + self._skip_s)
        self._skip_s = 0
        return await self.head(), list(self.chain.blocks[-1].logs)

    async def reorg(self, depth: int) -> None:
        self.fake.reorg(depth, put_back=False)
        for _ in range(depth):
            await self.mine()

    def pass_time(self, seconds: int) -> None:
        self._skip_s = seconds

    async def forbid_unapproved(self) -> None:
        self.fake.gate = Gate(auto_limit=0, delay_s=GATE_DELAY_S, lifetime_s=APPROVAL_LIFETIME_S)
        await self.mine()

    async def approve(self, distribution: Distribution) -> None:
        self.fake.approve(distribution.distribution_id, distribution.content_hash)
        await self.mine()

    async def veto(self, distribution: Distribution) -> None:
        self.fake.veto(distribution.distribution_id)
        await self.mine()


class AnvilScene:
    payouts = PAYOUTS

    def __init__(self, anvil: Anvil, rpc: EvmRpc, deployer: Deployer, deployment: Deployment, payer: EvmPayer) -> None:
        self.anvil = anvil
        self.rpc = rpc
        self.deployer = deployer
        self.deployment = deployment
        self.payer: Payer = payer
        self.token = deployment.stage.tokens[0].contract
        self.asset = AssetId(f"eip155:{CHAIN_ID}/erc20:{format_address(self.token.address)}")
        self._timestamp = GENESIS_TIMESTAMP + STEP_S * deployer.head

    async def head(self) -> BlockStamp:
        block = await self.anvil.call("eth_getBlockByNumber", "latest", False)
        return BlockStamp(CHAIN, int(block["number"], 16), bytes.fromhex(block["hash"][2:]))

    async def mine(self, *transactions: bytes) -> tuple[BlockStamp, list[Log]]:
        self._timestamp += STEP_S
        await self.anvil.mine(self._timestamp, transactions)
        stamp = await self.head()
        found = await self.anvil.call("eth_getLogs", {"blockHash": "0x" + stamp.hash.hex()})
        return stamp, [self._log(stamp, entry) for entry in found]

    async def reorg(self, depth: int) -> None:
        await self.anvil.call("anvil_reorg", depth, [])

    async def stop(self) -> None:
        await self.rpc.close()
        await self.anvil.stop()

    def pass_time(self, seconds: int) -> None:
        """The next block is so much later."""
        self._timestamp += seconds

    async def forbid_unapproved(self) -> None:
        await self.as_admin("distributor", "setAutoLimit", format_address(self.token.address), 0)

    async def approve(self, distribution: Distribution) -> None:
        distributor = self.deployment.distributor
        approval = distributor.call("approve", distribution.distribution_id, distribution.content_hash)
        await self.mine(self.deployment.approver.sign(distributor.address, approval))

    async def veto(self, distribution: Distribution) -> None:
        await self.call("distributor", "veto", distribution.distribution_id)

    async def call(self, contract: str, function: str, *arguments: object) -> None:
        """The deployer, who is the guardian, calls a contract in a block of its own."""
        stage = self.deployment.stage
        target = {"token": self.token, "vault": stage.vault, "distributor": self.deployment.distributor}[contract]
        await self.mine(self.deployer.wallet.sign(target.address, target.call(function, *arguments)))

    async def as_admin(self, contract: str, function: str, *arguments: object) -> None:
        """The timelock calls a contract of ours."""
        ours = {"distributor": self.deployment.distributor, "claims": self.deployment.claims}
        target = ours.get(contract, self.deployment.stage.vault)
        await self.mine(*self.deployment.as_admin(target.address, target.call(function, *arguments)))

    @staticmethod
    def _log(stamp: BlockStamp, entry: dict[str, str]) -> Log:
        return Log(
            stamp,
            int(entry["logIndex"], 16),
            bytes.fromhex(entry["transactionHash"][2:]),
            int(entry["transactionIndex"], 16),
            Address(bytes.fromhex(entry["address"][2:])),
            tuple(bytes.fromhex(topic[2:]) for topic in entry["topics"]),
            bytes.fromhex(entry["data"][2:]),
            0,
        )


async def start_anvil(tmp_path: Path) -> AnvilScene:
    anvil = await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS_TIMESTAMP)
    try:
        deployer = Deployer(anvil, 1, genesis_timestamp=GENESIS_TIMESTAMP, step_s=STEP_S, epoch_s=3600)
        deployment = await deployer.deploy(2)
        keystore = tmp_path / "operator.json"
        keystore.write_text(deployment.operator.keystore("sesame"))
        rpc = EvmRpc([anvil.rpc_url])
        payer = EvmPayer(
            chain=CHAIN,
            chain_id=CHAIN_ID,
            rpc=rpc,
            signer=KeystoreSigner.load(keystore, "sesame"),
            vault=deployment.stage.vault.address,
            distributor=deployment.distributor.address,
            claims=deployment.claims.address,
            ceilings=FeeCeilings(max_fee=20 * GWEI, priority_fee=GWEI),
        )
        scene = AnvilScene(anvil, rpc, deployer, deployment, payer)
        vault = format_address(deployment.stage.vault.address)
        await scene.call("token", "mint", vault, 1_000_000 * UNIT)
    except BaseException:
        await anvil.stop()
        raise
    return scene


@pytest.fixture
async def anvil(tmp_path: Path) -> AsyncIterator[AnvilScene]:
    scene = await start_anvil(tmp_path)
    yield scene
    await scene.stop()


@pytest.fixture(params=["fake", "anvil"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    if request.param == "fake":
        yield FakeScene()
        return
    scene = await start_anvil(tmp_path)
    yield scene
    await scene.stop()


@pytest.fixture(params=["fake", "anvil", "svm"])
async def any_scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyScene]:
    if request.param == "fake":
        yield FakeScene()
    elif request.param == "anvil":
        scene = await start_anvil(tmp_path)
        yield scene
        await scene.stop()
    else:
        async with svm_scene() as svm:
            for payout in svm.payouts:
                svm.hold(payout.recipient)
            yield svm


# ── One distribution, by hand: what the stages do ───────────────────────────────────────────────────────────────────
def order_of(scene: AnyScene, window: int = 0) -> Order:
    total = sum(payout.amount for payout in scene.payouts)
    return Order(
        hashlib.sha256(b"%d" % window).digest(), CHAIN, "fees", scene.asset, window, window + 1, total, scene.payouts
    )


def plan(scene: AnyScene, window: int = 0) -> tuple[Distribution, list[Action]]:
    order = order_of(scene, window)
    batches: tuple[Batch, ...] = pack_batches(order.payouts, 2)
    distribution, calls = scene.payer.plan(order, batches)
    return distribution, [action_of(distribution, call) for call in calls]


def plan_claims(
    scene: Scene, window: int = 0, entitled: Mapping[Address, int] | None = None
) -> tuple[Distribution, list[Action]]:
    order = order_of(scene, window)
    distribution, calls = scene.payer.plan_claims(order, cumulate(entitled or {}, order.payouts))
    return distribution, [action_of(distribution, call) for call in calls]


def action_of(distribution: Distribution, call: PlannedCall) -> Action:
    return Action(
        call.ordinal,
        distribution.distribution_id,
        CHAIN,
        call.ordinal,
        call.kind,
        ActionState.PLANNED,
        None,
        call.target,
        call.payload,
        distribution.content_hash,
        0,
        distribution.leg,
    )


class Sender:
    """Signs and sends actions under nonces 0, 1, 2, …"""

    def __init__(self, scene: AnyScene) -> None:
        self.scene = scene
        self.nonce = 0

    async def sign(self, action: Action) -> Attempt:
        ready = await self.scene.payer.preflight(action, await self.scene.head())
        assert isinstance(ready, Ready), ready
        slot = Slot(1, self.scene.payer.account, self.nonce, ready.gas_limit, SlotState.LIVE)
        self.nonce += 1
        signed = await self.scene.payer.sign(action, slot, None)
        assert isinstance(signed, Signed)
        return Attempt(1, 0, signed, 0, sent=False, inclusion=None)

    async def land(self, action: Action) -> tuple[Attempt, Inclusion, list[Log]]:
        attempt = await self.sign(action)
        assert (await self.scene.payer.broadcast(attempt.signed.raw)).outcome is BroadcastOutcome.ACCEPTED
        _, logs = await self.scene.mine()
        [inclusion] = await self.scene.payer.inclusions(attempt.signed.tx_id)
        return attempt, inclusion, logs


async def bump(scene: Scene, action: Action, previous: Attempt, nonce: int) -> Attempt | None:
    slot = Slot(1, scene.payer.account, nonce, previous.signed.gas_limit, SlotState.LIVE)
    signed = await scene.payer.sign(action, slot, previous)
    assert not isinstance(signed, Refusal)
    return None if signed is None else dataclasses.replace(previous, signed=signed, ordinal=previous.ordinal + 1)


# ── The contract ────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_plan__same_order_twice__same_identity_and_bytes(any_scene: AnyScene):
    assert plan(any_scene) == plan(any_scene)
    distribution, actions = plan(any_scene)
    assert [action.kind for action in actions] == ["propose", "execute", "execute"]
    assert len({action.payload for action in actions}) == 3
    other, _ = plan(any_scene, window=1)
    assert other.distribution_id != distribution.distribution_id


async def test_plan__other_amounts__same_id_and_other_content(any_scene: AnyScene):
    distribution, _ = plan(any_scene)
    one = Payout(any_scene.payouts[0].recipient, 1)
    order = dataclasses.replace(order_of(any_scene), payouts=(one,), total=1)
    other, _ = any_scene.payer.plan(order, pack_batches(order.payouts, 2))
    assert other.distribution_id == distribution.distribution_id
    assert other.content_hash != distribution.content_hash


async def test_pay__proposal_and_batches__land_and_the_chain_says_so_by_block(any_scene: AnyScene):
    distribution, (propose, *batches) = plan(any_scene)
    payer, before, sender = any_scene.payer, await any_scene.head(), Sender(any_scene)
    assert await payer.proposed(propose, before) is None
    _, inclusion, logs = await sender.land(propose)
    assert inclusion.succeeded
    assert inclusion.block == await any_scene.head()
    assert inclusion.fee_paid > 0
    assert payer.settlement(propose, logs).executed
    assert await payer.proposed(propose, inclusion.block) == distribution.content_hash
    assert await payer.proposed(propose, before) is None
    for index, batch in enumerate(batches):
        assert not await payer.executed(batch, await any_scene.head())
        _, inclusion, logs = await sender.land(batch)
        assert inclusion.succeeded
        assert await payer.executed(batch, inclusion.block)
        assert payer.settlement(batch, logs).executed
        assert payer.settlement(batch, logs).credited == frozenset()
        assert not payer.settlement(batches[index - 1], logs).executed, "another batch's events do not count"


async def test_preflight__batch_before_its_proposal__refused_for_now(any_scene: AnyScene):
    _, (_, batch, _) = plan(any_scene)
    refusal = await any_scene.payer.preflight(batch, await any_scene.head())
    assert isinstance(refusal, Refusal)
    assert refusal.temporary


async def test_preflight__batch_that_was_executed__refused(any_scene: AnyScene):
    _, (propose, batch, _) = plan(any_scene)
    sender = Sender(any_scene)
    await sender.land(propose)
    await sender.land(batch)
    assert isinstance(await any_scene.payer.preflight(batch, await any_scene.head()), Refusal)
    assert isinstance(await any_scene.payer.preflight(propose, await any_scene.head()), Refusal)


async def waits(scene: Scene, action: Action) -> str:
    refusal = await scene.payer.preflight(action, await scene.head())
    assert isinstance(refusal, Refusal)
    assert refusal.temporary
    return refusal.reason


async def test_preflight__over_the_auto_limit__waits_for_the_approval_then_for_the_delay(scene: Scene):
    distribution, (propose, batch, _) = plan(scene)
    await scene.forbid_unapproved()
    sender = Sender(scene)
    await sender.land(propose)
    assert (await waits(scene, batch)).startswith(f"waits for approval of 0x{distribution.distribution_id.hex()}")
    await scene.approve(distribution)
    assert (await waits(scene, batch)).startswith("waits until ")
    scene.pass_time(GATE_DELAY_S)
    await scene.mine()
    _, inclusion, logs = await sender.land(batch)
    assert inclusion.succeeded
    assert scene.payer.settlement(batch, logs).executed


async def test_preflight__approval_expired__waits_for_a_new_one(scene: Scene):
    distribution, (propose, batch, last) = plan(scene)
    await scene.forbid_unapproved()
    sender = Sender(scene)
    await sender.land(propose)
    await scene.approve(distribution)
    scene.pass_time(GATE_DELAY_S)
    await scene.mine()
    await sender.land(batch)
    attempt = await sender.sign(last)
    scene.pass_time(APPROVAL_LIFETIME_S)
    await scene.mine()
    new = f"waits for a new approval of 0x{distribution.distribution_id.hex()}, the last one expired at "
    assert (await waits(scene, last)).startswith(new)
    await scene.payer.broadcast(attempt.signed.raw)
    await scene.mine()
    [inclusion] = await scene.payer.inclusions(attempt.signed.tx_id)
    assert not inclusion.succeeded
    await scene.approve(distribution)
    _, inclusion, _ = await sender.land(last)
    assert inclusion.succeeded


@pytest.mark.parametrize("proposed", [True, False], ids=["after_its_proposal", "before_it"])
async def test_preflight__vetoed__is_a_permanent_refusal(scene: Scene, proposed: bool):
    distribution, (propose, batch, _) = plan(scene)
    if proposed:
        await Sender(scene).land(propose)
    await scene.veto(distribution)
    refusal = await scene.payer.preflight(batch if proposed else propose, await scene.head())
    assert isinstance(refusal, Refusal)
    assert not refusal.temporary
    assert refusal.reason.startswith("vetoed by the guardian: ")


async def test_broadcast__same_bytes_again__known_and_then_nonce_too_low_or_known(any_scene: AnyScene):
    _, (propose, *_) = plan(any_scene)
    attempt = await Sender(any_scene).sign(propose)
    first = await any_scene.payer.broadcast(attempt.signed.raw)
    again = await any_scene.payer.broadcast(attempt.signed.raw)
    await any_scene.mine()
    late = await any_scene.payer.broadcast(attempt.signed.raw)
    assert first.outcome is BroadcastOutcome.ACCEPTED
    if isinstance(any_scene, SvmScene):  # nodes there pass on whatever they are sent
        assert (again.outcome, late.outcome) == (BroadcastOutcome.ACCEPTED, BroadcastOutcome.ACCEPTED)
    else:
        assert again.outcome is BroadcastOutcome.KNOWN
        assert late.outcome in (BroadcastOutcome.REJECTED, BroadcastOutcome.KNOWN)
    await any_scene.mine()
    assert len(await any_scene.payer.inclusions(attempt.signed.tx_id)) == 1


async def test_inclusions__not_mined__nothing_and_disowned(any_scene: AnyScene):
    _, (propose, *_) = plan(any_scene)
    attempt = await Sender(any_scene).sign(propose)
    await any_scene.payer.broadcast(attempt.signed.raw)
    assert await any_scene.payer.inclusions(attempt.signed.tx_id) == ()
    assert await any_scene.payer.disowned([attempt.signed.tx_id], await any_scene.head())
    await any_scene.mine()
    assert not await any_scene.payer.disowned(
        [_another(attempt.signed.tx_id), attempt.signed.tx_id], await any_scene.head()
    )


async def test_landed__mined_transaction__its_account_nonce_fees_and_receipt(any_scene: AnyScene):
    _, (propose, *_) = plan(any_scene)
    attempt = await Sender(any_scene).sign(propose)
    tx_id = attempt.signed.tx_id
    await any_scene.payer.broadcast(attempt.signed.raw)
    assert await any_scene.payer.landed(tx_id) is None
    await any_scene.mine()
    landed = await any_scene.payer.landed(tx_id)
    assert landed is not None
    assert landed.account == any_scene.payer.account
    assert landed.nonce == (None if isinstance(any_scene, SvmScene) else 0)
    assert landed.signed == dataclasses.replace(attempt.signed, raw=b"", valid_through=None)
    assert (landed.inclusion,) == await any_scene.payer.inclusions(tx_id)
    assert await any_scene.payer.landed(_another(tx_id)) is None


async def test_sign__replacement__an_eighth_more_same_nonce_and_one_of_the_two_lands(scene: Scene):
    _, (propose, *_) = plan(scene)
    first = await Sender(scene).sign(propose)
    await scene.payer.broadcast(first.signed.raw)
    second = await bump(scene, propose, first, nonce=0)
    assert second is not None
    assert second.signed.max_fee * 8 >= first.signed.max_fee * 9
    assert second.signed.priority_fee * 8 >= first.signed.priority_fee * 9
    assert (await scene.payer.broadcast(second.signed.raw)).outcome is BroadcastOutcome.ACCEPTED
    refused = await scene.payer.broadcast(first.signed.raw)
    assert refused.outcome is BroadcastOutcome.REJECTED, "other bytes hold the nonce"
    await scene.mine()
    assert await scene.payer.inclusions(first.signed.tx_id) == ()
    assert len(await scene.payer.inclusions(second.signed.tx_id)) == 1


async def test_sign__cancel__replaces_the_payment_and_does_nothing(scene: Scene):
    _, (propose, *_) = plan(scene)
    payment = await Sender(scene).sign(propose)
    await scene.payer.broadcast(payment.signed.raw)
    slot = Slot(1, scene.payer.account, 0, payment.signed.gas_limit, SlotState.LIVE)
    cancel = await scene.payer.sign(propose, slot, payment, Purpose.CANCEL)
    assert isinstance(cancel, Signed)
    assert cancel.purpose is Purpose.CANCEL
    assert (await scene.payer.broadcast(cancel.raw)).outcome is BroadcastOutcome.ACCEPTED
    _, logs = await scene.mine()
    [inclusion] = await scene.payer.inclusions(cancel.tx_id)
    assert (inclusion.succeeded, logs) == (True, [])
    assert await scene.payer.inclusions(payment.signed.tx_id) == ()
    assert await scene.payer.proposed(propose, inclusion.block) is None


async def test_sign__bumps_without_end__stop_at_the_ceiling(scene: Scene):
    _, (propose, *_) = plan(scene)
    attempt: Attempt | None = await Sender(scene).sign(propose)
    highest = 0
    for _ in range(200):
        assert attempt is not None
        highest = attempt.signed.max_fee
        attempt = await bump(scene, propose, attempt, nonce=0)
        if attempt is None:
            break
    assert attempt is None
    assert 0 < highest <= 20 * GWEI


async def test_reorg__receipt_is_gone__old_block_is_unknown_and_the_same_bytes_land_again(scene: Scene):
    distribution, (propose, *_) = plan(scene)
    attempt, inclusion, _ = await Sender(scene).land(propose)
    await scene.reorg(1)
    assert await scene.payer.inclusions(attempt.signed.tx_id) == ()
    with pytest.raises(RetryableError):
        await scene.payer.proposed(propose, inclusion.block)
    assert await scene.payer.proposed(propose, await scene.head()) is None
    assert (await scene.payer.broadcast(attempt.signed.raw)).outcome is BroadcastOutcome.ACCEPTED
    await scene.mine()
    [again] = await scene.payer.inclusions(attempt.signed.tx_id)
    assert again.block != inclusion.block
    assert await scene.payer.proposed(propose, again.block) == distribution.content_hash


# ── The other leg ───────────────────────────────────────────────────────────────────────────────────────────────────
async def test_claims__proposal_and_activation__land_and_the_chain_says_so_by_block(scene: Scene):
    distribution, (propose, activate) = plan_claims(scene)
    payer, before, sender = scene.payer, await scene.head(), Sender(scene)
    assert distribution == plan_claims(scene)[0]
    assert (distribution.leg, [batch.payouts for batch in distribution.batches]) == (Leg.CLAIM, [PAYOUTS])
    assert await payer.proposed(propose, before) is None
    assert isinstance(await payer.preflight(activate, before), Refusal)
    _, inclusion, logs = await sender.land(propose)
    assert payer.settlement(propose, logs).executed
    assert await payer.proposed(propose, inclusion.block) == distribution.content_hash
    assert not await payer.executed(activate, inclusion.block)
    _, inclusion, logs = await sender.land(activate)
    assert payer.settlement(activate, logs) == Settlement(executed=True, credited=frozenset())
    assert not payer.settlement(dataclasses.replace(activate, distribution_id=bytes(32)), logs).executed
    assert await payer.executed(activate, inclusion.block)
    assert not await payer.executed(activate, before)
    assert isinstance(await payer.preflight(activate, await scene.head()), Refusal)


async def test_claims__same_window_by_both_legs__each_knows_of_the_other(scene: Scene):
    pushed, (push, *_) = plan(scene)
    claimed, (claim, _) = plan_claims(scene)
    payer, sender = scene.payer, Sender(scene)
    assert pushed.distribution_id != claimed.distribution_id
    assert not await payer.proposed_otherwise(push, await scene.head())
    _, inclusion, _ = await sender.land(claim)
    assert await payer.proposed_otherwise(push, inclusion.block)
    assert not await payer.proposed_otherwise(claim, inclusion.block)
    _, (other, *_) = plan(scene, window=1)
    assert not await payer.proposed_otherwise(other, inclusion.block)
    _, inclusion, _ = await sender.land(push)
    assert await payer.proposed_otherwise(claim, inclusion.block)


async def test_claims__what_was_given_before__is_in_the_content(scene: Scene):
    first, _ = plan_claims(scene)
    later, _ = plan_claims(scene, entitled={ALICE: 1})
    assert first.distribution_id == later.distribution_id
    assert first.content_hash != later.content_hash


async def test_claims__our_contracts__are_never_recipients(scene: Scene):
    assert scene.payer.claims in scene.payer.forbidden_recipients(scene.asset)


async def test_evm__two_trees_in_a_row__everyone_claims_all_from_the_newer_one(anvil: AnvilScene):
    sender, claims, token = Sender(anvil), anvil.deployment.claims, anvil.token
    _, (propose, activate) = plan_claims(anvil)
    await sender.land(propose)
    await sender.land(activate)
    given = {payout.recipient: payout.amount for payout in PAYOUTS}
    _, (propose, activate) = plan_claims(anvil, 1, given)
    await sender.land(propose)
    await sender.land(activate)
    anvil.pass_time(ACTIVATION_DELAY_S)
    leaves = [(account, 2 * amount) for account, amount in given.items()]
    tree = ClaimSet.build(CHAIN_ID, claims.address, token.address, leaves)
    for account, amount in leaves:
        claim = tree.claim(account)
        call = claims.call("claim", *map(format_address, (account, token.address)), claim.cumulative, claim.proof)
        await anvil.mine(anvil.deployment.claimant.sign(claims.address, call))
        assert int.from_bytes(await anvil.anvil.view(token, "balanceOf", format_address(account))) == amount


async def test_evm__tree_that_forgets_what_was_given_before__is_refused_for_good(anvil: AnvilScene):
    sender = Sender(anvil)
    _, (propose, activate) = plan_claims(anvil)
    await sender.land(propose)
    await sender.land(activate)
    _, (propose, _) = plan_claims(anvil, 1)
    refusal = await anvil.payer.preflight(propose, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert not refusal.temporary
    assert "CumulativeTotalMismatch" in refusal.reason


async def test_evm__tree_before_the_one_before_can_be_claimed__waits_with_the_time(anvil: AnvilScene):
    await anvil.as_admin("claims", "setActivationDelay", 3600)
    sender = Sender(anvil)
    _, (propose, activate) = plan_claims(anvil)
    await sender.land(propose)
    await sender.land(activate)
    _, (propose, activate) = plan_claims(anvil, 1, {payout.recipient: payout.amount for payout in PAYOUTS})
    await sender.land(propose)
    refusal = await anvil.payer.preflight(activate, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert refusal.temporary
    assert "the root before waits until 2030-" in refusal.reason
    anvil.pass_time(3600)
    await anvil.mine()
    assert isinstance(await anvil.payer.preflight(activate, await anvil.head()), Ready)


async def test_evm__uri__is_told_with_the_proposal(anvil: AnvilScene):
    assert isinstance(anvil.payer, EvmPayer)
    anvil.payer._claims_uri = "https://claims.example/"
    distribution, (propose, _) = plan_claims(anvil)
    _, _, [log, *_] = await Sender(anvil).land(propose)
    assert f"https://claims.example/0x{distribution.distribution_id.hex()}/".encode() in log.data


# ── Our contracts ───────────────────────────────────────────────────────────────────────────────────────────────────
async def test_evm__ids_and_hashes__agree_with_the_contracts(anvil: AnvilScene):
    distribution, (propose, batch, _) = plan(anvil)
    sender = Sender(anvil)
    await sender.land(propose)  # the contract computes id and content hash itself
    assert await anvil.payer.proposed(propose, await anvil.head()) == distribution.content_hash
    await sender.land(batch)  # and checks the batch's hash
    balance = await anvil.anvil.view(anvil.token, "balanceOf", format_address(ALICE))
    assert int.from_bytes(balance) == 5 * UNIT


async def test_evm__recipient_is_blocked_by_the_token__credited(anvil: AnvilScene):
    _, (propose, batch, _) = plan(anvil)
    await anvil.call("token", "setBlocked", format_address(BOB), True)
    sender = Sender(anvil)
    await sender.land(propose)
    _, inclusion, logs = await sender.land(batch)
    assert inclusion.succeeded
    settlement = anvil.payer.settlement(batch, logs)
    assert settlement.executed
    assert settlement.credited == {BOB}


async def test_evm__vault_is_paused__waits_and_says_so(anvil: AnvilScene):
    _, (propose, batch, _) = plan(anvil)
    await Sender(anvil).land(propose)
    await anvil.call("vault", "pause")
    refusal = await anvil.payer.preflight(batch, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert refusal.temporary
    assert refusal.reason.startswith("the vault is paused: VaultPaused(")


async def test_evm__cap_is_used_up__waits_with_the_figures(anvil: AnvilScene):
    _, (propose, batch, _) = plan(anvil)
    await Sender(anvil).land(propose)
    await anvil.as_admin("vault", "setLimits", format_address(anvil.token.address), 0, 10 * UNIT)
    refusal = await anvil.payer.preflight(batch, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert refusal.temporary
    assert f"needed={11 * UNIT}, available={10 * UNIT}" in refusal.reason


@pytest.mark.parametrize(("base_fee", "kind"), [(True, "0x2"), (False, "0x0")], ids=["eip1559", "legacy"])
async def test_evm__chain_with_and_without_a_base_fee__paid_bumped_and_cancelled_in_its_kind_of_transaction(
    anvil: AnvilScene, monkeypatch: pytest.MonkeyPatch, base_fee: bool, kind: str
):
    """Anvil takes legacy transactions too; that its headers have a base fee is hidden from the payer."""
    ask = anvil.rpc.call_on

    async def call_on(endpoint: Endpoint, method: str, params: Sequence[object] = ()) -> object:
        answer = await ask(endpoint, method, params)
        if method.startswith("eth_getBlock") and not base_fee:
            del answer["baseFeePerGas"]
        return answer

    monkeypatch.setattr(anvil.rpc, "call_on", call_on)
    distribution, (propose, batch, _) = plan(anvil)
    sender = Sender(anvil)
    first = await sender.sign(propose)
    await anvil.payer.broadcast(first.signed.raw)
    second = await bump(anvil, propose, first, nonce=0)
    assert second is not None
    assert (await anvil.payer.broadcast(second.signed.raw)).outcome is BroadcastOutcome.ACCEPTED
    await anvil.mine()
    assert await anvil.payer.proposed(propose, await anvil.head()) == distribution.content_hash
    payment = await sender.sign(batch)
    slot = Slot(1, anvil.payer.account, 1, payment.signed.gas_limit, SlotState.LIVE)
    cancel = await anvil.payer.sign(batch, slot, payment, Purpose.CANCEL)
    assert isinstance(cancel, Signed)
    assert (await anvil.payer.broadcast(cancel.raw)).outcome is BroadcastOutcome.ACCEPTED
    await anvil.mine()
    for tx_id in (second.signed.tx_id, cancel.tx_id):
        sent = await anvil.anvil.call("eth_getTransactionByHash", "0x" + tx_id.hex())
        assert sent["type"] == kind
        settled = await anvil.payer.settled(tx_id)
        assert settled is not None
        assert settled.succeeded


async def test_evm__tampered_batch__is_a_permanent_refusal_by_name(anvil: AnvilScene):
    _, (propose, batch, _) = plan(anvil)
    await Sender(anvil).land(propose)
    tampered = dataclasses.replace(batch, payload=batch.payload[:-1] + b"\x01")
    refusal = await anvil.payer.preflight(tampered, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert not refusal.temporary
    assert "BatchHashMismatch(" in refusal.reason


def crowd(scene: AnvilScene, *bad: Address) -> tuple[Distribution, list[Action]]:
    """A batch of eleven, and whom the contract will not pay: something that no rule's check lets through."""
    recipients = [*(Address(bytes([n]) * 20) for n in range(0xB1, 0xBC)), *bad]
    payouts = tuple(Payout(recipient, UNIT) for recipient in recipients)
    order = dataclasses.replace(order_of(scene), payouts=payouts, total=UNIT * len(payouts))
    distribution, calls = scene.payer.plan(order, pack_batches(payouts, 50))
    return distribution, [action_of(distribution, call) for call in calls]


@contextlib.asynccontextmanager
async def payer_at(anvil: AnvilScene, tmp_path: Path, *urls: str) -> AsyncIterator[EvmPayer]:
    """The scene's payer, with other endpoints."""
    rpc = EvmRpc(urls, timeout_ms=2000)
    try:
        yield EvmPayer(
            chain=CHAIN,
            chain_id=CHAIN_ID,
            rpc=rpc,
            signer=KeystoreSigner.load(tmp_path / "operator.json", "sesame"),
            vault=anvil.deployment.stage.vault.address,
            distributor=anvil.deployment.distributor.address,
            ceilings=FeeCeilings(20 * GWEI, GWEI),
        )
    finally:
        await rpc.close()


@dataclasses.dataclass
class Limited(Proxy):
    """Before Anvil: a node that knows less."""

    simulates: bool
    overrides: bool | None  # None: it does not look at a third parameter of eth_call, and says nothing of it

    def __post_init__(self) -> None:
        super().__init__("")
        self.used: set[str] = set()

    async def _ask(self, body: bytes) -> bytes:
        call = orjson.loads(body)
        if isinstance(call, dict):
            method, more = call["method"], call["params"][2:]
            if method == "eth_simulateV1" and not self.simulates:
                return self._refuse(call, -32601, "the method eth_simulateV1 does not exist/is not available")
            if method == "eth_call" and more and self.overrides is False:
                return self._refuse(call, -32602, "too many arguments, want at most 2")
            if method == "eth_call" and self.overrides is None:
                body = orjson.dumps(call | {"params": call["params"][:2]})
            self.used |= {"simulated"} if method == "eth_simulateV1" else {"on another state"} if more else set()
        return await super()._ask(body)

    def _refuse(self, call: dict[str, object], code: int, message: str) -> bytes:
        return orjson.dumps({"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}})


NODES = {
    "that simulates": (Limited(simulates=True, overrides=False), {"simulated"}, True),
    "that takes another state": (Limited(simulates=False, overrides=True), {"on another state"}, True),
    "that knows neither": (Limited(simulates=False, overrides=False), set(), False),
    "that overlooks another state": (Limited(simulates=False, overrides=None), {"on another state"}, False),
}


@pytest.mark.parametrize("approval", [False, True], ids=["under_the_auto_limit", "above_it"])
@pytest.mark.parametrize("kind", NODES)
async def test_evm__batch_that_some_recipient_makes_revert__held_with_the_name_where_a_node_can_tell(
    anvil: AnvilScene, tmp_path: Path, kind: str, approval: bool
):
    node, used, named = NODES[kind]
    distributor = anvil.deployment.distributor.address
    distribution, (propose, batch) = crowd(anvil, distributor)
    if approval:
        await anvil.forbid_unapproved()
    await Sender(anvil).land(propose)
    if approval:
        await anvil.approve(distribution)
        anvil.pass_time(GATE_DELAY_S)
        await anvil.mine()
    node.node, node.used = anvil.anvil.rpc_url, set()
    async with node.running(), payer_at(anvil, tmp_path, node.url) as payer:
        refusal = await payer.preflight(batch, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert not refusal.temporary
    name = f"; for {format_address(distributor)}" if named else ""
    assert refusal.reason == f"would revert: InvalidRecipient(recipient={format_address(distributor)}){name}"
    assert node.used == used


async def test_evm__proposal_of_one_batch__in_storage_where_the_layout_says(anvil: AnvilScene):
    """What a part is tried on is what the contract itself would have written."""
    distribution, (propose, batch) = crowd(anvil)
    await Sender(anvil).land(propose)
    id_, layout = distribution.distribution_id, Layout.load("Distributor")
    proposal = {
        "contentHash": int.from_bytes(distribution.content_hash),
        "left": distribution.batches[0].total,
        "token": int.from_bytes(anvil.token.address),
        "batchCount": 1,
        "executedCount": 0,
        "recipientsLeft": len(distribution.batches[0].payouts),
    }
    latest = await anvil.anvil.call("eth_getBlockByNumber", "latest", False)
    gate = {"readyAt": int(latest["timestamp"], 16), "expiresAt": NEVER, "vetoed": 0}
    for slot, word in {
        **layout.words("_gates", [id_], gate),
        **layout.words("_proposals", [id_], proposal),
        **layout.words("_batchHashes", [id_, bytes(32)], int.from_bytes(keccak(batch.payload[4:]))),
    }.items():
        stored = await anvil.anvil.call(
            "eth_getStorageAt", format_address(anvil.deployment.distributor.address), "0x" + slot.hex(), "latest"
        )
        assert stored == "0x" + word.hex()


def test_layout__value_that_has_no_room_or_no_place__refused():
    layout = Layout.load("Distributor")
    with pytest.raises(OverflowError):
        layout.words("_gates", [bytes(32)], {"readyAt": 2**64})
    with pytest.raises(KeyError):
        layout.words("_gates", [bytes(32)], {"openedAt": 1})


async def test_evm__tampered_batch__nobody_is_blamed(anvil: AnvilScene):
    """The hash is wrong whoever is paid: under its own id each part would pass."""
    _, (propose, batch) = crowd(anvil)
    await Sender(anvil).land(propose)
    tampered = dataclasses.replace(batch, payload=batch.payload[:-1] + b"\x01")
    refusal = await anvil.payer.preflight(tampered, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert "; for 0x" not in refusal.reason


async def test_evm__no_gas_money__waits_and_names_the_account(anvil: AnvilScene):
    _, (propose, *_) = plan(anvil)
    await anvil.anvil.call("anvil_setBalance", format_address(anvil.payer.account), "0x1")
    await anvil.mine()
    refusal = await anvil.payer.preflight(propose, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert refusal.temporary
    assert "low gas balance" in refusal.reason


async def test_evm__rollup__what_it_takes_beside_gas_is_needed_too(anvil: AnvilScene):
    """The chain's own contract asks a price for each byte that it is called with."""
    byte = 10**13
    code = "0x36" + "65" + byte.to_bytes(6).hex() + "025f5260205ff3"  # CALLDATASIZE × price, as one word
    _, (propose, *_) = plan(anvil)
    account = format_address(anvil.payer.account)
    await anvil.anvil.call("anvil_setCode", "0x420000000000000000000000000000000000000f", code)
    await anvil.anvil.call("anvil_setBalance", account, "0x1")
    await anvil.mine()
    refusal = await anvil.payer.preflight(propose, await anvil.head())
    assert isinstance(refusal, Refusal)
    asked = 4 + 2 * 32 + -(-(len(propose.payload) + FIELDS_BYTES) // 32) * 32  # a function's name, and bytes
    beside = asked * byte * 5 // 4 + 36 * byte  # and of the operator fee, a function's name and a number
    need = int(refusal.reason.partition("needs ")[2].partition(",")[0])
    assert refusal.temporary
    assert f"needs {need}, {beside} of it for what the chain takes beside gas" in refusal.reason
    for balance, ready in ((need - beside // 2, False), (need, True)):  # gas is a bit cheaper with each empty block
        await anvil.anvil.call("anvil_setBalance", account, hex(balance))
        await anvil.mine()
        assert isinstance(await anvil.payer.preflight(propose, await anvil.head()), Ready) == ready


async def test_evm__gas_is_dearer_than_the_ceiling__waits(anvil: AnvilScene):
    _, (propose, *_) = plan(anvil)
    await anvil.anvil.call("anvil_setNextBlockBaseFeePerGas", hex(30 * GWEI))
    await anvil.mine()
    refusal = await anvil.payer.preflight(propose, await anvil.head())
    assert isinstance(refusal, Refusal)
    assert refusal.temporary
    assert "max_fee_per_gas" in refusal.reason


async def test_evm__one_endpoint_is_dead__the_other_takes_it_and_nobody_disowns(anvil: AnvilScene, tmp_path: Path):
    async with payer_at(anvil, tmp_path, "http://127.0.0.1:9", anvil.anvil.rpc_url) as half_dead:
        _, (propose, *_) = plan(anvil)
        attempt = await Sender(anvil).sign(propose)
        assert (await half_dead.broadcast(attempt.signed.raw)).outcome is BroadcastOutcome.ACCEPTED
        assert not await half_dead.disowned([attempt.signed.tx_id], await anvil.head())
        await anvil.mine()
        assert len(await half_dead.inclusions(attempt.signed.tx_id)) == 1


RECEIPT = {
    "blockNumber": "0x5",
    "blockHash": "0x" + "ab" * 32,
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x7",
}
NONSENSE: list[object] = [
    5,
    [RECEIPT],
    "0x1",
    RECEIPT | {"blockHash": 5},
    RECEIPT | {"blockHash": "0xzz"},
    RECEIPT | {"blockHash": "0xab"},
    RECEIPT | {"status": None},
    RECEIPT | {"gasUsed": "0x"},
    {key: value for key, value in RECEIPT.items() if key != "effectiveGasPrice"},
]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_evm__receipt_that_is_none__no_evidence_and_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nonsense: object
):
    """One endpoint gone mad neither stops the daemon nor hides what another one knows."""
    rpc = EvmRpc(["http://mad.example", "http://sane.example"])
    said: list[object] = [nonsense, RECEIPT]

    async def ask(method: str, params: object) -> list[Answer]:
        return [Answer(endpoint, result, None) for endpoint, result in zip(rpc.endpoints, said, strict=True)]

    monkeypatch.setattr(rpc, "call_on_each", ask)
    wallet = Wallet.derive(1, "operator")
    (tmp_path / "operator.json").write_text(wallet.keystore("sesame"))
    payer = EvmPayer(
        chain=CHAIN,
        chain_id=CHAIN_ID,
        rpc=rpc,
        signer=KeystoreSigner.load(tmp_path / "operator.json", "sesame"),
        vault=Address(b"\x01" * 20),
        distributor=Address(b"\x02" * 20),
        ceilings=FeeCeilings(max_fee=20 * GWEI, priority_fee=GWEI),
    )
    sane = Inclusion(BlockStamp(CHAIN, 5, b"\xab" * 32), True, 21_000, 147_000)
    assert await payer.inclusions(b"\x01" * 32) == (sane,)
    said[1] = None
    with pytest.raises(RetryableError, match=r"mad\.example|quantity"):
        await payer.inclusions(b"\x01" * 32)


def _another(tx_id: bytes) -> bytes:
    """One that no transaction has."""
    return b"\x01" * len(tx_id)
