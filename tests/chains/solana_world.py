"""A vault, a pool and their people on a local Solana chain, for tests: blocks close only when told to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from spl.token import instructions as token_instructions
from spl.token import models

from bridge.chains.solana.events import compile_event
from bridge.chains.solana.logs import PLACES, TRANSFER
from bridge.chains.solana.reader import SolanaReader
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.tokens import Names, Token
from bridge.domain.events import Block
from bridge.domain.units import Address, AssetId, base58
from bridge.ports.reading import LogFilter
from bridge.simulation.svm import stage
from bridge.simulation.svm.chain import Commitment
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.transactions import parse

TRANSFERRED = compile_event("Transfer(address indexed from, address indexed to, uint256 value)")
LAMPORTS = 10**10


class SolanaWorld:
    """What is mined is final at once, for the bridge looks at nothing else there."""

    whole = False
    sequence = None

    def __init__(self, node: Node, others: Sequence[Node] = (), *, timeout_ms: int = 10_000) -> None:
        self.node = node
        self.nodes = [node, *others]
        self.scene = stage.Stage(node.chain)
        self.vault, self.pool, self.operator = (self.scene.key(name) for name in ("vault", "pool", "operator"))
        self.people = [self.scene.key(f"person {number}") for number in range(4)]
        for signer in (self.vault, self.pool, self.operator, *self.people):
            self.scene.fund(signer.pubkey(), LAMPORTS)
        self.token = self.scene.create_token("USDX", 6)
        for holder in (self.pool, *self.people):
            self.scene.mint(self.token, holder.pubkey(), 1_000_000)
        self.scene.open_account(self.token, self.vault.pubkey())
        self._sent = 0
        self.names = Names(
            contracts={"vault": address_of(self.vault), "pool": address_of(self.pool)},
            operator=address_of(self.operator),
            tokens={"USDX": Token(Address(bytes(self.token.mint)), 6)},
        )
        self.rpc = SolanaRpc([each.rpc_url for each in self.nodes], timeout_ms=timeout_ms)
        self.reader = self.read_by(self.rpc)
        holders = (bytes(self.vault.pubkey()),)
        self.filters = [LogFilter((Address(bytes(self.token.mint)),), ((TRANSFER,), None, holders))]
        self.native = AssetId(f"{self.reader.reference}/slip44:501")
        self.asset = AssetId(f"{self.reader.reference}/token:{base58(bytes(self.token.mint))}")
        self.account = address_of(self.scene.key("account"))
        self.first = node.chain.next_slot
        self.genesis = bytes(node.chain.genesis_hash)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, settings: Settings | None = None, *, nodes: int = 1) -> AsyncIterator[SolanaWorld]:
        settings = settings or Settings(timer=False, confirmed_depth=0, finalized_depth=0, genesis_time=1_700_000_000)
        async with contextlib.AsyncExitStack() as stack:
            node = await stack.enter_async_context(Node.serve(settings))
            others = [await stack.enter_async_context(node.join()) for _ in range(nodes - 1)]
            world = cls(node, others)
            stack.push_async_callback(world.rpc.close)
            yield world

    def read_by(
        self, rpc: SolanaRpc, *, wake_url: str | None = None, poll_interval_ms: int = 5, keep_records: bool = False
    ) -> SolanaReader:
        return SolanaReader(
            "solana",
            rpc,
            self.names,
            genesis_hash=bytes(self.node.chain.genesis_hash),
            poll_interval_ms=poll_interval_ms,
            wake_url=wake_url,
            keep_records=keep_records,
        )

    # ── As the contract tests want it ────────────────────────────────────────────────────────────────────────────
    async def mine(self, *counts: int) -> None:
        """Each watched log is a transfer to the vault, of so many atoms; the one that is not watched is between
        others."""
        for count in counts:
            for atoms in range(count, 0, -1):
                self.send([self.pay(self.people[0], self.vault, atoms)], self.people[0])
            self.send([self.pay(self.people[0], self.people[1], 1)], self.people[0])
            self.node.chain.advance_blocks()

    def log_index(self, place: int) -> int:
        """Of the log at so many places from the first one in its block: the fee is the first payment of each."""
        return place * PLACES + 4

    async def chain(self) -> list[Block]:
        return [
            Block(block.slot, bytes(block.hash), bytes(block.parent_hash), block.time)
            for block in self.node.chain.blocks
            if block.slot <= self.node.chain.newest(Commitment.FINALIZED).slot
        ]

    async def fund(self, amount: int) -> None:
        faucet = self.node.chain.faucet
        to = Pubkey(self.account)
        self.send([transfer(TransferParams(from_pubkey=faucet.pubkey(), to_pubkey=to, lamports=amount))], faucet)

    # ── Anything else ────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, instructions: Iterable[Instruction], *signers: Keypair) -> bytes:
        """A transaction for the next block; its signature. No two are alike."""
        self._sent += 1
        unique = Instruction(Pubkey.from_string("ComputeBudget111111111111111111111111111111"),
                             b"\x02" + (200_000 + self._sent).to_bytes(4, "little"), [])  # fmt: skip
        message = MessageV0.try_compile(signers[0].pubkey(), [unique, *instructions], [], self.node.chain.head.hash)
        wire = parse(bytes(VersionedTransaction(message, list(signers))))
        self.node.chain.submit(wire)
        return bytes(wire.transaction.signatures[0])

    def pay(self, payer: Keypair, payee: Keypair, atoms: int) -> Instruction:
        return stage.transfer_checked(self.token, payer.pubkey(), payee.pubkey(), atoms)

    def open_account(self, owner: Keypair) -> Instruction:
        return token_instructions.create_idempotent_associated_token_account(
            self.scene.director.pubkey(), owner.pubkey(), self.token.mint, self.token.program
        )

    def print_money(self, owner: Keypair, atoms: int) -> Instruction:
        return token_instructions.mint_to(
            models.MintToParams(
                program_id=self.token.program,
                mint=self.token.mint,
                dest=self.token.account_of(owner.pubkey()),
                mint_authority=self.scene.director.pubkey(),
                amount=atoms,
            )
        )


def memo(text: str) -> Instruction:
    return Instruction(stage.MEMO_PROGRAM, text.encode(), [])


def address_of(key: Keypair) -> Address:
    return Address(bytes(key.pubkey()))
