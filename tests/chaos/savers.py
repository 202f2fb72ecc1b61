"""What persons do around a Solana vault: whoever is on call, and those who meddle.

held, by a whim     released, or given up
held, else          released: the reason goes away, or it is held again with it
a second database   signs and sends with the same key what ours is about to
a stranger          writes memos like ours, and funds the markers of what is not paid yet
"""

from __future__ import annotations

from bridge.chains.solana.markers import Deed
from bridge.chains.solana.payer import SolanaPayer
from bridge.chains.solana.payloads import Proposal, read_payload
from bridge.domain.errors import RetryableError
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Refusal, Slot
from bridge.domain.states import ActionState, SlotState
from bridge.store.database import Database
from tests.chaos.cluster import Cluster
from tests.chaos.people import WHIM, People, Step
from tests.chaos.trouble import Fault, Trouble

MEDDLING = frozenset({Fault.STRANGER_BATCH, Fault.FORGERY, Fault.CANCEL, Fault.BUMP})
ORDERS = {
    Fault.CANCEL: frozenset({InterventionKind.CANCEL, InterventionKind.HOLD}),
    Fault.BUMP: frozenset({InterventionKind.BUMP}),
}


class SolanaPeople(People):
    def __init__(self, cluster: Cluster, payer: SolanaPayer, database: Database, trouble: Trouble) -> None:
        """`payer`: with the operator's key, of a process that knows nothing of ours."""
        super().__init__(database, trouble)
        self._cluster = cluster
        self._payer = payer

    async def interfere(self) -> None:
        strikes, chance = self._trouble.strikes, self._trouble.chance
        steps = await self._open_steps() if self._trouble.kinds & MEDDLING else []
        if not steps:
            return
        if strikes(Fault.STRANGER_BATCH):
            await self._intrude(chance.choice(steps))
        if strikes(Fault.FORGERY):
            self._cluster.forge(_deed(chance.choice(steps), cancels=chance.random() < 0.3))
        for fault, kinds in ORDERS.items():
            if strikes(fault):
                await self._meddle(chance.choice(steps), kinds)

    async def _intrude(self, step: Step) -> None:
        async with self._database.snapshot() as transaction:
            action = await transaction.payouts.action(step.action_id)
        slot = Slot(0, self._payer.account, 0, 0, SlotState.LIVE)
        try:
            signed = await self._payer.sign(action, slot, None)
        except RetryableError:
            return
        if not isinstance(signed, Refusal):
            self._cluster.strangers.add(signed.tx_id)
            self._cluster.submit(signed.raw)

    async def visit(self) -> bool:
        for step in await self._open_steps():
            if step.state is ActionState.HELD:
                whim = WHIM in (step.reason or "") and self._trouble.chance.random() < 0.5
                await self._order(InterventionKind.CANCEL if whim else InterventionKind.RELEASE, step, WHIM)
        return False


def _deed(step: Step, *, cancels: bool) -> Deed:
    plan = read_payload(step.payload)
    if isinstance(plan, Proposal):
        deed = Deed(plan.distribution_id, None, bytes(reversed(plan.content_hash)))
    else:
        deed = Deed(plan.distribution_id, plan.index)
    return deed.cancelled if cancels else deed
