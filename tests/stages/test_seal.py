"""The seal of the books: what the database's owner does to a row, with all triggers off, is found and named."""

import asyncio

import asyncpg
import pytest

from bridge.domain.conditions import ConditionName
from bridge.domain.ledger import Phase
from bridge.domain.seals import START, Tip, Verification, Walk
from bridge.stages.seal import Seal, verify, walk_on
from bridge.store.database import Database
from tests.stages.test_reconcile import FixedClock, sql
from tests.store.test_ledger import CODES, ETH, books, journal, move, post

__all__ = ["books"]

JOURNALS = 7


def sealer(database: Database, *, journals_per_step: int = 5_000) -> Seal:
    return Seal(database=database, clock=FixedClock(), journals_per_step=journals_per_step)


@pytest.fixture
async def sealed(books: Database) -> Database:
    """Seven journals, sealed in two runs; the one with number n is `test n` at position n."""
    await post(books, *(journal(str(n), move(n), move(n, *CODES[1:3], phase=Phase.PENDING)) for n in range(1, 5)))
    await sealer(books).step()
    await post(books, journal("5", block=2), *(journal(str(n), move(n), block=2) for n in (6, 7)))
    await sealer(books).step()
    return books


async def fault(database: Database, noted: Tip | None = None) -> str | None:
    """What verification says, however many journals it reads at once; what it finds, the walks of the daemon find."""
    found = {await verify(database, noted, page=page) for page in (1, 3, 5_000)}
    assert len(found) == 1
    said = found.pop().fault
    if noted is None:
        assert bool(await walked(database)) == (said is not None)
    return said


async def walked(database: Database, *, runs: int = 4, limit: int = 3) -> dict[Walk, str]:
    """What walks stand in front of after a whole round in small pieces."""
    for _ in range(runs):
        await walk_on(database, limit=limit)
    async with database.snapshot() as tx:
        return await tx.seals.faults() or {}


# ── Nothing wrong ───────────────────────────────────────────────────────────────────────────────────────────────────
async def test_verify__nothing_booked__start(books: Database):
    assert await verify(books) == Verification(Tip(0, START), 0, None)


async def test_verify__untouched__intact_with_count_and_head(sealed: Database):
    found = await verify(sealed)
    async with sealed.snapshot() as tx:
        assert found == Verification(await tx.seals.last_sealing(), 0, None)
    assert found.tip.count == JOURNALS


async def test_verify__booked_after_the_last_run__waits_and_is_sealed_by_the_next(sealed: Database):
    await post(sealed, journal("8", move(1)))
    assert (await verify(sealed)).waiting == 1
    assert await fault(sealed) is None
    await sealer(sealed).step()
    found = await verify(sealed)
    assert (found.tip.count, found.waiting, found.fault) == (8, 0, None)


@pytest.mark.parametrize("size", [1, 2, 50])
async def test_seal__any_step_size__same_head(books: Database, size: int):
    await post(books, *(journal(str(n), move(n)) for n in range(1, 6)))
    stage = sealer(books, journals_per_step=size)
    while await stage.step():
        pass
    found = await verify(books)
    assert (found.tip.count, found.waiting, found.fault) == (5, 0, None)


async def test_seal__late_commit_of_an_early_id__sealed_too(books: Database):
    """Ids are taken in one order and committed in another: nothing is skipped."""
    async with books.begin() as early:
        await early.ledger.post([journal("early", move(1))])
        await post(books, journal("late", move(1, *CODES[2:4])))
        await sealer(books).step()
        assert (await verify(books)).tip.count == 1
    await sealer(books).step()
    found = await verify(books)
    assert (found.tip.count, found.waiting, found.fault) == (2, 0, None)


async def test_seal__refused_journal__leaves_no_link(sealed: Database):
    with pytest.raises(RuntimeError):
        async with sealed.begin() as tx:
            await tx.ledger.post([journal("never", move(1))])
            raise RuntimeError
    await sealer(sealed).step()
    assert (await verify(sealed)).tip.count == JOURNALS


async def test_seal__idle__runs_are_bundled(books: Database):
    clock = FixedClock()
    stage = Seal(database=books, clock=clock, interval_ms=1_000)
    await stage.step()
    await post(books, journal("1", move(1)))
    assert await stage.step() is False
    assert (await verify(books)).waiting == 1
    await clock.sleep_ms(1_000)
    await stage.step()
    assert (await verify(books)).waiting == 0


# ── Walked ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def rounds(database: Database) -> tuple[int, int]:
    async with database.snapshot() as tx:
        return (await tx.seals.walked(Walk.ROUND)).rounds, (await tx.seals.walked(Walk.BOOKS)).rounds


async def test_walk__bounded_pieces__rounds_begin_again(sealed: Database):
    said = [await walk_on(sealed, limit=3) for _ in range(3)]
    assert said == ["new: intact; round: intact; books: intact"] * 2 + [
        "new: intact; round: round ended; books: round ended"
    ]
    assert await rounds(sealed) == (1, 1)
    await walked(sealed, runs=3)
    assert await rounds(sealed) == (2, 2)


async def test_walk__sealed_since__only_that_is_read_to_be_sure_of_it(sealed: Database):
    await walk_on(sealed)
    await post(sealed, journal("8", move(1)))
    await sealer(sealed).step()
    async with sealed.snapshot() as tx:
        before = await tx.seals.walked(Walk.NEW)
    assert before.tip.count == JOURNALS
    await sql(sealed, "UPDATE journals SET reason = 'other' WHERE ref = '8'")
    await walk_on(sealed, limit=1)  # the round is far from it
    async with sealed.snapshot() as tx:
        assert list(await tx.seals.faults() or ()) == [Walk.NEW]


async def test_walk__whole_chain_made_anew__it_remembers_the_head(sealed: Database):
    await walk_on(sealed)
    await sql(sealed, f"UPDATE transfers SET amount = amount + 1 WHERE seq = 0 AND {OF_3}")
    await sql(sealed, "INSERT INTO unsealed SELECT journal_id, chain, block_number FROM seals")
    await sql(sealed, "DELETE FROM seals; DELETE FROM sealings")
    await sealer(sealed).step()
    assert (await verify(sealed)).fault is None
    assert (await walked(sealed))[Walk.NEW] == "after 7 journals the head is not the one that was verified"


async def test_walk__fault__stays_in_front_of_it_and_goes_when_it_is_mended(sealed: Database):
    change = (
        "UPDATE transfers SET amount = amount + $1 WHERE seq = 0 AND journal_id = (SELECT min(journal_id) FROM seals)"
    )
    await sql(sealed, change, 1)
    assert set(await walked(sealed)) == {Walk.NEW, Walk.ROUND}
    async with sealed.snapshot() as tx:
        [condition] = await tx.conditions.read({})
        assert (condition.name, condition.chain) == (ConditionName.BROKEN_SEAL, "all")
        assert condition.detail.endswith("is not what was sealed there; nothing new is sent")
        assert "is not what was sealed there" in str(await tx.seals.unseen_fault())
    await sql(sealed, change, -1)
    assert await walked(sealed) == {}
    async with sealed.snapshot() as tx:
        assert await tx.conditions.read({}) == []
        assert await tx.seals.unseen_fault() is None


async def test_walk__books_that_are_being_written__no_fault(books: Database):
    """The sealer and the bookkeeper commit between what a walk reads."""
    done = asyncio.Event()

    async def book() -> None:
        for number in range(60):
            await post(books, journal(str(number), move(1), block=number % 3 + 1))
            await sealer(books, journals_per_step=2).step()
        done.set()

    async def walk() -> None:
        while not done.is_set():
            await walk_on(books, limit=2)
            async with books.snapshot() as tx:
                assert await tx.seals.faults() == {}

    await asyncio.gather(book(), walk(), walk_books_alone(books, done))


async def walk_books_alone(books: Database, done: asyncio.Event) -> None:
    while not done.is_set():
        async with books.snapshot() as tx:
            assert (await tx.seals.books_after(("", -2, 0), 1_000))[1] is None


# ── Tampered with ───────────────────────────────────────────────────────────────────────────────────────────────────
OF_3 = "journal_id = (SELECT journal_id FROM journal_keys WHERE ref = '3')"
CHANGED = {
    # Each column of a journal, of its transfers and of what names them.
    f"UPDATE journals SET kind = 'other' WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET reason = 'other' WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET ref = '33' WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET source = 'log' WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET block_hash = '\\x00' WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET payload_hash = '\\x00' WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET valid_at = valid_at + 1 WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET recorded_at = recorded_at + INTERVAL '1 microsecond' WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET reverses_id = 1 WHERE {OF_3}": "is not what was sealed",
    f"UPDATE journals SET block_number = 2 WHERE {OF_3}": "is not in the books any more",
    f"UPDATE transfers SET amount = amount + 1 WHERE seq = 0 AND {OF_3}": "is not what was sealed",
    f"UPDATE transfers SET phase = 'posted' WHERE seq = 1 AND {OF_3}": "is not what was sealed",
    f"UPDATE transfers SET asset = '{ETH}' WHERE seq = 0 AND {OF_3}": "is not what was sealed",
    f"UPDATE transfers SET seq = 5 WHERE seq = 1 AND {OF_3}": "is not what was sealed",
    f"UPDATE transfers SET debit_account = credit_account, credit_account = debit_account WHERE {OF_3}":
        "is not what was sealed",
    f"UPDATE transfers SET debit_account = 99 WHERE seq = 0 AND {OF_3}": "is not what was sealed",
    f"DELETE FROM transfers WHERE seq = 1 AND {OF_3}": "is not what was sealed",
    f"INSERT INTO transfers SELECT chain, block_number, journal_id, 2, debit_account, credit_account, asset, 1, phase "
    f"FROM transfers WHERE seq = 0 AND {OF_3}": "is not what was sealed",
    f"DELETE FROM journals WHERE {OF_3}": "is not in the books any more",
    "UPDATE journal_keys SET ref = '33' WHERE ref = '3'": "has another key",
    "UPDATE journal_keys SET payload_hash = '\\x00' WHERE ref = '3'": "has another key",
    "DELETE FROM journal_keys WHERE ref = '3'": "has another key",
    "UPDATE seals SET head = sha256(head) WHERE sequence = 3": "is not what was sealed",
    "UPDATE seals SET block_number = 2 WHERE sequence = 3": "is not in the books any more",
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGED)
async def test_verify__row_changed__first_journal_that_differs_is_named(sealed: Database, change: str):
    async with sealed.snapshot() as tx:
        number = await tx.connection.fetchval("SELECT journal_id FROM journal_keys WHERE ref = '3'")
    await sql(sealed, change)
    said = await fault(sealed)
    assert said is not None
    assert said.startswith(f"journal {number} (")
    assert "at position 3" in said
    assert CHANGED[change] in said


async def test_verify__account_renamed__first_journal_that_used_it(sealed: Database):
    await sql(sealed, "UPDATE accounts SET code = 'payable:0x99' WHERE code = $1", CODES[2])
    assert "(test 1), at position 1, is not what was sealed" in str(await fault(sealed))


@pytest.mark.parametrize("what", ["content", "place"])
async def test_verify__two_journals_swapped__the_first_of_them(sealed: Database, what: str):
    if what == "place":
        for change in ("-sequence", "CASE -sequence WHEN 2 THEN 6 WHEN 6 THEN 2 ELSE -sequence END"):
            await sql(sealed, "ALTER TABLE seals DROP CONSTRAINT IF EXISTS seals_sequence_check")
            await sql(sealed, f"UPDATE seals SET sequence = {change}")
        assert "(test 6), at position 2" in str(await fault(sealed))
    else:
        await sql(sealed, "UPDATE journals SET ref = CASE ref WHEN '2' THEN '3' ELSE '2' END WHERE ref IN ('2', '3')")
        assert "(test 3), at position 2" in str(await fault(sealed))


async def test_verify__link_taken_out_of_the_middle__position_and_what_comes_next(sealed: Database):
    await sql(sealed, "DELETE FROM seals WHERE sequence IN (3, 4)")
    assert str(await fault(sealed)).startswith("position 3 of the chain is missing")


EVERYTHING_ABOUT = """
    DELETE FROM transfers WHERE journal_id IN (SELECT journal_id FROM journal_keys WHERE ref IN ('6', '7'));
    DELETE FROM journals WHERE ref IN ('6', '7');
    DELETE FROM journal_keys WHERE ref IN ('6', '7');
"""


async def test_verify__tail_cut_off_books_and_seals__found(sealed: Database):
    await sql(sealed, EVERYTHING_ABOUT + "DELETE FROM seals WHERE sequence > 5")
    assert await fault(sealed) == "the chain ends after 5 journals, 7 were sealed: its tail was cut"


async def test_verify__tail_cut_off_the_books_alone__found(sealed: Database):
    await sql(sealed, EVERYTHING_ABOUT)
    assert "at position 6, is not in the books any more" in str(await fault(sealed))


async def test_verify__tail_cut_off_the_seals_and_what_runs_noted__journals_left_over(sealed: Database):
    await sql(sealed, "DELETE FROM seals WHERE sequence > 4; DELETE FROM sealings WHERE count > 4")
    assert "(test 5) is in the books, neither sealed nor waiting for it" in str(await fault(sealed))


async def test_verify__tail_cut_off_everything__found_by_whoever_noted_the_head(sealed: Database):
    noted = (await verify(sealed)).tip
    await sql(sealed, EVERYTHING_ABOUT.replace("('6', '7')", "('5', '6', '7')"))
    await sql(sealed, "DELETE FROM seals WHERE sequence > 4; DELETE FROM sealings WHERE count > 4")
    assert await fault(sealed) is None  # a shorter chain that is true to itself
    assert "its tail was cut" in str(await fault(sealed, noted))


async def test_verify__whole_chain_made_anew__found_by_whoever_noted_the_head(sealed: Database):
    noted = (await verify(sealed)).tip
    await sql(sealed, f"UPDATE transfers SET amount = amount + 1 WHERE seq = 0 AND {OF_3}")
    await sql(sealed, "INSERT INTO unsealed SELECT journal_id, chain, block_number FROM seals")
    await sql(sealed, "DELETE FROM seals; DELETE FROM sealings")
    await sealer(sealed).step()
    assert await fault(sealed) is None
    assert await fault(sealed, noted) == "after 7 journals the head is not the one that was noted"


async def test_verify__noted_before_more_was_sealed__still_on_the_chain(sealed: Database):
    noted = (await verify(sealed)).tip
    await post(sealed, journal("8", move(1)))
    await sealer(sealed).step()
    assert await fault(sealed, noted) is None


async def test_verify__links_that_no_run_noted__found(sealed: Database):
    await sql(sealed, "DELETE FROM sealings WHERE count > 4")
    assert str(await fault(sealed)).startswith("the chain goes on to position 7, but only 4 journals were sealed")


async def test_verify__head_of_an_earlier_run_changed__found(sealed: Database):
    await sql(sealed, "UPDATE sealings SET head = sha256(head) WHERE count = 4")
    assert "(test 4), at position 4, has another head than its run noted" in str(await fault(sealed))


async def test_verify__journal_booked_past_the_trigger__found(sealed: Database):
    await sql(
        sealed,
        "INSERT INTO journals SELECT chain, block_number, 999, block_hash, kind, reason, source, 'forged', "
        "payload_hash, valid_at FROM journals WHERE ref = '1'",
    )
    assert await fault(sealed) == "journal 999 (test forged) is in the books, neither sealed nor waiting for it"


async def test_verify__transfer_without_a_journal__found(sealed: Database):
    await sql(
        sealed,
        "INSERT INTO transfers SELECT chain, block_number, 999, seq, debit_account, credit_account, asset, amount, "
        "phase FROM transfers WHERE seq = 0 LIMIT 1",
    )
    assert str(await fault(sealed)).startswith("a transfer of journal 999 is in the books")


async def test_seal__journal_gone_before_it_was_sealed__said_ever_after(books: Database):
    await post(books, journal("1", move(1)))
    await sql(books, "DELETE FROM transfers; DELETE FROM journals")
    await sealer(books).step()
    assert "at position 1, is not in the books any more" in str(await fault(books))


@pytest.mark.parametrize("table", ["seals", "sealings"])
@pytest.mark.parametrize("change", ["UPDATE {} SET head = ''", "DELETE FROM {}", "TRUNCATE {}"])
async def test_seals__changed_as_anybody__refused(sealed: Database, table: str, change: str):
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await sql(sealed, change.format(table), trusted=False)
