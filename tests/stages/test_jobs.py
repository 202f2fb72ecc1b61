"""Jobs by the clock: what was missed is made good, what dies stays due, nothing runs twice at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.errors import ChainUnavailable, LeaseLost
from bridge.domain.jobs import JobState, Schedule
from bridge.ports.running import Lease
from bridge.runtime.supervisor import Supervisor, Wake
from bridge.stages.days import DAY_S, close_day
from bridge.stages.jobs import NOT_YET_S, Job, Periodic
from bridge.stages.reconcile import Reconcile
from bridge.stages.view import Books
from bridge.store.database import Database
from bridge.store.leases import Leases
from tests.stages.books import CHAIN, ETH, OPERATOR, T0, USDX, VAULT, WATCHED, bookkeeper, fee, run, start

NOW = 1_790_000_000


class SetClock:
    """Implements ports.Clock; time is what a test says."""

    def __init__(self, now: int = NOW) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    def monotonic_ms(self) -> int:
        return self.time * 1000

    async def sleep_ms(self, duration_ms: int) -> None:
        await asyncio.sleep(0)


class Worked:
    """Work that notes when its runs were due; it may be told to fail, or to say that it is too early."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.fails: Exception | None = None
        self.early = False

    async def __call__(self, due: int) -> str | None:
        if self.fails is not None:
            raise self.fails
        if self.early:
            return None
        self.runs.append(due)
        return f"run {len(self.runs)}"


def periodic(
    database: Database,
    work: Callable[[int], Awaitable[str | None]],
    clock: SetClock,
    schedule: Schedule = Schedule("test", 60),  # noqa: B008  # frozen
    *,
    wakes: list[int] | None = None,
    lease: Lease | None = None,
) -> Periodic:
    said: list[int] = [] if wakes is None else wakes
    return Periodic(
        job=Job(schedule, work), database=database, clock=clock, wake_at=lambda _, time: said.append(time), lease=lease
    )


async def job(database: Database) -> JobState:
    async with database.snapshot() as tx:
        [state] = await tx.jobs.all()
    return state


# ── When it is due ──────────────────────────────────────────────────────────────────────────────────────────────────
@given(st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**7), st.booleans())
def test_next_due__any_delay__on_the_grid_and_nothing_lost(interval: int, due: int, late: int, each: bool):
    schedule, now = Schedule("x", interval, each_period=each), due + late
    following, missed = schedule.next_due(due, now), schedule.missed(due, now)
    assert (following - due) % interval == 0
    if each:
        assert (following, missed) == (due + interval, 0)
    else:
        assert now < following <= now + interval
        assert missed == (following - due) // interval - 1


@pytest.mark.parametrize(("interval", "late_after"), [(10, 60), (60, 60), (600, 600), (3600, 3600), (86_400, 3600)])
def test_late__a_run_missed_or_an_hour(interval: int, late_after: int):
    state = JobState("x", interval, NOW, None, None, None, 0, 0)
    assert not state.late(NOW + late_after)
    assert state.late(NOW + late_after + 1)


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_step__due_done_and_due_again__said_to_the_timetable(database: Database):
    clock, work, wakes = SetClock(), Worked(), list[int]()
    stage = periodic(database, work, clock, wakes=wakes)
    assert await stage.step() is False
    assert await stage.step() is False
    assert (work.runs, wakes) == ([NOW], [NOW + 60])
    clock.time += 60
    await stage.step()
    assert work.runs == [NOW, NOW + 60]
    assert await job(database) == JobState("test", 60, NOW + 120, NOW + 60, NOW + 60, "run 2", 2, 0)


async def test_step__down_for_long__one_run_for_all_that_was_missed_and_the_grid_kept(database: Database):
    clock, work = SetClock(), Worked()
    await periodic(database, work, clock).step()
    clock.time += 60 * 100 + 7
    restarted = periodic(database, work, clock)
    while await restarted.step():
        pass
    assert work.runs == [NOW, NOW + 60]
    state = await job(database)
    assert (state.due_at, state.missed) == (NOW + 60 * 101, 99)


async def test_step__each_period__one_run_for_each_that_was_missed_oldest_first(database: Database):
    clock, work, daily = SetClock(), Worked(), Schedule("test", 86_400, each_period=True)
    stage = periodic(database, work, clock, daily)
    assert await stage.step() is False  # the day that has begun is not over
    midnight = (NOW // 86_400 + 1) * 86_400
    clock.time = midnight + 3 * 86_400 + 5
    restarted = periodic(database, work, clock, daily)
    while await restarted.step():
        pass
    assert work.runs == [midnight + day * 86_400 for day in range(4)]


async def test_step__dies_in_the_middle__still_due(database: Database):
    clock, work = SetClock(), Worked()
    stage = periodic(database, work, clock)
    work.fails = ChainUnavailable("no node answers")
    with pytest.raises(ChainUnavailable):
        await stage.step()
    state = await job(database)
    assert (state.due_at, state.started_at, state.finished_at) == (NOW, NOW, None)
    work.fails = None
    await periodic(database, work, clock).step()
    assert work.runs == [NOW]


async def test_step__too_early_to_do__stays_due_and_is_tried_a_little_later(database: Database):
    clock, work, wakes = SetClock(), Worked(), list[int]()
    stage = periodic(database, work, clock, wakes=wakes)
    work.early = True
    assert await stage.step() is False
    work.early = False
    await stage.step()
    assert (work.runs, wakes) == ([], [NOW + NOT_YET_S])
    clock.time += NOT_YET_S
    await stage.step()
    assert work.runs == [NOW]


async def test_step__interval_made_shorter__counts_from_now(database: Database):
    clock, work = SetClock(), Worked()
    await periodic(database, work, clock, Schedule("test", 3600)).step()
    clock.time += 10
    await periodic(database, work, clock).step()
    assert (await job(database)).due_at == NOW + 70


async def test_two_daemons__one_job__never_twice_at_once_and_the_slow_one_is_fenced(database: Database):
    clock, leases = SetClock(), Leases(database)
    first = await leases.acquire("test:all", "one", 60_000)
    assert first is not None
    assert await leases.acquire("test:all", "two", 60_000) is None
    done: list[int] = []

    async def slow(due: int) -> str:
        """While it works, its lease runs out and another instance makes the run."""
        async with database.begin() as tx:
            await tx.connection.execute("UPDATE leases SET expires_at = '-infinity'")
        second = await leases.acquire("test:all", "two", 60_000)
        assert second is not None

        async def other(due: int) -> str:
            done.append(due)
            return "other"

        await periodic(database, other, clock, lease=second).step()
        return "slow"

    with pytest.raises(LeaseLost):
        await periodic(database, slow, clock, lease=first).step()
    state = await job(database)
    assert (done, state.result, state.runs, state.due_at) == ([NOW], "other", 1, NOW + 60)


async def test_supervised__job_that_fails__backs_off_while_another_goes_on(database: Database):
    """Each has a stage of its own."""
    clock, good, bad = SetClock(), Worked(), Worked()
    bad.fails = ChainUnavailable("no")
    supervisor = Supervisor(
        chain="all", database=database, leases=Leases(database), clock=clock, wake=Wake(), holder="me",
        lease_duration_ms=10_000, poll_interval_ms=10,
    )  # fmt: skip
    works = {"good": good, "bad": bad}

    def build(name: str, lease: Lease) -> Periodic:
        return periodic(database, works[name], clock, Schedule(name, 60), lease=lease)

    tasks = [asyncio.create_task(supervisor.run(name, partial(build, name))) for name in works]
    try:
        async with asyncio.timeout(20):
            while len(good.runs) < 3:
                clock.time += 60
                await asyncio.sleep(0.01)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with database.snapshot() as tx:
        states = {state.name: state for state in await tx.jobs.all()}
    assert states["bad"].finished_at is None
    assert states["bad"].late(clock.time)


# ── What they do ────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_partitions__made_ahead__once_and_for_the_whole_next_stretch(database: Database):
    chain = await start(database)
    await chain.mine()

    async def ahead() -> int:
        async with database.begin() as tx:
            return await tx.jobs.partitions_ahead(CHAIN)

    assert (await ahead(), await ahead()) == (4, 0)
    async with database.begin() as tx:
        await tx.connection.execute("INSERT INTO heads VALUES ($1, 2500000, '', 0, 0, '', 0, 2500000)", CHAIN)
    assert (await ahead(), await ahead()) == (8, 0)
    async with database.snapshot() as tx:
        leaves = await tx.connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relispartition AND relname LIKE 'transfers_%'"
        )
    assert leaves == 4


async def test_partitions__a_reader_and_a_writer_at_work__neither_waits(database: Database):
    chain = await start(database)
    await chain.mine()
    async with database.snapshot() as reader, database.begin() as writer:
        await reader.connection.fetch("SELECT count(*) FROM logs")
        await writer.connection.execute(
            "INSERT INTO blocks (chain, number, hash, parent_hash, timestamp) VALUES ($1, 999, '', '', 0)", CHAIN
        )
        await writer.connection.fetch("SELECT count(*) FROM logs")
        async with database.begin() as tx:
            assert await tx.jobs.partitions_ahead(CHAIN) == 4


async def test_days__each_closed_once_when_the_books_have_passed_it(database: Database):
    chain = await start(database, held={(OPERATOR, ETH): 5, (VAULT, USDX): 5})
    await chain.mine(*fee(3))
    await chain.mine()
    await run(await bookkeeper(chain))
    reconcile, end = Reconcile(database=database, books=[Books(chain, WATCHED, 0)]), T0 + 3
    assert await close_day(reconcile, database, None, end) is None
    await chain.mine()
    await run(await bookkeeper(chain))
    assert await close_day(reconcile, database, None, end) == "1 chains, 0 checks broken"
    assert await close_day(reconcile, database, None, end) == "1 chains, 0 checks broken"
    async with database.snapshot() as tx:
        [day] = await tx.connection.fetch("SELECT * FROM days")
    assert (day["first_block"], day["last_block"], day["last_hash"]) == (1, 2, chain.stamp(2).hash)
    assert day["day"] == datetime.fromtimestamp(end - DAY_S, UTC).date()
    assert (day["broken"], day["skipped"]) == (0, 1)
    assert day["found"].endswith("the operator has not been used yet")
