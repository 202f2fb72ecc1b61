"""What a sender meets: preflight, expiry, doubles, nonces, fees, lookup tables."""

import base64
from typing import Any

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Processed
from solana.rpc.core import RPCException
from solana.rpc.models import TxOpts
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.rpc.errors import SendTransactionPreflightFailureMessage
from solders.system_program import AdvanceNonceAccountParams, advance_nonce_account
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionErrorFieldless

from bridge.simulation.svm.chain import Commitment
from bridge.simulation.svm.machine import NONCE_VALUE, durable_nonce
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.stage import MEMO_PROGRAM, SOL, Stage
from bridge.simulation.svm.transactions import PACKET_SIZE, parse
from tests.simulation.svm.sending import UNCHECKED, giving, land, refused, rich, rpc, settle, signed

RENT_OF_NOTHING = 890_880


def encoded(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


async def test_blockhash__each_commitment__belongs_to_its_newest_block(node: Node, client: AsyncClient):
    node.chain.advance(10)
    for commitment in ("processed", "confirmed", "finalized"):
        slot = await rpc(client, "getSlot", {"commitment": commitment})
        answer = await rpc(client, "getLatestBlockhash", {"commitment": commitment})
        block = await rpc(client, "getBlock", slot, {"commitment": "confirmed"}) if commitment != "processed" else None
        assert answer["context"]["slot"] == slot
        assert set(answer["value"]) == {"blockhash", "lastValidBlockHeight"}
        height = await rpc(client, "getBlockHeight", {"commitment": commitment})
        assert answer["value"]["lastValidBlockHeight"] == height + 150
        if block is not None:
            assert answer["value"]["blockhash"] == block["blockhash"]
            assert block["blockHeight"] == height


async def test_blockhash__after_150_blocks__lands_once_more_and_then_never(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    block = node.chain.head
    early, last, late = (signed(block.hash, [giving(wallet, to, SOL + extra)], wallet) for extra in range(3))
    processed = {"commitment": "processed"}
    assert land(node, early) is not None
    node.chain.advance_blocks(149)
    assert node.chain.head.height == block.height + 150
    assert (await rpc(client, "isBlockhashValid", str(block.hash), processed))["value"] is True
    assert land(node, last) is not None, "the block after lastValidBlockHeight still takes it"
    assert (await rpc(client, "isBlockhashValid", str(block.hash), processed))["value"] is False
    assert land(node, late) is None
    options = {"encoding": "base64", "preflightCommitment": "processed"}
    code, message, data = await refused(client, "sendTransaction", encoded(late), options)
    assert (code, message) == (-32002, "Transaction simulation failed: Blockhash not found")
    assert data["err"] == "BlockhashNotFound"
    assert data["logs"] == []
    settle(node)
    assert (await client.get_balance(to)).value == 2 * SOL + 1


async def test_blockhash__from_a_block_newer_than_the_preflight_sees__is_not_found(node: Node, client: AsyncClient):
    wallet = rich(node)
    transaction = signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet)
    code, _, data = await refused(
        client, "sendTransaction", encoded(transaction), {"encoding": "base64", "preflightCommitment": "confirmed"}
    )
    assert (code, data["err"]) == (-32002, "BlockhashNotFound")
    await client.send_transaction(transaction, TxOpts(preflight_commitment=Processed))


async def test_preflight__a_transfer_beyond_what_there_is__tells_logs_and_reason(node: Node, client: AsyncClient):
    wallet = rich(node, sol=1)
    transaction = signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), 5 * SOL)], wallet)
    settle(node)
    with pytest.raises(RPCException) as caught:
        await client.send_transaction(transaction)
    failure = caught.value.args[0]
    assert isinstance(failure, SendTransactionPreflightFailureMessage)
    code, message, data = await refused(client, "sendTransaction", encoded(transaction), {"encoding": "base64"})
    assert code == -32002
    assert message == "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    assert data == {
        "accounts": None,
        "err": {"InstructionError": [0, {"Custom": 1}]},
        "innerInstructions": None,
        "logs": [
            "Program 11111111111111111111111111111111 invoke [1]",
            f"Transfer: insufficient lamports {SOL - 5000}, need {5 * SOL}",
            "Program 11111111111111111111111111111111 failed: custom program error: 0x1",
        ],
        "replacementBlockhash": None,
        "returnData": None,
        "unitsConsumed": 150,
    }
    assert node.chain.advance()[0].records == []


async def test_preflight__an_account_that_is_funded_but_not_yet_finalized__depends_on_its_commitment(
    node: Node, client: AsyncClient
):
    settle(node)
    old, wallet = node.chain.newest(Commitment.FINALIZED).hash, Keypair()
    Stage(node.chain).fund(wallet.pubkey(), SOL)
    transaction = signed(old, [giving(wallet, Keypair().pubkey(), SOL // 2)], wallet)
    code, message, _ = await refused(client, "sendTransaction", encoded(transaction), {"encoding": "base64"})
    assert code == -32002
    assert message.endswith("Attempt to debit an account but found no record of a prior credit.")
    await client.send_transaction(transaction, TxOpts(preflight_commitment=Processed))
    assert len(node.chain.advance()[0].records) == 1


async def test_send__wrong_signature__is_refused_or_lost(node: Node, client: AsyncClient):
    wallet = rich(node)
    raw = bytearray(bytes(signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet)))
    raw[5] ^= 1
    settle(node)
    text = base64.b64encode(raw).decode()
    code, message, _ = await refused(client, "sendTransaction", text, {"encoding": "base64"})
    assert (code, message) == (-32003, "Transaction signature verification failure")
    assert (await rpc(client, "sendTransaction", text, {"encoding": "base64", "skipPreflight": True})) != ""
    assert node.chain.advance()[0].records == []


async def test_send__more_than_a_packet__is_refused_also_without_preflight(node: Node, client: AsyncClient):
    wallet = rich(node)

    def memo(size: int) -> VersionedTransaction:
        return signed(node.chain.head.hash, [Instruction(MEMO_PROGRAM, b"a" * size, [])], wallet)

    room = PACKET_SIZE - len(bytes(memo(400))) + 400
    assert len(bytes(memo(room))) == PACKET_SIZE
    await client.send_transaction(memo(room), UNCHECKED)
    for encoding, text in (("base64", encoded(memo(room + 1))), ("base58", "1" * 1700)):
        code, message, _ = await refused(client, "sendTransaction", text, {"encoding": encoding, "skipPreflight": True})
        assert code == -32602
        assert "too large" in message
    assert len(node.chain.advance()[0].records) == 1


async def test_send__what_is_no_transaction__is_refused(node: Node, client: AsyncClient):
    for text, words in (("AAAA", "failed to deserialize"), ("#", "invalid base64 encoding"), (encoded(_empty()), "")):
        code, message, _ = await refused(client, "sendTransaction", text, {"encoding": "base64"})
        assert code in {-32602, -32002}, message
        assert words in message
    assert (await refused(client, "sendTransaction"))[:2] == (-32602, "`params` should have at least 1 argument(s)")


def _empty() -> VersionedTransaction:
    wallet = Keypair()
    return VersionedTransaction(MessageV0.try_compile(wallet.pubkey(), [], [], Hash.default()), [wallet])


async def test_send__the_same_bytes_again__land_once(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    transaction = signed(node.chain.head.hash, [giving(wallet, to, SOL)], wallet)
    first = (await client.send_transaction(transaction, UNCHECKED)).value
    assert (await client.send_transaction(transaction, UNCHECKED)).value == first
    node.chain.advance()
    await client.send_transaction(transaction, UNCHECKED)
    settle(node)
    code, message, data = await refused(client, "sendTransaction", encoded(transaction), {"encoding": "base64"})
    assert (code, data["err"]) == (-32002, "AlreadyProcessed")
    assert message == "Transaction simulation failed: This transaction has already been processed"
    assert (await client.get_balance(to)).value == SOL


async def test_fee__a_failed_transaction__is_charged_and_in_the_block(node: Node, client: AsyncClient):
    wallet, to = rich(node, sol=1), Keypair().pubkey()
    transaction = signed(node.chain.head.hash, [giving(wallet, to, 5 * SOL)], wallet)
    signature = (await client.send_transaction(transaction, UNCHECKED)).value
    settle(node)
    settle(node)
    told = (await client.get_transaction(signature, max_supported_transaction_version=0)).value
    assert told is not None
    assert told.transaction.meta is not None
    assert told.transaction.meta.err is not None
    assert told.transaction.meta.fee == 5000
    assert (await client.get_balance(wallet.pubkey())).value == SOL - 5000
    assert (await client.get_balance(to)).value == 0


async def test_fee__priority__is_charged_as_it_was_foretold(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    budget = [set_compute_unit_limit(1_000), set_compute_unit_price(1_500_001)]
    settle(node)
    transaction = signed(node.chain.head.hash, [*budget, giving(wallet, to, SOL)], wallet)
    message = transaction.message
    assert isinstance(message, MessageV0)
    foretold = (await client.get_fee_for_message(message, Processed)).value
    assert foretold == 5000 + 1501, "a begun lamport counts whole"
    record = land(node, transaction)
    assert record is not None
    assert record.meta["fee"] == foretold
    settle(node)
    fees = await rpc(client, "getRecentPrioritizationFees", [str(to)])
    assert {"slot": record.slot, "prioritizationFee": 1_500_001} in fees
    assert all(fee["prioritizationFee"] == 0 for fee in fees if fee["slot"] != record.slot)
    too_many = [str(Pubkey.new_unique())] * 129
    answer = await refused(client, "getRecentPrioritizationFees", too_many)
    assert answer[:2] == (-32602, "Too many inputs provided; max 128")


async def test_fee__for_a_blockhash_that_is_gone__is_null(node: Node, client: AsyncClient):
    wallet = rich(node)
    message = signed(Hash.new_unique(), [giving(wallet, Keypair().pubkey(), SOL)], wallet).message
    text = base64.b64encode(to_bytes_versioned(message)).decode()
    assert (await rpc(client, "getFeeForMessage", text))["value"] is None
    assert (await refused(client, "getFeeForMessage", "AA=="))[0] == -32602


async def test_fee__a_program_that_is_not_there__is_charged_all_the_same(node: Node):
    wallet = rich(node, sol=1)
    record = land(node, signed(node.chain.head.hash, [Instruction(Pubkey.new_unique(), b"", [])], wallet))
    assert record is not None
    assert record.err in {"InvalidProgramForExecution", "ProgramAccountNotFound"}
    assert record.meta["postBalances"][0] == SOL - 5000


async def test_fee__a_budget_that_contradicts_itself__is_refused_and_costs_nothing(node: Node, client: AsyncClient):
    wallet = rich(node)
    budget = [set_compute_unit_limit(1_000), set_compute_unit_limit(2_000)]
    transaction = signed(node.chain.head.hash, [*budget, giving(wallet, Keypair().pubkey(), SOL)], wallet)
    options = {"encoding": "base64", "preflightCommitment": "processed"}
    code, message, data = await refused(client, "sendTransaction", encoded(transaction), options)
    assert (code, data["err"]) == (-32002, {"DuplicateInstruction": 1})
    assert message.endswith("Transaction contains a duplicate instruction (1) that is not allowed")
    assert land(node, transaction) is None
    assert (await client.get_balance(wallet.pubkey(), Processed)).value == 100 * SOL


async def test_rent__too_little_for_a_fresh_account__fails(node: Node, client: AsyncClient):
    assert await rpc(client, "getMinimumBalanceForRentExemption", 0) == RENT_OF_NOTHING
    wallet, to = rich(node), Keypair().pubkey()
    little = land(node, signed(node.chain.head.hash, [giving(wallet, to, RENT_OF_NOTHING - 1)], wallet))
    assert little is not None
    assert little.err == {"InsufficientFundsForRent": {"account_index": 1}}
    enough = land(node, signed(node.chain.head.hash, [giving(wallet, to, RENT_OF_NOTHING)], wallet))
    assert enough is not None
    assert enough.err is None


class Nonce:
    """A durable nonce and what a test does with it."""

    def __init__(self, node: Node, wallet: Keypair) -> None:
        self.node, self.wallet = node, wallet
        self.key = Stage(node.chain).create_nonce("test", wallet.pubkey())

    def value(self) -> Hash:
        account = self.node.chain.machine.read(self.key)
        assert account is not None
        return Hash.from_bytes(account.data[NONCE_VALUE])

    def paying(self, to: Pubkey, lamports: int, value: Hash | None = None) -> VersionedTransaction:
        advance = advance_nonce_account(
            AdvanceNonceAccountParams(nonce_pubkey=self.key, authorized_pubkey=self.wallet.pubkey())
        )
        return signed(value or self.value(), [advance, giving(self.wallet, to, lamports)], self.wallet)


async def test_nonce__after_success_and_after_failure__advances_and_its_transaction_is_dead(node: Node):
    wallet, to = rich(node), Keypair().pubkey()
    nonce = Nonce(node, wallet)
    node.chain.advance_blocks(400)
    for lamports, err in ((SOL, None), (10**17, {"InstructionError": [1, {"Custom": 1}]}), (SOL, None)):
        before, parent = nonce.value(), node.chain.head
        transaction = nonce.paying(to, lamports)
        record = land(node, transaction)
        assert record is not None
        assert record.err == err
        assert bytes(nonce.value()) == durable_nonce(parent.hash) != bytes(before)
        node.chain.advance_blocks(200)
        assert land(node, transaction) is None
    account = node.chain.machine.read(to)
    assert account is not None
    assert account.lamports == 2 * SOL


async def test_nonce__used_twice_in_a_block_or_by_a_stranger__lands_once(node: Node):
    wallet, stranger, to = rich(node), rich(node), Keypair().pubkey()
    nonce = Nonce(node, wallet)
    advance = AdvanceNonceAccountParams(nonce_pubkey=nonce.key, authorized_pubkey=stranger.pubkey())
    without = signed(nonce.value(), [giving(stranger, to, SOL)], stranger)
    not_his = signed(nonce.value(), [advance_nonce_account(advance), giving(stranger, to, SOL)], stranger)
    assert land(node, without) is None
    assert land(node, not_his) is None
    # Everybody can tell what the next value will be, but it is good only from the next block on.
    next_value = Hash(durable_nonce(node.chain.head.hash))
    first, second, third = nonce.paying(to, SOL), nonce.paying(to, 2 * SOL), nonce.paying(to, 3 * SOL, next_value)
    for transaction in (first, second, third):
        node.chain.submit(parse(bytes(transaction)))
    assert [record.signature for record in node.chain.advance()[0].records] == [str(first.signatures[0])]
    assert land(node, third) is not None


async def test_lookup_tables__more_recipients_than_fit__land_and_tell_what_they_loaded(node: Node, client: AsyncClient):
    wallet = rich(node)
    stage = Stage(node.chain)
    recipients = [Keypair().pubkey() for _ in range(20)]
    table = stage.create_lookup_table(recipients)
    transfers = [giving(wallet, to, SOL) for to in recipients]
    record = stage.perform(transfers, wallet, tables=[table])
    settle(node)
    told = await rpc(client, "getTransaction", record.signature, {"maxSupportedTransactionVersion": 0})
    assert told["version"] == 0
    loaded = told["meta"]["loadedAddresses"]
    assert loaded["readonly"] == []
    assert sorted(loaded["writable"]) == sorted(map(str, recipients))
    assert len(told["meta"]["postBalances"]) == len(told["transaction"]["message"]["accountKeys"]) + 20
    assert told["transaction"]["message"]["addressTableLookups"][0]["accountKey"] == str(table.key)
    assert [(await client.get_balance(to)).value for to in recipients] == [SOL] * 20
    code, message, _ = await refused(client, "getTransaction", record.signature)
    assert code == -32015
    assert message == (
        "Transaction version (0) is not supported by the requesting client. Please try the request again with the"
        ' following configuration parameter: "maxSupportedTransactionVersion": 0'
    )
    parsed = await rpc(
        client, "getTransaction", record.signature, {"maxSupportedTransactionVersion": 0, "encoding": "jsonParsed"}
    )
    sources = [key["source"] for key in parsed["transaction"]["message"]["accountKeys"]]
    assert sources.count("lookupTable") == 20


async def test_lookup_tables__one_that_is_not_there__is_refused(node: Node, client: AsyncClient):
    wallet = rich(node)
    stage = Stage(node.chain)
    to = Keypair().pubkey()
    table = stage.create_lookup_table([to])
    node.chain.fork(1)
    message = MessageV0.try_compile(wallet.pubkey(), [giving(wallet, to, SOL)], [table], node.chain.head.hash)
    transaction = VersionedTransaction(message, [wallet])
    code, text, _ = await refused(
        client, "sendTransaction", encoded(transaction), {"encoding": "base64", "skipPreflight": True}
    )
    assert code == -32602
    assert text == "invalid transaction: Transaction loads an address table account that doesn't exist"


async def test_simulate__what_would_be__is_told_and_does_not_happen(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    transaction = signed(node.chain.head.hash, [giving(wallet, to, SOL)], wallet)
    told = (
        await client.simulate_transaction(
            transaction, sig_verify=True, commitment=Processed, accounts_addresses=[to, wallet.pubkey()]
        )
    ).value
    assert told.err is None
    assert told.units_consumed == 150
    assert told.logs == [
        "Program 11111111111111111111111111111111 invoke [1]",
        "Program 11111111111111111111111111111111 success",
    ]
    assert told.accounts is not None
    assert [account.lamports for account in told.accounts if account] == [SOL, 99 * SOL - 5000]
    assert (await client.get_balance(to, Processed)).value == 0
    assert node.chain.advance()[0].records == []


async def test_simulate__blockhash_and_signatures__are_asked_for_only_when_wanted(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    settle(node)
    stale = signed(Hash.new_unique(), [giving(wallet, to, SOL)], wallet)
    assert (await client.simulate_transaction(stale)).value.err == TransactionErrorFieldless.BlockhashNotFound
    options: dict[str, Any] = {"encoding": "base64", "replaceRecentBlockhash": True}
    told = await rpc(client, "simulateTransaction", encoded(stale), options)
    assert told["value"]["err"] is None
    assert told["value"]["replacementBlockhash"] == (await rpc(client, "getLatestBlockhash"))["value"]
    code, message, _ = await refused(client, "simulateTransaction", encoded(stale), {**options, "sigVerify": True})
    assert (code, message) == (-32602, "sigVerify may not be used with replaceRecentBlockhash")
    unsigned = VersionedTransaction.populate(stale.message, [Keypair().sign_message(b"other")])
    code, _, _ = await refused(
        client, "simulateTransaction", encoded(unsigned), {"encoding": "base64", "sigVerify": True}
    )
    assert code == -32003
    assert (await client.simulate_transaction(unsigned, replace_recent_blockhash=True)).value.err is None


async def test_min_context_slot__ahead_of_the_node__is_refused_with_where_it_is(node: Node, client: AsyncClient):
    wallet = rich(node)
    transaction = signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet)
    slot = node.chain.head.slot
    options = {"encoding": "base64", "minContextSlot": slot + 1, "preflightCommitment": "processed"}
    for method, parameters in (
        ("sendTransaction", (encoded(transaction), options)),
        ("sendTransaction", (encoded(transaction), {**options, "skipPreflight": True})),
        ("getBalance", (str(wallet.pubkey()), {"minContextSlot": slot + 1, "commitment": "processed"})),
    ):
        assert await refused(client, method, *parameters) == (
            -32016,
            "Minimum context slot has not been reached",
            {"contextSlot": slot},
        )
    await client.send_transaction(transaction, TxOpts(preflight_commitment=Processed, max_retries=0))
    assert len(node.chain.advance()[0].records) == 1


async def test_airdrop__twice_in_one_slot__both_land(node: Node, client: AsyncClient):
    wallet = Keypair().pubkey()
    first = (await client.request_airdrop(wallet, SOL, Confirmed)).value
    second = (await client.request_airdrop(wallet, SOL, Confirmed)).value
    assert first != second
    settle(node)
    node.chain.advance()
    assert (await client.get_balance(wallet)).value == 2 * SOL
