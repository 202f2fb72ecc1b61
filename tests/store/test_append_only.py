"""What the daemon's own database role can do to the books, and what it cannot: every way around append-only."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from bridge.domain.breaks import BreakKind, Check, Difference, Level
from bridge.domain.errors import ConfigError
from bridge.domain.ledger import Transfer
from bridge.runtime.clock import SystemClock
from bridge.stages.correct import approve, ask_reversal
from bridge.stages.seal import Seal, verify
from bridge.store.database import Database
from bridge.store.migrations import check_schema, grant_application
from tests.stages.books import ALICE, BOB, ETH, OPERATOR, USDX, VAULT, batch, bookkeeper, decide, fee, land, plan, run
from tests.stages.books import start as start_chain
from tests.stages.test_reconcile import reconcile

APPEND_ONLY = (
    *("assets", "accounts", "journal_keys", "journals", "transfers"),
    *("corrections", "correction_answers", "seals", "sealings", "break_history"),
)
COLUMN = {
    "assets": "symbol",
    "accounts": "code",
    "journal_keys": "ref",
    "journals": "reason",
    "transfers": "amount",
    "corrections": "reason",
    "correction_answers": "answered_by",
    "seals": "head",
    "sealings": "head",
    "break_history": "changed_by",
}
KEY = {
    "assets": "asset",
    "accounts": "code, asset",
    "journal_keys": "source, ref",
    "journals": "chain, block_number, journal_id",
    "transfers": "chain, block_number, journal_id, seq",
    "corrections": "correction_id",
    "correction_answers": "correction_id",
    "seals": "sequence",
    "sealings": "count",
    "break_history": "entry_id",
}


@dataclass
class Place:
    """One payout and one correction, booked and sealed by the daemon's role."""

    owner: Database
    application: Database
    role: str

    async def do(self, *statements: str, owner: bool = False) -> None:
        """In one transaction."""
        async with (self.owner if owner else self.application).begin() as tx:
            for statement in statements:
                await tx.connection.execute(statement)

    async def row(self, table: str) -> asyncpg.Record:
        async with self.owner.snapshot() as tx:
            found = await tx.connection.fetchrow(f"SELECT * FROM {table} LIMIT 1")
        assert found is not None, f"{table} has no row that could be changed"
        return found


@pytest.fixture
async def place(database: Database, database_url: str) -> AsyncIterator[Place]:
    role = f"daemon_{uuid.uuid4().hex}"
    async with database.begin() as tx:
        await tx.connection.execute(f"CREATE ROLE {role} LOGIN")
    await grant_application(database, role)
    application = await Database.open(database_url.replace("//postgres@", f"//{role}@"))
    await fill(application)
    yield Place(database, application, role)
    await application.close()


async def fill(database: Database) -> None:
    """Everything that stages do to the tables, done as the daemon's role."""
    chain = await start_chain(database, held={(OPERATOR, ETH): 1000, (VAULT, USDX): 5})
    await chain.mine(*fee(1000))
    await decide(chain, 1, {ALICE: 600, BOB: 399}, carried_out=1)
    action_id = await plan(chain, {ALICE: 600, BOB: 399})
    await chain.mine(*batch({ALICE: 600}, {BOB: 399}), gas=21)
    await land(chain, action_id, 2, gas=21)
    await chain.mine()
    await run(await bookkeeper(chain))
    assert (await reconcile(chain)).balanced
    async with database.snapshot() as tx:
        [entry] = [one for one in await tx.corrections.newest(50) if one.kind == "vault.FeePaid"]
    await approve(database, await ask_reversal(database, str(entry.journal_id), reason="x", by="a"), by="b")
    await Seal(database=database, clock=SystemClock()).step()
    found = Check(Level.EVENT, "x", chain.stamp(1), differences=(Difference(BreakKind.TIMING, "x", {}),))
    async with database.begin() as tx:
        [item] = (await tx.breaks.finish(await tx.breaks.start(), [found])).breaks
        await tx.breaks.explain(item.break_id, reason="known", by="a")


# ── What the role can do ────────────────────────────────────────────────────────────────────────────────────────────
async def test_application__all_its_work__done_and_sealed(place: Place):
    await check_schema(place.application, "bridge.toml")
    found = await verify(place.application)
    assert (found.waiting, found.fault) == (0, None)
    async with place.application.begin() as tx:  # new partitions are the owner's, whoever asks for them
        await tx.chains.ensure_partitions("anvil", 5_000_000)
    async with place.owner.snapshot() as tx:
        owners = await tx.connection.fetch(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relispartition"
        )
    assert [row[0] for row in owners] == ["postgres"]


# ── What it cannot ──────────────────────────────────────────────────────────────────────────────────────────────────
def changes(table: str) -> tuple[str, ...]:
    column, key = COLUMN[table], KEY[table]
    set_ = f"{column} = excluded.{column}"
    same = " AND ".join(f"t.{part} = s.{part}" for part in key.split(", "))
    overriding = "OVERRIDING SYSTEM VALUE" if table in ("accounts", "corrections", "break_history") else ""
    return (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
        f"INSERT INTO {table} {overriding} SELECT * FROM {table} ON CONFLICT ({key}) DO UPDATE SET {set_}",
        f"MERGE INTO {table} t USING {table} s ON {same} WHEN MATCHED THEN UPDATE SET {column} = s.{column}",
        f"MERGE INTO {table} t USING {table} s ON {same} WHEN MATCHED THEN DELETE",
        f"WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone",
        f"WITH new AS (UPDATE {table} SET {column} = {column} RETURNING 1) INSERT INTO cursors SELECT FROM new",
    )


EVERY_CHANGE = [(table, change) for table in APPEND_ONLY for change in changes(table)]


async def test_application__every_change_of_every_table__no_right(place: Place):
    for table, change in EVERY_CHANGE:
        await place.row(table)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await place.do(change)


async def test_owner__every_change_of_every_table__refused_by_trigger(place: Place):
    """One who owns the tables has the rights; as long as he leaves the triggers alone, they stop him."""
    for _, change in EVERY_CHANGE:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await place.do(change, owner=True)


async def test_application__around_the_tables__no_right(place: Place):
    leaf = (await place.row("(SELECT tableoid::REGCLASS::TEXT AS leaf FROM journals) l"))["leaf"]
    branch = leaf.rpartition("_")[0]
    for statement in (
        "SET session_replication_role = replica",
        "SET LOCAL session_replication_role = replica",
        "SELECT set_config('session_replication_role', 'replica', true)",
        "ALTER TABLE journals DISABLE TRIGGER ALL",
        "ALTER TABLE journals DISABLE TRIGGER journals_append_only",
        "ALTER TABLE journals ADD COLUMN more TEXT",
        "ALTER TABLE journals RENAME TO others",
        f"ALTER TABLE {branch} DETACH PARTITION {leaf}",
        f"ALTER TABLE {branch} ATTACH PARTITION chains FOR VALUES FROM (5) TO (6)",
        f"CREATE TABLE mine PARTITION OF {branch} FOR VALUES FROM (99000000) TO (99000001)",
        "CREATE TEMP TABLE mine () INHERITS (accounts)",
        "ALTER TABLE journals OWNER TO CURRENT_USER",
        "DROP TRIGGER journals_append_only ON journals",
        "CREATE TRIGGER mine BEFORE INSERT ON journals FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "CREATE RULE mine AS ON INSERT TO journals DO INSTEAD NOTHING",
        "DROP TABLE transfers",
        "ALTER TABLE transfers DISABLE TRIGGER transfers_name_what_is_there",
        "DROP TRIGGER journal_keys_sealed ON journal_keys",
        "SELECT 1 FROM journals FOR UPDATE",
        "DROP FUNCTION refuse_change CASCADE",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE OR REPLACE FUNCTION seal_later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "LOCK TABLE journals IN ACCESS EXCLUSIVE MODE",
        "SELECT setval('journal_ids', 1)",
        "SET ROLE postgres",
        "UPDATE schema_migrations SET sha256 = ''",
        "CREATE TABLE mine ()",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "INSERT INTO break_history (break_id, changed_by, to_state) VALUES (1, 'ann', 'resolved')",
        *(f"{change} {name}" for name in (leaf, branch) for change in ("DELETE FROM", "TRUNCATE", "DROP TABLE")),
        *(f"UPDATE {name} SET reason = ''" for name in (leaf, branch)),
        *(f"INSERT INTO {name} SELECT * FROM journals" for name in (leaf, branch)),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await place.do(statement)


async def test_application__temporary_table_in_place_of_ours__partitions_are_made_by_the_real_one(place: Place):
    await place.do(
        "CREATE TEMP TABLE chains (chain TEXT, start_block BIGINT) ON COMMIT DROP",
        "INSERT INTO pg_temp.chains VALUES ('forged', 0)",
        "SELECT ensure_partitions('forged', 0)",
    )
    async with place.owner.snapshot() as tx:
        made = await tx.connection.fetchval(
            "SELECT count(*) FROM pg_class "
            "WHERE relkind = 'r' AND relname LIKE '%\\_' || left(md5('forged'), 8) || '\\_%'"
        )
    assert made == 0


async def test_application__temporary_table_in_place_of_ours__triggers_look_at_the_real_one(place: Place):
    like = "CREATE TEMP TABLE {0} (LIKE public.{0}) ON COMMIT DROP"
    key = "INSERT INTO journal_keys VALUES ('forged', '1', '', 998, 'anvil', 1)"
    await place.do(like.format("unsealed"), key)
    async with place.owner.snapshot() as tx:
        assert await tx.connection.fetchval("SELECT count(*) FROM unsealed WHERE journal_id = 998") == 1
    account = "INSERT INTO pg_temp.accounts SELECT 9999, 'forged', asset, now() FROM assets"
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="account 9999"):
        await place.do(
            like.format("accounts"), account, like.format("journals"), STRANGE.format("9999, credit_account")
        )
    async with place.application.begin() as tx:
        asked = await tx.corrections.ask("anvil", "x", "ann", transfer=Transfer("a", "b", USDX, 1))
    with pytest.raises(asyncpg.CheckViolationError, match="another person must approve it"):
        await place.do(
            like.format("corrections"),
            f"INSERT INTO correction_answers (correction_id, answer, answered_by) VALUES ({asked}, 'approved', 'ann')",
        )


STRANGE = """
    INSERT INTO transfers SELECT chain, block_number, journal_id, seq + 7, {}, asset, amount, phase
      FROM public.transfers LIMIT 1
"""


async def test_application__copy_over_a_row__key_is_taken(place: Place):
    row = await place.row("journals")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with place.application.begin() as tx:
            await tx.connection.copy_records_to_table("journals", columns=list(row.keys()), records=[tuple(row)])


# ── What it can add, and is found ───────────────────────────────────────────────────────────────────────────────────
FOUND = {
    """
    INSERT INTO transfers SELECT chain, block_number, journal_id, seq + 9, debit_account, credit_account, asset, amount,
                                 phase FROM transfers ORDER BY journal_id LIMIT 1
    """: "is not what was sealed",
    """
    INSERT INTO journals SELECT chain, block_number, 999, block_hash, kind, reason, source, 'forged', payload_hash,
                                valid_at FROM journals WHERE source = 'opening'
    """: "journal 999 (opening forged) is in the books, neither sealed nor waiting",
    """
    INSERT INTO seals SELECT sequence + 1, 999, chain, block_number, head FROM seals ORDER BY sequence DESC LIMIT 1
    """: "journal 999, at position",
    "INSERT INTO sealings SELECT count + 5, head FROM sealings": "its tail was cut",
}  # fmt: skip


@pytest.mark.parametrize("addition", FOUND)
async def test_verify__rows_that_the_role_may_add__found(place: Place, addition: str):
    await place.do(addition)
    assert FOUND[addition] in str((await verify(place.owner)).fault)


# ── Who may be the role ─────────────────────────────────────────────────────────────────────────────────────────────
async def test_grant_application__superuser_owner_or_nobody__mistake_to_mend(place: Place):
    for role, said in (("postgres", "superuser"), ("nobody_at_all", "does not exist")):
        with pytest.raises(ConfigError, match=said):
            await grant_application(place.owner, role)
    await place.do(f"CREATE ROLE {place.role}_owner", owner=True)
    await place.do(
        f"ALTER TABLE seals OWNER TO {place.role}_owner", f"GRANT {place.role}_owner TO {place.role}", owner=True
    )
    with pytest.raises(ConfigError, match="owns seals"):
        await grant_application(place.owner, place.role)
