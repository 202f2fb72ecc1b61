"""What a scene needs on the chain: people, tokens, a vault, lookup tables, nonces. All of it by real transactions.

Every key is derived from the chain's seed and a name, so another process that knows the seed can sign too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import solders.system_program as system
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.token import instructions as token_instructions
from spl.token import models

from bridge.domain.errors import RefusedError
from bridge.simulation.svm.chain import Chain, Commitment
from bridge.simulation.svm.machine import NONCE_LENGTH
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.tokens import MINT_SIZE, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, read_holding
from bridge.simulation.svm.transactions import parse

SOL = 10**9
"""Lamports."""

FEE_MINT_SIZE = 278
"""Bytes of a Token-2022 mint with a transfer fee: 165 + kind (1) + type and length (4) + the fee's own 108."""

MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
PERSON_LAMPORTS = 10 * SOL
VAULT_LAMPORTS = 1_000 * SOL
VAULT_TOKENS = 1_000_000  # whole ones of each


@dataclass(frozen=True, slots=True)
class Token:
    """A mint that the stage may print and freeze. `transfer_fee_bps` is what Token-2022 withholds, in basis points."""

    symbol: str
    mint: Pubkey
    decimals: int
    program: Pubkey
    transfer_fee_bps: int = 0

    def account_of(self, owner: Pubkey) -> Pubkey:
        """The owner's associated token account, whether or not it is there yet."""
        return token_instructions.get_associated_token_address(owner, self.mint, self.program)


@dataclass(frozen=True, slots=True)
class World:
    """A treasury and its people. The vault holds SOL and some of each token; so do participants, but for the last.

    The last participant has no account at all yet: paying it means making one.
    """

    vault: Keypair
    operator: Keypair  # pays fees, and is the base of marker accounts
    participants: tuple[Keypair, ...]
    tokens: tuple[Token, ...]

    def facts(self) -> dict[str, Any]:
        """What sandbox.json says about it."""
        return {
            "vault": str(self.vault.pubkey()),
            "operator": str(self.operator.pubkey()),
            "participants": [str(participant.pubkey()) for participant in self.participants],
            "tokens": {
                token.symbol: {
                    "mint": str(token.mint),
                    "program": str(token.program),
                    "decimals": token.decimals,
                    "transfer_fee_bps": token.transfer_fee_bps,
                    "vault_account": str(token.account_of(self.vault.pubkey())),
                }
                for token in self.tokens
            },
        }


@dataclass(frozen=True, slots=True)
class Treasury:
    """What a vault is for: a pool that people deposit in, a mint whose supply is what is owed, in lamports, and who
    is to have what is left over. The first beneficiary is a program's account with one SOL, the second has nothing."""

    pool: Keypair
    clerk: Keypair  # holds what is owed
    owed: Token
    beneficiaries: tuple[Pubkey, Pubkey]

    def facts(self) -> dict[str, Any]:
        """What solana.json says about it."""
        return {
            "pool": str(self.pool.pubkey()),
            "obligations": str(self.owed.mint),
            "beneficiaries": [str(key) for key in self.beneficiaries],
        }


class Stage:
    """Makes things on one chain. Each method lets a slot pass for its transaction."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.anchor = Commitment.PROCESSED  # of the block that transactions name; the same one twice is one transaction
        self.director = self.key("director")  # mints, freezes, and pays for everything here
        self.fund(self.director.pubkey(), 1_000_000 * SOL)

    def key(self, name: str) -> Keypair:
        """The same key for the same seed and name, always."""
        return derive_key(self.chain.settings.seed, name)

    def build_world(self, participants: int) -> World:
        """Three tokens (6 and 9 decimals, and one with a transfer fee), a vault and its people."""
        vault, operator = self.key("vault"), self.key("operator")
        people = tuple(self.key(f"participant {index}") for index in range(participants))
        tokens = (
            self.create_token("USDX", 6),
            self.create_token("PTSX", 9),
            self.create_token("FEEX", 6, TOKEN_2022_PROGRAM, transfer_fee_bps=100),
        )
        self.fund(vault.pubkey(), VAULT_LAMPORTS)
        self.fund(operator.pubkey(), VAULT_LAMPORTS)
        for person in people[:-1]:
            self.fund(person.pubkey(), PERSON_LAMPORTS)
        for token in tokens:
            self.mint(token, vault.pubkey(), VAULT_TOKENS * 10**token.decimals)
            for person in people[:-1]:
                self.mint(token, person.pubkey(), 10_000 * 10**token.decimals)
        return World(vault, operator, people, tokens)

    def build_treasury(self, world: World) -> Treasury:
        """What the rules of the catalogue ask for, and the operator's allowance of each token without a fee."""
        owed = self.create_token("OWED", 9)
        pool, clerk = self.key("pool"), self.key("bookkeeper")
        for key in (pool, clerk):
            self.fund(key.pubkey(), PERSON_LAMPORTS)
        self.open_account(world.tokens[0], pool.pubkey())
        self.open_account(owed, clerk.pubkey())
        for token in world.tokens:
            if not token.transfer_fee_bps:
                self.approve(token, world.vault, world.operator.pubkey(), VAULT_TOKENS * 10**token.decimals)
        of_a_program, _ = Pubkey.find_program_address([b"treasury"], pool.pubkey())
        self.fund(of_a_program, SOL)
        return Treasury(pool, clerk, owed, (of_a_program, self.key("beneficiary").pubkey()))

    def perform(
        self,
        instructions: Sequence[Instruction],
        *signers: Keypair,
        tables: Sequence[AddressLookupTableAccount] = (),
    ) -> Record:
        """Send a transaction that the first signer pays for, and let its slot pass. Raises RefusedError if it fails."""
        signature = self.send(instructions, *signers, tables=tables)
        self.chain.advance_blocks()
        record = self.chain.history.find(signature)
        if record is None:
            raise RefusedError(f"transaction {signature} did not land")
        if record.err is not None:
            raise RefusedError(f"transaction {signature} failed: {record.err}, {record.meta['logMessages']}")
        return record

    def send(
        self,
        instructions: Sequence[Instruction],
        *signers: Keypair,
        tables: Sequence[AddressLookupTableAccount] = (),
    ) -> str:
        """Only send it: it runs when its slot ends. Its signature."""
        message = MessageV0.try_compile(
            signers[0].pubkey(), list(instructions), list(tables), self.chain.newest(self.anchor).hash
        )
        wire = parse(bytes(VersionedTransaction(message, list(signers))))
        self.chain.submit(wire)
        return wire.signature

    def fund(self, wallet: Pubkey, lamports: int) -> Record:
        """Give lamports from the faucet."""
        faucet = self.chain.faucet
        params = system.TransferParams(from_pubkey=faucet.pubkey(), to_pubkey=wallet, lamports=lamports)
        return self.perform([system.transfer(params)], faucet)

    def create_token(
        self, symbol: str, decimals: int, program: Pubkey = TOKEN_PROGRAM, *, transfer_fee_bps: int = 0
    ) -> Token:
        """A new mint. Only Token-2022 knows transfer fees."""
        mint, director = self.key(f"mint {symbol}"), self.director.pubkey()
        size = FEE_MINT_SIZE if transfer_fee_bps else MINT_SIZE
        make = system.CreateAccountParams(
            from_pubkey=director,
            to_pubkey=mint.pubkey(),
            lamports=self.chain.machine.rent(size),
            space=size,
            owner=program,
        )
        instructions = [system.create_account(make)]
        if transfer_fee_bps:
            fee = models.InitializeTransferFeeConfigParams(
                program_id=program,
                mint=mint.pubkey(),
                transfer_fee_config_authority=director,
                withdraw_withheld_authority=director,
                transfer_fee_basis_points=transfer_fee_bps,
                maximum_fee=2**64 - 1,
            )
            instructions.append(token_instructions.initialize_transfer_fee_config(fee))
        begin = models.InitializeMint2Params(
            program_id=program,
            mint=mint.pubkey(),
            decimals=decimals,
            mint_authority=director,
            freeze_authority=director,
        )
        instructions.append(token_instructions.initialize_mint2(begin))
        self.perform(instructions, self.director, mint)
        return Token(symbol, mint.pubkey(), decimals, program, transfer_fee_bps)

    def open_account(self, token: Token, owner: Pubkey) -> Pubkey:
        """The owner's associated token account, made if it is not there."""
        account = token.account_of(owner)
        if self.chain.machine.read(account) is None:
            self.perform([self._opening(token, owner)], self.director)
        return account

    def mint(self, token: Token, owner: Pubkey, atoms: int) -> Record:
        """Print atoms of a token into the owner's associated token account, which is made if it is not there."""
        printing = models.MintToParams(
            program_id=token.program,
            mint=token.mint,
            dest=token.account_of(owner),
            mint_authority=self.director.pubkey(),
            amount=atoms,
        )
        return self.perform([self._opening(token, owner), token_instructions.mint_to(printing)], self.director)

    def transfer(self, token: Token, owner: Keypair, to: Pubkey, atoms: int, memo: str | None = None) -> Record:
        """From one owner's associated account to another's, which is made if it is not there."""
        instructions = [self._opening(token, to), transfer_checked(token, owner.pubkey(), to, atoms)]
        if memo is not None:
            instructions.append(Instruction(MEMO_PROGRAM, memo.encode(), []))
        return self.perform(instructions, self.director, owner)

    def approve(self, token: Token, owner: Keypair, delegate: Pubkey, atoms: int) -> Record:
        """Let the delegate move so much of the owner's."""
        approval = models.ApproveParams(
            program_id=token.program,
            source=token.account_of(owner.pubkey()),
            delegate=delegate,
            owner=owner.pubkey(),
            amount=atoms,
        )
        return self.perform([token_instructions.approve(approval)], self.director, owner)

    def freeze(self, token: Token, owner: Pubkey) -> Record:
        """Freeze the owner's associated account: transfers to and from it fail."""
        freezing = models.FreezeAccountParams(
            program_id=token.program,
            account=token.account_of(owner),
            mint=token.mint,
            authority=self.director.pubkey(),
        )
        return self.perform([token_instructions.freeze_account(freezing)], self.director)

    def thaw(self, token: Token, owner: Pubkey) -> Record:
        """Take a freeze back."""
        thawing = models.ThawAccountParams(
            program_id=token.program,
            account=token.account_of(owner),
            mint=token.mint,
            authority=self.director.pubkey(),
        )
        return self.perform([token_instructions.thaw_account(thawing)], self.director)

    def create_nonce(self, name: str, authority: Pubkey) -> Pubkey:
        """A durable nonce account. Its value can be used from the next slot on."""
        nonce = self.key(f"nonce {name}")
        make = system.CreateAccountParams(
            from_pubkey=self.director.pubkey(),
            to_pubkey=nonce.pubkey(),
            lamports=self.chain.machine.rent(NONCE_LENGTH),
            space=NONCE_LENGTH,
            owner=system.ID,
        )
        begin = system.InitializeNonceAccountParams(nonce_pubkey=nonce.pubkey(), authority=authority)
        self.perform([system.create_account(make), system.initialize_nonce_account(begin)], self.director, nonce)
        return nonce.pubkey()

    def create_lookup_table(self, addresses: Sequence[Pubkey]) -> AddressLookupTableAccount:
        """A table with up to 20 addresses, usable from the next slot on."""
        director = self.director.pubkey()
        create, table = system.create_lookup_table(
            system.CreateLookupTableParams(
                authority_address=director, payer_address=director, recent_slot=self.chain.head.slot
            )
        )
        extend = system.extend_lookup_table(
            system.ExtendLookupTableParams(
                lookup_table_address=table,
                authority_address=director,
                payer_address=director,
                new_addresses=list(addresses),
            )
        )
        self.perform([create, extend], self.director)
        return AddressLookupTableAccount(table, list(addresses))

    def held(self, token: Token, owner: Pubkey) -> int:
        """Atoms in the owner's associated account, at the head."""
        holding = read_holding(self.chain.machine.read(token.account_of(owner)))
        return 0 if holding is None else holding.amount

    def _opening(self, token: Token, owner: Pubkey) -> Instruction:
        return token_instructions.create_idempotent_associated_token_account(
            self.director.pubkey(), owner, token.mint, token.program
        )


def transfer_checked(token: Token, owner: Pubkey, to: Pubkey, atoms: int) -> Instruction:
    """Between the associated accounts of two owners."""
    return token_instructions.transfer_checked(
        models.TransferCheckedParams(
            program_id=token.program,
            source=token.account_of(owner),
            mint=token.mint,
            dest=token.account_of(to),
            owner=owner,
            amount=atoms,
            decimals=token.decimals,
        )
    )


def derive_key(seed: int, name: str) -> Keypair:
    """Good for nothing but a sandbox."""
    return Keypair.from_seed(hashlib.sha256(f"bridge svm {seed} {name}".encode()).digest())
