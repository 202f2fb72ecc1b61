"""What is told of transactions that landed: statuses, history by account, token balances."""

from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solders.keypair import Keypair
from solders.signature import Signature

from bridge.simulation.svm.chain import Commitment
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.settings import RECORDS_KEPT
from bridge.simulation.svm.stage import SOL, Stage
from tests.simulation.svm.sending import UNCHECKED, giving, land, refused, rich, rpc, settle, signed


def pay(node: Node, wallet: Keypair, lamports: int = SOL) -> Record:
    record = land(node, signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), lamports)], wallet))
    assert record is not None
    return record


async def test_statuses__from_processed_to_forgotten__have_all_fields(node: Node, client: AsyncClient):
    wallet = rich(node)
    good, bad, nobody = pay(node, wallet), pay(node, wallet, 10**15), str(Signature.new_unique())
    asked = [good.signature, bad.signature, nobody]
    err = {"InstructionError": [0, {"Custom": 1}]}
    answer = await rpc(client, "getSignatureStatuses", asked)
    assert answer["context"]["slot"] == node.chain.head.slot
    assert answer["value"] == [
        {
            "confirmationStatus": "processed",
            "confirmations": 1,
            "err": None,
            "slot": good.slot,
            "status": {"Ok": None},
        },
        {
            "confirmationStatus": "processed",
            "confirmations": 0,
            "err": err,
            "slot": bad.slot,
            "status": {"Err": err},
        },
        None,
    ]
    node.chain.advance(1)
    told = (await rpc(client, "getSignatureStatuses", asked))["value"]
    assert [status and (status["confirmationStatus"], status["confirmations"]) for status in told] == [
        ("confirmed", 2),
        ("processed", 1),
        None,
    ]
    node.chain.advance(4)
    told = (await rpc(client, "getSignatureStatuses", asked))["value"]
    assert [status and (status["confirmationStatus"], status["confirmations"]) for status in told] == [
        ("finalized", None),
        ("finalized", None),
        None,
    ]
    node.chain.advance(302)
    assert (await rpc(client, "getSignatureStatuses", asked))["value"] == [None, None, None]
    searched = await rpc(client, "getSignatureStatuses", asked, {"searchTransactionHistory": True})
    assert [status and status["slot"] for status in searched["value"]] == [good.slot, bad.slot, None]
    too_many = await refused(client, "getSignatureStatuses", [good.signature] * 257)
    assert too_many[:2] == (-32602, "Too many inputs provided; max 256")
    assert len((await rpc(client, "getSignatureStatuses", [good.signature] * 256))["value"]) == 256


async def test_transaction__unknown_or_not_yet_that_sure__is_null(node: Node, client: AsyncClient):
    record = pay(node, rich(node))
    version = {"maxSupportedTransactionVersion": 0}
    assert await rpc(client, "getTransaction", record.signature, version) is None
    confirmed = {**version, "commitment": "confirmed"}
    assert await rpc(client, "getTransaction", record.signature, confirmed) is None
    node.chain.advance(2)
    told = await rpc(client, "getTransaction", record.signature, confirmed)
    assert (told["slot"], told["blockTime"]) == (record.slot, record.place.time)
    assert await rpc(client, "getTransaction", record.signature, version) is None
    answer = await refused(client, "getTransaction", record.signature, {"commitment": "processed"})
    assert answer[:2] == (-32602, "Method does not support commitment below `confirmed`")
    assert (await refused(client, "getTransaction", "abc"))[:2] == (-32602, "Invalid param: WrongSize")


async def test_transaction__of_tokens__tells_balances_before_and_after(node: Node, client: AsyncClient):
    stage = Stage(node.chain)
    world = stage.build_world(2)
    usdx, to = world.tokens[0], world.participants[-1].pubkey()
    record = stage.transfer(usdx, world.vault, to, 1_250_000, memo="distribution 7")
    settle(node)
    signature = Signature.from_string(record.signature)
    told = (await client.get_transaction(signature, "base64", max_supported_transaction_version=0)).value
    assert told is not None
    meta = told.transaction.meta
    assert meta is not None
    assert [(str(item.owner), item.ui_token_amount.amount) for item in meta.pre_token_balances or []] == [
        (str(world.vault.pubkey()), "1000000000000")
    ]
    after = {str(item.owner): item for item in meta.post_token_balances or []}
    assert after[str(to)].ui_token_amount.ui_amount_string == "1.25"
    assert after[str(world.vault.pubkey())].ui_token_amount.amount == "999998750000"
    assert {item.program_id for item in after.values()} == {usdx.program}
    assert {item.mint for item in after.values()} == {usdx.mint}
    keys = record.loaded.keys
    assert {keys[item.account_index] for item in after.values()} == {
        usdx.account_of(to),
        usdx.account_of(world.vault.pubkey()),
    }
    [newest] = (await client.get_signatures_for_address(usdx.account_of(to))).value
    assert newest.memo == "[14] distribution 7"
    parsed = await rpc(
        client, "getTransaction", record.signature, {"encoding": "jsonParsed", "maxSupportedTransactionVersion": 0}
    )
    memo = parsed["transaction"]["message"]["instructions"][-1]
    assert (memo["program"], memo["parsed"]) == ("spl-memo", "distribution 7")
    inner = parsed["meta"]["innerInstructions"]
    assert inner[0]["index"] == 0, "the opening of the account called other programs"
    assert "loadedAddresses" not in parsed["meta"]


async def test_signatures__paging_with_before_and_until__gives_each_once(node: Node, client: AsyncClient):
    wallet = rich(node)
    records = [pay(node, wallet, SOL + extra) for extra in range(25)]
    transactions = [signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet) for _ in range(5)]
    for transaction in transactions:  # more than one in a block
        await client.send_raw_transaction(bytes(transaction), UNCHECKED)
    settle(node)
    node.chain.advance()
    address = str(wallet.pubkey())
    everything = await rpc(client, "getSignaturesForAddress", address)
    assert everything[0] == {
        "blockTime": node.chain.genesis_time + (everything[0]["slot"] - 1000) * 400 // 1000,
        "confirmationStatus": "finalized",
        "err": None,
        "memo": None,
        "signature": everything[0]["signature"],
        "slot": everything[0]["slot"],
    }
    signatures = [told["signature"] for told in everything]
    assert signatures[:5] == [str(transaction.signatures[0]) for transaction in reversed(transactions)]
    assert signatures[5:30] == [record.signature for record in reversed(records)]

    until = records[3].signature
    pages: list[str] = []
    before: dict[str, str] = {}
    while True:
        page = await rpc(client, "getSignaturesForAddress", address, {"limit": 7, "until": until, **before})
        if not page:
            break
        pages += [told["signature"] for told in page]
        before = {"before": pages[-1]}
    assert pages == signatures[: signatures.index(until)]


async def test_signatures__limits_commitments_and_strangers__are_as_documented(node: Node, client: AsyncClient):
    wallet = rich(node)
    settle(node)
    record = pay(node, wallet)
    address, unknown = str(wallet.pubkey()), str(Signature.new_unique())
    finalized = await rpc(client, "getSignaturesForAddress", address)
    assert record.signature not in [told["signature"] for told in finalized]
    node.chain.advance(2)
    confirmed = (await client.get_signatures_for_address(wallet.pubkey(), commitment=Confirmed)).value
    assert str(confirmed[0].signature) == record.signature
    assert await rpc(client, "getSignaturesForAddress", address, {"until": unknown}) == finalized
    assert await rpc(client, "getSignaturesForAddress", address, {"before": unknown}) == []
    node.faults.strict_cursors = True
    for cursor in ("before", "until"):
        answer = await refused(client, "getSignaturesForAddress", address, {cursor: unknown})
        assert answer[:2] == (-32020, f"Transaction {unknown} not found")
    node.faults.clear()
    assert await rpc(client, "getSignaturesForAddress", str(Keypair().pubkey())) == []
    for limit in (0, 1001):
        answer = await refused(client, "getSignaturesForAddress", address, {"limit": limit})
        assert answer[:2] == (-32602, "Invalid limit; max 1000")
    answer = await refused(client, "getSignaturesForAddress", address, {"commitment": "processed"})
    assert answer[:2] == (-32602, "Method does not support commitment below `confirmed`")
    ahead = {"minContextSlot": node.chain.head.slot}
    assert (await refused(client, "getSignaturesForAddress", address, ahead))[0] == -32016


async def test_history__beyond_what_is_kept__is_cleaned_up_everywhere(node: Node):
    """The indexes hold the records of the kept blocks, no more and no fewer."""
    chain, wallet = node.chain, rich(node, sol=10_000)
    kept = 5
    object.__setattr__(chain.settings, "records_kept", kept)  # frozen for everybody else
    try:
        for count in range(40):
            pay(node, wallet, SOL + count)
        chain.advance_blocks(700)
    finally:
        object.__setattr__(chain.settings, "records_kept", RECORDS_KEPT)
    in_blocks = [record for block in chain.blocks for record in block.records]
    assert len(chain.history) == len(in_blocks) <= kept
    assert chain.history.of_account(str(wallet.pubkey())) == in_blocks
    assert chain.newest(Commitment.FINALIZED).height == chain.head.height - 5
    pay(node, wallet, 7)
    assert len(chain.history.of_account(str(wallet.pubkey()))) == len(in_blocks) + 1
