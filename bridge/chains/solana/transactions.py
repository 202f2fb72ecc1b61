"""A finalized transaction, as far as the bridge cares: who signed what, and what every account held before and after.

    getTransaction ─► checked against its signatures ─► record (the same bytes from every honest node) ─► Transaction

What a program logged is not looked at: nodes cut it short, and some token programs log nothing.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from solders.message import MessageAddressTableLookup, MessageV0
from solders.transaction import VersionedTransaction

from bridge.chains.solana import rpc
from bridge.chains.solana.markers import Step
from bridge.domain.errors import ChainDisagrees
from bridge.domain.units import Address

OPTIONS: Mapping[str, Any] = {"commitment": "finalized", "encoding": "base64", "maxSupportedTransactionVersion": 0}
ACCOUNTS_MAX = 256  # in one transaction: indexes are bytes
SIGNED_MAX = 1024  # remembered: about two ranges


@dataclass(frozen=True, slots=True)
class Holding:
    """What one token account held of one mint, in atoms, 0 where it was not there. `owner` as at the end."""

    account: Address
    mint: Address
    owner: Address | None  # None where the node does not say
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Invariant: `lamports` has one entry for each of `keys`; no (account, mint) is twice in `holdings`."""

    signature: bytes
    slot: int
    succeeded: bool  # a failed one changed nothing but what its fee took
    fee: int  # lamports, paid by keys[0]
    signers: int  # the first so many of `keys`
    keys: tuple[Address, ...]
    lamports: tuple[tuple[int, int], ...]  # before and after
    holdings: tuple[Holding, ...]
    steps: tuple[Step, ...]  # the instructions that it was signed with, not those that programs called
    record: bytes = field(repr=False)  # all of the above but the slot, in one spelling

    @property
    def names(self) -> frozenset[Address]:
        return frozenset(self.keys)


def parse_transaction(answer: object, signature: bytes) -> Transaction:
    """The answer to getTransaction with OPTIONS, for `signature`. Raises ChainDisagrees where it is something else."""
    told = rpc.mapping(answer)
    meta = rpc.mapping(told.get("meta"))
    raw = rpc.data(told.get("transaction"))
    writable, readonly = _loaded(meta.get("loadedAddresses"))
    record = {
        "transaction": base64.b64encode(raw).decode(),
        "succeeded": meta.get("err") is None,
        "fee": rpc.number(meta.get("fee")),
        "loaded": [*writable, *readonly],
        "lamports": [[rpc.number(value) for value in _list(meta, name)] for name in ("preBalances", "postBalances")],
        "holdings": _holdings(meta),
    }
    transaction = read_record(orjson.dumps(record), rpc.number(told.get("slot")))
    if transaction.signature != signature:
        raise ChainDisagrees(f"the endpoint sent another transaction than {rpc.text(signature)}")
    if len(writable) != sum(len(table.writable_indexes) for table in _lookups(_signed(record["transaction"]))):
        raise ChainDisagrees(
            f"transaction {rpc.text(signature)} looks up other accounts to write than the endpoint sent"
        )
    return transaction


def read_record(record: bytes, slot: int) -> Transaction:
    """The transaction that a record tells of. Raises ChainDisagrees where it is none that its signers signed."""
    told = orjson.loads(record)
    signed = _signed(told["transaction"])
    message = signed.message
    wanted = sum(len(table.writable_indexes) + len(table.readonly_indexes) for table in _lookups(signed))
    if len(told["loaded"]) != wanted:
        raise ChainDisagrees(
            f"transaction {signed.signatures[0]} looks up {wanted} accounts, not {len(told['loaded'])}"
        )
    keys = [Address(bytes(key)) for key in message.account_keys] + [rpc.address(key) for key in told["loaded"]]
    before, after = told["lamports"]
    if not len(keys) == len(before) == len(after) <= ACCOUNTS_MAX:
        raise ChainDisagrees(f"transaction {signed.signatures[0]} has {len(keys)} accounts, but other balances")
    return Transaction(
        signature=bytes(signed.signatures[0]),
        slot=slot,
        succeeded=told["succeeded"],
        fee=told["fee"],
        signers=message.header.num_required_signatures,
        keys=tuple(keys),
        lamports=tuple(zip(before, after, strict=True)),
        holdings=tuple(_holding(keys, entry) for entry in told["holdings"]),
        steps=tuple(
            Step(_at(keys, step.program_id_index), tuple(_at(keys, index) for index in step.accounts), bytes(step.data))
            for step in message.instructions
        ),
        record=record,
    )


@functools.lru_cache(maxsize=SIGNED_MAX)
def _signed(text: str) -> VersionedTransaction:
    """The transaction in base64, its signatures checked: once, though several endpoints tell of it."""
    try:
        raw = base64.b64decode(text, validate=True)
        signed = VersionedTransaction.from_bytes(raw)
    except (ValueError, binascii.Error):
        raise ChainDisagrees("the endpoint sent bytes that are no transaction") from None
    if bytes(signed) != raw:
        raise ChainDisagrees("the endpoint sent a transaction with something behind it")
    if not signed.signatures or not all(signed.verify_with_results()):
        raise ChainDisagrees("the endpoint sent a transaction with a signature that is false")
    return signed


def _lookups(signed: VersionedTransaction) -> Sequence[MessageAddressTableLookup]:
    """Which entries of which tables the signed bytes name; what stands there is for the node to say."""
    return signed.message.address_table_lookups if isinstance(signed.message, MessageV0) else []


def _loaded(value: object) -> list[list[str]]:
    """Addresses from lookup tables: those that may be written, and the others. They follow the message's own."""
    if value is None:
        return [[], []]
    lists = rpc.mapping(value)
    return [[rpc.text(rpc.address(key)) for key in _list(lists, name)] for name in ("writable", "readonly")]


def _holdings(meta: Mapping[str, Any]) -> list[list[Any]]:
    """[index of the account, mint, owner, atoms before, atoms after], in order of account and mint."""
    found: dict[tuple[int, str], list[Any]] = {}
    for place, name in ((3, "preTokenBalances"), (4, "postTokenBalances")):
        seen: set[tuple[int, str]] = set()
        for entry in map(rpc.mapping, _list(meta, name)):
            index = rpc.number(entry.get("accountIndex"), ACCOUNTS_MAX - 1)
            mint = rpc.text(rpc.address(entry.get("mint")))
            if (index, mint) in seen:
                raise ChainDisagrees(f"the endpoint sent two balances of account {index} in one transaction")
            seen.add((index, mint))
            holding = found.setdefault((index, mint), [index, mint, None, 0, 0])
            owner = entry.get("owner")
            holding[2] = holding[2] if owner is None else rpc.text(rpc.address(owner))
            holding[place] = rpc.amount(rpc.mapping(entry.get("uiTokenAmount")).get("amount"))
    return [found[key] for key in sorted(found)]


def _holding(keys: Sequence[Address], entry: list[Any]) -> Holding:
    index, mint, owner, before, after = entry
    return Holding(
        Address(_at(keys, index)), rpc.address(mint), None if owner is None else rpc.address(owner), before, after
    )


def _at(keys: Sequence[Address], index: int) -> bytes:
    if index >= len(keys):
        raise ChainDisagrees(f"the endpoint sent a transaction that names account {index} of {len(keys)}")
    return keys[index]


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    """Absent means none: old blocks lack what was recorded later."""
    found = value.get(name)
    if not isinstance(found, list | None):
        raise ChainDisagrees(f"the endpoint sent {found!r:.100} where a list is due")
    return found or []
