"""The on-chain guard, asked: was this step of a distribution executed, whoever sent it?

Contracts execute a (distribution, batch) at most once and bind one content to an id, so a finalized answer settles what
a lost database, an unknown transaction or another instance left open.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from bridge.domain.events import Log
from bridge.domain.payouts import CANCELLED, Action, ActionKind, Leg
from bridge.domain.units import Address, BlockStamp
from bridge.ports.database import Transaction
from bridge.ports.paying import Payer

WORD_WITHOUT_EVENT = (
    "the chain says it was executed, but ingest has no event of it: check the endpoints against each other, and that "
    "start_block is not after it"
)


class Verdict(StrEnum):
    OPEN = "not executed"
    DONE = "executed"
    OTHER_CONTENT = "the chain binds other content to this distribution's id: nothing can be paid under it"
    CANCELLED = "the proposal was cancelled on chain: nothing can be paid under this distribution's id"
    OTHER_LEG = (
        "the chain has a proposal for this window by the other leg (push or claim), and pays it there: give this one "
        "up, and set claims.above to what it was before the database was lost"
    )

    @property
    def never(self) -> bool:
        """Whether the step can never be executed."""
        return self in (Verdict.OTHER_CONTENT, Verdict.CANCELLED, Verdict.OTHER_LEG)


async def ask_chain(payer: Payer, action: Action, at: BlockStamp) -> Verdict:
    """What block `at`, which must be final, says of `action`. Raises RetryableError where no endpoint can say."""
    if action.kind is ActionKind.EXECUTE:
        return Verdict.DONE if await payer.executed(action, at) else Verdict.OPEN
    bound = await payer.proposed(action, at)
    if bound is None:
        # Ids are each contract's own, so neither would refuse what the other has: a database that was lost, and a
        # limit that was changed since, must not pay a window twice.
        return Verdict.OTHER_LEG if await payer.proposed_otherwise(action, at) else Verdict.OPEN
    if bound == action.content_hash:
        return Verdict.DONE
    return Verdict.CANCELLED if bound == CANCELLED else Verdict.OTHER_CONTENT


async def settle_transaction(transaction: Transaction, payer: Payer, action: Action, number: int, tx_id: bytes) -> bool:
    """Set what became of each payout from the events of one transaction in finalized block `number`; returns whether
    one of them says that `action` was executed."""
    logs = await transaction.events.logs(action.chain, number, number, addresses=[Address(action.target)])
    return await _settle(transaction, payer, action, [log for log in logs if log.tx_hash == tx_id])


async def settle_word(transaction: Transaction, payer: Payer, action: Action, at: BlockStamp) -> bool:
    """The same for an action that the chain calls executed at final block `at`, whoever sent it.

    False without its event: one endpoint's word alone never makes a payment done that nobody can be shown to have got.
    """
    subjects = {action.distribution_id: action.decided_at}
    logs = await transaction.events.logs_about(action.chain, Address(action.target), subjects, at.number)
    return await _settle(transaction, payer, action, logs)


async def _settle(transaction: Transaction, payer: Payer, action: Action, logs: Sequence[Log]) -> bool:
    settlement = payer.settlement(action, logs)
    if settlement.executed and action.kind is ActionKind.EXECUTE:
        if action.leg is Leg.CLAIM:
            await transaction.claims.activated(action)
        else:
            # First: what was left out is none of this batch any more.
            await transaction.payouts.leave_out(action, settlement.left_out)
            await transaction.payouts.settle_batch(action.distribution_id, action.batch_index, settlement.credited)
    return settlement.executed
