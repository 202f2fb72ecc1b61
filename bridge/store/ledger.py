"""Tables: assets, accounts, journal_keys, journals, transfers, balances.

    journals ──► claim (source, ref) ──► open accounts ──► COPY journals, transfers ──► balances, locked in order

Everything is set-based: the number of statements does not depend on the number of journals. One journal may have
millions of transfers, so what goes over the wire at once is bounded, and no statement runs into the time limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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

NEXT_IDS = "SELECT nextval('journal_ids') FROM generate_series(1, $1)"

CLAIM = """
    -- Returns the keys that were free. Sorted, so that two writers of the same keys wait instead of deadlocking.
    INSERT INTO journal_keys (source, ref, payload_hash, journal_id, chain, block_number)
    SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BYTEA[], $4::BIGINT[], $5::TEXT[], $6::BIGINT[])
        AS k (source, ref, payload_hash, journal_id, chain, block_number)
     ORDER BY source, ref
    ON CONFLICT (source, ref) DO NOTHING
    RETURNING journal_id
"""

CLAIMED = """
    SELECT k.source, k.ref, k.payload_hash
      FROM unnest($1::TEXT[], $2::TEXT[]) AS wanted (source, ref) JOIN journal_keys k USING (source, ref)
"""

ACCOUNT_IDS = """
    SELECT a.code, a.asset, a.account_id
      FROM unnest($1::TEXT[], $2::TEXT[]) AS wanted (code, asset) JOIN accounts a USING (code, asset)
"""

OPEN_ACCOUNTS = """
    -- Two statements, for DO NOTHING returns no row where another writer was first.
    INSERT INTO accounts (code, asset) SELECT * FROM unnest($1::TEXT[], $2::TEXT[]) AS w (code, asset) ORDER BY 1, 2
    ON CONFLICT (code, asset) DO NOTHING
"""

OPEN_BALANCES = """
    INSERT INTO balances (account_id) SELECT * FROM unnest($1::BIGINT[]) AS w (account_id) ORDER BY 1
    ON CONFLICT (account_id) DO NOTHING
"""

LOCK_BALANCES = "SELECT account_id FROM balances WHERE account_id = ANY($1) ORDER BY account_id FOR UPDATE"

APPLY = """
    UPDATE balances b
       SET debits_posted = b.debits_posted + d.debits_posted, credits_posted = b.credits_posted + d.credits_posted,
           debits_pending = b.debits_pending + d.debits_pending, credits_pending = b.credits_pending + d.credits_pending
      FROM unnest($1::BIGINT[], $2::NUMERIC[], $3::NUMERIC[], $4::NUMERIC[], $5::NUMERIC[])
           AS d (account_id, debits_posted, credits_posted, debits_pending, credits_pending)
     WHERE b.account_id = d.account_id
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

NOTIFY = "SELECT pg_notify('bridge', 'journals')"

Account = tuple[str, AssetId]
Row = TypeVar("Row")

ROWS_AT_ONCE = 50_000
"""Of one statement: some seconds on a slow disk, where a statement may take a minute."""


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
        fresh = [(journal_id, journal) for journal_id, journal in claimed if journal_id is not None]
        if fresh:
            accounts = await self._accounts(
                (code, transfer.asset)
                for _, journal in fresh
                for transfer in journal.transfers
                for code in (transfer.debit, transfer.credit)
            )
            await self._copy(fresh, accounts)
            await self._apply((transfer for _, journal in fresh for transfer in journal.transfers), accounts)
            await self._connection.execute(NOTIFY)
        return [journal_id is not None for journal_id, _ in claimed]

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

    async def _claim(self, journals: Sequence[Journal]) -> list[tuple[int | None, Journal]]:
        """Each journal with its new id, or with None where it is booked already."""
        new: dict[tuple[str, str], tuple[Journal, bytes]] = {}
        for journal in journals:
            key, payload_hash = (journal.source, journal.ref), journal.payload_hash
            if new.setdefault(key, (journal, payload_hash))[1] != payload_hash:
                raise _conflict(*key)
        ids = [row[0] for row in await self._connection.fetch(NEXT_IDS, len(new))]
        columns = [(*key, payload_hash, j.at.chain, j.at.number) for key, (j, payload_hash) in new.items()]
        sources, refs, hashes, chains, numbers = ([row[column] for row in columns] for column in range(5))
        rows = await self._connection.fetch(CLAIM, sources, refs, hashes, ids, chains, numbers)
        free = {row["journal_id"] for row in rows}
        await self._check_same({key: new[key][1] for key, number in zip(new, ids, strict=True) if number not in free})
        fresh = {key: number for key, number in zip(new, ids, strict=True) if number in free}
        # A journal that comes twice is booked where it comes first.
        return [(fresh.pop((journal.source, journal.ref), None), journal) for journal in journals]

    async def _check_same(self, taken: Mapping[tuple[str, str], bytes]) -> None:
        if not taken:
            return
        sources, refs = [source for source, _ in taken], [ref for _, ref in taken]
        for row in await self._connection.fetch(CLAIMED, sources, refs):
            if row["payload_hash"] != taken[row["source"], row["ref"]]:
                raise _conflict(row["source"], row["ref"])

    async def _accounts(self, wanted: Iterable[Account]) -> dict[Account, int]:
        """Ids of accounts, opened where they are new."""
        accounts = sorted(set(wanted))
        known = await self._account_ids(accounts)
        new = [account for account in accounts if account not in known]
        if new:
            try:
                for some in _slices(new):
                    await self._connection.execute(OPEN_ACCOUNTS, *_columns(some))
            except asyncpg.ForeignKeyViolationError as error:
                raise RefusedError(f"an account needs a registered asset: {error.detail}") from error
            opened = await self._account_ids(new)
            for ids in _slices(list(opened.values())):
                await self._connection.execute(OPEN_BALANCES, ids)
            known |= opened
        return known

    async def _account_ids(self, accounts: Sequence[Account]) -> dict[Account, int]:
        return {
            (row["code"], row["asset"]): row["account_id"]
            for some in _slices(accounts)
            for row in await self._connection.fetch(ACCOUNT_IDS, *_columns(some))
        }

    async def _reversed(self, fresh: Sequence[tuple[int, Journal]]) -> dict[tuple[str, str], int]:
        """Ids of the journals that `fresh` ones reverse."""
        keys = [journal.reverses for _, journal in fresh if journal.reverses is not None]
        if not keys:
            return {}
        rows = await self._connection.fetch(REVERSED, [key[0] for key in keys], [key[1] for key in keys])
        found = {(row["source"], row["ref"]): row["journal_id"] for row in rows}
        for key in keys:
            if key not in found:
                raise RefusedError(f"{' '.join(key)} cannot be reversed: it is not booked")
        return found

    async def _copy(self, fresh: Sequence[tuple[int, Journal]], accounts: Mapping[Account, int]) -> None:
        reversed_ids = await self._reversed(fresh)
        await self._connection.copy_records_to_table(
            "journals",
            columns=(
                *("chain", "block_number", "journal_id", "block_hash", "kind", "reason"),
                *("source", "ref", "payload_hash", "valid_at", "reverses_id"),
            ),
            records=[
                (
                    *(j.at.chain, j.at.number, journal_id, j.at.hash, j.kind, j.reason),
                    *(j.source, j.ref, j.payload_hash, j.valid_at),
                    None if j.reverses is None else reversed_ids[j.reverses],
                )
                for journal_id, j in fresh
            ],
        )
        transfers = [
            (
                *(j.at.chain, j.at.number, journal_id, seq),
                *(accounts[t.debit, t.asset], accounts[t.credit, t.asset], t.asset, t.amount, t.phase),
            )
            for journal_id, j in fresh
            for seq, t in enumerate(j.transfers)
        ]
        for records in _slices(transfers):
            await self._connection.copy_records_to_table(
                "transfers",
                columns=(
                    *("chain", "block_number", "journal_id", "seq"),
                    *("debit_account", "credit_account", "asset", "amount", "phase"),
                ),
                records=records,
            )

    async def _apply(self, transfers: Iterable[Transfer], accounts: Mapping[Account, int]) -> None:
        """Bring `balances` up: a projection of transfers, in the same transaction."""
        sums: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for transfer in transfers:
            posted, pending = _effect(transfer)
            for side, code in enumerate((transfer.debit, transfer.credit)):
                columns = sums[accounts[code, transfer.asset]]
                columns[side] += posted
                columns[2 + side] += pending
        if not sums:
            return
        slices = _slices(sorted(sums))
        for account_ids in slices:
            await self._connection.fetch(LOCK_BALANCES, account_ids)
        try:
            for account_ids in slices:
                await self._connection.execute(
                    APPLY, account_ids, *([sums[account][column] for account in account_ids] for column in range(4))
                )
        except asyncpg.CheckViolationError as error:
            raise RefusedError(f"a post or void releases more than is pending: {error.detail}") from error


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


def _columns(accounts: Sequence[Account]) -> tuple[list[str], list[AssetId]]:
    return [code for code, _ in accounts], [asset for _, asset in accounts]


def _conflict(source: str, ref: str) -> JournalConflict:
    return JournalConflict(f"{source} {ref} is booked with another payload")
