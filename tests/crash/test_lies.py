"""An endpoint lies in good form: beside two honest ones it changes nothing; beside one it can only make us wait.

BRIDGE_LIES_EPOCHS=20 makes the runs longer; BRIDGE_SEED=N repeats the lies of a run, as far as time allows.
"""

import asyncio
import os
import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from bridge.chains.evm.storage import Layout
from bridge.domain.units import format_address
from bridge.simulation.simulate import Simulation
from tests.crash.liar import Liar, Lie
from tests.crash.proxy import Proxy
from tests.crash.scenes import EPOCHS, Result, check_outcome, settle, staged, started

RUN_EPOCHS = int(os.environ.get("BRIDGE_LIES_EPOCHS", EPOCHS))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 30 * RUN_EPOCHS)]

UNTOLD_MAX = 3
"""Kinds that a short run may give no occasion for."""

PHASE_S = 0.8
REST_S = 1.2
PAUSED_BLOCKS = 10
"""Longer than it takes until the failure is final, so that what failed is also refused before it is sent again."""

HONEST_DELAY_S = 0.02
"""Honest endpoints are slower, so the liar is the one that is asked first."""

SENT = """
    SELECT tx_id FROM attempts JOIN slots USING (slot_id) JOIN actions a USING (action_id)
     WHERE a.kind = 'execute' AND a.state IN ('signed', 'broadcast')
"""


class Stumbling(Simulation):
    """A scene in which payments fail on chain: the vault is paused just before the block that they are in."""

    paused_at: int | None = None

    async def _live(self, phase: str) -> None:
        if self.paused_at is None and await self._paying():
            self.paused_at = self.sandbox.miner.head
            await self._pause(1)
        await super()._live(phase)
        if self.paused_at == self.sandbox.miner.head - PAUSED_BLOCKS:
            await self._pause(0)

    async def _paying(self) -> bool:
        """Whether a payment waits for the next block. What the database calls sent may be in a block already."""
        connection = await asyncpg.connect(self.sandbox.database_url)
        try:
            sent = await connection.fetch(SENT)
        finally:
            await connection.close()
        return any([await self.sandbox.anvil.holds(row["tx_id"]) for row in sent])

    async def _pause(self, paused: int) -> None:
        vault = format_address(self.sandbox.deployment.stage.vault.address)
        [(slot, word)] = Layout.load("SurplusVault").words("_paused", [], paused).items()
        await self.sandbox.anvil.call("anvil_setStorageAt", vault, "0x" + slot.hex(), "0x" + word.hex())


async def heard(tmp_path: Path, liar: Liar, *, honest: int, rest_s: float = 0) -> Result:
    """What a run comes to with `liar` and so many honest endpoints."""
    seed = int(os.environ.get("BRIDGE_SEED", random.randrange(2**32)))
    print(f"BRIDGE_SEED={seed}")
    proxies: list[Proxy] = [liar, *(Proxy("") for _ in range(honest))]

    def endpoints(url: str) -> list[str]:
        for proxy in proxies:
            proxy.node = url
            proxy.delay_s = 0 if proxy is liar else HONEST_DELAY_S
        return [proxy.url for proxy in proxies]

    async def trouble() -> None:
        await started(scene)
        await liar.lie_by(random.Random(seed), phase_s=PHASE_S, rest_s=rest_s)

    async with AsyncExitStack() as stack:
        for proxy in proxies:
            await stack.enter_async_context(proxy.running())
        scene = await stack.enter_async_context(
            staged(tmp_path, kind=Stumbling, rpc=endpoints, epochs=RUN_EPOCHS),
        )
        async with scene.daemon_running(), asyncio.TaskGroup() as group:
            lying = group.create_task(trouble())
            await scene.traffic()
            await settle(scene)
            lying.cancel()
        print(f"lies: { {lie.value: liar.told[lie] for lie in Lie} }")
        return await check_outcome(scene)


def without_failures(result: Result) -> Result:
    """A transaction that reverts costs gas, and changes nothing else."""
    kept = {entry: count for entry, count in result.journals.items() if entry[0] != "gas.reverted"}
    assert len(kept) < len(result.journals), "nothing failed"
    return replace(result, journals=Counter(kept))


async def test_lies__one_of_three_endpoints__same_payouts_and_books_as_undisturbed(tmp_path: Path, undisturbed: Result):
    liar = Liar()
    result = await heard(tmp_path, liar, honest=2)
    assert liar.silent() == set()
    assert len(liar.untold()) <= UNTOLD_MAX, liar.untold()
    if RUN_EPOCHS == EPOCHS:
        assert without_failures(result) == undisturbed


async def test_lies__one_of_two_endpoints_at_times__late_and_still_the_same(tmp_path: Path, undisturbed: Result):
    liar = Liar()
    result = await heard(tmp_path, liar, honest=1, rest_s=REST_S)
    assert liar.silent() == set()
    if RUN_EPOCHS == EPOCHS:
        assert without_failures(result) == undisturbed
