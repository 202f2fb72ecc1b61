"""Above the auto-limit the daemon waits for an approver; what it may not pay it holds."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from bridge.domain.payouts import Leg
from bridge.domain.units import format_address
from bridge.simulation.simulate import Simulation
from bridge.store.payouts import Summary
from tests.cli.program import bridge
from tests.crash.scenes import PATIENCE_S, staged, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DELAY_S = 5


class Gate:
    """The scene, in which nothing passes by itself; the approver is a guardian too."""

    def __init__(self, scene: Simulation) -> None:
        self.scene = scene
        self.directory = scene.sandbox.directory

    async def set_up(self) -> None:
        """On chain, and in the configuration that the daemon compares with it."""
        deployment = self.scene.sandbox.deployment
        gates, vault = (deployment.distributor, deployment.claims), deployment.stage.vault
        guardian = (keccak(b"GUARDIAN_ROLE"), format_address(deployment.approver.address))
        calls = [
            *(
                (gate, "setAutoLimit", (format_address(token.contract.address), 0))
                for token in deployment.stage.tokens
                for gate in gates
            ),
            *((gate, "setDelay", (DELAY_S,)) for gate in gates),
            *((gate, "grantRole", guardian) for gate in gates),
            (vault, "grantRole", guardian),
        ]
        for contract, function, arguments in calls:
            for raw in deployment.as_admin(contract.address, contract.call(function, *arguments)):
                await self.scene.sandbox.anvil.call("eth_sendRawTransaction", "0x" + raw.hex())
        self._edit(r"^delay_s = \d+", f"delay_s = {DELAY_S}")
        self._edit(r"^guardians = \[", f'guardians = ["{guardian[1]}", ')
        self._edit(r"auto_per_epoch = \S+(,| })", r"auto_per_epoch = 0\1")

    def _edit(self, old: str, new: str) -> None:
        path = self.scene.sandbox.config_path
        text, count = re.subn(old, new, path.read_text(), flags=re.MULTILINE)
        assert count > 0, old
        path.write_text(text)

    async def bridge(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = self.scene.sandbox.config_path
        passwords = {
            f"{name.upper()}_PASSWORD": (self.directory / f"{name}.password").read_text().strip()
            for name in ("approver", "operator")
        }
        return await asyncio.to_thread(bridge, "payouts", *arguments, "--config", config, environment=passwords)

    async def sign(self, call: str, distribution: str, key: str = "approver") -> subprocess.CompletedProcess[str]:
        keystore = ("--keystore", str(self.directory / f"{key}.json"), "--password-env", f"{key.upper()}_PASSWORD")
        return await self.bridge(call, distribution, *keystore, "--wait", "30")

    async def steps(self, reason: str) -> list[tuple[str, str]]:
        """Distribution and state of steps whose reason begins so, oldest first."""
        async with self.scene.database.snapshot() as transaction:
            return [
                ("0x" + row["distribution_id"].hex(), row["state"])
                for row in await transaction.connection.fetch(
                    "SELECT distribution_id, state FROM actions WHERE starts_with(reason, $1) ORDER BY action_id",
                    reason,
                )
            ]

    async def unapproved(self, leg: Leg, *others: str) -> list[str]:
        """Distributions of the leg that wait for an approval, without `others`."""
        waiting = [one for one, _ in await self.steps("waits for approval of 0x") if one not in others]
        return [one for one in waiting if (await self.summary(one)).leg == leg]

    async def summary(self, distribution: str) -> Summary:
        async with self.scene.database.snapshot() as transaction:
            [found] = await transaction.payouts.summaries(bytes.fromhex(distribution[2:]))
        return found


@asynccontextmanager
async def gated(tmp_path: Path) -> AsyncIterator[Gate]:
    """The daemon at work, and a chain that goes on."""

    async def mine(scene: Simulation) -> None:
        while scene._next_timestamp() < scene.windows_start:  # nothing of this is decided
            await scene.sandbox.miner.mine()
        while True:
            await scene._live("test")

    async with staged(tmp_path, kind=Simulation) as scene:
        gate = Gate(scene)
        await gate.set_up()
        async with scene.daemon_running():
            mining = asyncio.create_task(mine(scene))
            try:
                yield gate
            finally:
                mining.cancel()
                await asyncio.gather(mining, return_exceptions=True)


async def test_gate__above_the_auto_limit__waits_is_approved_and_paid_or_vetoed_and_held(tmp_path: Path):
    async with gated(tmp_path) as gate:
        approved = {}
        for leg in Leg:
            await until(partial(gate.unapproved, leg), "waiting", within_s=2 * PATIENCE_S)
            approved[leg] = (await gate.unapproved(leg))[0]
            await _printed(gate, await gate.summary(approved[leg]))
            run = await gate.sign("approve", approved[leg])
            assert (run.returncode, run.stderr) == (0, "")
            assert "the daemon goes on by itself" in run.stdout
        await _refused(gate, approved[Leg.PUSH])

        async def paid() -> bool:
            return all([(await gate.summary(one)).state == "final" for one in approved.values()])

        await until(paid, "paid", within_s=2 * PATIENCE_S)
        another = partial(gate.unapproved, Leg.PUSH, *approved.values())
        await until(another, "waiting", within_s=2 * PATIENCE_S)
        second = (await another())[0]
        run = await gate.sign("veto", second)
        assert (run.returncode, run.stderr) == (0, "")
        await until(lambda: gate.steps("vetoed by the guardian"), "held", within_s=PATIENCE_S)
        assert set(await gate.steps("vetoed by the guardian")) == {(second, "held")}
        late = await gate.sign("approve", second)
        assert (late.returncode, "ProposalVetoed" in late.stderr) == (1, True)


async def _printed(gate: Gate, summary: Summary) -> None:
    deployment, distribution_id = gate.scene.sandbox.deployment, summary.distribution_id
    contract = deployment.claims if summary.leg == Leg.CLAIM else deployment.distributor
    proposal = await gate.scene.sandbox.anvil.view(contract, "proposal", distribution_id)
    content_hash = proposal[:32]
    data = "0x" + contract.call("approve", distribution_id, content_hash).hex()
    said = (await gate.bridge("approve", distribution_id.hex()[:12], "--print")).stdout
    for line in (
        f"content  0x{content_hash.hex()}",
        f"to       {format_address(contract.address)}",
        f"data     {data}",
    ):
        assert line in said
    assert f"({summary.total} atoms) to {summary.recipients} recipients" in said
    safe = json.loads((await gate.bridge("approve", distribution_id.hex()[:12], "--print", "--json")).stdout)
    assert safe["transactions"] == [{"to": format_address(contract.address), "value": "0", "data": data}]
    assert safe["chainId"] == "31337"


async def _refused(gate: Gate, distribution: str) -> None:
    neither = await gate.bridge("approve", distribution)
    assert (neither.returncode, "--keystore or --print: is needed" in neither.stderr) == (2, True)
    keystore = str(gate.directory / "approver.json")
    unnamed = await gate.bridge("approve", distribution, "--keystore", keystore)
    assert (unnamed.returncode, "--password-env: is needed with --keystore" in unnamed.stderr) == (2, True)
    own = await gate.sign("approve", distribution, "operator")
    assert (own.returncode, "an account lacks a role" in own.stderr) == (1, True)
