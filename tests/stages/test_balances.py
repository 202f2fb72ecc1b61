"""Balances added up from their transfers, however many are looked at at once."""

import pytest

from bridge.stages.balances import false_balances
from bridge.store.database import Database
from tests.stages.books import (
    ALICE,
    BOB,
    CHAIN,
    ETH,
    OPERATOR,
    OPERATOR_CODE,
    USDX,
    VAULT,
    VAULT_CODE,
    batch,
    bookkeeper,
    decide,
    fee,
    land,
    plan,
    run,
    start,
)

AMOUNTS = {ALICE: 600, BOB: 399}


async def told(database: Database, accounts: int, transfers: int) -> list[str]:
    async with database.snapshot() as tx:
        found = false_balances(tx, CHAIN, accounts_at_once=accounts, transfers_at_once=transfers)
        return [str(each) async for each in found]


@pytest.mark.parametrize(("accounts", "transfers"), [(1, 100), (3, 1), (100, 2), (100, 5), (100, 100)])
async def test_false_balances__any_page_sizes__only_what_was_changed_with_both_figures(
    database: Database, accounts: int, transfers: int
):
    chain = await start(database, held={(OPERATOR, ETH): 1000, (VAULT, USDX): 5})
    await chain.mine(*fee(1000))
    await decide(chain, 1, AMOUNTS, carried_out=1)
    action_id = await plan(chain, AMOUNTS)
    await chain.mine(*batch({ALICE: 600}, {BOB: 399}), gas=21)
    post = await bookkeeper(chain)
    await run(post)  # one payment pending and posted, one pending and void
    await land(chain, action_id, 2, gas=21)
    await run(post)
    assert await told(database, accounts, transfers) == []
    async with database.begin() as tx:
        sql = tx.connection
        await sql.execute("SET LOCAL session_replication_role = replica")
        changed = (
            "UPDATE balances b SET {} FROM accounts a WHERE a.account_id = b.account_id AND (code, asset) = ($1, $2)"
        )
        await sql.execute(changed.format("debits_posted = 6, credits_pending = 1"), VAULT_CODE, USDX)
        await sql.execute(
            "DELETE FROM balances USING accounts a WHERE a.account_id = balances.account_id AND code = $1",
            OPERATOR_CODE,
        )
    operator, vault = await told(database, accounts, transfers)
    assert vault == (
        f"balance of {VAULT_CODE} in {USDX}: debits posted are kept as 6, transfers add up to 1005; "
        "credits pending are kept as 1, transfers add up to 0"
    )
    assert operator.startswith(
        f"balance of {OPERATOR_CODE} in {ETH}: debits posted are kept as nothing, transfers add up to 1000; "
        "credits posted are kept as nothing, transfers add up to 21; "
    )
