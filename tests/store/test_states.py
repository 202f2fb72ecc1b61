"""The database and the code have the same arrows, and the database refuses every other one."""

from __future__ import annotations

import itertools

import asyncpg
import pytest

from bridge.domain.states import MACHINES, ActionState, SlotState
from bridge.store.database import Database
from tests.stages.sending import SendingWorld


async def test_state_arrows__in_the_database__equal_those_of_the_code(database: Database):
    async with database.snapshot() as transaction:
        rows = await transaction.connection.fetch("SELECT machine, from_state, to_state FROM state_arrows")
    expected = {
        (machine, str(source), str(target))
        for machine, arrows in MACHINES.items()
        for source, targets in arrows.items()
        for target in targets
    }
    assert {tuple(row) for row in rows} == expected


@pytest.mark.parametrize(
    ("table", "states", "machine"), [("actions", ActionState, "action"), ("slots", SlotState, "slot")]
)
async def test_states__every_pair__the_database_allows_exactly_the_arrows(
    database: Database, table: str, states: type[ActionState] | type[SlotState], machine: str
):
    world = await SendingWorld.create(database)
    await world.decide([5])
    await world.work()  # one action is broadcast and has a live slot
    for source, target in itertools.permutations(states, 2):
        allowed = target in MACHINES[machine][source]
        assert await _is_accepted(database, table, source, target) == allowed, f"{machine}: {source} → {target}"


async def _is_accepted(database: Database, table: str, source: str, target: str) -> bool:
    """Whether what is in state `source` may become `target`; leaves everything as it was."""
    async with database.begin() as transaction:
        execute = transaction.connection.execute
        try:
            async with transaction.connection.transaction():
                await execute(
                    "SET LOCAL session_replication_role = replica"
                )  # no trigger while it is brought to source
                reason = ", reason = 'test'" if table == "actions" else ""
                await execute(f"UPDATE {table} SET state = $1{reason}", source)
                await execute("SET LOCAL session_replication_role = origin")
                await execute(f"UPDATE {table} SET state = $1", target)
                await _undo()
        except asyncpg.CheckViolationError:
            return False
        except _Undo:
            return True
    raise AssertionError("neither accepted nor refused")


class _Undo(Exception):
    pass


async def _undo() -> None:
    raise _Undo


async def test_slots__second_live_one_for_an_action__is_refused(database: Database):
    world = await SendingWorld.create(database)
    await world.decide([5])
    await world.work()
    with pytest.raises(asyncpg.UniqueViolationError, match="slots_one_live"):
        async with database.begin() as transaction:
            await transaction.connection.execute(
                "INSERT INTO slots (chain, account, nonce, action_id, gas_limit, reserved_at) "
                "SELECT chain, account, nonce + 1, action_id, 1, 0 FROM slots"
            )


async def test_attempts__two_included_on_one_nonce__are_refused(database: Database):
    world = await SendingWorld.create(database)
    await world.decide([5])
    await world.work()
    world.payer.base_fee = 22
    await world.advance(3)
    assert await world.rows("SELECT count(*) FROM attempts") == [(2,)]
    with pytest.raises(asyncpg.UniqueViolationError, match="attempts_one_included"):
        async with database.begin() as transaction:
            await transaction.connection.execute(
                "UPDATE attempts SET block_number = 1, block_hash = '', succeeded = TRUE"
            )
