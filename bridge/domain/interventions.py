"""What a person may order about one on-chain step, and in which state.

    planned ──hold──► held ──release──► planned     nothing of it is signed, or its nonce is spent for good
                       └────cancel────► void        given up, with finalized proof that it was not executed
    reserved, signed, broadcast ──cancel──► one more attempt, which does nothing in its place; void when *it* is final
    signed, broadcast ──bump──► one more attempt, now

An order is a committed row. `hold` takes effect in the transaction that writes it; the others stay open until the stage
that can do them answers: done, or refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bridge.domain.states import ActionState


class InterventionKind(StrEnum):
    HOLD = "hold"
    RELEASE = "release"
    BUMP = "bump"
    CANCEL = "cancel"


class Answer(StrEnum):
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Intervention:
    """An open order. `state` is that of its action when the order was read."""

    intervention_id: int
    action_id: int
    kind: InterventionKind
    reason: str  # why, in the person's words
    ordered_by: str  # the user of the operating system
    state: ActionState

    def told(self, verb: str) -> str:
        """The reason that a transition carries: who did it, and why."""
        return told(verb, self.ordered_by, self.reason)


def told(verb: str, by: str, reason: str) -> str:
    return f"{verb} by {by}: {reason}"


_HOLD, _RELEASE, _BUMP, _CANCEL = InterventionKind
_NONE: frozenset[InterventionKind] = frozenset()

POSSIBLE: Mapping[ActionState, tuple[frozenset[InterventionKind], str]] = {
    ActionState.PLANNED: (frozenset({_HOLD}), "nothing is signed yet: `hold` stops it, then `cancel` gives it up"),
    ActionState.RESERVED: (frozenset({_CANCEL}), "it is signed at any time: `cancel` has nothing sent in its place"),
    ActionState.SIGNED: (frozenset({_BUMP, _CANCEL}), "it may land at any time: `bump` or `cancel` replaces it"),
    ActionState.BROADCAST: (frozenset({_BUMP, _CANCEL}), "it may land at any time: `bump` or `cancel` replaces it"),
    ActionState.INCLUDED: (_NONE, "its transaction is in a block: wait until it is final"),
    ActionState.HELD: (frozenset({_RELEASE, _CANCEL}), "`release` tries it again, `cancel` gives it up"),
    ActionState.QUARANTINED: (_NONE, "the finalized chain settles it: wait, and find who has the key"),
    ActionState.FINAL: (_NONE, "it is paid, and nothing takes that back"),
    ActionState.VOID: (_NONE, "it was given up for good"),
}  # fmt: skip
"""By state: what can be ordered, and what to say to anything else."""


def objection(kind: InterventionKind, state: ActionState) -> str | None:
    """Why `kind` cannot be done in `state`, with what can; None where it can."""
    possible, instead = POSSIBLE[state]
    return None if kind in possible else f"{kind} is not possible while it is {state}: {instead}"
