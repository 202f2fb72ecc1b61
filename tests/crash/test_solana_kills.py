"""A daemon that pays from a Solana vault is killed at every crash point, and its payouts are rolled back.

Around the moment of sending in each run of CI; BRIDGE_CRASH_POINTS=all tries all that there are on such a chain.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.runtime.crashpoints import VARIABLE, CrashPoint
from bridge.simulation.svm.chain import Commitment, Fate
from tests.chaos.cluster import deed_of
from tests.crash.vault import Vault, vault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DEATH_WITHIN_S = 60
EVERY = 10**9  # of the transactions that are sent
ALWAYS = (
    CrashPoint.SLOT_RESERVED,
    CrashPoint.ATTEMPT_SAVED_NOT_SENT,
    CrashPoint.SENT_NOT_RECORDED,
    CrashPoint.BUMP_SAVED_NOT_SENT,
    CrashPoint.FINALITY_SEEN_NOT_SAVED,
)
POINTS = [point for point in CrashPoint if point is not CrashPoint.PROOFS_WRITTEN_NOT_RECORDED]
"""Nothing is claimed from a vault that has no contract."""


def tried() -> Sequence[CrashPoint]:
    return POINTS if os.environ.get("BRIDGE_CRASH_POINTS") == "all" else ALWAYS


async def die_at(scene: Vault, point: CrashPoint) -> None:
    """A daemon that kills itself there; signed again is only what has expired."""
    scene.node.faults.drop_next = EVERY if point is CrashPoint.BUMP_SAVED_NOT_SENT else 0
    daemon = await scene.start(point.name, {VARIABLE: point.name})
    try:
        code = await asyncio.wait_for(daemon.wait(), DEATH_WITHIN_S)
    except TimeoutError:
        pytest.fail(f"the daemon did not come to {point.name} within {DEATH_WITHIN_S} s")
    finally:
        await daemon.kill()
        scene.node.faults.drop_next = 0
    log = scene.config.parent / f"{point.name}.log"
    assert code == -signal.SIGKILL, f"the daemon was to die at {point.name}: {log.read_text()[-2000:]}"


async def test_kill__at_crash_points_of_a_solana_vault__everybody_is_paid_once(tmp_path: Path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}: to run it again, set it here")
    async with vault(tmp_path, seed) as scene:
        async with scene.living():
            for point in tried():
                await die_at(scene, point)
        daemon = await scene.start("last")
        async with scene.living(busy=False):
            await scene.settle()
        await daemon.stop()
        assert await scene.problems() == []
        assert scene.cluster.paid()


async def test_fork__confirmed_payout_is_rolled_back__lands_once(tmp_path: Path):
    fate = random.choice([Fate.DROPPED, Fate.RELANDED])  # whether others bring it back, or only we do
    print(f"fate {fate}")
    async with vault(tmp_path, 7) as scene:
        daemon = await scene.start("daemon")
        rolled_back: set[str] = set()

        async def fork() -> bool:
            """Take back every payout that is confirmed and not final, once."""
            chain = scene.cluster.chain
            confirmed, final = chain.newest(Commitment.CONFIRMED).height, scene.cluster.final.height
            for height in range(final + 1, confirmed + 1):
                paid = {
                    record.signature
                    for record in chain.at_height(height).records
                    if record.err is None and (deed := deed_of(record.wire)) is not None and deed[1] is not None
                }
                if paid - rolled_back:
                    rolled_back.update(record.signature for record in chain.fork(chain.head.height - height + 1, fate))
                    break
            return len(rolled_back) > 0

        async with scene.living():
            await scene.until(fork, lambda: "forked")
        async with scene.living(busy=False):
            await scene.settle()
        await daemon.stop()
        assert await scene.problems() == []
        landed = {one for one in rolled_back if one in scene.cluster.chain.history}
        assert landed, "none of what was rolled back has landed again"
