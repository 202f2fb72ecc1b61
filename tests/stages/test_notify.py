"""Subscribers: told at least once, in order for each action, whatever fails and whoever commits when."""

from __future__ import annotations

import asyncio

import pytest

from bridge.domain.confirmations import Confirmation
from bridge.runtime import crashpoints
from bridge.runtime.crashpoints import CrashPoint
from bridge.stages.notify import PAGE, Notify, Subscriber
from bridge.store.database import Database
from tests.stages.sending import SendingWorld


class ManualClock:
    """Implements ports.Clock."""

    def __init__(self) -> None:
        self.at_ms = 0

    def now(self) -> int:
        return self.at_ms // 1000

    def monotonic_ms(self) -> int:
        return self.at_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        self.at_ms += duration_ms


class Ear:
    """A subscriber that remembers, and fails while it is told to."""

    def __init__(self) -> None:
        self.heard: list[Confirmation] = []
        self.deaf = False

    async def __call__(self, confirmation: Confirmation) -> None:
        if self.deaf:
            raise ConnectionError("webhook is down")
        self.heard.append(confirmation)

    def arrows(self, batch_index: int | None) -> list[str]:
        return [one.to_state for one in self.heard if one.batch_index == batch_index]


PAID = ["reserved", "signed", "broadcast", "included", "final"]


async def tell_all(notify: Notify) -> None:
    for _ in range(100):
        if not await notify.step():
            return
    raise AssertionError("notify never comes to rest")


def stage(database: Database, clock: ManualClock, **subscribers: Subscriber) -> Notify:
    return Notify(database=database, subscribers=subscribers, clock=clock)


@pytest.fixture
async def world(database: Database) -> SendingWorld:
    world = await SendingWorld.create(database)
    await world.decide([5, 6, 7])
    return world


async def test_notify__each_transition__told_once_in_order_with_its_block(world: SendingWorld):
    ear = Ear()
    notify = stage(world.database, ManualClock(), ear=ear)
    for _ in range(8):
        await world.advance()
        await tell_all(notify)
    assert [ear.arrows(index) for index in (None, 0, 1)] == [PAID] * 3
    assert len({one.confirmation_id for one in ear.heard}) == len(ear.heard) == 15
    final = [one for one in ear.heard if one.to_state == "final"]
    assert all(one.tx_id and one.block_hash and one.block_number for one in final)


async def test_notify__restarted__goes_on_where_it_was(world: SendingWorld):
    ear = Ear()
    for _ in range(8):
        await world.advance()
        await tell_all(stage(world.database, ManualClock(), ear=ear))
    assert len(ear.heard) == 15


async def test_notify__one_fails__others_are_told_and_it_is_told_later_from_where_it_was(world: SendingWorld):
    clock, good, bad = ManualClock(), Ear(), Ear()
    notify = stage(world.database, clock, bad=bad, good=good)
    await world.advance(2)
    await tell_all(notify)
    before = len(bad.heard)
    bad.deaf = True
    await world.advance(6)
    await tell_all(notify)
    assert len(good.heard) == 15
    assert len(bad.heard) == before
    async with world.database.snapshot() as transaction:
        [letter] = await transaction.dead_letters.open()
    assert (letter.stage, letter.scope) == ("notify", "bad")
    assert "webhook is down" in letter.error
    bad.deaf = False
    await tell_all(notify)
    assert len(bad.heard) == before, "it was asked again before its delay was over"
    clock.at_ms += 60_000
    await tell_all(notify)
    assert [one.confirmation_id for one in bad.heard] == [one.confirmation_id for one in good.heard]
    async with world.database.snapshot() as transaction:
        assert await transaction.dead_letters.open() == []


async def test_notify__fails_in_the_middle_of_a_page__goes_on_at_the_one_that_failed(world: SendingWorld):
    clock, heard = ManualClock(), list[int]()

    async def moody(confirmation: Confirmation) -> None:
        if len(heard) == 7 and clock.at_ms == 0:
            raise ValueError("not now")
        heard.append(confirmation.confirmation_id)

    notify = stage(world.database, clock, moody=moody)
    await world.advance(8)
    await tell_all(notify)
    assert len(heard) == 7
    clock.at_ms = 60_000
    await tell_all(notify)
    assert len(heard) == len(set(heard)) == 15


async def test_notify__dies_before_it_recorded__tells_again(world: SendingWorld, monkeypatch: pytest.MonkeyPatch):
    class Died(BaseException):
        pass

    class Executioner:
        def reach(self, point: CrashPoint) -> None:
            if point is CrashPoint.SUBSCRIBER_TOLD_NOT_RECORDED:
                raise Died

    ear = Ear()
    await world.advance(8)
    with monkeypatch.context() as patch:
        patch.setattr(crashpoints, "_armed", Executioner())
        with pytest.raises(Died):
            await stage(world.database, ManualClock(), ear=ear).step()
    assert len(ear.heard) == 15
    await tell_all(stage(world.database, ManualClock(), ear=ear))
    assert len(ear.heard) == 30
    assert ear.arrows(0) == PAID * 2


async def test_notify__lower_id_commits_later__is_neither_skipped_nor_told_out_of_order(world: SendingWorld):
    """The trap of sequences: an open transaction has taken a lower id than rows that are committed already."""
    await world.work()
    ear = Ear()
    notify = stage(world.database, ManualClock(), ear=ear)
    await tell_all(notify)
    heard = len(ear.heard)
    move = "UPDATE actions SET state = 'held', reason = 'test' WHERE ordinal = $1"
    opened, finish = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with world.database.begin() as transaction:
            await transaction.connection.execute(move, 1)
            opened.set()
            await finish.wait()

    task = asyncio.create_task(slow())
    await opened.wait()
    async with world.database.begin() as transaction:
        await transaction.connection.execute(move, 2)
    await tell_all(notify)
    assert len(ear.heard) == heard, "told past a transaction that may still commit a lower id"
    finish.set()
    await task
    await tell_all(notify)
    assert [one.batch_index for one in ear.heard[heard:]] == [0, 1]


async def test_notify__older_transaction_changes_the_action_last__order_of_the_action_holds(world: SendingWorld):
    """Transaction ids are given at the first write, so the later change of one action may carry the lower id."""
    await world.work()
    ear = Ear()
    notify = stage(world.database, ManualClock(), ear=ear)
    await tell_all(notify)
    heard = len(ear.heard)
    opened, go_on = asyncio.Event(), asyncio.Event()

    async def old() -> None:
        async with world.database.begin() as transaction:
            await transaction.connection.execute("SELECT pg_current_xact_id()")
            opened.set()
            await go_on.wait()
            await transaction.connection.execute("UPDATE actions SET state = 'planned' WHERE ordinal = 1")

    task = asyncio.create_task(old())
    await opened.wait()
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE actions SET state = 'held', reason = 'x' WHERE ordinal = 1")
    go_on.set()
    await task
    await tell_all(notify)
    assert ear.arrows(0) == ["held", "planned"]
    assert len(ear.heard) == heard + 2


async def test_notify__more_than_a_page__everything_once(world: SendingWorld):
    await world.work()
    async with world.database.begin() as transaction:
        for n in range(PAGE + 10):
            state, reason = ("held", "x") if n % 2 == 0 else ("planned", None)
            await transaction.connection.execute(
                "UPDATE actions SET state = $1, reason = $2 WHERE ordinal = 1", state, reason
            )
    ear = Ear()
    await tell_all(stage(world.database, ManualClock(), ear=ear))
    ids = [one.confirmation_id for one in ear.heard]
    assert ids == sorted(set(ids))
    assert len(ids) == 3 + PAGE + 10


@pytest.mark.parametrize("told_before", [False, True])
async def test_notify__restored_into_another_cluster__nothing_is_lost_and_order_holds(
    database: Database, told_before: bool
):
    world, ear, clock = await SendingWorld.create(database), Ear(), ManualClock()
    await world.decide([5])
    await world.advance(2)
    notify = stage(database, clock, ear=ear)
    if told_before:
        await tell_all(notify)
    # As a backup of a cluster that was far ahead leaves it.
    async with database.begin() as transaction:
        for table in ("confirmations", "subscribers"):
            await transaction.connection.execute(
                f"UPDATE {table} SET transaction = (transaction::text::bigint + 1000000)::text::xid8"
            )
    async with database.begin() as transaction:
        assert await transaction.confirmations.adopt()
    async with database.begin() as transaction:
        assert not await transaction.confirmations.adopt()
    await world.advance(6)
    await tell_all(stage(database, clock, ear=ear))
    assert list(dict.fromkeys(ear.arrows(0))) == PAID
    assert len(ear.arrows(0)) == len(PAID), "here nothing had to be told twice"
