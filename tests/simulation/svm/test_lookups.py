"""Lookup tables on the local chain: their life, from when their entries count, and how the RPC tells of them."""

from __future__ import annotations

import base64

import pytest
import solders.system_program as system
from solana.rpc.async_api import AsyncClient
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from bridge.domain.errors import RefusedError
from bridge.simulation.svm import base58
from bridge.simulation.svm.chain import Fate
from bridge.simulation.svm.lookups import read_table
from bridge.simulation.svm.machine import SLOT_HASHES_KEPT
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.stage import SOL, Stage, transfer_checked
from bridge.simulation.svm.transactions import parse
from tests.simulation.svm.sending import giving, refused, rich, rpc, settle

OPTIONS = {"maxSupportedTransactionVersion": 0}
NEVER = str(2**64 - 1)
GONE = "invalid transaction: Transaction loads an address table account that doesn't exist"


def people(count: int) -> list[Pubkey]:
    return [Keypair().pubkey() for _ in range(count)]


def extend(stage: Stage, table: Pubkey, addresses: list[Pubkey]) -> Instruction:
    director = stage.director.pubkey()
    return system.extend_lookup_table(
        system.ExtendLookupTableParams(
            lookup_table_address=table, authority_address=director, payer_address=director, new_addresses=addresses
        )
    )


def end(stage: Stage, table: Pubkey) -> Instruction:
    director = stage.director.pubkey()
    return system.deactivate_lookup_table(
        system.DeactivateLookupTableParams(lookup_table_address=table, authority_address=director)
    )


def close(stage: Stage, table: Pubkey, to: Pubkey) -> Instruction:
    director = stage.director.pubkey()
    return system.close_lookup_table(
        system.CloseLookupTableParams(lookup_table_address=table, authority_address=director, recipient_address=to)
    )


def through(node: Node, wallet: Keypair, table: AddressLookupTableAccount, to: Pubkey) -> VersionedTransaction:
    message = MessageV0.try_compile(wallet.pubkey(), [giving(wallet, to, SOL)], [table], node.chain.head.hash)
    assert len(message.address_table_lookups) == 1
    return VersionedTransaction(message, [wallet])


def encoded(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


async def simulated(client: AsyncClient, transaction: VersionedTransaction) -> object:
    told = await rpc(
        client, "simulateTransaction", encoded(transaction), {"encoding": "base64", "commitment": "processed"}
    )
    return told["value"]["err"]


async def test_table__through_its_life__account_info_says_each_field(node: Node, client: AsyncClient):
    stage = Stage(node.chain)
    first, second = people(3), people(2)
    table = stage.create_lookup_table(first)
    made_in = node.chain.head.slot
    config = {"encoding": "jsonParsed", "commitment": "processed"}

    async def told() -> dict[str, object]:
        account = (await rpc(client, "getAccountInfo", str(table.key), config))["value"]
        assert account["owner"] == "AddressLookupTab1e1111111111111111111111111"
        assert account["lamports"] == (128 + account["space"]) * 6960, "an entry costs 32 bytes of rent"
        data = account["data"]
        assert (data["program"], data["parsed"]["type"]) == ("address-lookup-table", "lookupTable")
        assert data["space"] == account["space"] == 56 + 32 * len(data["parsed"]["info"]["addresses"])
        info: dict[str, object] = data["parsed"]["info"]
        return info

    info = {
        "deactivationSlot": NEVER,
        "lastExtendedSlot": str(made_in),
        "lastExtendedSlotStartIndex": 0,
        "authority": str(stage.director.pubkey()),
        "addresses": [*map(str, first)],
    }
    assert await told() == info
    stage.perform([extend(stage, table.key, second)], stage.director)
    grown_in = node.chain.head.slot
    info |= {
        "lastExtendedSlot": str(grown_in),
        "lastExtendedSlotStartIndex": 3,
        "addresses": [*map(str, [*first, *second])],
    }
    assert await told() == info
    stage.perform([end(stage, table.key)], stage.director)
    info |= {"deactivationSlot": str(node.chain.head.slot)}
    assert await told() == info
    raw = (await rpc(client, "getAccountInfo", str(table.key), {**config, "encoding": "base64"}))["value"]["data"][0]
    assert base64.b64decode(raw)[56:] == b"".join(map(bytes, [*first, *second]))
    node.chain.fork(2, Fate.DROPPED)
    info |= {"deactivationSlot": NEVER, "lastExtendedSlot": str(made_in), "lastExtendedSlotStartIndex": 0}
    assert await told() == info | {"addresses": [*map(str, first)]}, "as if none of it had been"


async def test_entries__of_the_same_slot__count_from_the_next_one_on(node: Node, client: AsyncClient):
    wallet, stage = rich(node), Stage(node.chain)
    old, new = people(2)
    table = stage.create_lookup_table([old])
    stage.perform([extend(stage, table.key, [new])], stage.director)
    grown = AddressLookupTableAccount(table.key, [old, new])
    transaction = through(node, wallet, grown, new)
    code, text, _ = await refused(
        client, "simulateTransaction", encoded(transaction), {"encoding": "base64", "commitment": "processed"}
    )
    assert (code, text) == (-32602, "invalid transaction: Transaction address table lookup uses an invalid index")
    assert await simulated(client, through(node, wallet, table, old)) is None, "those of before do count"
    node.chain.advance_blocks()
    assert await simulated(client, through(node, wallet, grown, new)) is None


async def test_deactivated__good_for_as_long_as_its_end_is_recent__then_closed(node: Node, client: AsyncClient):
    wallet, stage = rich(node), Stage(node.chain)
    [to] = people(1)
    table = stage.create_lookup_table([to])
    node.chain.advance_blocks()
    stage.perform([end(stage, table.key)], stage.director)
    ended = node.chain.head.height
    assert await simulated(client, through(node, wallet, table, to)) is None
    closing = close(stage, table.key, wallet.pubkey())
    with pytest.raises(RefusedError, match="InvalidArgument"):
        stage.perform([closing], stage.director)
    node.chain.advance_blocks(SLOT_HASHES_KEPT - (node.chain.head.height - ended))
    assert await simulated(client, through(node, wallet, table, to)) is None
    node.chain.submit(parse(bytes(through(node, wallet, table, to))))
    assert node.chain.advance_blocks()[0].records == [], "the block after does not know that slot any more"
    late, options = through(node, wallet, table, to), {"encoding": "base64", "preflightCommitment": "processed"}
    assert (await refused(client, "sendTransaction", encoded(late), options))[:2] == (-32602, GONE)
    held = node.chain.machine.read(wallet.pubkey())
    record = stage.perform([closing], stage.director)
    after = node.chain.machine.read(wallet.pubkey())
    assert held is not None
    assert after is not None
    assert after.lamports - held.lamports == (128 + 56 + 32) * 6960, "all of the rent comes back"
    assert node.chain.machine.read(table.key) is None
    assert table.key in record.loaded.keys
    node.chain.fork(1)
    assert read_table(node.chain.machine.read(table.key)) is not None


async def test_transaction__through_a_table__told_alike_in_every_encoding_and_found_by_each_account(
    node: Node, client: AsyncClient
):
    wallet, stage = rich(node), Stage(node.chain)
    token = stage.create_token("USDX", 6)
    stage.mint(token, wallet.pubkey(), 500)
    [to] = people(1)
    stage.open_account(token, to)
    source, target = token.account_of(wallet.pubkey()), token.account_of(to)
    entries = [target, token.mint, to, source]
    table = stage.create_lookup_table(entries)
    node.chain.advance_blocks()
    record = stage.perform(
        [giving(wallet, to, SOL), transfer_checked(token, wallet.pubkey(), to, 7)], wallet, tables=[table]
    )
    settle(node)
    static = [str(key) for key in record.wire.message.account_keys]
    written = sorted((target, to, source), key=bytes)
    writable, readonly = [*map(str, written)], [str(token.mint)]
    assert not {*writable, *readonly} & {*static}

    told = await rpc(client, "getTransaction", record.signature, OPTIONS)
    message, meta = told["transaction"]["message"], told["meta"]
    assert message["accountKeys"] == static
    assert message["addressTableLookups"] == [
        {"accountKey": str(table.key), "writableIndexes": [*map(entries.index, written)], "readonlyIndexes": [1]}
    ]
    assert meta["loadedAddresses"] == {"writable": writable, "readonly": readonly}
    keys = [*static, *writable, *readonly]
    assert len(meta["preBalances"]) == len(meta["postBalances"]) == len(keys)
    holders = [keys[entry["accountIndex"]] for entry in meta["postTokenBalances"]]
    assert holders == [str(key) for key in written if key != to]
    changed = {entry["owner"]: entry["uiTokenAmount"]["amount"] for entry in meta["postTokenBalances"]}
    assert changed == {str(to): "7", str(wallet.pubkey()): "493"}
    transfer = message["instructions"][1]
    assert [keys[index] for index in transfer["accounts"]] == [
        str(key) for key in (source, token.mint, target, wallet.pubkey())
    ]

    raw = bytes(record.wire.transaction)
    for encoding, value in {
        "base64": [base64.b64encode(raw).decode(), "base64"],
        "base58": [base58.encode(raw), "base58"],
    }.items():
        same = await rpc(client, "getTransaction", record.signature, {**OPTIONS, "encoding": encoding})
        assert (same["transaction"], same["meta"]) == (value, meta)
    parsed = await rpc(client, "getTransaction", record.signature, {**OPTIONS, "encoding": "jsonParsed"})
    assert "loadedAddresses" not in parsed["meta"]
    listed = parsed["transaction"]["message"]["accountKeys"]
    assert [each["pubkey"] for each in listed] == keys
    assert [each["source"] for each in listed] == ["transaction"] * len(static) + ["lookupTable"] * 4
    assert [each["writable"] for each in listed][-4:] == [True, True, True, False]
    assert not any(each["signer"] for each in listed[1:])
    block = await rpc(client, "getBlock", record.slot, {**OPTIONS, "transactionDetails": "accounts"})
    assert block["transactions"][0]["transaction"]["accountKeys"] == listed

    for account in (target, to, source, token.mint, table.key):
        newest = (await rpc(client, "getSignaturesForAddress", str(account)))[0]
        named = newest["signature"] == record.signature
        assert named == (account != table.key), "accounts that are looked up are in the index; the table is not"
