"""Several endpoints as one: who is asked, how often, and what is said when nobody answers."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.chains.evm.rpc import Endpoint, EvmRpc, Refusal, RpcRefused, classify
from bridge.chains.fake.chain import FakeChain
from bridge.domain.errors import ChainUnavailable, ConfigError
from tests.chains.nodes import Node, Refuse


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    chain = FakeChain()
    chain.mine()
    pair = [await Node(chain).start(), await Node(chain).start()]
    yield pair
    for node in pair:
        await node.stop()


@pytest.fixture
async def rpc(nodes: list[Node]) -> AsyncIterator[EvmRpc]:
    rpc = EvmRpc([node.url + "/v3/secret-key" for node in nodes], timeout_ms=300)
    yield rpc
    await rpc.close()


def refusing(code: int, message: str) -> Any:
    def lie(method: str, params: list[Any], answer: Any) -> Any:
        raise Refuse(code, message)

    return lie


async def test_call__first_is_down__second_answers_and_is_asked_first_next_time(nodes: list[Node], rpc: EvmRpc):
    nodes[0].status = 500
    assert await rpc.call("eth_blockNumber") == "0x1"
    assert await rpc.call("eth_blockNumber") == "0x1"
    assert (len(nodes[0].asked), len(nodes[1].asked)) == (0, 2)
    assert rpc.ranked()[0] is rpc.endpoints[1]


async def test_call__429_with_retry_after__left_alone_for_that_long(nodes: list[Node], rpc: EvmRpc):
    nodes[0].status, nodes[0].headers = 429, {"Retry-After": "30"}
    await rpc.call("eth_blockNumber")
    nodes[0].status = 200
    for _ in range(5):
        await rpc.call("eth_blockNumber")
    assert len(nodes[0].asked) == 0


async def test_call__busy_answer__next_endpoint(nodes: list[Node], rpc: EvmRpc):
    nodes[0].lie = refusing(-32005, "rate limit exceeded")
    assert await rpc.call("eth_blockNumber") == "0x1"


async def test_call__refusal_that_all_would_repeat__raised_at_once(nodes: list[Node], rpc: EvmRpc):
    nodes[0].lie = refusing(3, "execution reverted: no")
    with pytest.raises(RpcRefused) as caught:
        await rpc.call("eth_blockNumber")
    assert (caught.value.kind, caught.value.code, len(nodes[1].asked)) == (Refusal.REVERTED, 3, 0)


async def test_call__nobody_answers__bounded_and_without_the_key(nodes: list[Node], rpc: EvmRpc):
    for node in nodes:
        node.status = 503
    with pytest.raises(ChainUnavailable) as caught:
        await rpc.call("eth_blockNumber")
    assert "secret" not in str(caught.value)
    for node in nodes:
        await node.stop()
    with pytest.raises(ChainUnavailable) as caught:
        await rpc.call("eth_blockNumber")
    assert "secret" not in repr(caught.value) + repr(rpc.endpoints)
    assert caught.value.__cause__ is None


async def test_rank__contradicted__asked_last_for_a_while_however_well_it_answers(nodes: list[Node], rpc: EvmRpc):
    rpc.endpoints[0].doubt()
    for _ in range(5):
        await rpc.call_on_each("eth_blockNumber")
        assert rpc.ranked()[0] is rpc.endpoints[1]
    rpc.endpoints[0].doubted_until_ms = 0
    rpc.endpoints[1].doubt()
    assert rpc.ranked()[0] is rpc.endpoints[0]


async def test_rank__contradicted_again_and_again__for_longer_each_time(rpc: EvmRpc):
    endpoint, lengths = rpc.endpoints[0], []
    now = 1_000_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.chains.jsonrpc._now_ms", lambda: now)
        for _ in range(8):
            endpoint.doubt()
            endpoint.doubt()  # the same lie, met elsewhere
            lengths.append(endpoint.doubted_until_ms - now)
            now = endpoint.doubted_until_ms + 1
        assert lengths == [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
        now += 100_000
        endpoint.doubt()
        assert endpoint.doubted_until_ms - now == 1000


@pytest.mark.parametrize(("heads", "reached"), [((7, 9), 7), ((9, 9), 9), ((None, 9), None)])
async def test_reached_by_two__two_endpoints__the_lower_one(
    rpc: EvmRpc, heads: tuple[int | None, int | None], reached: int | None
):
    async def ask(endpoint: Endpoint) -> int | None:
        return heads[rpc.endpoints.index(endpoint)]

    assert await rpc.reached_by_two(ask) == reached


async def test_call_on_each__one_refuses__every_answer_in_order(nodes: list[Node], rpc: EvmRpc):
    nodes[0].lie = refusing(-32000, "already known")
    first, second = await rpc.call_on_each("eth_blockNumber")
    assert isinstance(first.error, RpcRefused)
    assert (second.result, second.error) == ("0x1", None)


async def test_batch__several_calls__results_in_order(rpc: EvmRpc):
    calls: list[tuple[str, list[Any]]] = [("eth_chainId", []), ("eth_blockNumber", []), ("eth_syncing", [])]
    assert await rpc.batch(calls) == ["0x1", "0x1", False]


@pytest.mark.parametrize(
    "body", [b"null", b"5", b'"x"', b"[5]", b'{"result": "0x1"}', b'{"id": 0}', b'[{"id": [], "result": 1}]']
)
async def test_batch__answer_is_no_batch__unavailable(rpc: EvmRpc, monkeypatch: pytest.MonkeyPatch, body: bytes):
    async def post(endpoint: object, request: object, what: str) -> bytes:
        return body

    monkeypatch.setattr(rpc, "_post", post)
    monkeypatch.setattr("bridge.chains.jsonrpc.PAUSE_FIRST_MS", 1)
    with pytest.raises(ChainUnavailable):
        await rpc.batch([("eth_blockNumber", []), ("eth_chainId", [])])


async def test_batch__one_is_refused__raised(rpc: EvmRpc):
    with pytest.raises(RpcRefused, match="method not found"):
        await rpc.batch([("eth_chainId", []), ("eth_nothing", [])])


@pytest.mark.parametrize("url", ["", "ws://host", "http://", "user:secret@host", "http://[bad"])
def test_urls__unusable__config_error_without_secrets(url: str):
    with pytest.raises(ConfigError) as caught:
        EvmRpc([url])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (-32005, "query returned more than 10000 results", Refusal.TOO_MANY_LOGS),
        (-32602, "Log response size exceeded", Refusal.TOO_MANY_LOGS),
        (-32000, "query timeout exceeded", Refusal.TOO_MANY_LOGS),
        (-32600, "block range is too wide", Refusal.RANGE_TOO_WIDE),
        (-32000, "exceed maximum block range: 5000", Refusal.RANGE_TOO_WIDE),
        (-32602, "eth_getLogs is limited to a 10,000 range", Refusal.TOO_MANY_LOGS),
        (-32005, "daily request count exceeded, request rate limited", Refusal.BUSY),
        (-32001, "Resource not found", Refusal.UNKNOWN_BLOCK),
        (-32000, "header not found", Refusal.UNKNOWN_BLOCK),
        (-32000, "unknown block", Refusal.UNKNOWN_BLOCK),
        (-32000, "hash is not currently canonical", Refusal.UNKNOWN_BLOCK),
        (-32000, "0x" + "ab" * 32 + " block is not canonical", Refusal.UNKNOWN_BLOCK),
        (-32000, "Invalid input", Refusal.UNKNOWN_BLOCK),
        (-32000, "invalid input: missing parameters", Refusal.OTHER),
        (-32602, "BlockOutOfRangeError: block height is 10", Refusal.UNKNOWN_BLOCK),
        (3, "execution reverted", Refusal.REVERTED),
        (-32601, "the method eth_x does not exist", Refusal.NO_METHOD),
        (-32000, "nonce too low", Refusal.OTHER),
    ],
)
def test_classify__what_providers_say__what_it_means(code: int, message: str, kind: Refusal):
    assert classify(code, message) is kind
