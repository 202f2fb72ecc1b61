"""Posting: idempotent, append-only, and balances that always equal the transfers."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.domain.corrections import Approved, Correction, book_reversal
from bridge.domain.errors import JournalConflict, RefusedError
from bridge.domain.ledger import Asset, Journal, Phase, Statement, Transfer
from bridge.domain.units import UINT256_MAX, AssetId, BlockStamp
from bridge.store.database import Database, Transaction

USDX, ETH = AssetId("eip155:31337/erc20:0x70"), AssetId("eip155:31337/slip44:60")
CODES = ("vault:0x01", "payable:0x02", "suspense:out", "surplus:unallocated")


@pytest.fixture
async def books(database: Database) -> Database:
    async with database.begin() as tx:
        await tx.chains.register("anvil", "evm", "eip155:31337", b"\x00" * 32, 0)
        tokens = (Asset(USDX, "anvil", None, "USDX", 6), Asset(ETH, "anvil", None, "ETH", 18))
        await tx.ledger.register_assets(tokens)
    return database


def journal(ref: str, *transfers: Transfer, block: int = 1, source: str = "test") -> Journal:
    at = BlockStamp("anvil", block, block.to_bytes(32))
    return Journal("kind", "reason", source, ref, at, 1_700_000_000 + block, transfers)


def move(amount: int, debit: str = CODES[0], credit: str = CODES[1], phase: Phase = Phase.POSTED) -> Transfer:
    return Transfer(debit, credit, USDX, amount, phase)


async def post(database: Database, *journals: Journal) -> list[bool]:
    async with database.begin() as tx:
        return await tx.ledger.post(journals)


async def fingerprint(database: Database) -> list[asyncpg.Record]:
    """Every byte of every table of the ledger."""
    async with database.begin() as tx:
        return await rows(tx)


async def rows(tx: Transaction) -> list[asyncpg.Record]:
    return [
        row
        for table in ("accounts", "journal_keys", "journals", "transfers", "balances", "unsealed")
        for row in await tx.connection.fetch(f"SELECT t::TEXT FROM {table} t ORDER BY 1")
    ]


# ── Idempotency ─────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_post__same_again__booked_once(books: Database):
    one, two = journal("1", move(5)), journal("2", move(7))
    assert await post(books, one, two, one) == [True, True, False]
    before = await fingerprint(books)
    assert await post(books, two, one) == [False, False]
    assert await fingerprint(books) == before


async def test_post__same_key_other_payload__conflict_and_nothing_written(books: Database):
    await post(books, journal("1", move(5)))
    before = await fingerprint(books)
    with pytest.raises(JournalConflict, match="test 1"):
        await post(books, journal("0", move(1)), journal("1", move(6)))
    assert await fingerprint(books) == before


async def test_post__same_key_other_payload_in_one_call__conflict(books: Database):
    with pytest.raises(JournalConflict):
        await post(books, journal("1", move(5)), journal("1", move(6)))


async def test_post__two_writers_at_once_in_opposite_order__each_journal_once(books: Database):
    journals = [journal(str(n), move(n + 1, CODES[n % 2 == 0], CODES[n % 2])) for n in range(40)]
    results = await asyncio.gather(*(post(books, *journals[:: 1 if n % 2 else -1]) for n in range(4)))
    assert sum(sum(result) for result in results) == len(journals)
    async with books.begin() as tx:
        assert await tx.ledger.balance_at("anvil", CODES[0], USDX, 1) == sum(
            (n + 1) * (1 if n % 2 else -1) for n in range(40)
        )


async def test_journals__read_back__are_what_was_posted(books: Database):
    wide = journal("9", move(UINT256_MAX), move(1, phase=Phase.PENDING), replace(move(3), asset=ETH))
    empty = journal("8", block=2)
    await post(books, wide, empty)
    async with books.begin() as tx:
        assert await tx.ledger.journals("test", ["8", "9", "none"]) == [wide, empty]


async def test_post__reversal_of_what_is_not_booked__refused_and_nothing_written(books: Database):
    before = await fingerprint(books)
    with pytest.raises(RefusedError, match="test 1 cannot be reversed: it is not booked"):
        await post(books, reversal(journal("1", move(5)), BlockStamp("anvil", 1, bytes(32))))
    assert await fingerprint(books) == before


# ── Refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("phase", [Phase.POST, Phase.VOID])
async def test_post__more_released_than_pending__refused_and_nothing_written(books: Database, phase: Phase):
    await post(books, journal("1", move(5, phase=Phase.PENDING)))
    before = await fingerprint(books)
    with pytest.raises(RefusedError, match="pending"):
        await post(books, journal("2", move(6, phase=phase)))
    assert await fingerprint(books) == before


async def test_post__unregistered_asset__refused(books: Database):
    with pytest.raises(RefusedError, match="registered"):
        await post(books, journal("1", replace(move(5), asset=AssetId("eip155:1/erc20:0x99"))))


@pytest.mark.parametrize("table", ["journals", "transfers", "journal_keys"])
@pytest.mark.parametrize("change", ["UPDATE {} SET block_number = 1", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_tables__changed_after_booking__refused(books: Database, table: str, change: str):
    await post(books, journal("1", move(5)))
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        async with books.begin() as tx:
            await tx.connection.execute(change.format(table))


# ── Balances ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("change", ["UPDATE {} SET block_number = 1", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
@pytest.mark.parametrize("table", ["journals", "transfers"])
@pytest.mark.parametrize("level", ["branch", "leaf"])
async def test_partitions__changed_behind_their_table__refused(books: Database, table: str, level: str, change: str):
    await post(books, journal("a", move(1)))
    async with books.snapshot() as tx:
        leaf = await tx.connection.fetchval(f"SELECT tableoid::regclass::TEXT FROM {table}")
    partition = leaf if level == "leaf" else leaf.rpartition("_")[0]
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        async with books.begin() as tx:
            await tx.connection.execute(change.format(partition))


async def test_post__more_transfers_than_one_statement_takes__same_rows_and_balances(
    books: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bridge.store.ledger.ROWS_AT_ONCE", 2)
    large = journal("1", *(move(n, credit=f"payable:{n % 5}") for n in range(1, 10)))
    assert await post(books, large) == [True]
    async with books.snapshot() as tx:
        assert await tx.ledger.journals("test", ["1"]) == [large]
        assert {b.code: b.posted for b in await tx.ledger.balances("anvil", 1)} == {
            CODES[0]: 45,
            **{f"payable:{rest}": -sum(range(rest, 10, 5)) for rest in range(5)},
        }


async def test_balances__uint256_twice__no_overflow(books: Database):
    await post(books, *(journal(str(n), move(UINT256_MAX)) for n in range(20)))
    async with books.begin() as tx:
        assert await tx.ledger.balance_at("anvil", CODES[0], USDX, 1) == 20 * UINT256_MAX


async def test_balance_at__between_blocks__counts_through_the_block(books: Database):
    await post(books, *(journal(str(n), move(10**n), block=n) for n in (3, 1, 2)))
    async with books.begin() as tx:
        held = [await tx.ledger.balance_at("anvil", CODES[0], USDX, block) for block in range(5)]
        never_used = await tx.ledger.balance_at("anvil", "nobody", USDX, 3)
    assert held == [0, 10, 110, 1110, 1110]
    assert never_used == 0


async def test_statements__blocks_2_to_3__opening_plus_debits_minus_credits_is_closing(books: Database):
    await post(
        books,
        journal("1", move(100), block=1),
        journal("2", move(40), move(7, CODES[1], CODES[0]), block=2),
        journal("3", move(5), move(9, phase=Phase.PENDING), block=3),
        journal("4", move(1000), block=4),
    )
    async with books.begin() as tx:
        statements = await tx.ledger.statements("anvil", 2, 3, [CODES[0]])
    assert statements == [Statement(CODES[0], USDX, opening=100, debits=45, credits=7, closing=138)]


# ── Against an independent model ────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Model:
    """The same books in a few lines: every transfer ever, and the sums taken anew each time."""

    transfers: list[tuple[int, Transfer]] = field(default_factory=list)

    def allows(self, transfers: tuple[Transfer, ...]) -> bool:
        sums = self.sums([*self.transfers, *((0, transfer) for transfer in transfers)])
        return all(min(columns) >= 0 for columns in sums.values())

    def sums(self, transfers: list[tuple[int, Transfer]]) -> dict[str, tuple[int, ...]]:
        result: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for _, t in transfers:
            pending = {"posted": 0, "pending": 1, "post": -1, "void": -1}[t.phase] * t.amount
            posted = t.amount if t.phase in ("posted", "post") else 0
            for side, code in ((0, t.debit), (1, t.credit)):
                result[code][side] += posted
                result[code][2 + side] += pending
        return {code: tuple(columns) for code, columns in result.items()}


transfers = st.builds(
    lambda ends, amount, phase: Transfer(ends[0], ends[1], USDX, amount, phase),
    st.permutations(CODES).map(lambda codes: codes[:2]),
    st.one_of(st.integers(1, 3), st.integers(1, UINT256_MAX)),
    st.sampled_from(Phase),
)
# Which journal, at which block, with which transfers; or the reversal of that journal, where it is booked.
operations = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 5), st.lists(transfers, max_size=4).map(tuple), st.booleans()),
    max_size=12,
)


class RollBack(Exception):
    pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(operations)
async def test_ledger__any_operations__equals_the_model_after_each(
    books: Database, operations: list[tuple[int, int, tuple[Transfer, ...], bool]]
):
    model = Model()
    booked: dict[tuple[str, str], Journal] = {}
    with pytest.raises(RollBack):
        async with books.begin() as tx:
            for ref, block, moved, reverse in operations:
                entry = journal(str(ref), *moved, block=block)
                wrong = booked.get((entry.source, entry.ref))
                if reverse and wrong is not None and wrong.transfers:
                    entry = reversal(wrong, entry.at)
                expected = expectation(model, booked.get((entry.source, entry.ref)), entry)
                before = await rows(tx)
                assert await outcome(tx, entry) == expected
                if expected is True:
                    booked[entry.source, entry.ref] = entry
                    model.transfers += [(block, transfer) for transfer in entry.transfers]
                    assert await tx.ledger.journals(entry.source, [entry.ref]) == [entry]
                else:
                    assert await rows(tx) == before
                await compare(tx, model)
            raise RollBack


def reversal(wrong: Journal, at: BlockStamp) -> Journal:
    asked = Correction(1, at.chain, "wrong", "alice", (wrong.source, wrong.ref), None)
    return book_reversal(Approved(asked, "bob"), wrong, at, 1_700_000_000 + at.number)


async def outcome(tx: Transaction, entry: Journal) -> object:
    try:
        async with tx.connection.transaction():
            return (await tx.ledger.post([entry]))[0]
    except RefusedError as error:
        return type(error)


def expectation(model: Model, before: Journal | None, entry: Journal) -> object:
    if before is not None:
        return False if before == entry else JournalConflict
    return True if model.allows(entry.transfers) else RefusedError


async def compare(tx: Transaction, model: Model) -> None:
    balances = await tx.ledger.balances("anvil", 100)
    expected = model.sums(model.transfers)
    found = {b.code: (b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending) for b in balances}
    assert found == expected
    assert sum(b.posted for b in balances) == 0
    for block in (0, 2, 4):
        through = model.sums([entry for entry in model.transfers if entry[0] <= block])
        at_block = {b.code: b.posted for b in await tx.ledger.balances("anvil", block)}
        assert at_block == {code: through.get(code, (0, 0))[0] - through.get(code, (0, 0))[1] for code in expected}
