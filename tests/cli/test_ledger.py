"""`bridge ledger`: what a person types about the books, on a database with one fee booked and no daemon."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from bridge.cli.person import user
from bridge.domain.breaks import judge_suspense
from bridge.domain.ledger import SUSPENSE_IN, UNALLOCATED
from bridge.domain.units import BlockStamp
from bridge.runtime.clock import SystemClock
from bridge.stages.correct import ask_adjustment
from bridge.stages.seal import Seal
from bridge.store.database import Database
from tests.cli.program import bridge
from tests.cli.test_payouts import CONFIG
from tests.stages.books import CHAIN, USDX, VAULT, VAULT_CODE, block_hash, bookkeeper, fee, run, start

pytestmark = pytest.mark.slow  # each starts the program anew


class Place:
    def __init__(self, database: Database, config: Path) -> None:
        self.database = database
        self.config = config

    async def ledger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(bridge, "ledger", *arguments, "--config", self.config)

    async def answer(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        done = await self.ledger(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
async def place(database: Database, database_url: str, tmp_path: Path) -> Place:
    chain = await start(database, held={(VAULT, USDX): 5})
    await chain.mine(*fee(1000))
    await run(await bookkeeper(chain))
    config = tmp_path / "bridge.toml"
    config.write_text(CONFIG.format(url=database_url, one="11" * 20, two="22" * 20, code="00" * 32))
    return Place(database, config)


async def test_migrate__role_of_the_daemon__given_its_rights_or_said_why_not(place: Place):
    role = f"daemon_{place.config.parent.name}".replace("-", "_")
    async with place.database.begin() as tx:
        await tx.connection.execute(f'CREATE ROLE "{role}" LOGIN')
    good = await asyncio.to_thread(bridge, "migrate", "--application", role, "--config", place.config)
    assert (good.returncode, good.stdout) == (0, "the database is up to date\n")
    bad = await asyncio.to_thread(bridge, "migrate", "--application", "nobody_at_all", "--config", place.config)
    assert bad.returncode == 2
    assert "--application" in bad.stderr
    assert "Traceback" not in bad.stderr


ADJUST = ("adjust", "--debit", SUSPENSE_IN, "--credit", UNALLOCATED, "--asset", "USDX", "--reason", "a gift")


async def test_adjust__asked_here__cannot_be_approved_here(place: Place):
    assert await place.answer(*ADJUST, "--amount", "7") == (
        "correction 1: waits for another person: bridge ledger approve 1\n"
    )
    listed = await place.answer("corrections")
    assert f"7 atoms of {USDX} to {SUSPENSE_IN} from {UNALLOCATED}" in listed
    assert f"asked by {user()}" in listed
    own = await place.ledger("approve", "1")
    assert (own.returncode, own.stdout) == (1, "")
    assert "another person must approve it" in own.stderr
    assert "Traceback" not in own.stderr
    assert await place.answer("refuse", "1", "--reason", "a typing error") == "correction 1: refused\n"
    assert await place.answer("corrections") == "no correction waits for an approval\n"
    assert f"refused by {user()}" in await place.answer("corrections", "--all")


async def test_classify__break_of_a_donation__asked_for_to_the_atom(place: Place):
    unknown = await place.ledger("classify", "1", "--as", UNALLOCATED, "--reason", "a gift")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no break 1" in unknown.stderr
    async with place.database.begin() as tx:
        at = BlockStamp(CHAIN, 1, block_hash(1))
        held = judge_suspense(at, SUSPENSE_IN, USDX, -7, [])
        await tx.breaks.finish(await tx.breaks.start(), [held])
    assert "waits for another person" in await place.answer("classify", "1", "--as", UNALLOCATED, "--reason", "a gift")
    listed = await place.answer("corrections")
    assert f"7 atoms of {USDX} to {SUSPENSE_IN} from {UNALLOCATED}, about break 1\n" in listed
    wrong = await place.ledger("classify", "1", "--as", "donors", "--reason", "a gift")
    assert (wrong.returncode, "mend: name one of vault:ADDRESS" in wrong.stderr) == (2, True)


async def test_approve__asked_by_another__booked_and_listed(place: Place):
    await ask_adjustment(place.database, SUSPENSE_IN, UNALLOCATED, "USDX", 7, reason="a gift", by="somebody else")
    assert await place.answer("approve", "1") == "correction 1: booked at block 1 of anvil\n"
    newest = await place.answer("list", "--last", "1")
    assert f"adjustment at block 1 of anvil: a gift (asked by somebody else, approved by {user()})" in newest
    again = await place.ledger("approve", "1")
    assert (again.returncode, "already" in again.stderr) == (1, True)


async def test_reverse__by_the_number_that_list_shows__waits(place: Place):
    journal = next(line for line in (await place.answer("list")).splitlines() if "vault.FeePaid" in line)
    number = journal.removeprefix("journal ").partition(":")[0]
    assert "waits for another person" in await place.answer("reverse", number, "--reason", "not ours")
    unknown = await place.ledger("reverse", "999", "--reason", "not ours")
    assert (unknown.returncode, "mend:" in unknown.stderr) == (2, True)


@pytest.mark.parametrize("amount", ["1.5", "-3", "0x10", "1e6", "9" * 79, "0"])
async def test_adjust__amount_that_is_none__mistake_to_mend(place: Place, amount: str):
    said = await place.ledger(*ADJUST, f"--amount={amount}")
    assert said.returncode == 2
    assert "--amount" in said.stderr
    assert "Traceback" not in said.stderr


async def test_verify__sealed_then_tampered_with__says_which_journal(place: Place):
    await Seal(database=place.database, clock=SystemClock()).step()
    intact = await place.answer("verify")
    assert intact.startswith("3 journals as sealed, 0 not sealed yet\nintact: 3:")
    noted = intact.rpartition("intact: ")[2].strip()
    assert (await place.answer("verify", "--noted", noted)) == intact
    other = await place.ledger("verify", "--noted", "3:" + "00" * 32)
    assert (other.returncode, "not the one that was noted" in other.stdout) == (1, True)
    wrong = await place.ledger("verify", "--noted", "3")
    assert (wrong.returncode, "not a count and a head" in wrong.stderr) == (2, True)
    async with place.database.begin() as tx:
        await tx.connection.execute("SET LOCAL session_replication_role = replica")
        await tx.connection.execute("UPDATE transfers SET amount = 999 WHERE amount = 1000")
    tampered = await place.ledger("verify")
    assert tampered.returncode == 1
    assert "NOT intact: journal " in tampered.stdout
    vault = f"NOT intact: balance of {VAULT_CODE} in {USDX}: debits posted are kept as 1005, transfers add up to 1004\n"
    assert vault in tampered.stdout
    async with place.database.begin() as tx:
        await tx.connection.execute("SET LOCAL session_replication_role = replica")
        await tx.connection.execute("UPDATE transfers SET amount = 1000 WHERE amount = 999")
        await tx.connection.execute(
            "UPDATE balances b SET credits_posted = 7 FROM accounts a WHERE a.account_id = b.account_id AND code = $1",
            UNALLOCATED,
        )
    changed = await place.ledger("verify")
    false = f"balance of {UNALLOCATED} in {USDX}: credits posted are kept as 7, transfers add up to 1000"
    assert (changed.returncode, changed.stdout) == (1, f"3 journals as sealed, 0 not sealed yet\nNOT intact: {false}\n")
