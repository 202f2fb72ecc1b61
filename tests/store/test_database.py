"""The transaction that every stage works in: exact integers, and the fence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.errors import DatabaseUnavailable, LeaseLost
from bridge.domain.units import UINT256_MAX
from bridge.store.database import Database
from bridge.store.leases import Leases
from bridge.store.numeric import decode_numeric, encode_numeric


@given(st.integers(min_value=-(UINT256_MAX**2), max_value=UINT256_MAX**2))
def test_numeric__round_trip__every_digit_survives(value: int):
    assert decode_numeric(encode_numeric(value)) == value


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_numeric__not_an_int__refused(value: object):
    with pytest.raises(TypeError):
        encode_numeric(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 1, 9_999, 10_000, 10**40, 12_340_000_0000, UINT256_MAX])
async def test_numeric__through_postgres__agrees_with_its_text(database: Database, value: int):
    async with database.begin() as transaction:
        row = await transaction.connection.fetchrow("SELECT $1::uint256 AS same, $1::uint256::text AS text", value)
    assert row is not None
    assert (row["same"], row["text"]) == (value, str(value))


async def test_numeric__fraction__refused_rather_than_rounded(database: Database):
    async with database.begin() as transaction:
        with pytest.raises(ValueError, match="fraction"):
            await transaction.connection.fetchval("SELECT 1.5::numeric")


async def test_begin__stale_lease__refused_and_nothing_written(database: Database):
    leases = Leases(database)
    old = await leases.acquire("pay:anvil", "first", duration_ms=0)
    assert old is not None
    async with database.begin(old) as transaction:  # ours still: expired, but nobody took it
        await transaction.dead_letters.record("pay", "anvil", "written by the holder", 1)
    new = await leases.acquire("pay:anvil", "second", duration_ms=60_000)
    assert new is not None
    assert new.epoch == old.epoch + 1
    with pytest.raises(LeaseLost):
        async with database.begin(old) as transaction:
            await transaction.dead_letters.record("pay", "other", "must not be written", 1)
    async with database.begin(new) as transaction:
        assert [letter.scope for letter in await transaction.dead_letters.open()] == ["anvil"]


async def test_lease__held_by_another__not_acquired_until_released(database: Database):
    leases = Leases(database)
    first = await leases.acquire("pay:anvil", "first", duration_ms=60_000)
    assert first is not None
    assert await leases.acquire("pay:anvil", "second", duration_ms=60_000) is None
    assert await leases.renew(first, duration_ms=60_000)
    await leases.release(first)
    second = await leases.acquire("pay:anvil", "second", duration_ms=60_000)
    assert second is not None
    assert not await leases.renew(first, duration_ms=60_000)


async def test_begin__server_ends_the_connection__retryable_error_and_rolled_back(database: Database):
    with pytest.raises(DatabaseUnavailable):
        async with database.begin() as transaction:
            await transaction.dead_letters.record("pay", "anvil", "lost", 1)
            await transaction.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    async with database.begin() as transaction:
        assert await transaction.dead_letters.open() == []
