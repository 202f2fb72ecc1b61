"""What a person orders while the daemon runs, stands still or dies: recorded, done once, or refused with a reason."""

from __future__ import annotations

import pytest

from bridge.domain.errors import ConfigError, RefusedError
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Refusal
from bridge.runtime import crashpoints
from bridge.runtime.crashpoints import CrashPoint
from bridge.stages.intervene import Order, intervene
from bridge.store.database import Database
from tests.stages.sending import SendingWorld

HOLD, RELEASE, BUMP, CANCEL = InterventionKind


@pytest.fixture
async def world(database: Database) -> SendingWorld:
    world = await SendingWorld.create(database)
    await world.decide([5, 6, 7])
    return world


async def order(world: SendingWorld, kind: InterventionKind, batch: int | None = None, window: int = 0) -> list[Order]:
    distribution = (await world.summary(window)).distribution_id.hex()
    return await intervene(world.database, kind, distribution, batch, reason="as agreed", by="alice")


async def order_step(world: SendingWorld, kind: InterventionKind, ordinal: int) -> str | None:
    """Why it was not taken."""
    step = (await world.summary()).steps[ordinal]
    [made] = await intervene(world.database, kind, str(step.action_id), None, reason="as agreed", by="alice")
    return made.refused


async def answers(world: SendingWorld) -> list[tuple[object, ...]]:
    return await world.rows("SELECT kind, answer FROM interventions ORDER BY intervention_id")


async def transitions(world: SendingWorld, ordinal: int) -> list[tuple[object, ...]]:
    return await world.rows(
        "SELECT from_state, to_state, c.reason FROM confirmations c JOIN actions USING (action_id) "
        f"WHERE ordinal = {ordinal} ORDER BY confirmation_id"
    )


# ── Hold and release ────────────────────────────────────────────────────────────────────────────────────────────────
async def test_approval__decision_above_the_rules_threshold__waits_for_a_person(world: SendingWorld):
    await world.decide([50], window=1, approval="50 is above approve_above of 40")
    await world.advance(8)
    assert (await world.summary(0)).state == "final"
    large = await world.summary(1)
    assert [step.state for step in large.steps] == ["held", "planned"]
    assert large.steps[0].reason is not None
    assert large.steps[0].reason.startswith("50 is above approve_above of 40; read it with `bridge explain`")
    assert (await order(world, RELEASE, window=1))[0].refused is None
    await world.advance(8)
    assert (await world.summary(1)).state == "final"
    assert len(world.payer.paid()) == 3


async def test_hold__planned_steps__nothing_is_signed_until_released(world: SendingWorld):
    world.payer.faults.refusal = Refusal("the vault is paused", temporary=True)
    await world.work()
    assert [one.refused for one in await order(world, HOLD)] == [None, None, None]
    world.payer.faults.refusal = None
    await world.advance(4)
    assert await world.states() == ["held"] * 3
    assert await world.reasons() == ["held by alice: as agreed"] * 3
    assert await world.rows("SELECT count(*) FROM slots") == [(0,)]
    await order(world, RELEASE)
    await world.advance(8)
    assert await world.states() == ["final"] * 3
    world.assert_paid_once(2)
    assert ("held", "planned", "released by alice: as agreed") in await transitions(world, 1)
    assert await answers(world) == [("hold", "done")] * 3 + [("release", "done")] * 3


async def test_hold__live_nonce__refused_and_says_what_is_possible(world: SendingWorld):
    await world.work()
    assert await order_step(world, HOLD, 0) == (
        "hold is not possible while it is broadcast: it may land at any time: `bump` or `cancel` replaces it"
    )
    assert await order_step(world, HOLD, 1) is None
    await world.advance(8)
    assert await world.states() == ["final", "held", "final"]


async def test_hold__step_that_reverted_before__is_not_released_by_itself(world: SendingWorld):
    """Reverted steps are tried again by themselves; one that a person held since then is not."""
    await world.work()
    world.payer.faults.reverts = True
    await world.mine()
    world.payer.faults.reverts = False
    world.payer.faults.refusal = Refusal("the vault is paused", temporary=True)
    await world.advance(4)
    assert (await world.states())[0] == "planned"
    assert await order_step(world, HOLD, 0) is None
    world.payer.faults.refusal = None
    await world.advance(6)
    assert (await world.states())[0] == "held"


async def test_release__held_for_good_by_the_preflight_after_a_revert__no_flapping(world: SendingWorld):
    await world.work()
    world.payer.faults.reverts = True
    await world.mine()
    world.payer.faults.refusal = Refusal("would revert", temporary=False)
    await world.advance(8)
    assert (await world.states())[0] == "held"
    assert [to for _, to, _ in await transitions(world, 0)].count("held") == 2


async def test_release__reverted_too_often__gets_another_nonce(world: SendingWorld):
    world.payer.faults.reverts = True
    await world.advance(20)
    assert (await world.states())[0] == "held"
    assert await world.rows("SELECT count(*) FROM slots") == [(3,)]
    world.payer.faults.reverts = False
    assert await order_step(world, RELEASE, 0) is None
    await world.advance(8)
    assert await world.states() == ["final"] * 3
    world.assert_paid_once(2)


async def test_release__chain_executed_it_meanwhile__final_and_not_paid_again(world: SendingWorld):
    await world.advance(3)
    await world.reorg(2)
    world.payer.pool.clear()
    world.payer.faults.lose_broadcasts = True
    world.payer.faults.refusal = Refusal("would revert", temporary=False)
    [(payload,)] = await world.rows("SELECT payload FROM actions WHERE ordinal = 1")
    assert isinstance(payload, bytes)
    async with world.database.begin() as transaction:  # as if this batch had been held before it was signed
        execute = transaction.connection.execute
        await execute("DELETE FROM attempts WHERE slot_id IN (SELECT slot_id FROM slots WHERE nonce > 0)")
        await execute("DELETE FROM slots WHERE nonce > 0")
        await execute("UPDATE senders SET next_nonce = 1")
        await execute("SET LOCAL session_replication_role = replica")
        await execute("UPDATE actions SET state = 'held', reason = 'test' WHERE ordinal > 0")
    world.payer.faults.lose_broadcasts = False
    await world.advance(2)
    world.payer.spend_nonce(payload)
    await world.advance(4)
    assert await order_step(world, RELEASE, 1) is None
    await world.advance(2)
    assert (await world.states())[1] == "final"
    assert world.payer.paid()[(await world.summary()).distribution_id, 0] == 1


# ── Bump ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_bump__broadcast__one_more_attempt_at_once_and_one_of_them_lands(world: SendingWorld):
    await world.work()
    assert await order_step(world, BUMP, 0) is None
    await world.work()
    assert await world.rows("SELECT ordinal, purpose FROM attempts ORDER BY ordinal") == [(0, "pay"), (1, "pay")]
    assert len(world.payer.pool) == 1
    await world.advance(8)
    assert await world.states() == ["final"] * 3
    world.assert_paid_once(2)
    assert await answers(world) == [("bump", "done")]


async def test_bump__no_room_under_the_ceiling__refused_with_the_reason(world: SendingWorld):
    await world.work()
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE attempts SET max_fee = 1000, priority_fee = 1000")
    assert await order_step(world, BUMP, 0) is None
    await world.work()
    [(answer, reason)] = await world.rows("SELECT answer, answer_reason FROM interventions")
    assert answer == "refused"
    assert "fee ceiling" in str(reason)


async def test_bump__landed_before_the_daemon_saw_it__refused(world: SendingWorld):
    await world.work()
    assert await order_step(world, BUMP, 0) is None
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE actions SET state = 'included' WHERE ordinal = 0")
    pay, _ = world.stages
    await pay.step()
    [(answer, reason)] = await world.rows("SELECT answer, answer_reason FROM interventions")
    assert (answer, "in a block" in str(reason)) == ("refused", True)
    assert await world.rows("SELECT count(*) FROM attempts") == [(1,)]


class Died(BaseException):
    pass


@pytest.mark.parametrize("point", [CrashPoint.ATTEMPT_SIGNED_NOT_SAVED, CrashPoint.BUMP_SAVED_NOT_SENT])
@pytest.mark.parametrize("kind", [BUMP, CANCEL])
async def test_order__daemon_dies_while_it_obeys__exactly_one_more_attempt(
    world: SendingWorld, monkeypatch: pytest.MonkeyPatch, point: CrashPoint, kind: InterventionKind
):
    class Fate:
        def reach(self, reached: CrashPoint) -> None:
            if reached is point:
                raise Died

    await world.work()
    assert await order_step(world, kind, 0) is None
    with monkeypatch.context() as deadly:
        deadly.setattr(crashpoints, "_armed", Fate())
        with pytest.raises(Died):
            await world.work()
    world.start()
    await world.work()
    assert await world.rows("SELECT count(*) FROM attempts") == [(2,)]
    assert await answers(world) == [(str(kind), "done")]
    await world.advance(8)
    assert set(await world.states()) == ({"final"} if kind is BUMP else {"void"})


# ── Cancel ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_cancel__broadcast__void_when_the_cancel_is_final_and_not_before(world: SendingWorld):
    await world.advance(4)
    await world.decide([8], window=1)
    await world.work()
    await order(world, CANCEL, window=1)
    await world.work()
    assert (await world.states(1))[0] == "broadcast"
    await world.advance(2)
    assert (await world.states(1))[0] == "included"
    await world.advance(2)
    assert await world.states(1) == ["void", "void"]
    assert await world.reasons(1) == ["cancelled by alice: as agreed", "its proposal was given up"]
    assert await world.states(0) == ["final"] * 3
    world.assert_paid_once(2)
    assert await world.rows("SELECT DISTINCT state FROM slots") == [("settled",)]


async def test_cancel__one_batch__the_others_are_paid(world: SendingWorld):
    await world.work()
    await world.advance()
    assert (await world.states())[1:] == ["broadcast", "broadcast"]
    assert [one.refused for one in await order(world, CANCEL, batch=1)] == [None]
    await world.work()
    await world.advance(8)
    assert await world.states() == ["final", "final", "void"]
    world.assert_paid_once(1)


async def test_cancel__payment_wins_the_race__final(world: SendingWorld):
    await world.work()
    world.payer.faults.lose_broadcasts = True  # the cancel never arrives
    assert await order_step(world, CANCEL, 0) is None
    await world.work()
    world.payer.faults.lose_broadcasts = False
    await world.mine()
    world.payer.pool.clear()
    await world.advance(8)
    assert await world.states() == ["final"] * 3
    world.assert_paid_once(2)


async def test_cancel__not_mined_in_time__bumped_as_a_cancel(world: SendingWorld):
    await world.work()
    assert await order_step(world, CANCEL, 0) is None
    await world.work()
    world.payer.base_fee = 500
    await world.advance(4)
    purposes = await world.rows("SELECT purpose FROM attempts ORDER BY ordinal")
    assert purposes[0] == ("pay",)
    assert set(purposes[1:]) == {("cancel",)}
    assert len(purposes) > 2
    await world.advance(8)
    assert await world.states() == ["void"] * 3


async def test_cancel__payment_lands_and_reverts__given_up_and_not_tried_again(world: SendingWorld):
    await world.work()
    world.payer.faults.lose_broadcasts = True
    assert await order_step(world, CANCEL, 0) is None
    await world.work()
    world.payer.faults.lose_broadcasts = False
    world.payer.faults.reverts = True
    await world.mine()
    world.payer.faults.reverts = False
    await world.advance(8)
    assert (await world.states())[0] == "void"
    assert world.payer.paid() == {}


async def test_cancel__stranger_spends_the_nonce__given_up_and_not_tried_again(world: SendingWorld):
    await world.work()
    world.payer.faults.lose_broadcasts = True
    assert await order_step(world, CANCEL, 0) is None
    await world.work()
    world.payer.pool.clear()
    world.payer.spend_nonce()
    await world.mine()
    world.payer.faults.lose_broadcasts = False
    await world.advance(8)
    assert (await world.states())[0] == "void"
    assert ("quarantined", "void", "cancelled by alice: as agreed") in await transitions(world, 0)
    assert world.payer.paid() == {}


async def test_cancel__stranger_executes_it_under_another_nonce__held_and_then_final(world: SendingWorld):
    """The cancel lands, and proves only that its own nonce paid nothing."""
    await world.work()
    await world.advance()
    assert (await world.states())[1:] == ["broadcast", "broadcast"]
    await order(world, CANCEL, batch=1)
    await world.work()
    [(payload,)] = await world.rows("SELECT payload FROM actions WHERE ordinal = 2")
    assert isinstance(payload, bytes)
    world.payer.spend_nonce(payload)
    await world.advance(8)
    assert (await world.states())[1:] == ["final", "held"]
    assert "another transaction executed it" in str((await world.reasons())[2])
    assert await order_step(world, RELEASE, 2) is None
    await world.advance(4)
    assert await world.states() == ["final"] * 3
    assert (await world.summary()).paid_total == 18
    assert await world.rows("SELECT DISTINCT state FROM slots") == [("settled",)]
    world.assert_paid_once(2)


async def test_cancel__proposal_after_a_reorg_with_batches_in_flight__they_are_void_too(world: SendingWorld):
    await world.work()
    await world.advance()
    assert await world.states() == ["included", "broadcast", "broadcast"]
    await world.reorg(1, put_back=False)
    world.payer.pool.clear()
    world.payer.faults.lose_broadcasts = True
    await world.work()
    assert (await world.states())[0] == "broadcast"
    assert await order_step(world, CANCEL, 0) is None
    await world.work()
    world.payer.faults.lose_broadcasts = False
    await world.advance(12)
    assert await world.states() == ["void"] * 3
    assert world.payer.paid() == {}
    assert await world.rows("SELECT count(*) FROM slots WHERE state = 'live'") == [(0,)]


async def test_cancel__held__given_up_with_proof_and_its_batches_too(world: SendingWorld):
    world.payer.faults.refusal = Refusal("would revert", temporary=False)
    await world.work()
    assert await order_step(world, CANCEL, 0) is None
    await world.advance()
    assert await world.states() == ["void"] * 3
    assert (await transitions(world, 0))[-1] == ("held", "void", "given up by alice: as agreed")


async def test_cancel__reserved__its_nonce_never_carries_the_payment(world: SendingWorld):
    pay, _ = world.stages
    await pay.step()
    await pay.step()
    assert (await world.states())[0] == "reserved"
    assert await order_step(world, CANCEL, 0) is None
    await world.advance(8)
    assert await world.states() == ["void"] * 3
    assert await world.rows("SELECT DISTINCT purpose FROM attempts") == [("cancel",)]


# ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("asked", "batch", "said"),
    [
        ("999", None, "no step and no distribution"),
        ("zz", None, "no step and no distribution"),
        ("abc", None, "no step and no distribution"),
        ("deadbeef", None, "no step and no distribution"),
        ("", None, "no step and no distribution"),
        ("DISTRIBUTION", 7, "there is no batch 7"),
    ],
)
async def test_order__names_nothing__says_so(world: SendingWorld, asked: str, batch: int | None, said: str):
    await world.work()
    if asked == "DISTRIBUTION":
        asked = (await world.summary()).distribution_id.hex()
    with pytest.raises(ConfigError, match=said):
        await intervene(world.database, HOLD, asked, batch, reason="why", by="alice")


async def test_order__digits_that_begin_a_distribution_and_name_a_step__asks_which(world: SendingWorld):
    await world.work()
    async with world.database.begin() as transaction:
        execute = transaction.connection.execute
        await execute("SET LOCAL session_replication_role = replica")
        await execute("UPDATE actions SET distribution_id = decode('123456' || repeat('00', 29), 'hex')")
        await execute("UPDATE distributions SET distribution_id = decode('123456' || repeat('00', 29), 'hex')")
        await execute("ALTER TABLE actions ALTER COLUMN action_id SET GENERATED BY DEFAULT")
        await execute(
            "INSERT INTO actions (action_id, distribution_id, ordinal, kind, chain, payload, target) "
            "SELECT 123456, distribution_id, 9, 'execute', chain, payload, target FROM actions WHERE ordinal = 0"
        )
    with pytest.raises(ConfigError, match="123456 names several: step 123456, distribution 0x123456"):
        await intervene(world.database, HOLD, "123456", None, reason="why", by="alice")


async def test_order__without_a_reason__refused(world: SendingWorld):
    await world.work()
    with pytest.raises(ConfigError, match="--reason"):
        await intervene(world.database, HOLD, "1", None, reason="  ", by="alice")


async def test_order__while_another_waits__refused_and_named(world: SendingWorld):
    await world.work()
    assert await order_step(world, BUMP, 0) is None
    refused = await order_step(world, CANCEL, 0)
    assert refused is not None
    assert refused.startswith("an order to bump by alice waits for the daemon since ")


async def test_order__everything_is_over__nothing_to_order(world: SendingWorld):
    await world.advance(8)
    with pytest.raises(RefusedError, match="is over"):
        await order(world, HOLD)
    assert await order_step(world, CANCEL, 1) == (
        "cancel is not possible while it is final: it is paid, and nothing takes that back"
    )
