"""The books of a set that is claimed: what is whose from the decision to the last claim, and what nobody intended."""

from __future__ import annotations

import pytest

from bridge.domain.breaks import Outcome, Reconciliation
from bridge.domain.ledger import CARRIED, claimable_code, payable_code
from bridge.domain.payouts import Leg
from bridge.stages.correct import approve, ask_reversal
from bridge.stages.reconcile import Reconcile
from bridge.stages.view import Books
from bridge.store.database import Database
from tests.stages.books import (
    ALICE,
    BOB,
    CHAIN,
    CLAIMS_CODE,
    DISTRIBUTION,
    ETH,
    OPERATOR,
    THIEF,
    TOKEN,
    VAULT_CODE,
    WITH_CLAIMS,
    Chain,
    Emitted,
    activation,
    advance,
    block_hash,
    bookkeeper,
    claim,
    decide,
    fee,
    land,
    pending,
    plan,
    posted,
    run,
    start,
)
from tests.stages.test_reconcile import found

AMOUNTS = {ALICE: 600, BOB: 399}


async def book(chain: Chain, *blocks: list[Emitted]) -> None:
    for events in blocks:
        await chain.mine(*events)
    await run(await bookkeeper(chain, WITH_CLAIMS))


async def reconcile(chain: Chain, *, full: bool = True, sweep: bool = False) -> Reconciliation:
    books = [Books(chain, WITH_CLAIMS, chain.start_block, claimed=chain)]
    return await Reconcile(database=chain.database, books=books, accounts_swept=1).run(full=full, sweep=sweep)


async def holdings(database: Database) -> dict[str, int]:
    return {code: amount for (code, symbol), amount in (await posted(database)).items() if symbol == "USDX"}


@pytest.fixture
async def chain(database: Database) -> Chain:
    """A fee, a decision, and a tree that is planned."""
    chain = await start(database, held={(OPERATOR, ETH): 1000})
    await chain.mine(*fee(1000))
    await decide(chain, 1, AMOUNTS, carried_out=1)
    return chain


async def settle(chain: Chain) -> None:
    """The tree is activated, and the confirm stage knows."""
    action_id = await plan(chain, AMOUNTS, Leg.CLAIM)
    await chain.mine(*activation(999), gas=21)
    await land(chain, action_id, chain.tip, gas=21)
    async with chain.database.begin() as tx:
        await tx.connection.execute("UPDATE payouts SET outcome = 'claimable'")
    await book(chain)


async def test_claims__from_plan_to_last_claim__each_unit_is_somebodys(chain: Chain):
    action_id = await plan(chain, AMOUNTS, Leg.CLAIM)
    await book(chain)
    assert await pending(chain.database) == 999
    assert await holdings(chain.database) == {
        VAULT_CODE: 1000,
        payable_code(ALICE): -600,
        payable_code(BOB): -399,
        CARRIED: -1,
    }
    await chain.mine(*activation(999), gas=21)
    await land(chain, action_id, 2, gas=21)
    await book(chain)
    left = {VAULT_CODE: 1, CARRIED: -1}
    assert await pending(chain.database) == 0
    assert await holdings(chain.database) == left | {
        CLAIMS_CODE: 999,
        claimable_code(ALICE): -600,
        claimable_code(BOB): -399,
    }
    await book(chain, claim(ALICE, 200))
    await book(chain, claim(ALICE, 400, to=THIEF))  # where the account wants it; whose it was is what is booked
    assert await holdings(chain.database) == left | {CLAIMS_CODE: 399, claimable_code(BOB): -399}
    await book(chain, claim(BOB, 399))
    assert await holdings(chain.database) == left


async def test_claims__all_explained__balanced_with_the_contract_among_the_accounts(chain: Chain):
    await settle(chain)
    await book(chain, claim(ALICE, 200))
    result = await reconcile(chain)
    assert (found(result), result.skipped, result.balanced) == ([], (), True)
    outcomes = {check.subject: check.outcome for check in result.checks}
    assert {outcomes[each] for each in (CLAIMS_CODE, "claims", "claimed accounts", "facts")} == {Outcome.AGREED}


async def test_claimed__contract_says_otherwise__that_account_until_they_agree_again(chain: Chain):
    await settle(chain)
    await book(chain, claim(ALICE, 200))
    assert (await reconcile(chain, full=False)).balanced
    assert chain.claims_asked == [ALICE]  # the only one whose claims are new
    chain.claimed_so_far[TOKEN, BOB] += 5
    await book(chain, [])
    assert (await reconcile(chain, full=False)).balanced  # nothing of BOB's is new
    rounds = [await reconcile(chain, full=False, sweep=True) for _ in range(2)]
    difference = ("unexplained_balance", claimable_code(BOB), 5)
    assert found(rounds[-1]) == [difference]
    assert found(await reconcile(chain)) == [difference]
    chain.claims_asked.clear()
    assert found(await reconcile(chain, full=False)) == [difference]  # looked at again, for it is a break
    assert chain.claims_asked == [BOB, BOB]  # now, and when the books began
    chain.claimed_so_far[TOKEN, BOB] -= 5
    await book(chain, [])
    assert (await reconcile(chain, full=False)).balanced


async def test_claimed__by_a_contract_older_than_the_books__what_it_had_before_is_no_difference(database: Database):
    chain = Chain(database, start_block=3)
    chain.claimed_so_far[TOKEN, ALICE] = 50
    async with database.begin() as tx:
        await tx.chains.register(CHAIN, "evm", chain.reference, block_hash(0), 3)
    while chain.tip < 3:
        await chain.mine()
    await book(chain, claim(ALICE, 7))
    result = await reconcile(chain)
    assert found(result) == [("unexpected_out", claimable_code(ALICE), 7)]  # for nobody here gave it anything
    [check] = [check for check in result.checks if check.subject == "claimed accounts"]
    assert (check.expected, check.actual) == (1, 1)


async def test_claimed__two_people_reverse_a_claim__the_chain_still_says_it(chain: Chain):
    await settle(chain)
    await book(chain, claim(ALICE, 200))
    log = f"log:{CHAIN} {block_hash(chain.tip).hex()}:0"
    number = await ask_reversal(chain.database, log, reason="a test", by="ann")
    await approve(chain.database, number, by="bob")
    assert ("unexplained_balance", claimable_code(ALICE), 200) in found(await reconcile(chain))


async def test_claims__in_flight__pending_is_what_the_tree_will_give(chain: Chain):
    await plan(chain, AMOUNTS, Leg.CLAIM)
    await book(chain)
    result = await reconcile(chain)
    assert found(result) == []
    assert [(check.expected, check.actual) for check in result.checks if check.subject == "pending payouts"] == [
        (999, 999)
    ]


async def test_claims__given_up__nothing_pending_and_still_owed(chain: Chain):
    action_id = await plan(chain, AMOUNTS, Leg.CLAIM)
    await book(chain)
    await advance(chain, action_id, "held", "void")
    await book(chain)
    assert await pending(chain.database) == 0
    assert (await holdings(chain.database))[payable_code(ALICE)] == -600


async def test_claims__database_rebuilt_after_activation_and_claims__same_books(chain: Chain):
    await book(chain, activation(999), claim(ALICE, 600))
    assert (await holdings(chain.database))[claimable_code(ALICE)] == 600  # claimed, and given by nobody yet
    await plan(chain, AMOUNTS, Leg.CLAIM)
    await book(chain)
    assert await holdings(chain.database) == {
        VAULT_CODE: 1,
        CARRIED: -1,
        CLAIMS_CODE: 399,
        claimable_code(BOB): -399,
    }


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        # a stolen key gives itself a tree
        ([activation(1, b"\x99" * 32)], [("unexpected_out", "batch " + "99" * 32 + ":0", 1)]),
        # more is claimed than was given: by one that was given nothing, and by one that was
        ([claim(THIEF, 5)], [("unexpected_out", claimable_code(THIEF), 5)]),
        ([claim(ALICE, 601)], [("unexpected_out", claimable_code(ALICE), 1)]),
        # it left, and nobody claimed it
        ([claim(ALICE, 7)[1:]], [("unexpected_out", "suspense:out", -7)]),
        # a claim that brought nobody anything
        ([claim(ALICE, 7)[:1]], [("missing_on_chain", "suspense:out", 7)]),
        # an activation of another total than was planned
        ([activation(1)], [("duplicate", "batch DISTRIBUTION:0", 1)]),
    ],
)
async def test_claims__what_nobody_intended__is_a_break(
    chain: Chain, blocks: list[list[Emitted]], expected: list[tuple[str, str, int]]
):
    await settle(chain)
    await book(chain, *blocks)
    assert found(await reconcile(chain)) == [
        (kind, subject.replace("DISTRIBUTION", DISTRIBUTION.hex()), amount) for kind, subject, amount in expected
    ]


async def test_claims__other_total_than_planned__amount_mismatch(chain: Chain):
    await plan(chain, AMOUNTS, Leg.CLAIM)
    await book(chain, activation(1000))
    kinds = {(kind, amount) for kind, subject, amount in found(await reconcile(chain)) if subject.startswith("batch")}
    assert kinds == {("amount_mismatch", 1)}


async def test_outcome__claimable_that_was_booked_as_paid__named(chain: Chain):
    await settle(chain)
    async with chain.database.begin() as tx:
        await tx.connection.execute("UPDATE payouts SET outcome = 'paid' WHERE recipient = $1", ALICE)
        assert len(await tx.audits.false_outcomes(CHAIN, 10)) == 1
