"""Each switch, as a client meets it."""

import asyncio
import base64
import random
import time
from typing import Any

import aiohttp
import httpx2
import orjson
import pytest
from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solders.keypair import Keypair

from bridge.domain.errors import ConfigError
from bridge.simulation.svm.chain import Commitment
from bridge.simulation.svm.faults import Fault, Faults, Kind
from bridge.simulation.svm.methods import METHODS
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.stage import SOL
from tests.simulation.svm.sending import UNCHECKED, giving, land, refused, rich, rpc, settle, signed


async def post(node: Node, body: object) -> tuple[int, str | None, str]:
    async with aiohttp.ClientSession() as http, http.post(node.rpc_url, json=body) as response:
        return response.status, response.headers.get("Retry-After"), await response.text()


async def test_drop__the_next_transactions__are_accepted_and_lost(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    node.faults.drop_next = 1
    lost, landed = (signed(node.chain.head.hash, [giving(wallet, to, SOL + extra)], wallet) for extra in range(2))
    for transaction in (lost, landed):
        await client.send_transaction(transaction, UNCHECKED)
    node.chain.advance(3)
    statuses = (await client.get_signature_statuses([lost.signatures[0], landed.signatures[0]])).value
    assert [status is not None for status in statuses] == [False, True]
    await client.send_transaction(lost, UNCHECKED)
    node.chain.advance()
    assert (await client.get_balance(to, Processed)).value == 2 * SOL + 1


async def test_drop__by_chance__loses_about_that_share(node: Node, client: AsyncClient):
    wallet = rich(node)
    node.faults.drop_per_mille = 500
    for _ in range(40):
        transaction = signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet)
        await client.send_transaction(transaction, UNCHECKED)
    [block] = node.chain.advance()
    assert 5 < len(block.records) < 35


async def test_delay__of_slots__lets_transactions_land_later(node: Node, client: AsyncClient):
    wallet = rich(node)
    node.faults.delay_slots = 3
    await client.send_transaction(
        signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet), UNCHECKED
    )
    assert [len(block.records) for block in node.chain.advance(5)] == [0, 0, 0, 1, 0]


async def test_error__for_one_method__is_answered_as_often_as_ordered(node: Node, client: AsyncClient):
    node.faults.requests.append(
        Fault(Kind.ERROR, "getSlot", 2, code=-32005, message="Node is behind by 42 slots", data={"numSlotsBehind": 42})
    )
    assert await rpc(client, "getHealth") == "ok"
    for _ in range(2):
        assert await refused(client, "getSlot") == (-32005, "Node is behind by 42 slots", {"numSlotsBehind": 42})
    assert await rpc(client, "getSlot") == node.chain.newest(Commitment.FINALIZED).slot


async def test_rate_limit__says_when_to_come_back(node: Node, client: AsyncClient):
    node.faults.requests += [Fault(Kind.RATE_LIMIT, retry_after_s=7) for _ in range(2)]
    request = {"jsonrpc": "2.0", "id": 1, "method": "getSlot"}
    status, retry_after, _ = await post(node, request)
    assert (status, retry_after) == (429, "7")
    with pytest.raises(SolanaRpcException) as caught:
        await client.get_slot()
    cause = caught.value.__cause__
    assert isinstance(cause, httpx2.HTTPStatusError)
    assert cause.response.status_code == 429
    assert (await post(node, request))[0] == 200


async def test_lost_answer__to_a_send__lands_all_the_same(node: Node):
    wallet, to = rich(node), Keypair().pubkey()
    transaction = signed(node.chain.head.hash, [giving(wallet, to, SOL)], wallet)
    node.faults.requests.append(Fault(Kind.LOSE_ANSWER, "sendTransaction", 2))
    async with AsyncClient(node.rpc_url, http2=False) as client:
        with pytest.raises(SolanaRpcException):
            await client.send_transaction(transaction, UNCHECKED)  # the client tries twice by itself
        settle(node)
        node.chain.advance()
        assert (await client.get_balance(to, Finalized)).value == SOL
    assert node.faults.requests == []


async def test_closed_connection__before_the_send__lands_nothing(node: Node, client: AsyncClient):
    wallet = rich(node)
    transaction = signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet)
    node.faults.requests.append(Fault(Kind.CLOSE, "sendTransaction", None))
    with pytest.raises(SolanaRpcException):
        await client.send_transaction(transaction, UNCHECKED)
    node.faults.clear()
    assert node.chain.advance()[0].records == []


async def test_hang_slow_and_garbage__are_what_they_say(node: Node, client: AsyncClient):
    node.faults.requests.append(Fault(Kind.HANG, "getSlot", None))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.get_slot(), 0.2)
    node.faults.clear()
    node.faults.requests.append(Fault(Kind.SLOW, "getSlot", delay_ms=150))
    begun = time.monotonic()
    assert (await client.get_slot(Processed)).value == node.chain.head.slot
    assert time.monotonic() - begun >= 0.14
    node.faults.requests.append(Fault(Kind.GARBAGE))
    assert (await post(node, {"jsonrpc": "2.0", "id": 1, "method": "getSlot"}))[2].startswith("<html>")


async def test_lag__sees_the_chain_as_it_was_but_passes_on_what_is_sent(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    settle(node)
    async with node.join() as late, AsyncClient(late.rpc_url, http2=False) as late_client:
        late.faults.lag_blocks = 4
        blockhash = (await late_client.get_latest_blockhash(Confirmed)).value.blockhash
        sent = signed(blockhash, [giving(wallet, to, SOL)], wallet)
        await late_client.send_transaction(sent, UNCHECKED)
        node.chain.advance(3)
        signature = sent.signatures[0]
        for level in (Processed, Confirmed, Finalized):
            ahead, behind = (await client.get_slot(level)).value, (await late_client.get_slot(level)).value
            assert ahead - behind == 4
        assert (await client.get_balance(to, Confirmed)).value == SOL
        assert (await late_client.get_balance(to, Processed)).value == 0
        for searching in (False, True):
            told = await late_client.get_signature_statuses([signature], search_transaction_history=searching)
            assert told.value == [None]
        assert (await late_client.get_signatures_for_address(to, commitment=Confirmed)).value == []
        assert await rpc(late_client, "getHealth") == "ok", "it does not know"
        late.faults.unhealthy = True
        assert await refused(late_client, "getHealth") == (-32005, "Node is behind by 4 slots", {"numSlotsBehind": 4})
        node.chain.advance(4)
        assert (await late_client.get_balance(to, Confirmed)).value == SOL


async def test_amnesia__of_what_was_before_a_slot__leaves_balances(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    record = land(node, signed(node.chain.head.hash, [giving(wallet, to, SOL)], wallet))
    assert record is not None
    settle(node)
    node.faults.forgotten_before_slot = record.slot + 1
    address, signature = str(to), record.signature
    searching = {"searchTransactionHistory": True}
    assert (await rpc(client, "getSignatureStatuses", [signature], searching))["value"] == [None]
    assert await rpc(client, "getTransaction", signature) is None
    assert await rpc(client, "getSignaturesForAddress", address) == []
    assert (await refused(client, "getBlock", record.slot))[0] == -32001
    assert (await client.get_balance(to)).value == SOL
    node.faults.clear()
    assert len(await rpc(client, "getSignaturesForAddress", address)) == 1


async def test_history__not_kept_or_not_written_yet__is_refused(node: Node, client: AsyncClient):
    wallet = rich(node)
    record = land(node, signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet))
    assert record is not None
    node.chain.advance(2)
    confirmed = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    node.faults.unwritten_blocks = 3
    answer = await refused(client, "getBlock", record.slot, confirmed)
    assert answer == (-32014, f"Block status not yet available for slot {record.slot}", None)
    assert await rpc(client, "getTransaction", record.signature, confirmed) is None
    node.faults.unwritten_blocks = 0
    assert await rpc(client, "getTransaction", record.signature, confirmed) is not None
    node.faults.no_history = True
    for method, parameter in (
        ("getBlock", record.slot),
        ("getTransaction", record.signature),
        ("getSignaturesForAddress", str(wallet.pubkey())),
    ):
        assert await refused(client, method, parameter, confirmed) == (
            -32011,
            "Transaction history is not available from this node",
            None,
        )
    assert (await rpc(client, "getSignatureStatuses", [record.signature]))["value"][0]["slot"] == record.slot
    searching = {"searchTransactionHistory": True}
    assert (await refused(client, "getSignatureStatuses", [record.signature], searching))[0] == -32011


async def test_unhealthy__preflight_is_refused_and_the_rest_works(node: Node, client: AsyncClient):
    wallet = rich(node)
    settle(node)
    transaction = signed(
        node.chain.newest(Commitment.FINALIZED).hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet
    )
    node.faults.unhealthy = True
    assert (await refused(client, "getHealth"))[:2] == (-32005, "Node is unhealthy")
    with pytest.raises(Exception, match="unhealthy"):
        await client.send_transaction(transaction)
    await client.send_transaction(transaction, UNCHECKED)
    assert len(node.chain.advance()[0].records) == 1


async def test_batch__many_requests_in_one__are_answered_in_order(node: Node):
    batch = [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "getSlot",
            "params": [{"commitment": "processed", "minContextSlot": None}],
        },
        {"jsonrpc": "2.0", "id": "b", "method": "getNothing"},
        {"jsonrpc": "1.0", "id": 3},
    ]
    async with aiohttp.ClientSession() as http:
        async with http.post(node.rpc_url, json=batch) as response:
            first, second, third = await response.json()
        assert first == {"jsonrpc": "2.0", "id": 1, "result": node.chain.head.slot}
        assert second == {"jsonrpc": "2.0", "id": "b", "error": {"code": -32601, "message": "Method not found"}}
        assert third["error"]["code"] == -32600
        for body, code in ((b"[]", -32600), (b"{", -32700)):
            async with http.post(node.rpc_url, data=body) as response:
                assert (await response.json())["error"]["code"] == code
        async with http.post(node.rpc_url, data=b"x" * 60_000) as response:
            assert response.status == 413
        async with http.get(node.rpc_url + "/health") as response:
            assert await response.text() == "ok"


async def test_requests__of_junk__are_answered_each_and_never_break_the_node(node: Node):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    wallet = rich(node)
    record = land(node, signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet))
    assert record is not None
    settle(node)
    raw = base64.b64encode(bytes(record.wire.transaction)).decode()
    words: list[Any] = [str(wallet.pubkey()), record.signature, raw, "", "0OIl", "base64", "processed", "1" * 44]
    plain: list[Any] = [None, True, 0, -1, 1, record.slot, 2**64, 2**70, 1.5, [], {}, "🙂"]
    names = [
        "commitment",
        "encoding",
        "limit",
        "before",
        "until",
        "minContextSlot",
        "accounts",
        "addresses",
        "dataSlice",
        "offset",
        "length",
        "mint",
        "programId",
        "skipPreflight",
        "sigVerify",
        "replaceRecentBlockhash",
        "transactionDetails",
        "rewards",
        "innerInstructions",
        "maxSupportedTransactionVersion",
        "searchTransactionHistory",
        "preflightCommitment",
        "maxRetries",
        "mentions",
    ]

    def value(depth: int = 2) -> Any:
        kind = chance.randrange(4 if depth else 2)
        if kind == 2:
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        if kind == 3:
            return {chance.choice(names): value(depth - 1) for _ in range(chance.randrange(4))}
        return chance.choice(words if kind else plain)

    batch = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": [value() for _ in range(chance.randrange(4))]}
        for number, method in enumerate(sorted(METHODS) * 12)
    ]
    async with aiohttp.ClientSession() as http:
        for start in range(0, len(batch), 20):
            part = orjson.dumps([_bounded(body) for body in batch[start : start + 20]])
            async with http.post(node.rpc_url, data=part) as response:
                assert response.status == 200
                answers = await response.json()
            for body, answer in zip(batch[start : start + 20], answers, strict=True):
                assert answer["id"] == body["id"]
                assert ("result" in answer) != ("error" in answer)
                assert answer.get("error", {}).get("code") != -32603, (body, answer)


def _bounded(body: Any) -> Any:
    """The same, with integers that the encoder can write."""
    if isinstance(body, dict):
        return {name: _bounded(value) for name, value in body.items()}
    if isinstance(body, list):
        return [_bounded(value) for value in body]
    return float(body) if isinstance(body, int) and body >= 2**64 else body


async def test_control__orders_from_outside__do_what_switches_do(node: Node):
    async def order(body: object) -> tuple[int, object]:
        async with aiohttp.ClientSession() as http, http.post(node.control_url, json=body) as response:
            return response.status, await response.json()

    slot = node.chain.next_slot
    assert await order({"do": "advance", "slots": 3}) == (200, {"result": [slot, slot + 1, slot + 2]})
    assert await order({"do": "fork", "depth": 2}) == (200, {"result": []})
    assert node.chain.head.slot == slot + 3
    assert (await order({"do": "set", "lag_blocks": 2, "withhold_notifications": True}))[0] == 200
    assert node.faults.lag_blocks == 2
    assert (await order({"do": "fault", "kind": "rate_limit", "method": "getSlot", "retry_after_s": 3}))[0] == 200
    assert node.faults.requests == [Fault(Kind.RATE_LIMIT, "getSlot", retry_after_s=3)]
    key = Keypair().pubkey()
    assert (await order({"do": "endow", "account": str(key), "lamports": SOL}))[0] == 200
    assert node.chain.account(key, node.chain.head) is not None
    assert (await order({"do": "clear"}))[0] == 200
    assert node.faults == Faults()
    nonsense: list[Any] = [
        {"do": "nothing"},
        {"do": "fork", "depth": 99},
        {"do": "fork"},
        {"do": "set", "lag_blocks": "2"},
        {"do": "set", "nothing": 1},
        {"do": "fault", "kind": "nothing"},
        {"do": "fault", "kind": "error", "remaining": 0},
        {"do": "advance", "slots": 0},
        [],
    ]
    for wrong in nonsense:
        status, answer = await order(wrong)
        assert status == 400, wrong
        assert isinstance(answer, dict)
        assert answer["error"]
    async with aiohttp.ClientSession() as http, http.post(node.rpc_url + "/control", json={"do": "clear"}) as response:
        assert response.status == 404, "only who knows the path may order"


def test_fault__that_makes_no_sense__is_refused():
    for fault in (Fault(Kind.ERROR, remaining=0), Fault(Kind.ERROR, per_mille=0), Fault(Kind.SLOW, delay_ms=-1)):
        with pytest.raises(ConfigError):
            fault.check()
