"""What only an EVM chain has: tokens, view functions, and contracts that are not there."""

import pytest

from bridge.domain.errors import HoldError
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.simulation.anvil import CHAIN_ID
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
    assert await anvil_world.reader.read_uint(TOKEN, "totalDeposits", after) == 2**256 - 1


async def test_reads__contract_that_is_none_of_that_kind__held_for_a_person(anvil_world: AnvilWorld):
    await anvil_world.mine(0)
    at = await pinned(anvil_world)
    with pytest.raises(HoldError, match="balanceOf"):
        await anvil_world.reader.balance(ACCOUNT, erc20(anvil_world.emitter), at)
    with pytest.raises(HoldError, match=r"total\(\)"):
        await anvil_world.reader.read_uint(ACCOUNT, "total", at)


async def test_check__a_working_node__passes(anvil_world: AnvilWorld):
    await anvil_world.reader.check()
