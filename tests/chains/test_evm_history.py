"""Finalized history over HTTP, and a node that has forgotten old states."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from bridge.chains.evm.follow import Finality
from bridge.chains.evm.history import EvmHistory
from bridge.chains.evm.reader import EvmReader
from bridge.chains.evm.rpc import EvmRpc
from bridge.chains.fake.chain import Emit, FakeChain
from bridge.domain.errors import ChainDisagrees, StateUnavailable
from bridge.domain.events import Log, TimedLogs, unpack_logs
from bridge.domain.units import Address, BlockStamp
from bridge.ports.reading import LogFilter
from tests.chains.nodes import Node, Refuse
from tests.chains.world import TOPIC

EMITTER = Address(b"\xee" * 20)
FILTERS = [LogFilter((EMITTER,), ((TOPIC,),))]


@pytest.fixture
def chain() -> FakeChain:
    """200 blocks; every fifth holds two logs, one of which is watched."""
    chain = FakeChain()
    for number in range(1, 200):
        logs = [Emit(EMITTER, (TOPIC,), number.to_bytes(32)), Emit(EMITTER, (bytes(32),))] if number % 5 == 0 else []
        chain.mine(*logs)
    return chain


@pytest.fixture
async def nodes(chain: FakeChain) -> AsyncIterator[list[Node]]:
    nodes = [await Node(chain).start() for _ in range(2)]
    yield nodes
    for node in nodes:
        await node.stop()


@pytest.fixture
async def rpc(nodes: Sequence[Node]) -> AsyncIterator[EvmRpc]:
    rpc = EvmRpc([node.url for node in nodes])
    yield rpc
    await rpc.close()


async def test_ranges__part_of_a_chain__every_log_once_with_its_time(chain: FakeChain, rpc: EvmRpc):
    history = EvmHistory(rpc, finality=Finality(tag="finalized"))
    found: list[Log] = []
    following = 10
    async for added in history.ranges(10, 150, FILTERS):
        assert added.first == following
        following = added.blocks[-1].number + 1
        times = {block.number: block.timestamp for block in added.blocks}
        found += unpack_logs(
            chain.name, TimedLogs(added.logs, [times[added.logs.number(row)] for row in range(added.logs.count)])
        )
    assert following == 151
    assert found == [log for number in range(10, 151) for log in chain.logs(number, FILTERS)]


async def test_ranges__one_node_leaves_a_log_out__disagrees(nodes: Sequence[Node], rpc: EvmRpc):
    nodes[1].lie = lambda method, params, honest: honest[1:] if method == "eth_getLogs" else honest
    history = EvmHistory(rpc, finality=Finality(tag="finalized"))
    with pytest.raises(ChainDisagrees, match="give different logs"):
        _ = [added async for added in history.ranges(10, 150, FILTERS)]


@pytest.mark.parametrize(("finality", "number"), [(Finality(tag="finalized"), 195), (Finality(depth=10), 189)])
async def test_finalized__tag_or_depth__that_block(chain: FakeChain, rpc: EvmRpc, finality: Finality, number: int):
    assert await EvmHistory(rpc, finality=finality).finalized() == chain.blocks[number].block


async def test_finalized__nodes_that_know_no_such_tag__none(nodes: Sequence[Node], rpc: EvmRpc):
    def lie(method: str, params: list[Any], honest: Any) -> Any:
        if method == "eth_getBlockByNumber" and params[0] == "finalized":
            raise Refuse(-39001, "'finalized' tag not supported")
        return honest

    for node in nodes:
        node.lie = lie
    assert await EvmHistory(rpc, finality=Finality(tag="finalized")).finalized() is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32000, "missing trie node 5f…c1 (path ) state 0x5f…c1 is not available"),
        (-32000, "historical state 5fc1… is not available"),
        (-32000, "required historical state unavailable (reexec=128)"),
        (-32002, "No state available for block 0xabc…"),
        (-32000, "World state unavailable"),
        (-32000, "old data not available due to pruning"),
        (-32000, "state at block #100 is pruned"),
        (-32000, "header not found"),
    ],
)
async def test_reads__state_is_gone__says_so_apart_from_other_troubles(
    chain: FakeChain, nodes: Sequence[Node], rpc: EvmRpc, code: int, message: str
):
    def lie(method: str, params: list[Any], honest: Any) -> Any:
        raise Refuse(code, message)

    for node in nodes:
        node.lie = lie
        node.answers["eth_call"] = "0x"
    block = chain.blocks[100].block
    reader = EvmReader("test", rpc, chain_id=1, finality=Finality(tag="finalized"))
    with pytest.raises(StateUnavailable, match=r"no endpoint has the state of test#100\("):
        await reader.read_call(EMITTER, "total()", [], BlockStamp("test", block.number, block.hash))
