"""What the report reads from the rows of one snapshot."""

from itertools import pairwise

from bridge.domain.reports.facts import CutOff, Facts, FinalizedSpan
from bridge.domain.windows import Window
from bridge.store.database import Database
from tests.stages.world import CHAIN, ETH, T0, USDX, VAULT_CODE, block_hash, build_world


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


# ── Periods ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def facts_of(database: Database, first: int, end: int) -> Facts:
    """Of blocks `first` … `end` − 1, by their times."""
    async with database.snapshot() as transaction:
        return await transaction.reports.facts(Window(T0 + 10 * first, T0 + 10 * end))


async def test_facts__period__half_open_by_block_time(database: Database):
    await build_world(database)
    facts = await facts_of(database, 15, 24)
    (chain,) = facts.chains
    assert chain.opening == CutOff(14, block_hash(14), T0 + 140)
    assert chain.cut_off == CutOff(23, block_hash(23), T0 + 230)
    assert (chain.ended, chain.posted_through, chain.reorgs) == (True, 23, 0)
    assert {flow.source for flow in facts.flows} == {"log", "decision", "attempt"}
    assert sum(flow.atoms for flow in facts.flows if flow.credit == "surplus:unallocated") == 250_500_000
    assert [item.rule for item in facts.distributions] == ["reserve_buffer"]
    assert [rule.rule for rule in facts.rules] == ["reserve_buffer"]
    assert facts.decided == {USDX: 200_000_000}
    assert [item.transactions for item in facts.gas] == [1]
    assert (await facts_of(database, 10, 14)).chains[0].reorgs == 1


async def test_facts__period__reconciled_by_the_first_run_that_saw_all_of_it(database: Database):
    await build_world(database)
    async with database.begin() as transaction:
        await transaction.connection.execute(
            "INSERT INTO reconciliations (finished_at, verdict) VALUES (now(), 'balanced'), (now(), 'balanced')"
        )
        await transaction.connection.execute(
            "INSERT INTO checks (reconciliation_id, level, chain, subject, block_number, block_hash, outcome)"
            " VALUES (2, 'event', $1, 'logs', 50, $2, 'agreed'), (3, 'event', $1, 'logs', 50, $2, 'agreed')",
            CHAIN,
            block_hash(50),
        )
    runs = [(await facts_of(database, 15, end)).reconciliation for end in (41, 40, 16)]
    assert [run and run.reconciliation_id for run in runs] == [1, 1, 1]
    async with database.begin() as transaction:
        await transaction.connection.execute("UPDATE checks SET block_number = 39 WHERE block_number = 40")
    runs = [(await facts_of(database, 15, end)).reconciliation for end in (41, 40)]
    assert [run and run.reconciliation_id for run in runs] == [2, 1]


async def test_facts__period_not_over__says_that_no_later_block_is_final(database: Database):
    await build_world(database)
    assert (await facts_of(database, 15, 40)).chains[0].ended
    assert not (await facts_of(database, 15, 41)).chains[0].ended


async def test_facts__period_before_the_books__no_cut_off(database: Database):
    await build_world(database)
    facts = await facts_of(database, -20, -10)
    assert (facts.chains[0].cut_off, facts.flows, facts.reconciliation, facts.rules) == (None, (), None, ())


async def test_facts__period__balances_only_where_read_at_its_last_block(database: Database):
    await build_world(database)
    assert len((await facts_of(database, 15, 41)).balance_checks) == 4
    assert (await facts_of(database, 15, 40)).balance_checks == ()


async def test_facts__breaks_of_a_period__those_that_stood_in_it_and_were_seen_by_its_run(database: Database):
    await build_world(database)
    assert [item.state for item in (await facts_of(database, 15, 41)).breaks] == ["open", "resolved"]
    assert [item.state for item in (await facts_of(database, 15, 20)).breaks] == ["open", "resolved"]
    async with database.begin() as transaction:
        await transaction.connection.execute("UPDATE breaks SET block_number = 41 WHERE state = 'open'")
    assert [item.state for item in (await facts_of(database, 15, 41)).breaks] == ["resolved"]
    async with database.begin() as transaction:
        await transaction.connection.execute(
            "UPDATE breaks SET resolved_at = opened_at - interval '2 hours' WHERE state = 'resolved'"
        )
    assert (await facts_of(database, 15, 41)).breaks == ()


# ── Key figures ─────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_facts__small_world__journals_seals_lags_and_milestones(database: Database):
    await build_world(database)
    facts = await facts_of(database, 0, 41)
    async with database.snapshot() as transaction:
        whole = await transaction.reports.facts()
    (seal,) = facts.seals
    assert (seal.journals, seal.sealed, seal.last_sequence, seal.head) == (facts.entries_automatic, 0, None, None)
    assert (facts.entries_automatic, facts.entries_by_hand) == (20, 0)
    (lag,) = facts.lags
    assert (lag.blocks, lag.p50_ms, lag.bands[0]) == (3, 0, 3)  # booked in the transaction that read them
    paid, flying = whole.distributions
    assert paid.passed is not None
    # Not later than the block says, nor than it was seen.
    assert paid.passed.mined_at <= min(T0 + 90, paid.passed.posted_at or 0)
    assert flying.passed is not None
    assert flying.passed.final_at is None
    assert paid.passed.final_at is not None
    assert paid.passed.posted_at is not None
    assert [(item.detected_s, item.assignee) for item in facts.breaks] == [(3_200, None), (3_200, None)]
    assert [(event.break_id, event.from_state, event.to_state) for event in facts.history] == [
        (1, None, "open"),
        (2, None, "resolved"),
    ]
    assert facts.gas[0].budget == 3 * 200_000 * 2 * 10**9


async def test_facts__values__what_books_and_chain_have_in_common(database: Database):
    await build_world(database)
    async with database.begin() as transaction:
        await transaction.connection.execute("UPDATE checks SET actual = actual - 100 WHERE subject = $1", VAULT_CODE)
    facts = await facts_of(database, 0, 41)
    assert {item.asset: item.whole - item.common for item in facts.values} == {USDX: 100, ETH: 0}
    (point,) = facts.trend
    assert (point.runs, point.whole.agreed, point.whole.broken, point.whole.skipped) == (1, 5, 1, 1)
    assert point.value_ppm == 999_999


async def test_facts__trend__runs_of_the_period_in_groups_with_the_exempt_apart(database: Database):
    await build_world(database)
    async with database.begin() as transaction:
        run = transaction.connection.execute
        await run(
            "INSERT INTO reconciliations (finished_at, verdict)"
            " SELECT to_timestamp($1 + n), 'balanced' FROM generate_series(1, 59) AS n",
            T0,
        )
        await run(
            "INSERT INTO checks (reconciliation_id, level, chain, subject, block_number, block_hash, outcome, cause)"
            " SELECT reconciliation_id, level, $1, level, 16 + reconciliation_id % 8, $2, outcome, cause"
            "   FROM reconciliations, (VALUES ('balance', 'agreed', NULL), ('nonce', 'skipped', 'exempt: by choice'),"
            "   ('event', 'skipped', 'a node is away')) AS made (level, outcome, cause) WHERE reconciliation_id > 1",
            *(CHAIN, block_hash(16)),
        )
    trend = (await facts_of(database, 15, 24)).trend
    assert (len(trend), sum(point.runs for point in trend)) == (24, 59)
    assert [item.level for item in trend[0].levels] == ["event", "balance", "nonce"]
    assert sum(point.whole.exempt for point in trend) == sum(point.whole.skipped for point in trend) == 59
    assert all(one.last_at < other.first_at for one, other in pairwise(trend))
    assert (await facts_of(database, 24, 30)).trend == ()


async def test_facts__corrections__with_both_people_and_where_they_were_booked(database: Database):
    await build_world(database)
    async with database.begin() as transaction:
        run = transaction.connection.execute
        await run(
            "INSERT INTO corrections (chain, reason, asked_by, debit, credit, asset, amount)"
            " SELECT $1, reason, 'dana', 'suspense:in', 'surplus:unallocated', $2, 7 FROM unnest($3::TEXT[]) AS reason",
            *(CHAIN, USDX, ["a donation", "another"]),
        )
        await run("INSERT INTO correction_answers (correction_id, answer, answered_by) VALUES (1, 'approved', 'amir')")
        await run(
            "INSERT INTO journal_keys VALUES ('adjustment', '1', $1, nextval('journal_ids'), $2, 30)",
            *(block_hash(1), CHAIN),
        )
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts()
    assert [(item.reason, item.answered_by, item.block_number) for item in facts.corrections] == [
        ("a donation", "amir", 30),
        ("another", None, None),
    ]
    assert [item.subject for item in facts.attention if item.kind == "correction asked for"] == ["correction 2"]
    assert [item.correction_id for item in (await facts_of(database, 25, 35)).corrections] == [1]
    assert (await facts_of(database, 31, 35)).corrections == ()
    assert (await facts_of(database, 25, 35)).entries_by_hand == 1
