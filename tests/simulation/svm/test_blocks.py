"""Blocks, slots and time as the RPC tells them, field by field."""

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solders.keypair import Keypair

from bridge.simulation.svm.chain import CLOCK_SYSVAR
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import SOL
from tests.simulation.svm.sending import SETTINGS, giving, land, refused, rich, rpc, settle, signed


async def test_block__with_a_transaction__has_all_fields(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    parent = node.chain.head
    transaction = signed(parent.hash, [giving(wallet, to, SOL)], wallet, legacy=True)
    record = land(node, transaction)
    assert record is not None
    node.chain.advance(6)
    block = await rpc(client, "getBlock", record.slot)
    following = await rpc(client, "getBlock", record.slot + 1)
    message = transaction.message
    data = "3Bxs3zzLZLuLQEYX"  # a transfer of 10^9 lamports
    assert block == {
        "blockHeight": parent.height + 1,
        "blockTime": SETTINGS.genesis_time + (record.slot - SETTINGS.first_slot) * 400 // 1000,  # type: ignore[operator]
        "blockhash": following["previousBlockhash"],
        "parentSlot": parent.slot,
        "previousBlockhash": str(parent.hash),
        "rewards": [],
        "transactions": [
            {
                "meta": {
                    "computeUnitsConsumed": 150,
                    "err": None,
                    "fee": 5000,
                    "innerInstructions": [],
                    "loadedAddresses": {"readonly": [], "writable": []},
                    "logMessages": [
                        "Program 11111111111111111111111111111111 invoke [1]",
                        "Program 11111111111111111111111111111111 success",
                    ],
                    "postBalances": [99 * SOL - 5000, SOL, 1],
                    "postTokenBalances": [],
                    "preBalances": [100 * SOL, 0, 1],
                    "preTokenBalances": [],
                    "rewards": [],
                    "status": {"Ok": None},
                },
                "transaction": {
                    "message": {
                        "accountKeys": [str(wallet.pubkey()), str(to), "1" * 32],
                        "header": {
                            "numReadonlySignedAccounts": 0,
                            "numReadonlyUnsignedAccounts": 1,
                            "numRequiredSignatures": 1,
                        },
                        "instructions": [{"accounts": [0, 1], "data": data, "programIdIndex": 2, "stackHeight": 1}],
                        "recentBlockhash": str(message.recent_blockhash),
                    },
                    "signatures": [str(transaction.signatures[0])],
                },
            }
        ],
    }
    typed = (await client.get_block(record.slot, max_supported_transaction_version=0)).value
    assert typed is not None
    assert str(typed.blockhash) == block["blockhash"]


async def test_block__details__are_as_asked(node: Node, client: AsyncClient):
    wallet = rich(node)
    record = land(node, signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet))
    assert record is not None
    settle(node)
    slot = record.slot
    signatures = await rpc(client, "getBlock", slot, {"transactionDetails": "signatures", "rewards": False})
    assert signatures["signatures"] == [record.signature]
    assert not {"transactions", "rewards"} & set(signatures)
    none = await rpc(client, "getBlock", slot, {"transactionDetails": "none"})
    assert not {"transactions", "signatures"} & set(none)
    options = {"transactionDetails": "accounts", "maxSupportedTransactionVersion": 0}
    accounts = (await rpc(client, "getBlock", slot, options))["transactions"][0]
    assert accounts["version"] == 0
    assert accounts["transaction"]["accountKeys"][0] == {
        "pubkey": str(wallet.pubkey()),
        "signer": True,
        "source": "transaction",
        "writable": True,
    }
    assert (await refused(client, "getBlock", slot))[0] == -32015
    assert (await refused(client, "getBlock", slot, {"transactionDetails": "some"}))[0] == -32602


async def test_block__what_is_not_there__depends_on_why():
    settings = Settings(
        timer=False, confirmed_depth=2, finalized_depth=5, skipped_slots=frozenset({1003, 1011}), blocks_kept=405
    )
    async with Node.serve(settings) as node, AsyncClient(node.rpc_url, http2=False) as client:
        node.chain.advance(14)
        levels = ("finalized", "confirmed", "processed")
        assert [await rpc(client, "getSlot", {"commitment": level}) for level in levels] == [1008, 1012, 1014]
        assert await refused(client, "getBlock", 1003) == (
            -32007,
            "Slot 1003 was skipped, or missing due to ledger jump to recent snapshot",
            None,
        )
        assert await refused(client, "getBlockTime", 1003) == await refused(client, "getBlock", 1003)
        node.faults.archive = True
        assert await refused(client, "getBlock", 1003) == (
            -32009,
            "Slot 1003 was skipped, or missing in long-term storage",
            None,
        )
        for slot in (1009, 1020):
            assert await refused(client, "getBlock", slot) == (-32004, f"Block not available for slot {slot}", None)
        confirmed_too = {"commitment": "confirmed"}
        assert (await rpc(client, "getBlock", 1009, confirmed_too))["blockHeight"] == 9
        for slot in (1011, 1013):
            assert (await refused(client, "getBlock", slot, confirmed_too))[0] == -32004
        node.chain.advance(900)
        code, message, _ = await refused(client, "getBlock", 1001)
        first = await rpc(client, "getFirstAvailableBlock")
        assert (code, message) == (
            -32001,
            f"Block 1001 cleaned up, does not exist on node. First available block: {first}",
        )
        assert 1001 < first == await rpc(client, "minimumLedgerSlot")


async def test_blocks__ranges__leave_skipped_slots_out():
    settings = Settings(timer=False, confirmed_depth=2, finalized_depth=5, skipped_slots=frozenset({1003, 1006}))
    async with Node.serve(settings) as node, AsyncClient(node.rpc_url, http2=False) as client:
        node.chain.advance(12)
        assert (await client.get_blocks(1001, 1005)).value == [1001, 1002, 1004, 1005]
        assert (await client.get_blocks(1005)).value == [1005, 1007]
        confirmed = {"commitment": "confirmed"}
        assert await rpc(client, "getBlocks", 1005, confirmed) == [1005, 1007, 1008, 1009, 1010]
        assert await rpc(client, "getBlocks", 1005, 1008, confirmed) == [1005, 1007, 1008]
        assert await rpc(client, "getBlocks", 1005, 1004) == []
        assert await rpc(client, "getBlocksWithLimit", 1002, 3) == [1002, 1004, 1005]
        assert (await refused(client, "getBlocks", 0, 500_001))[:2] == (-32602, "Slot range too large; max 500000")
        assert (await refused(client, "getBlocksWithLimit", 0, 500_001))[0] == -32602
        heights = [block.height for block in node.chain.blocks]
        assert heights == list(range(1, len(heights) + 1))


@pytest.mark.parametrize("method", ["getBlock", "getBlocks", "getBlocksWithLimit"])
async def test_processed__for_what_is_read_from_the_ledger__is_refused(node: Node, client: AsyncClient, method: str):
    slot = node.chain.head.slot
    numbers = [slot, 5] if method == "getBlocksWithLimit" else [slot]
    answer = await refused(client, method, *numbers, {"commitment": "processed"})
    assert answer[:2] == (-32602, "Method does not support commitment below `confirmed`")


async def test_time__of_blocks_and_of_programs__goes_on_with_the_slots(node: Node, client: AsyncClient):
    node.chain.advance(20)
    times = [await rpc(client, "getBlockTime", block.slot) for block in node.chain.blocks]
    assert (await client.get_block_time(node.chain.head.slot)).value == times[-1]
    assert times == sorted(times)
    assert times[10] == SETTINGS.genesis_time + 4  # type: ignore[operator]
    account = node.chain.machine.read(CLOCK_SYSVAR)
    assert account is not None
    assert int.from_bytes(account.data[:8], "little") == node.chain.head.slot
    assert int.from_bytes(account.data[32:40], "little") == times[-1]
    finalized = node.chain.account(CLOCK_SYSVAR, node.chain.blocks[-6])
    assert finalized is not None
    assert int.from_bytes(finalized.data[:8], "little") == node.chain.blocks[-6].slot


async def test_cluster__where_the_chain_stands__is_told(node: Node, client: AsyncClient):
    rich(node)
    assert (await client.is_connected()) is True
    assert set(await rpc(client, "getVersion")) == {"feature-set", "solana-core"}
    assert (await client.get_version()).value.solana_core == "3.1.4"
    assert (await client.get_genesis_hash()).value == node.chain.genesis_hash
    slots = [(await client.get_slot(level)).value for level in (Processed, Confirmed, Finalized)]
    head = slots[0]
    assert slots == [head, head - 2, head - 5]
    assert (await client.get_block_height(Finalized)).value == node.chain.head.height - 5
    info = await rpc(client, "getEpochInfo", {"commitment": "processed"})
    assert info == {
        "absoluteSlot": head,
        "blockHeight": node.chain.head.height,
        "epoch": 0,
        "slotIndex": head,
        "slotsInEpoch": 432_000,
        "transactionCount": node.chain.landed,
    }
    assert (await client.get_transaction_count(Processed)).value == node.chain.landed
    assert (await client.get_epoch_info()).value.absolute_slot == slots[2]


async def test_requests__that_make_no_sense__are_refused_as_documented(node: Node, client: AsyncClient):
    assert (await refused(client, "getNothing"))[:2] == (-32601, "Method not found")
    assert (await refused(client, "getBalance", "abc"))[:2] == (-32602, "Invalid param: WrongSize")
    assert (await refused(client, "getBalance", "0OIl"))[:2] == (-32602, "Invalid param: Invalid")
    assert (await refused(client, "getBalance"))[:2] == (-32602, "`params` should have at least 1 argument(s)")
    assert (await refused(client, "getSlot", {"commitment": "max"}))[0] == -32602
    assert (await refused(client, "getBlock", "5"))[0] == -32602
    assert (await refused(client, "getBlock", -1))[0] == -32602
    assert (await refused(client, "getSignatureStatuses", ["abc"]))[:2] == (-32602, "Invalid param: WrongSize")
