"""What persons do: the approver, the guardian, and whoever is on call and follows the README's table for 3 a.m.

waits for approval              the approver sends one, late perhaps, and again where it expired
held: vetoed by the guardian    given up, once that veto is final
held: anything else             released, or given up by whoever ordered to hold it
a nonce that nothing explains   looked up on the chain; explained where no event of ours can explain it
start with its key              it gets that key, and later the usual one again
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from bridge.domain.breaks import BreakKind, Level
from bridge.domain.errors import RefusedError
from bridge.domain.interventions import POSSIBLE, InterventionKind
from bridge.domain.ledger import gas_code
from bridge.domain.states import ActionState, BreakState
from bridge.stages.intervene import intervene
from bridge.store.database import Database, Transaction
from tests.chaos.network import Network
from tests.chaos.trouble import Fault, Trouble
from tests.stages.books import CHAIN

STEPS = "SELECT action_id, distribution_id, state, reason, payload FROM actions WHERE state NOT IN ('final', 'void')"
WHIM = "a whim"


class People:
    def __init__(self, network: Network, database: Database, trouble: Trouble) -> None:
        self._network = network
        self._database = database
        self._trouble = trouble

    def approve(self) -> None:
        """What proposals wait for, unless the approver is late."""
        for proposal in self._network.unapproved():
            if not self._trouble.strikes(Fault.APPROVAL_LATE):
                self._trouble.counts[Fault.APPROVAL_EXPIRED] += proposal.expired
                self._network.approve(proposal.distribution_id, proposal.content_hash)

    async def interfere(self) -> None:
        """Whatever the daemon did not ask for: strangers at its key, a veto, an order to give something up."""
        strikes, chance = self._trouble.strikes, self._trouble.chance
        if strikes(Fault.STRANGER):
            self._network.intrude()
        if strikes(Fault.STRANGER_BATCH) and (steps := await self._open_steps()):
            self._network.intrude(chance.choice(steps)[4])
        if strikes(Fault.VETO) and (steps := await self._open_steps()):
            self._network.veto(chance.choice(steps)[1])
        if strikes(Fault.CANCEL) and (steps := await self._open_steps()):
            step, _, state, _, _ = chance.choice(steps)
            possible, _ = POSSIBLE[ActionState(state)]
            for kind in (InterventionKind.CANCEL, InterventionKind.HOLD):
                if kind in possible:
                    await self._order(kind, step, WHIM)

    async def visit(self) -> bool:
        """Take up what waits for a person; returns whether something waits for another key."""
        async with self._database.snapshot() as transaction:
            finalized = await transaction.events.finalized(CHAIN)
        for step, distribution_id, state, reason, _ in await self._open_steps():
            if state != ActionState.HELD:
                continue
            if self._network.vetoed_at(distribution_id) is not None or "vetoed" in (reason or ""):
                vetoed_at = self._network.vetoed_at(distribution_id) or 0
                if finalized is not None and vetoed_at <= finalized.number:
                    await self._order(InterventionKind.CANCEL, step, "it was vetoed")
            elif WHIM in (reason or "") and self._trouble.chance.random() < 0.5:
                await self._order(InterventionKind.CANCEL, step, WHIM)
            else:
                await self._order(InterventionKind.RELEASE, step, "tried again")
        async with self._database.begin() as transaction:
            await self._explain(transaction)
            waiting = "SELECT count(*) FROM actions WHERE reason LIKE '%start with its key'"
            return bool(await transaction.connection.fetchval(waiting))

    async def _explain(self, transaction: Transaction) -> None:
        spent = {f"{gas_code(one.account)} nonce {one.nonce}": one for one in self._network.sent()}
        for each in await transaction.breaks.unresolved():
            outflow = (each.kind, each.level, each.state) == (BreakKind.UNEXPECTED_OUT, Level.NONCE, BreakState.OPEN)
            if outflow and each.subject in spent and not spent[each.subject].has_event:
                await transaction.breaks.explain(each.break_id, "looked up: it moved nothing of ours")

    async def _open_steps(self) -> Sequence[tuple[int, bytes, str, str | None, bytes]]:
        async with self._database.snapshot() as transaction:
            return [tuple(row) for row in await transaction.connection.fetch(STEPS + " ORDER BY action_id")]

    async def _order(self, kind: InterventionKind, step: int, reason: str) -> None:
        with contextlib.suppress(RefusedError):  # it is over by now
            await intervene(self._database, kind, str(step), None, reason=reason, by="somebody")
