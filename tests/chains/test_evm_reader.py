"""What only an EVM chain has: tokens, view functions, price feeds, and contracts that are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.chains.evm.aggregator import Aggregators
from bridge.chains.evm.contracts import Artifact
from bridge.domain.errors import ChainDisagrees, HoldError
from bridge.domain.events import Block
from bridge.domain.prices import PriceFrom, PriceInput
from bridge.domain.readings import Reading
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.runtime.clock import SystemClock
from bridge.simulation.anvil import CHAIN_ID
from bridge.stages.prices import PriceSources, read_price
from tests.chains.world import ACCOUNT, AnvilWorld

# Returns its own first storage slot, whatever is called: `mem[0] = sload(0); return mem[0:32]`.
COUNTER = bytes.fromhex("60005460005260206000f3")
TOKEN = Address(b"\x70" * 20)


async def pinned(world: AnvilWorld) -> BlockStamp:
    block = (await world.chain())[-1]
    return BlockStamp(world.reader.name, block.number, block.hash)


def erc20(address: Address) -> AssetId:
    return AssetId(f"eip155:{CHAIN_ID}/erc20:0x{address.hex()}")


async def test_balance__token_deployed_later__nobody_holds_it_before(anvil_world: AnvilWorld):
    await anvil_world.mine(0)
    before = await pinned(anvil_world)
    await anvil_world.mine(0)
    await anvil_world.anvil.call("anvil_setCode", "0x" + TOKEN.hex(), "0x" + COUNTER.hex())
    await anvil_world.anvil.call(
        "anvil_setStorageAt", "0x" + TOKEN.hex(), "0x0", "0x" + (2**256 - 1).to_bytes(32).hex()
    )
    await anvil_world.mine(0)
    after = await pinned(anvil_world)
    assert await anvil_world.reader.balance(ACCOUNT, erc20(TOKEN), before) == 0
    assert await anvil_world.reader.balance(ACCOUNT, erc20(TOKEN), after) == 2**256 - 1
    assert await anvil_world.reader.read_call(TOKEN, "totalDeposits()", [], after) == (2**256 - 1,)


async def test_reads__contract_that_is_none_of_that_kind__held_for_a_person(anvil_world: AnvilWorld):
    await anvil_world.mine(0)
    at = await pinned(anvil_world)
    with pytest.raises(HoldError, match="balanceOf"):
        await anvil_world.reader.balance(ACCOUNT, erc20(anvil_world.emitter), at)
    assert await anvil_world.reader.read_call(ACCOUNT, "total()", [], at) is None


async def test_check__a_working_node__passes(anvil_world: AnvilWorld):
    await anvil_world.reader.check()


class Feed:
    """A sandbox aggregator on a real chain."""

    def __init__(self, world: AnvilWorld, sender: str) -> None:
        self.world = world
        self.address = Address(bytes(20))
        self.price = PriceInput("WETH", "USDX", 18, 6, PriceFrom("eth_usd", max_age_s=600))
        self._sender = sender
        self._artifact = Artifact.load("Aggregator")

    @classmethod
    async def create(cls, world: AnvilWorld) -> Feed:
        (sender,) = await world.anvil.call("eth_accounts")
        feed = cls(world, sender)
        hash_ = await feed._send({"data": "0x" + feed._artifact.creation("ETH / USD", 8).hex()})
        await world.mine(0)
        receipt = await world.anvil.call("eth_getTransactionReceipt", hash_)
        feed.address = Address(bytes.fromhex(receipt["contractAddress"][2:]))
        return feed

    async def push(self, *arguments: int) -> None:
        """In the next block; (answer) or (answer, when it was updated)."""
        data = self._artifact.call("push" if len(arguments) == 1 else "pushAt", *arguments)
        await self._send({"to": "0x" + self.address.hex(), "data": "0x" + data.hex()})

    async def _send(self, transaction: dict[str, str]) -> str:
        hash_: str = await self.world.anvil.call(
            "eth_sendTransaction", transaction | {"from": self._sender, "gas": hex(2_000_000)}
        )
        return hash_

    async def read(self, at: Block, *, average_s: int = 0) -> Reading:
        first = replace(self.price.first, average_s=average_s)
        sources = PriceSources(Aggregators(self.world.reader), {}, SystemClock())
        return await read_price(replace(self.price, first=first), sources, {"eth_usd": self.address}, at)


async def test_aggregator__pinned_to_its_block__as_it_was_then(anvil_world: AnvilWorld):
    feed = await Feed.create(anvil_world)
    empty = (await anvil_world.chain())[-1]
    await feed.push(2_000 * 10**8)
    await anvil_world.mine(0)
    first = (await anvil_world.chain())[-1]
    await feed.push(3_000 * 10**8)
    await anvil_world.mine(0)
    await feed.push(-1)
    await anvil_world.mine(0)
    *_, second, broken = await anvil_world.chain()
    assert "no round" in str((await feed.read(empty)).problem)
    assert (await feed.read(first)).value == 2_000 * 10**24
    assert (await feed.read(second)).value == 3_000 * 10**24
    assert (await feed.read(second)).parts["updated_at"] == str(second.timestamp)
    assert "answer of round 3 is -1" in str((await feed.read(broken)).problem)


async def test_aggregator__average__weighted_by_the_seconds_of_each_round(anvil_world: AnvilWorld):
    feed = await Feed.create(anvil_world)
    now = (await anvil_world.chain())[-1].timestamp + 1
    for dollars, age_s in ((1_000, 150), (2_000, 75), (4_000, 25)):
        await feed.push(dollars * 10**8, now - age_s)
    await anvil_world.mine(0)
    block = (await anvil_world.chain())[-1]
    assert block.timestamp == now
    reading = await feed.read(block, average_s=100)
    assert (reading.value, reading.problem) == ((25 * 1_000 + 50 * 2_000 + 25 * 4_000) * 10**24 // 100, None)
    assert reading.parts["rounds"].startswith(f"3:400000000000@{now - 25} 2:")
    assert "the round before 1 is missing" in str((await feed.read(block, average_s=151)).problem)


async def test_aggregator__block_that_was_replaced__no_price(anvil_world: AnvilWorld):
    feed = await Feed.create(anvil_world)
    await feed.push(2_000 * 10**8)
    await anvil_world.mine(0)
    orphan = (await anvil_world.chain())[-1]
    await anvil_world.fork(1, 0, 0)
    with pytest.raises(ChainDisagrees):
        await feed.read(orphan)
