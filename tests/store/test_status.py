"""`bridge status` reads everything in one snapshot, also from a database in which nothing has happened."""

from bridge.store.database import Database


async def test_status__empty_database__nothing_is_there_and_nothing_fails(database: Database):
    async with database.snapshot() as transaction:
        status = await transaction.status.read()
    assert status.chains == ()
    assert status.reconciled is None
    assert status.distributions == {}


async def test_status__chain_without_blocks__lag_is_unknown(database: Database):
    async with database.begin() as transaction:
        await transaction.chains.register("anvil", "evm", "eip155:31337", b"\x01" * 32, 0)
    async with database.snapshot() as transaction:
        (chain,) = (await transaction.status.read()).chains
    assert (chain.head_number, chain.lag_blocks, chain.finalized_logs) == (None, None, 0)
