"""Balances against what they are a projection of: each is the sum of its account's transfers.

    accounts in order of their ids   ├── ids a … b ──┤├── ids c … d ──┤         so many at once that their sums fit
    for each stretch: transfers      ├──page──┤├──page──┤├──page──┤─ …          added up page by page in the database

So neither memory nor the time of one statement grows with the books.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from bridge.domain.ledger import FalseBalance, Sums, add_sums, compare_sums
from bridge.ports.database import Transaction

ACCOUNTS_AT_ONCE = 100_000
TRANSFERS_AT_ONCE = 100_000

NOTHING = Sums(0, 0, 0, 0)
BEFORE_ALL = (-2, 0, 0)
"""Block, journal, place in it: before every transfer."""


async def false_balances(
    tx: Transaction, chain: str, *, accounts_at_once: int = ACCOUNTS_AT_ONCE, transfers_at_once: int = TRANSFERS_AT_ONCE
) -> AsyncGenerator[FalseBalance]:
    """Those of `chain` that are not what the transfers add up to, in the snapshot of `tx`."""
    after = 0
    while kept := await tx.audits.kept(chain, after, accounts_at_once):
        sums = await _added_up(tx, chain, (kept[0].account_id, kept[-1].account_id), transfers_at_once)
        for each in kept:
            figures = compare_sums(each.sums, sums.get(each.account_id, NOTHING))
            if figures:
                yield FalseBalance(each.code, each.asset, figures)
        after = kept[-1].account_id


async def _added_up(tx: Transaction, chain: str, accounts: tuple[int, int], at_once: int) -> dict[int, Sums]:
    sums: dict[int, Sums] = {}
    place: tuple[int, int, int] | None = BEFORE_ALL
    while place is not None:
        end = await tx.audits.page_end(chain, place, at_once)
        for account_id, found in await tx.audits.added_up(chain, place, end, accounts):
            sums[account_id] = add_sums(sums.get(account_id, NOTHING), found)
        place = end
    return sums
