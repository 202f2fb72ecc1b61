"""Every state machine of the bridge, with the one table of arrows that the database enforces too.

`migrations/` holds the same arrows in the table `state_arrows`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from bridge.domain.errors import IllegalTransition


class ActionState(StrEnum):
    """The life of one on-chain step of a distribution (its proposal, or one batch).

    planned ──► reserved ──► signed ──► broadcast ──► included ──► final
       │                        │           │  ▲          │
       │                        │           │  └─(reorg)──┤
       │                        └─────┬─────┘             └──► held (reverted), void (a cancel landed instead)
       ├──► held ──► planned | void   └──► quarantined ──► final | planned | void
       └──► final (the chain says it was executed already)
    """

    PLANNED = "planned"  # decided and written down; nothing is signed
    RESERVED = "reserved"  # pre-flight passed; a nonce belongs to it
    SIGNED = "signed"  # raw bytes are saved; none may have left
    BROADCAST = "broadcast"  # at least one node took it
    INCLUDED = "included"  # a receipt in a block that is not final yet
    FINAL = "final"  # in a finalized block, succeeded
    HELD = "held"  # waits for a person, with a reason
    QUARANTINED = "quarantined"  # its nonce was spent by a transaction nobody here signed
    VOID = "void"  # given up for good


class SlotState(StrEnum):
    """The life of one nonce of the sending account."""

    LIVE = "live"  # may still be spent by one of our attempts
    SETTLED = "settled"  # spent by one of our attempts, finalized
    FOREIGN = "foreign"  # spent by an unknown transaction, finalized


class BreakState(StrEnum):
    """The life of a difference between books and chain."""

    OPEN = "open"
    ASSIGNED = "assigned"
    EXPLAINED = "explained"
    RESOLVED = "resolved"


_A, _S, _B = ActionState, SlotState, BreakState

ACTION_ARROWS: Mapping[ActionState, frozenset[ActionState]] = {
    _A.PLANNED: frozenset({
        _A.RESERVED,  # pre-flight passed, nonce taken
        _A.HELD,  # pre-flight failed: paused, over the cap, under the floor, would revert
        _A.FINAL,  # the finalized chain says it was executed: the database is older than the chain
    }),
    _A.RESERVED: frozenset({
        _A.SIGNED,  # attempt saved
        _A.QUARANTINED,  # on a chain without nonces: an unknown transaction executed or cancelled it, so ours cannot
    }),
    _A.SIGNED: frozenset({
        _A.BROADCAST,  # a node took the bytes
        _A.INCLUDED,  # it was sent, we died before recording that, and it landed
        _A.QUARANTINED,  # its nonce was spent by an unknown hash
    }),
    _A.BROADCAST: frozenset({
        _A.INCLUDED,  # a receipt of any attempt of the slot
        _A.QUARANTINED,  # its nonce was spent by an unknown hash
    }),
    _A.INCLUDED: frozenset({
        _A.BROADCAST,  # a reorg took its block away; the same bytes are sent again
        _A.FINAL,  # its block is finalized and it succeeded
        _A.HELD,  # its block is finalized and it reverted
        _A.VOID,  # its block is finalized and it was the cancel
    }),
    _A.QUARANTINED: frozenset({
        _A.FINAL,  # executed on chain after all
        _A.PLANNED,  # finalized proof that it was not executed: a new nonce may pay it
        _A.VOID,  # the same proof, and a person had cancelled it
    }),
    _A.HELD: frozenset({
        _A.PLANNED,  # released, with finalized proof that it was not executed
        _A.FINAL,  # executed on chain after all
        _A.VOID,  # given up by a person, with finalized proof that it was not executed
    }),
    _A.FINAL: frozenset(),
    _A.VOID: frozenset(),
}  # fmt: skip

SLOT_ARROWS: Mapping[SlotState, frozenset[SlotState]] = {
    _S.LIVE: frozenset({_S.SETTLED, _S.FOREIGN}),
    _S.SETTLED: frozenset(),
    _S.FOREIGN: frozenset({_S.SETTLED}),  # the stranger was ourselves, before the database was restored
}

BREAK_ARROWS: Mapping[BreakState, frozenset[BreakState]] = {
    _B.OPEN: frozenset({_B.ASSIGNED, _B.EXPLAINED, _B.RESOLVED}),  # resolved at once when it cleared by itself
    _B.ASSIGNED: frozenset({_B.EXPLAINED, _B.RESOLVED}),
    _B.EXPLAINED: frozenset({_B.RESOLVED}),
    _B.RESOLVED: frozenset(),
}

MACHINES: Mapping[str, Mapping[StrEnum, frozenset[StrEnum]]] = {
    "action": ACTION_ARROWS,  # type: ignore[dict-item]  # Mapping is invariant in its key
    "slot": SLOT_ARROWS,  # type: ignore[dict-item]
    "break": BREAK_ARROWS,  # type: ignore[dict-item]
}


def check_arrow(machine: str, source: StrEnum, target: StrEnum) -> None:
    """Raise IllegalTransition unless `machine` has the arrow source → target."""
    if target not in MACHINES[machine][source]:
        raise IllegalTransition(f"{machine} may not go from {source} to {target}")
