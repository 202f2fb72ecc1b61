"""Checks and breaks as rows: one row a break, and nothing of what a person needs is lost."""

import json
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from bridge.domain.breaks import BreakKind, Check, Difference, Level, Reconciliation
from bridge.domain.errors import RefusedError
from bridge.domain.states import BreakState
from bridge.domain.units import UINT256_MAX, AssetId, BlockStamp
from bridge.store.breaks import Breaks
from bridge.store.database import Database

AT = BlockStamp("anvil", 7, b"\x07" * 32)
LATER = BlockStamp("anvil", 8, b"\x08" * 32)
USDX = AssetId("eip155:31337/erc20:0x70")


@pytest.fixture
async def books(database: Database) -> Database:
    async with database.begin() as tx:
        await tx.chains.register("anvil", "evm", "eip155:31337", b"\x00" * 32, 0)
    return database


async def finish(database: Database, *checks: Check) -> Reconciliation:
    async with database.begin() as tx:
        return await tx.breaks.finish(await tx.breaks.start(), checks)


def check(*differences: Difference, at: BlockStamp = AT, subject: str = "suspense:in") -> Check:
    return Check(Level.SUSPENSE, subject, at, USDX, differences=differences)


def donation(amount: int, **evidence: str) -> Difference:
    return Difference(BreakKind.UNEXPECTED_IN, "suspense:in", evidence, USDX, amount)


async def test_finish__same_break_twice_in_one_run__one_row(books: Database):
    result = await finish(books, check(donation(1), donation(1)))
    assert [item.amount for item in result.breaks] == [1]


async def test_finish__found_again__first_place_and_all_evidence_kept(books: Database):
    await finish(books, check(donation(1, first="a", held="1")))
    [item] = (await finish(books, check(donation(UINT256_MAX, held="2"), at=LATER))).breaks
    assert (item.at, item.amount) == (AT, UINT256_MAX)
    assert json.loads(item.evidence) == {"first": "a", "held": "2"}


async def test_finish__other_check_agreed__does_not_clear(books: Database):
    await finish(books, check(donation(1)))
    assert len((await finish(books, check(subject="suspense:out"))).breaks) == 1
    result = await finish(books, check())
    assert (result.breaks, result.cleared, result.balanced) == ((), 1, True)


async def test_finish__cleared_and_found_anew__a_new_row(books: Database):
    [old] = (await finish(books, check(donation(1)))).breaks
    await finish(books, check())
    [new] = (await finish(books, check(donation(1)))).breaks
    assert new.break_id > old.break_id


async def test_finish__lasting__found_again_after_a_check_cleared_it_and_not_after_a_person_resolved_it(
    books: Database,
):
    """A nonce is nobody's, then for a moment it is thought to be ours, then it is a stranger's after all."""
    nonce = Difference(BreakKind.UNEXPECTED_OUT, "operator nonce 0", {"nonce": 0}, lasting=True)
    lasting = Check(Level.NONCE, "operator", AT, differences=(nonce,))
    assert len((await finish(books, lasting)).breaks) == 1
    assert (await finish(books, Check(Level.NONCE, "operator", AT))).cleared == 1
    [again] = (await finish(books, lasting)).breaks
    await change(books, lambda store: store.resolve(again.break_id, reason="known", by="ann"))
    last = await finish(books, lasting)
    assert (last.breaks, last.balanced) == ((), True)


async def test_finish__lasting__more_than_what_a_person_resolved__opened_again(books: Database):
    def executed(*logs: str) -> Check:
        again = Difference(BreakKind.DUPLICATE, "batch 1:0", {"logs": list(logs)}, USDX, len(logs), lasting=True)
        return Check(Level.PAYOUT, "executed batches", AT, differences=(again,))

    [twice] = (await finish(books, executed("a"))).breaks
    await change(books, lambda store: store.resolve(twice.break_id, reason="asked back", by="ann"))
    assert (await finish(books, executed("a"))).breaks == ()
    [thrice] = (await finish(books, executed("a", "b"))).breaks
    assert (thrice.break_id > twice.break_id, thrice.amount) == (True, 2)


async def test_finish__lasting__resolved_by_a_person__its_check_agrees_unless_it_found_more(books: Database):
    def executed(*more: Difference) -> Check:
        twice = Difference(BreakKind.DUPLICATE, "batch 1:0", {"logs": ["a"]}, USDX, 5, lasting=True)
        return Check(Level.PAYOUT, "executed batches", AT, differences=(twice, *more))

    [twice] = (await finish(books, executed())).breaks
    await change(books, lambda store: store.resolve(twice.break_id, reason="asked back", by="ann"))
    await finish(books, executed())
    await finish(books, executed(donation(1)))
    async with books.snapshot() as tx:
        rows = await tx.connection.fetch("SELECT outcome, cause FROM checks ORDER BY check_id")
        told = (await tx.status.read()).consistency
    assert [tuple(row) for row in rows] == [
        ("broken", "duplicate"),
        ("agreed", "settled by a person: duplicate"),
        ("broken", "duplicate, unexpected_in"),
    ]
    assert (told.agreed, told.broken) == (0, 1)


async def test_finish__twice__refused(books: Database):
    async with books.begin() as tx:
        reconciliation_id = await tx.breaks.start()
        await tx.breaks.finish(reconciliation_id, [check()])
        with pytest.raises(AssertionError):
            await tx.breaks.finish(reconciliation_id, [])


# ── The life of a break ─────────────────────────────────────────────────────────────────────────────────────────────
async def change(books: Database, order: Callable[[Breaks], Awaitable[None]]) -> None:
    async with books.begin() as tx:
        await order(tx.breaks)


async def history(books: Database, break_id: int) -> list[tuple[str, str, str | None]]:
    async with books.snapshot() as tx:
        return [(str(one.state), one.by, one.words) for one in await tx.breaks.history(break_id)]


def mismatch(*differences: Difference) -> Check:
    return Check(Level.EVENT, "logs", AT, differences=differences)


WRONG = Difference(BreakKind.AMOUNT_MISMATCH, "log 1", {})


async def test_life__assigned_handed_on_explained_and_resolved__every_step_has_its_line(books: Database):
    [item] = (await finish(books, mismatch(WRONG))).breaks
    await change(books, lambda store: store.assign(item.break_id, to="bob", by="ann"))
    await change(books, lambda store: store.assign(item.break_id, to="cleo", by="bob"))
    await change(books, lambda store: store.explain(item.break_id, reason="a typing error", by="cleo"))
    await finish(books, mismatch())  # its cause is gone; it does not clear by itself
    await change(books, lambda store: store.resolve(item.break_id, reason="row restored", by="ann"))
    assert await history(books, item.break_id) == [
        ("open", "reconciliation 1", None),
        ("assigned", "ann", "bob"),
        ("assigned", "bob", "cleo"),
        ("explained", "cleo", "a typing error"),
        ("resolved", "ann", "row restored"),
    ]
    async with books.snapshot() as tx:
        assert await tx.breaks.unresolved() == []
        [closed] = await tx.breaks.in_states([BreakState.RESOLVED])
    assert closed.resolution == "explained by cleo: a typing error; resolved by ann: row restored"
    assert closed.resolved_at is not None
    assert (closed.assignee, closed.age(closed.opened_at)) == ("cleo", closed.resolved_at - closed.opened_at)


async def test_life__cleared_by_a_check__the_check_is_named(books: Database):
    [item] = (await finish(books, check(donation(1)))).breaks
    await finish(books, check())
    assert await history(books, item.break_id) == [("open", "reconciliation 1", None), ("resolved", "check 2", None)]


@pytest.mark.parametrize("kind", BreakKind)
async def test_resolve__evidence_stands__refused_with_the_run_that_saw_it(books: Database, kind: BreakKind):
    difference = Difference(kind, "it", {})
    [item] = (await finish(books, mismatch(difference))).breaks
    await finish(books, check())  # a run that does not make its check says nothing about it
    skipped = Check(Level.EVENT, "logs", LATER, skipped="no node")
    await finish(books, skipped)
    with pytest.raises(RefusedError, match=r"cannot be resolved: reconciliation 1 still found it at block 7 of anvil"):
        await change(books, lambda store: store.resolve(item.break_id, reason="go away", by="ann"))
    assert [state for state, _, _ in await history(books, item.break_id)] == ["open"]


async def test_resolve__never_looked_at__refused(books: Database):
    async with books.begin() as tx:
        await tx.connection.execute(
            "INSERT INTO breaks (kind, chain, level, check_subject, subject, evidence, block_number, block_hash) "
            "VALUES ('timing', 'anvil', 'nonce', 'x', 'x', '{}', 1, '')"
        )
    with pytest.raises(RefusedError, match="no run has looked at it since"):
        await change(books, lambda store: store.resolve(1, reason="why not", by="ann"))


async def test_life__arrows_that_are_not_there__refused(books: Database):
    [item] = (await finish(books, mismatch(WRONG))).breaks
    await finish(books, mismatch())
    await change(books, lambda store: store.explain(item.break_id, reason="x", by="ann"))
    with pytest.raises(RefusedError, match=r"^break 1 is explained already$"):
        await change(books, lambda store: store.assign(item.break_id, to="bob", by="ann"))
    with pytest.raises(RefusedError, match=r"^break 1 is explained already$"):
        await change(books, lambda store: store.explain(item.break_id, reason="y", by="ann"))
    await change(books, lambda store: store.resolve(item.break_id, reason="x", by="ann"))
    with pytest.raises(RefusedError, match=r"^break 1 is resolved already$"):
        await change(books, lambda store: store.resolve(item.break_id, reason="y", by="ann"))
    with pytest.raises(RefusedError, match=r"^there is no break 99$"):
        await change(books, lambda store: store.assign(99, to="bob", by="ann"))


async def test_history__changed_by_hand__has_its_line_with_the_role_and_nobody_elses_name(books: Database):
    [item] = (await finish(books, mismatch(WRONG))).breaks
    async with books.begin() as tx:
        await tx.breaks.assign(item.break_id, to="bob", by="ann")
        await tx.connection.execute("UPDATE breaks SET state = 'explained'")
        role = await tx.connection.fetchval("SELECT session_user::TEXT")
    assert (await history(books, item.break_id))[1:] == [
        ("assigned", "ann", "bob"),
        ("explained", f"role {role}", None),
    ]


@pytest.mark.parametrize(
    "statement", ["UPDATE break_history SET changed_by = 'bob'", "DELETE FROM break_history", "TRUNCATE break_history"]
)
async def test_history__changed_or_taken_away__refused(books: Database, statement: str):
    await finish(books, mismatch(WRONG))
    with pytest.raises(asyncpg.RestrictViolationError, match="never changed"):
        async with books.begin() as tx:
            await tx.connection.execute(statement)


async def test_status__breaks_by_age__each_in_its_band(books: Database):
    differences = [Difference(BreakKind.AMOUNT_MISMATCH, f"log {number}", {}) for number in range(6)]
    await finish(books, mismatch(*differences))
    async with books.begin() as tx:
        for number, hours in enumerate((0, 1, 24, 24 * 7 - 1, 24 * 7, 24 * 31)):
            await tx.connection.execute(
                "UPDATE breaks SET opened_at = now() - $2 * INTERVAL '1 hour' WHERE subject = $1",
                *(f"log {number}", hours),
            )
    async with books.snapshot() as tx:
        status = await tx.status.read()
    assert status.break_ages == {"<1 h": 1, "<24 h": 1, "1–7 d": 2, "7–30 d": 1, ">30 d": 1}


async def test_status__consistency__of_the_last_finished_run_rounded_down(books: Database):
    """By count, by value of each asset, and how much could be judged."""
    async with books.begin() as tx:
        await tx.connection.execute("INSERT INTO assets VALUES ($1, 'anvil', '\\x70', 'USDX', 6)", USDX)
    apart = Difference(BreakKind.UNEXPLAINED_BALANCE, "vault", {}, USDX, 1)
    checks = [
        Check(Level.BALANCE, "vault", AT, USDX, expected=2**200, actual=2**200 + 1, differences=(apart,)),
        Check(Level.BALANCE, "claims", AT, USDX, expected=5, actual=5),
        Check(Level.BALANCE, "distributor", AT, USDX, expected=7, actual=9, skipped="not booked yet"),
    ]
    await finish(books, *checks)
    async with books.begin() as tx:
        await tx.breaks.start()  # one that never finishes
    async with books.snapshot() as tx:
        told = (await tx.status.read()).consistency
    [value] = told.values
    assert (told.agreed, told.broken, told.skipped) == (1, 1, 1)
    assert (told.agreed_ppm, told.coverage_ppm) == (500_000, 666_666)
    assert (value.symbol, value.common, value.whole, value.ppm) == ("USDX", 2**200 + 5, 2**200 + 6, 999_999)


async def test_status__time_to_detect_and_to_resolve__median_and_95th(books: Database):
    async with books.begin() as tx:
        await tx.connection.execute(
            "INSERT INTO blocks (chain, number, hash, parent_hash, timestamp, status) "
            "VALUES ('anvil', 7, $1, '', extract(epoch FROM now())::BIGINT - 40, 'finalized')",
            AT.hash,
        )
    await finish(books, mismatch(*[Difference(BreakKind.TIMING, f"log {number}", {}) for number in range(20)]))
    async with books.begin() as tx:
        await tx.connection.execute(
            "UPDATE breaks SET state = 'resolved', resolved_at = opened_at + break_id * INTERVAL '1 minute' "
            "WHERE break_id < 20"
        )
    async with books.snapshot() as tx:
        told = (await tx.status.read()).consistency
    assert told.detect_s is not None
    assert told.resolve_s == (600, 19 * 60)
    assert all(40 <= seconds <= 45 for seconds in told.detect_s)
