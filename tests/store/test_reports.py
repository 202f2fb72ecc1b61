"""What the report reads from the rows of one snapshot."""

from bridge.domain.reports import CutOff, FinalizedSpan
from bridge.store.database import Database
from tests.stages.world import CHAIN, T0, USDX, block_hash, build_world


async def test_facts__small_world__read_at_the_reconciled_block(database: Database):
    await build_world(database)
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts()
    (chain,) = facts.chains
    assert chain.cut_off == CutOff(40, block_hash(40), T0 + 400)
    assert (chain.reorgs, chain.blocks_orphaned, chain.posted_through) == (1, 1, 40)
    assert facts.decided == {USDX: 1_199_400_000}
    assert [(d.state, d.paid, d.credited, len(d.tx_ids)) for d in facts.distributions] == [
        ("final", 1, 1, 2),
        ("in_flight", 0, 0, 1),
    ]
    assert {(f.debit, f.credit): f.atoms for f in facts.flows if f.debit == "payable"} == {
        ("payable", "suspense:out"): 600_000_000,  # the pending intent is not counted, its posting is
        ("payable", "owed_on_chain"): 399_400_000,
    }


async def test_facts__booked_after_the_cut_off__left_out(database: Database):
    await build_world(database)
    async with database.begin() as transaction:
        await transaction.connection.execute("UPDATE checks SET block_number = 14, block_hash = $1", block_hash(14))
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts()
    assert facts.chains[0].cut_off == CutOff(14, block_hash(14), T0 + 140)
    assert len(facts.distributions) == 1
    assert sum(flow.atoms for flow in facts.flows if flow.credit == "surplus:unallocated") == 1_000_000_000
    assert facts.gas == ()


async def test_facts__empty_database__nothing_at_all(database: Database):
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts()
    assert (facts.chains, facts.reconciliation, facts.flows, facts.distributions) == ((), None, (), ())


async def test_facts__nothing_reconciled__cut_off_at_the_finalized_block(database: Database):
    async with database.begin() as transaction:
        await transaction.chains.register(CHAIN, "evm", "eip155:31337", block_hash(0), 0)
        await transaction.connection.execute(
            "INSERT INTO blocks VALUES ($1, 3, $2, $3, $4, 'finalized')", CHAIN, block_hash(3), block_hash(2), T0
        )
        await transaction.connection.execute(
            "INSERT INTO heads VALUES ($1, 3, $2, $3, 3, $2, $3, 3)", CHAIN, block_hash(3), T0
        )
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts()
    assert facts.chains[0].cut_off == CutOff(3, block_hash(3), T0)


async def test_facts__ranges__joined_where_consecutive_and_read_by_the_same(database: Database):
    ranges = [(0, 9, "a", "b"), (10, 19, "a", "b"), (25, 29, "a", "b"), (30, 39, "b", "a")]
    async with database.begin() as transaction:
        await transaction.chains.register(CHAIN, "evm", "eip155:31337", block_hash(0), 0)
        for first, last, read_by, verified_by in ranges:
            await transaction.connection.execute(
                "INSERT INTO finalized_ranges VALUES ($1, $2, $3, $4, 5, $4, $5, $6)",
                *(CHAIN, first, last, block_hash(last), read_by, verified_by),
            )
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts()
    assert facts.spans == (
        FinalizedSpan(CHAIN, 0, 19, 2, 10, "a", "b"),
        FinalizedSpan(CHAIN, 25, 29, 1, 5, "a", "b"),
        FinalizedSpan(CHAIN, 30, 39, 1, 5, "b", "a"),
    )
