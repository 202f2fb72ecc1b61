"""What a payout on Solana costs and how fast it goes out, on a local chain, beside programs without a guard.

ours          proposal, pre-flight, simulation, signature, send, look-up when final: batches as they are packed
              through tables: what they name stands in lookup tables, as `bridge lookup-tables extend` makes them
full batches  as many transfers as fit a transaction, signed and sent; no marker, no memo, nothing is looked at
one by one    solana-py: a transaction for each recipient, sent as a wallet would (with the node's own pre-flight)

fee      lamports that are gone. Compute units cost extra where there is a crowd; the local chain takes none for them.
deposit  lamports that stay in accounts: a marker for each batch and, where they are made, recipients' accounts
tables   cost a deposit once, which `bridge lookup-tables retire` gives back: it is told apart
The node is a process of its own and takes most of the time: it is Python, and answers each call alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from solana.rpc.async_api import AsyncClient
from solana.rpc.models import TxOpts
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, create_account
from solders.transaction import VersionedTransaction
from spl.token import instructions as token_instructions
from spl.token import models

from bridge.chains.solana import rpc as values
from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.keeper import Keeper
from bridge.chains.solana.messages import TRANSACTION_BYTES_MAX
from bridge.chains.solana.payer import SolanaPayer
from bridge.chains.solana.programs import NATIVE
from bridge.chains.solana.reader import reference_of
from bridge.chains.solana.rpc import FINALIZED, SolanaRpc
from bridge.chains.solana.signer import KeystoreSigner
from bridge.domain.payouts import Action, Order, Payout, Signed, Slot
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.paying import Ready
from bridge.simulation.svm.node import NodeProcess
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import SOL, derive_key
from bridge.simulation.svm.tokens import MINT_SIZE, TOKEN_PROGRAM

SETTINGS = Settings(timer=False, confirmed_depth=0, finalized_depth=0, genesis_time=1_900_000_000)
CHAIN = "here"
AMOUNT = 1_000_000
AT_ONCE = 16
NAIVE_MAX = 300


@dataclass
class Result:
    name: str
    recipients: int
    transactions: int
    fee: int
    deposits: int
    seconds: float

    def print(self) -> None:
        per = self.recipients
        print(f"{self.name:34} {self.recipients / self.transactions:>6.1f} {self.fee / per:>11,.0f} "
              f"{self.deposits / per:>11,.0f} {per / self.seconds:>13,.0f}")  # fmt: skip


class Bench:
    def __init__(self, node: NodeProcess, client: AsyncClient, rpc: SolanaRpc) -> None:
        self._node, self._client, self._rpc = node, client, rpc
        self.vault, self.operator = derive_key(0, "vault"), derive_key(0, "operator")
        self.mint = derive_key(0, "mint")

    async def advance(self, slots: int = 1) -> None:
        await self._node.order({"do": "advance", "slots": slots})

    async def blockhash(self) -> Hash:
        return (await self._client.get_latest_blockhash()).value.blockhash

    async def furnish(self) -> None:
        """The operator is the vault's delegate, without a limit worth the name."""
        for key in (self.vault, self.operator):
            await self._client.request_airdrop(key.pubkey(), 10_000 * SOL)
        await self.advance()
        await self.advance()
        vault, mint = self.vault.pubkey(), self.mint.pubkey()
        rent = (await self._client.get_minimum_balance_for_rent_exemption(MINT_SIZE)).value
        account = token_instructions.get_associated_token_address(vault, mint)
        await self._land(
            [
                _create(vault, mint, rent),
                token_instructions.initialize_mint2(
                    models.InitializeMint2Params(
                        program_id=TOKEN_PROGRAM, mint=mint, decimals=6, mint_authority=vault, freeze_authority=None
                    )
                ),
                token_instructions.create_idempotent_associated_token_account(vault, vault, mint),
                token_instructions.mint_to(
                    models.MintToParams(
                        program_id=TOKEN_PROGRAM, mint=mint, dest=account, mint_authority=vault, amount=10**18
                    )
                ),
                token_instructions.approve(
                    models.ApproveParams(
                        program_id=TOKEN_PROGRAM,
                        source=account,
                        delegate=self.operator.pubkey(),
                        owner=vault,
                        amount=10**18,
                    )
                ),
            ],
            self.vault,
            self.mint,
        )

    async def open_accounts(self, recipients: list[Address]) -> None:
        mint, payer = self.mint.pubkey(), self.operator.pubkey()
        for start in range(0, len(recipients), 10):
            steps = [
                token_instructions.create_idempotent_associated_token_account(payer, Pubkey(recipient), mint)
                for recipient in recipients[start : start + 10]
            ]
            await self._send(steps, self.operator)
            if start % 2_000 == 0:
                await self.advance()
        await self.advance()

    async def _land(self, steps: list[Instruction], *signers: Keypair) -> None:
        await self._send(steps, *signers)
        await self.advance()

    async def _send(self, steps: list[Instruction], *signers: Keypair) -> None:
        message = MessageV0.try_compile(signers[0].pubkey(), steps, [], await self.blockhash())
        await self._client.send_raw_transaction(bytes(VersionedTransaction(message, list(signers))))

    # ── ours ──
    async def head(self) -> BlockStamp:
        slot = values.number(await self._rpc.call("getSlot", [FINALIZED]))
        block = await self._rpc.call("getBlock", [slot, {"transactionDetails": "none", "rewards": False, **FINALIZED}])
        return BlockStamp(CHAIN, slot, values.address(block["blockhash"]))

    async def keep_tables(self, recipients: list[Address], kind: str) -> tuple[Address, ...]:
        """Tables with these recipients, of a key of their own; prints what they cost."""
        mint = NATIVE if kind == "SOL" else Address(bytes(self.mint.pubkey()))
        key = derive_key(0, f"keeper for {kind}")
        await self._client.request_airdrop(key.pubkey(), 100 * SOL)
        await self.advance(2)
        vault = Address(bytes(self.vault.pubkey()))
        keeper = Keeper(self._rpc, (), vault, [mint], FeeCeilings(0), poll_interval_ms=20)
        making = asyncio.create_task(keeper.extend(KeystoreSigner(key), {mint: recipients}, lambda _: None))
        while not making.done():
            await self.advance()
            await asyncio.sleep(0.02)
        listed = await keeper.tables(Address(bytes(key.pubkey())))
        deposit, held = sum(one.deposit for one in listed), (await self._client.get_balance(key.pubkey())).value
        count, fees = len(recipients), 100 * SOL - held - deposit
        print(f"  {len(listed)} lookup tables: {deposit / count:,.0f} lamports of deposit a recipient, to be had back; "
              f"{fees / count:,.0f} of fees")  # fmt: skip
        return await making

    async def ours(
        self,
        name: str,
        recipients: list[Address],
        kind: str,
        *,
        create_accounts: bool = False,
        tables: tuple[Address, ...] = (),
    ) -> Result:
        genesis = values.address(await self._rpc.call("getGenesisHash"))
        reference = reference_of(genesis)
        native = kind == "SOL"
        asset = AssetId(f"{reference}/" + ("slip44:501" if native else f"token:{self.mint.pubkey()}"))
        payer = SolanaPayer(
            chain=CHAIN,
            reference=reference,
            genesis=genesis,
            rpc=self._rpc,
            signer=KeystoreSigner(self.operator),
            vault=Address(bytes(self.vault.pubkey())),
            ceilings=FeeCeilings(1_000_000),
            vault_signer=KeystoreSigner(self.vault) if native else None,
            create_accounts=create_accounts,
            lookup_tables=tables,
        )
        payouts = tuple(Payout(recipient, AMOUNT) for recipient in recipients)
        order = Order(bytes(32), CHAIN, name, asset, 0, 1, AMOUNT * len(payouts), payouts)
        started = time.monotonic()
        batches = await payer.pack(order, 200)
        distribution, calls = payer.plan(order, batches)
        actions = [
            Action(call.ordinal, distribution.distribution_id, CHAIN, call.ordinal, call.kind, ActionState.PLANNED,
                   None, call.target, call.payload, distribution.content_hash, 0)
            for call in calls
        ]  # fmt: skip
        fee = deposits = 0
        for some in (actions[:1], *(actions[at : at + AT_ONCE] for at in range(1, len(actions), AT_ONCE))):
            at = await self.head()
            signed = [await self._sign(payer, action, at) for action in some]
            await self.advance()
            for tx_id in signed:
                [inclusion] = await payer.inclusions(tx_id)
                assert inclusion.succeeded
                fee, deposits = fee + inclusion.fee_paid, deposits + inclusion.deposits
        seconds = time.monotonic() - started
        return Result(name, len(recipients), len(batches), fee, deposits, seconds)

    async def _sign(self, payer: SolanaPayer, action: Action, at: BlockStamp) -> bytes:
        ready = await payer.preflight(action, at)
        assert isinstance(ready, Ready), ready
        signed = await payer.sign(action, Slot(1, payer.account, 0, ready.gas_limit, SlotState.LIVE), None)
        assert isinstance(signed, Signed), signed
        await payer.broadcast(signed.raw)
        return signed.tx_id

    # ── others ──
    async def others(self, name: str, recipients: list[Address], per_transaction: int, *, skip: bool) -> Result:
        started = time.monotonic()
        transactions = 0
        for start in range(0, len(recipients), per_transaction):
            steps = [self._transfer(recipient) for recipient in recipients[start : start + per_transaction]]
            blockhash = await self.blockhash()
            message = MessageV0.try_compile(self.operator.pubkey(), steps, [], blockhash)
            raw = bytes(VersionedTransaction(message, [self.operator]))
            assert len(raw) <= TRANSACTION_BYTES_MAX
            await self._client.send_raw_transaction(raw, opts=TxOpts(skip_preflight=skip))
            transactions += 1
            if transactions % AT_ONCE == 0:
                await self.advance()
        await self.advance()
        return Result(name, len(recipients), transactions, 5_000 * transactions, 0, time.monotonic() - started)

    def _transfer(self, recipient: Address) -> Instruction:
        vault, mint = self.vault.pubkey(), self.mint.pubkey()
        account = token_instructions.get_associated_token_address
        return token_instructions.transfer_checked(
            models.TransferCheckedParams(
                program_id=TOKEN_PROGRAM,
                source=account(vault, mint),
                mint=mint,
                dest=account(Pubkey(recipient), mint),
                owner=self.operator.pubkey(),
                amount=AMOUNT,
                decimals=6,
            )
        )


def _create(payer: Pubkey, mint: Pubkey, rent: int) -> Instruction:
    return create_account(
        CreateAccountParams(from_pubkey=payer, to_pubkey=mint, lamports=rent, space=MINT_SIZE, owner=TOKEN_PROGRAM)
    )


def people(name: str, count: int) -> list[Address]:
    return sorted(Address(hashlib.sha256(f"{name} {number}".encode()).digest()) for number in range(count))


async def run(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
        node = await NodeProcess.start(Path(folder) / "svm.log", SETTINGS)
        rpc, client = SolanaRpc([node.rpc_url]), AsyncClient(node.rpc_url)
        try:
            bench = Bench(node, client, rpc)
            await bench.furnish()
            await measure(bench, count)
        finally:
            await rpc.close()
            await client.close()
            await node.stop()


async def measure(bench: Bench, count: int) -> None:
    print("per recipient:                   per tx         fee     deposit  recipients/s")
    known, fresh = people("known", count), people("fresh", count)
    await bench.open_accounts(known)
    (await bench.ours("ours, tokens", known, "SPL")).print()
    (await bench.others("full batches", known, 18, skip=True)).print()
    (await bench.others("one by one", known[:NAIVE_MAX], 1, skip=False)).print()
    on_curve = [recipient for recipient in fresh if Pubkey(recipient).is_on_curve()]
    (await bench.ours("ours, tokens to new accounts", on_curve, "SPL", create_accounts=True)).print()
    (await bench.ours("ours, SOL", known, "SOL")).print()
    for kind in ("SPL", "SOL"):
        tables = await bench.keep_tables(known, kind)
        name = f"ours, {'tokens' if kind == 'SPL' else kind}, through tables"
        (await bench.ours(name, known, kind, create_accounts=True, tables=tables)).print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipients", type=int, default=1_200)
    asyncio.run(run(parser.parse_args().recipients))
