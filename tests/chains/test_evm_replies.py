"""What nodes answer, as they really word it, and what it counts as."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from bridge.chains.broadcasts import combine_replies
from bridge.chains.evm.fees import FeeCeilings, FeeMarket, fee_fields
from bridge.chains.evm.replies import Reverts, read_answer
from bridge.chains.evm.rpc import Answer, Endpoint, RpcRefused
from bridge.chains.evm.wire import revert_data
from bridge.domain.errors import ChainUnavailable
from bridge.domain.payouts import Fees, Signed
from bridge.ports.paying import Broadcast, BroadcastOutcome

ACCEPTED, KNOWN = BroadcastOutcome.ACCEPTED, BroadcastOutcome.KNOWN
REJECTED, UNKNOWN = BroadcastOutcome.REJECTED, BroadcastOutcome.UNKNOWN
TX_ID = b"\x11" * 32
NODE = Endpoint("http://node", "node")


def refused(message: str, code: int = -32000, data: object = None) -> RpcRefused:
    return RpcRefused("node", "eth_sendRawTransaction", code, message, data)


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("already known", KNOWN),
        ("AlreadyKnown", KNOWN),
        ("known transaction: 0xabc", KNOWN),
        ("transaction already imported", KNOWN),
        ("replacement transaction underpriced", REJECTED),
        ("could not replace existing tx", REJECTED),
        ("transaction underpriced: gas tip cap 1, minimum needed 2", REJECTED),
        ("nonce too low: next nonce 5, tx nonce 4", REJECTED),
        ("OldNonce", REJECTED),
        ("nonce too high", REJECTED),
        ("max fee per gas less than block base fee: address 0x…, maxFeePerGas: 1, baseFee: 2", REJECTED),
        ("tx fee (3.00 ether) exceeds the configured cap (1.00 ether)", REJECTED),
        ("insufficient funds for gas * price + value: balance 0, tx cost 1", REJECTED),
        ("Insufficient funds for gas * price + value", REJECTED),
        ("txpool is full", REJECTED),
        ("in-flight transaction limit reached for delegated accounts", REJECTED),
        ("intrinsic gas too low: gas 21000, minimum needed 53000", REJECTED),
        ("transaction indexing is in progress", UNKNOWN),
        ("internal error", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_classify_broadcast__what_a_node_says__counts_as(message: str, outcome: BroadcastOutcome):
    assert read_answer(Answer(NODE, None, refused(message)), TX_ID).outcome is outcome


def test_classify_broadcast__time_out_or_another_hash__may_have_been_taken():
    dead = Answer(NODE, None, ChainUnavailable("node did not answer"))
    assert read_answer(dead, TX_ID).outcome is UNKNOWN
    assert read_answer(Answer(NODE, "0x" + TX_ID.hex(), None), TX_ID).outcome is ACCEPTED
    assert read_answer(Answer(NODE, "0x" + "22" * 32, None), TX_ID).outcome is UNKNOWN
    assert read_answer(Answer(NODE, None, None), TX_ID).outcome is UNKNOWN


@pytest.mark.parametrize(
    ("outcomes", "combined"),
    [
        ([REJECTED, ACCEPTED], ACCEPTED),
        ([UNKNOWN, KNOWN], KNOWN),
        ([REJECTED, UNKNOWN], UNKNOWN),
        ([REJECTED, REJECTED], REJECTED),
        ([], UNKNOWN),
    ],
)
def test_combine_broadcasts__several_endpoints__the_one_that_took_it_then_the_least_certain(
    outcomes: list[BroadcastOutcome], combined: BroadcastOutcome
):
    assert combine_replies([Broadcast(outcome) for outcome in outcomes]).outcome is combined


REVERTS = Reverts.of_our_contracts()


def error(signature: str, *arguments: object) -> str:
    types = signature[signature.index("(") + 1 : -1].split(",")
    return "0x" + (keccak(signature.encode())[:4] + encode(types, arguments)).hex()


@pytest.mark.parametrize(
    ("data", "temporary", "says"),
    [
        ("0x" + keccak(b"EnforcedPause()")[:4].hex(), True, "the vault or the token is paused"),
        (error("CapExceeded(address,uint256,uint256,uint256)", "0x" + "aa" * 20, 1, 5, 4), True, "available=4"),
        (error("FloorBreached(address,uint256,uint256)", "0x" + "aa" * 20, 1, 5), True, "below its floor"),
        (error("AlreadyExecuted(bytes32,uint32)", TX_ID, 3), True, "not final yet"),
        (error("NotApproved(bytes32)", TX_ID), True, "waits for approval of 0x" + "11" * 32),
        (error("NotReady(bytes32,uint64)", TX_ID, 1_790_000_000), True, "waits until 2026-09-21 14:13:20 UTC: "),
        (error("NotReady(bytes32,uint64)", TX_ID, 2**64 - 1), True, "waits until second 18446744073709551615: "),
        (error("ApprovalExpired(bytes32,uint64)", TX_ID, 0), True, "expired at 1970-01-01 00:00:00 UTC: "),
        (error("NotProposed(bytes32)", TX_ID), True, "not on chain in this block"),
        (error("ActivationPending(address,uint64)", "0x" + "aa" * 20, 0), True, "waits until 1970-01-01 00:00"),
        (error("ProposalVetoed(bytes32)", TX_ID), False, "vetoed by the guardian: ProposalVetoed(id=0x1111"),
        (error("RecipientsNotAscending(address,address)", "0x" + "bb" * 20, "0x" + "aa" * 20), False, "RecipientsNot"),
        (error("Error(string)", "Blacklisted"), False, "Error(Blacklisted)"),
        (error("Panic(uint256)", 0x11), False, "Panic(code=17)"),
        ("0x12345678", False, "revert 0x12345678"),
        ("0x", False, "revert without a reason"),
        (None, False, "revert without a reason"),
    ],
)
def test_reverts__what_a_call_reverted_with__named_and_judged(data: object, temporary: bool, says: str):
    refusal = REVERTS.refusal(refused("execution reverted", 3, data))
    assert refusal.temporary is temporary
    assert says in refusal.reason


def test_reverts__node_could_not_simulate__no_verdict():
    with pytest.raises(RpcRefused, match="header not found"):
        REVERTS.refusal(refused("header not found"))


@pytest.mark.parametrize("data", ["0x08c3", {"data": "0x08c3"}, {"result": "0x08c3"}, "Reverted 0x08c3"])
def test_revert_data__wherever_the_node_puts_it__found(data: object):
    assert revert_data(data) == bytes.fromhex("08c3")


def signed(max_fee: int, priority_fee: int) -> Signed:
    return Signed(b"", b"", 1, max_fee, priority_fee)


def test_fees__chain_without_a_base_fee__legacy_price_and_bump():
    market, ceilings = FeeMarket(None, 1000), FeeCeilings(max_fee=1200, priority_fee=5)
    first = market.offer(ceilings, None)
    assert first == Fees(1000, 1000)
    assert fee_fields(first, market) == {"gasPrice": 1000}
    assert market.offer(ceilings, signed(1000, 1000)) == Fees(1125, 1125)
    assert market.offer(ceilings, signed(1125, 1125)) is None


def test_fees__base_fee__twice_it_and_the_tip():
    market, ceilings = FeeMarket(100, 0), FeeCeilings(max_fee=10_000, priority_fee=5)
    first = market.offer(ceilings, None)
    assert first == Fees(205, 5)
    assert fee_fields(first, market) == {"type": 2, "maxFeePerGas": 205, "maxPriorityFeePerGas": 5}
    assert market.offer(ceilings, signed(205, 5)) == Fees(231, 6)
