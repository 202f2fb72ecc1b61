"""What persons do: the approver, the guardian, and whoever is on call and follows the README's table for 3 a.m.

waits for approval              the approver sends one, late perhaps, and again where it expired
held: vetoed by the guardian    given up, once that veto is final
held: anything else             released, or given up by whoever ordered to hold it
a nonce that nothing explains   looked up on the chain; explained where no event of ours can explain it
start with its key              it gets that key, and later the usual one again
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from bridge.domain.breaks import BreakKind, Level
from bridge.domain.errors import RefusedError
from bridge.domain.interventions import POSSIBLE, InterventionKind
from bridge.domain.ledger import gas_code
from bridge.domain.states import ActionState, BreakState
from bridge.stages.intervene import intervene
from bridge.store.database import Database, Transaction
from tests.chaos.network import Network
from tests.chaos.trouble import Fault, Trouble
from tests.stages.books import CHAIN, OPERATOR

STEPS = """
    SELECT action_id, distribution_id, state, reason, payload FROM actions
     WHERE state NOT IN ('final', 'void') ORDER BY action_id
"""
WHIM = "a whim"
MEDDLING = frozenset({Fault.STRANGER_BATCH, Fault.VETO, Fault.CANCEL})


@dataclass(frozen=True, slots=True)
class Step:
    """One that is not over."""

    action_id: int
    distribution_id: bytes
    state: ActionState
    reason: str | None
    payload: bytes


class People:
    """What persons do on any chain; a subclass says what else."""

    def __init__(self, database: Database, trouble: Trouble) -> None:
        self._database = database
        self._trouble = trouble

    def approve(self) -> None:
        """What waits for an approval, where a chain has such."""

    async def interfere(self) -> None:
        """Whatever the daemon did not ask for."""

    async def visit(self) -> bool:
        """Take up what waits for a person; returns whether something waits for another key."""
        raise NotImplementedError

    async def _meddle(self, step: Step, kinds: frozenset[InterventionKind]) -> None:
        """Order what can be ordered of `kinds`."""
        possible, _ = POSSIBLE[step.state]
        for kind in possible & kinds:
            await self._order(kind, step, WHIM)

    async def _open_steps(self) -> list[Step]:
        async with self._database.snapshot() as transaction:
            rows = await transaction.connection.fetch(STEPS)
        return [Step(**{**row, "state": ActionState(row["state"])}) for row in rows]

    async def _order(self, kind: InterventionKind, step: Step, reason: str) -> None:
        with contextlib.suppress(RefusedError):  # it is over by now
            await intervene(self._database, kind, str(step.action_id), None, reason=reason, by="somebody")


class EvmPeople(People):
    def __init__(self, network: Network, database: Database, trouble: Trouble) -> None:
        super().__init__(database, trouble)
        self._network = network

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
        steps = await self._open_steps() if self._trouble.kinds & MEDDLING else []
        if not steps:
            return
        if strikes(Fault.STRANGER_BATCH):
            self._network.intrude(chance.choice(steps).payload)
        if strikes(Fault.VETO):
            self._network.veto(chance.choice(steps).distribution_id)
        if strikes(Fault.CANCEL):
            await self._meddle(chance.choice(steps), frozenset({InterventionKind.CANCEL, InterventionKind.HOLD}))

    async def visit(self) -> bool:
        """Take up what waits for a person; returns whether something waits for another key."""
        async with self._database.snapshot() as transaction:
            finalized = await transaction.events.finalized(CHAIN)
        for step in await self._open_steps():
            vetoed_at = self._network.vetoed_at(step.distribution_id)
            if step.state is not ActionState.HELD:
                continue
            if vetoed_at is None:
                whim = WHIM in (step.reason or "") and self._trouble.chance.random() < 0.5
                await self._order(InterventionKind.CANCEL if whim else InterventionKind.RELEASE, step, WHIM)
            elif finalized is not None and vetoed_at <= finalized.number:
                await self._order(InterventionKind.CANCEL, step, "it was vetoed")
        async with self._database.begin() as transaction:
            await self._explain(transaction)
            waiting = "SELECT count(*) FROM actions WHERE reason LIKE '%start with its key'"
            return bool(await transaction.connection.fetchval(waiting))

    async def _explain(self, transaction: Transaction) -> None:
        spent = {f"{gas_code(one.account)} nonce {one.nonce}": one for one in self._network.sent()}
        for each in await transaction.breaks.unresolved():
            outflow = (each.kind, each.level, each.state) == (BreakKind.UNEXPECTED_OUT, Level.NONCE, BreakState.OPEN)
            if outflow and each.subject in spent and not spent[each.subject].has_event:
                await transaction.breaks.explain(
                    each.break_id, reason="looked up: it moved nothing of ours", by="somebody"
                )
            elif outflow and not each.subject.startswith(gas_code(OPERATOR)):
                # Only the configured operator's account is looked at again, so this does not clear by itself.
                await transaction.breaks.explain(
                    each.break_id, reason="looked up: it is ours, of the key that was used then", by="somebody"
                )
