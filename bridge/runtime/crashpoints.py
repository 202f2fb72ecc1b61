"""Every place where dying is interesting, by name, in the order of the flow.

In production `reach` does nothing. Where the environment names a point, BRIDGE_CRASH_AT=NAME or NAME:n, the process
kills itself with SIGKILL when it comes there (for the n-th time): no handler runs, no buffer is flushed, as when the
machine loses power. Tests start a daemon so, start it again without, and compare with an undisturbed run.
"""

from __future__ import annotations

import os
import signal
from enum import Enum

from bridge.domain.errors import ConfigError

VARIABLE = "BRIDGE_CRASH_AT"


class CrashPoint(Enum):
    """The value of each member says how recovery works."""

    EVENT_SAVED = "ingest goes on from the head and cursor that it committed together with the event"
    DECISION_SAVED = "decide goes on after the decision: decision, accumulators and cursor are one commit"
    DISTRIBUTION_PLANNED = "pay finds the planned actions; the decision has a distribution, so it is not planned again"
    PROOFS_WRITTEN_NOT_RECORDED = "the files are found as they are, and recorded; nothing was proposed without them"
    PREFLIGHT_PASSED = "nothing was written: the pre-flight is made again"
    SLOT_RESERVED = "the action owns its nonce: it is signed on that nonce, and no other is taken"
    ATTEMPT_SIGNED_NOT_SAVED = "no byte left the process: it is signed again on the same nonce, so one can land"
    ATTEMPT_SAVED_NOT_SENT = "the saved bytes are sent"
    SENT_NOT_RECORDED = "the same bytes are sent again: a node answers that it knows them, or the receipt is found"
    BROADCAST_RECORDED = "the same bytes are sent again at the next head; the receipt is found"
    BUMP_SAVED_NOT_SENT = "the latest attempt is sent; every earlier hash is still looked up"
    INCLUSION_SEEN_NOT_SAVED = "the receipt is read again"
    INCLUSION_SAVED = "finality is awaited; a reorg sends the same bytes again"
    FINALITY_SEEN_NOT_SAVED = "block and receipt are compared again"
    FINALIZED_NOT_POSTED = "post reads what is final and has no journal yet"
    JOURNAL_SAVED = "post goes on after the journal: journal and cursor are one commit"
    SUBSCRIBER_TOLD_NOT_RECORDED = "the subscriber is told again: at least once, in order for each action"


def _parse(value: str) -> tuple[CrashPoint, int]:
    name, _, times = value.partition(":")
    if name not in CrashPoint.__members__ or not (times or "1").isdecimal() or int(times or "1") < 1:
        raise ConfigError(
            f"`{value}` is not NAME or NAME:n of a crash point",
            where=VARIABLE,
            mend=f"unset it; the points are {', '.join(CrashPoint.__members__)}",
        )
    return CrashPoint[name], int(times or "1")


class _Armed:
    """Where this process is to die. Invariant: `left` ≥ 1 until it does."""

    def __init__(self, value: str | None) -> None:
        self.point: CrashPoint | None = None
        self.left = 0
        if value:
            self.point, self.left = _parse(value)

    def reach(self, point: CrashPoint) -> None:
        if point is not self.point:
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


_armed = _Armed(os.environ.get(VARIABLE))


def reach(point: CrashPoint) -> None:
    """The process has come to `point`. Does nothing unless the environment chose it."""
    _armed.reach(point)
