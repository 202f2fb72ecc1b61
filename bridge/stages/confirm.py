"""slots, attempts ─► receipts, our own canonical blocks ─► included ─► final | held | void, or back.

    signed, broadcast ─receipt of any attempt, in a block that is canonical here─► included
    included ─its block was orphaned─► broadcast            (stages/pay.py sends the same bytes again)
    included ─its block is finalized here─► final | held (reverted) | void (the cancel)
    signed, broadcast ─nonce spent at a finalized block, by a hash nobody here knows─► quarantined
    quarantined ─what the finalized chain says was executed─► final | planned
    held by a revert ─the same question, some times─► final | planned   (its pre-flight then says what it waits for)

An error, a null receipt or a time-out moves nothing. A receipt counts only when ingest has its block: the bridge has
one idea of the canonical chain, whichever endpoint answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.domain.confirmations import Observation, Transition, next_transition
from bridge.domain.payouts import Action, Inclusion, InFlight
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import BlockStamp
from bridge.ports import ChainReader, Database, Lease, Payer, Transaction
from bridge.runtime.crashpoints import CrashPoint, reach
from bridge.stages.guard import WORD_WITHOUT_EVENT, Verdict, ask_chain, settle_transaction, settle_word

NO_EVENT = (
    "its final transaction succeeded, but ingest has no event of it: check that the contract watched is the one called"
)


SLOTS_MAX = 3
"""How many nonces an action may burn by reverting before only a person can release it."""


class Confirm:
    """Watches what was sent on one chain."""

    name = "confirm"

    def __init__(self, *, database: Database, chain: ChainReader, payer: Payer, lease: Lease) -> None:
        self._database = database
        self._chain = chain
        self._payer = payer
        self._lease = lease

    async def step(self) -> bool:
        name = self._chain.name
        async with self._database.snapshot() as transaction:
            finalized = await transaction.events.finalized(name)
            in_flight = await transaction.payouts.in_flight(name)
            open_questions = await transaction.payouts.quarantined(name)
            open_questions += await transaction.payouts.reverted(name, SLOTS_MAX)
        if finalized is None:
            return False
        at = BlockStamp(name, finalized.number, finalized.hash)
        moved = False
        for flight in in_flight:
            if flight.action.state is ActionState.INCLUDED:
                moved |= await self._commit(flight, {}, at, spent_by_unknown=False)
            elif flight.attempts:
                moved |= await self._look_up(flight, at)
        for action in open_questions:
            moved |= await self._resolve(action, at)
        return moved

    async def _look_up(self, flight: InFlight, finalized: BlockStamp) -> bool:
        """Every hash that the slot ever had, for the first attempt may land after the third was sent."""
        receipts = {
            attempt.attempt_id: found
            for attempt in flight.attempts
            if (found := await self._payer.inclusions(attempt.signed.tx_id))
        }
        spent = not receipts and await self._spent_by_unknown(flight, finalized)
        if not receipts and not spent:
            return False
        return await self._commit(flight, receipts, finalized, spent_by_unknown=spent)

    async def _spent_by_unknown(self, flight: InFlight, finalized: BlockStamp) -> bool:
        if await self._chain.sequence(flight.slot.account, finalized) <= flight.slot.nonce:
            return False
        return await self._payer.disowned([attempt.signed.tx_id for attempt in flight.attempts], finalized)

    async def _commit(
        self,
        flight: InFlight,
        receipts: dict[int, tuple[Inclusion, ...]],
        at: BlockStamp,
        *,
        spent_by_unknown: bool,
    ) -> bool:
        """Judge what was seen by the blocks that are canonical in this very transaction, and take the arrow."""
        recorded = [attempt.inclusion.block for attempt in flight.attempts if attempt.inclusion is not None]
        found = [inclusion.block for inclusions in receipts.values() for inclusion in inclusions]
        vouched = await self._vouched([*recorded, *found], at)
        reach(CrashPoint.INCLUSION_SEEN_NOT_SAVED if receipts else CrashPoint.FINALITY_SEEN_NOT_SAVED)
        async with self._database.begin(self._lease) as transaction:
            canonical = {
                stamp: stamp in vouched or await transaction.events.is_canonical(stamp) for stamp in (*recorded, *found)
            }
            seen = Observation(
                {
                    attempt_id: inclusion
                    for attempt_id, inclusions in receipts.items()
                    for inclusion in inclusions
                    if canonical[inclusion.block]
                },
                canonical[recorded[0]] if recorded else None,
                at.number,
                spent_by_unknown,
            )
            transition = next_transition(flight, seen)
            if transition is None:
                return False
            if transition.to is ActionState.FINAL:
                transition = await self._settled(transaction, flight, transition)
            moved = await transaction.payouts.apply(flight, transition)
        if moved and transition.to is ActionState.INCLUDED:
            reach(CrashPoint.INCLUSION_SAVED)
        if moved and transition.slot is SlotState.SETTLED:
            reach(CrashPoint.FINALIZED_NOT_POSTED)
        return moved

    async def _vouched(self, stamps: Sequence[BlockStamp], at: BlockStamp) -> frozenset[BlockStamp]:
        """Those of `stamps` that ingest did not keep, though final: a backfill keeps the blocks that carry logs, and a
        reverted transaction leaves none. The chain's own header of that height speaks for them."""
        async with self._database.snapshot() as transaction:
            missing = [
                stamp
                for stamp in stamps
                if stamp.number <= at.number and await transaction.events.block(stamp.chain, stamp.number) is None
            ]
        if not missing:
            return frozenset()
        headers = await self._chain.blocks([stamp.number for stamp in missing])
        hashes = {header.hash for header in headers}
        return frozenset(stamp for stamp in missing if stamp.hash in hashes)

    async def _settled(self, transaction: Transaction, flight: InFlight, transition: Transition) -> Transition:
        """A success counts as final only together with the event that carries the distribution's id."""
        assert transition.attempt is not None
        assert transition.inclusion is not None
        number = transition.inclusion.block.number
        tx_id = transition.attempt.signed.tx_id
        executed = await settle_transaction(transaction, self._payer, flight.action, number, tx_id)
        return transition if executed else replace(transition, to=ActionState.HELD, reason=NO_EVENT)

    async def _resolve(self, action: Action, at: BlockStamp) -> bool:
        """Every nonce of the action is spent for good at `at` or below: what `at` says is the last word on them."""
        verdict = await ask_chain(self._payer, action, at)
        async with self._database.begin(self._lease) as transaction:
            if verdict is Verdict.OTHER_CONTENT:
                await transaction.payouts.wait(action, verdict.value)
                return False
            if verdict is Verdict.OPEN:
                return await transaction.payouts.move(action, ActionState.PLANNED)
            if not await settle_word(transaction, self._payer, action, at):
                await transaction.payouts.wait(action, WORD_WITHOUT_EVENT)
                return False
            return await transaction.payouts.move(action, ActionState.FINAL)
