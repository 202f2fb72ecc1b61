"""Sets that are claimed: planned one after another, published before they are proposed, counted once."""

from __future__ import annotations

import pytest

from bridge.domain.errors import HoldError, RefusedError
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Leg
from bridge.domain.units import Address
from bridge.runtime.crashpoints import CrashPoint
from bridge.stages import publish
from bridge.stages.intervene import intervene
from bridge.stages.publish import Publish
from bridge.store.database import Database
from bridge.store.payouts import AWAITS_PROOFS
from tests.stages.sending import CHAIN, CLAIMS, TOKEN, SendingWorld, recipients
from tests.stages.shelf import Shelf

ABOVE = 2
ALICE, BOB, CAROL, DAVE = recipients(4)


class ClaimWorld(SendingWorld):
    shelf: Shelf
    publisher: Publish

    def open(self, *, above: int | None = ABOVE) -> None:
        """Stages as after a restart, with the same disk."""
        self.payer.claims = CLAIMS
        self.start(claims_above=above)
        self.shelf = getattr(self, "shelf", None) or Shelf(self.payer, {})
        self.publisher = Publish(database=self.database, chain=CHAIN, files=self.shelf, lease=self.lease)

    async def publish(self) -> None:
        while await self.publisher.step():
            pass

    async def settle(self, blocks: int = 8) -> None:
        for _ in range(blocks):
            await self.publish()
            await self.advance()

    async def tree(self, window: int) -> dict[Address, int]:
        found = self.shelf.trees[(await self.summary(window)).distribution_id]
        return {leaf.recipient: leaf.amount for leaf in found}

    async def entitled(self) -> dict[Address, int]:
        async with self.database.snapshot() as transaction:
            return await transaction.claims.entitled(CHAIN, CLAIMS, TOKEN)


@pytest.fixture
async def world(database: Database) -> ClaimWorld:
    world = await ClaimWorld.create(database)
    world.open()
    return world


async def test_claims__set_above_the_limit__waits_for_its_proofs_then_is_activated_once(world: ClaimWorld):
    await world.decide([5, 6, 7])
    await world.advance(2)
    summary = await world.summary()
    assert (summary.leg, summary.batches, summary.recipients, summary.state) == (Leg.CLAIM, 1, 3, "planned")
    assert await world.reasons() == [AWAITS_PROOFS, AWAITS_PROOFS]
    assert world.payer.pool == {}, "nothing may be proposed that nobody can look at"
    await world.settle()
    summary = await world.summary()
    assert (summary.state, summary.claimable_total, summary.paid_total) == ("final", 18, 0)
    assert await world.entitled() == await world.tree(0) == {ALICE: 5, BOB: 6, CAROL: 7}
    assert await world.rows("SELECT DISTINCT outcome FROM payouts") == [("claimable",)]
    world.assert_paid_once(1)


async def test_claims__more_accounts_than_one_statement_takes__all_of_them_once(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bridge.store.claims.ROWS_AT_ONCE", 2)
    await world.decide([1, 2, 3, 4, 5])
    await world.settle()
    assert list((await world.entitled()).values()) == [1, 2, 3, 4, 5]
    assert (await world.summary()).claimable_total == 15


async def test_claims__set_at_the_limit__is_pushed(world: ClaimWorld):
    await world.decide([5, 6])
    await world.settle()
    summary = await world.summary()
    assert (summary.leg, summary.state, summary.paid_total) == (Leg.PUSH, "final", 11)
    assert (await world.entitled(), world.shelf.trees) == ({}, {})


async def test_claims__next_set_of_the_token__waits_and_adds_to_what_was_given_before(world: ClaimWorld):
    await world.decide([5, 6, 7], window=0)
    await world.decide([1, 2, 3], window=1, to=[BOB, CAROL, DAVE])
    await world.decide([4, 4], window=2)  # small: does not wait behind the trees
    await world.publish()
    await world.advance(2)
    planned = await world.rows("SELECT e.window_start FROM distributions JOIN decisions e USING (decision_id)")
    assert sorted(planned) == [(0,), (2,)]
    async with world.database.snapshot() as transaction:
        [waits] = [one.reason for one in (await transaction.status.read()).waiting if one.kind == "decision"]
    first = (await world.summary(0)).distribution_id.hex()
    assert waits == f"fees: waits until claim distribution 0x{first} is over"
    await world.settle(16)
    assert await world.rows("SELECT DISTINCT state FROM distribution_states") == [("final",)]
    assert await world.tree(0) == {ALICE: 5, BOB: 6, CAROL: 7}
    assert await world.entitled() == await world.tree(1) == {ALICE: 5, BOB: 7, CAROL: 9, DAVE: 3}
    async with world.database.snapshot() as transaction:
        assert len(await transaction.claims.leaves((await world.summary(1)).distribution_id)) == 4
        with pytest.raises(RefusedError, match="not the newest"):
            await transaction.claims.leaves((await world.summary(0)).distribution_id)


async def test_claims__set_that_is_given_up__is_in_no_later_tree(world: ClaimWorld):
    await world.decide([5, 6, 7], window=0)
    await world.decide([1, 2, 3], window=1, to=[BOB, CAROL, DAVE])
    await world.advance()
    identity = (await world.summary(0)).distribution_id.hex()
    for kind in (InterventionKind.HOLD, InterventionKind.CANCEL):
        await intervene(world.database, kind, identity, None, reason="wrong", by="test")
    await world.advance()
    await world.settle(12)
    assert (await world.summary(0)).state == "void"
    assert (await world.summary(1)).state == "final"
    assert await world.entitled() == await world.tree(1) == {BOB: 1, CAROL: 2, DAVE: 3}
    assert len(world.shelf.trees) == 1, "what was given up before its proofs were there is never published"


async def test_claims__reorg_of_the_activation__counts_once(world: ClaimWorld):
    await world.decide([5, 6, 7])
    await world.publish()
    await world.advance()
    await world.publish()
    for _ in range(10):
        await world.advance()
        if (await world.states())[1] == "included":
            await world.reorg(1)
            await world.work()
            assert (await world.states())[1] == "broadcast"
            break
    await world.settle()
    assert (await world.summary()).state == "final"
    assert await world.entitled() == {ALICE: 5, BOB: 6, CAROL: 7}


async def test_publish__dies_before_it_is_recorded__published_again_and_goes_on(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
):
    def die(point: CrashPoint) -> None:
        if point is CrashPoint.PROOFS_WRITTEN_NOT_RECORDED:
            raise KeyboardInterrupt

    await world.decide([5, 6, 7])
    await world.advance()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publish, "reach", die)
        await world.publisher.step()
    assert (world.shelf.written, await world.reasons()) == (1, [AWAITS_PROOFS, AWAITS_PROOFS])
    world.open()
    await world.settle()
    assert (await world.summary()).state == "final"


async def test_publish__another_disk__has_the_newest_tree_again_activated_or_not(world: ClaimWorld):
    await world.decide([5, 6, 7], window=0)
    await world.advance()
    await world.publish()
    before = await world.tree(0)
    for _ in range(2):  # planned first, then activated
        world.shelf.trees.clear()
        world.open()
        await world.publish()
        assert await world.tree(0) == before
        await world.settle()
    assert (await world.summary()).state == "final"


async def test_claims__database_is_lost__the_same_trees_are_found_executed(world: ClaimWorld):
    await world.decide([5, 6, 7], window=0)
    await world.decide([1, 2, 3], window=1, to=[BOB, CAROL, DAVE])
    await world.settle(16)
    entitled, trees = await world.entitled(), dict(world.shelf.trees)
    await world.forget_payouts()
    world.open()
    await world.settle(16)
    assert await world.rows("SELECT DISTINCT state FROM distribution_states") == [("final",)]
    assert (await world.entitled(), world.shelf.trees) == (entitled, trees)
    world.assert_paid_once(2)


@pytest.mark.parametrize(("before", "after"), [(None, ABOVE), (ABOVE, None)])
async def test_claims__database_is_lost_and_the_limit_was_changed__held_not_paid_by_the_other_leg(
    world: ClaimWorld, before: int | None, after: int | None
):
    world.open(above=before)
    await world.decide([5, 6, 7])
    await world.settle()
    paid = world.payer.paid()
    await world.forget_payouts()
    world.open(above=after)
    await world.settle()
    assert (await world.states())[0] == "held"
    [reason, *_] = await world.reasons()
    assert reason is not None
    assert "by the other leg" in reason
    assert world.payer.paid() == paid
    # The mend that the reason names: the row of the other leg is given up, and the window is decided paid.
    identity = (await world.summary()).distribution_id.hex()
    await intervene(world.database, InterventionKind.CANCEL, identity, None, reason="restored", by="test")
    await world.settle()
    assert (await world.summary()).state == "void"


async def test_claims__rows_were_changed_before_publishing__held(world: ClaimWorld):
    await world.decide([5, 6, 7])
    await world.advance()
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE payouts SET amount = amount + 1 WHERE recipient = $1", ALICE)
    with pytest.raises(HoldError, match="another tree"):
        await world.publish()
    assert world.payer.pool == {}


async def test_claims__activation_alone_is_given_up__so_is_its_waiting_proposal(world: ClaimWorld):
    await world.decide([5, 6, 7], window=0)
    await world.decide([1, 2, 3], window=1)
    await world.advance()
    identity = (await world.summary(0)).distribution_id.hex()
    for kind in (InterventionKind.HOLD, InterventionKind.CANCEL):
        await intervene(world.database, kind, identity, 0, reason="wrong", by="test")
    await world.advance()
    await world.settle(12)
    assert await world.states(0) == ["void", "void"]
    assert (await world.summary(1)).state == "final"
    assert list((await world.entitled()).values()) == [1, 2, 3]


async def test_claims__proposal_held_while_its_activation_is_given_up__given_up_when_released(world: ClaimWorld):
    await world.decide([5, 6, 7], window=0)
    await world.advance()
    proposal, activation = [str(step) for (step,) in await world.rows("SELECT action_id FROM actions ORDER BY ordinal")]
    for kind, step in (
        (InterventionKind.HOLD, proposal),
        (InterventionKind.HOLD, activation),
        (InterventionKind.CANCEL, activation),
        (InterventionKind.RELEASE, proposal),
    ):
        await intervene(world.database, kind, step, None, reason="wrong", by="test")
        await world.settle(2)
    await world.settle(12)
    assert await world.states(0) == ["void", "void"]
