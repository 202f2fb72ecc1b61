"""What calls for a person is there as soon as its cause is committed, and gone with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bridge.domain.conditions import Condition, ConditionName
from bridge.store.database import Database
from tests.stages.sending import CHAIN, COIN, GAS_WANTED, OPERATOR, SendingWorld

ALLOWED_BLOCKS = 4


@pytest.fixture
async def world(database: Database) -> SendingWorld:
    return await SendingWorld.create(database)


async def conditions(world: SendingWorld) -> list[Condition]:
    async with world.database.snapshot() as transaction:
        found = await transaction.conditions.read({CHAIN: ALLOWED_BLOCKS})
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=5) < condition.since <= now for condition in found)
    return found


async def test_conditions__all_is_well__none(world: SendingWorld):
    await world.decide([5, 6, 7])
    for _ in range(10):
        await world.advance()
        assert await conditions(world) == []


async def test_low_gas_balance__under_what_is_wanted__until_there_is_more(world: SendingWorld):
    await world.advance()
    world.chain.state["balance", OPERATOR, COIN] = GAS_WANTED - 1
    await world.advance()
    [low] = await conditions(world)
    assert (low.name, low.chain, low.subject) == (ConditionName.LOW_GAS_BALANCE, CHAIN, "0x" + OPERATOR.hex())
    assert low.detail == "holds 999 wei, less than 1000"
    world.chain.state["balance", OPERATOR, COIN] = 7
    await world.advance()
    [lower] = await conditions(world)
    assert lower.since == low.since
    assert lower.detail == "holds 7 wei, less than 1000"
    world.chain.state["balance", OPERATOR, COIN] = GAS_WANTED
    await world.advance()
    assert await conditions(world) == []


async def test_low_gas_balance__rollup__what_transactions_took_beside_gas_is_wanted_too(world: SendingWorld):
    world.payer.l1_fee = 77
    await world.decide([5])
    for _ in range(6):
        await world.advance()
    world.payer.l1_fee = 5
    world.chain.state["balance", OPERATOR, COIN] = GAS_WANTED + 76
    await world.advance()
    [low] = await conditions(world)
    assert low.detail == "holds 1076 wei, less than 1077"
    world.chain.state["balance", OPERATOR, COIN] = GAS_WANTED + 77
    await world.advance()
    assert await conditions(world) == []


async def test_not_included__longer_than_allowed__lowest_nonce_alone_until_it_is(world: SendingWorld):
    await world.decide([5])
    await world.decide([6], window=1)
    await world.work()
    world.payer.base_fee = 10_000
    await world.advance(ALLOWED_BLOCKS - 1)
    assert await conditions(world) == []
    await world.advance()
    [late] = await conditions(world)
    assert (late.name, late.subject) == (ConditionName.NOT_INCLUDED, f"nonce 0 of 0x{OPERATOR.hex()}")
    assert f"signed {ALLOWED_BLOCKS} blocks ago; allowed are {ALLOWED_BLOCKS}" in late.detail
    await world.advance()  # bumped: still late
    assert [one.since for one in await conditions(world)] == [late.since]
    world.payer.base_fee = 10
    await world.advance()
    assert await conditions(world) == []


async def test_quarantine__nonce_spent_by_a_stranger__since_it_was_found(world: SendingWorld):
    await world.decide([5])
    await world.work()
    world.payer.pool.clear()
    world.payer.faults.lose_broadcasts = True
    world.payer.spend_nonce()
    await world.mine(3)
    _, confirm = world.stages
    await confirm.step()
    found = [one for one in await conditions(world) if one.name is ConditionName.QUARANTINE]
    assert [(one.chain, one.subject.startswith("step ")) for one in found] == [(CHAIN, True)]
    assert "nonce 0 was spent by a transaction that is not ours" in found[0].detail
    await confirm.step()
    assert [one for one in await conditions(world) if one.name is ConditionName.QUARANTINE] == []


async def test_unexpected_outflow__until_a_person_explains_it(world: SendingWorld):
    async with world.database.begin() as transaction:
        await transaction.connection.execute(
            "INSERT INTO breaks (kind, chain, level, check_subject, subject, amount, asset, evidence, block_number,"
            " block_hash) SELECT 'unexpected_out', chain, 'suspense', 'x', 'suspense:out', -5, 'gold', '{}', 1, ''"
            " FROM chains"
        )
    [outflow] = await conditions(world)
    assert (outflow.name, outflow.subject) == (ConditionName.UNEXPECTED_OUTFLOW, "break 1")
    assert outflow.detail == "suspense:out, -5 atoms of gold; nothing new is sent"
    async with world.database.begin() as transaction:
        await transaction.connection.execute("UPDATE breaks SET state = 'explained'")
    assert await conditions(world) == []
