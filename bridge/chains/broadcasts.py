"""What endpoints say to a transaction that is sent to them, whatever the chain; its adapter knows the words.

No answer proves that a transaction failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.chains.jsonrpc import Answer, Refused
from bridge.ports.paying import Broadcast, BroadcastOutcome


def read_reply(
    answer: Answer,
    sent: str,
    words: Sequence[tuple[str, BroadcastOutcome]],
    codes: Mapping[int, BroadcastOutcome] | None = None,
) -> Broadcast:
    """What one endpoint said to the transaction whose id nodes write as `sent`.

    An error means what the first of `words` (in lower case) that its message has stands for, else what its code does.
    """
    if isinstance(answer.error, Refused):
        text = answer.error.message.lower()
        outcome = next((outcome for part, outcome in words if part in text), None)
        outcome = outcome or (codes or {}).get(answer.error.code, BroadcastOutcome.UNKNOWN)
        return Broadcast(outcome, str(answer.error))
    if answer.error is not None:
        return Broadcast(BroadcastOutcome.UNKNOWN, str(answer.error))
    if answer.result == sent:
        return Broadcast(BroadcastOutcome.ACCEPTED)
    return Broadcast(
        BroadcastOutcome.UNKNOWN, f"{answer.endpoint.name} named another transaction, {answer.result!r}"[:200]
    )


def combine_replies(replies: Sequence[Broadcast]) -> Broadcast:
    """One endpoint that took it is enough; else what is least certain counts, for it may have been taken."""
    by_certainty = (
        BroadcastOutcome.ACCEPTED,
        BroadcastOutcome.KNOWN,
        BroadcastOutcome.UNKNOWN,
        BroadcastOutcome.REJECTED,
    )
    for outcome in by_certainty:
        for reply in replies:
            if reply.outcome is outcome:
                return reply
    return Broadcast(BroadcastOutcome.UNKNOWN, "no endpoint answered")
