"""Checks and breaks as rows: one row a break, and nothing of what a person needs is lost."""

import json

import pytest

from bridge.domain.breaks import BreakKind, Check, Difference, Level, Reconciliation
from bridge.domain.units import UINT256_MAX, AssetId, BlockStamp
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
    async with books.begin() as tx:
        await tx.connection.execute(
            "UPDATE breaks SET state = 'resolved', resolved_at = now(), resolution = 'known' WHERE break_id = $1",
            again.break_id,
        )
    assert (await finish(books, lasting)).breaks == ()


async def test_finish__twice__refused(books: Database):
    async with books.begin() as tx:
        reconciliation_id = await tx.breaks.start()
        await tx.breaks.finish(reconciliation_id, [check()])
        with pytest.raises(AssertionError):
            await tx.breaks.finish(reconciliation_id, [])
