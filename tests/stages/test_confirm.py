"""What was sent, watched: inclusion, reorgs, finality, reverts, and nonces that somebody else spent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge.chains.fake.reader import FakeReader
from bridge.domain.errors import ChainDisagrees, ChainUnavailable
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Inclusion
from bridge.domain.units import Address, BlockStamp
from bridge.stages.intervene import intervene
from bridge.store.database import Database
from tests.stages.sending import CHAIN, FINALITY_DISTANCE, SendingWorld, recipients

FINAL = ["final", "final", "final"]


@pytest.fixture
async def world(database: Database) -> SendingWorld:
    world = await SendingWorld.create(database)
    await world.decide([5, 6, 7])
    await world.work()
    return world


async def arrows(world: SendingWorld, ordinal: int) -> list[tuple[object, ...]]:
    return await world.rows(
        "SELECT from_state, to_state FROM confirmations c JOIN actions a USING (action_id) "
        f"WHERE a.ordinal = {ordinal} ORDER BY confirmation_id"
    )


async def test_confirm__receipt_in_a_block_that_ingest_lacks__waits_for_the_block(world: SendingWorld):
    await world.mine(ingest=False)
    await world.work()
    assert (await world.states())[0] == "broadcast"


async def test_confirm__included__carries_block_gas_and_fee(world: SendingWorld):
    await world.advance()
    assert await world.rows("SELECT block_number, succeeded, gas_used, fee_paid, final FROM attempts LIMIT 1") == [
        (world.head, True, 60_000, 600_000, False)
    ]


async def test_confirm__every_arrow_in_order__is_a_committed_row(world: SendingWorld):
    await world.advance(8)
    assert await arrows(world, 1) == [
        ("planned", "reserved"),
        ("reserved", "signed"),
        ("signed", "broadcast"),
        ("broadcast", "included"),
        ("included", "final"),
    ]
    tx_ids = await world.rows(
        "SELECT tx_id IS NOT NULL, block_hash IS NOT NULL FROM confirmations WHERE to_state = 'final'"
    )
    assert tx_ids == [(True, True)] * 3


@pytest.mark.parametrize("put_back", [True, False], ids=["back_in_the_pool", "lost"])
async def test_confirm__reorg_takes_the_block__sent_again_and_paid_once(world: SendingWorld, put_back: bool):
    await world.advance(2)
    assert await world.states() == ["included", "included", "included"]
    raw = await world.rows("SELECT raw FROM attempts ORDER BY attempt_id")
    await world.reorg(2, put_back=put_back)
    await world.work()
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    assert await world.rows("SELECT raw FROM attempts ORDER BY attempt_id") == raw  # the same bytes, no new nonce


async def test_confirm__reorg_without_reinclusion__goes_back_to_broadcast_with_no_inclusion(world: SendingWorld):
    await world.advance()
    world.payer.faults.lose_broadcasts = True
    await world.reorg(1)
    await world.work()
    assert (await world.states())[0] == "broadcast"
    assert await world.rows("SELECT block_number, succeeded, fee_paid FROM attempts LIMIT 1") == [(None, None, None)]
    assert ("included", "broadcast") in await arrows(world, 0)


async def test_confirm__not_final_yet__stays_included(world: SendingWorld):
    await world.advance(2)
    assert (await world.states())[0] == "included"
    await world.advance()
    assert (await world.states())[0] == "final"


async def test_confirm__final_revert__slot_is_settled_and_the_action_tried_under_a_new_nonce(world: SendingWorld):
    world.payer.faults.reverts = True
    await world.mine()
    world.payer.faults.reverts = False
    await world.work()
    assert (await world.states())[0] == "included"
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    assert (await arrows(world, 0))[3:6] == [("broadcast", "included"), ("included", "held"), ("held", "planned")]
    assert await world.rows("SELECT succeeded, final FROM attempts ORDER BY attempt_id LIMIT 1") == [(False, True)]
    assert await world.rows("SELECT DISTINCT state FROM slots") == [("settled",)]


async def test_confirm__reverts_each_time__held_for_a_person_after_three_nonces(world: SendingWorld):
    world.payer.faults.reverts = True
    await world.advance(20)
    assert (await world.states())[0] == "held"
    assert "reverted in final transaction 0x" in str((await world.reasons())[0])
    assert await world.rows("SELECT state FROM slots") == [("settled",)] * 3


async def test_confirm__reverts_once_behind_nonces_of_strangers__tried_again(database: Database):
    """Nonces that strangers spent are bound to the action that found them; it did not burn them by reverting."""
    world = await SendingWorld.create(database)
    await world.decide([5])
    await world.advance(8)
    for _ in range(3):
        world.payer.spend_nonce()
        await world.mine()
    await world.mine(3)
    await world.take_up_nonces()
    await world.decide([6], window=1)
    world.payer.faults.reverts = True
    await world.advance()
    await world.advance()
    world.payer.faults.reverts = False
    await world.advance(12)
    assert await world.rows("SELECT DISTINCT state FROM slots ORDER BY state") == [("foreign",), ("settled",)]
    assert await world.rows("SELECT count(*) FROM attempts WHERE NOT succeeded") == [(1,)]
    assert (await world.summary(1)).state == "final"


async def test_confirm__reverted_in_a_block_that_a_backfill_did_not_keep__settled_all_the_same(world: SendingWorld):
    world.payer.faults.reverts = True
    await world.mine()
    world.payer.faults.reverts = False
    await world.mine(3)
    async with world.database.begin() as transaction:
        await transaction.connection.execute("DELETE FROM blocks WHERE number = $1", world.head - 3)
    await world.advance(8)
    assert await world.rows("SELECT DISTINCT state FROM slots") == [("settled",)]
    assert await world.states() == FINAL


async def test_confirm__success_without_an_event_of_its_id__held(world: SendingWorld):
    await world.mine()
    async with world.database.begin() as transaction:
        await transaction.connection.execute("DELETE FROM logs")
    await world.work()
    await world.advance(3)
    assert (await world.states())[0] == "held"
    assert "no event" in str((await world.reasons())[0])


async def test_confirm__transfer_failed__payout_is_credited(world: SendingWorld):
    world.payer.faults.credited = {recipients(3)[1]}
    await world.advance(8)
    assert await world.rows("SELECT outcome FROM payouts ORDER BY recipient") == [("paid",), ("credited",), ("paid",)]
    summary = await world.summary()
    assert (summary.paid_total, summary.credited_total) == (12, 6)


async def test_confirm__recipient_left_out__waits_in_a_batch_of_its_own_until_a_person_releases_it(world: SendingWorld):
    frozen = recipients(3)[1]
    world.payer.faults.frozen = {frozen}
    await world.advance(8)
    outcomes = "SELECT batch_index, outcome FROM payouts ORDER BY recipient"
    assert await world.rows(outcomes) == [(0, "paid"), (1_000_001, None), (1, "paid")]
    assert await world.states() == [*FINAL, "held"]
    assert "is frozen" in str((await world.reasons())[-1])
    assert (await world.summary()).paid_total == 12

    world.payer.faults.frozen = set()
    [released] = await intervene(
        world.database,
        InterventionKind.RELEASE,
        str((await world.summary()).steps[-1].action_id),
        None,
        reason="thawed",
        by="alice",
    )
    assert released.refused is None
    await world.advance(8)
    assert await world.rows(outcomes) == [(0, "paid"), (1_000_001, "paid"), (1, "paid")]
    world.assert_paid_once(3)


class _WithoutNonces(FakeReader):
    """Accounts of this chain count nothing."""

    async def sequence(self, account: Address, at: BlockStamp) -> None:  # type: ignore[override]
        return None


async def test_confirm__chain_without_nonces__paid_once_whoever_paid(world: SendingWorld):
    """Here the executed batch itself tells that somebody else's transaction came first."""
    pay, confirm = world.stages
    for stage in (pay, confirm):
        stage._chain = _WithoutNonces(world.chain)
    [(payload,)] = await world.rows("SELECT payload FROM actions WHERE ordinal = 1")
    assert isinstance(payload, bytes)
    await world.advance(3)
    world.payer.pool.clear()
    world.payer.faults.lose_broadcasts = True
    await world.reorg(2)
    world.payer.spend_nonce(payload)
    await world.advance(8)
    assert (await world.states())[1] == "final"
    assert ("quarantined", "final") in await arrows(world, 1)
    world.payer.faults.lose_broadcasts = False
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


async def test_confirm__endpoints_fail__moves_nothing(world: SendingWorld):
    world.payer.faults.receipts_unavailable = True
    await world.mine(4)
    _, confirm = world.stages
    with pytest.raises(ChainUnavailable):
        await confirm.step()
    assert (await world.states())[0] == "broadcast"
    world.payer.faults.receipts_unavailable = False
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


async def test_confirm__nonce_spent_by_a_stranger__quarantined_then_paid_under_the_next(world: SendingWorld):
    world.payer.pool.clear()
    world.payer.faults.lose_broadcasts = True
    world.payer.spend_nonce()
    await world.advance(2)
    assert (await world.states())[0] == "broadcast"  # not final yet: no proof
    await world.advance(1)
    world.payer.faults.lose_broadcasts = False
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    assert (await world.rows("SELECT nonce, state FROM slots ORDER BY nonce"))[:2] == [(0, "foreign"), (1, "settled")]
    walked = await arrows(world, 0)
    assert walked[3:5] == [("broadcast", "quarantined"), ("quarantined", "planned")]


async def test_confirm__every_endpoint_hides_our_receipt__the_guard_says_final_and_nothing_is_paid_again(
    world: SendingWorld,
):
    world.payer.faults.receipts_hidden = True
    await world.advance(6)
    assert (await world.states())[0] == "final"
    assert ("quarantined", "final") in await arrows(world, 0)
    world.payer.faults.receipts_hidden = False
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


async def test_confirm__stranger_executes_our_batch__final_by_the_guard_and_never_paid_again(world: SendingWorld):
    await world.advance(3)  # the proposal is final, both batches are included or about to be
    await world.reorg(2)
    world.payer.pool.clear()
    world.payer.faults.lose_broadcasts = True
    [(payload,)] = await world.rows("SELECT payload FROM actions WHERE ordinal = 1")
    assert isinstance(payload, bytes)
    world.payer.spend_nonce(payload)
    await world.advance(4)
    world.payer.faults.lose_broadcasts = False
    await world.advance(10)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    assert (await world.summary()).paid_total == 18


async def test_confirm__guard_says_executed_and_no_event_says_so__not_final(world: SendingWorld):
    """One endpoint's word alone never makes a payment done that nobody received."""

    async def executed(*_: object) -> bool:
        return True

    world.payer.executed = executed  # type: ignore[method-assign, assignment]
    world.payer.faults.lose_broadcasts = True
    world.payer.pool.clear()
    world.payer.spend_nonce()
    await world.advance(8)
    assert (await world.states())[0] != "final"
    world.payer.faults.lose_broadcasts = False
    await world.advance(8)
    assert (await world.states())[0] == "final"  # the proposal has its event
    assert (await world.states())[1:] == ["planned", "planned"]
    assert all("no event" in str(reason) for reason in (await world.reasons())[1:])
    del world.payer.executed
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


async def test_confirm__attempt_saved_while_the_others_were_looked_up__is_looked_up_before_any_verdict(
    world: SendingWorld, monkeypatch: pytest.MonkeyPatch
):
    """A restored database signs again what it had forgotten: the same bytes, which are in a final block already."""
    async with world.database.snapshot() as transaction:
        [flight] = await transaction.payouts.in_flight(CHAIN)
    slot, first = flight.slot, flight.latest
    bump = await world.payer.sign(flight.action, slot, first)
    assert bump is not None
    await world.payer.broadcast(bump.raw)
    await world.mine(FINALITY_DISTANCE + 2)
    disowned = world.payer.disowned

    async def meanwhile(tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        answer = await disowned(tx_ids, at)
        async with world.database.begin(world.lease) as transaction:
            assert await transaction.payouts.save_attempt(flight, bump, world.head)
        monkeypatch.undo()
        return answer

    monkeypatch.setattr(world.payer, "disowned", meanwhile)
    async with world.database.snapshot() as transaction:
        [flight] = await transaction.payouts.in_flight(CHAIN)
    confirm = world.stages[1]
    assert not await confirm.step()
    assert (await world.states())[0] == "broadcast"
    await world.work()
    assert ("broadcast", "quarantined") not in await arrows(world, 0)
    assert (await world.states())[0] == "final"


async def test_confirm__stranger_spends_the_nonce_and_guard_says_executed_without_event__stays_quarantined(
    world: SendingWorld,
):
    async def executed(*_: object) -> bool:
        return True

    await world.advance()
    assert (await world.states())[1:] == ["broadcast", "broadcast"]
    world.payer.faults.lose_broadcasts = True
    world.payer.pool.clear()
    world.payer.spend_nonce()
    world.payer.executed = executed  # type: ignore[method-assign, assignment]
    await world.advance(5)
    assert (await world.states())[1] == "quarantined"
    assert "no event" in str((await world.reasons())[1])
    del world.payer.executed
    world.payer.faults.lose_broadcasts = False
    await world.advance(10)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


# ── Endpoints that differ about what is final ───────────────────────────────────────────────────────────────────────
async def test_confirm__endpoints_disagree_on_the_final_receipt__stays_included_until_they_agree(world: SendingWorld):
    async def settled(_: bytes) -> Inclusion | None:
        raise ChainDisagrees("endpoints answer differently")

    world.payer.settled = settled  # type: ignore[method-assign, assignment]
    await world.advance(2)
    await world.mine(4)
    _, confirm = world.stages
    with pytest.raises(ChainDisagrees):
        await confirm.step()
    assert (await world.states())[0] == "included"
    assert await world.rows("SELECT DISTINCT state FROM slots") == [("live",)]
    del world.payer.settled
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


async def test_confirm__receipt_was_made_up_by_one_endpoint__looked_for_again_and_paid(world: SendingWorld):
    """The block is canonical, the transaction is not in it: two endpoints say so once the block is final."""
    world.payer.faults.lose_broadcasts = True
    world.payer.pool.clear()
    await world.mine()
    head = world.chain.head
    made_up = Inclusion(BlockStamp("fake", head.number, head.hash), True, 1, 1)
    honest = world.payer.inclusions

    async def inclusions(_: bytes) -> tuple[Inclusion, ...]:
        return (made_up,)

    async def settled(tx_id: bytes) -> Inclusion | None:
        found = await honest(tx_id)
        return found[0] if found else None

    world.payer.inclusions = inclusions  # type: ignore[method-assign, assignment]
    world.payer.settled = settled  # type: ignore[method-assign]
    await world.work()
    assert (await world.states())[0] == "included"
    del world.payer.inclusions
    await world.advance(2)
    assert (await world.states())[0] == "broadcast"
    assert await world.rows("SELECT DISTINCT state FROM slots WHERE nonce = 0") == [("live",)]
    world.payer.faults.lose_broadcasts = False
    await world.advance(8)
    assert await world.states() == FINAL
    world.assert_paid_once(2)


async def test_confirm__receipt_made_up_in_final_blocks_again_and_again__never_included(world: SendingWorld):
    """Only the first such word counts, while its block is not final; then what two say alike does."""
    await world.mine(5)
    final = world.chain.blocks[world.chain.finalized].block
    made_up = Inclusion(BlockStamp("fake", final.number, final.hash), True, 1, 1)
    honest = world.payer.inclusions

    async def inclusions(tx_id: bytes) -> tuple[Inclusion, ...]:
        return (*await honest(tx_id), made_up)

    async def settled(tx_id: bytes) -> Inclusion | None:
        found = await honest(tx_id)
        return found[0] if found else None

    world.payer.inclusions = inclusions  # type: ignore[method-assign]
    world.payer.settled = settled  # type: ignore[method-assign]
    await world.advance(12)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    assert ("included", "broadcast") not in await arrows(world, 0)


async def test_confirm__receipt_first_told_wrong__the_agreed_one_is_kept(world: SendingWorld):
    await world.advance()
    async with world.database.begin() as transaction:
        await transaction.connection.execute(
            "UPDATE attempts SET succeeded = FALSE, fee_paid = 1 WHERE block_number IS NOT NULL"
        )
    await world.advance(8)
    assert await world.states() == FINAL
    assert await world.rows("SELECT DISTINCT succeeded, fee_paid FROM attempts") == [(True, 600_000)]
    assert ("included", "held") not in await arrows(world, 0)
