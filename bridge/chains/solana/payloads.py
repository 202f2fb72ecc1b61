"""The steps of a distribution as bytes: what an action carries from its plan to its transaction.

No transaction can be made ahead of time (it names a recent block), so these bytes are not sent. They say exactly what
is to be done, and what the proposal's content hash binds.

    proposal   "bridge:1:p" id content-hash mint total(16) batches(4) [ recipients a batch(2) ]
    batch      "bridge:1:x" id index(4) mint count(2) { recipient(32) amount(8) } ascending
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.chains.solana.markers import ROOM_MAX
from bridge.chains.solana.programs import NATIVE
from bridge.domain.errors import HoldError
from bridge.domain.payouts import (
    LEFT_OUT_FROM,
    ActionKind,
    Batch,
    Distribution,
    Order,
    Payout,
    PlannedCall,
    left_out_index,
)
from bridge.domain.units import Address, AssetId, parse_address

AMOUNT_MAX = 2**64 - 1
"""What a token account can hold."""

BATCHES_MAX = 10_000
"""Batches of one plan. Each digit of an index takes room from the recipients, and each batch costs a deposit."""

assert BATCHES_MAX <= LEFT_OUT_FROM, "what follows are indexes of recipients that were left out"

_PROPOSAL, _BATCH = b"bridge:1:p", b"bridge:1:x"
_ENTRY = 40


@dataclass(frozen=True, slots=True)
class Proposal:
    distribution_id: bytes
    content_hash: bytes
    mint: Address
    total: int
    batches: int
    room: int | None = None  # recipients a batch, where lookup tables made room for more than fit without

    def encode(self) -> bytes:
        parts = (_PROPOSAL, self.distribution_id, self.content_hash, self.mint)
        room = b"" if self.room is None else self.room.to_bytes(2)
        return b"".join((*parts, self.total.to_bytes(16), self.batches.to_bytes(4), room))


@dataclass(frozen=True, slots=True)
class PayBatch:
    distribution_id: bytes
    index: int
    mint: Address
    payouts: tuple[Payout, ...]

    def encode(self) -> bytes:
        entries = [payout.recipient + payout.amount.to_bytes(8) for payout in self.payouts]
        head = (_BATCH, self.distribution_id, self.index.to_bytes(4), self.mint, len(entries).to_bytes(2))
        return b"".join((*head, *entries))


def read_payload(payload: bytes) -> Proposal | PayBatch:
    """Raises ValueError for bytes that no plan made."""
    kind, body = payload[:10], payload[10:]
    if kind == _PROPOSAL and len(body) in (116, 118):
        content, mint, room = body[32:64], Address(body[64:96]), int.from_bytes(body[116:]) if body[116:] else None
        if room is not None and not 1 <= room <= ROOM_MAX:
            raise ValueError("a proposal of batches that no transaction holds")
        total, batches = int.from_bytes(body[96:112]), int.from_bytes(body[112:116])
        return Proposal(body[:32], content, mint, total, batches, room)
    if kind != _BATCH or len(body) < 70:
        raise ValueError("not a payload of a plan")
    entries = body[70:]
    if len(entries) != int.from_bytes(body[68:70]) * _ENTRY or not entries:
        raise ValueError("a batch of another length than it says")
    payouts = tuple(
        Payout(Address(entries[at : at + 32]), int.from_bytes(entries[at + 32 : at + 40]))
        for at in range(0, len(entries), _ENTRY)
    )
    if any(before.recipient >= after.recipient for before, after in itertools.pairwise(payouts)):
        raise ValueError("the recipients of a batch do not ascend")
    return PayBatch(body[:32], int.from_bytes(body[32:36]), Address(body[36:68]), payouts)


def mint_of(asset: AssetId, reference: str) -> Address:
    """The mint, or NATIVE. Raises HoldError for what cannot be paid on the chain `reference` (CAIP-2)."""
    chain, _, kind = asset.partition("/")
    namespace, _, mint = kind.partition(":")
    if chain == reference and (namespace, mint) == ("slip44", "501"):
        return NATIVE
    if chain == reference and namespace == "token":
        try:
            return parse_address(mint)
        except ValueError:
            pass
    raise HoldError(f"{asset} cannot be paid: only {reference}/token:… and {reference}/slip44:501 can")


def derive_id(genesis: bytes, vault: Address, rule: str, window: tuple[int, int], mint: Address) -> bytes:
    """Of what is paid, by which vault of which chain; neither how much nor by which transaction."""
    start, end = (second.to_bytes(8) for second in window)
    name = hashlib.sha256(rule.encode()).digest()
    return hashlib.sha256(b"bridge:1:distribution" + genesis + vault + name + start + end + mint).digest()


def plan_push(
    order: Order,
    batches: Sequence[Batch],
    *,
    genesis: bytes,
    vault: Address,
    mint: Address,
    room: int | None = None,
) -> tuple[Distribution, tuple[PlannedCall, ...]]:
    """`room`: recipients a batch, where the proposal must name it. Raises HoldError for amounts and numbers of batches
    that the chain has no room for."""
    if len(batches) > BATCHES_MAX:
        raise HoldError(f"{len(batches)} batches, over {BATCHES_MAX}: pay a smaller set, or raise the least payout")
    for payout in (payout for batch in batches for payout in batch.payouts):
        if payout.amount > AMOUNT_MAX:
            raise HoldError(f"{payout.amount} atoms cannot be paid: an account holds at most {AMOUNT_MAX}")
        if len(payout.recipient) != 32:
            raise HoldError(f"0x{payout.recipient.hex()} is no address of this chain")
    window = (order.window_start, order.window_end)
    distribution_id = derive_id(genesis, vault, order.rule, window, mint)
    payloads = [PayBatch(distribution_id, batch.index, mint, batch.payouts).encode() for batch in batches]
    hashes = [hashlib.sha256(payload).digest() for payload in payloads]
    head = order.total.to_bytes(32) + order.decision_id + len(hashes).to_bytes(4)
    content_hash = hashlib.sha256(b"bridge:1:content" + head + b"".join(hashes)).digest()
    proposal = Proposal(distribution_id, content_hash, mint, order.total, len(batches), room).encode()
    calls = [PlannedCall(0, ActionKind.PROPOSE, vault, proposal)]
    calls += [
        PlannedCall(batch.index + 1, ActionKind.EXECUTE, vault, payload)
        for batch, payload in zip(batches, payloads, strict=True)
    ]
    return Distribution(distribution_id, order, content_hash, tuple(batches)), tuple(calls)


def alone(batch: PayBatch, position: int) -> PayBatch:
    """One recipient of `batch`, left out of it, as a batch of its own."""
    index = left_out_index(batch.index, position)
    return PayBatch(batch.distribution_id, index, batch.mint, (batch.payouts[position],))
