"""A transaction as it comes over the wire, and which accounts it names."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

import solders.address_lookup_table_account as lookup
from solders.account import Account
from solders.hash import Hash
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from bridge.simulation.svm import base58
from bridge.simulation.svm.lookups import read_table
from bridge.simulation.svm.machine import SYSTEM_PROGRAM
from bridge.simulation.svm.refusals import invalid_params

PACKET_SIZE = 1232
"""Bytes of a transaction: what fits into one IPv6 packet."""

BASE58_SIZE_MAX = 1683
BASE64_SIZE_MAX = 1644
"""Characters that `PACKET_SIZE` bytes need at most."""

TYPE = "solana_transaction::versioned::VersionedTransaction"
ADVANCE_NONCE = (4).to_bytes(4, "little")
COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
SET_COMPUTE_UNIT_PRICE = 3

Reader = Callable[[Pubkey], Account | None]


@dataclass(frozen=True, slots=True)
class Moment:
    """When lookup tables are looked at: as part of the block of `slot`."""

    slot: int
    recent: Callable[[int], bool]  # whether the block of a slot is one whose hash that block knows


class LookupFailure(Exception):
    """A lookup table cannot be used. `err` is Agave's TransactionError."""

    def __init__(self, err: str) -> None:
        super().__init__(err)
        self.err = err


@dataclass(frozen=True, slots=True)
class Wire:
    """A transaction that could be read; nothing is said about its signatures."""

    transaction: VersionedTransaction
    message: Message | MessageV0
    signature: str  # the first one: the transaction's id
    size: int  # bytes

    @property
    def payer(self) -> Pubkey:
        """Who pays the fee: the first account."""
        return self.message.account_keys[0]

    @property
    def blockhash(self) -> str:
        """The recent blockhash, or the durable nonce, in base 58."""
        return str(self.message.recent_blockhash)

    @property
    def version(self) -> int | None:
        """None: legacy."""
        return 0 if isinstance(self.message, MessageV0) else None

    def signatures_fit(self) -> bool:
        """Whether every signature is by its account over this message."""
        return all(self.transaction.verify_with_results())

    def nonce(self) -> Pubkey | None:
        """The nonce account, where the first instruction advances one."""
        if not self.message.instructions:
            return None
        first = self.message.instructions[0]
        keys = self.message.account_keys
        accounts = bytes(first.accounts)
        if keys[first.program_id_index] != SYSTEM_PROGRAM or bytes(first.data) != ADVANCE_NONCE or not accounts:
            return None
        position = accounts[0]
        if position >= len(keys) or not _writable(self.message)[position]:
            return None
        return keys[position]

    def signers(self) -> tuple[Pubkey, ...]:
        """Who signs."""
        return tuple(self.message.account_keys[: self.message.header.num_required_signatures])

    def unit_price(self) -> int:
        """Micro-lamports that it pays for a compute unit beyond the base fee."""
        keys = self.message.account_keys
        for instruction in self.message.instructions:
            data = bytes(instruction.data)
            if keys[instruction.program_id_index] == COMPUTE_BUDGET and data[:1] == bytes((SET_COMPUTE_UNIT_PRICE,)):
                return int.from_bytes(data[1:9], "little")
        return 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """All accounts of a transaction in the order that its instructions count them."""

    keys: tuple[Pubkey, ...]  # static ones, then writable ones of tables, then readonly ones of tables
    writable: tuple[bool, ...]  # of each of `keys`
    static: int  # how many are static
    table_writable: int  # how many come writable from tables

    @property
    def written(self) -> tuple[Pubkey, ...]:
        """Those that it may write."""
        return tuple(key for key, writable in zip(self.keys, self.writable, strict=True) if writable)

    @property
    def loaded_writable(self) -> tuple[Pubkey, ...]:
        """Those that tables gave as writable."""
        return self.keys[self.static : self.static + self.table_writable]

    @property
    def loaded_readonly(self) -> tuple[Pubkey, ...]:
        """Those that tables gave as readonly."""
        return self.keys[self.static + self.table_writable :]


def decode(text: str, encoding: str, of: str = TYPE) -> bytes:
    """The bytes of what a client sent. Raises RpcRefusal: too large, or not in that encoding."""
    if encoding == "base58":
        longest, read = BASE58_SIZE_MAX, base58.decode
    elif encoding == "base64":
        longest, read = BASE64_SIZE_MAX, _decode_base64
    else:
        raise invalid_params(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    if len(text) > longest:
        size = f"{len(text)} bytes (max: encoded/raw {longest}/{PACKET_SIZE})"
        raise invalid_params(f"{encoding} encoded {of} too large: {size}")
    try:
        raw = read(text)
    except ValueError as error:
        raise invalid_params(f"invalid {encoding} encoding: {error}") from None
    if len(raw) > PACKET_SIZE:
        raise invalid_params(f"decoded {of} too large: {len(raw)} bytes (max: {PACKET_SIZE} bytes)")
    return raw


def parse(raw: bytes) -> Wire:
    """Raises RpcRefusal for bytes that are no transaction or one that contradicts itself."""
    try:
        transaction = VersionedTransaction.from_bytes(raw)
    except (ValueError, TypeError) as error:
        raise invalid_params(f"failed to deserialize {TYPE}: {error}") from None
    message = transaction.message
    if not isinstance(message, Message | MessageV0):
        raise invalid_params(f"failed to deserialize {TYPE}: unknown version")
    try:
        transaction.sanitize()
    except SanitizeError as error:
        raise invalid_params(f"invalid transaction: {error}") from None
    return Wire(transaction, message, str(transaction.signatures[0]), len(raw))


def load(message: Message | MessageV0, read: Reader, at: Moment) -> Loaded:
    """Look up what the transaction names through tables. Raises LookupFailure."""
    static = tuple(message.account_keys)
    writable = _writable(message)
    if isinstance(message, Message) or not message.address_table_lookups:
        return Loaded(static, writable, len(static), 0)
    named_writable: list[Pubkey] = []
    named_readonly: list[Pubkey] = []
    for table in message.address_table_lookups:
        addresses = _addresses(table.account_key, read, at)
        for positions, named in (
            (bytes(table.writable_indexes), named_writable),
            (bytes(table.readonly_indexes), named_readonly),
        ):
            if any(position >= len(addresses) for position in positions):
                raise LookupFailure("InvalidAddressLookupTableIndex")
            named += [addresses[position] for position in positions]
    keys = (*static, *named_writable, *named_readonly)
    return Loaded(
        keys,
        (*writable, *(True for _ in named_writable), *(False for _ in named_readonly)),
        len(static),
        len(named_writable),
    )


def with_blockhash(wire: Wire, blockhash: Hash) -> Wire:
    """The same with another blockhash: good for a simulation without signatures, and for nothing else."""
    message = wire.message
    replaced: Message | MessageV0
    if isinstance(message, MessageV0):
        replaced = MessageV0(
            message.header,
            message.account_keys,
            blockhash,
            message.instructions,
            message.address_table_lookups,
        )
    else:
        header = message.header
        replaced = Message.new_with_compiled_instructions(
            header.num_required_signatures,
            header.num_readonly_signed_accounts,
            header.num_readonly_unsigned_accounts,
            message.account_keys,
            blockhash,
            message.instructions,
        )
    transaction = VersionedTransaction.populate(replaced, wire.transaction.signatures)
    return Wire(transaction, replaced, wire.signature, wire.size)


def _writable(message: Message | MessageV0) -> tuple[bool, ...]:
    """Of each static account: those that sign come first, and of both kinds the readonly ones last."""
    header, count = message.header, len(message.account_keys)
    signers = header.num_required_signatures
    return tuple(
        position < signers - header.num_readonly_signed_accounts
        if position < signers
        else position < count - header.num_readonly_unsigned_accounts
        for position in range(count)
    )


def _addresses(key: Pubkey, read: Reader, at: Moment) -> list[Pubkey]:
    """What the table is good for: what the same block adds is not, nor anything once its end is no longer recent."""
    account = read(key)
    if account is None:
        raise LookupFailure("AddressLookupTableNotFound")
    if account.owner != lookup.ID:
        raise LookupFailure("InvalidAddressLookupTableOwner")
    table = read_table(account)
    if table is None:
        raise LookupFailure("InvalidAddressLookupTableData")
    end = table.deactivated_in
    if end is not None and end != at.slot and not at.recent(end):
        raise LookupFailure("AddressLookupTableNotFound")
    return list(table.addresses if at.slot > table.extended_in else table.addresses[: table.extended_from])


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def signature_of(text: str) -> str:
    """The same text. Raises RpcRefusal unless it is a signature in base 58."""
    try:
        Signature.from_string(text)
    except ValueError as error:
        raise invalid_params(f"Invalid param: {_problem(error)}") from None
    return text


def _problem(error: ValueError) -> str:
    return "WrongSize" if "wrong size" in str(error).lower() else "Invalid"
