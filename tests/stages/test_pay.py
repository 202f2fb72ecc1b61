"""The sender and its watcher against a chain in memory: what is paid is paid once, whatever happens on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.domain.errors import HoldError
from bridge.domain.payouts import Ceilings, Refusal
from bridge.ports import Broadcast, BroadcastOutcome
from bridge.store.database import Database
from tests.stages.sending import DISTRIBUTOR, TOKEN, SendingWorld, recipients

FINAL = ["final", "final", "final"]


@pytest.fixture
async def world(database: Database) -> AsyncIterator[SendingWorld]:
    return await SendingWorld.create(database)


async def test_pay__decision_of_two_batches__each_is_paid_once_and_final(world: SendingWorld):
    await world.decide([5, 6, 7])
    await world.work()
    await world.advance(6)
    assert await world.states() == FINAL
    world.assert_paid_once(2)
    summary = await world.summary()
    assert (summary.state, summary.total, summary.recipients, summary.batches) == ("final", 18, 3, 2)
    assert (summary.paid_total, summary.credited_total) == (18, 0)
    assert len(summary.tx_ids) == 3
    assert await world.rows("SELECT nonce, state FROM slots ORDER BY nonce") == [
        (0, "settled"),
        (1, "settled"),
        (2, "settled"),
    ]
