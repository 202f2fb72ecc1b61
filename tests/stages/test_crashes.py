"""Dying at each crash point of paying, confirming and notifying, and starting again: each payout lands once.

Here dying is an exception that nothing catches, and stages that are made anew; tests/crash kills real processes.
"""

from __future__ import annotations

import pytest

from bridge.runtime import crashpoints
from bridge.runtime.crashpoints import CrashPoint
from bridge.store.database import Database
from tests.stages.sending import SendingWorld

ON_THE_WAY = [
    CrashPoint.DISTRIBUTION_PLANNED,
    CrashPoint.PREFLIGHT_PASSED,
    CrashPoint.SLOT_RESERVED,
    CrashPoint.ATTEMPT_SIGNED_NOT_SAVED,
    CrashPoint.ATTEMPT_SAVED_NOT_SENT,
    CrashPoint.SENT_NOT_RECORDED,
    CrashPoint.BROADCAST_RECORDED,
    CrashPoint.BUMP_SAVED_NOT_SENT,
    CrashPoint.INCLUSION_SEEN_NOT_SAVED,
    CrashPoint.INCLUSION_SAVED,
    CrashPoint.FINALITY_SEEN_NOT_SAVED,
    CrashPoint.FINALIZED_NOT_POSTED,
]


class Died(BaseException):
    """Not an Exception: nothing on the way may catch it."""


class _Executioner:
    """Raises Died when a point is reached for the n-th time."""

    def __init__(self, point: CrashPoint, times: int) -> None:
        self.point, self.left = point, times

    def reach(self, point: CrashPoint) -> None:
        self.left -= point is self.point
        if self.left == 0 and point is self.point:
            raise Died(point.name)


@pytest.fixture
async def world(database: Database) -> SendingWorld:
    return await SendingWorld.create(database)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("point", ON_THE_WAY, ids=lambda point: point.name)
async def test_crash__at_each_point__same_payouts_each_once(
    world: SendingWorld, point: CrashPoint, times: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(crashpoints, "_armed", _Executioner(point, times))
    await world.decide([5, 6, 7], window=0)
    await world.decide([8], window=1)
    deaths = 0
    for _ in range(20):
        try:
            await world.work()
        except Died:
            deaths += 1
            world.start()
            await world.work()
        world.payer.base_fee = 22  # what was signed before is too cheap now, so that bumps happen
        await world.mine()
    await world.work()
    assert deaths == 1
    assert [(await world.summary(window)).state for window in (0, 1)] == ["final", "final"]
    world.assert_paid_once(3)
    # No nonce was burned: as many slots as actions, all settled.
    assert await world.rows("SELECT state, count(*) FROM slots GROUP BY state") == [("settled", 5)]
