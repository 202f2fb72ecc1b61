"""Each kind of break, caused for real: found, kept as one row, and cleared when its cause is gone."""

import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest

from bridge.domain.breaks import HELD, IN_FLIGHT, BreakKind, Check, Level, Outcome, Reconciliation
from bridge.domain.errors import ChainDisagrees, RetryableError
from bridge.domain.events import Block, BlockAdded, Log, Value, pack_logs
from bridge.domain.ledger import Journal
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.reading import LogFilter
from bridge.stages.reconcile import Reconcile
from bridge.stages.seal import Seal, walk_on
from bridge.stages.view import Books
from bridge.store.database import Database
from tests.stages.books import (
    ALICE,
    BOB,
    CHAIN,
    DISTRIBUTION,
    DISTRIBUTOR,
    ETH,
    OPERATOR,
    OPERATOR_CODE,
    PAYER,
    SKIPPED,
    T0,
    THIEF,
    TOKEN,
    USDX,
    VAULT,
    VAULT_CODE,
    WATCHED,
    WITHDRAWN,
    Chain,
    advance,
    batch,
    block_hash,
    bookkeeper,
    decide,
    fee,
    land,
    plan,
    run,
    start,
    transfer,
)

AMOUNTS = {ALICE: 600, BOB: 399}
Found = tuple[str, str, int | None]


class FixedClock:
    """Implements ports.Clock; time passes when a test says so."""

    def __init__(self) -> None:
        self.elapsed_ms = 0

    def now(self) -> int:
        return 0

    def monotonic_ms(self) -> int:
        return self.elapsed_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        self.elapsed_ms += duration_ms


def reconciler(chain: Chain, *, deadline_s: int = 86_400, logs_at_once: int = 5_000) -> Reconcile:
    return Reconcile(
        database=chain.database,
        books=[Books(chain, WATCHED, chain.start_block)],
        deadline_s=deadline_s,
        logs_at_once=logs_at_once,
    )


async def reconcile(
    chain: Chain, *, full: bool = True, deadline_s: int = 86_400, logs_at_once: int = 5_000
) -> Reconciliation:
    return await reconciler(chain, deadline_s=deadline_s, logs_at_once=logs_at_once).run(full=full)


def found(result: Reconciliation) -> list[Found]:
    return [(str(item.kind), item.subject, item.amount) for item in result.breaks]


async def sql(database: Database, statement: str, *arguments: object, trusted: bool = True) -> None:
    """What nobody may do, done: triggers are off, as for one who owns the database."""
    async with database.begin() as tx:
        if trusted:
            await tx.connection.execute("SET LOCAL session_replication_role = replica")
        await tx.connection.execute(statement, *arguments)


@pytest.fixture
async def chain(database: Database) -> Chain:
    """One payout, from fee to credit, all final and booked."""
    chain = await start(database, held={(OPERATOR, ETH): 1000, (VAULT, USDX): 5})
    await chain.mine(*fee(1000))
    await decide(chain, 1, AMOUNTS, carried_out=1)
    action_id = await plan(chain, AMOUNTS)
    await chain.mine(*batch({ALICE: 600}, {BOB: 399}), gas=21)
    await land(chain, action_id, 2, gas=21)
    await chain.mine()
    await run(await bookkeeper(chain))
    return chain


async def follow(chain: Chain, *blocks: list[tuple[Address, str, Mapping[str, Value]]]) -> None:
    """Mine the blocks and book them."""
    for events in blocks:
        await chain.mine(*events)
    await run(await bookkeeper(chain))


# ── Nothing wrong ───────────────────────────────────────────────────────────────────────────────────────────────────
async def test_run__all_explained__balanced_with_every_level_checked(chain: Chain):
    result = await reconcile(chain)
    assert found(result) == []
    assert result.balanced
    assert result.skipped == ()
    assert result.at == (chain.stamp(3),)
    assert all(counts[Outcome.AGREED] > 0 for counts in result.counts().values())
    assert sum(check.level is Level.BALANCE for check in result.checks) == len(WATCHED.mirrors) == 6
    async with chain.database.snapshot() as tx:
        row = await tx.connection.fetchrow("SELECT verdict, finished_at IS NOT NULL AS finished FROM reconciliations")
        assert row is not None
        assert (row["verdict"], row["finished"]) == ("balanced", True)
        assert await tx.connection.fetchval("SELECT count(*) FROM checks") == len(result.checks)


@pytest.mark.parametrize("logs_at_once", [1, 3])
async def test_run__any_page_size__same_counts(chain: Chain, logs_at_once: int):
    assert events(await reconcile(chain, logs_at_once=logs_at_once)) == (6, 6)


async def test_run__breaks_in_some_of_many_pages__named_as_in_one_page(chain: Chain):
    """A page that is not as it should be is gone through journal by journal; those beside it are not."""
    await follow(chain, fee(7), [], fee(8))
    at = BlockStamp(CHAIN, 5, block_hash(5))  # a block without a log
    async with chain.database.begin() as tx:
        await tx.ledger.post([Journal("token.other", "", f"log:{CHAIN}", f"{at.hash.hex()}:0", at, 0)])
    await sql(chain.database, "UPDATE journals SET valid_at = 1 WHERE block_number = 2 AND source = $1", f"log:{CHAIN}")
    pages = [await reconcile(chain, logs_at_once=logs_at_once) for logs_at_once in (1, 2, 5_000)]
    of_logs = [
        (check.expected, check.actual, sorted((each.kind, each.subject) for each in check.differences))
        for result in pages
        for check in result.checks
        if check.subject == "logs"
    ]
    wrong = [("amount_mismatch", f"log {block_hash(2).hex()}:{index}") for index in range(4)]
    assert of_logs == [(10, 10, [*sorted(wrong), ("orphaned_by_reorg", f"log {at.hash.hex()}:0")])] * 3


async def test_run__start_block_above_zero__opening_not_counted_twice(database: Database):
    chain = await start(database, start_block=7, held={(VAULT, USDX): 5})
    await follow(chain, fee(3))
    assert found(await reconcile(chain)) == []


async def test_run__nothing_booked_yet__retryable(database: Database):
    chain = await start(database)
    with pytest.raises(RetryableError, match="nothing is booked"):
        await reconcile(chain)


async def test_run__incremental_after_balanced__reads_only_what_is_new(chain: Chain):
    await reconcile(chain)
    await follow(chain, fee(1))
    assert events(await reconcile(chain, full=False)) == (2, 2)


@pytest.fixture
async def looked(chain: Chain) -> Chain:
    """As `chain`; runs have looked at all of it, and there is something newer."""
    assert (await reconcile(chain, full=False)).balanced
    await follow(chain, fee(1))
    assert (await reconcile(chain, full=False)).balanced
    return chain


def events(result: Reconciliation) -> tuple[int | None, int | None]:
    [check] = [check for check in result.checks if check.level is Level.EVENT]
    return check.expected, check.actual


async def test_run__break_open__reads_its_block_again_and_no_other_old_one(looked: Chain):
    """However long it stays open, and however old the block is."""
    await follow(looked, [])
    await sql(looked.database, "CREATE TABLE kept AS SELECT * FROM logs WHERE block_number = 1 AND log_index = 1")
    await sql(looked.database, "DELETE FROM logs WHERE block_number = 1 AND log_index = 1")
    whole = await reconcile(looked)
    orphan = ("orphaned_by_reorg", f"log {block_hash(1).hex()}:1", None)
    assert orphan in found(whole)
    await follow(looked, fee(2))
    result = await reconcile(looked, full=False)
    assert events(result) == (3, 3)  # the one that is left of block 1, and two new ones
    assert orphan in found(result)
    await sql(looked.database, "INSERT INTO logs SELECT * FROM kept")
    result = await reconcile(looked, full=False)
    assert events(result) == (2, 2)
    assert {kind for kind, _, _ in found(result)} == {"orphaned_by_reorg", "amount_mismatch"}  # theirs to close
    assert all(check.outcome is not Outcome.BROKEN for check in result.checks)


async def test_run__batch_executed_again_after_earlier_runs__duplicate(chain: Chain):
    """The first time is not among what this run reads."""
    await reconcile(chain, full=False)
    await follow(chain, fee(999), batch({ALICE: 600}, {BOB: 399}))
    subject = ("duplicate", f"batch {DISTRIBUTION.hex()}:0", 999)
    assert subject in found(await reconcile(chain, full=False))
    assert subject in found(await reconcile(chain, full=False))
    assert subject in found(await reconcile(chain))


async def test_sweep__old_row_changed__found_when_it_comes_to_its_block_and_round_goes_on(looked: Chain):
    await sql(looked.database, "UPDATE transfers SET amount = 999 WHERE amount = 1000 AND asset = $1", USDX)
    assert found(await reconcile(looked, full=False)) == []
    stage = Reconcile(database=looked.database, books=[Books(looked, WATCHED, 0)], logs_swept=1)
    subjects, places = [], []
    for _ in range(4):
        result = await stage.run(full=False, sweep=True)
        subjects.append({subject for _, subject, _ in found(result)})
        async with looked.database.snapshot() as tx:
            places.append(await tx.jobs.place("blocks", CHAIN))
    changed = {f"log {block_hash(1).hex()}:{index}" for index in (0, 1)}
    assert places == ["1", "2", "", "1"]
    assert subjects == [changed] * 4


# ── What single accounts are owed ───────────────────────────────────────────────────────────────────────────────────
async def test_credited_account__the_contract_owes_another_amount__unexplained_until_it_agrees(looked: Chain):
    """A sum over all accounts would not show it: what one has less another may have more."""
    account = f"owed_on_chain:0x{BOB.hex()}"
    looked.owed[TOKEN, BOB] -= 9
    await follow(looked, [])
    calls = looked.calls
    assert found(await reconcile(looked, full=False)) == []  # nothing moved it: nobody asks
    assert looked.calls == calls
    swept = await reconciler(looked).run(full=False, sweep=True)
    assert found(swept) == [("unexplained_balance", account, -9)]
    assert found(await reconcile(looked, full=False)) == [
        ("unexplained_balance", account, -9)
    ]  # a break is asked again
    looked.owed[TOKEN, BOB] += 9
    await follow(looked, [])
    assert found(await reconcile(looked, full=False)) == []


async def test_credited_account__just_moved__asked_at_once(looked: Chain):
    looked.owed[TOKEN, BOB] += 5
    fields: Mapping[str, Value] = {"token": TOKEN, "account": BOB, "to": BOB, "amount": 399}
    await follow(looked, [transfer(DISTRIBUTOR, BOB, 399), (DISTRIBUTOR, WITHDRAWN, fields)])
    assert found(await reconcile(looked, full=False)) == [("unexplained_balance", f"owed_on_chain:0x{BOB.hex()}", 5)]


async def test_sweep_of_accounts__bounded_slices__each_asked_once_a_round(database: Database):
    chain = await start(database, held={(OPERATOR, ETH): 1000})
    accounts = [Address(bytes([n]) * 20) for n in range(1, 8)]
    amounts = dict.fromkeys(accounts, 10)
    await chain.mine(*fee(70))
    await decide(chain, 1, amounts)
    await plan(chain, amounts)
    await follow(chain, batch({}, amounts))
    await reconcile(chain, full=False)
    stage = Reconcile(database=database, books=[Books(chain, WATCHED, 0)], accounts_swept=3)
    asked = []
    for _ in range(4):
        calls = chain.calls
        await stage.run(full=False, sweep=True)
        asked.append(chain.calls - calls)
    assert asked == [3, 3, 1, 3]


# ── The seal ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_broken_seal__walked__break_that_stays_until_mended_and_a_person_closes_it(looked: Chain):
    database = looked.database
    await Seal(database=database, clock=FixedClock()).step()
    await walk_on(database)
    change = "UPDATE journals SET reason = $1 WHERE source = 'decision'"
    async with database.snapshot() as tx:
        reason = await tx.connection.fetchval("SELECT reason FROM journals WHERE source = 'decision'")
    await sql(database, change, "another")
    assert found(await reconcile(looked, full=False)) == []
    await walk_on(database)
    result = await reconcile(looked, full=False)
    assert found(result) == [("amount_mismatch", "seals", None)]
    assert "is not what was sealed there" in result.breaks[0].evidence
    await sql(database, change, reason)
    result = await reconcile(looked, full=False)  # before the walk comes by again: what it noted is looked at anew
    assert found(result) == [("amount_mismatch", "seals", None)]
    async with database.begin() as tx:
        await tx.breaks.resolve(result.breaks[0].break_id, reason="restored", by="ann")
    assert (await reconcile(looked)).balanced


# ── Money that nobody intended ──────────────────────────────────────────────────────────────────────────────────────
class Kept:
    """Implements ports.Executions for the one batch."""

    def __init__(self, executed: bool) -> None:
        self.answer = executed

    async def executed(self, distribution_id: bytes, index: int, at: BlockStamp) -> bool:
        return self.answer


async def test_executions__chain_does_not_keep_a_paid_batch__missing_until_it_does(chain: Chain):
    kept = Kept(executed=False)
    stage = Reconcile(database=chain.database, books=[Books(chain, WATCHED, chain.start_block, executions=kept)])
    result = await stage.run()
    assert [item.kind for item in result.breaks] == [BreakKind.MISSING_ON_CHAIN]
    assert result.breaks[0].subject.startswith("batch 0 of 0x")
    kept.answer = True
    result = await stage.run()
    assert result.breaks == ()
    assert [check.expected for check in result.checks if check.subject == "batches that are over"] == [1]


async def test_no_nonces__operator_lost_coins_that_nobody_here_spent__not_excused(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
):
    """Where accounts count nothing, the operator's balance is all that tells of a stolen key."""

    async def uncounted(account: Address, at: BlockStamp) -> None:
        return None

    monkeypatch.setattr(chain, "sequence", uncounted)
    assert found(await reconcile(chain)) == []
    chain.held[OPERATOR, ETH] -= 100
    await follow(chain, [])
    result = await reconcile(chain)
    assert [(item.kind, item.amount) for item in result.breaks] == [(BreakKind.UNEXPLAINED_BALANCE, -100)]
    assert not [check for check in result.checks if check.level is Level.NONCE]


async def test_donation__no_fee_paid__unexpected_in_with_its_transaction(chain: Chain):
    await follow(chain, [transfer(PAYER, VAULT, 7)])
    result = await reconcile(chain)
    assert found(result) == [("unexpected_in", "suspense:in", 7)]
    assert block_hash(4, "tx").hex() in result.breaks[0].evidence
    assert not result.balanced


async def test_theft__no_intent__unexpected_out(chain: Chain):
    await follow(chain, [transfer(VAULT, THIEF, 30)])
    result = await reconcile(chain)
    assert found(result) == [("unexpected_out", "suspense:out", -30)]
    assert block_hash(4, "tx").hex() in result.breaks[0].evidence


async def test_stolen_key__batch_that_nobody_planned__unexpected_out_twice_seen(chain: Chain):
    await follow(chain, batch({THIEF: 30}, {}, distribution=b"\x99" * 32))
    assert found(await reconcile(chain)) == [
        ("unexpected_out", "batch " + "99" * 32 + ":0", 30),
        ("unexpected_out", "suspense:out", -30),
    ]


async def test_fee_announced_but_never_paid__amount_mismatch(chain: Chain):
    await follow(chain, fee(9)[1:])
    assert found(await reconcile(chain)) == [("amount_mismatch", "suspense:in", -9)]


async def test_balance_moved_without_event__rebase__unexplained_until_it_is_gone(chain: Chain):
    chain.held[VAULT, USDX] += 2
    await follow(chain, [])
    first = await reconcile(chain)
    assert found(first) == [("unexplained_balance", VAULT_CODE, 2)]
    chain.held[VAULT, USDX] -= 2
    await follow(chain, [])
    second = await reconcile(chain)
    assert (found(second), second.cleared, second.balanced) == ([], 1, True)
    async with chain.database.snapshot() as tx:
        row = await tx.connection.fetchrow("SELECT resolution, evidence, state FROM breaks")
    assert row is not None
    assert row["resolution"].startswith("cleared by check ")
    assert '"chain"' in row["evidence"]


async def test_native_coin__came_without_log__unexplained(chain: Chain):
    chain.held[OPERATOR, ETH] += 50
    chain.held[VAULT, ETH] = 9  # what destroyed itself left it there
    await follow(chain, [])
    assert found(await reconcile(chain)) == [
        ("unexplained_balance", VAULT_CODE, 9),
        ("unexplained_balance", OPERATOR_CODE, 50),
    ]


# ── Books that were tampered with, or are incomplete ────────────────────────────────────────────────────────────────
async def test_journal_deleted__missing_in_ledger_and_torn(chain: Chain):
    await sql(chain.database, "DELETE FROM journals WHERE source = $1 AND kind = 'vault.FeePaid'", f"log:{CHAIN}")
    result = await reconcile(chain)
    missing = f"log {block_hash(1).hex()}:1"
    assert {(kind, subject) for kind, subject, _ in found(result)} == {
        ("missing_in_ledger", missing),
        ("amount_mismatch", f"journal log:{CHAIN} {block_hash(1).hex()}:1"),
        ("amount_mismatch", "seals"),  # its transfers are left
    }


async def test_transfer_changed__amount_mismatch_at_event_and_balance_projection(chain: Chain):
    await sql(chain.database, "UPDATE transfers SET amount = 999 WHERE amount = 1000 AND asset = $1", USDX)
    kinds = {(kind, subject) for kind, subject, _ in found(await reconcile(chain))}
    assert ("amount_mismatch", f"log {block_hash(1).hex()}:0") in kinds
    assert ("amount_mismatch", f"balance of {VAULT_CODE}") in kinds


async def test_balance_row_changed__found_at_once_by_chain_and_by_projection(chain: Chain):
    await sql(
        chain.database,
        "UPDATE balances SET debits_posted = debits_posted + 1 "
        "WHERE account_id = (SELECT account_id FROM accounts WHERE code = $1)",
        VAULT_CODE,
    )
    assert found(await reconcile(chain)) == [
        ("amount_mismatch", f"balance of {VAULT_CODE}", None),
        ("unexplained_balance", VAULT_CODE, -1),
    ]


FIRST = "(SELECT min(recipient) FROM payouts)"
SHIFTED = "WITH t AS (SELECT t.* FROM transfers t JOIN journals j USING (chain, block_number, journal_id) WHERE {})"
TAMPERED = {
    # What was done to the rows, balances kept true to the transfers where that hides it → what must be named.
    "UPDATE decisions SET total = total + 1": ["decision"],
    "UPDATE decisions SET artifact = artifact || '\\x20'": ["decision", "carries of fee_window"],
    "UPDATE decisions SET carried_out = carried_out + 1": ["decision", "journal decision"],
    "UPDATE decisions SET window_start = window_start + 1": ["decision"],
    "UPDATE rules SET body = body || ' '": ["decision"],
    f"UPDATE allocations SET amount = amount + 1 WHERE recipient = {FIRST}": ["decision", "journal decision"],
    "INSERT INTO carries SELECT chain, rule, asset, '\\x01', 5 FROM decisions": ["carries of fee_window"],
    f"UPDATE payouts SET outcome = CASE recipient WHEN {FIRST} THEN 'credited' ELSE 'paid' END": ["payout", "payout"],
    "UPDATE distributions SET total = total + 1": ["decision"],
    "UPDATE attempts SET fee_paid = fee_paid + 1": ["journal attempt"],
    "UPDATE journals SET reason = 'no reason' WHERE source = 'decision'": ["journal decision"],
    "UPDATE journals SET valid_at = 0 WHERE source = 'batch'": ["journal batch"],
    "DELETE FROM logs WHERE topic0 IS NULL OR block_number = 1 AND log_index = 1": [
        "log", "logs of blocks 1 to 1",
    ],
    "UPDATE finalized_ranges SET logs = logs + 1 WHERE first_block = 2": ["logs of blocks 2 to 2"],
    SHIFTED.format("j.source = 'decision' AND seq = 0") + """
        , u AS (UPDATE transfers x SET amount = x.amount + 9 FROM t
                 WHERE (x.block_number, x.journal_id, x.seq) = (t.block_number, t.journal_id, t.seq)),
          b AS (UPDATE balances SET debits_posted = debits_posted + 9 FROM t WHERE account_id = t.debit_account)
        UPDATE balances SET credits_posted = credits_posted + 9 FROM t WHERE account_id = t.credit_account
    """: ["journal decision"],
    """
    WITH f AS (INSERT INTO journals SELECT chain, block_number, 999, block_hash, kind, reason, source, 'forged',
                                           payload_hash, valid_at FROM journals WHERE source = 'decision')
    INSERT INTO journal_keys SELECT source, 'forged', payload_hash, 999, chain, block_number
      FROM journal_keys WHERE source = 'decision'
    """: ["journal decision forged", "seals"],
    "UPDATE accounts SET code = 'payable:0x66' WHERE code LIKE 'payable:%' AND code LIKE '%a1'": [
        "journal decision", "journal distribution", "journal batch",
    ],
}  # fmt: skip


@pytest.mark.parametrize("statement", TAMPERED)
async def test_rows_changed_behind_the_bridge__full_run__names_them(chain: Chain, statement: str):
    await sql(chain.database, statement)
    subjects = sorted(subject for _, subject, _ in found(await reconcile(chain)))
    expected = sorted(TAMPERED[statement])
    assert len(subjects) == len(expected)
    assert all(subject.startswith(words) for subject, words in zip(subjects, expected, strict=True))


async def test_batch_executed_for_other_recipients__same_sum__amount_mismatch(database: Database):
    chain, _ = await planned(database)
    await follow(chain, batch({ALICE: 599, BOB: 400}, {}))
    assert ("amount_mismatch", f"batch {DISTRIBUTION.hex()}:0", 0) in found(await reconcile(chain, full=False))


async def test_stored_time_of_a_block_changed__provider_disagreement(chain: Chain):
    await sql(chain.database, "UPDATE blocks SET timestamp = timestamp - 1 WHERE number = 1")
    assert ("provider_disagreement", "block 1", None) in found(await reconcile(chain))


async def test_log_found_late__below_the_cursor__missing_in_ledger(chain: Chain):
    """An event that the node hid when its block was booked: the balance tells before, the event says why after."""
    chain.move(TOKEN, {"from": PAYER, "to": VAULT, "value": 4})
    await follow(chain, [])
    assert found(await reconcile(chain)) == [("unexplained_balance", VAULT_CODE, 4)]
    topics, data = chain.decoder(transfer(PAYER, VAULT, 4)[1]).encode(transfer(PAYER, VAULT, 4)[2])
    await sql(
        chain.database,
        "INSERT INTO logs VALUES ($1, 4, $2, 0, $3, 0, $4, $5, $6, $7, NULL, $8)",
        *(CHAIN, block_hash(4), b"\x01" * 32, TOKEN, *topics, data),
        trusted=False,
    )
    assert found(await reconcile(chain, full=False)) == [
        ("unexplained_balance", VAULT_CODE, 4),
        ("missing_in_ledger", f"log {block_hash(4).hex()}:0", None),
        ("amount_mismatch", "logs of blocks 4 to 4", None),
    ]


async def test_journal_of_an_orphaned_block__orphaned_by_reorg(chain: Chain):
    at = BlockStamp(CHAIN, 2, block_hash(2, "other branch"))
    ref = f"{at.hash.hex()}:0"
    async with chain.database.begin() as tx:
        await tx.ledger.post([Journal("token.other", "", f"log:{CHAIN}", ref, at, 0)])
    assert found(await reconcile(chain)) == [("orphaned_by_reorg", f"log {ref}", None)]


async def test_finalized_range_missing__gap_named_and_cleared_when_filled(chain: Chain):
    await sql(chain.database, "CREATE TABLE kept AS SELECT * FROM finalized_ranges WHERE first_block IN (1, 2)")
    await sql(chain.database, "DELETE FROM finalized_ranges WHERE first_block IN (1, 2)")
    assert found(await reconcile(chain)) == [("missing_in_ledger", "blocks 1 to 2", None)]
    await sql(chain.database, "INSERT INTO finalized_ranges SELECT * FROM kept")
    assert found(await reconcile(chain, full=False)) == []


async def test_finalized_range_missing_at_the_end__gap_named(chain: Chain):
    await sql(chain.database, "DELETE FROM finalized_ranges WHERE first_block = 3")
    assert found(await reconcile(chain)) == [("missing_in_ledger", "blocks 3 to 3", None)]


async def test_stored_header_changed__provider_disagreement_and_link(chain: Chain):
    await sql(chain.database, "UPDATE blocks SET parent_hash = '\\x00' WHERE number = 3")
    assert found(await reconcile(chain)) == [("provider_disagreement", "parent of block 3", None)]


# ── A node that says otherwise ──────────────────────────────────────────────────────────────────────────────────────
async def test_node_replaced_an_old_block__provider_disagreement_until_it_agrees_again(chain: Chain):
    chain.lies[1] = b"\x66" * 32
    assert found(await reconcile(chain)) == [("provider_disagreement", "block 1", None)]
    del chain.lies[1]
    assert found(await reconcile(chain)) == []


async def test_node_lacks_the_cut_off__balances_skipped_with_cause_never_agreed(chain: Chain):
    chain.lies[3] = b"\x66" * 32
    result = await reconcile(chain)
    assert found(result) == [("provider_disagreement", "block 3", None)]
    assert {check.level for check in result.skipped} == {Level.BALANCE, Level.NONCE}


@pytest.mark.parametrize(("question", "doubts"), [("balance", 6), ("sequence", 1), ("blocks", 1), ("read_call", 1)])
async def test_nodes_contradict_each_other__break_of_its_own_and_what_they_said_of_is_skipped(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, question: str, doubts: int
):
    """A balance that was off before stays a break: nobody has seen it right."""
    chain.held[VAULT, USDX] += 2
    await follow(chain, [])
    off = ("unexplained_balance", VAULT_CODE, 2)
    assert found(await reconcile(chain)) == [off]

    async def disagree(*arguments: object, **options: object) -> int:
        raise ChainDisagrees("two nodes, two answers")

    with monkeypatch.context() as patch:
        patch.setattr(chain, question, disagree)
        result = await reconcile(chain)
    assert found(result)[0] == off
    assert [kind for kind, _, _ in found(result)[1:]] == ["provider_disagreement"] * doubts
    assert any(check.cause == "two nodes contradict each other" for check in result.skipped) or question == "read_call"
    assert found(await reconcile(chain)) == [off]


async def test_nodes_contradict_each_other__once__asked_again(chain: Chain, monkeypatch: pytest.MonkeyPatch):
    sequence, answers = chain.sequence, iter([ChainDisagrees("a moment's lag")])

    async def once(account: Address, at: BlockStamp) -> int:
        for error in answers:
            raise error
        return await sequence(account, at)

    monkeypatch.setattr(chain, "sequence", once)
    assert (await reconcile(chain)).balanced


class Retold:
    """Implements ports.History: what nodes now tell of old blocks."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self.logs = list(logs)

    async def finalized(self) -> Block | None:
        raise NotImplementedError

    async def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        logs = [log for log in self.logs if first <= log.block.number <= last]
        yield BlockAdded(first, (Block(last, block_hash(last), block_hash(last - 1), T0 + last),), pack_logs(logs))


async def test_sweep__nodes_tell_old_logs_otherwise__hidden_and_invented_ones_named(looked: Chain):
    async with looked.database.snapshot() as tx:
        stored = await tx.events.logs(CHAIN, 0, 99)
    history = Retold(stored)
    stage = Reconcile(database=looked.database, books=[Books(looked, WATCHED, 0, history)])
    assert found(await stage.run(full=False, sweep=True)) == []
    hidden = dataclasses.replace(stored[0], log_index=40)
    history.logs = [*stored[1:], hidden]
    invented = f"log {block_hash(1).hex()}:0 of nodes"
    await stage.run(full=False, sweep=True)  # the round ended: this one begins the next
    result = await stage.run(full=False, sweep=True)
    assert sorted(found(result)) == [
        ("missing_in_ledger", f"log {block_hash(1).hex()}:40 of nodes", None),
        ("provider_disagreement", invented, None),
    ]
    assert found(await reconcile(looked, full=False)) == found(result)  # nobody asked: they stay
    history.logs = stored
    assert found(await stage.run(full=False, sweep=True)) == []


# ── Nonces ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_nonce_used_outside__unexpected_out_and_its_gas_unexplained(chain: Chain):
    await chain.mine(gas=8)
    await run(await bookkeeper(chain))
    assert found(await reconcile(chain)) == [
        ("unexpected_out", f"{OPERATOR_CODE} nonce 1", None),
        ("unexplained_balance", OPERATOR_CODE, -8),
    ]


async def test_nonce_known_as_foreign__opened_once_and_not_again_when_a_person_resolved_it(chain: Chain):
    await chain.mine(gas=8)
    await run(await bookkeeper(chain))
    await sql(
        chain.database,
        "INSERT INTO slots (chain, account, nonce, action_id, state, gas_limit, reserved_at) "
        "SELECT $1, $2, 1, action_id, 'foreign', 0, 0 FROM actions",
        *(CHAIN, OPERATOR),
        trusted=False,
    )
    foreign = ("unexpected_out", f"{OPERATOR_CODE} nonce 1", None)
    assert foreign in found(await reconcile(chain))
    assert foreign in found(await reconcile(chain))
    await sql(
        chain.database,
        "UPDATE breaks SET state = 'resolved', resolved_at = now(), resolution = 'key rotated' "
        "WHERE subject LIKE '%nonce%'",
        trusted=False,
    )
    assert foreign not in found(await reconcile(chain))


async def test_included_but_not_settled__within_allowance__skipped_not_broken(database: Database):
    chain = await start(database, held={(OPERATOR, ETH): 1000})
    await chain.mine(*fee(999))
    await decide(chain, 1, AMOUNTS)
    action_id = await plan(chain, AMOUNTS)
    await chain.mine(*batch(AMOUNTS, {}), gas=21)
    await land(chain, action_id, 2, gas=21, final=False)
    await run(await bookkeeper(chain))
    result = await reconcile(chain)
    assert found(result) == []
    assert {(check.level, check.asset) for check in result.skipped} == {(Level.NONCE, None), (Level.BALANCE, ETH)}

    await sql(database, "UPDATE attempts SET sent_at = now() - INTERVAL '1 hour'", trusted=False)
    assert found(await reconcile(chain)) == [("timing", f"{OPERATOR_CODE} nonce 0", None)]

    await sql(database, "UPDATE slots SET state = 'settled'", trusted=False)
    await sql(database, "UPDATE attempts SET final = TRUE", trusted=False)
    await run(await bookkeeper(chain))
    assert found(await reconcile(chain)) == []


# ── Payouts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def planned(database: Database) -> tuple[Chain, int]:
    chain = await start(database, held={(OPERATOR, ETH): 1000})
    await chain.mine(*fee(999))
    await decide(chain, 1, AMOUNTS)
    action_id = await plan(chain, AMOUNTS)
    await run(await bookkeeper(chain))
    return chain, action_id


async def test_intent__in_flight__skipped_then_past_its_deadline_missing_on_chain_then_cleared(database: Database):
    chain, _ = await planned(database)
    result = await reconcile(chain)
    assert (found(result), [check.subject for check in result.skipped]) == ([], ["batches in flight", OPERATOR_CODE])
    for _ in range(5):
        await chain.mine()
    await run(await bookkeeper(chain))
    subject = f"batch {DISTRIBUTION.hex()}:0"
    assert found(await reconcile(chain, deadline_s=3)) == [("missing_on_chain", subject, -999)]
    await follow(chain, batch(AMOUNTS, {}))
    assert found(await reconcile(chain, deadline_s=3)) == []


async def test_batch_held__named_with_its_reason_and_never_overdue_until_it_is_released(database: Database):
    chain, action_id = await planned(database)
    for _ in range(5):
        await chain.mine()
    await run(await bookkeeper(chain))
    overdue = ("missing_on_chain", f"batch {DISTRIBUTION.hex()}:0", -999)
    assert found(await reconcile(chain, deadline_s=3)) == [overdue]

    await advance(chain, action_id, "held")
    result = await reconcile(chain, deadline_s=3)
    assert (found(result), result.balanced) == ([], True)
    told = f"exempt: 1 batch held for a person: batch 0 of 0x{DISTRIBUTION.hex()}, 999 atoms: test"
    assert told_of(result, HELD) == [(USDX, 999, told)]
    assert [check.outcome for check in result.checks if check.subject == IN_FLIGHT] == [Outcome.AGREED]
    pending = next(check for check in result.checks if check.subject == "pending payouts")
    assert (pending.expected, pending.actual, pending.outcome) == (999, 999, Outcome.AGREED)

    await advance(chain, action_id, "planned")
    result = await reconcile(chain, deadline_s=3)
    assert (found(result), told_of(result, HELD)) == ([], [])  # the time that it has begins anew
    assert told_of(result, IN_FLIGHT) == [(None, None, "1 batches are in flight")]
    await sql(database, "UPDATE confirmations SET confirmed_at = confirmed_at - INTERVAL '4 seconds'")
    assert found(await reconcile(chain, deadline_s=3)) == [overdue]
    await follow(chain, batch(AMOUNTS, {}))
    assert found(await reconcile(chain, deadline_s=3)) == []


async def test_batch_behind_a_held_proposal__held_too_with_its_reason(database: Database):
    chain, _ = await planned(database)
    await sql(
        database,
        "INSERT INTO actions (distribution_id, ordinal, kind, chain, payload, target, state, reason) "
        "VALUES ($1, 0, 'propose', $2, '', $3, 'held', 'above approve_above')",
        *(DISTRIBUTION, CHAIN, DISTRIBUTOR),
    )
    for _ in range(5):
        await chain.mine()
    await run(await bookkeeper(chain))
    result = await reconcile(chain, deadline_s=3)
    assert found(result) == []
    [(_, amount, told)] = told_of(result, HELD)
    assert amount == 999
    assert told is not None
    assert told.endswith(": above approve_above")


async def test_recipient_left_out__held_in_its_own_batch_others_settled_then_paid_or_given_up(database: Database):
    """As a vault on Solana pays: who can take nothing is left out, and waits alone."""
    chain, action_id = await planned(database)
    skipped: Mapping[str, Value] = {"id": DISTRIBUTION, "token": TOKEN, "to": BOB, "index": 0}
    await chain.mine((DISTRIBUTOR, SKIPPED, skipped), *batch({ALICE: 600}, {}))
    await land(chain, action_id, 2, gas=0)
    async with database.begin() as tx:
        await tx.connection.execute("UPDATE payouts SET batch_index = 1000001 WHERE recipient = $1", BOB)
        own: int = await tx.connection.fetchval(
            "INSERT INTO actions (distribution_id, ordinal, kind, chain, payload, target) "
            "VALUES ($1, 1000002, 'execute', $2, '', $3) RETURNING action_id",
            *(DISTRIBUTION, CHAIN, DISTRIBUTOR),
        )
    await advance(chain, own, "held")
    for _ in range(5):
        await chain.mine()
    await run(await bookkeeper(chain))
    result = await reconcile(chain, deadline_s=3, full=False)
    missing = [item for item in found(result) if item[0] == "missing_on_chain" and "batch" in item[1]]
    assert missing == []
    [(asset, amount, told)] = told_of(result, HELD)
    assert (asset, amount) == (USDX, 399)
    assert f"batch 1000001 of 0x{DISTRIBUTION.hex()}, 399 atoms: test" in str(told)
    [pending] = [check for check in result.checks if check.subject == "pending payouts"]
    assert (pending.expected, pending.actual) == (399, 399)

    await advance(chain, own, "void")
    await run(await bookkeeper(chain))
    result = await reconcile(chain, deadline_s=3, full=False)
    assert told_of(result, HELD) == told_of(result, IN_FLIGHT) == []
    [pending] = [check for check in result.checks if check.subject == "pending payouts"]
    assert (pending.expected, pending.actual) == (0, 0)


def told_of(result: Reconciliation, subject: str) -> list[tuple[AssetId | None, int | None, str | None]]:
    return [(check.asset, check.expected, check.skipped) for check in result.skipped if check.subject == subject]


async def test_action_final_without_its_event__missing_on_chain(database: Database):
    chain, action_id = await planned(database)
    await chain.mine(gas=21)
    await land(chain, action_id, 2, gas=21)
    await run(await bookkeeper(chain))
    assert found(await reconcile(chain)) == [("missing_on_chain", f"batch {DISTRIBUTION.hex()}:0", -999)]


async def test_batch_given_up__nothing_in_flight_nor_pending(database: Database):
    chain, action_id = await planned(database)
    await advance(chain, action_id, "held", "void")
    await run(await bookkeeper(chain))
    result = await reconcile(chain)
    assert (found(result), [check.subject for check in result.skipped]) == ([], [OPERATOR_CODE])


async def test_batch_executed_with_other_amounts__amount_mismatch(database: Database):
    chain, _ = await planned(database)
    await follow(chain, batch({ALICE: 600, BOB: 398}, {}))
    assert ("amount_mismatch", f"batch {DISTRIBUTION.hex()}:0", -1) in found(await reconcile(chain))


async def test_batch_executed_twice__duplicate(database: Database):
    chain, _ = await planned(database)
    await follow(chain, fee(999), batch(AMOUNTS, {}), batch(AMOUNTS, {}))
    assert ("duplicate", f"batch {DISTRIBUTION.hex()}:0", 999) in found(await reconcile(chain))


async def test_payout_rows_changed_after_booking__pending_differs(database: Database):
    chain, _ = await planned(database)
    await sql(database, "UPDATE payouts SET amount = amount + 1 WHERE recipient = $1", ALICE)
    assert found(await reconcile(chain, full=False)) == [("amount_mismatch", "pending payouts", 1)]


async def test_fact_not_booked_yet__skipped_with_cause(chain: Chain):
    await sql(
        chain.database,
        "INSERT INTO unbooked (chain, block_number, source, ref) VALUES ($1, 1, 'attempt', '')",
        CHAIN,
        trusted=False,
    )
    result = await reconcile(chain)
    assert [(check.subject, check.cause) for check in result.skipped] == [
        ("unbooked facts", "1 decisions, distributions or attempts wait to be booked")
    ]


# ── A period, looked at again ───────────────────────────────────────────────────────────────────────────────────────
def broken(checks: Sequence[Check]) -> list[tuple[Level, str]]:
    return [(check.level, check.subject) for check in checks if check.outcome is Outcome.BROKEN]


async def test_examine__part_of_the_past__its_events_and_the_balances_after_its_last_block(chain: Chain):
    chain.held[VAULT, USDX] += 2
    await follow(chain, [], fee(4), fee(5))
    before, after = (reconciler(chain).examine(T0 + 1, T0 + end) for end in (4, 6))
    [(period, checks)] = await before
    assert (period.first, period.last) == (1, chain.stamp(3))
    assert broken(checks) == []
    [logs] = [check for check in checks if check.level is Level.EVENT]
    assert (logs.expected, logs.actual) == (6, 6)
    [(period, checks)] = await after
    assert (period.first, period.last) == (1, chain.stamp(5))
    assert broken(checks) == [(Level.BALANCE, VAULT_CODE)]
    async with chain.database.snapshot() as tx:
        assert await tx.connection.fetchval("SELECT count(*) FROM reconciliations") == 0
        assert await tx.breaks.unresolved() == []


async def test_examine__row_changed_in_the_period__named_and_not_outside(chain: Chain):
    await follow(chain, fee(4), fee(5))
    await sql(chain.database, "UPDATE transfers SET amount = 6 WHERE block_number = 4 AND amount = 4")
    [(_, checks)] = await reconciler(chain).examine(T0 + 4, T0 + 5)
    assert (Level.EVENT, "logs") in broken(checks)
    [(period, checks)] = await reconciler(chain).examine(T0 + 5, T0 + 100)
    assert (period.first, broken(checks)) == (5, [])


async def test_examine__time_without_a_block__nothing(chain: Chain):
    assert await reconciler(chain).examine(0, T0) == []
    assert await reconciler(chain).examine(T0 + 100, T0 + 200) == []


# ── The life of a break ─────────────────────────────────────────────────────────────────────────────────────────────
async def test_break__found_again__same_row_and_first_place(chain: Chain):
    await follow(chain, [transfer(PAYER, VAULT, 7)])
    first = (await reconcile(chain)).breaks[0]
    await follow(chain, [transfer(PAYER, VAULT, 1)])
    [again] = (await reconcile(chain)).breaks
    assert (again.break_id, again.at, again.opened_at) == (first.break_id, first.at, first.opened_at)
    assert again.amount == 8


async def test_break__that_needs_a_person__stays_though_its_check_agrees_again(chain: Chain):
    await sql(chain.database, "UPDATE transfers SET amount = 998 WHERE amount = 1000 AND asset = $1", USDX)
    await reconcile(chain)
    await sql(chain.database, "UPDATE transfers SET amount = 1000 WHERE amount = 998 AND asset = $1", USDX)
    result = await reconcile(chain)
    assert {item.kind for item in result.breaks} == {BreakKind.AMOUNT_MISMATCH}
    assert all(check.outcome is not Outcome.BROKEN for check in result.checks)
    assert not result.balanced


async def test_break__its_check_was_skipped__not_cleared(chain: Chain):
    chain.held[VAULT, USDX] += 2
    await follow(chain, [])
    await reconcile(chain)
    chain.held[VAULT, USDX] -= 2
    await follow(chain, [])
    chain.lies[chain.tip] = b"\x66" * 32
    assert ("unexplained_balance", VAULT_CODE, 2) in found(await reconcile(chain))


# ── The daemon's steps ──────────────────────────────────────────────────────────────────────────────────────────────
async def runs(database: Database) -> int:
    async with database.snapshot() as tx:
        count: int = await tx.connection.fetchval("SELECT count(*) FROM reconciliations")
        return count


async def test_follow__news_or_a_sweep__runs_and_otherwise_not(chain: Chain):
    stage = reconciler(chain)
    assert await stage.follow() == "reconciliation 1: balanced, 0 checks skipped"
    assert await stage.follow() == "nothing new"
    assert await runs(chain.database) == 1
    await follow(chain, [])
    await stage.follow()
    assert await runs(chain.database) == 2
    await stage.follow(sweep=True)
    assert await runs(chain.database) == 3


async def test_follow__nothing_booked_yet__says_so(database: Database):
    assert await reconciler(await start(database)).follow() == "nothing is booked yet"


async def test_headers__as_a_node_tells_them__are_compared_by_number(chain: Chain, monkeypatch: pytest.MonkeyPatch):
    whole = chain.blocks

    async def without_one(numbers: list[int]) -> list[Block]:
        return [block for block in await whole(numbers) if block.number != 2]

    monkeypatch.setattr(chain, "blocks", without_one)
    assert found(await reconcile(chain)) == [("provider_disagreement", "block 2", None)]
