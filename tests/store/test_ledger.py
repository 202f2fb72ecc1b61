"""Posting: idempotent, append-only, and balances that always equal the transfers."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.domain.corrections import Approved, Correction, book_reversal
from bridge.domain.errors import JournalConflict, RefusedError
from bridge.domain.ledger import Asset, Journal, Phase, Statement, Transfer
from bridge.domain.seals import START, Tip, check_link
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


TABLES = ("assets", "accounts", "journal_keys", "journals", "transfers", "balances", "unsealed", "seals", "sealings")


async def rows(tx: Transaction) -> list[asyncpg.Record]:
    every = " UNION ALL ".join(f"SELECT '{table}', t::TEXT FROM {table} t" for table in TABLES)
    return await tx.connection.fetch(f"{every} ORDER BY 1, 2")


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


# Everything that the database can hold: all but NUL.
any_text = st.one_of(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6), st.text('\\\t\r\n",{}.')
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.tuples(any_text, any_text, any_text, any_text), min_size=1, max_size=5, unique_by=lambda t: t[0]))
async def test_journals__any_text__read_back_as_it_was_posted(books: Database, texts: list[tuple[str, str, str, str]]):
    at = BlockStamp("anvil", 1, bytes(32))
    entries = [
        Journal(kind, reason, "test", ref, at, 1, (move(1, f"a{code}", f"b{code}"),))
        for ref, kind, reason, code in texts
    ]
    with pytest.raises(RollBack):
        async with books.begin() as tx:
            assert await tx.ledger.post(entries) == [True] * len(entries)
            assert await tx.ledger.post(entries) == [False] * len(entries)
            found = {entry.ref: entry for entry in await tx.ledger.journals("test", [entry.ref for entry in entries])}
            assert found == {entry.ref: entry for entry in entries}
            raise RollBack


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


STRANGERS = {  # in place of these columns of a good transfer
    "journal_id": "journal_id + 100",
    "block_number": "block_number + 1",
    "debit_account": "9999",
    "credit_account": "9999",
    "asset": f"'{ETH}'",
}


@pytest.mark.parametrize("column", STRANGERS)
async def test_transfers__naming_what_is_not_there__refused_by_the_table_and_its_partitions(
    books: Database, column: str
):
    await post(books, journal("1", move(5)), journal("2", replace(move(5), asset=ETH), block=2))
    columns = ["chain", "block_number", "journal_id", "seq + 5", "debit_account", "credit_account", "asset", "amount"]
    columns[columns.index(column)] = STRANGERS[column]
    async with books.snapshot() as tx:
        [branch, leaf] = await tx.connection.fetch(
            "SELECT relid::REGCLASS::TEXT FROM pg_partition_tree('transfers') WHERE level > 0 ORDER BY level"
        )
        [row] = await tx.connection.fetch(f"SELECT {', '.join(columns)}, phase FROM transfers WHERE block_number = 1")
    before = await fingerprint(books)
    for table in ("transfers", branch[0], leaf[0]):
        with pytest.raises(asyncpg.ForeignKeyViolationError, match="a transfer names"):
            async with books.begin() as tx:
                await tx.connection.copy_records_to_table(table, records=[tuple(row)])
    assert await fingerprint(books) == before


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
    """The same books in a few lines: every journal ever, and the sums taken anew each time."""

    booked: dict[tuple[str, str], Journal] = field(default_factory=dict)
    sealed: int = 0

    def expect(self, entries: Sequence[Journal]) -> list[bool] | type[RefusedError]:
        """What comes of posting `entries` together; what is refused is refused with all that came with it."""
        booked = dict(self.booked)
        news = []
        for entry in entries:
            key = (entry.source, entry.ref)
            news.append(key not in booked)
            if booked.setdefault(key, entry) != entry:
                return JournalConflict
        if min((min(columns) for columns in sums(booked.values()).values()), default=0) < 0:
            return RefusedError
        return news

    def book(self, entries: Sequence[Journal]) -> None:
        for entry in entries:
            self.booked.setdefault((entry.source, entry.ref), entry)


Columns = tuple[int, int, int, int]


def sums(journals: Iterable[Journal]) -> dict[tuple[str, str], Columns]:
    """Debits and credits posted, then pending, by account."""
    result: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for t in (transfer for entry in journals for transfer in entry.transfers):
        pending = {"posted": 0, "pending": 1, "post": -1, "void": -1}[t.phase] * t.amount
        posted = t.amount if t.phase in ("posted", "post") else 0
        for side, code in ((0, t.debit), (1, t.credit)):
            result[code, t.asset][side] += posted
            result[code, t.asset][2 + side] += pending
    return {account: (a, b, c, d) for account, (a, b, c, d) in result.items()}


transfers = st.builds(
    lambda ends, asset, amount, phase: Transfer(ends[0], ends[1], asset, amount, phase),
    st.permutations(CODES).map(lambda codes: codes[:2]),
    st.sampled_from([USDX, USDX, ETH]),
    st.one_of(st.integers(1, 3), st.integers(1, UINT256_MAX)),
    # What releases something at random is nearly always refused.
    st.sampled_from([*[Phase.POSTED, Phase.PENDING] * 6, Phase.POST, Phase.VOID]),
)
# Which journal, at which block, with which transfers; or what follows on that journal, where it is booked.
follows = st.sampled_from([Phase.POST, Phase.VOID, "reversal", "again", None, None])
entries = st.tuples(st.integers(0, 5), st.integers(0, 5), st.lists(transfers, max_size=4).map(tuple), follows)
# What is posted together; or how many journals are sealed.
operations = st.lists(
    st.one_of(*[st.lists(entries, min_size=1, max_size=3)] * 4, st.integers(1, 5)), min_size=4, max_size=14
)


class RollBack(Exception):
    pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(operations)
async def test_ledger__any_operations__equals_the_model_after_each(
    books: Database, operations: list[list[tuple[int, int, tuple[Transfer, ...], str | None]] | int]
):
    model = Model()
    with pytest.raises(RollBack):
        async with books.begin() as tx:
            for operation in operations:
                if isinstance(operation, int):
                    count, _ = await tx.seals.seal(operation)
                    assert count == min(operation, len(model.booked) - model.sealed)
                    model.sealed += count
                else:
                    together = [entry_of(model, *each) for each in operation]
                    expected = model.expect(together)
                    before = await rows(tx)
                    assert await outcome(tx, together) == expected
                    if isinstance(expected, list):
                        model.book(together)
                    if not isinstance(expected, list) or not any(expected):
                        assert await rows(tx) == before
                await compare(tx, model)
            raise RollBack


def entry_of(model: Model, ref: int, block: int, moved: tuple[Transfer, ...], follow: str | None) -> Journal:
    entry = journal(str(ref), *moved, block=block)
    first = model.booked.get((entry.source, entry.ref))
    if first is None or follow is None or not first.transfers:
        return entry
    if follow == "again":
        return first
    if follow == "reversal":
        return reversal(first, entry.at)
    released = (replace(t, phase=Phase(follow)) for t in first.transfers if t.phase is Phase.PENDING)
    return journal(f"{ref} {follow}", *released, block=block)


def reversal(wrong: Journal, at: BlockStamp) -> Journal:
    asked = Correction(1, at.chain, "wrong", "alice", (wrong.source, wrong.ref), None)
    return book_reversal(Approved(asked, "bob"), wrong, at, 1_700_000_000 + at.number)


async def outcome(tx: Transaction, entries: Sequence[Journal]) -> object:
    try:
        async with tx.connection.transaction():
            return await tx.ledger.post(entries)
    except RefusedError as error:
        return type(error)


async def compare(tx: Transaction, model: Model) -> None:
    for source in {source for source, _ in model.booked}:
        refs = [ref for of, ref in model.booked if of == source]
        found = {(source, entry.ref): entry for entry in await tx.ledger.journals(source, refs)}
        assert found == {key: entry for key, entry in model.booked.items() if key[0] == source}
    balances = await tx.ledger.balances("anvil", 100)
    expected = sums(model.booked.values())
    assert expected == {
        (b.code, b.asset): (b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending) for b in balances
    }
    assert {asset: sum(b.posted for b in balances if b.asset == asset) for asset in (USDX, ETH)} == {USDX: 0, ETH: 0}
    for block in (0, 2, 4):
        through = sums(entry for entry in model.booked.values() if entry.at.number <= block)
        nothing = (0, 0, 0, 0)
        assert {(b.code, b.asset): b.posted for b in await tx.ledger.balances("anvil", block)} == {
            account: through.get(account, nothing)[0] - through.get(account, nothing)[1] for account in expected
        }
    assert await tx.seals.waiting() == len(model.booked) - model.sealed
    tip = Tip(0, START)
    async for page in tx.seals.chain(1, 100):
        for sealed in page:
            assert check_link(tip, sealed) is None
            tip = Tip(sealed.sequence, sealed.head)
    assert (tip.count, await tx.seals.stranger()) == (model.sealed, None)
