"""The decide stage on a real database, over a scripted chain that holds its blocks and logs in memory."""

import hashlib
import json
from typing import cast

import pytest

from bridge.domain.errors import ConfigError, HoldError, LeaseLost
from bridge.domain.units import Address, BlockStamp
from bridge.ports.reading import LogFilter
from bridge.ports.running import Lease
from bridge.stages.binding import log_filters
from bridge.stages.decide import Decide
from bridge.stages.schedule import Schedule
from bridge.store.database import Database
from bridge.store.leases import Leases
from tests.stages.deciding import ALICE, BOB, BOOK, BUFFER, CONTRACTS, FEES, POOL, TOKEN, VAULT, ScriptedChain, World


@pytest.fixture
async def world(database: Database) -> World:
    return await World.create(database)


async def test_step__nothing_final_or_window_open__idle(world: World):
    stage = world.stage(FEES)
    assert await stage.step() is False
    world.chain.fee(1, 50)
    world.chain.final = 9  # second 1090: the window 1000 … 1100 is open
    assert await stage.step() is False
    assert await world.decisions() == []


async def test_step__window_closed__decides_by_time_weighted_deposits(world: World):
    chain = world.chain
    chain.deposit(0, ALICE, 10)  # 100 s × 10
    chain.deposit(5, BOB, 10)  # 50 s × 10
    chain.fee(3, 90)
    chain.fee(4, 1000, token=BOB)  # another token: not counted
    chain.fee(10, 7)  # second 1100 belongs to the next window
    chain.final = 10
    assert await world.run(world.stage(FEES)) == 1
    (decision,) = await world.decisions()
    assert (decision["window_start"], decision["window_end"]) == (1000, 1100)
    assert (decision["block_number"], decision["block_hash"]) == (9, chain.at(9).hash)
    assert (decision["verdict"], decision["surplus"], decision["total"]) == ("pay", 90, 90)
    assert await world.allocations() == [(1000, ALICE, 60), (1000, BOB, 30)]
    artifact = json.loads(decision["artifact"])
    assert hashlib.sha256(decision["artifact"]).digest() == decision["decision_id"]
    assert artifact["events"]["fee"]["count"] == 1
    assert artifact["events"]["fee"]["first"] == [3, 0]
    assert artifact["inputs"]["stake"]["weights"] == {"0x" + ALICE.hex(): "1000", "0x" + BOB.hex(): "500"}
    assert artifact["blocks"]["first"] == 0


async def test_step__no_events__a_window_still_has_its_decision(world: World):
    world.chain.final = 30
    assert await world.run(world.stage(FEES)) == 3
    decisions = await world.decisions()
    assert [row["verdict"] for row in decisions] == ["nothing"] * 3
    blocks = [json.loads(row["artifact"])["blocks"] for row in decisions]
    assert [(each["first"], each["last"]) for each in blocks] == [(0, 9), (10, 19), (20, 29)]


async def test_step__starts_within_a_window__first_full_window_decides_and_balances_count(world: World):
    chain = world.chain
    chain.start = 4
    chain.deposit(5, ALICE, 10)
    chain.fee(6, 500)  # before the first full window
    chain.fee(12, 8)
    chain.final = 20
    await world.run(world.stage(FEES))
    (decision,) = await world.decisions()
    assert (decision["window_start"], decision["surplus"]) == (1100, 8)
    assert json.loads(decision["artifact"])["events"]["deposit"]["count"] == 0
    assert await world.allocations() == [(1100, ALICE, 8)]


@pytest.mark.parametrize(("logs_max", "stored_every"), [(1, 1), (2, 7), (1000, 13)])
async def test_step__down_for_long_or_live__same_bytes(
    world: World, database_url: str, logs_max: int, stored_every: int
):
    """One daemon sees each block as it becomes final; the other wakes up at the end, with few blocks stored."""
    chain = world.chain
    for number in range(0, 60, 3):
        chain.deposit(number, ALICE if number % 2 else BOB, number + 1)
        chain.fee(number + 1, 11 * number + 1)
        if number % 4 == 0 and number:
            chain.withdraw(number, BOB, 1)
    stage = world.stage(FEES, BUFFER)
    chain.held = 1000
    for chain.final in range(61):
        await world.run(stage)
    live = [row["artifact"] for row in await world.decisions()]
    assert len(live) == 12
    await world.forget()
    chain.stored_every = stored_every
    late = world.stage(FEES, BUFFER, logs_max=logs_max)
    await world.run(late, 500)
    assert [row["artifact"] for row in await world.decisions()] == live


async def test_step__several_rules__in_order_of_window_end_then_name(world: World):
    world.chain.final = 20
    await world.run(world.stage(BUFFER, FEES.replace("every: 100 s", "every: 50 s").replace("USDX", "USDY")))
    made = await world.rows("SELECT window_end, rule FROM decisions ORDER BY decided_at")
    found = [(row["window_end"], row["rule"]) for row in made]
    assert found == [
        (1050, "fees"),
        (1100, "fees"),
        (1100, "reserve"),
        (1150, "fees"),
        (1200, "fees"),
        (1200, "reserve"),
    ]


@pytest.mark.parametrize("name", ["reserve", "a_reserve"])  # whatever it is called, it decides after the other
async def test_reserve__decided_but_not_paid_yet__not_found_again(world: World, name: str):
    chain = world.chain
    chain.held, chain.liabilities = 100, 20
    chain.deposit(0, ALICE, 1)
    chain.fee(1, 30)  # 30 of the 100 belong to the other rule, which decides first
    chain.final = 20
    await world.run(world.stage(FEES, BUFFER.replace("rule: reserve", f"rule: {name}")))
    reserve = [row for row in await world.decisions() if row["rule"] == name]
    assert [row["surplus"] for row in reserve] == [100 - 20 - 30 - 10, 0]
    assert {at.number for _, at in chain.reads} == {9, 19}


async def test_reserve__paid__committed_shrinks_as_the_balance_does(world: World):
    chain = world.chain
    chain.held = 100
    chain.final = 10
    stage = world.stage(BUFFER)
    await world.run(stage)
    chain.emit(12, VAULT, "Released(address token, uint256 amount)", token=TOKEN, amount=90)
    chain.held = 10 + 5  # 90 paid, 5 came in
    chain.final = 20
    await world.run(stage)
    assert [row["surplus"] for row in await world.decisions()] == [90, 5]


async def test_step__more_released_than_decided__held(world: World):
    world.chain.held = 100
    world.chain.emit(1, VAULT, "Released(address token, uint256 amount)", token=TOKEN, amount=1)
    world.chain.final = 10
    await world.run(world.stage(BUFFER))
    (decision,) = await world.decisions()
    assert (decision["verdict"], decision["total"]) == ("hold", 0)
    assert "more was released" in decision["reason"]


async def test_step__withdrawal_of_unseen_deposit__held_for_good_and_nothing_lost(world: World):
    chain = world.chain
    chain.deposit(0, ALICE, 10)
    chain.withdraw(1, BOB, 5)
    chain.deposit(2, BOB, 50)  # above zero again, but its true balance is not known
    chain.fee(3, 40)
    chain.fee(13, 2)
    chain.final = 20
    await world.run(world.stage(FEES))
    decisions = await world.decisions()
    assert [row["verdict"] for row in decisions] == ["hold", "hold"]
    assert "below zero" in decisions[0]["reason"]
    assert [row["carried_out"] for row in decisions] == [40, 42]


async def test_step__nobody_deposited__held_then_paid_with_the_next_window(world: World):
    chain = world.chain
    chain.fee(3, 40)
    chain.deposit(12, ALICE, 1)
    chain.fee(13, 2)
    chain.final = 20
    await world.run(world.stage(FEES))
    assert [row["verdict"] for row in await world.decisions()] == ["hold", "pay"]
    assert await world.allocations() == [(1100, ALICE, 42)]
    assert await world.rows("SELECT * FROM carries") == []
    assert [row["carried_in"] for row in await world.rows("SELECT carried_in FROM allocations")] == [40]


async def test_step__restarted_between_steps__goes_on_where_it_was(world: World):
    chain = world.chain
    chain.deposit(0, ALICE, 1)
    for number in range(10):
        chain.fee(number, 1)
    chain.final = 10
    steps = 0
    while await world.stage(FEES, logs_max=2).step():  # a new instance for every step
        steps += 1
    assert steps == 6  # block 0 has two logs, then two blocks at a time, then block 9
    (decision,) = await world.decisions()
    assert decision["surplus"] == 10
    assert json.loads(decision["artifact"])["events"]["fee"] | {"where": ""} == {
        "contracts": ["0x" + VAULT.hex()],
        "count": 10,
        "declaration": "FeePaid(address token, address payer, uint256 amount)",
        "first": [0, 1],
        "last": [9, 0],
        "units": {"amount": "amount<USDX>"},
        "where": "",
    }


async def test_step__lease_lost__commits_nothing(world: World):
    stage = world.stage(FEES)
    world.chain.final = 10
    await world.run(stage)
    world.chain.final = 20
    await Leases(world.database).release(world.lease)
    assert await Leases(world.database).acquire("decide:test", "another", 60_000) is not None
    with pytest.raises(LeaseLost):
        await stage.step()
    assert len(await world.decisions()) == 1
    assert [row["block_number"] for row in await world.rows("SELECT block_number FROM cursors")] == [9]


@pytest.mark.parametrize(("owner", "place"), [(Schedule, "last_block"), (Decide, "_decide")])
async def test_step__stood_still_while_another_instance_decided__lease_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: type, place: str
):
    """What it had begun is for another window than what it reads when it goes on: that fits nothing."""
    chain = world.chain
    chain.deposit(0, ALICE, 1)
    chain.fee(1, 40)
    chain.deposit(12, BOB, 1)
    chain.fee(22, 2)
    chain.withdraw(23, ALICE, 1)
    chain.final = 30
    slow = world.stage(FEES)
    go_on = getattr(owner, place)

    async def stand_still(*args: object) -> object:
        monkeypatch.undo()
        lease = await Leases(world.database).acquire("decide:test", "another", 60_000)
        assert lease is not None
        world.lease = lease
        await world.run(world.stage(FEES))
        return await go_on(*args)

    await Leases(world.database).release(world.lease)
    monkeypatch.setattr(owner, place, stand_still)
    with pytest.raises(LeaseLost):
        await slow.step()
    assert len(await world.decisions()) == 3


async def test_step__same_version_other_text__refused_with_the_mend(world: World):
    world.chain.final = 10
    await world.run(world.stage(FEES))
    with pytest.raises(ConfigError, match="raise it to 2"):
        await world.stage(FEES.replace("fees of", "Fees of")).step()
    assert [row["version"] for row in await world.rows("SELECT version FROM rules")] == [1]


async def test_step__newer_version__takes_over_from_its_next_window_and_never_back(world: World):
    chain = world.chain
    chain.deposit(0, ALICE, 1)
    for number in (1, 11, 25):
        chain.fee(number, 5)
    chain.final = 10
    await world.run(world.stage(FEES))
    chain.final = 40
    newer = FEES.replace("version: 1", "version: 2").replace("every: 100 s", "every: 200 s")
    await world.run(world.stage(newer))
    found = [
        (row["version"], row["window_start"], row["window_end"], row["surplus"]) for row in await world.decisions()
    ]
    assert found == [(1, 1000, 1100, 5), (2, 1100, 1200, 5), (2, 1200, 1400, 5)]
    with pytest.raises(ConfigError, match="superseded"):
        await world.stage(FEES).step()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('contract: pool, event: "Dep', 'contract: vault, event: "Dep'),
        ("add: deposit.amount", "add: deposit.amount * 2"),
        ("USDX", "USDY"),
    ],
)
async def test_step__newer_version_counts_otherwise__refused_and_not_saved(world: World, old: str, new: str):
    world.chain.final = 10
    await world.run(world.stage(FEES))
    assert old in FEES
    with pytest.raises(ConfigError, match="give the rule a new name"):
        await world.stage(FEES.replace("version: 1", "version: 2").replace(old, new)).step()
    assert [row["version"] for row in await world.rows("SELECT version FROM rules")] == [1]


async def test_step__event_not_as_declared__chain_held(world: World):
    declaration = "Deposited(address account, uint256 amount)"
    world.chain.emit(1, POOL, declaration, account=ALICE)
    world.chain.final = 10
    with pytest.raises(HoldError, match="`deposit` is declared"):
        await world.stage(FEES).step()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "where: token == asset",
            "where: floor_div(7, amount) < 9",
            "`where` of `fee` has no result for log 1 of block",
        ),
        (
            "sum: fee.amount",
            "sum: 'mul_div(fee.amount, fee.amount, fee.amount)'",
            "log 1 of block .* cannot be counted",
        ),
    ],
)
async def test_step__formula_without_a_result_for_one_log_of_many__held_and_the_log_named(
    world: World, old: str, new: str, problem: str
):
    world.chain.fee(1, 5)
    world.chain.fee(2, 7)
    world.chain.fee(2, 0)
    world.chain.fee(3, 9)
    world.chain.final = 10
    with pytest.raises(HoldError, match=problem) as held:
        await world.stage(FEES.replace(old, new)).step()
    assert str(BlockStamp("test", 2, world.chain.at(2).hash)) in str(held.value)


def test_log_filters__several_rules__one_filter_a_contract():
    world = World(cast("Database", None), ScriptedChain(), Lease("", 0, ""))
    topic = {text: hashlib.sha256(text.encode()).digest() for text in (
        "FeePaid(address token, address payer, uint256 amount)",
        "Released(address token, uint256 amount)",
        "Deposited(address account, uint256 amount)",
        "Withdrawn(address account, uint256 amount)",
    )}  # fmt: skip
    fee, release, deposit, withdrawal = topic.values()
    assert log_filters(world.bound(FEES, BUFFER)) == (
        LogFilter((VAULT,), (tuple(sorted((fee, release))),)),
        LogFilter((POOL,), (tuple(sorted((deposit, withdrawal))),)),
    )


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ((FEES, FEES), "two rules of this name"),
        ((FEES.replace("contract: pool", "contract: pol"),), "no contract `pol`"),
        ((FEES.replace("USDX", "USDZ"),), "no token `USDZ`"),
        ((BUFFER, BUFFER.replace("rule: reserve", "rule: other")), "both pay out what the same balance"),
        ((BUFFER, FEES.replace("every: 100 s", "every: 50 s")), "in different windows"),
    ],
)
def test_bind_rules__what_cannot_work__refused(texts: tuple[str, ...], problem: str):
    world = World(cast("Database", None), ScriptedChain(), Lease("", 0, ""))
    with pytest.raises(ConfigError, match=problem):
        world.bound(*texts)


LATE = FEES.replace("rule: fees", "rule: late_fees").replace("USDX", "USDY")


async def test_step__rule_added_to_an_old_database__decides_nothing_that_was_before_it(world: World):
    chain = world.chain
    chain.deposit(1, ALICE, 10)
    chain.fee(3, 90)
    chain.fee(15, 5, token=BOB)  # before the late rule was there
    chain.final = 25
    await world.run(world.stage(FEES))
    late = world.stage(FEES, LATE)
    await world.run(late)
    chain.fee(29, 6, token=BOB)  # after it, and before its first window
    chain.fee(31, 7, token=BOB)
    chain.final = 40
    await world.run(late)
    found = [row for row in await world.decisions() if row["rule"] == "late_fees"]
    assert [(row["window_start"], row["surplus"], row["total"]) for row in found] == [(1300, 7, 7)]
    again = world.stage(FEES, LATE)  # a restart is no new beginning
    chain.final = 50
    await world.run(again)
    assert [row["window_start"] for row in await world.decisions() if row["rule"] == "late_fees"] == [1300, 1400]


async def test_step__rule_added_whose_deposits_were_never_read__refused(world: World):
    world.chain.final = 25
    await world.run(world.stage(BUFFER))
    with pytest.raises(ConfigError, match="`deposit` was not read before block 26"):
        await world.stage(BUFFER, LATE).step()
    assert await world.run(world.stage(BUFFER)) == 0


async def test_step__first_rule_of_an_old_database__refused_likewise(world: World):
    world.chain.final = 25
    await world.run(world.stage())
    with pytest.raises(ConfigError, match="was not read before"):
        await world.stage(FEES).step()


async def test_step__name_stands_for_another_contract__refused(world: World, monkeypatch: pytest.MonkeyPatch):
    world.chain.final = 25
    await world.run(world.stage(FEES))
    monkeypatch.setitem(CONTRACTS, "pool", BOOK)
    with pytest.raises(ConfigError, match=r"contract `pool` is 0xcc.* has counted from 0xbb"):
        await world.stage(FEES).step()
    with pytest.raises(ConfigError, match="new name"):
        await world.stage(FEES.replace("version: 1", "version: 2")).step()


@pytest.mark.parametrize("account", [VAULT, TOKEN])
async def test_bind_rules__share_for_a_contract_of_ours__refused(world: World, account: Address):
    text = BUFFER.replace("0x" + "a1" * 20, "0x" + account.hex())
    with pytest.raises(ConfigError, match="cannot be a recipient"):
        world.bound(text)


async def test_step__rule_taken_out_and_put_back__refused_for_what_was_missed(world: World):
    world.chain.final = 15
    await world.run(world.stage(FEES, BUFFER))
    await world.run(world.stage(BUFFER))
    world.chain.final = 25
    await world.run(world.stage(BUFFER))
    with pytest.raises(ConfigError, match="taken out after block 15"):
        await world.stage(FEES, BUFFER).step()
    assert await world.run(world.stage(BUFFER)) == 0
