"""What goes wrong, as the seed decides: which kinds of trouble a run has, how often, and how often each came.

Every run has some kinds only: trouble that always comes together hides what one kind alone would show.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum


class Fault(StrEnum):
    # the node, when it is asked
    TIME_OUT = "time-outs"
    NODES_DISAGREE = "two nodes disagree"
    STALE_NONCE = "wrong nonces"
    NULL_RECEIPT = "null receipts"
    ORPHANED_RECEIPT = "receipts of orphaned blocks"
    STALE_HEAD = "stale heads"
    FAILED_PREFLIGHT = "failed pre-flights"
    # the node, when it is sent bytes
    ACCEPTED_BUT_ERROR = "accepted but error"
    ALREADY_KNOWN = "already known, said of forgotten bytes"
    LOST = "neither an answer nor the bytes"
    DROPPED = "dropped from the pool"
    REFUSED_BUT_KEPT = "refused but kept"
    # the chain, at each block
    REORG = "reorgs"
    FEE_SPIKE = "fee spikes"
    OLD_ATTEMPT = "replaced attempts mined"
    REVERT = "blocks in which all reverts"
    # other people
    STRANGER = "nonces spent by strangers"
    STRANGER_BATCH = "steps that a second database sent with our key"
    APPROVAL_LATE = "approvals put off"
    APPROVAL_EXPIRED = "approvals that expired"
    VETO = "vetoes"
    CANCEL = "orders to cancel"
    # the database, at each statement or transaction
    DISCONNECT = "database disconnects"
    COMMIT_UNANSWERED = "commits without an answer"
    # us
    CRASH = "crashes at an await"
    CRASH_POINT = "crashes at a crash point"
    FREEZE = "frozen processes"
    FREEZE_POINT = "frozen at a crash point"
    RESTART = "restarts"
    RESTORE = "databases restored from a copy"
    KEY_ROTATION = "key rotations"
    # only where blocks have no nonces, bytes expire, and several endpoints are asked in earnest
    NO_ANSWER = "calls without an answer"
    LIE = "answers that an account is not there"
    LAG = "endpoints that lag"
    FORGETFUL = "endpoints that forgot the past"
    STATUS_FORGOTTEN = "statuses forgotten by all"
    DEAD_BLOCKHASH = "blockhashes of a dead fork"
    CONGESTION = "times without room in blocks"
    LATE = "transactions put off"
    ACCOUNT_FROZEN = "accounts frozen"
    ALLOWANCE = "allowances taken back"
    FORGERY = "forged memos"
    BUMP = "orders to bump"


RATES: Mapping[Fault, float] = {
    Fault.TIME_OUT: 0.05,
    Fault.NODES_DISAGREE: 0.05,
    Fault.STALE_NONCE: 0.05,
    Fault.NULL_RECEIPT: 0.3,
    Fault.ORPHANED_RECEIPT: 0.5,
    Fault.STALE_HEAD: 0.05,
    Fault.FAILED_PREFLIGHT: 0.1,
    Fault.ACCEPTED_BUT_ERROR: 0.2,
    Fault.ALREADY_KNOWN: 0.2,
    Fault.LOST: 0.2,
    Fault.DROPPED: 0.2,
    Fault.REFUSED_BUT_KEPT: 0.2,
    Fault.REORG: 0.15,
    Fault.FEE_SPIKE: 0.7,
    Fault.OLD_ATTEMPT: 0.9,
    Fault.REVERT: 0.03,
    Fault.STRANGER: 0.04,
    Fault.STRANGER_BATCH: 0.08,
    Fault.APPROVAL_LATE: 0.7,
    Fault.APPROVAL_EXPIRED: 0.0,  # it makes approvals short; whether one expires follows from the rest
    Fault.VETO: 0.08,
    Fault.CANCEL: 0.2,
    Fault.DISCONNECT: 0.005,
    Fault.COMMIT_UNANSWERED: 0.02,
    Fault.CRASH: 0.004,
    Fault.CRASH_POINT: 0.04,
    Fault.FREEZE: 0.002,
    Fault.FREEZE_POINT: 0.03,
    Fault.RESTART: 0.04,
    Fault.RESTORE: 0.2,
    Fault.KEY_ROTATION: 0.04,
    Fault.NO_ANSWER: 0.01,
    Fault.LIE: 0.02,
    Fault.LAG: 0.15,
    Fault.FORGETFUL: 0.1,
    Fault.STATUS_FORGOTTEN: 0.5,
    Fault.DEAD_BLOCKHASH: 0.5,
    Fault.CONGESTION: 0.12,
    Fault.LATE: 0.15,
    Fault.ACCOUNT_FROZEN: 0.2,
    Fault.ALLOWANCE: 0.08,
    Fault.FORGERY: 0.15,
    Fault.BUMP: 0.3,
}
"""How often each strikes where it could, in a run that has it."""
SHARES: Mapping[Fault, float] = {
    Fault.FEE_SPIKE: 0.7,
    Fault.OLD_ATTEMPT: 0.95,
    Fault.STRANGER: 0.25,
    Fault.STRANGER_BATCH: 0.25,
    Fault.APPROVAL_LATE: 0.7,
    Fault.APPROVAL_EXPIRED: 0.4,
    Fault.VETO: 0.25,
    Fault.CANCEL: 0.35,
    Fault.RESTORE: 0.3,
    Fault.LIE: 0.3,
    Fault.ACCOUNT_FROZEN: 0.4,
    Fault.ALLOWANCE: 0.25,
    Fault.FORGERY: 0.35,
    Fault.BUMP: 0.35,
}
"""Which share of the runs has a kind, where that is not one half."""
GATE = frozenset({Fault.APPROVAL_LATE, Fault.APPROVAL_EXPIRED})


EVM = tuple(kind for kind in Fault if list(Fault).index(kind) < list(Fault).index(Fault.NO_ANSWER))
SOLANA = (
    *(Fault.NULL_RECEIPT, Fault.FAILED_PREFLIGHT, Fault.ACCEPTED_BUT_ERROR, Fault.LOST, Fault.DROPPED),
    *(Fault.REORG, Fault.STRANGER_BATCH, Fault.CANCEL, Fault.DISCONNECT, Fault.COMMIT_UNANSWERED),
    *(Fault.CRASH, Fault.CRASH_POINT, Fault.FREEZE, Fault.FREEZE_POINT, Fault.RESTART, Fault.RESTORE),
    *(kind for kind in Fault if kind not in EVM),
)
"""What can come on a chain with gas and nonces, and on one with expiring transactions and an allowance."""


def draw_kinds(chance: random.Random, offered: Sequence[Fault] = EVM) -> frozenset[Fault]:
    """Nothing can prove that a transaction which nobody here knows will not land, so where such may exist nobody gives
    a payment up before the chain refuses it."""
    kinds = {kind for kind in offered if chance.random() < SHARES.get(kind, 0.5)}
    if kinds & {Fault.STRANGER_BATCH, Fault.RESTORE}:
        kinds.discard(Fault.CANCEL)
    return frozenset(kinds)


class Trouble:
    """Draws every fault of a run from its seed; after `end` nothing strikes any more."""

    def __init__(
        self, chance: random.Random, kinds: frozenset[Fault] | None = None, offered: Sequence[Fault] = EVM
    ) -> None:
        """`kinds`: which faults the run has; drawn from `offered` where None."""
        self.chance = chance
        self.kinds = draw_kinds(chance, offered) if kinds is None else kinds
        self.vigour = chance.choice([0.3, 1, 1, 2])
        self.notices_lost = chance.choice([0.8, 0.95, 1])
        self.counts: Counter[Fault] = Counter()
        self.active = True

    def strikes(self, fault: Fault) -> bool:
        if not self.active or fault not in self.kinds:
            return False
        struck = self.chance.random() < RATES[fault] * self.vigour
        self.counts[fault] += struck
        return struck

    def end(self) -> None:
        self.active = False
        # Where no notice ever arrives, stages look at the same moments for ever: what decides right after what books
        # has always just left something behind.
        self.notices_lost = min(self.notices_lost, 0.95)
