"""The shipped rules from log bytes to decision: a scripted chain, real ingest, real decoding, real store."""

import asyncio
from pathlib import Path

import pytest
from eth_abi.abi import encode

from bridge.chains.evm.abi import compile_event
from bridge.chains.fake.chain import Emit, FakeChain
from bridge.chains.fake.reader import FakeReader
from bridge.domain.rules import Token
from bridge.domain.units import Address, AssetId
from bridge.runtime.rulefile import load_rule, parse_rule
from bridge.stages.binding import bind_rules, log_filters
from bridge.stages.decide import Decide
from bridge.stages.ingest import Ingest
from bridge.store.database import Database
from bridge.store.leases import Leases

RULES = Path(__file__).resolve().parents[2] / "rules"
VAULT, POOL, BOOK, USDX, OTHER = (Address(bytes([n]) * 20) for n in (0xAA, 0xBB, 0xCC, 0xDD, 0xEE))
ALICE, BOB = (Address(bytes([n]) * 20) for n in (0xA1, 0xB0))
CONTRACTS = {"vault": VAULT, "pool": POOL, "obligations": BOOK}
TOKENS = {
    "USDX": Token(AssetId("fake:fake/erc20:0x" + USDX.hex()), USDX),
    "USDY": Token(AssetId("fake:fake/erc20:0x" + OTHER.hex()), OTHER),
}
DAY, HOUR = 86_400, 3600
START = 20_000 * DAY


def word(account: bytes) -> bytes:
    return account.rjust(32, b"\0")


def emitted(contract: Address, declaration: str, indexed: list[bytes], amount: int) -> Emit:
    return Emit(contract, (compile_event(declaration).topic0, *map(word, indexed)), encode(["uint256"], [amount]))


def fee(token: Address, amount: int) -> Emit:
    declaration = "FeePaid(address indexed token, address indexed payer, uint256 amount)"
    return emitted(VAULT, declaration, [token, ALICE], amount)


def deposit(account: Address, amount: int) -> Emit:
    return emitted(POOL, "Deposited(address indexed account, uint256 amount)", [account], amount)


def withdrawal(account: Address, amount: int) -> Emit:
    return emitted(POOL, "Withdrawn(address indexed account, uint256 amount)", [account], amount)


@pytest.fixture
def chain() -> FakeChain:
    return FakeChain(genesis_timestamp=START, seconds_per_block=HOUR // 2)


async def test_shipped_rules__logs_of_a_chain__decided_as_their_text_says(database: Database, chain: FakeChain):
    # Of one token, the two would have to share a window.
    buffer = (RULES / "reserve_buffer" / "rule.yaml").read_text().replace("USDX", "USDY")
    plans = [load_rule(RULES / "fee_window" / "rule.yaml"), parse_rule(buffer, name="reserve_buffer")]
    declarations = {event.declaration for plan in plans for event in plan.rule.events.values()}
    reader = FakeReader(chain, {text: compile_event(text) for text in declarations})
    rules = bind_rules(plans, chain=reader, contracts=CONTRACTS, tokens=TOKENS)
    chain.state["balance", VAULT, TOKENS["USDY"].asset] = 53_500_000_000
    chain.answer(BOOK, "total()", words=[500_000_000])
    chain.mine(deposit(ALICE, 300), deposit(BOB, 100), fee(OTHER, 9_000_000), timestamp=START + DAY)
    chain.mine(fee(USDX, 4_000_000), withdrawal(BOB, 100), timestamp=START + DAY + DAY // 2)
    for seconds in range(2 * DAY, 2 * DAY + 6 * HOUR, HOUR):
        chain.mine(timestamp=START + seconds)
    async with database.begin() as transaction:
        await transaction.chains.register(chain.name, "test", reader.reference, await reader.genesis_hash(), 0)
    lease = await Leases(database).acquire("decide:fake", "a test", 60_000)
    assert lease is not None
    ingest = Ingest(database=database, chain=reader, lease=None, filters=log_filters(rules))
    async with asyncio.timeout(30):
        while True:
            async with database.begin() as transaction:
                finalized = await transaction.events.finalized(chain.name)
            if finalized is not None and finalized.number == chain.finalized:
                break
            await ingest.step()
    stage = Decide(database=database, chain=reader, rules=rules, lease=lease)
    async with asyncio.timeout(30):
        while await stage.step():
            pass

    async with database.snapshot() as transaction:
        rows = await transaction.connection.fetch(
            "SELECT rule, recipient, amount FROM allocations JOIN decisions USING (decision_id)"
            " ORDER BY window_end, rule, recipient"
        )
    fees = [(row["recipient"], row["amount"]) for row in rows if row["rule"] == "fee_window"]
    assert fees == [(ALICE, 3_428_571), (BOB, 571_429)]  # 300 for a day, 100 for half of it
    reserve = [row["amount"] for row in rows if row["rule"] == "reserve_buffer"]
    assert reserve == [2_100_000_000, 900_000_000]  # once: 53.5 less 0.5 owed less 50 of floor, in whole lots
