"""A vault on a local Solana chain whose blocks the test makes, for tests of what is sent.

Accounts are put there as bytes: what no transaction of a test needs to have made would only take time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from bridge.chains.solana.deeds import Deeds
from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.logs import Watch, derive, pick
from bridge.chains.solana.messages import Coin
from bridge.chains.solana.payer import SolanaPayer
from bridge.chains.solana.payloads import PayBatch, read_payload
from bridge.chains.solana.programs import MEMO, SYSTEM, TOKEN, TOKEN_2022
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.signer import KeystoreSigner
from bridge.chains.solana.transactions import OPTIONS, parse_transaction
from bridge.domain.events import Block as Header
from bridge.domain.events import Log
from bridge.domain.payouts import Action, Payout
from bridge.domain.units import Address, AssetId, BlockStamp, format_address
from bridge.ports.paying import Payer
from bridge.ports.reading import LogFilter
from bridge.simulation.svm.chain import Block, Commitment
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.transactions import parse

CHAIN = "here"
FINALIZED_DEPTH = 4
SOL = 10**9
SETTINGS = Settings(
    timer=False,
    confirmed_depth=1,
    finalized_depth=FINALIZED_DEPTH,
    genesis_time=1_900_000_000,
    skipped_per_mille=150,  # so that nobody takes a slot for a height
)
CEILINGS = FeeCeilings(unit_price=1_000_000)
RENT_EMPTY, RENT_MARKER, RENT_HOLDING = 890_880, 897_840, 2_039_280


def key_of(name: str) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(name.encode()).digest())


def address_of(name: str) -> Address:
    return Address(bytes(key_of(name).pubkey()))


def payouts_of(*names: str, first: int = 5_000_000) -> tuple[Payout, ...]:
    """Ascending by recipient; each gets an atom more than the one named before."""
    found = [Payout(address_of(name), first + place) for place, name in enumerate(names)]
    return tuple(sorted(found, key=lambda payout: payout.recipient))


# ── Accounts as bytes ───────────────────────────────────────────────────────────────────────────────────────────────
def mint_bytes(
    decimals: int = 6, *, freezer: Address | None = None, extensions: Sequence[tuple[int, bytes]] = ()
) -> bytes:
    data = b"\1\0\0\0" + address_of("printer") + (10**18).to_bytes(8, "little") + bytes([decimals, 1])
    data += bytes(36) if freezer is None else b"\1\0\0\0" + freezer
    if extensions:
        data = data.ljust(165, b"\0") + b"\1"
        for kind, value in extensions:
            data += kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
    return data


def fee_extension(bps: int) -> tuple[int, bytes]:
    fee = bytes(8) + (2**63).to_bytes(8, "little") + bps.to_bytes(2, "little")
    return 1, bytes(64) + bytes(8) + fee + fee


def holding_bytes(
    mint: Address,
    owner: Address,
    amount: int,
    *,
    delegate: tuple[Address, int] | None = None,
    frozen: bool = False,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    data = mint + owner + amount.to_bytes(8, "little")
    data += bytes(36) if delegate is None else b"\1\0\0\0" + delegate[0]
    data += bytes([2 if frozen else 1]) + bytes(12) + (0 if delegate is None else delegate[1]).to_bytes(8, "little")
    data += bytes(36)
    if extensions:
        data += b"\2"
        for kind, value in extensions:
            data += kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
    return data


@dataclass
class SvmScene:
    """A vault that is full of one token, its delegate, and a payer on one or more nodes."""

    nodes: list[Node]  # of one chain; the payer asks them all
    rpc: SolanaRpc
    coin: Coin
    create_accounts: bool = False
    operator: str = "operator"
    vault: str = "vault"

    @property
    def node(self) -> Node:
        return self.nodes[0]

    def __post_init__(self) -> None:
        chain = self.node.chain
        self.reference = f"solana:{str(chain.genesis_hash)[:32]}"
        kind = "slip44:501" if self.coin.is_native else f"token:{format_address(self.coin.mint)}"
        self.asset = AssetId(f"{self.reference}/{kind}")
        self.payer: Payer = self.make_payer()
        self.payouts = payouts_of("alice", "bob", "carol")

    def make_payer(self, **changes: Any) -> SolanaPayer:
        """Another one with the same keys has forgotten all that this one knows."""
        vault_key = key_of(self.vault) if self.coin.is_native and self.vault != self.operator else None
        given: dict[str, Any] = {
            "chain": CHAIN,
            "reference": self.reference,
            "genesis": bytes(self.node.chain.genesis_hash),
            "rpc": self.rpc,
            "signer": KeystoreSigner(key_of(self.operator)),
            "vault": address_of(self.vault),
            "ceilings": CEILINGS,
            "create_accounts": self.create_accounts,
            "vault_signer": None if vault_key is None else KeystoreSigner(vault_key),
        }
        return SolanaPayer(**{**given, **changes})

    # ── accounts ──
    def endow(self, address: Address, lamports: int, data: bytes = b"", owner: Pubkey = SYSTEM) -> None:
        self.node.chain.endow(Pubkey(address), Account(lamports, data, owner) if lamports else None)

    def furnish(self) -> None:
        self.endow(address_of(self.operator), 100 * SOL)
        self.endow(address_of(self.vault), 100 * SOL)
        if not self.coin.is_native:
            extensions = [fee_extension(0)] if self.coin.may_take_fees else []
            self.set_mint(mint_bytes(self.coin.decimals, freezer=address_of("freezer"), extensions=extensions))
            self.hold(address_of(self.vault), 10**15, delegate=(address_of(self.operator), 10**15))

    def set_mint(self, data: bytes) -> None:
        self.endow(self.coin.mint, SOL, data, self.coin.program)

    def hold(
        self,
        owner: Address,
        amount: int = 0,
        *,
        real_owner: Address | None = None,
        keep: bool = False,
        more_extensions: Sequence[tuple[int, bytes]] = (),
        **options: Any,
    ) -> None:
        """Give `owner` a token account; with `keep` only where it has none."""
        place = self.coin.account_of(owner)
        if keep and self.lamports(place):
            return
        extensions = [(7, b"")] if self.coin.program == TOKEN_2022 else []
        if self.coin.may_take_fees:
            extensions.append((2, bytes(8)))
        extensions += more_extensions
        data = holding_bytes(self.coin.mint, real_owner or owner, amount, extensions=extensions, **options)
        self.endow(place, SOL, data, self.coin.program)

    def holding_of(self, owner: Address) -> bytes:
        """The bytes of an empty token account."""
        return holding_bytes(self.coin.mint, owner, 0)

    def balance(self, owner: Address) -> int:
        account = self.node.chain.machine.read(Pubkey(self.coin.account_of(owner)))
        if account is None or self.coin.is_native:
            return 0 if account is None else account.lamports
        return int.from_bytes(bytes(account.data)[64:72], "little")

    def lamports(self, address: Address) -> int:
        account = self.node.chain.machine.read(Pubkey(address))
        return 0 if account is None else account.lamports

    # ── strangers ──
    def stranger_sends(self, *instructions: Instruction) -> None:
        """Somebody's transaction, in the next block."""
        stranger = key_of("stranger")
        self.endow(address_of("stranger"), 100 * SOL)
        blockhash = self.node.chain.head.hash
        message = MessageV0.try_compile(stranger.pubkey(), list(instructions), [], blockhash)
        self.node.chain.submit(parse(bytes(VersionedTransaction(message, [stranger]))))

    @staticmethod
    def memo(text: str) -> Instruction:
        return Instruction(MEMO, text.encode(), [])

    @staticmethod
    def touches(address: Address) -> list[Instruction]:
        """A transaction with it names the account."""
        stranger = key_of("stranger").pubkey()
        return [transfer(TransferParams(from_pubkey=stranger, to_pubkey=Pubkey(address), lamports=1))]

    # ── what is known of payouts ──
    async def left_out_of(self, batch: Action) -> set[Address]:
        """Whom the executed batch did not pay, as its transaction says."""
        deeds = Deeds(self.rpc, [address_of(self.operator)])
        done = await deeds.find(batch.distribution_id, batch.batch_index, await self.head())
        assert done is not None
        return set(done.deed.left_out)

    @staticmethod
    def people(batch: Action) -> list[Address]:
        plan = read_payload(batch.payload)
        assert isinstance(plan, PayBatch)
        return [payout.recipient for payout in plan.payouts]

    @contextlib.asynccontextmanager
    async def alone(self, node: Node) -> AsyncIterator[SolanaPayer]:
        """A payer that asks this node only."""
        rpc = SolanaRpc([node.rpc_url], timeout_ms=3000)
        try:
            yield self.make_payer(rpc=rpc)
        finally:
            await rpc.close()

    # ── blocks ──
    def header(self, block: Block) -> Header:
        return Header(block.slot, bytes(block.hash), bytes(block.parent_hash), block.time)

    def stamp(self, block: Block) -> BlockStamp:
        return BlockStamp(CHAIN, block.slot, bytes(block.hash))

    async def head(self) -> BlockStamp:
        """The newest finalized block: there is no other here."""
        return self.stamp(self.node.chain.newest(Commitment.FINALIZED))

    async def mine(self) -> tuple[BlockStamp, list[Log]]:
        """What was sent lands in the next block, which becomes the newest finalized one."""
        self.node.chain.advance_blocks(1 + FINALIZED_DEPTH)
        head = await self.head()
        return head, await self.logs(head)

    async def logs(self, stamp: BlockStamp) -> list[Log]:
        block = self.node.chain.at_slot(stamp.number)
        assert block is not None
        holding = {} if self.coin.is_native else {self.coin.account_of(address_of(self.vault)): address_of(self.vault)}
        operator, vault = address_of(self.operator), address_of(self.vault)
        watch = Watch(vault, (operator,), frozenset({vault}), holding, native=self.coin.is_native)
        found: list[Log] = []
        for place, record in enumerate(block.records):
            answer = await self.rpc.call("getTransaction", [record.signature, OPTIONS])
            transaction = parse_transaction(answer, bytes(record.wire.transaction.signatures[0]))
            drafts = derive(transaction, watch)
            found += pick(drafts, [LogFilter((vault,))], stamp, block.time, (transaction.signature, place))
        return found


def token_coin(program: Pubkey = TOKEN, *, may_take_fees: bool = False) -> Coin:
    return Coin(address_of("mint"), program, 6, may_take_fees)


@contextlib.asynccontextmanager
async def svm_scene(coin: Coin | None = None, *, nodes: int = 1, **options: Any) -> AsyncIterator[SvmScene]:
    """`nodes`: how many endpoints the payer has."""
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(Node.serve(SETTINGS))
        others = [await stack.enter_async_context(node.join()) for _ in range(nodes - 1)]
        rpc = SolanaRpc([one.rpc_url for one in (node, *others)], timeout_ms=3000)
        stack.push_async_callback(rpc.close)
        scene = SvmScene([node, *others], rpc, coin or token_coin(), **options)
        scene.furnish()
        node.chain.advance_blocks(1 + FINALIZED_DEPTH)
        yield scene
