"""The supervisor: retries, dead letters, leases, holds; against a real database and a clock that tests own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.errors import ChainUnavailable, DeepReorg
from bridge.ports.running import Lease
from bridge.runtime.supervisor import (
    BACKOFF_FIRST_MS,
    BACKOFF_MAX_MS,
    RETRIES_BEFORE_DEAD_LETTER,
    Supervisor,
    Wake,
    backoff_ms,
)
from bridge.store.database import Database
from bridge.store.leases import Leases


class StillClock:
    """Never waits, and remembers how long it was asked to."""

    def __init__(self) -> None:
        self.slept: list[int] = []

    def now(self) -> int:
        return 0

    def monotonic_ms(self) -> int:
        return 0

    async def sleep_ms(self, duration_ms: int) -> None:
        self.slept.append(duration_ms)
        await asyncio.sleep(0)


class Scripted:
    """A stage that does what each entry says, then is idle."""

    name = "scripted"

    def __init__(self, *script: Callable[[], bool]) -> None:
        self._script = list(script)
        self.steps = 0
        self.idle = asyncio.Event()

    async def step(self) -> bool:
        self.steps += 1
        if self._script:
            return self._script.pop(0)()
        self.idle.set()
        return False


def fail() -> bool:
    raise ChainUnavailable("no endpoint answered")


def deep_reorg() -> bool:
    raise DeepReorg("block 5 was final")


def supervisor(
    database: Database,
    clock: StillClock,
    *,
    holder: str = "test",
    lease_ms: int = 60_000,
    wake: Wake | None = None,
    poll_interval_ms: int = 5,
) -> Supervisor:
    return Supervisor(
        chain="anvil",
        database=database,
        leases=Leases(database),
        clock=clock,
        wake=wake or Wake(),
        holder=holder,
        lease_duration_ms=lease_ms,
        poll_interval_ms=poll_interval_ms,
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110  # the condition is a row of the database
            await asyncio.sleep(0.01)


async def open_letters(database: Database) -> list[str]:
    async with database.begin() as transaction:
        return [letter.error for letter in await transaction.dead_letters.open()]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff__any_number_of_failures__stays_within_bounds(failures: int, chance: float):
    assert BACKOFF_FIRST_MS // 2 <= backoff_ms(failures, chance) <= BACKOFF_MAX_MS


async def test_supervisor__retryable_failures__back_off_then_go_on(database: Database):
    clock, stage = StillClock(), Scripted(fail, fail, fail, lambda: True)
    task = asyncio.create_task(supervisor(database, clock).run("scripted", lambda _: stage))
    await asyncio.wait_for(stage.idle.wait(), 20)
    task.cancel()
    assert len(clock.slept) == 3
    assert await open_letters(database) == []


async def test_supervisor__failures_without_end__dead_letter_until_it_works_again(database: Database):
    working = asyncio.Event()

    def fail_until_working() -> bool:
        return working.is_set() or fail()

    stage = Scripted(*[fail_until_working] * 100_000)
    task = asyncio.create_task(supervisor(database, StillClock()).run("scripted", lambda _: stage))

    async def recorded() -> bool:
        return await open_letters(database) == ["no endpoint answered"]

    async def closed() -> bool:
        return await open_letters(database) == []

    await until(recorded)
    assert stage.steps >= RETRIES_BEFORE_DEAD_LETTER
    working.set()
    await until(closed)
    task.cancel()


async def test_supervisor__hold_error__whole_chain_rests_and_says_so(database: Database):
    runner = supervisor(database, StillClock())
    held, other = Scripted(deep_reorg), Scripted()
    tasks = [
        asyncio.create_task(runner.run("ingest", lambda _: held)),
        asyncio.create_task(runner.run("pay", lambda _: other)),
    ]

    async def recorded() -> bool:
        return await open_letters(database) == ["held: block 5 was final"]

    await until(recorded)
    await asyncio.sleep(0)
    steps = other.steps
    await asyncio.sleep(0.1)  # twenty poll intervals: long enough for a step that must not come
    assert other.steps <= steps + 1
    assert held.steps == 1
    for task in tasks:
        task.cancel()


async def test_supervisor__second_instance__stands_by_and_takes_over_after_a_clean_stop(database: Database):
    first, second = Scripted(), Scripted()
    one = asyncio.create_task(supervisor(database, StillClock(), holder="one").run("pay", lambda _: first))
    await asyncio.wait_for(first.idle.wait(), 20)
    two = asyncio.create_task(supervisor(database, StillClock(), holder="two").run("pay", lambda _: second))
    assert await Leases(database).holder("pay:anvil") == "one"
    assert second.steps == 0
    one.cancel()
    await asyncio.wait_for(second.idle.wait(), 20)
    two.cancel()


async def test_supervisor__lease_taken_by_another__stage_stops_and_waits_its_turn(database: Database):
    leases = Leases(database)
    built: list[Lease] = []

    def build(lease: Lease) -> Scripted:
        built.append(lease)
        return Scripted()

    task = asyncio.create_task(supervisor(database, StillClock(), holder="one", lease_ms=300).run("pay", build))

    async def has_it() -> bool:
        return await leases.holder("pay:anvil") == "one"

    await until(has_it)
    async with database.begin() as transaction:  # as if it had slept past its lease and another instance came
        await transaction.connection.execute("UPDATE leases SET epoch = epoch + 1, holder = 'two'")

    async def again() -> bool:
        return len(built) == 2

    await until(again)  # once the thief's lease has run out
    assert built[1].epoch > built[0].epoch + 1
    task.cancel()


async def test_supervisor__unknown_error__is_raised_not_survived(database: Database):
    def bug() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(supervisor(database, StillClock()).run("scripted", lambda _: Scripted(bug)), 20)


@pytest.mark.parametrize("turns", range(8))
async def test_supervisor__cancelled_in_the_moment_of_a_notice__ends_all_the_same(database: Database, turns: int):
    """The notice and the end come together; whichever the loop sees first, the task must not go on."""
    wake, stage = Wake(), Scripted()
    runs = supervisor(database, StillClock(), wake=wake, poll_interval_ms=60_000)
    task = asyncio.create_task(runs.run("decide", lambda lease: stage))
    await asyncio.wait_for(stage.idle.wait(), 5)
    wake()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=2)
    ended = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended


async def test_wake__a_waiter_that_left__is_forgotten(database: Database):
    wake, stage = Wake(), Scripted()
    runs = supervisor(database, StillClock(), wake=wake)
    task = asyncio.create_task(runs.run("decide", lambda lease: stage))
    await asyncio.wait_for(stage.idle.wait(), 5)
    assert wake.waiting == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert wake.waiting == 0
