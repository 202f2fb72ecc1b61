"""Post: exactly one journal a log, everything other stages commit, in whichever order it comes."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from bridge.domain.errors import ChainDisagrees, LeaseLost
from bridge.domain.events import Value
from bridge.domain.ledger import (
    BY_OPERATOR,
    CARRIED,
    OPENING,
    SUSPENSE_IN,
    SUSPENSE_OUT,
    UNALLOCATED,
    owed_code,
    payable_code,
    sender_code,
)
from bridge.domain.units import Address
from bridge.stages.post import log_filters
from bridge.store.database import Database
from tests.stages.books import (
    ALICE,
    BOB,
    CHAIN,
    DISTRIBUTION,
    DISTRIBUTOR,
    DISTRIBUTOR_CODE,
    ETH,
    OPERATOR,
    OPERATOR_CODE,
    PAYER,
    SKIPPED,
    THIEF,
    TOKEN,
    USDX,
    VAULT,
    VAULT_CODE,
    WATCHED,
    WITHDRAWN,
    Chain,
    advance,
    batch,
    bookkeeper,
    decide,
    fee,
    land,
    lease_for,
    pending,
    plan,
    posted,
    run,
    start,
    transfer,
)
from tests.stages.books import (
    BATCH_EXECUTED as EXECUTED,
)

AMOUNTS = {ALICE: 600, BOB: 399}
TOKENS_OF_OPERATOR = sender_code(OPERATOR)
EXPLAINED = {
    (VAULT_CODE, "USDX"): 1,
    (DISTRIBUTOR_CODE, "USDX"): 399,
    (owed_code(BOB), "USDX"): -399,
    (UNALLOCATED, "USDX"): 0,
    (CARRIED, "USDX"): -1,
}


async def journal_count(database: Database, source: str) -> int:
    async with database.snapshot() as tx:
        count: int = await tx.connection.fetchval("SELECT count(*) FROM journals WHERE source = $1", source)
        return count


# ── Opening ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("start_block", [0, 1, 5])
async def test_opening__accounts_held_something__booked_once_at_the_block_before(database: Database, start_block: int):
    chain = await start(database, start_block=start_block, held={(VAULT, USDX): 70, (OPERATOR, ETH): 9})
    await run(await bookkeeper(chain))
    await chain.mine(*fee(30))
    await run(await bookkeeper(chain))
    assert await posted(database) == {
        (VAULT_CODE, "USDX"): 100,
        (OPENING, "USDX"): -70,
        (UNALLOCATED, "USDX"): -30,
        (OPERATOR_CODE, "ETH"): 9,
        (OPENING, "ETH"): -9,
    }
    async with database.snapshot() as tx:
        [opening] = await tx.ledger.journals("opening", [CHAIN])
    assert opening.at == chain.stamp(max(start_block - 1, 0))


async def test_opening__nothing_final_yet__waits(database: Database):
    chain = Chain(database)
    async with database.begin() as tx:
        await tx.chains.register(CHAIN, "evm", chain.reference, b"\0" * 32, 0)
    assert not await (await bookkeeper(chain)).step()


async def test_opening__node_on_another_branch__refused(database: Database):
    chain = await start(database, start_block=5)
    chain.lies[4] = b"\x66" * 32
    with pytest.raises(ChainDisagrees):
        await (await bookkeeper(chain)).step()
    assert await posted(database) == {}


# ── Logs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("logs_per_step", [1, 2, 3, 1000])
async def test_logs__any_page_size__exactly_one_journal_each(database: Database, logs_per_step: int):
    chain = await start(database)
    for amount in range(1, 6):
        await chain.mine(*fee(amount), transfer(PAYER, ALICE, 1))  # the last is none of ours
        await chain.mine()
    await run(await bookkeeper(chain, logs_per_step=logs_per_step))
    assert await journal_count(database, f"log:{CHAIN}") == 10
    assert await posted(database) == {(VAULT_CODE, "USDX"): 15, (UNALLOCATED, "USDX"): -15}


async def test_logs__orphaned_block__not_booked(database: Database):
    chain = await start(database)
    await chain.mine(*fee(5))
    async with database.begin() as tx:
        await tx.connection.execute("UPDATE blocks SET status = 'orphaned' WHERE number = $1", chain.tip)
    await chain.mine()
    await run(await bookkeeper(chain))
    assert await posted(database) == {}


async def test_logs__shape_not_as_declared__booked_without_transfers(database: Database):
    chain = await start(database)
    await chain.mine(*fee(5))
    async with database.begin() as tx:
        await tx.connection.execute("UPDATE logs SET data = '\\x00' WHERE address = $1", TOKEN)
    await run(await bookkeeper(chain))
    assert await journal_count(database, f"log:{CHAIN}") == 2
    assert await posted(database) == {(SUSPENSE_IN, "USDX"): 5, (UNALLOCATED, "USDX"): -5}


async def test_donation_and_theft__nobody_intended__stay_in_suspense(database: Database):
    chain = await start(database)
    await chain.mine(*fee(100))
    await chain.mine(transfer(PAYER, VAULT, 7))
    await chain.mine(transfer(VAULT, THIEF, 30))
    await run(await bookkeeper(chain))
    assert await posted(database) == {
        (VAULT_CODE, "USDX"): 77,
        (UNALLOCATED, "USDX"): -100,
        (SUSPENSE_IN, "USDX"): -7,
        (SUSPENSE_OUT, "USDX"): 30,
    }


async def test_step__lease_lost__nothing_booked(database: Database):
    chain = await start(database)
    await chain.mine(*fee(5))
    post = await bookkeeper(chain)
    await lease_for(database, "post")  # a newer epoch
    with pytest.raises(LeaseLost):
        await post.step()
    assert await posted(database) == {}


# ── A payout from decision to withdrawal ────────────────────────────────────────────────────────────────────────────
async def test_payout__one_paid_one_credited__everything_explained(database: Database):
    chain = await start(database, held={(OPERATOR, ETH): 1000})
    post = await bookkeeper(chain)
    await chain.mine(*fee(1000))
    await decide(chain, 1, AMOUNTS, carried_out=1)
    action_id = await plan(chain, AMOUNTS)
    await run(post)
    assert await pending(database) == 999
    assert (await posted(database))[payable_code(ALICE), "USDX"] == -600
    await chain.mine(*batch({ALICE: 600}, {BOB: 399}), gas=21)
    await land(chain, action_id, 2, gas=21)
    await run(post)
    assert await pending(database) == 0
    expected = {key: amount for key, amount in EXPLAINED.items() if amount}
    gas = {(OPERATOR_CODE, "ETH"): 979, ("expense:gas", "ETH"): 21, (OPENING, "ETH"): -1000}
    assert await posted(database) == expected | gas

    fields: Mapping[str, Value] = {"token": TOKEN, "account": BOB, "to": THIEF, "amount": 399}
    await chain.mine(transfer(DISTRIBUTOR, THIEF, 399), (DISTRIBUTOR, WITHDRAWN, fields))
    await run(post)
    assert await posted(database) == {(VAULT_CODE, "USDX"): 1, (CARRIED, "USDX"): -1} | gas


@pytest.mark.parametrize("known", [True, False], ids=["moved_to_its_own_batch", "not_yet"])
async def test_payout__one_left_out__stays_pending_until_its_own_batch(database: Database, known: bool):
    chain = await start(database)
    post = await bookkeeper(chain)
    await chain.mine(*fee(1000))
    await decide(chain, 1, AMOUNTS, carried_out=1)
    await plan(chain, AMOUNTS)
    if known:
        await _to_own_batch(database)
    skipped: Mapping[str, Value] = {"id": DISTRIBUTION, "token": TOKEN, "to": BOB, "index": 0}
    await chain.mine((DISTRIBUTOR, SKIPPED, skipped), *batch({ALICE: 600}, {}))
    await run(post)
    assert await pending(database) == 399
    assert (await posted(database))[payable_code(BOB), "USDX"] == -399
    if not known:
        await _to_own_batch(database)
    await chain.mine(*batch({BOB: 399}, {}, index=1_000_001))
    await run(post)
    assert await pending(database) == 0
    assert await posted(database) == {(VAULT_CODE, "USDX"): 1, (CARRIED, "USDX"): -1}


async def _to_own_batch(database: Database) -> None:
    async with database.begin() as tx:
        await tx.connection.execute("UPDATE payouts SET batch_index = 1000001 WHERE recipient = $1", BOB)


SENT = {"stranger": PAYER, "vault": VAULT, "distributor": DISTRIBUTOR, "operator": OPERATOR}


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("stranger", "operator", {TOKENS_OF_OPERATOR: 7, SUSPENSE_IN: -7}),
        ("operator", "stranger", {TOKENS_OF_OPERATOR: -7, SUSPENSE_OUT: 7}),
        # What a contract of ours gives or gets must be explained there as if a stranger were on the other side.
        ("vault", "operator", {VAULT_CODE: -7, SUSPENSE_OUT: 7, TOKENS_OF_OPERATOR: 7, BY_OPERATOR: -7}),
        ("operator", "vault", {VAULT_CODE: 7, SUSPENSE_IN: -7, TOKENS_OF_OPERATOR: -7, BY_OPERATOR: 7}),
        ("operator", "operator", {}),
    ],
)
async def test_transfer__operators_account__seen_and_left_to_be_explained(
    database: Database, source: str, target: str, expected: Mapping[str, int]
):
    chain = await start(database)
    post = await bookkeeper(chain)
    await chain.mine(transfer(SENT[source], SENT[target], 7))
    await run(post)
    assert await posted(database) == {(code, "USDX"): amount for code, amount in expected.items()}


async def test_payout__to_the_operator__its_batch_explains_it_and_nothing_is_in_suspense(database: Database):
    """Anybody can make a rule's contract owe it something."""
    chain = await start(database)
    post = await bookkeeper(chain)
    await chain.mine(*fee(1000))
    await decide(chain, 1, {OPERATOR: 1000})
    await plan(chain, {OPERATOR: 1000})
    await chain.mine(*batch({OPERATOR: 1000}, {}))
    await run(post)
    assert await posted(database) == {(TOKENS_OF_OPERATOR, "USDX"): 1000, (BY_OPERATOR, "USDX"): -1000}


async def test_open__operator_holds_tokens__opened_with_them(database: Database):
    chain = await start(database, held={(OPERATOR, USDX): 9})
    await run(await bookkeeper(chain))
    assert await posted(database) == {(TOKENS_OF_OPERATOR, "USDX"): 9, (OPENING, "USDX"): -9}


async def test_payout__vault_pays_itself__one_account_of_ours(database: Database):
    """Where no contract stands between, the vault is what says that a batch was executed."""
    watched = replace(WATCHED, distributor=VAULT)
    assert [mirror.code for mirror in watched.mirrors] == [VAULT_CODE, VAULT_CODE, TOKENS_OF_OPERATOR, OPERATOR_CODE]
    chain = await start(database)
    post = await bookkeeper(chain, watched=watched)
    await chain.mine(*fee(1000))
    await decide(chain, 1, AMOUNTS, carried_out=1)
    await plan(chain, AMOUNTS)
    executed: Mapping[str, Value] = {"id": DISTRIBUTION, "index": 0, "token": TOKEN, "paid": 999, "credited": 0}
    moved = [transfer(VAULT, recipient, amount) for recipient, amount in AMOUNTS.items()]
    await chain.mine(*moved, (VAULT, EXECUTED, executed))
    await run(post)
    assert await pending(database) == 0
    assert await posted(database) == {(VAULT_CODE, "USDX"): 1, (CARRIED, "USDX"): -1}


async def test_payout__database_rebuilt_after_it_happened__same_books(database: Database):
    """The log is booked before its decision and distribution are found again."""
    chain = await start(database)
    post = await bookkeeper(chain)
    await chain.mine(*fee(1000))
    await chain.mine(*batch({ALICE: 600}, {BOB: 399}))
    await run(post)
    assert (await posted(database))[SUSPENSE_OUT, "USDX"] == 600
    await decide(chain, 1, AMOUNTS, carried_out=1)
    await plan(chain, AMOUNTS)
    await run(post)
    assert await pending(database) == 0
    assert await posted(database) == {key: amount for key, amount in EXPLAINED.items() if amount}
    assert await posted(database, 2) == await posted(database)  # booked where it happened


async def test_payout__executed_twice__second_stays_in_suspense(database: Database):
    chain = await start(database)
    await chain.mine(*fee(5000))
    await decide(chain, 1, AMOUNTS, carried_out=4001)
    await plan(chain, AMOUNTS)
    for _ in range(2):
        await chain.mine(*batch(AMOUNTS, {}))
    await run(await bookkeeper(chain))
    assert (await posted(database))[SUSPENSE_OUT, "USDX"] == 999
    assert await pending(database) == 0


async def test_payout__given_up__pending_is_void_and_recipients_still_owed(database: Database):
    chain = await start(database)
    post = await bookkeeper(chain)
    await chain.mine(*fee(999))
    await decide(chain, 1, AMOUNTS)
    action_id = await plan(chain, AMOUNTS)
    await run(post)
    await advance(chain, action_id, "held", "void")
    await run(post)
    assert await pending(database) == 0
    assert (await posted(database))[payable_code(ALICE), "USDX"] == -600
    await chain.mine(*batch(AMOUNTS, {}))  # and yet it happens: shown, not refused
    await run(post)
    assert (await posted(database))[SUSPENSE_OUT, "USDX"] == 999


async def test_batch__of_a_distribution_nobody_knows__stays_in_suspense(database: Database):
    chain = await start(database)
    await chain.mine(*fee(50))
    await chain.mine(*batch({Address(THIEF): 50}, {}, distribution=b"\x99" * 32, index=2**32 - 1))
    await run(await bookkeeper(chain))
    assert await posted(database) == {(UNALLOCATED, "USDX"): -50, (SUSPENSE_OUT, "USDX"): 50}


async def test_facts__many_steps_later__found_without_being_asked_for(database: Database):
    """A fact about a block long booked: gas of an attempt that the confirm stage settles late."""
    chain = await start(database, held={(OPERATOR, ETH): 50})
    post = await bookkeeper(chain)
    await decide(chain, 0, AMOUNTS)
    action_id = await plan(chain, AMOUNTS)
    for _ in range(4):
        await chain.mine(gas=1)
    await run(post)
    await land(chain, action_id, 1, gas=1)
    await run(post)
    assert (await posted(database, 1))["expense:gas", "ETH"] == 1
    async with database.snapshot() as tx:
        assert await tx.bookings.unbooked_count(CHAIN, 10**9) == 0


def test_log_filters__no_token__does_not_match_every_contract(database: Database):
    assert all(watched.addresses for watched in log_filters(Chain(database), replace(WATCHED, tokens=())))
    assert len(log_filters(Chain(database), WATCHED)) == 3


async def test_distribution_id__in_refs__is_how_a_story_is_found(database: Database):
    chain = await start(database)
    await chain.mine(*fee(1000))
    await decide(chain, 1, AMOUNTS, carried_out=1)
    await plan(chain, AMOUNTS)
    await chain.mine(*batch(AMOUNTS, {}))
    await run(await bookkeeper(chain))
    async with database.snapshot() as tx:
        assert await tx.ledger.journals("distribution", [DISTRIBUTION.hex()])
        [settlement] = await tx.ledger.journals("batch", [f"{DISTRIBUTION.hex()}:0"])
    assert (settlement.kind, settlement.at) == ("settlement", chain.stamp(2))
