"""The logs that a transaction would have left, were its accounts contracts: the same for whoever derives them.

    payment ──one side watched──► Transfer, of the mint
                                  ├─ out of one of our accounts that is no vault ► Withdrawn, of its owner
                                  ├─ into one of them ───────────────────────────► Deposited, of its owner
                                  └─ into the vault, with the memo for fees ─────► FeePaid, of the vault
    deed of the operator ───────► Proposed, BatchExecuted, Released, Skipped, Cancelled, of the vault
    any of these ───────────────► RawTransaction, of nobody: all that they were derived from

A log's index is the place of its transaction in the block, then that of the payment in the transaction, then the kind.
So it does not change when more is watched.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.chains.solana.deltas import NOBODY, Party, Payment, payments
from bridge.chains.solana.markers import Deed, read_deed
from bridge.chains.solana.programs import MEMO, NATIVE
from bridge.chains.solana.transactions import Transaction
from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Log
from bridge.domain.units import Address, BlockStamp
from bridge.ports.reading import LogFilter

PLACES = 1 << 12  # log indexes for each transaction: 4 for each of 512 payments, then deeds, the record last
PAYMENTS_MAX = PLACES // 8
PROPOSAL_INDEX = 2**32 - 1  # stands for the proposal where a log names a batch

RECORDS = Address(hashlib.sha256(b"bridge: records of transactions").digest())
"""Where the logs that hold whole transactions come from: the address of nothing."""


def topic_of(signature: str) -> bytes:
    """Topic 0 of an event `Name(type,type)`."""
    return hashlib.sha256(signature.encode()).digest()


TRANSFER = topic_of("Transfer(address,address,uint256)")
FEE_PAID = topic_of("FeePaid(address,address,uint256)")
DEPOSITED = topic_of("Deposited(address,uint256)")
WITHDRAWN = topic_of("Withdrawn(address,uint256)")
PROPOSED = topic_of("Proposed(bytes32,bytes32)")
EXECUTED = topic_of("BatchExecuted(bytes32,uint32,address,uint256,uint256)")
RELEASED = topic_of("Released(bytes32,address,uint256,uint256)")
SKIPPED = topic_of("Skipped(bytes32,address,address,uint32)")
CANCELLED = topic_of("Cancelled(bytes32,uint32)")
RECORDED = topic_of("RawTransaction(bytes)")


@dataclass(frozen=True, slots=True)
class Watch:
    """What is ours on the chain."""

    vault: Address
    operators: tuple[Address, ...]  # whose deeds count: the one of now, and those before
    owners: frozenset[Address]  # of the contracts, the vault too
    accounts: Mapping[Address, Address]  # token account → its owner, one of `owners` or the operator
    native: bool  # whether the native coin of `owners` is watched too
    fee_memo: str = "fee"

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every account whose transactions must be looked at, ascending."""
        return tuple(sorted({*self.accounts, *self.operators, *(self.owners if self.native else ())}))

    @property
    def holders(self) -> frozenset[Address]:
        """Whose associated token accounts are watched."""
        return self.owners | frozenset(self.accounts.values())


@dataclass(frozen=True, slots=True)
class _Draft:
    place: int  # within its transaction
    address: Address
    topics: tuple[bytes, ...]
    data: bytes


def derive(transaction: Transaction, watch: Watch) -> list[_Draft]:
    """All logs of a transaction, in order."""
    found = payments(transaction)
    if len(found) > PAYMENTS_MAX:
        raise ChainDisagrees(f"{len(found)} payments in one transaction")
    feeds = transaction.succeeded and any(
        step.program == bytes(MEMO) and step.data == watch.fee_memo.encode() for step in transaction.steps
    )
    drafts: list[_Draft] = []
    for place, payment in enumerate(found):
        drafts += _of_payment(4 * place, payment, watch, feeds=feeds)
    deed = read_deed(transaction.steps, watch.operators) if transaction.succeeded else None
    if deed is not None:
        drafts += _of_deed(deed[1], _paid(transaction, found, watch), watch)
    if drafts:
        drafts.append(_Draft(PLACES - 1, RECORDS, (RECORDED,), transaction.record))
    return drafts


def pick(
    drafts: Sequence[_Draft], filters: Sequence[LogFilter], at: BlockStamp, timestamp: int, tx: tuple[bytes, int]
) -> Iterator[Log]:
    """Those of one transaction, `tx` (signature, place in its block), that a filter matches."""
    signature, tx_index = tx
    for draft in drafts:
        if any(_matches(draft, filter_) for filter_ in filters):
            yield Log(
                at, tx_index * PLACES + draft.place, signature, tx_index, draft.address, draft.topics, draft.data,
                timestamp,
            )  # fmt: skip


def _matches(draft: _Draft, filter_: LogFilter) -> bool:
    if filter_.addresses and draft.address not in filter_.addresses:
        return False
    topics = (*draft.topics, *(None,) * len(filter_.topics))
    return all(
        group is None or topic in group for group, topic in zip(filter_.topics, topics, strict=False)
    )  # fmt: skip


# ── Payments ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _of_payment(place: int, payment: Payment, watch: Watch, *, feeds: bool) -> Iterator[_Draft]:
    # from and to: nothing is ours ► none; one of ours to another of ours ► what both say
    source, target = _ours(payment, payment.source, watch), _ours(payment, payment.target, watch)
    if source is None and target is None:
        return
    payer, payee, amount = _name(payment, payment.source, watch), _name(payment, payment.target, watch), payment.amount
    yield _Draft(place, payment.mint, (TRANSFER, payer, payee), _word(amount))
    if source in watch.owners and source != watch.vault:
        yield _Draft(place + 1, source, (WITHDRAWN, payee), _word(amount))
    if target in watch.owners and target != watch.vault:
        yield _Draft(place + 2, target, (DEPOSITED, payer), _word(amount))
    if target == watch.vault and feeds:
        yield _Draft(place + 3, watch.vault, (FEE_PAID, payment.mint, payer), _word(amount))


def _ours(payment: Payment, party: Party | None, watch: Watch) -> Address | None:
    """The contract, or the operator, whose account a party is."""
    if party is None:
        return None
    if payment.mint == NATIVE:
        return party.account if watch.native and party.account in watch.owners else None
    return watch.accounts.get(party.account)


def _name(payment: Payment, party: Party | None, watch: Watch) -> Address:
    """A holder is called by its owner. A token account that is not watched but has one of our owners is not what that
    owner's name stands for: it is called by its own address."""
    if party is None:
        return NOBODY
    ours = _ours(payment, party, watch)
    if ours is not None:
        return ours
    return party.account if party.owner is None or party.owner in watch.holders else party.owner


# ── Deeds ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _of_deed(deed: Deed, paid: Mapping[Address, int], watch: Watch) -> Iterator[_Draft]:
    id_, index = deed.distribution_id, _word(PROPOSAL_INDEX if deed.index is None else deed.index)
    place = 4 * PAYMENTS_MAX
    if deed.cancels:
        yield _Draft(place, watch.vault, (CANCELLED, id_, index), b"")
        return
    if deed.content_hash is not None:
        yield _Draft(place, watch.vault, (PROPOSED, id_), deed.content_hash)
        return
    # One mint: whoever has the operator's key could move more in one transaction, and then each is told.
    for token, amount in sorted(paid.items()) or [(NOBODY, 0)]:
        # First who was left out: what is read up to the execution says everything about it.
        for recipient in deed.left_out:
            yield _Draft(place, watch.vault, (SKIPPED, id_, token, recipient), index)
            place += 1
        yield _Draft(place, watch.vault, (EXECUTED, id_, index, token), _word(amount) + _word(0))
        yield _Draft(place + 1, watch.vault, (RELEASED, id_, token), _word(amount) + _word(0))
        place += 2


def _paid(transaction: Transaction, found: Sequence[Payment], watch: Watch) -> dict[Address, int]:
    """What left the vault, by mint; the fee is no part of it, where the vault pays that too."""
    paid: Counter[Address] = Counter()
    for place, payment in enumerate(found):
        is_fee = place == 0 and transaction.fee > 0
        if not is_fee and _ours(payment, payment.source, watch) == watch.vault:
            paid[payment.mint] += payment.amount
    return paid


def _word(value: int) -> bytes:
    return value.to_bytes(32)
