"""Transactions as they are signed: instructions in a fixed order, and what they weigh.

    compute limit │ compute price │ rent for the marker │ marker │ accounts that recipients lack │ memo │ transfers

The memo stands right before the transfers: Token-2022 accounts that ask for one look there, so such a recipient can at
least be paid alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from bridge.chains.solana.lookups import EMPTY, Shelf
from bridge.chains.solana.markers import Deed, create_marker, marker_of
from bridge.chains.solana.programs import ASSOCIATED_TOKEN, MEMO, NATIVE, SYSTEM, associated_account
from bridge.domain.units import Address

TRANSACTION_BYTES_MAX = 1232
"""What fits one packet of the network; nodes refuse anything longer."""

COMPUTE_UNITS_MAX = 1_400_000
"""No transaction may ask for more."""

ACCOUNTS_MAX, INSTRUCTIONS_MAX = 64, 64
"""That one transaction may name, and may run: those that programs call count too."""

CALLED_BY_CREATION = 4
"""Instructions that the program calls which makes a token account (six, where somebody sent lamports there before)."""

_CREATE_IDEMPOTENT = b"\x01"
_TRANSFER_CHECKED, _TRANSFER_FEE_EXTENSION, _TRANSFER_CHECKED_WITH_FEE = 12, 26, 1


@dataclass(frozen=True, slots=True)
class Coin:
    """What is paid. Every field is fixed when the mint is made."""

    mint: Address  # or NATIVE
    program: Pubkey  # the token program; of NATIVE the system program
    decimals: int
    may_take_fees: bool = False  # a Token-2022 mint with the extension, whatever its fee is now

    @property
    def is_native(self) -> bool:
        return self.mint == NATIVE

    def account_of(self, owner: Address) -> Address:
        """Where `owner` holds it."""
        return owner if self.is_native else associated_account(owner, self.mint, self.program)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One recipient of a transaction."""

    recipient: Address
    amount: int  # atoms, at most u64
    creates: bool = False  # its token account is made first, at our cost


@dataclass(frozen=True, slots=True)
class Purse:
    """Whose money is moved, and who signs for it and pays the fees."""

    operator: Address
    vault: Address

    def signers(self, coin: Coin | None) -> tuple[Address, ...]:
        """The operator first: it pays. A token account has a delegate; of SOL only the vault itself can dispose."""
        needs_vault = coin is not None and coin.is_native and self.vault != self.operator
        return (self.operator, self.vault) if needs_vault else (self.operator,)


@dataclass(frozen=True, slots=True)
class Budget:
    compute_units: int
    unit_price: int  # micro-lamports for each unit of the limit, used or not


@dataclass(frozen=True, slots=True)
class Draft:
    """The instructions of one transaction. `about` names the recipient that each one is about, if any."""

    payer: Address
    instructions: tuple[Instruction, ...]
    about: tuple[Address | None, ...]
    tables: tuple[AddressLookupTableAccount, ...] = ()

    def message(self, blockhash: bytes, budget: Budget) -> MessageV0:
        limits = [set_compute_unit_limit(budget.compute_units), set_compute_unit_price(budget.unit_price)]
        steps = [*limits, *self.instructions]
        return MessageV0.try_compile(Pubkey(self.payer), steps, list(self.tables), Hash(blockhash))

    def with_tables(self, shelf: Shelf) -> Draft:
        """The same, with those tables of `shelf` that make it shorter. Who signs and what is called is never looked up:
        the chain does not allow it."""
        called = {step.program_id for step in self.instructions}
        metas = [meta for step in self.instructions for meta in step.accounts]
        signing = {meta.pubkey for meta in metas if meta.is_signer}
        keys = {meta.pubkey for meta in metas} - signing - called
        chosen = shelf.choose(Address(bytes(key)) for key in keys)
        return replace(self, tables=shelf.given(chosen))

    @property
    def keys(self) -> tuple[Address, ...]:
        """All accounts in the order that the chain counts them: the message's own, then those looked up."""
        message = self.message(bytes(32), Budget(COMPUTE_UNITS_MAX, 0))
        entries = {table.key: table.addresses for table in self.tables}
        found = list(message.account_keys)
        for which in ("writable_indexes", "readonly_indexes"):
            for lookup in message.address_table_lookups:
                found += [entries[lookup.account_key][index] for index in bytes(getattr(lookup, which))]
        return tuple(Address(bytes(key)) for key in found)

    def recipient_at(self, index: int) -> Address | None:
        """Whom the instruction with this index of the whole transaction is about."""
        place = index - 2
        return self.about[place] if 0 <= place < len(self.about) else None

    def program_at(self, index: int) -> Pubkey | None:
        """Which program the instruction with this index calls; None for those of the budget."""
        place = index - 2
        return self.instructions[place].program_id if 0 <= place < len(self.instructions) else None

    @property
    def written(self) -> tuple[Address, ...]:
        """The accounts that every transaction of its kind writes to: what others pay for these, it competes with."""
        sources = [step.accounts[0].pubkey for step, about in zip(self.instructions, self.about, strict=True) if about]
        return tuple(dict.fromkeys(Address(bytes(key)) for key in (Pubkey(self.payer), *sources)))

    @staticmethod
    def steps_of(transfers: int, creations: int) -> int:
        """How many instructions a transaction runs."""
        return 5 + transfers + creations * (1 + CALLED_BY_CREATION)

    @property
    def fits(self) -> bool:
        """Whether a node takes it."""
        creations = sum(step.program_id == ASSOCIATED_TOKEN for step in self.instructions)
        steps = self.steps_of(len(self.instructions) - 3 - creations, creations)
        return self.size <= TRANSACTION_BYTES_MAX and steps <= INSTRUCTIONS_MAX and len(self.keys) <= ACCOUNTS_MAX

    @property
    def size(self) -> int:
        """Bytes of the signed transaction, whatever its blockhash and budget."""
        return len(unsigned(self.message(bytes(32), Budget(COMPUTE_UNITS_MAX, 0))))


def draft(
    purse: Purse,
    deed: Deed,
    rent: int,
    coin: Coin | None = None,
    transfers: Sequence[Transfer] = (),
    *,
    shelf: Shelf = EMPTY,
) -> Draft:
    """The transaction that does `deed`; `rent` is what its marker needs, in lamports. Who is left out is named in its
    memo where there is room for that."""
    made = _draft(purse, deed, rent, coin, transfers).with_tables(shelf)
    if deed.left_out and made.size > TRANSACTION_BYTES_MAX:
        made = _draft(purse, deed.shortened, rent, coin, transfers).with_tables(shelf)
    return made


def _draft(purse: Purse, deed: Deed, rent: int, coin: Coin | None, transfers: Sequence[Transfer]) -> Draft:
    operator, marker = Pubkey(purse.operator), Pubkey(marker_of(purse.operator, deed.distribution_id, deed.index))
    fund = transfer(TransferParams(from_pubkey=operator, to_pubkey=marker, lamports=rent))
    steps: list[tuple[Instruction, Address | None]] = [
        (fund, None),
        (
            create_marker(purse.operator, deed.distribution_id, deed.index, deed.left_out if deed.elsewhere else ()),
            None,
        ),
    ]
    if coin is not None:
        steps += [(_create(purse, coin, one), one.recipient) for one in transfers if one.creates]
    steps.append((Instruction(MEMO, deed.memo.encode(), []), None))
    if coin is not None:
        steps += [(_transfer(purse, coin, one), one.recipient) for one in transfers]
    return Draft(purse.operator, tuple(step for step, _ in steps), tuple(about for _, about in steps))


def _create(purse: Purse, coin: Coin, to: Transfer) -> Instruction:
    """Nothing happens where the account is there by then."""
    accounts = [
        AccountMeta(Pubkey(purse.operator), is_signer=True, is_writable=True),
        AccountMeta(Pubkey(coin.account_of(to.recipient)), is_signer=False, is_writable=True),
        AccountMeta(Pubkey(to.recipient), is_signer=False, is_writable=False),
        AccountMeta(Pubkey(coin.mint), is_signer=False, is_writable=False),
        AccountMeta(SYSTEM, is_signer=False, is_writable=False),
        AccountMeta(coin.program, is_signer=False, is_writable=False),
    ]
    return Instruction(ASSOCIATED_TOKEN, _CREATE_IDEMPOTENT, accounts)


def _transfer(purse: Purse, coin: Coin, to: Transfer) -> Instruction:
    """Of a mint that may take fees only for a fee of nothing: what arrives is what was decided, or nothing does."""
    if coin.is_native:
        return transfer(
            TransferParams(from_pubkey=Pubkey(purse.vault), to_pubkey=Pubkey(to.recipient), lamports=to.amount)
        )
    if coin.may_take_fees:
        head = (_TRANSFER_FEE_EXTENSION, _TRANSFER_CHECKED_WITH_FEE)
        data = struct.pack("<BBQBQ", *head, to.amount, coin.decimals, 0)
    else:
        data = struct.pack("<BQB", _TRANSFER_CHECKED, to.amount, coin.decimals)
    accounts = [
        AccountMeta(Pubkey(coin.account_of(purse.vault)), is_signer=False, is_writable=True),
        AccountMeta(Pubkey(coin.mint), is_signer=False, is_writable=False),
        AccountMeta(Pubkey(coin.account_of(to.recipient)), is_signer=False, is_writable=True),
        AccountMeta(Pubkey(purse.operator), is_signer=True, is_writable=False),
    ]
    return Instruction(coin.program, data, accounts)


# ── Signed bytes ────────────────────────────────────────────────────────────────────────────────────────────────────
def unsigned(message: MessageV0) -> bytes:
    """A transaction whose signatures are still zero."""
    signatures = [Signature.default()] * message.header.num_required_signatures
    return bytes(VersionedTransaction.populate(message, signatures))


def signed_part(raw: bytes) -> bytes:
    """The bytes of a transaction that its signatures are over. Raises ValueError for what is no transaction."""
    return bytes(to_bytes_versioned(VersionedTransaction.from_bytes(raw).message))


def signers_of(raw: bytes) -> tuple[Address, ...]:
    """Who must sign, in the order of the signatures. Raises ValueError for what is no transaction."""
    message = VersionedTransaction.from_bytes(raw).message
    keys = message.account_keys[: message.header.num_required_signatures]
    return tuple(Address(bytes(key)) for key in keys)


def with_signature(raw: bytes, signer: Address, signature: bytes) -> bytes:
    """`raw` with one of its signatures filled in. Raises ValueError where it asks for none of `signer`."""
    transaction = VersionedTransaction.from_bytes(raw)
    signatures = list(transaction.signatures)
    signatures[signers_of(raw).index(signer)] = Signature(signature)
    return bytes(VersionedTransaction.populate(transaction.message, signatures))


def is_signed(raw: bytes) -> bool:
    """Whether every signature is there and right."""
    return all(VersionedTransaction.from_bytes(raw).verify_with_results())


def tx_id_of(raw: bytes) -> bytes:
    """The first signature names the transaction."""
    return bytes(VersionedTransaction.from_bytes(raw).signatures[0])
