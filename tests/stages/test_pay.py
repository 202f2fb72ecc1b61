"""The sender and its watcher against a chain in memory: what is paid is paid once, whatever happens on the way."""

from __future__ import annotations

import pytest

from bridge.domain.errors import HoldError, LeaseLost
from bridge.domain.payouts import Ceilings, Refusal
from bridge.ports.paying import Broadcast, BroadcastOutcome
from bridge.store.database import Database
from bridge.store.leases import Leases
from tests.stages.sending import DISTRIBUTOR, TOKEN, SendingWorld, recipients

FINAL = ["final", "final", "final"]


@pytest.fixture
async def world(database: Database) -> SendingWorld:
    return await SendingWorld.create(database)


async def test_pay__decision_of_two_batches__each_is_paid_once_and_final(world: SendingWorld):
    await world.decide([5, 6, 7])
    await world.work()
    await world.advance(6)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    summary = await world.summary()
    assert (summary.state, summary.total, summary.recipients, summary.batches) == ("final", 18, 3, 2)
    assert (summary.paid_total, summary.credited_total) == (18, 0)
    assert len(summary.tx_ids) == 3
    assert await world.rows("SELECT nonce, state FROM slots ORDER BY nonce") == [
        (0, "settled"),
        (1, "settled"),
        (2, "settled"),
    ]


async def test_pay__no_finalized_block_yet__nothing_is_reserved(database: Database):
    world = await SendingWorld.create(database)
    await world.decide([5])
    async with database.begin() as transaction:
        await transaction.connection.execute("DELETE FROM heads")
    await world.work()
    assert await world.states() == ["planned", "planned"]


async def test_pay__step_again_after_planning__plans_nothing_twice(world: SendingWorld):
    await world.decide([5, 6, 7])
    for _ in range(3):
        world.start()
        await world.work()
    assert await world.rows("SELECT count(*) FROM distributions") == [(1,)]
    assert await world.rows("SELECT count(*) FROM actions") == [(3,)]


async def test_pay__proposal_not_on_chain__batches_wait_for_it(world: SendingWorld):
    await world.decide([5, 6, 7])
    await world.work()
    assert await world.states() == ["broadcast", "planned", "planned"]
    await world.advance()
    assert await world.states() == ["included", "broadcast", "broadcast"]


async def test_pay__many_batches__never_more_in_flight_than_allowed(world: SendingWorld):
    world.start(in_flight_max=3)
    await world.decide([1] * 14)
    most = 0
    for _ in range(16):
        await world.advance()
        [(live,)] = await world.rows("SELECT count(*) FROM slots WHERE state = 'live'")
        assert isinstance(live, int)
        most = max(most, live)
    assert most == 3
    assert (await world.summary()).state == "final"
    world.assert_paid_once(7)


async def test_pay__pool_drops_the_bytes__the_same_bytes_are_sent_at_the_next_head(world: SendingWorld):
    await world.decide([5])
    await world.work()
    sent = set(world.payer.pool)
    world.payer.pool.clear()
    await world.advance()
    assert set(world.payer.pool) == sent
    await world.advance(6)
    world.assert_paid_once(1)
    assert (await world.summary()).state == "final"


async def test_pay__not_mined_for_some_blocks__bumped_by_an_eighth_and_every_hash_is_watched(world: SendingWorld):
    await world.decide([5])
    await world.work()
    world.payer.base_fee = 22  # above the 20 of the first attempt
    await world.advance(3)
    fees = await world.rows("SELECT ordinal, max_fee, priority_fee FROM attempts ORDER BY ordinal")
    assert fees == [(0, 20, 1), (1, 44, 2)]
    await world.advance(6)
    world.assert_paid_once(1)
    assert (await world.summary()).state == "final"
    assert (await world.rows("SELECT ordinal FROM attempts WHERE final AND slot_id = 1")) == [(1,)]


async def test_pay__earlier_attempt_lands_after_the_bump__counts_as_the_payment(world: SendingWorld):
    await world.decide([5])
    await world.work()
    [(raw,)] = await world.rows("SELECT raw FROM attempts")
    assert isinstance(raw, bytes)
    world.payer.base_fee = 15
    world.payer.faults.lose_broadcasts = True
    world.payer.pool.clear()
    await world.advance(3)
    assert await world.rows("SELECT count(*) FROM attempts") == [(2,)]
    world.payer.faults.lose_broadcasts = False
    world.payer.pool.clear()
    await world.payer.broadcast(raw)
    await world.mine()
    await world.work()
    assert await world.rows("SELECT ordinal FROM attempts WHERE block_number IS NOT NULL") == [(0,)]
    await world.advance(6)
    world.assert_paid_once(1)


async def test_pay__fees_over_the_ceiling__no_bump_and_it_says_so(world: SendingWorld):
    await world.decide([5])
    await world.work()
    world.payer.base_fee = 10_000
    for _ in range(40):
        await world.advance()
    assert (await world.reasons())[0] is not None
    assert "fee ceiling" in str((await world.reasons())[0])
    [(highest,)] = await world.rows("SELECT max(max_fee) FROM attempts")
    assert highest == 1000
    world.payer.base_fee = 10
    await world.advance(6)
    world.assert_paid_once(1)
    assert await world.reasons() == [None, None]


@pytest.mark.parametrize(
    "answer",
    [
        Broadcast(BroadcastOutcome.UNKNOWN, "time-out"),
        Broadcast(BroadcastOutcome.REJECTED, "nonce too low"),
        Broadcast(BroadcastOutcome.REJECTED, "replacement transaction underpriced"),
        Broadcast(BroadcastOutcome.KNOWN),
    ],
    ids=str,
)
async def test_pay__taken_although_the_answer_says_otherwise__no_second_nonce(world: SendingWorld, answer: Broadcast):
    world.payer.faults.broadcast = answer
    await world.decide([5, 6, 7])
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    assert await world.rows("SELECT count(*) FROM slots") == [(3,)]


async def test_pay__temporary_refusal__waits_with_a_reason_and_goes_on_by_itself(world: SendingWorld):
    world.payer.faults.refusal = Refusal("the vault is paused", temporary=True)
    await world.decide([5])
    await world.work()
    assert (await world.states())[0] == "planned"
    assert (await world.reasons())[0] == "the vault is paused"
    world.payer.faults.refusal = None
    await world.advance(8)
    assert (await world.summary()).state == "final"
    assert await world.reasons() == [None, None]


async def test_pay__permanent_refusal__held_with_the_reason_and_nothing_signed(world: SendingWorld):
    world.payer.faults.refusal = Refusal("would revert: InvalidRecipient", temporary=False)
    await world.decide([5])
    await world.advance(3)
    assert await world.states() == ["held", "planned"]
    assert (await world.reasons())[0] == "would revert: InvalidRecipient"
    assert await world.rows("SELECT count(*) FROM slots") == [(0,)]


async def test_pay__one_distribution_refused__others_are_paid(world: SendingWorld):
    await world.decide([5], window=0, to=[DISTRIBUTOR])
    await world.decide([6], window=1)
    await world.advance(8)
    assert (await world.summary(0)).state == "held"
    assert "may not be a recipient" in str((await world.reasons(0))[0])
    assert (await world.summary(1)).state == "final"


@pytest.mark.parametrize(
    "ceilings",
    [
        Ceilings(per_transaction={TOKEN: 10}, per_day={}, per_recipient={}),
        Ceilings(per_transaction={}, per_day={TOKEN: 10}, per_recipient={}),
        Ceilings(per_transaction={}, per_day={}, per_recipient={TOKEN: 5}),
    ],
)
async def test_pay__value_over_a_ceiling__held_before_the_proposal(world: SendingWorld, ceilings: Ceilings):
    world.start(ceilings)
    await world.decide([5, 6, 7])  # batches of 11 and 7
    await world.advance(2)
    assert (await world.states())[0] == "held"
    assert "ceiling" in str((await world.reasons())[0])
    assert world.payer.paid() == {}


async def test_pay__money_left_without_our_intent__nothing_new_is_sent_until_a_person_takes_it_up(world: SendingWorld):
    await world.decide([5])
    async with world.database.begin() as transaction:
        await transaction.connection.execute(
            "INSERT INTO breaks (kind, chain, level, check_subject, subject, evidence, block_number, block_hash)"
            " SELECT 'unexpected_out', chain, 'suspense', 'suspense:out', 'suspense:out', '{}', 1, '' FROM chains"
        )
    await world.advance(4)
    assert await world.states() == ["planned", "planned"]
    assert "money left without our intent" in str((await world.reasons())[0])
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE breaks SET state = 'explained'")
    await world.advance(8)
    assert (await world.summary()).state == "final"


async def test_pay__broken_seal__nothing_new_is_sent_until_a_person_takes_up_its_break(world: SendingWorld):
    """It waits from the moment the fault is found, before there is a break."""

    async def sql(statement: str) -> None:
        async with world.database.begin() as transaction:
            await transaction.connection.execute(statement)

    await world.decide([5])
    await sql(
        "UPDATE seal_walks SET fault = 'journal 7 is not what was sealed there', fault_at = now() WHERE walk = 'new'"
    )
    await world.advance(2)
    assert "journal 7 is not what was sealed there" in str((await world.reasons())[0])
    await sql(
        "INSERT INTO breaks (kind, chain, level, check_subject, subject, evidence, block_number, block_hash)"
        " SELECT 'amount_mismatch', chain, 'completeness', 'seals', 'seals', '{}', 1, '' FROM chains"
    )
    await world.advance(2)
    assert await world.states() == ["planned", "planned"]
    assert "break 1; waits until a person takes it up" in str((await world.reasons())[0])
    await sql("UPDATE breaks SET state = 'assigned', assignee = 'ann'")
    await world.advance(8)
    assert (await world.summary()).state == "final"


async def test_pay__day_is_full__the_next_batch_waits_until_it_is_over(world: SendingWorld):
    world.start(Ceilings(per_transaction={}, per_day={TOKEN: 15}, per_recipient={}))
    await world.decide([5, 6, 7])
    await world.advance(8)
    assert sorted(await world.states()) == ["final", "final", "planned"]
    assert "per day" in str([reason for reason in await world.reasons() if reason])
    await world.mine(skip_s=86_400)
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


async def test_pay__chain_executed_it_already__final_without_a_nonce(world: SendingWorld):
    """As after restoring a backup: the decision is made again, and the chain has paid it."""
    await world.decide([5, 6, 7])
    await world.advance(8)
    async with world.database.begin() as transaction:
        for table in ("confirmations", "attempts", "slots", "actions", "payouts", "distributions", "senders"):
            await transaction.connection.execute(f"DELETE FROM {table}")
    world.start()
    await world.work()
    assert await world.states() == FINAL
    assert (await world.summary()).paid_total == 18
    assert await world.rows("SELECT count(*) FROM slots") == [(0,)]
    world.assert_paid_once(2)


async def test_pay__restored_backup__own_transactions_are_found_again_with_nonce_and_gas(world: SendingWorld):
    spent = (
        "SELECT nonce, s.state, tx_id, final, succeeded, fee_paid FROM slots s JOIN attempts USING (slot_id) ORDER BY 1"
    )
    await world.decide([5, 6, 7])
    await world.advance(8)
    before = await world.rows(spent)
    await world.forget_payouts()
    await world.work()
    assert await world.states() == FINAL
    assert await world.rows(spent) == before
    assert len(before) == 3
    assert await world.rows("SELECT count(*) FROM unbooked WHERE source = 'attempt'") == [(3,)]
    await world.decide([8], window=1)
    await world.advance(8)
    assert await world.states(1) == ["final"] * 2
    world.assert_paid_once(3)


async def test_pay__nonces_spent_that_nothing_explains__nothing_new_until_a_person_took_them_up(world: SendingWorld):
    await world.decide([5])
    await world.advance(8)
    for _ in range(2):
        world.payer.spend_nonce()
        await world.mine()
    await world.mine(3)
    await world.decide([6], window=1)
    await world.advance(8)
    assert await world.states(1) == ["planned"] * 2
    assert "nonce 2, 3 of 0x0303" in str((await world.reasons(1))[0])
    assert await world.rows("SELECT count(*) FROM slots") == [(2,)]
    await world.take_up_nonces()
    await world.advance(8)
    assert (await world.summary(1)).state == "final"
    assert await world.rows("SELECT nonce, state FROM slots ORDER BY nonce") == [
        (0, "settled"),
        (1, "settled"),
        (2, "foreign"),
        (3, "foreign"),
        (4, "settled"),
        (5, "settled"),
    ]
    assert await world.rows("SELECT count(*) FROM confirmations WHERE to_state = 'quarantined'") == [(0,)]


async def test_pay__another_instance_took_over__the_old_one_cannot_take_a_nonce(world: SendingWorld):
    await world.decide([5])
    pay, _ = world.stages
    await pay.step()
    assert await Leases(world.database).acquire(world.lease.name, "test", 60_000) is not None
    with pytest.raises(LeaseLost):
        await pay.step()
    assert await world.rows("SELECT count(*) FROM slots") == [(0,)]
    assert world.payer.pool == {}


async def test_pay__chain_has_spent_less_than_is_final_here__refuses_to_start(world: SendingWorld):
    await world.decide([5])
    await world.advance(8)
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE senders SET first_nonce = 7, next_nonce = 9")
    world.start()
    with pytest.raises(HoldError, match="another chain"):
        await world.work()


async def test_pay__slot_of_another_key__nothing_is_signed_and_it_says_which(world: SendingWorld):
    await world.decide([5])
    pay, _ = world.stages
    world.payer.faults.lose_broadcasts = True
    await pay.step()
    await pay.step()
    assert (await world.states())[0] == "reserved"
    world.payer.account = recipients(1)[0]
    world.start()
    await world.work()
    assert (await world.states())[0] == "reserved"
    assert "belongs to 0x0303" in str((await world.reasons())[0])
