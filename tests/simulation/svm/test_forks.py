"""Forks: what dies, what lives on, and what nobody may see twice."""

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solders.keypair import Keypair

from bridge.domain.errors import RefusedError
from bridge.simulation.svm.chain import Chain, Commitment, Fate
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import SOL, Stage
from bridge.simulation.svm.transactions import parse
from tests.simulation.svm.sending import UNCHECKED, giving, land, refused, rich, rpc, settle, signed
from tests.simulation.svm.test_sending import Nonce


async def test_fork__of_a_confirmed_transaction__takes_every_trace_of_it(node: Node, client: AsyncClient):
    wallet, to = rich(node), Keypair().pubkey()
    before = (await client.get_balance(wallet.pubkey(), Processed)).value
    transaction = signed(node.chain.head.hash, [giving(wallet, to, SOL)], wallet)
    record = land(node, transaction)
    assert record is not None
    node.chain.advance(2)
    signature = transaction.signatures[0]
    assert (await client.get_balance(to, Confirmed)).value == SOL
    old_head = node.chain.head

    dead = node.chain.fork(3)
    assert [item.signature for item in dead] == [record.signature]
    assert (await client.get_signature_statuses([signature], search_transaction_history=True)).value == [None]
    assert (await client.get_transaction(signature, commitment=Confirmed)).value is None
    assert (await client.get_signatures_for_address(to, commitment=Confirmed)).value == []
    for level in (Processed, Confirmed, Finalized):
        assert (await client.get_balance(to, level)).value == 0
        assert (await client.get_balance(wallet.pubkey(), level)).value == before
    head = node.chain.head
    assert head.slot == old_head.slot + 1, "slots of the dead fork are never used again"
    assert head.height == old_head.height - 2
    assert head.parent_slot == record.slot - 1
    code = (await refused(client, "getBlock", record.slot, {"commitment": "confirmed"}))[0]
    assert code == -32004, "not final yet: it may have been of a fork"
    settle(node)
    assert (await refused(client, "getBlock", record.slot))[0] == -32007

    # Its blockhash lived before the fork, so the same bytes can land again, once.
    await client.send_raw_transaction(bytes(transaction), UNCHECKED)
    await client.send_raw_transaction(bytes(transaction), UNCHECKED)
    settle(node)
    settle(node)
    assert (await client.get_balance(to)).value == SOL


async def test_fork__blockhash_of_the_dead_fork__is_not_found(node: Node, client: AsyncClient):
    wallet = rich(node)
    node.chain.advance()
    blockhash = node.chain.head.hash
    transaction = signed(blockhash, [giving(wallet, Keypair().pubkey(), SOL)], wallet)
    node.chain.fork(1)
    processed = {"commitment": "processed"}
    assert (await rpc(client, "isBlockhashValid", str(blockhash), processed))["value"] is False
    assert land(node, transaction) is None
    hashes = {str(block.hash) for block in node.chain.blocks}
    node.chain.advance(5)
    node.chain.fork(3)
    node.chain.advance(5)
    assert str(blockhash) not in hashes | {str(block.hash) for block in node.chain.blocks}


async def test_fork__below_the_finalized_block__is_refused(node: Node):
    node.chain.advance(10)
    with pytest.raises(RefusedError):
        node.chain.fork(6)
    finalized = node.chain.newest(Commitment.FINALIZED)
    node.chain.fork(5)
    assert node.chain.newest(Commitment.FINALIZED) is finalized
    with pytest.raises(RefusedError):
        node.chain.fork(2)
    node.chain.advance(3)
    assert node.chain.newest(Commitment.FINALIZED) is finalized, (
        "finality never goes back, nor on before it is deep again"
    )


@pytest.mark.parametrize("fate", list(Fate))
async def test_fork__fate_of_the_transactions__is_as_ordered(node: Node, fate: Fate):
    wallet = rich(node)
    blockhash = node.chain.head.hash
    transactions = [signed(blockhash, [giving(wallet, Keypair().pubkey(), SOL)], wallet) for _ in range(12)]
    first_slots: dict[str, int] = {}
    for transaction in transactions:
        record = land(node, transaction) if len(first_slots) % 4 == 3 else None
        if record is None:
            node.chain.submit(parse(bytes(transaction)))
        first_slots[str(transaction.signatures[0])] = node.chain.head.slot
    assert len(node.chain.fork(3, fate)) == 12
    assert node.chain.head.records == []
    node.chain.advance(6)
    landed = {signature: node.chain.history.find(signature) for signature in first_slots}
    again = [record for record in landed.values() if record is not None]
    if fate is Fate.DROPPED:
        assert again == []
        return
    assert all(record.slot > first_slots[record.signature] for record in again)
    if fate is Fate.RELANDED:
        assert len(again) == 12
        assert len({record.slot for record in again}) == 1
        assert [record.place.index for record in again] == list(range(12))
    else:
        assert 0 < len(again) < 12
        assert len({record.slot for record in again}) > 1


async def test_fork__of_what_came_from_a_dead_blockhash__lets_nothing_land_again(node: Node):
    wallet = rich(node)
    node.chain.advance()
    record = land(node, signed(node.chain.head.hash, [giving(wallet, Keypair().pubkey(), SOL)], wallet))
    assert record is not None
    node.chain.fork(2, Fate.RELANDED)
    node.chain.advance(5)
    assert record.signature not in node.chain.history


async def test_fork__tokens_nonces_and_new_accounts__are_as_they_were(node: Node):
    stage = Stage(node.chain)
    world = stage.build_world(2)
    nonce = Nonce(node, world.vault)
    settle(node)
    usdx, late = world.tokens[0], world.participants[-1].pubkey()
    value = nonce.value()
    held = stage.held(usdx, world.vault.pubkey())
    stage.transfer(usdx, world.vault, late, 77)
    paying = nonce.paying(late, SOL)
    assert land(node, paying) is not None
    assert nonce.value() != value
    node.chain.fork(2)
    assert nonce.value() == value
    assert stage.held(usdx, world.vault.pubkey()) == held
    assert node.chain.machine.read(usdx.account_of(late)) is None
    assert node.chain.machine.read(late) is None
    # The nonce is as good as before: it is used exactly once on the living fork, however late.
    node.chain.advance_blocks(300)
    assert land(node, paying) is not None
    assert land(node, paying) is None


def test_chain__same_seed_and_calls__is_the_same_chain():
    def play(seed: int) -> list[tuple[int, str, int, list[str]]]:
        settings = Settings(timer=False, seed=seed, finalized_depth=6, skipped_per_mille=200, genesis_time=10)
        chain = Chain(settings, 10)
        stage = Stage(chain)
        world = stage.build_world(3)
        for amount in range(1, 20):
            stage.transfer(world.tokens[0], world.vault, world.participants[0].pubkey(), amount)
            if amount % 5 == 0:
                chain.fork(3, Fate.SCATTERED)
        return [
            (block.slot, str(block.hash), block.time, [record.signature for record in block.records])
            for block in chain.blocks
        ]

    assert play(3) == play(3)
    skipped = play(3)
    assert len(skipped) < skipped[-1][0] - skipped[0][0]
    assert {entry[1] for entry in play(4)}.isdisjoint({entry[1] for entry in skipped})


async def test_fork__what_was_still_waiting__lands_after_what_came_back(node: Node):
    wallet = rich(node)
    blockhash = node.chain.head.hash
    first, second = (signed(blockhash, [giving(wallet, Keypair().pubkey(), SOL)], wallet) for _ in range(2))
    assert land(node, first) is not None
    node.chain.submit(parse(bytes(second)))
    node.chain.fork(1, Fate.RELANDED)
    assert node.chain.head.records == []
    [block] = node.chain.advance()
    assert [record.signature for record in block.records] == [str(each.signatures[0]) for each in (first, second)]
