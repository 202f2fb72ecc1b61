"""The on-chain guard, asked: was this step of a distribution executed, whoever sent it?

Contracts execute a (distribution, batch) at most once and bind one content to an id, so a finalized answer settles what
a lost database, an unknown transaction or another instance left open.
"""

from __future__ import annotations

from enum import Enum

from bridge.domain.payouts import Action, ActionKind
from bridge.domain.units import Address, BlockStamp
from bridge.ports import Payer, Settlement, Transaction


class Verdict(Enum):
    OPEN = "not executed"
    DONE = "executed"
    OTHER_CONTENT = "the chain binds other content to this distribution's id: nothing can be paid under it"


async def ask_chain(payer: Payer, action: Action, at: BlockStamp) -> Verdict:
    """What block `at`, which must be final, says of `action`. Raises RetryableError where no endpoint can say."""
    if action.kind is ActionKind.EXECUTE:
        done = await payer.executed(action.distribution_id, action.batch_index, at)
        return Verdict.DONE if done else Verdict.OPEN
    bound = await payer.proposed(action.distribution_id, at)
    if bound is None:
        return Verdict.OPEN
    return Verdict.DONE if bound == action.content_hash else Verdict.OTHER_CONTENT


async def settle(
    transaction: Transaction, payer: Payer, action: Action, *, first: int, last: int, tx_id: bytes | None
) -> Settlement:
    """Read the action's events in the finalized blocks first … last (of one transaction, where `tx_id` is given) and
    set what became of each payout."""
    logs = await transaction.events.logs(action.chain, first, last, addresses=[Address(action.target)])
    own = [log for log in logs if tx_id is None or log.tx_hash == tx_id]
    settlement = payer.settlement(action, own)
    if settlement.executed and action.kind is ActionKind.EXECUTE:
        await transaction.payouts.settle_batch(action.distribution_id, action.batch_index, settlement.credited)
    return settlement
