"""What moves money is said by two endpoints alike, or nothing moves: nodes over HTTP, one of which lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak

from bridge.chains.evm.fees import FeeCeilings, read_market
from bridge.chains.evm.follow import Finality
from bridge.chains.evm.payer import EvmPayer
from bridge.chains.evm.reader import EvmReader
from bridge.chains.evm.rpc import EvmRpc, RpcRefused
from bridge.chains.evm.signer import KeystoreSigner
from bridge.chains.fake.chain import FakeChain
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, RetryableError
from bridge.domain.payouts import Action, ActionKind, Refusal
from bridge.domain.states import ActionState
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.paying import Ready
from bridge.simulation.wallets import Wallet
from tests.chains.nodes import HANG, Lie, Node, Refuse

AT = BlockStamp("nodes", 5, b"\x05" * 32)
ID, TX_ID, DISTRIBUTOR = b"\x01" * 32, b"\x02" * 32, Address(b"\x02" * 20)
PROPOSAL, BATCH = (
    Action(n, ID, "nodes", n, kind, ActionState.PLANNED, None, DISTRIBUTOR, b"", bytes(32), 0)
    for n, kind in enumerate((ActionKind.PROPOSE, ActionKind.EXECUTE))
)
WORD = "0x" + "00" * 31 + "01"
RECEIPT = {
    "blockNumber": "0x5",
    "blockHash": "0x" + "ab" * 32,
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x7",
}
ANSWERS = {
    "eth_call": WORD,
    "eth_getTransactionCount": "0x7",
    "eth_getBalance": "0x9",
    "eth_getTransactionReceipt": RECEIPT,
    "eth_getBlockByHash": {"hash": "0x05", "baseFeePerGas": "0x1"},
    "eth_getBlockByNumber": {"hash": "0x05", "baseFeePerGas": "0x1"},
    "eth_estimateGas": "0x3e8",
    "eth_getCode": "0x",  # no contract that says what data costs: nothing is taken beside gas
}


@dataclass
class Ears:
    """Everything that listens to the nodes."""

    rpc: EvmRpc
    reader: EvmReader
    payer: EvmPayer


Listen = Callable[..., Awaitable[Ears]]


@pytest.fixture
async def listen(tmp_path: Path) -> AsyncIterator[Listen]:
    """Ears for one node for each lie; None is an honest one."""
    wallet = Wallet.derive(1, "operator")
    (tmp_path / "operator.json").write_text(wallet.keystore("sesame"))
    signer = KeystoreSigner.load(tmp_path / "operator.json", "sesame")
    async with AsyncExitStack() as stack:

        async def start(*lies: Lie | None, timeout_ms: int = 2000) -> Ears:
            chain, urls = FakeChain(), []
            for lie in lies:
                node = Node(chain, lie, answers=ANSWERS) if lie else Node(chain, answers=ANSWERS)
                await node.start()
                stack.push_async_callback(node.stop)
                urls.append(node.url)
            rpc = EvmRpc(urls, timeout_ms=timeout_ms)
            stack.push_async_callback(rpc.close)
            reader = EvmReader("nodes", rpc, chain_id=1, finality=Finality(tag="finalized"))
            payer = EvmPayer(
                chain="nodes",
                chain_id=1,
                rpc=rpc,
                signer=signer,
                vault=Address(b"\x01" * 20),
                distributor=DISTRIBUTOR,
                ceilings=FeeCeilings(max_fee=10, priority_fee=1),
            )
            return Ears(rpc, reader, payer)

        yield start


def says(method: str, instead: Any) -> Lie:
    def lie(asked: str, params: list[Any], answer: Any) -> Any:
        return instead if asked == method else answer

    return lie


def refuses(code: int, message: str) -> Lie:
    def lie(asked: str, params: list[Any], answer: Any) -> Any:
        raise Refuse(code, message)

    return lie


READS: dict[str, tuple[Callable[[Ears], Awaitable[object]], str, object]] = {
    "executed": (lambda ears: ears.payer.executed(BATCH, AT), "eth_call", "0x" + "00" * 32),
    "proposed": (lambda ears: ears.payer.proposed(PROPOSAL, AT), "eth_call", "0x" + "00" * 32),
    "nonce": (lambda ears: ears.reader.sequence(Address(bytes(20)), AT), "eth_getTransactionCount", "0x8"),
    "balance": (
        lambda ears: ears.reader.balance(Address(bytes(20)), AssetId("eip155:1/slip44:60"), AT),
        "eth_getBalance",
        "0xffff",
    ),
    "surplus": (lambda ears: ears.reader.read_call(Address(bytes(20)), "owed()", [], AT), "eth_call", "0x" + "ff" * 32),
    "price": (
        lambda ears: ears.reader.read_call(Address(bytes(20)), "rate(uint256)", [5], AT),
        "eth_call",
        "0x" + "00" * 31 + "02",
    ),
    "no receipt": (lambda ears: ears.payer.settled(TX_ID), "eth_getTransactionReceipt", None),
    "reverted": (lambda ears: ears.payer.settled(TX_ID), "eth_getTransactionReceipt", RECEIPT | {"status": "0x0"}),
    "dearer": (
        lambda ears: ears.payer.settled(TX_ID),
        "eth_getTransactionReceipt",
        RECEIPT | {"effectiveGasPrice": "0x8"},
    ),
    "other block": (
        lambda ears: ears.payer.settled(TX_ID),
        "eth_getTransactionReceipt",
        RECEIPT | {"blockHash": "0x" + "cd" * 32},
    ),
}
every_read = pytest.mark.parametrize("name", READS)


@every_read
async def test_quorum__one_of_two_lies__nothing_is_said(listen: Listen, name: str):
    read, method, lie = READS[name]
    for lies in ((says(method, lie), None), (None, says(method, lie))):
        with pytest.raises(ChainDisagrees, match="differently"):
            await read(await listen(*lies))


@every_read
async def test_quorum__one_of_three_lies__outvoted(listen: Listen, name: str):
    read, method, lie = READS[name]
    honest = await read(await listen(None))
    for lies in ((says(method, lie), None, None), (None, None, says(method, lie))):
        assert await read(await listen(*lies)) == honest


@every_read
async def test_quorum__two_and_two__nothing_is_said(listen: Listen, name: str):
    read, method, lie = READS[name]
    with pytest.raises(ChainDisagrees):
        await read(await listen(says(method, lie), None, says(method, lie), None))


@every_read
async def test_quorum__second_endpoint_fails__nothing_is_said(listen: Listen, name: str):
    read, _, _ = READS[name]
    with pytest.raises(ChainUnavailable, match="two must agree"):
        await read(await listen(None, refuses(-32005, "rate limit")))


@every_read
@pytest.mark.parametrize("nonsense", [5, "0xzz", [], {"a": "b"}])
async def test_quorum__nonsense_beside_an_honest_one__a_retryable_error(listen: Listen, name: str, nonsense: object):
    read, method, _ = READS[name]
    with pytest.raises(RetryableError):
        await read(await listen(None, says(method, nonsense)))


@every_read
async def test_quorum__one_of_three_hangs__holds_up_one_read_and_no_more(listen: Listen, name: str):
    read, _, _ = READS[name]
    asked: list[str] = []

    def hangs(method: str, params: list[Any], answer: Any) -> Any:
        asked.append(method)
        return HANG

    ears = await listen(None, hangs, None, timeout_ms=300)
    honest = await read(await listen(None))
    for _ in range(4):
        assert await read(ears) == honest
    assert len(asked) == 1


async def test_quorum__receipts_that_differ_in_what_does_not_count__agree(listen: Listen):
    other = RECEIPT | {"blockHash": "0x" + "AB" * 32, "logs": [], "type": "0x2"}
    ears = await listen(None, says("eth_getTransactionReceipt", other))
    assert await ears.payer.settled(TX_ID) is not None


async def test_quorum__both_say_it_reverts__that_is_the_answer(listen: Listen):
    ears = await listen(refuses(3, "execution reverted"), refuses(3, "execution reverted: other words"))
    with pytest.raises(RpcRefused, match="reverted"):
        await ears.payer.executed(BATCH, AT)


async def test_quorum__one_says_it_reverts__nothing_is_said(listen: Listen):
    ears = await listen(None, refuses(3, "execution reverted"))
    with pytest.raises(ChainDisagrees):
        await ears.payer.executed(BATCH, AT)


async def test_quorum__nobody_knows_the_block__disagrees(listen: Listen):
    ears = await listen(refuses(-32000, "unknown block"), refuses(-32000, "header not found"))
    with pytest.raises(ChainDisagrees, match="no endpoint has the state"):
        await ears.reader.sequence(Address(bytes(20)), AT)


# ── Before anything is sent ─────────────────────────────────────────────────────────────────────────────────────────
PROPOSAL = Action(
    *(1, ID, "nodes", 0, ActionKind.PROPOSE, ActionState.PLANNED, None),
    *(Address(b"\x02" * 20), b"\x12\x34\x56\x78", b"\x03" * 32, 0),
)
VETOED = "0x" + keccak(b"ProposalVetoed(bytes32)")[:4].hex() + "00" * 32
NOT_APPROVED = "0x" + keccak(b"NotApproved(bytes32)")[:4].hex() + "00" * 32
ABOUT_RIGHT = {"eth_getBalance": "0xffff", "eth_estimateGas": "0x3e8"}


def reverts(data: str) -> Lie:
    def lie(asked: str, params: list[Any], answer: Any) -> Any:
        if asked == "eth_call":
            raise Refuse(3, "execution reverted", data)
        return ABOUT_RIGHT.get(asked, answer)

    return lie


def rich(method: str, params: list[Any], answer: Any) -> Any:
    return ABOUT_RIGHT.get(method, answer)


def rich_but(method: str, instead: Any) -> Lie:
    return lambda asked, params, answer: instead if asked == method else rich(asked, params, answer)


LIES_BEFORE = {
    "reverts for good": reverts(VETOED),
    "gas too low": rich_but("eth_estimateGas", "0x1"),
    "gas above what a transaction may have": rich_but("eth_estimateGas", hex(2**25)),
    "no balance": rich_but("eth_getBalance", "0x0"),
    "dear": rich_but("eth_getBlockByHash", {"baseFeePerGas": hex(10**18)}),
    "no gas": rich_but("eth_estimateGas", None),
    "fee for data": rich_but("eth_getCode", "0x60"),
}
every_lie_before = pytest.mark.parametrize("lie", LIES_BEFORE.values(), ids=LIES_BEFORE)


@every_lie_before
async def test_preflight__one_of_three_lies__outvoted(listen: Listen, lie: Lie):
    for lies in ((lie, rich, rich), (rich, rich, lie)):
        ears = await listen(*lies)
        assert await ears.payer.preflight(PROPOSAL, AT) == Ready(1250)


@pytest.mark.parametrize("name", sorted(LIES_BEFORE.keys() - {"dear"}))
async def test_preflight__one_of_two_lies__no_verdict(listen: Listen, name: str):
    for lies in ((LIES_BEFORE[name], rich), (rich, LIES_BEFORE[name])):
        with pytest.raises(RetryableError):
            await (await listen(*lies)).payer.preflight(PROPOSAL, AT)


async def test_preflight__one_of_three_gives_another_reason__the_reason_of_two_counts(listen: Listen):
    """What waits for its approval must not be held for good because one endpoint says that it is vetoed."""
    for data in ((VETOED, NOT_APPROVED, NOT_APPROVED), (NOT_APPROVED, NOT_APPROVED, VETOED)):
        refusal = await (await listen(*map(reverts, data))).payer.preflight(PROPOSAL, AT)
        assert isinstance(refusal, Refusal)
        assert refusal.temporary
    with pytest.raises(ChainDisagrees):
        await (await listen(reverts(VETOED), reverts(NOT_APPROVED))).payer.preflight(PROPOSAL, AT)


async def test_preflight__estimates_that_differ_a_little__the_higher_one_and_the_margin(listen: Listen):
    ears = await listen(rich, rich_but("eth_estimateGas", hex(1100)))
    assert await ears.payer.preflight(PROPOSAL, AT) == Ready(1375)


async def test_reads__at_a_block__name_it_by_hash_and_ask_for_a_canonical_one(listen: Listen):
    named: dict[str, Any] = {}

    def note(method: str, params: list[Any], answer: Any) -> Any:
        for one in params:
            if isinstance(one, dict) and "blockHash" in one:
                named[method] = one
        return rich(method, params, answer)

    ears = await listen(note)
    await ears.payer.preflight(PROPOSAL, AT)
    await ears.reader.sequence(Address(bytes(20)), AT)
    methods = {"eth_call", "eth_estimateGas", "eth_getCode", "eth_getBalance", "eth_getTransactionCount"}
    assert named == {method: {"blockHash": "0x" + "05" * 32, "requireCanonical": True} for method in methods}


async def test_fees__one_endpoint_says_that_gas_is_dear__its_word_is_not_offered(listen: Listen):
    dear = says("eth_getBlockByNumber", {"baseFeePerGas": hex(10**9)})
    for lies in ((dear, None), (None, dear), (dear, None, None)):
        market = await read_market((await listen(*lies)).rpc, None)
        assert market.base_fee == 1


async def test_disowned__one_of_two_has_the_receipt__not_disowned(listen: Listen):
    ears = await listen(says("eth_getTransactionReceipt", None), None)
    assert not await ears.payer.disowned([TX_ID], AT)
