"""`bridge payouts`: what it prints and writes, on a database with one distribution in flight and no daemon."""

from __future__ import annotations

import asyncio
import getpass
import json
import subprocess
from pathlib import Path

import pytest

from bridge.domain.breaks import BreakKind, Check, Difference, Level
from bridge.domain.units import BlockStamp
from bridge.store.database import Database
from tests.cli.program import bridge, bridge_here
from tests.stages.sending import SendingWorld

pytestmark = pytest.mark.slow  # each runs many commands


class Place:
    def __init__(self, world: SendingWorld, config: Path, distribution: str) -> None:
        self.world = world
        self.config = config
        self.distribution = distribution

    async def bridge(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await self.program("payouts", *arguments)

    async def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(bridge_here, *arguments, "--config", self.config)


CONFIG = """
[database]
url = "{url}"
[chains.fake]
kind = "evm"
chain_id = 1
rpc = ["http://127.0.0.1:9"]
start_block = 0
finality = {{ tag = "finalized" }}
[chains.fake.contracts]
vault = "0x{one}"
distributor = "0x{two}"
timelock = "0x{two}"
[chains.fake.tokens]
[chains.fake.governance]
admins = ["0x{one}"]
guardians = ["0x{one}"]
admin_delay_s = 0
delay_s = 0
epoch_s = 1
[chains.fake.governance.code]
vault = "keccak256:{code}"
distributor = "keccak256:{code}"
timelock = "keccak256:{code}"
[chains.fake.operator]
keystore = "operator.json"
password_env = "NONE"
"""


@pytest.fixture
async def place(database: Database, database_url: str, tmp_path: Path) -> Place:
    """The proposal is broadcast, its two batches are planned."""
    world = await SendingWorld.create(database)
    await world.decide([5, 6, 7])
    await world.work()
    config = tmp_path / "bridge.toml"
    config.write_text(CONFIG.format(url=database_url, one="11" * 20, two="22" * 20, code="33" * 32))
    async with database.begin() as transaction:
        await transaction.connection.execute(
            "INSERT INTO assets SELECT asset, chain, NULL, 'T', 6 FROM decisions LIMIT 1"
        )
        await transaction.connection.execute(
            "INSERT INTO assets VALUES ('fake:1/slip44:60', 'fake', NULL, 'ETH', 18) ON CONFLICT DO NOTHING"
        )
    return Place(world, config, (await world.summary()).distribution_id.hex())


async def test_payouts__held_and_released_without_a_daemon__done_when_it_runs(place: Place):
    held = await place.bridge("hold", place.distribution[:12], "--batch", "1", "--reason", "wrong price")
    assert (held.returncode, held.stderr) == (0, "")
    assert held.stdout.endswith("(batch 1): held\n")
    assert await place.world.reasons() == [None, None, f"held by {getpass.getuser()}: wrong price"]
    listed = await place.bridge("list")
    assert "(batch 1): held, since" in listed.stdout
    assert "wrong price" in listed.stdout
    released = await place.bridge("release", place.distribution, "--batch", "1", "--reason", "mended", "--json")
    [said] = json.loads(released.stdout)
    assert (said["batch"], said["order"], said["taken"], said["refused"]) == (1, "release", True, None)
    [row] = [step for one in json.loads((await place.bridge("list", "--json")).stdout) for step in one["steps"]][2:]
    assert (row["state"], row["open_order"]) == ("held", "release")
    await place.world.advance(8)
    assert await place.world.states() == ["final"] * 3
    assert (await place.bridge("list")).stdout == "everything is final or void; --all shows it\n"
    assert place.distribution in (await place.bridge("list", "--all")).stdout


async def test_payouts__whole_distribution_partly_possible__does_what_it_can_and_exits_1(place: Place):
    run = await place.bridge("hold", place.distribution, "--reason", "stop")
    assert run.returncode == 1
    assert "(proposal): hold is not possible while it is broadcast" in run.stdout
    assert await place.world.states() == ["broadcast", "held", "held"]


async def test_payouts__show__every_transaction_and_order(place: Place):
    bumped = await place.bridge("bump", place.distribution, "--reason", "too slow")
    assert bumped.returncode == 1  # the batches are planned
    await place.world.work()
    shown = (await place.bridge("show", place.distribution[:8])).stdout
    assert shown.count("nonce 0, pay 0x") == 2
    assert f"bump ordered by {getpass.getuser()} (too slow): done" in shown
    content = json.loads((await place.bridge("show", place.distribution, "--json")).stdout)
    attempts = content["steps"][0]["attempts"]
    assert [int(attempt["max_fee"]) for attempt in attempts] == sorted(int(one["max_fee"]) for one in attempts)
    assert [(one["kind"], one["answer"]) for one in content["orders"]] == [("bump", "done")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hold", "abcdef99", "--reason", "x"), "bridge: ID: no step and no distribution is known under abcdef99"),
        (("hold", "1", "--reason", ""), "bridge: --reason: is empty"),
        (("show", "nonsense"), "bridge: ID: no step and no distribution"),
        (("cancel", "DISTRIBUTION", "--batch", "9", "--reason", "x"), "bridge: --batch: there is no batch 9"),
        (("hold", "1"), "Missing option '--reason'"),
        (("hold", "1", "--reason", "x", "--batch", "-1"), "Invalid value for '--batch'"),
    ],
)
async def test_payouts__mistake__exit_code_2_and_what_to_do(place: Place, arguments: tuple[str, ...], said: str):
    given = [place.distribution if one == "DISTRIBUTION" else one for one in arguments]
    run = await asyncio.to_thread(bridge, "payouts", *given, "--config", place.config)
    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr


async def test_breaks__unexpected_out__stops_payouts_until_explained(place: Place):
    async with place.world.database.begin() as transaction:
        await transaction.connection.execute(
            "INSERT INTO breaks (kind, chain, level, check_subject, subject, amount, evidence, block_number,"
            " block_hash) SELECT 'unexpected_out', chain, 'suspense', 'x', 'suspense:out', -5, '{}', 1, '' FROM chains"
        )
    status = await place.program("status")
    assert "unexpected_outflow on fake, since " in status.stdout
    [condition] = json.loads((await place.program("status", "--json")).stdout)["conditions"]
    assert (condition["name"], condition["subject"]) == ("unexpected_outflow", "break 1")
    assert (
        "break 1: unexpected_out of suspense:out, -5 atoms on fake, open since"
        in (await place.program("breaks", "list")).stdout
    )
    await place.world.advance(4)
    assert (await place.world.states())[1:] == ["planned", "planned"]
    explained = await place.program("breaks", "explain", "1", "--reason", "the treasury moved it")
    assert (explained.returncode, explained.stdout) == (0, "break 1: explained\n")
    await place.world.advance(8)
    assert await place.world.states() == ["final"] * 3
    assert "unexpected_outflow" not in (await place.program("status")).stdout
    [(resolution,)] = await place.world.rows("SELECT resolution FROM breaks")
    assert resolution == f"explained by {getpass.getuser()}: the treasury moved it"
    refused = await place.program("breaks", "resolve", "1", "--reason", "done")
    assert (refused.returncode, refused.stderr) == (
        1,
        "bridge: break 1 cannot be resolved: no run has looked at it since; `bridge reconcile` does\n",
    )
    again = await place.program("breaks", "explain", "1", "--reason", "twice")
    assert (again.returncode, again.stderr) == (1, "bridge: break 1 is explained already\n")
    unknown = await place.program("breaks", "explain", "77", "--reason", "x")
    assert (unknown.returncode, unknown.stderr) == (1, "bridge: there is no break 77\n")


async def test_breaks__assigned_shown_and_resolved__with_ages_and_history(place: Place):
    person = getpass.getuser()
    found = Difference(BreakKind.AMOUNT_MISMATCH, "log 1", {"journals": ["a", "b"], "held": "7"}, amount=2**70)
    at = BlockStamp("fake", 3, b"\x03" * 32)
    for differences in ((found,), ()):
        async with place.world.database.begin() as transaction:
            check = Check(Level.EVENT, "logs", at, differences=differences)
            await transaction.breaks.finish(await transaction.breaks.start(), [check])
    async with place.world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE breaks SET opened_at = now() - INTERVAL '8 days'")
    assigned = await place.program("breaks", "assign", "1", "--to", "ann")
    assert (assigned.returncode, assigned.stdout) == (0, "break 1: assigned to ann\n")
    listed = (await place.program("breaks", "list")).stdout
    assert f"break 1: amount_mismatch of log 1, {2**70:+,} atoms on fake, assigned to ann since " in listed
    assert listed.endswith("\n1 by age: 1 7–30 d\n")
    shown = (await place.program("breaks", "show", "1")).stdout
    assert "  held: 7\n  journals:\n    a\n    b\n" in shown
    assert f"  assigned by {person}: to ann\n" in shown
    assert shown.endswith("  a person may resolve it: bridge breaks resolve 1 --reason TEXT\n")
    resolved = await place.program("breaks", "resolve", "1", "--reason", "restored")
    assert (resolved.returncode, resolved.stdout) == (0, "break 1: resolved\n")
    told = json.loads((await place.program("breaks", "show", "1", "--json")).stdout)
    assert (told["amount"], told["age"], told["resolution"]) == (
        str(2**70),
        "7–30 d",
        f"resolved by {person}: restored",
    )
    assert [(one["to"], one["by"]) for one in told["history"]] == [
        ("open", "reconciliation 1"),
        ("assigned", person),
        ("resolved", person),
    ]


async def test_breaks__nobody_named__says_what_is_wrong(place: Place):
    empty = await place.program("breaks", "assign", "1", "--to", " ")
    assert (empty.returncode, empty.stderr) == (2, "bridge: --to: is empty\n  mend: name who takes care of it\n")
