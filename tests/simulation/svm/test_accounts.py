"""Accounts and tokens as the RPC tells them, field by field."""

import base64
from typing import Any

from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.models import TokenAccountOpts
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.token.state import Mint, TokenAccount

from bridge.simulation.svm import base58
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.stage import SOL, Stage, World
from bridge.simulation.svm.tokens import TOKEN_2022_PROGRAM, TOKEN_PROGRAM, ui_amount
from tests.simulation.svm.sending import refused, rich, rpc, settle

RENT_EPOCH = 2**64 - 1


def stage_and_world(node: Node, participants: int = 2) -> tuple[Stage, World]:
    stage = Stage(node.chain)
    world = stage.build_world(participants)
    settle(node)
    return stage, world


async def test_account__a_wallet__has_all_fields(node: Node, client: AsyncClient):
    wallet = rich(node, sol=2).pubkey()
    slot = await rpc(client, "getSlot")
    assert await rpc(client, "getAccountInfo", str(wallet), {"encoding": "base64"}) == {
        "context": {"apiVersion": "3.1.4", "slot": slot},
        "value": {
            "data": ["", "base64"],
            "executable": False,
            "lamports": 2 * SOL,
            "owner": "11111111111111111111111111111111",
            "rentEpoch": RENT_EPOCH,
            "space": 0,
        },
    }
    assert (await rpc(client, "getAccountInfo", str(Keypair().pubkey())))["value"] is None
    assert (await rpc(client, "getBalance", str(Keypair().pubkey())))["value"] == 0
    program = await rpc(client, "getAccountInfo", str(TOKEN_PROGRAM), {"encoding": "base64"})
    assert program["value"]["executable"] is True


async def test_account__encodings_and_slices__are_as_asked(node: Node, client: AsyncClient):
    _, world = stage_and_world(node)
    mint = str(world.tokens[0].mint)
    whole = base64.b64decode((await rpc(client, "getAccountInfo", mint, {"encoding": "base64"}))["value"]["data"][0])
    assert len(whole) == 82
    part = {"offset": 36, "length": 9}
    for encoding, expected in (
        ("base64", [base64.b64encode(whole[36:45]).decode(), "base64"]),
        ("base58", [base58.encode(whole[36:45]), "base58"]),
    ):
        told = await rpc(client, "getAccountInfo", mint, {"encoding": encoding, "dataSlice": part})
        assert told["value"]["data"] == expected
    assert (await rpc(client, "getAccountInfo", mint))["value"]["data"] == base58.encode(whole)
    account = str(world.tokens[0].account_of(world.vault.pubkey()))
    code, message, _ = await refused(client, "getAccountInfo", account, {"encoding": "base58"})
    assert code == -32600
    assert message == "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding."
    assert (await refused(client, "getAccountInfo", account, {"encoding": "hex"}))[0] == -32602


async def test_account__parsed__mints_token_accounts_and_nonces_are_told(node: Node, client: AsyncClient):
    stage, world = stage_and_world(node)
    usdx = world.tokens[0]
    director, vault = str(stage.director.pubkey()), world.vault.pubkey()
    nonce = stage.create_nonce("a", vault)
    stage.freeze(usdx, world.participants[0].pubkey())
    settle(node)

    async def parsed(key: Pubkey) -> dict[str, object]:
        told: dict[str, object] = (await rpc(client, "getAccountInfo", str(key), {"encoding": "jsonParsed"}))["value"]
        return told

    assert (await parsed(usdx.mint))["data"] == {
        "program": "spl-token",
        "space": 82,
        "parsed": {
            "type": "mint",
            "info": {
                "decimals": 6,
                "freezeAuthority": director,
                "isInitialized": True,
                "mintAuthority": director,
                "supply": "1010000000000",
            },
        },
    }
    amount = {"amount": "1000000000000", "decimals": 6, "uiAmount": 1e6, "uiAmountString": "1000000"}
    info = {
        "isNative": False,
        "mint": str(usdx.mint),
        "owner": str(vault),
        "state": "initialized",
        "tokenAmount": amount,
    }
    account = await parsed(usdx.account_of(vault))
    assert account["data"] == {"program": "spl-token", "space": 165, "parsed": {"type": "account", "info": info}}
    assert account["owner"] == str(TOKEN_PROGRAM)
    frozen = await client.get_account_info_json_parsed(usdx.account_of(world.participants[0].pubkey()))
    assert frozen.value is not None
    told_of_frozen: Any = frozen.value.data
    assert told_of_frozen.parsed["info"]["state"] == "frozen"
    told = (await parsed(nonce))["data"]
    assert isinstance(told, dict)
    assert told["program"] == "nonce"
    assert told["parsed"]["info"]["authority"] == str(vault)
    assert (await parsed(vault))["data"] == ["", "base64"]


async def test_account__of_token_2022_with_a_transfer_fee__withholds_at_the_recipient(node: Node, client: AsyncClient):
    stage, world = stage_and_world(node)
    feex, to = world.tokens[2], world.participants[-1].pubkey()
    stage.transfer(feex, world.vault, to, 1_000_000)
    settle(node)
    told = (await rpc(client, "getAccountInfo", str(feex.account_of(to)), {"encoding": "jsonParsed"}))["value"]
    assert told["owner"] == str(TOKEN_2022_PROGRAM)
    assert told["data"]["program"] == "spl-token-2022"
    info = told["data"]["parsed"]["info"]
    assert info["tokenAmount"] == {"amount": "990000", "decimals": 6, "uiAmount": 0.99, "uiAmountString": "0.99"}
    assert {"extension": "transferFeeAmount", "state": {"withheldAmount": 10_000}} in info["extensions"]
    mint = (await rpc(client, "getAccountInfo", str(feex.mint), {"encoding": "jsonParsed"}))["value"]["data"]["parsed"]
    fee = mint["info"]["extensions"][0]
    assert fee["extension"] == "transferFeeConfig"
    assert fee["state"]["newerTransferFee"]["transferFeeBasisPoints"] == 100


async def test_multiple_accounts__of_one_block__and_no_more_than_a_hundred(node: Node, client: AsyncClient):
    wallet = rich(node).pubkey()
    nobody = Keypair().pubkey()
    told = await client.get_multiple_accounts([wallet, nobody])
    assert [None if account is None else account.lamports for account in told.value] == [100 * SOL, None]
    assert len((await client.get_multiple_accounts([wallet] * 100)).value) == 100
    answer = await refused(client, "getMultipleAccounts", [str(wallet)] * 101)
    assert answer[:2] == (-32602, "Too many inputs provided; max 100")


async def test_tokens__balance_supply_and_accounts_of_an_owner__agree(node: Node, client: AsyncClient):
    stage, world = stage_and_world(node)
    usdx, ptsx, feex = world.tokens
    vault, person = world.vault.pubkey(), world.participants[0]
    stage.transfer(usdx, world.vault, person.pubkey(), 1_500_001)
    before = (await client.get_token_account_balance(usdx.account_of(vault), Finalized)).value
    now = (await client.get_token_account_balance(usdx.account_of(vault), Processed)).value
    assert (before.amount, now.amount) == ("1000000000000", "999998499999")
    assert now.ui_amount_string == "999998.499999"
    settle(node)
    supply = (await client.get_token_supply(ptsx.mint)).value
    assert (supply.amount, supply.decimals) == (str(1_010_000 * 10**9), 9)
    by_mint = (await client.get_token_accounts_by_owner(vault, TokenAccountOpts(mint=usdx.mint))).value
    assert [found.pubkey for found in by_mint] == [usdx.account_of(vault)]
    assert TokenAccount.from_bytes(by_mint[0].account.data).amount == 999_998_499_999
    by_program = TokenAccountOpts(program_id=TOKEN_PROGRAM, encoding="jsonParsed")
    found = (await client.get_token_accounts_by_owner_json_parsed(vault, by_program)).value
    assert {item.pubkey for item in found} == {usdx.account_of(vault), ptsx.account_of(vault)}
    other = TokenAccountOpts(program_id=TOKEN_2022_PROGRAM)
    assert [item.pubkey for item in (await client.get_token_accounts_by_owner(vault, other)).value] == [
        feex.account_of(vault)
    ]
    account = (await client.get_account_info(usdx.mint)).value
    assert account is not None
    assert Mint.from_bytes(account.data).decimals == 6


async def test_tokens__what_is_no_token__is_refused(node: Node, client: AsyncClient):
    wallet, nobody = str(rich(node).pubkey()), str(Keypair().pubkey())
    for method, key, message in (
        ("getTokenAccountBalance", nobody, "Invalid param: could not find account"),
        ("getTokenAccountBalance", wallet, "Invalid param: not a Token account"),
        ("getTokenSupply", nobody, "Invalid param: could not find mint"),
        ("getTokenSupply", wallet, "Invalid param: not a Token mint"),
    ):
        assert (await refused(client, method, key))[:2] == (-32602, message)
    unknown = await refused(client, "getTokenAccountsByOwner", wallet, {"programId": nobody})
    assert unknown[:2] == (-32602, "Invalid param: unrecognized Token program id")


async def test_views__an_account_that_was_closed__is_still_there_at_older_commitments(node: Node, client: AsyncClient):
    stage, world = stage_and_world(node)
    ptsx, late = world.tokens[1], world.participants[-1].pubkey()
    stage.mint(ptsx, late, 5)
    choice = {"mint": str(ptsx.mint)}

    async def seen() -> list[int]:
        counts = []
        for commitment in (Processed, Confirmed, Finalized):
            told = await rpc(
                client,
                "getTokenAccountsByOwner",
                str(late),
                choice,
                {"commitment": str(commitment), "encoding": "base64"},
            )
            counts.append(len(told["value"]))
        return counts

    assert await seen() == [1, 0, 0]
    node.chain.advance(2)
    assert await seen() == [1, 1, 0]
    node.chain.fork(3)
    assert await seen() == [0, 0, 0]


def test_ui_amount__edges__are_exact():
    assert ui_amount(0, 6)["uiAmountString"] == "0"
    assert ui_amount(1, 9)["uiAmountString"] == "0.000000001"
    assert ui_amount(2**64 - 1, 9)["uiAmountString"] == "18446744073.709551615"
    assert ui_amount(10, 0) == {"amount": "10", "decimals": 0, "uiAmount": 10.0, "uiAmountString": "10"}
    assert ui_amount(1_500_000, 6)["uiAmountString"] == "1.5"
