"""What is sent to a chain, who signs it, and where claimants find their proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bridge.domain.events import Block, Log
from bridge.domain.payouts import (
    Action,
    Attempt,
    Batch,
    Distribution,
    Inclusion,
    InFlight,
    Landed,
    LeftOut,
    Order,
    Payout,
    PlannedCall,
    Purpose,
    Refusal,
    Signed,
    Slot,
)
from bridge.domain.units import Address, AssetId, BlockStamp


class BroadcastOutcome(StrEnum):
    ACCEPTED = "accepted"  # an endpoint took the bytes
    KNOWN = "known"  # an endpoint had them already
    REJECTED = "rejected"  # every endpoint that answered said no; earlier attempts may still land
    UNKNOWN = "unknown"  # no usable answer: it may have arrived


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What all endpoints together said to the bytes. None of it proves that a transaction failed."""

    outcome: BroadcastOutcome
    reason: str | None = None  # what was said, where it was not taken


@dataclass(frozen=True, slots=True)
class Ready:
    """The pre-flight passed."""

    gas_limit: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an action's own events say: whether it took effect, and who was credited instead of paid."""

    executed: bool
    credited: frozenset[Address]
    left_out: tuple[LeftOut, ...] = ()  # neither paid nor credited


class Payer(Protocol):
    """One chain's sending side; contracts, call data, nonce rules and fees stay behind it.

    Implementations: chains.evm, chains.fake; one contract-test suite holds for both.
    """

    account: Address  # the sending account
    claims: Address | None  # the contract that accounts claim from; None where everything is pushed

    def forbidden_recipients(self, asset: AssetId) -> frozenset[Address]:
        """Our own contracts and the asset's: what is paid to them is lost or comes back as a surplus."""

    async def pack(self, order: Order, recipients_max: int) -> tuple[Batch, ...]:
        """The order in batches that one transaction each can pay, of `recipients_max` at most. Whoever lost the
        database must pack alike: of nothing that may change, on the chain neither, but for what a proposal that is on
        chain already says. Raises ValueError as pack_batches does, RetryableError where the chain must be asked and
        does not answer."""

    def plan(self, order: Order, batches: Sequence[Batch]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        """The distribution's identity and its steps in order. Pure: the same order gives the same bytes."""

    def plan_claims(self, order: Order, leaves: Sequence[Payout]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        """The same for a set that is claimed: its proposal, and the step that lets `leaves` be claimed.

        `leaves`: what each account was given in all, this order included. May take seconds of one processor. Raises
        HoldError where such a tree cannot be made.
        """

    async def preflight(self, action: Action, at: BlockStamp, beside: Sequence[Action] = ()) -> Ready | Refusal:
        """Simulate the action from the sending account on top of block `at`. What `beside` will take (actions that own
        a slot) is not there for it, where the chain itself does not yet show that it is gone."""

    async def sign(
        self, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | Refusal | None:
        """A signed transaction for the slot; a replacement with higher fees where there is a `previous` one. To cancel
        is to spend the nonce on nothing.

        None where the fee ceiling leaves no room for a replacement. A refusal where what is signed depends on the chain
        as it is now, and it would fail: asked again later, whatever the refusal says of time.
        """

    def due(self, in_flight: Sequence[InFlight], head: Block) -> frozenset[int]:
        """Ids of the actions that wait for long enough to try another attempt, seen from `head`."""

    async def may_replace(self, flight: InFlight, finalized: BlockStamp) -> Refusal | None:
        """Why no other attempt may be signed beside the latest one yet: where no nonce keeps two of them from landing,
        the first must have expired. None where it may; a refusal for good where none ever may, which can be known
        before there is any attempt."""

    async def broadcast(self, raw: bytes) -> Broadcast:
        """Send to every endpoint. Never raises for what an endpoint answers or fails to answer."""

    async def inclusions(self, tx_id: bytes) -> tuple[Inclusion, ...]:
        """The receipts that endpoints have; they may name different blocks. Empty says nothing about the future.

        Raises ChainUnavailable when no endpoint answered.
        """

    async def settled(self, tx_id: bytes) -> Inclusion | None:
        """The receipt, or that there is none, as two endpoints say alike where two are configured: the last word on a
        transaction whose block is final. Raises RetryableError where they do not."""

    async def disowned(self, tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        """True only where every endpoint knows block `at` and answers that it has no receipt for any of `tx_ids`."""

    async def landed(self, tx_id: bytes) -> Landed | None:
        """The transaction and where it was included; None where the endpoints do not know it, or not yet."""

    async def executed(self, action: Action, at: BlockStamp) -> bool:
        """Whether the chain has executed what `action` executes."""

    async def proposed(self, action: Action, at: BlockStamp) -> bytes | None:
        """The content hash that the chain has bound to the distribution's id, or None before the proposal; CANCELLED
        where that was given up on chain."""

    async def proposed_otherwise(self, proposal: Action, at: BlockStamp) -> bool:
        """Whether what `proposal` would pay by one leg is already bound to the other leg's contract."""

    def settlement(self, action: Action, logs: Sequence[Log]) -> Settlement:
        """Read the action's own events out of `logs`; those of other actions do not count."""


class ClaimFiles(Protocol):
    """Where claimants, and whoever checks, find the proofs of one chain: files, by the id of the distribution."""

    def publish(self, distribution: Distribution, leaves: Sequence[Payout]) -> None:
        """Write the tree of `leaves` down, whole or not at all; nothing happens where it is there. Takes as long as
        `plan_claims`, and the disk.

        Raises HoldError where the tree is not the one that `distribution` was planned with, RetryableError where its
        place is taken or cannot be written.
        """

    def is_published(self, distribution_id: bytes) -> bool: ...

    def find(self, distribution_id: bytes) -> Path | None:
        """The folder with the files of a published distribution."""

    def claim(self, distribution_id: bytes, account: str) -> Mapping[str, object]:
        """What `account` needs to claim, as JSON values. Raises RefusedError for what is no account or has nothing to
        claim, ConfigError where the files are missing or damaged."""


class Signer(Protocol):
    """Holds the key of one account. What it signs is the adapter's own format."""

    account: Address

    async def sign(self, transaction: Mapping[str, object]) -> tuple[bytes, bytes]:
        """(transaction id, raw signed bytes). Deterministic: the same transaction gives the same bytes."""
