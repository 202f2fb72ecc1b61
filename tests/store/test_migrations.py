"""Migrations: applied once, in order, unchanged; an old database is refused with the command to type."""

from pathlib import Path

import pytest

from bridge.domain.errors import ConfigError
from bridge.store.database import Database
from bridge.store.migrations import check_schema, migrate, read_migrations


async def set_back(database: Database, directory: Path, migrations: int) -> None:
    """As it was after so many of them; they are copied to `directory`."""
    async with database.begin() as tx:
        await tx.connection.execute("DROP SCHEMA public CASCADE")
        await tx.connection.execute("CREATE SCHEMA public")
    for migration in read_migrations()[:migrations]:
        (directory / f"{migration.name}.sql").write_text(migration.sql)
    await migrate(database, directory)


async def test_migrate__again__does_nothing(database: Database):
    assert await migrate(database) == []
    await check_schema(database, "bridge.toml")


async def test_check_schema__older_database__says_the_command(database: Database, tmp_path: Path):
    for migration in read_migrations():
        (tmp_path / f"{migration.name}.sql").write_text(migration.sql)
    (tmp_path / f"{len(read_migrations()) + 1:04}_more.sql").write_text("CREATE TABLE more ();")
    with pytest.raises(ConfigError, match=r"bridge migrate --config ops\.toml"):
        await check_schema(database, "ops.toml", tmp_path)
    assert [migration.name for migration in await migrate(database, tmp_path)] == [
        f"{len(read_migrations()) + 1:04}_more"
    ]
    with pytest.raises(ConfigError, match="newer than this program"):
        await check_schema(database, "ops.toml")


async def test_migrate__file_changed_after_it_was_applied__refused(database: Database, tmp_path: Path):
    for migration in read_migrations():
        (tmp_path / f"{migration.name}.sql").write_text(migration.sql + "\n-- edited\n")
    with pytest.raises(ConfigError, match="changed after"):
        await migrate(database, tmp_path)


async def test_migrate__books_from_before_transfers_were_checked_together__partitions_are_guarded(
    database: Database, tmp_path: Path
):
    await set_back(database, tmp_path, 10)
    async with database.begin() as tx:
        await tx.chains.register("anvil", "evm", "eip155:31337", bytes(32), 0)
    await migrate(database)
    async with database.begin() as tx:
        await tx.chains.ensure_partitions("anvil", 1_000_000)
        unguarded = """
            SELECT relid::REGCLASS::TEXT FROM pg_partition_tree('transfers') WHERE NOT EXISTS (
                SELECT FROM pg_trigger WHERE tgrelid = relid AND tgname = 'transfers_name_what_is_there')
        """
        assert await tx.connection.fetch(unguarded) == []
        assert await tx.connection.fetchval("SELECT count(*) FROM pg_partition_tree('transfers')") == 4


async def test_migrate__rules_from_before_they_belonged_to_a_chain__each_chain_has_what_decided_there(
    database: Database, tmp_path: Path
):
    await set_back(database, tmp_path, 13)
    async with database.begin() as tx:
        for number, chain in enumerate(("first", "second"), 1):
            await tx.chains.register(chain, "evm", f"eip155:{number}", bytes(32), 0)
            await tx.connection.execute("INSERT INTO rule_starts VALUES ($1, 'fees', 0, 0, '{}')", chain)
        await tx.connection.execute("INSERT INTO rules VALUES ('fees', 1, '\\x01', 'one'), ('fees', 2, '\\x02', 'two')")
        await tx.connection.execute(
            "INSERT INTO decisions (decision_id, chain, rule, version, asset, window_start, window_end, block_number, "
            "block_hash, verdict, reason, surplus, total, carried_in, carried_out, artifact) "
            "VALUES ('\\x01', 'first', 'fees', 2, 'eip155:1/erc20:0x', 0, 1, 1, '\\x01', 'nothing', '', 0, 0, 0, 0, '')"
        )
    await migrate(database)
    async with database.begin() as tx:
        rows = await tx.connection.fetch("SELECT chain, version, body FROM rules ORDER BY 1, 2")
        assert [tuple(row) for row in rows] == [("first", 1, "one"), ("first", 2, "two"), ("second", 1, "one")]
        assert await tx.decisions.newest_rule("second", "fees") == (1, "one")


def test_read_migrations__gap__refused(tmp_path: Path):
    (tmp_path / "0001_a.sql").touch()
    (tmp_path / "0003_c.sql").touch()
    with pytest.raises(ConfigError, match="without a gap"):
        read_migrations(tmp_path)
