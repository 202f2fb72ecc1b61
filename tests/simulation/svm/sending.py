"""What the tests of the local Solana chain share: raw calls through the real client, wallets and transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.jsonrpc import JsonRpcRequest, SolanaJsonRpcError
from solana.rpc.models import TxOpts
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from bridge.simulation.svm.node import Node
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import SOL, Stage
from bridge.simulation.svm.transactions import parse

SETTINGS = Settings(timer=False, confirmed_depth=2, finalized_depth=5, genesis_time=1_700_000_000)
UNCHECKED = TxOpts(skip_preflight=True)


async def rpc(client: AsyncClient, method: str, *parameters: Any) -> Any:
    """The raw `result` of a call."""
    return await client.send_rpc_request(JsonRpcRequest(method=method, params=list(parameters)), Any)


async def refused(client: AsyncClient, method: str, *parameters: Any) -> tuple[int, str, Any]:
    """Code, message and data of the error that a call must be answered with."""
    with pytest.raises(SolanaJsonRpcError) as caught:
        await rpc(client, method, *parameters)
    return caught.value.code, caught.value.message, caught.value.data


def giving(payer: Keypair, to: Pubkey, lamports: int) -> Instruction:
    """A transfer of SOL."""
    return transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports))


def signed(
    blockhash: Hash, instructions: Sequence[Instruction], *signers: Keypair, legacy: bool = False
) -> VersionedTransaction:
    """Paid for by the first signer."""
    message: Message | MessageV0
    if legacy:
        message = Message.new_with_blockhash(list(instructions), signers[0].pubkey(), blockhash)
    else:
        message = MessageV0.try_compile(signers[0].pubkey(), list(instructions), [], blockhash)
    return VersionedTransaction(message, list(signers))


def rich(node: Node, sol: int = 100) -> Keypair:
    """A new wallet with SOL, finalized."""
    wallet = Keypair()
    Stage(node.chain).fund(wallet.pubkey(), sol * SOL)
    settle(node)
    return wallet


def settle(node: Node) -> None:
    """Let everything that has landed become final."""
    node.chain.advance_blocks(node.chain.settings.finalized_depth)


def land(node: Node, transaction: VersionedTransaction) -> Record | None:
    """Submit past the RPC and let the slot pass; None: it did not land."""
    wire = parse(bytes(transaction))
    node.chain.submit(wire)
    block = node.chain.advance_blocks()[-1]
    return next((record for record in block.records if record.signature == wire.signature), None)
