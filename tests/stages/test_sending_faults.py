"""Pay and confirm under random trouble from a seed: reorgs, lost bytes, wrong answers, strangers' nonces, fee spikes,
deaths at crash points, both stages at once, and people who hold, release, bump and cancel. Whatever came, when the
trouble ends each batch was paid exactly once, or not at all and a person gave it up.

Each failure names its seed; run it again with BRIDGE_SEED=n.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import pytest

from bridge.domain.errors import RefusedError, RetryableError
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Refusal
from bridge.domain.units import Address
from bridge.ports.paying import Broadcast, BroadcastOutcome
from bridge.runtime import crashpoints
from bridge.runtime.crashpoints import CrashPoint
from bridge.stages.intervene import intervene
from bridge.store.database import Database
from tests.stages.sending import FINALITY_DISTANCE, SendingWorld

LIVES = 1 if "BRIDGE_SEED" in os.environ else 8
TROUBLES = 60
HEALING_BLOCKS = 60


class Died(BaseException):
    pass


class Fate:
    """Kills at a crash point now and then, while there is trouble."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.deadly = True
        self.deaths = 0

    def reach(self, point: CrashPoint) -> None:
        if self.deadly and self.chance.random() < 0.04:
            self.deaths += 1
            raise Died(point.name)


class Trouble:
    def __init__(self, world: SendingWorld, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.decided: list[int] = []  # batches of each window

    async def once(self) -> None:
        faults, payer, chance = self.world.payer.faults, self.world.payer, self.chance
        match chance.randrange(14):
            case 0 | 1 | 2 | 3:
                await self.world.mine()
            case 4 if len(self.decided) < 5:
                amounts = [chance.randint(1, 10**30) for _ in range(chance.randint(1, 5))]
                await self.world.decide(amounts, window=len(self.decided))
                self.decided.append((len(amounts) + 1) // 2)
            case 5:
                await self.world.reorg(chance.randint(1, FINALITY_DISTANCE), put_back=chance.random() < 0.5)
            case 6:
                faults.lose_broadcasts = chance.random() < 0.5
            case 7:
                outcome = chance.choice([None, *BroadcastOutcome])
                faults.broadcast = None if outcome is None else Broadcast(outcome, "whatever")
            case 8:
                faults.receipts_unavailable, faults.receipts_hidden = chance.choice(
                    [(True, False), (False, True), (False, False), (False, False)]
                )
            case 9:
                payer.base_fee = chance.choice([5, 10, 30, 90, 5000])
            case 10:
                faults.reverts = chance.random() < 0.3
                payer.pool.clear()
            case 11 if chance.random() < 0.3:
                payer.spend_nonce()
            case 12:
                faults.refusal = chance.choice([None, None, Refusal("the vault is paused", temporary=True)])
                faults.credited = {Address(chance.randint(1, 5).to_bytes(20, "big"))}
            case 13:
                await self.order(chance.choice([*InterventionKind]))

    async def order(self, kind: InterventionKind) -> None:
        """Some person wants something of some step, possible or not."""
        steps = await self.world.rows("SELECT action_id FROM actions")
        if steps:
            (step,) = self.chance.choice(steps)
            with contextlib.suppress(RefusedError):
                await intervene(self.world.database, kind, str(step), None, reason="a whim", by="somebody")

    def end(self) -> None:
        faults, payer = self.world.payer.faults, self.world.payer
        faults.lose_broadcasts = faults.receipts_unavailable = faults.receipts_hidden = faults.reverts = False
        faults.broadcast = faults.refusal = None
        payer.base_fee = 10


async def work(world: SendingWorld, chance: random.Random) -> None:
    """Some steps of both stages, one after the other or at once; then perhaps a restart."""
    for _ in range(chance.randint(0, 4)):
        try:
            if chance.random() < 0.5:
                results = await asyncio.gather(*(stage.step() for stage in world.stages), return_exceptions=True)
                for result in results:
                    if isinstance(result, BaseException):
                        raise result
            else:
                await chance.choice(world.stages).step()
        except RetryableError:
            pass
        except Died:
            world.start()
    if chance.random() < 0.05:
        world.start()


async def release_all(world: SendingWorld) -> None:
    """What a person does about actions that are held, and about nonces that strangers spent."""
    await world.mine(FINALITY_DISTANCE)
    await world.take_up_nonces()
    for (step,) in await world.rows("SELECT action_id FROM actions WHERE state = 'held'"):
        await intervene(
            world.database, InterventionKind.RELEASE, str(step), None, reason="the trouble is over", by="somebody"
        )


@pytest.mark.slow
@pytest.mark.parametrize("life", range(LIVES))
async def test_sending__random_trouble__every_batch_is_paid_exactly_once(
    database: Database, life: int, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
):
    # The seed of the whole run is the same in every process of it, so that all of them collect the same tests.
    seed = int(os.environ.get("BRIDGE_SEED", pytestconfig.getoption("randomly_seed"))) + life
    print(f"BRIDGE_SEED={seed}")
    chance = random.Random(seed)
    fate = Fate(chance)
    monkeypatch.setattr(crashpoints, "_armed", fate)
    world = await SendingWorld.create(database)
    trouble = Trouble(world, chance)
    for _ in range(TROUBLES):
        await trouble.once()
        await work(world, chance)
    trouble.end()
    fate.deadly = False
    world.start()
    await world.advance(10)
    await release_all(world)
    await world.advance(HEALING_BLOCKS)
    states = [tuple(await world.states(window)) for window in range(len(trouble.decided))]
    assert set(sum(states, ())) <= {"final", "void"}, f"seed {seed}: {states}"
    cancelled = await world.rows("SELECT count(*) FROM interventions WHERE kind = 'cancel' AND answer = 'done'")
    assert cancelled != [(0,)] or "void" not in sum(states, ()), f"seed {seed}: given up and nobody said so"
    final = [batch for window in states for batch in window[1:] if batch == "final"]
    world.assert_paid_once(len(final))
    assert await world.rows("SELECT count(*) FROM slots WHERE state = 'live'") == [(0,)]
    assert await world.rows("SELECT count(*) FROM interventions WHERE answer IS NULL") == [(0,)]
    unpaid = await world.rows(
        "SELECT count(*) FROM payouts p JOIN actions a ON a.distribution_id = p.distribution_id"
        " AND a.ordinal = p.batch_index + 1 WHERE (p.outcome IS NULL) <> (a.state = 'void')"
    )
    assert unpaid == [(0,)]
    # Every nonce that the chain has spent has a row, and there is none that it has not.
    [(slots,)] = await world.rows("SELECT count(*) FROM slots")
    [(free,)] = await world.rows("SELECT COALESCE(max(next_nonce), 0) FROM senders")
    assert slots == free
