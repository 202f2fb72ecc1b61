"""What a look at the chain means for an action in flight: at most one legal arrow, or nothing.

An action moves only on evidence. A missing receipt, an error or a time-out is no evidence: it is simply not part of an
`Observation`, and nothing happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bridge.domain.payouts import Attempt, Inclusion, InFlight, Purpose
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import format_tx


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One committed transition of an action, as subscribers are told it.

    A subscriber may hear of it more than once; for one action, `confirmation_id` only grows.
    """

    confirmation_id: int
    distribution_id: bytes
    chain: str
    action_id: int
    kind: str
    batch_index: int | None  # None for a proposal
    from_state: ActionState
    to_state: ActionState
    reason: str | None
    tx_id: bytes | None
    block_number: int | None
    block_hash: bytes | None


class Spent(StrEnum):
    """By what somebody else did, nothing of ours can land for a slot any more; and what a person is told of it."""

    NONCE = "nonce {nonce} was spent by a transaction that is not ours; asking what was executed"
    # Where accounts have no nonces.
    STEP = "a transaction that is not ours executed or cancelled it; asking which of the two"


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one slot at one moment; every block in it was looked up in our own canonical chain.

    `receipts`: by attempt id, inclusions in blocks that are canonical now. At most one, for a nonce executes once. For
    what is included already: the one that endpoints agree on, once its block is final.
    `included_is_canonical`: whether the block of the recorded inclusion still is; None where none is recorded.
    `finalized_number`: our own finalized block.
    `spent`: what the finalized block says so, while every endpoint answered for every attempt that it knows no receipt.
    """

    receipts: Mapping[int, Inclusion]
    included_is_canonical: bool | None
    finalized_number: int
    spent: Spent | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One arrow to take, with what must be committed together with it."""

    to: ActionState
    attempt: Attempt | None = None  # the one that is included
    inclusion: Inclusion | None = None
    slot: SlotState = SlotState.LIVE
    reason: str | None = None


def next_transition(flight: InFlight, seen: Observation) -> Transition | None:
    """The arrow that `seen` allows, or None.

    Cases, by state:
      reserved          nothing was signed: nothing can be seen, but that an unknown hash executed or cancelled it,
                        after which, without nonces, nothing that we sign can land → quarantined, slot foreign
      signed, broadcast a receipt in a canonical block        → included
                        nonce spent by an unknown hash, final → quarantined, slot foreign
      included          its block is orphaned                 → broadcast (the same bytes are sent again)
                        its block is final                    → final | held (reverted) | void (the cancel);
                                                                the slot is settled
    """
    state = flight.action.state
    if state in (ActionState.RESERVED, ActionState.SIGNED, ActionState.BROADCAST):
        return _leave_broadcast(flight, seen)
    if state is ActionState.INCLUDED:
        return _leave_included(flight, seen)
    return None


def _leave_broadcast(flight: InFlight, seen: Observation) -> Transition | None:
    for attempt in flight.attempts:
        inclusion = seen.receipts.get(attempt.attempt_id)
        if inclusion is not None:
            return Transition(ActionState.INCLUDED, attempt, inclusion)
    if seen.spent is None:
        return None
    reason = seen.spent.value.format(nonce=flight.slot.nonce)
    return Transition(ActionState.QUARANTINED, slot=SlotState.FOREIGN, reason=reason)


def _leave_included(flight: InFlight, seen: Observation) -> Transition | None:
    included = [attempt for attempt in flight.attempts if attempt.inclusion is not None]
    assert len(included) == 1, "an included action has exactly one included attempt"
    attempt = included[0]
    inclusion = seen.receipts.get(attempt.attempt_id, attempt.inclusion)
    assert inclusion is not None
    if not seen.included_is_canonical:
        return Transition(ActionState.BROADCAST)
    if inclusion.block.number > seen.finalized_number:
        return None
    if attempt.signed.purpose is Purpose.CANCEL:
        return Transition(ActionState.VOID, attempt, inclusion, SlotState.SETTLED, "cancelled on chain")
    if not inclusion.succeeded:
        reason = f"reverted in final transaction {format_tx(attempt.signed.tx_id)}; find out why, then release it"
        return Transition(ActionState.HELD, attempt, inclusion, SlotState.SETTLED, reason)
    return Transition(ActionState.FINAL, attempt, inclusion, SlotState.SETTLED)
