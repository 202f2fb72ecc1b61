"""Corrections: asked by one, approved by another, booked once; and what the reconciler and the report make of them."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from bridge.domain.errors import ConfigError, RefusedError
from bridge.domain.ledger import SUSPENSE_IN, SUSPENSE_OUT, UNALLOCATED, gas_code
from bridge.domain.reports.report import Verdict
from bridge.domain.units import Address, AssetId, base58
from bridge.stages import correct
from bridge.stages.correct import approve, ask_adjustment, ask_classification, ask_reversal, refuse
from bridge.stages.report import report
from bridge.store.database import Database
from tests.stages.books import (
    ALICE,
    CHAIN,
    ETH,
    OPERATOR,
    PAYER,
    USDX,
    VAULT,
    VAULT_CODE,
    Chain,
    Emitted,
    bookkeeper,
    fee,
    run,
    start,
    transfer,
)
from tests.stages.test_reconcile import follow, found, reconcile, sql

NOBODY = Address(bytes(20))


@pytest.fixture
async def chain(database: Database) -> Chain:
    """Books with one fee, at block 1."""
    chain = await start(database, held={(OPERATOR, ETH): 1000, (VAULT, USDX): 5})
    await chain.mine(*fee(1000))
    await run(await bookkeeper(chain))
    return chain


async def balance(chain: Chain, code: str) -> int:
    async with chain.database.snapshot() as tx:
        return await tx.ledger.balance_at(CHAIN, code, USDX, chain.tip)


async def balances(chain: Chain) -> dict[tuple[str, AssetId], int]:
    async with chain.database.snapshot() as tx:
        return {(each.code, each.asset): each.posted for each in await tx.ledger.balances(CHAIN, chain.tip)}


async def gift(chain: Chain, *, amount: int = 7, by: str = "alice", reason: str = "a gift") -> int:
    """Ask to take a donation out of suspense."""
    return await ask_adjustment(chain.database, SUSPENSE_IN, UNALLOCATED, "USDX", amount, reason=reason, by=by)


# ── Two people ──────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_adjust__donation__waits_then_explains_the_break(chain: Chain):
    await follow(chain, [transfer(PAYER, VAULT, 7)])
    assert found(await reconcile(chain)) == [("unexpected_in", SUSPENSE_IN, 7)]
    number = await gift(chain)
    assert found(await reconcile(chain)) == [("unexpected_in", SUSPENSE_IN, 7)]
    booked = await approve(chain.database, number, by="bob")
    assert (booked.at, booked.reason) == (chain.stamp(2), "a gift (asked by alice, approved by bob)")
    result = await reconcile(chain)
    assert (found(result), result.cleared, result.balanced) == ([], 1, True)
    async with chain.database.snapshot() as tx:
        [asked] = await tx.corrections.asked(everything=True)
    assert (asked.correction.asked_by, asked.answer, asked.answered_by) == ("alice", "approved", "bob")


async def test_adjust__rebase__books_equal_chain_and_the_report_shows_the_adjustment(chain: Chain):
    chain.held[VAULT, USDX] += 2
    await follow(chain, [])
    assert found(await reconcile(chain)) == [("unexplained_balance", VAULT_CODE, 2)]
    number = await ask_adjustment(
        chain.database, VAULT_CODE, UNALLOCATED, USDX, 2, reason="rebase of block 2", by="alice", break_id=1
    )
    await approve(chain.database, number, by="bob")
    assert (await reconcile(chain)).balanced
    content = await report(chain.database)
    [vault] = [row for row in content.roll_forward if (row.account, row.closing.asset.id) == (VAULT_CODE, USDX)]
    assert (vault.adjustments.atoms, vault.closing.atoms) == (2, 1007)
    assert vault.difference is not None
    assert vault.difference.atoms == 0
    [waterfall] = content.waterfalls
    assert (waterfall.adjustments.atoms, waterfall.unallocated.atoms) == (2, 1007)


async def _gift(chain: Chain) -> list[Emitted]:
    return [transfer(PAYER, VAULT, 7)]


async def _theft(chain: Chain) -> list[Emitted]:
    return [transfer(VAULT, PAYER, 7)]


async def _rebase(chain: Chain) -> list[Emitted]:
    chain.held[VAULT, USDX] += 2
    return []


async def _coin(chain: Chain) -> list[Emitted]:
    chain.held[OPERATOR, ETH] += 50
    return []


async def _coin_out(chain: Chain) -> list[Emitted]:
    chain.held[OPERATOR, ETH] -= 50
    return []


async def _destroyed(chain: Chain) -> list[Emitted]:
    """A contract that destroyed itself left its coin to the vault."""
    chain.held[VAULT, ETH] += 9
    return []


async def _fee_taken(chain: Chain) -> list[Emitted]:
    """The token takes one of a hundred, and says so by a transfer of its own."""
    return [transfer(PAYER, VAULT, 100), transfer(VAULT, NOBODY, 1), fee(99)[1]]


async def _fee_kept_quiet(chain: Chain) -> list[Emitted]:
    """The token says that a hundred came, and one is not there."""
    chain.held[VAULT, USDX] -= 1
    return [transfer(PAYER, VAULT, 100), fee(99)[1]]


@dataclass(frozen=True)
class Moved:
    """What happens; the breaks that it makes; what a person says that the first of them was; what is booked then."""

    how: Callable[[Chain], Coroutine[Any, Any, list[Emitted]]]
    breaks: list[tuple[str, str, int]]
    account: str
    booked: dict[tuple[str, AssetId], int]


OPERATOR_ACCOUNT = gas_code(OPERATOR)
MOVED = {
    "donation": Moved(
        _gift, [("unexpected_in", SUSPENSE_IN, 7)], UNALLOCATED, {(UNALLOCATED, USDX): -7, (VAULT_CODE, USDX): 7}
    ),
    "theft": Moved(
        _theft,
        [("unexpected_out", SUSPENSE_OUT, -7)],
        "expense:theft",
        {("expense:theft", USDX): 7, (VAULT_CODE, USDX): -7},
    ),
    "rebase": Moved(
        _rebase,
        [("unexplained_balance", VAULT_CODE, 2)],
        UNALLOCATED,
        {(UNALLOCATED, USDX): -2, (VAULT_CODE, USDX): 2},
    ),
    "native coin in": Moved(
        _coin,
        [("unexplained_balance", OPERATOR_ACCOUNT, 50)],
        "external:treasury",
        {("external:treasury", ETH): -50, (OPERATOR_ACCOUNT, ETH): 50},
    ),
    "native coin out": Moved(
        _coin_out,
        [("unexplained_balance", OPERATOR_ACCOUNT, -50)],
        "external:treasury",
        {("external:treasury", ETH): 50, (OPERATOR_ACCOUNT, ETH): -50},
    ),
    "native coin of what destroyed itself": Moved(
        _destroyed,
        [("unexplained_balance", VAULT_CODE, 9)],
        "external:unknown",
        {("external:unknown", ETH): -9, (VAULT_CODE, ETH): 9},
    ),
    "fee on transfer, told": Moved(
        _fee_taken,
        [("unexpected_in", SUSPENSE_IN, 1), ("unexpected_out", SUSPENSE_OUT, -1)],
        SUSPENSE_OUT,
        {(UNALLOCATED, USDX): -99, (VAULT_CODE, USDX): 99},
    ),
    "fee on transfer, kept quiet": Moved(
        _fee_kept_quiet,
        [("unexpected_in", SUSPENSE_IN, 1), ("unexplained_balance", VAULT_CODE, -1)],
        VAULT_CODE,
        {(UNALLOCATED, USDX): -99, (VAULT_CODE, USDX): 99},
    ),
}


@pytest.mark.parametrize("name", MOVED)
async def test_classify__whatever_moved__one_word_of_two_people_and_books_equal_chain(chain: Chain, name: str):
    moved = MOVED[name]
    before = await balances(chain)
    await follow(chain, await moved.how(chain))
    result = await reconcile(chain)
    assert found(result) == moved.breaks
    [first, *_] = [each.break_id for each in result.breaks if each.subject == moved.breaks[0][1]]
    number = await ask_classification(chain.database, first, moved.account, reason="we know", by="alice")
    with pytest.raises(RefusedError, match=f"correction {number} is about break {first}, and waits"):
        await ask_classification(chain.database, first, moved.account, reason="again", by="carol")
    await approve(chain.database, number, by="bob")
    assert (await reconcile(chain)).balanced
    after = await balances(chain)
    changed = {key: amount for key in after if (amount := after[key] - before.get(key, 0))}
    assert changed == moved.booked
    assert (await report(chain.database)).verdict is Verdict.BALANCED
    with pytest.raises(RefusedError, match="nothing is left of it"):
        await ask_classification(chain.database, first, moved.account, reason="again", by="carol")


async def test_classify__break_that_is_no_amount_on_one_account__refused_with_what_mends_it(chain: Chain):
    await sql(chain.database, "DELETE FROM journals WHERE kind = 'vault.FeePaid'")
    await sql(chain.database, "DELETE FROM journal_keys WHERE source = 'log:anvil' AND ref LIKE '%:1'")
    result = await reconcile(chain)
    [missing] = [each for each in result.breaks if each.subject.startswith("log ")]
    with pytest.raises(RefusedError, match=r"no amount on one account\. It goes when the log is booked"):
        await ask_classification(chain.database, missing.break_id, UNALLOCATED, reason="we know", by="alice")


@pytest.mark.parametrize("account", ["vault", "surplus:mine", VAULT_CODE])
async def test_classify__account_that_cannot_be__mistake_to_mend(chain: Chain, account: str):
    await follow(chain, await _rebase(chain))
    await reconcile(chain)
    with pytest.raises(ConfigError):
        await ask_classification(chain.database, 1, account, reason="we know", by="alice")


async def test_approve__by_who_asked__refused_and_nothing_booked(chain: Chain):
    number = await gift(chain)
    with pytest.raises(RefusedError, match="another person"):
        await approve(chain.database, number, by="alice")
    assert await balance(chain, SUSPENSE_IN) == 0
    await approve(chain.database, number, by="bob")
    assert await balance(chain, SUSPENSE_IN) == 7


async def test_approve__by_who_asked_behind_our_back__the_database_refuses(chain: Chain):
    await gift(chain)
    with pytest.raises(asyncpg.CheckViolationError, match="another person"):
        await sql(
            chain.database,
            "INSERT INTO correction_answers (correction_id, answer, answered_by) VALUES (1, 'approved', 'alice')",
            trusted=False,
        )


async def test_approve__two_at_once__booked_once(chain: Chain):
    number = await gift(chain)
    outcomes = await asyncio.gather(
        *(approve(chain.database, number, by=by) for by in ("bob", "carol", "dave")), return_exceptions=True
    )
    assert sorted(isinstance(one, RefusedError) for one in outcomes) == [False, True, True]
    assert await balance(chain, SUSPENSE_IN) == 7


async def test_refuse__also_by_who_asked__cannot_be_approved_any_more(chain: Chain):
    number = await gift(chain)
    await refuse(chain.database, number, reason="a typing error", by="alice")
    with pytest.raises(RefusedError, match="is refused by alice already"):
        await approve(chain.database, number, by="bob")
    with pytest.raises(RefusedError, match="no correction 9"):
        await refuse(chain.database, 9, reason="x", by="bob")
    async with chain.database.snapshot() as tx:
        assert await tx.corrections.asked() == []


@pytest.mark.parametrize("table", ["corrections", "correction_answers"])
@pytest.mark.parametrize("change", ["UPDATE {} SET reason = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_corrections__changed__refused(chain: Chain, table: str, change: str):
    await approve(chain.database, await gift(chain), by="bob")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await sql(chain.database, change.format(table), trusted=False)


# ── Reversals ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_reverse__fee__undone_once_with_its_link(chain: Chain):
    async with chain.database.snapshot() as tx:
        [entry] = [one for one in await tx.corrections.newest(10) if one.kind == "vault.FeePaid"]
    number = await ask_reversal(chain.database, str(entry.journal_id), reason="not ours", by="alice")
    with pytest.raises(RefusedError, match=f"correction {number} asks for this"):
        await ask_reversal(chain.database, f"{entry.source} {entry.ref}", reason="not ours", by="carol")
    await approve(chain.database, number, by="bob")
    assert (await balance(chain, UNALLOCATED), await balance(chain, SUSPENSE_IN)) == (0, -1000)
    with pytest.raises(RefusedError, match="is reversed already"):
        await ask_reversal(chain.database, str(entry.journal_id), reason="again", by="carol")
    async with chain.database.snapshot() as tx:
        reverses = await tx.connection.fetchval("SELECT reverses_id FROM journals WHERE source = 'reversal'")
    assert reverses == entry.journal_id
    # The chain still says that a fee was paid: the sum that is now missing is a break until it is explained.
    assert found(await reconcile(chain)) == [("unexpected_in", SUSPENSE_IN, 1000)]
    [waterfall] = (await report(chain.database)).waterfalls
    assert (waterfall.earned.atoms, waterfall.adjustments.atoms) == (1000, -1000)


async def test_reverse__the_reversal__as_before(chain: Chain):
    async with chain.database.snapshot() as tx:
        [entry] = [one for one in await tx.corrections.newest(10) if one.kind == "vault.FeePaid"]
    await approve(chain.database, await ask_reversal(chain.database, str(entry.journal_id), reason="x", by="a"), by="b")
    name = f"reversal {entry.source} {entry.ref}"
    await approve(chain.database, await ask_reversal(chain.database, name, reason="it was ours", by="a"), by="b")
    assert await balance(chain, SUSPENSE_IN) == 0
    assert (await reconcile(chain)).balanced


# ── What cannot be asked ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"debit": "surplus"}, "not an account"),
        ({"credit": f"vault:0x{ALICE.hex().upper()}"}, "not an account"),
        ({"credit": SUSPENSE_IN}, "same account"),
        ({"asset": "DAI"}, "no asset"),
        ({"amount": 0}, "positive uint256"),
        ({"amount": 2**256}, "positive uint256"),
        ({"reason": " "}, "is empty"),
        ({"break_id": 99}, "no break 99"),
    ],
)
async def test_ask_adjustment__words_that_do_not_fit__mistake_to_mend(
    chain: Chain, words: dict[str, object], said: str
):
    right = {"debit": SUSPENSE_IN, "credit": UNALLOCATED, "asset": "USDX", "amount": 7, "reason": "a gift"}
    with pytest.raises(ConfigError, match=said):
        await ask_adjustment(chain.database, **{**right, **words}, by="alice")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["0", "99999", "9" * 30, "test", "log:anvil none", ""])
async def test_ask_reversal__unknown_journal__mistake_to_mend(chain: Chain, name: str):
    with pytest.raises(ConfigError, match="no journal"):
        await ask_reversal(chain.database, name, reason="x", by="alice")


# ── Corrections that nobody stands for ──────────────────────────────────────────────────────────────────────────────
FORGED = """
    WITH f AS (INSERT INTO journals SELECT chain, block_number, 999, block_hash, $1, reason, $1, '99', payload_hash,
                                           valid_at FROM journals WHERE source = 'opening')
    INSERT INTO journal_keys SELECT $1, '99', payload_hash, 999, chain, block_number
      FROM journal_keys WHERE source = 'opening'
"""


@pytest.mark.parametrize("kind", ["adjustment", "reversal"])
async def test_reconcile__correction_that_nobody_approved__named(chain: Chain, kind: str):
    await sql(chain.database, FORGED, kind, trusted=False)
    assert found(await reconcile(chain)) == [("amount_mismatch", f"journal {kind} 99", None)]


async def test_reconcile__approved_amount_changed_with_the_balances__named(chain: Chain):
    await approve(chain.database, await gift(chain), by="bob")
    await sql(chain.database, "UPDATE corrections SET amount = amount + 1")
    assert ("amount_mismatch", "journal adjustment 1", None) in found(await reconcile(chain))


async def test_reconcile__approved_but_taken_out_of_the_books__named(chain: Chain):
    await approve(chain.database, await gift(chain), by="bob")
    for table in ("transfers", "journals", "journal_keys"):
        where = "journal_id = (SELECT journal_id FROM journal_keys WHERE source = 'adjustment')"
        await sql(chain.database, f"DELETE FROM {table} WHERE {where}")
    assert ("missing_in_ledger", "adjustment 1", None) in found(await reconcile(chain))


async def test_adjust__suspense_out__books_stay_in_balance(chain: Chain):
    """Any account may be part of it: the report's identities hold whatever two people agree on."""
    for debit, credit in ((SUSPENSE_OUT, f"payable:0x{ALICE.hex()}"), (f"payable:0x{ALICE.hex()}", "external:fund")):
        number = await ask_adjustment(chain.database, debit, credit, "USDX", 3, reason="x", by="alice")
        await approve(chain.database, number, by="bob")
    await reconcile(chain)
    [waterfall] = (await report(chain.database)).waterfalls
    assert (waterfall.earned.atoms, waterfall.in_flight.atoms) == (1000, 0)


@pytest.mark.parametrize(
    ("asked", "booked"),
    [
        (f"attempt {base58(bytes([9]) * 64)}", f"attempt {'09' * 64}"),
        (f"attempt 0x{'AB' * 32}", f"attempt {'ab' * 32}"),
        (f"log:svm {base58(bytes([9]) * 32)}:1025", f"log:svm {'09' * 32}:1025"),
        (f"batch 0x{'0a' * 32}:3", f"batch {'0a' * 32}:3"),
        (f"decision {'0a' * 32}", f"decision {'0a' * 32}"),
        ("correction 12", "correction 12"),
    ],
)
def test_reversal__transactions_and_blocks_as_reports_write_them__found_as_they_are_booked(asked: str, booked: str):
    assert correct._as_booked(asked) == booked
