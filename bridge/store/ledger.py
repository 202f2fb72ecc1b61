"""Tables: assets, accounts, journal_keys, journals, transfers, balances.

    journals ──► COPY keys (source, ref) ──► open accounts ──► COPY journals, transfers ──► balances, locked in order

Everything is set-based: the number of statements does not depend on the number of journals. One journal may have
millions of transfers, so what goes over the wire at once is bounded, and no statement runs into the time limit. Rows
and long arrays go as text: Postgres reads it as fast as its binary form, and making it costs us a third.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from bridge.domain.errors import JournalConflict, RefusedError
from bridge.domain.ledger import Asset, Balance, Journal, Phase, Statement, Transfer
from bridge.domain.units import AssetId, BlockStamp

if TYPE_CHECKING:
    from bridge.store.connection import Connection

REGISTER_ASSETS = """
    INSERT INTO assets (asset, chain, address, symbol, decimals)
    SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BYTEA[], $4::TEXT[], $5::INTEGER[])
    ON CONFLICT (asset) DO NOTHING
"""

NEXT_IDS = "SELECT ARRAY(SELECT nextval('journal_ids') FROM generate_series(1, $1))"

CLAIM = """
    -- Returns the keys that were free. Sorted, so that two writers of the same keys wait instead of deadlocking.
    INSERT INTO journal_keys (source, ref, payload_hash, journal_id, chain, block_number)
    SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BYTEA[], $4::BIGINT[], $5::TEXT[], $6::BIGINT[])
        AS k (source, ref, payload_hash, journal_id, chain, block_number)
     ORDER BY source COLLATE "C", ref COLLATE "C"
    ON CONFLICT (source, ref) DO NOTHING
    RETURNING journal_id
"""

CLAIMED = """
    SELECT k.source, k.ref, k.payload_hash
      FROM unnest($1::TEXT[], $2::TEXT[]) AS wanted (source, ref) JOIN journal_keys k USING (source, ref)
"""

# One for each, in the order asked for; NULL where there is none.
ACCOUNT_IDS = "SELECT account_ids($1::TEXT::TEXT[], $2::TEXT::TEXT[])"

OPEN_ACCOUNTS = """
    -- Two statements, for DO NOTHING returns no row where another writer was first.
    INSERT INTO accounts (code, asset)
    SELECT * FROM unnest($1::TEXT::TEXT[], $2::TEXT::TEXT[]) AS w (code, asset) ORDER BY 1, 2
    ON CONFLICT (code, asset) DO NOTHING
"""

OPEN_BALANCES = """
    INSERT INTO balances (account_id) SELECT * FROM unnest($1::TEXT::BIGINT[]) AS w (account_id) ORDER BY 1
    ON CONFLICT (account_id) DO NOTHING
"""

LOCK_BALANCES = "SELECT lock_balances($1::TEXT::BIGINT[])"
APPLY = """
    SELECT move_balances($1::TEXT::BIGINT[], $2::TEXT::NUMERIC[], $3::TEXT::NUMERIC[],
                         $4::TEXT::NUMERIC[], $5::TEXT::NUMERIC[])
"""

# What is booked after the block is taken off what there is now: the cost follows the distance from the ledger's tip,
# not the age of the ledger.
BALANCES_AT = """
    WITH later AS (
        SELECT debit_account AS account_id, phase, amount AS debit, 0 AS credit
          FROM transfers WHERE chain = $1 AND block_number > $2
        UNION ALL
        SELECT credit_account, phase, 0, amount FROM transfers WHERE chain = $1 AND block_number > $2
    ), undone AS (
        SELECT account_id,
               sum(debit) FILTER (WHERE phase IN ('posted', 'post')) AS debits_posted,
               sum(credit) FILTER (WHERE phase IN ('posted', 'post')) AS credits_posted,
               sum(CASE phase WHEN 'pending' THEN debit WHEN 'posted' THEN 0 ELSE -debit END) AS debits_pending,
               sum(CASE phase WHEN 'pending' THEN credit WHEN 'posted' THEN 0 ELSE -credit END) AS credits_pending
          FROM later GROUP BY account_id
    )
    SELECT a.code, a.asset,
           b.debits_posted - COALESCE(u.debits_posted, 0) AS debits_posted,
           b.credits_posted - COALESCE(u.credits_posted, 0) AS credits_posted,
           b.debits_pending - COALESCE(u.debits_pending, 0) AS debits_pending,
           b.credits_pending - COALESCE(u.credits_pending, 0) AS credits_pending
      FROM accounts a
      JOIN assets s ON s.asset = a.asset AND s.chain = $1
      JOIN balances b USING (account_id)
      LEFT JOIN undone u USING (account_id)
     WHERE $3::TEXT[] IS NULL OR a.code = ANY($3)
     ORDER BY a.code, a.asset
"""

REVERSED = """
    -- Journals to be reversed, by the key that names them.
    SELECT k.source, k.ref, k.journal_id
      FROM unnest($1::TEXT[], $2::TEXT[]) AS wanted (source, ref) JOIN journal_keys k USING (source, ref)
"""

JOURNALS = """
    SELECT j.kind, j.reason, j.source, j.ref, j.chain, j.block_number, j.block_hash, j.valid_at,
           undone.source AS reverses_source, undone.ref AS reverses_ref,
           t.seq, debit.code AS debit, credit.code AS credit, t.asset, t.amount, t.phase
      FROM journal_keys k
      JOIN journals j ON (j.chain, j.block_number, j.journal_id) = (k.chain, k.block_number, k.journal_id)
      LEFT JOIN transfers t ON (t.chain, t.block_number, t.journal_id) = (j.chain, j.block_number, j.journal_id)
      LEFT JOIN accounts debit ON debit.account_id = t.debit_account
      LEFT JOIN accounts credit ON credit.account_id = t.credit_account
      LEFT JOIN journal_keys undone ON undone.journal_id = j.reverses_id
     WHERE k.source = $1 AND k.ref = ANY($2)
     ORDER BY j.chain, j.block_number, j.journal_id, t.seq
"""

BOOKED = """
    -- Journals of blocks $3 to $4 as they are, with what their own keys say of them; one more than are expected tells
    -- that there are others.
    SELECT j.block_number, j.block_hash, j.kind, j.reason, j.ref, j.valid_at, j.reverses_id,
           k.journal_id IS NOT NULL AS keyed,
           debit.code AS debit, credit.code AS credit, t.asset, t.amount::TEXT AS amount, t.phase
      FROM journals j
      LEFT JOIN journal_keys k ON (k.journal_id, k.chain, k.block_number) = (j.journal_id, j.chain, j.block_number)
                              AND (k.source, k.ref) = (j.source, j.ref)
      LEFT JOIN transfers t ON (t.chain, t.block_number, t.journal_id) = (j.chain, j.block_number, j.journal_id)
                           AND t.block_number BETWEEN $3 AND $4
      LEFT JOIN accounts debit ON debit.account_id = t.debit_account
      LEFT JOIN accounts credit ON credit.account_id = t.credit_account
     WHERE j.chain = $1 AND j.source = $2 AND j.block_number BETWEEN $3 AND $4
     ORDER BY j.block_number, j.journal_id, t.seq LIMIT $5
"""

NOTIFY = "SELECT pg_notify('bridge', 'journals')"

Account = tuple[str, AssetId]
Fresh = tuple[int, Journal, bytes]
"""What is to be booked: its id and its payload hash, which is made once."""
Row = TypeVar("Row")

Sums = list[int]
"""What is added to the columns of `balances`, in their order."""

ROWS_AT_ONCE = 50_000
"""Of one statement: some seconds on a slow disk, where a statement may take a minute."""
LINES_AT_ONCE = 1_000
"""Sent at once: while Postgres reads them, the next ones are made."""

KEY_COLUMNS = ("source", "ref", "payload_hash", "journal_id", "chain", "block_number")
JOURNAL_COLUMNS = (
    *("chain", "block_number", "journal_id", "block_hash", "kind", "reason"),
    *("source", "ref", "payload_hash", "valid_at", "reverses_id"),
)
TRANSFER_COLUMNS = (
    *("chain", "block_number", "journal_id", "seq"),
    *("debit_account", "credit_account", "asset", "amount", "phase"),
)


class Ledger:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def register_assets(self, assets: Sequence[Asset]) -> None:
        """Note assets at their first use; an account needs one. What is known already stays as it is."""
        await self._connection.execute(
            REGISTER_ASSETS,
            [asset.id for asset in assets],
            [asset.chain for asset in assets],
            [asset.address for asset in assets],
            [asset.symbol for asset in assets],
            [asset.decimals for asset in assets],
        )

    async def post(self, journals: Sequence[Journal]) -> list[bool]:
        """Book `journals` in order; for each, False where it was booked before.

        Raises JournalConflict where (source, ref) was booked with another payload, RefusedError where a post or void
        releases more than is pending, an asset is not registered or what is reversed is not booked. The
        transaction is then lost, with all it held.
        """
        claimed = await self._claim(journals)
        fresh = [entry for entry in claimed if entry is not None]
        if fresh:
            sums = _sums(transfer for _, journal, _ in fresh for transfer in journal.transfers)
            accounts = await self._accounts(sums)
            reversed_ids = await self._reversed(fresh)
            await self._copy("journals", JOURNAL_COLUMNS, _journal_lines(fresh, reversed_ids))
            await self._copy("transfers", TRANSFER_COLUMNS, _transfer_lines(fresh, accounts))
            await self._apply({accounts[account]: each for account, each in sums.items()})
            await self._connection.execute(NOTIFY)
        return [entry is not None for entry in claimed]

    async def balances(self, chain: str, block_number: int, codes: Sequence[str] | None = None) -> list[Balance]:
        """Accounts through `block_number`, by code and asset; all of the chain's assets where `codes` is None."""
        return [Balance(**row) for row in await self._connection.fetch(BALANCES_AT, chain, block_number, codes)]

    async def balance_at(self, chain: str, code: str, asset: AssetId, block_number: int) -> int:
        """Debits minus credits posted through `block_number`; 0 for an account that was never used."""
        return next((b.posted for b in await self.balances(chain, block_number, [code]) if b.asset == asset), 0)

    async def statements(
        self, chain: str, first: int, last: int, codes: Sequence[str] | None = None
    ) -> list[Statement]:
        """Every account from the start of block `first` to the end of block `last`."""
        before = {(b.code, b.asset): b for b in await self.balances(chain, first - 1, codes)}
        return [
            Statement(
                code=end.code,
                asset=end.asset,
                opening=(start := before[end.code, end.asset]).posted,
                debits=end.debits_posted - start.debits_posted,
                credits=end.credits_posted - start.credits_posted,
                closing=end.posted,
            )
            for end in await self.balances(chain, last, codes)
        ]

    async def journals(self, source: str, refs: Sequence[str]) -> list[Journal]:
        """Those of `refs` that are booked, read back from their rows, in the order of blocks and booking."""
        groups: dict[str, list[asyncpg.Record]] = defaultdict(list)
        for row in await self._connection.fetch(JOURNALS, source, refs):
            groups[row["ref"]].append(row)
        return [_journal(rows) for rows in groups.values()]

    async def books_exactly(self, chain: str, source: str, first: int, last: int, expected: Sequence[Journal]) -> bool:
        """Whether `expected` are booked, in this order, as they are to the last field and under their own keys, and no
        other journals of `source` in blocks first … last. None of them reverses another."""
        lines = [line for journal in expected for line in _lines(journal)]
        rows = await self._connection.fetch(BOOKED, chain, source, first, last, len(lines) + 1)
        return list(map(tuple, rows)) == lines

    async def _claim(self, journals: Sequence[Journal]) -> list[Fresh | None]:
        """Each journal with its new id and payload hash; None where it is booked already."""
        new: dict[tuple[str, str], tuple[Journal, bytes]] = {}
        for journal in journals:
            key, payload_hash = (journal.source, journal.ref), journal.payload_hash
            if new.setdefault(key, (journal, payload_hash))[1] != payload_hash:
                raise _conflict(*key)
        ids: list[int] = await self._connection.fetchval(NEXT_IDS, len(new))
        keys = [(number, *entry) for number, entry in zip(ids, new.values(), strict=True)]
        free = await self._claim_keys(keys)
        await self._check_same({key: new[key][1] for key, number in zip(new, ids, strict=True) if number not in free})
        fresh = {key: entry for key, entry in zip(new, keys, strict=True) if entry[0] in free}
        # A journal that comes twice is booked where it comes first.
        return [fresh.pop((journal.source, journal.ref), None) for journal in journals]

    async def _claim_keys(self, entries: Sequence[Fresh]) -> set[int]:
        """Ids of those whose keys were free.

        Nearly always all are, and COPY is the fast way to say so. Where one is taken the savepoint undoes it, and they
        are claimed one by one. Sorted, so that two writers of the same keys wait instead of deadlocking.
        """
        entries = sorted(entries, key=lambda entry: (entry[1].source, entry[1].ref))
        try:
            async with self._connection.transaction():
                await self._copy("journal_keys", KEY_COLUMNS, map(_key_line, entries))
        except asyncpg.UniqueViolationError:
            columns = [[*column] for column in zip(*map(_key, entries), strict=True)]
            return {row["journal_id"] for row in await self._connection.fetch(CLAIM, *columns)}
        return {number for number, _, _ in entries}

    async def _check_same(self, taken: Mapping[tuple[str, str], bytes]) -> None:
        if not taken:
            return
        sources, refs = [source for source, _ in taken], [ref for _, ref in taken]
        for row in await self._connection.fetch(CLAIMED, sources, refs):
            if row["payload_hash"] != taken[row["source"], row["ref"]]:
                raise _conflict(row["source"], row["ref"])

    async def _accounts(self, wanted: Iterable[Account]) -> dict[Account, int]:
        """Ids of accounts, opened where they are new."""
        accounts = list(wanted)
        known = await self._account_ids(accounts)
        new = [account for account in accounts if account not in known]
        if new:
            try:
                for some in _slices(sorted(new)):
                    await self._connection.execute(OPEN_ACCOUNTS, *_columns(some))
            except asyncpg.ForeignKeyViolationError as error:
                raise RefusedError(f"an account needs a registered asset: {error.detail}") from error
            opened = await self._account_ids(new)
            for ids in _slices(list(opened.values())):
                await self._connection.execute(OPEN_BALANCES, _array(map(str, ids)))
            known |= opened
        return known

    async def _account_ids(self, accounts: Sequence[Account]) -> dict[Account, int]:
        known: dict[Account, int] = {}
        for some in _slices(accounts):
            ids: list[int | None] = await self._connection.fetchval(ACCOUNT_IDS, *_columns(some))
            known |= {account: number for account, number in zip(some, ids, strict=True) if number is not None}
        return known

    async def _reversed(self, fresh: Sequence[Fresh]) -> dict[tuple[str, str], int]:
        """Ids of the journals that `fresh` ones reverse."""
        keys = [journal.reverses for _, journal, _ in fresh if journal.reverses is not None]
        if not keys:
            return {}
        rows = await self._connection.fetch(REVERSED, [key[0] for key in keys], [key[1] for key in keys])
        found = {(row["source"], row["ref"]): row["journal_id"] for row in rows}
        for key in keys:
            if key not in found:
                raise RefusedError(f"{' '.join(key)} cannot be reversed: it is not booked")
        return found

    async def _copy(self, table: str, columns: Sequence[str], lines: Iterable[str]) -> None:
        """Add rows; each of `lines` is one, in the text format of COPY."""
        rest = iter(lines)
        while some := list(islice(rest, ROWS_AT_ONCE)):
            await self._connection.copy_to_table(table, columns=columns, format="text", source=_sent(some))

    async def _apply(self, sums: Mapping[int, Sums]) -> None:
        """Bring `balances` up, by account: a projection of transfers, in the same transaction."""
        slices = [(_array(map(str, some)), some) for some in _slices(sorted(sums))]
        for account_ids, _ in slices:
            await self._connection.execute(LOCK_BALANCES, account_ids)
        try:
            for account_ids, some in slices:
                columns = zip(*(sums[account] for account in some), strict=True)
                await self._connection.execute(APPLY, account_ids, *(_array(map(str, column)) for column in columns))
        except asyncpg.CheckViolationError as error:
            raise RefusedError(f"a post or void releases more than is pending: {error.detail}") from error


def _sums(transfers: Iterable[Transfer]) -> Mapping[Account, Sums]:
    """What transfers add to the balance of each account that they name."""
    sums: defaultdict[Account, Sums] = defaultdict(lambda: [0, 0, 0, 0])
    for transfer in transfers:
        debit, credit = sums[transfer.debit, transfer.asset], sums[transfer.credit, transfer.asset]
        posted, pending = _effect(transfer)
        debit[0] += posted
        credit[1] += posted
        debit[2] += pending
        credit[3] += pending
    return sums


def _effect(transfer: Transfer) -> tuple[int, int]:
    """What a transfer adds to the posted and to the pending sums of both its accounts."""
    match transfer.phase:
        case Phase.POSTED:
            return transfer.amount, 0
        case Phase.PENDING:
            return 0, transfer.amount
        case Phase.POST:
            return transfer.amount, -transfer.amount
        case Phase.VOID:
            return 0, -transfer.amount


# ── Rows as COPY reads them ─────────────────────────────────────────────────────────────────────────────────────────
async def _sent(lines: Sequence[str]) -> AsyncIterator[bytes]:
    for start in range(0, len(lines), LINES_AT_ONCE):
        yield "".join(lines[start : start + LINES_AT_ONCE]).encode()


def _key(entry: Fresh) -> tuple[str, str, bytes, int, str, int]:
    """In the order of KEY_COLUMNS."""
    number, journal, payload_hash = entry
    return journal.source, journal.ref, payload_hash, number, journal.at.chain, journal.at.number


def _key_line(entry: Fresh) -> str:
    source, ref, payload_hash, number, chain, block_number = _key(entry)
    return f"{_text(source)}\t{_text(ref)}\t{_bytes(payload_hash)}\t{number}\t{_text(chain)}\t{block_number}\n"


def _journal_lines(fresh: Iterable[Fresh], reversed_ids: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for number, j, payload_hash in fresh:
        reverses = _NULL if j.reverses is None else reversed_ids[j.reverses]
        yield (
            f"{_text(j.at.chain)}\t{j.at.number}\t{number}\t{_bytes(j.at.hash)}\t{_text(j.kind)}\t{_text(j.reason)}\t"
            f"{_text(j.source)}\t{_text(j.ref)}\t{_bytes(payload_hash)}\t{j.valid_at}\t{reverses}\n"
        )


def _transfer_lines(fresh: Iterable[Fresh], accounts: Mapping[Account, int]) -> Iterator[str]:
    for number, journal, _ in fresh:
        of_journal = f"{_text(journal.at.chain)}\t{journal.at.number}\t{number}"
        for seq, t in enumerate(journal.transfers):
            asset = t.asset
            debit, credit = accounts[t.debit, asset], accounts[t.credit, asset]
            yield f"{of_journal}\t{seq}\t{debit}\t{credit}\t{_text(asset)}\t{t.amount}\t{t.phase.value}\n"


_NULL = r"\N"
_NO_TRANSFER = (None,) * 5
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def _text(value: str) -> str:
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def _bytes(value: bytes) -> str:
    return rf"\\x{value.hex()}"


def _lines(j: Journal) -> list[tuple[object, ...]]:
    """The rows of BOOKED in which it must be found: one for each transfer, or one without."""
    head = (j.at.number, j.at.hash, j.kind, j.reason, j.ref, j.valid_at, None, True)
    return [(*head, t.debit, t.credit, t.asset, str(t.amount), t.phase) for t in j.transfers] or [
        (*head, *_NO_TRANSFER)
    ]


def _journal(rows: Sequence[asyncpg.Record]) -> Journal:
    head = rows[0]
    return Journal(
        kind=head["kind"],
        reason=head["reason"],
        source=head["source"],
        ref=head["ref"],
        at=BlockStamp(head["chain"], head["block_number"], head["block_hash"]),
        valid_at=head["valid_at"],
        transfers=tuple(
            Transfer(row["debit"], row["credit"], row["asset"], row["amount"], Phase(row["phase"]))
            for row in rows
            if row["seq"] is not None
        ),
        reverses=None if head["reverses_source"] is None else (head["reverses_source"], head["reverses_ref"]),
    )


def _slices(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]


def _columns(accounts: Iterable[Account]) -> tuple[str, str]:
    """Codes and assets, each as an array."""
    codes, assets = zip(*accounts, strict=True)
    return _array(map(_quoted, codes)), _array(map(_quoted, assets))


def _array(elements: Iterable[str]) -> str:
    """As Postgres reads it."""
    return f"{{{','.join(elements)}}}"


def _quoted(element: str) -> str:
    escaped = element.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _conflict(source: str, ref: str) -> JournalConflict:
    return JournalConflict(f"{source} {ref} is booked with another payload")
