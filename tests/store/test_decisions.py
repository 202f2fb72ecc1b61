"""Tables of the decide stage: what is written comes back, exactly."""

import dataclasses

import pytest

from bridge.domain.accumulators import SCALAR, Key, Source, State
from bridge.domain.artifacts import POOL
from bridge.domain.decisions import Allocation, Decision, Verdict
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block
from bridge.domain.rules import Rule
from bridge.domain.units import UINT256_MAX, Address, AssetId
from bridge.domain.windows import Window
from bridge.store.database import Database
from tests.domain.test_rules import RULE

A, B = Address(b"\x01" * 20), Address(b"\x02" * 20)
ASSET = AssetId("eip155:1/erc20:0xdd")
PAID = Decision(
    rule="fees",
    version=1,
    asset=ASSET,
    window=Window(100, 200),
    block=Block(7, b"\x07" * 32, bytes(32), 199),
    verdict=Verdict.PAY,
    reason="10 to 1 recipient",
    surplus=10,
    total=10,
    carried_in=0,
    carried_out=UINT256_MAX,
    left=0,
    allocations=(Allocation(A, 10, 4),),
    carries={POOL: UINT256_MAX - 1, B: 1},
    determined=True,
    approval=None,
    artifact=b'{"n":1}',
)
NEXT = dataclasses.replace(
    PAID,
    window=Window(200, 300),
    block=Block(9, b"\x09" * 32, bytes(32), 299),
    verdict=Verdict.CARRY,
    total=0,
    allocations=(),
    carries={B: 5},
    carried_out=5,
    artifact=b'{"n":2}',
)


@pytest.fixture
async def stored(database: Database) -> Database:
    async with database.begin() as transaction:
        await transaction.chains.register("test", "evm", "eip155:1", bytes(32), 0)
        await transaction.decisions.save_rule("test", RULE)
    return database


def version(number: int, text: str) -> Rule:
    return dataclasses.replace(RULE, version=number, body=text, content_hash=text.encode().ljust(32, b"\0"))


async def test_add__decision__windows_owed_and_carries_follow(stored: Database):
    async with stored.begin() as transaction:
        decisions = transaction.decisions
        assert await decisions.last("test", "fees") is None
        assert await decisions.owed("test", ASSET) == 0
        await decisions.add("test", PAID)
        assert await decisions.last("test", "fees") == (Window(100, 200), 7)
        assert await decisions.last_paid_end("test", "fees") == 200
        assert await decisions.carries("test", "fees", ASSET) == PAID.carries
        assert await decisions.owed("test", ASSET) == 10 + UINT256_MAX
        await decisions.add("test", NEXT)
        assert await decisions.last("test", "fees") == (Window(200, 300), 9)
        assert await decisions.last_paid_end("test", "fees") == 200
        assert await decisions.carries("test", "fees", ASSET) == {B: 5}
        assert await decisions.owed("test", ASSET) == 15
        assert await decisions.owed("test", AssetId("another")) == 0
        rows = await transaction.connection.fetch("SELECT decision_id, recipient, amount, carried_in FROM allocations")
        assert [tuple(row) for row in rows] == [(PAID.decision_id, A, 10, 4)]


async def test_accumulators__saved__come_back_by_key_and_wider_than_uint256(stored: Database):
    states: dict[Key, State] = {
        ("found", SCALAR): State(UINT256_MAX * 9, 0, 5),
        ("stake", A): State(-3, UINT256_MAX * 86_400, 6),
        ("stake", B): State(4, 5, 6),
    }
    async with stored.begin() as transaction:
        decisions = transaction.decisions
        await decisions.save_accumulators("test", "fees", states)
        assert await decisions.accumulators("test", "fees") == states
        assert await decisions.accumulators("test", "other") == {}
        known = await decisions.accumulators("test", "fees", [("stake", B), ("stake", SCALAR), ("found", A)])
        assert known == {("stake", B): State(4, 5, 6)}
        await decisions.save_accumulators("test", "fees", {("stake", B): State(0, 1, 7)})
        await decisions.save_accumulators("test", "fees", {})
        assert await decisions.accumulators("test", "fees") == {**states, ("stake", B): State(0, 1, 7)}


async def test_sources__of_another_window__count_as_absent(stored: Database):
    source = Source(3, (7, 1), (9, 0))
    async with stored.begin() as transaction:
        await transaction.decisions.save_sources("test", "fees", Window(100, 200), {"fee": source})
        assert await transaction.decisions.sources("test", "fees", Window(100, 200)) == {"fee": source}
        assert await transaction.decisions.sources("test", "fees", Window(200, 300)) == {}


async def test_save_rule__again__only_the_same_text_under_each_version(stored: Database):
    async with stored.begin() as transaction:
        await transaction.decisions.save_rule("test", RULE)
        await transaction.decisions.save_rule("test", version(2, "two"))
        await transaction.decisions.save_rule("test", RULE)
    with pytest.raises(ConfigError, match="raise it to 3"):
        async with stored.begin() as transaction:
            await transaction.decisions.save_rule("test", version(2, "other"))


async def test_save_rule__on_two_chains__each_has_its_own_text_and_versions(stored: Database):
    async with stored.begin() as transaction:
        await transaction.chains.register("other", "evm", "eip155:2", bytes(32), 0)
        decisions = transaction.decisions
        await decisions.save_rule("other", version(RULE.version, "with the addresses of the other chain"))
        await decisions.save_rule("test", version(RULE.version + 1, "newer"))
        assert await decisions.newest_rule("test", RULE.name) == (RULE.version + 1, "newer")
        assert await decisions.newest_rule("other", RULE.name) == (
            RULE.version,
            "with the addresses of the other chain",
        )
        await decisions.save_rule("other", version(RULE.version + 1, "newer"))  # the very same text, too
