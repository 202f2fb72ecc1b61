"""Windows that end with the calendar, a block number or an event; windows whose surplus is not known; approvals."""

import json

import pytest

from bridge.domain.errors import ConfigError
from bridge.domain.units import Address
from bridge.runtime.rulefile import parse_rule
from bridge.stages.binding import log_filters
from bridge.store.database import Database
from tests.stages.deciding import ALICE, BOB, BOOK, BUFFER, CONTRACTS, FEES, POOL, SKIM, World

EVERY = "window: {every: 100 s}"
GAIN = """
rule: gains
version: 1
description: the gain of each liquidation by the deposits before it
asset: USDX
window: {each: liquidation}
events:
  liquidation: {contract: pool, event: "Liquidated(uint256 gain)", units: {gain: amount<USDX>}}
  deposit:
    {contract: pool, event: "Deposited(address account, uint256 amount)", units: {amount: amount<USDX>}}
  withdrawal:
    {contract: pool, event: "Withdrawn(address account, uint256 amount)", units: {amount: amount<USDX>}}
inputs:
  gain: {sum: liquidation.gain}
  deposits: {balances: {add: deposit.amount, subtract: withdrawal.amount, by: account, at: before}}
surplus: gain
carry: surplus
split: {pro_rata: deposits}
"""


@pytest.fixture
async def world(database: Database) -> World:
    return await World.create(database)


def liquidate(world: World, number: int, gain: int) -> None:
    world.chain.emit(number, POOL, "Liquidated(uint256 gain)", gain=gain)


async def windows(world: World) -> list[tuple[int, int, int, int]]:
    """(start, end, last block, surplus) of each decision."""
    return [
        (row["window_start"], row["window_end"], row["block_number"], row["surplus"]) for row in await world.decisions()
    ]


async def test_blocks__every_seven__windows_begin_with_the_multiples(world: World):
    world.chain.deposit(0, ALICE, 1)
    for number in range(1, 25):
        world.chain.fee(number, number)
    world.chain.final = 24
    await world.run(world.stage(FEES.replace(EVERY, "window: {blocks: 7}")))
    assert await windows(world) == [
        (1000, 1070, 6, sum(range(1, 7))),
        (1070, 1140, 13, sum(range(7, 14))),
        (1140, 1210, 20, sum(range(14, 21))),
    ]


async def test_blocks__boundary_as_old_as_its_parent__window_goes_on_to_the_next_second(world: World):
    """On a chain with several blocks a second, a window of seconds cannot end between two of them."""
    chain = world.chain
    chain.second_of = {7: 1060, 8: 1060, 9: 1061}  # blocks 6 … 8 have one second
    chain.deposit(0, ALICE, 1)
    chain.fee(6, 1)
    chain.fee(8, 10)
    chain.fee(9, 100)
    chain.final = 14
    await world.run(world.stage(FEES.replace(EVERY, "window: {blocks: 7}")))
    assert await windows(world) == [(1000, 1061, 8, 11), (1061, 1140, 13, 100)]


async def test_calendar__days__end_at_midnight(world: World):
    chain = world.chain
    day = 86_400
    chain.second_of = {5: day - 1, 6: day, 7: 2 * day - 1, 8: 2 * day + 5}
    chain.deposit(0, ALICE, 1)
    for number in (5, 6, 7):
        chain.fee(number, number)
    chain.final = 8
    await world.run(world.stage(FEES.replace(EVERY, "window: {calendar: day}")))
    # The day that was under way at the start is not a full one.
    assert await windows(world) == [(day, 2 * day, 7, 13)]


async def test_each__liquidations__split_by_what_was_there_before_the_block(world: World):
    chain = world.chain
    chain.deposit(1, ALICE, 30)
    chain.deposit(2, BOB, 10)
    liquidate(world, 4, 80)
    chain.deposit(4, BOB, 1_000)  # in the same block: too late for this one
    liquidate(world, 4, 8)
    chain.withdraw(6, ALICE, 30)
    liquidate(world, 9, 50)
    chain.final = 12
    await world.run(world.stage(GAIN))
    assert await windows(world) == [(1000, 1041, 4, 88), (1041, 1091, 9, 50)]
    assert await world.allocations() == [(1000, ALICE, 66), (1000, BOB, 22), (1041, BOB, 50)]


async def test_each__nobody_has_a_deposit__held_and_given_with_the_next(world: World):
    chain = world.chain
    liquidate(world, 2, 7)
    chain.deposit(3, ALICE, 1)
    liquidate(world, 5, 1)
    chain.final = 8
    await world.run(world.stage(GAIN))
    assert [(row["verdict"], row["total"]) for row in await world.decisions()] == [("hold", 0), ("pay", 8)]


@pytest.mark.parametrize("trigger", ["{blocks: 4}", "{each: fee}"])
async def test_windows_of_any_kind__down_for_long_or_live__same_bytes(world: World, trigger: str):
    chain = world.chain
    for number in range(0, 60, 3):
        chain.deposit(number, ALICE if number % 2 else BOB, number + 1)
        chain.fee(number + 1, 11 * number + 1)
    text = FEES.replace(EVERY, f"window: {trigger}")
    stage = world.stage(text)
    for chain.final in range(61):
        await world.run(stage)
    live = [row["artifact"] for row in await world.decisions()]
    assert len(live) >= 14
    await world.forget()
    chain.stored_every = 5
    await world.run(world.stage(text, logs_max=2), 500)
    assert [row["artifact"] for row in await world.decisions()] == live


async def test_step__surplus_cannot_be_known__counted_together_with_the_next_window(world: World):
    """The first window's fees are not lost because a read failed when it ended."""
    chain = world.chain
    text = FEES.replace("surplus: fees", "surplus: fees - debt").replace(
        "  stake:", "  debt: {read: {contract: obligations, function: total, returns: amount<USDX>}}\n  stake:"
    )
    chain.deposit(0, ALICE, 1)
    chain.deposit(5, BOB, 1)
    chain.fee(1, 40)
    chain.fee(12, 2)
    chain.liabilities = None
    chain.final = 10
    stage = world.stage(text)
    await world.run(stage)
    chain.liabilities = 2
    chain.final = 30
    await world.run(stage)
    first, second, third = await world.decisions()
    assert (first["verdict"], first["determined"], first["surplus"]) == ("hold", False, 0)
    assert "does not answer total()" in first["reason"]
    assert (second["window_start"], second["verdict"], second["surplus"]) == (1100, "pay", 40)
    record = json.loads(second["artifact"])
    assert record["counted_from"] == 1000
    assert record["events"]["fee"] | {"first": [1, 0], "last": [12, 0], "count": 2} == record["events"]["fee"]
    # Alice was there for 200 s, Bob for 150.
    assert list(record["inputs"]["stake"]["weights"].values()) == ["200", "150"]
    assert (third["surplus"], json.loads(third["artifact"])["counted_from"]) == (0, 1200)


async def test_high_water__falls_and_rises__only_the_gain_above_the_best_is_found(world: World):
    chain = world.chain
    found = []
    stage = world.stage(SKIM)
    for window, rate in enumerate([500, 520, 490, 510, None, 530]):
        chain.liabilities = rate
        chain.final = 10 * (window + 1)
        await world.run(stage)
        found.append((await world.decisions())[-1])
    assert [(row["verdict"], row["surplus"]) for row in found] == [
        ("nothing", 0),
        ("pay", 20),
        ("nothing", 0),
        ("nothing", 0),
        ("hold", 0),
        ("pay", 10),
    ]
    marks = [json.loads(row["artifact"])["inputs"]["best"]["value"] for row in found]
    assert marks == ["500", "500", "520", "520", "520", "520"]


async def test_cap_total__reached__the_rest_is_carried_for_ever(world: World):
    chain = world.chain
    chain.deposit(0, ALICE, 1)
    for number in (1, 11, 21):
        chain.fee(number, 40)
    chain.final = 30
    await world.run(world.stage(FEES + "guardrails: {cap_total: 100}\n"))
    assert [(row["total"], row["carried_out"]) for row in await world.decisions()] == [(40, 0), (40, 0), (20, 20)]


async def test_approve_above__larger_total__decision_says_that_a_person_must_look(world: World):
    chain = world.chain
    chain.deposit(0, ALICE, 1)
    chain.fee(1, 40)
    chain.fee(11, 41)
    chain.final = 20
    await world.run(world.stage(FEES + "guardrails: {approve_above: 40}\n"))
    assert [row["approval"] for row in await world.decisions()] == [None, "41 is above approve_above of 40"]


async def test_exclude__contract_and_address__nobodys_weight(world: World):
    chain = world.chain
    for account in (ALICE, BOB, POOL, Address(b"\x77" * 20)):
        chain.deposit(0, account, 1)
    chain.fee(1, 40)
    chain.final = 10
    await world.run(world.stage(FEES + f"exclude: [pool, 0x{'77' * 20}]\n"))
    assert await world.allocations() == [(1000, ALICE, 20), (1000, BOB, 20)]


async def test_contracts__several_emit_one_event__all_of_them_count(world: World):
    chain = world.chain
    text = FEES.replace("contract: vault", "contracts: [vault, pool]")
    chain.deposit(0, ALICE, 1)
    chain.fee(1, 3)
    chain.fee(2, 4, emitter=POOL)
    chain.fee(3, 100, emitter=BOB)
    chain.final = 10
    await world.run(world.stage(text))
    assert [row["surplus"] for row in await world.decisions()] == [7]


FACTORY = FEES.replace(
    "    contract: vault\n",
    '    factory: {contract: obligations, event: "Created(address pool)", address: pool}\n',
    1,
)


async def test_factory__contracts_that_it_makes__count_from_their_block_on(world: World):
    chain, child, stranger = world.chain, Address(b"\x0c" * 20), Address(b"\x0d" * 20)
    chain.deposit(0, ALICE, 1)
    chain.fee(1, 1, emitter=child)  # before it was registered
    chain.emit(3, BOOK, "Created(address pool)", pool=child)
    chain.fee(3, 20, emitter=child)
    chain.fee(4, 300, emitter=stranger)  # nobody's
    chain.fee(5, 4_000, emitter=child)
    chain.emit(6, BOB, "Created(address pool)", pool=stranger)  # not by the factory
    chain.fee(7, 50_000, emitter=stranger)
    chain.emit(12, BOOK, "Created(address pool)", pool=child)  # again: it counted already
    chain.fee(11, 6, emitter=child)
    chain.final = 20
    stage = world.stage(FACTORY)
    await world.run(stage)
    assert [row["surplus"] for row in await world.decisions()] == [4_020, 6]
    artifacts = [row["artifact"] for row in await world.decisions()]
    assert json.loads(artifacts[0])["events"]["fee"]["contracts"] == ["0x" + child.hex()]
    await world.forget()
    await world.run(world.stage(FACTORY, logs_max=1))
    assert [row["artifact"] for row in await world.decisions()] == artifacts


async def test_factory__blocks_of_one_second__count_by_block_however_logs_are_read(world: World):
    chain, child = world.chain, Address(b"\x0c" * 20)
    chain.second_of = {4: chain.at(3).timestamp}
    chain.deposit(0, ALICE, 1)
    chain.fee(3, 1, emitter=child)  # in the same second, but a block before
    chain.fee(4, 20, emitter=child)  # before its factory said so, but in the same block
    chain.emit(4, BOOK, "Created(address pool)", pool=child)
    chain.fee(4, 300, emitter=child)
    chain.final = 20
    found = set()
    for logs_max in (1, 2, 1_000):
        await world.forget()
        await world.run(world.stage(FACTORY, logs_max=logs_max))
        rows = await world.decisions()
        assert rows[0]["surplus"] == 320, logs_max
        found.add(tuple(row["artifact"] for row in rows))
    assert len(found) == 1


def test_factory__log_filters__its_event_of_any_contract(world: World):
    filters = log_filters(world.bound(FACTORY))
    assert [len(one.addresses) for one in filters] == [0, 1, 1]
    assert [len(one.topics[0] or ()) for one in filters] == [1, 2, 1]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("address: pool}", "address: pol}", "no field `pol` that is an address"),
        ("Created(address pool)", "Created(", "not an event declaration"),
        ("{contract: obligations, event", "{contract: vaul, event", "no contract `vaul`"),
        (EVERY, "window: {each: fee}", "cannot end windows"),
    ],
)
def test_factory__makes_no_sense__refused(old: str, new: str, problem: str):
    assert old in FACTORY
    with pytest.raises(ConfigError, match=problem):
        parse_rule(FACTORY.replace(old, new), name="rule.yaml", contracts=CONTRACTS, tokens={"USDX"})


async def test_shared_balance__other_trigger__refused(world: World):
    with pytest.raises(ConfigError, match="in different windows"):
        world.bound(BUFFER, FEES.replace(EVERY, "window: {blocks: 10}"))
