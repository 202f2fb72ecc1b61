"""A node from the outside: a transfer by the real client, and the same in a process of its own."""

from pathlib import Path

from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.models import TxOpts
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionConfirmationStatus as Status

from bridge.simulation.svm.node import Node, NodeProcess
from bridge.simulation.svm.settings import Settings

SOL = 10**9


async def signed_transfer(client: AsyncClient, payer: Keypair, to: Pubkey, lamports: int) -> VersionedTransaction:
    """A transfer upon the newest confirmed block."""
    blockhash = (await client.get_latest_blockhash(Confirmed)).value.blockhash
    give = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports))
    return VersionedTransaction(MessageV0.try_compile(payer.pubkey(), [give], [], blockhash), [payer])


async def test_transfer__from_sent_to_finalized__each_commitment_follows_in_its_time(node: Node, client: AsyncClient):
    payer, to = Keypair(), Keypair().pubkey()
    await client.request_airdrop(payer.pubkey(), 10 * SOL)
    node.chain.advance(6)
    transaction = await signed_transfer(client, payer, to, SOL)
    signature = (await client.send_transaction(transaction, TxOpts(preflight_commitment=Confirmed))).value
    assert signature == transaction.signatures[0]

    async def seen() -> tuple[Status | None, list[int]]:
        status = (await client.get_signature_statuses([signature])).value[0]
        balances = [(await client.get_balance(to, level)).value for level in (Processed, Confirmed, Finalized)]
        return None if status is None else status.confirmation_status, balances

    assert await seen() == (None, [0, 0, 0])
    node.chain.advance()
    assert await seen() == (Status.Processed, [SOL, 0, 0])
    node.chain.advance(2)
    assert await seen() == (Status.Confirmed, [SOL, SOL, 0])
    node.chain.advance(3)
    assert await seen() == (Status.Finalized, [SOL, SOL, SOL])


async def test_node_process__ordered_from_outside__answers_and_ends_with_us(tmp_path: Path):
    process = await NodeProcess.start(tmp_path / "svm.log", Settings(timer=False, finalized_depth=3, seed=7))
    try:
        async with AsyncClient(process.rpc_url, http2=False) as client:
            wallet = Keypair().pubkey()
            await client.request_airdrop(wallet, SOL)
            assert len(await process.order({"do": "advance", "slots": 4})) == 4
            assert (await client.get_balance(wallet, Finalized)).value == SOL
            state = await process.order({"do": "state"})
            assert state["processed"] - state["finalized"] == 3
    finally:
        await process.stop()
    assert await process.process.ended() == 0
