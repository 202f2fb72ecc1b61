"""slots, attempts ─► receipts, our own canonical blocks ─► included ─► final | held | void, or back.

    signed, broadcast ─receipt of any attempt, in a block that is canonical here─► included
    included ─its block was orphaned─► broadcast            (stages/pay.py sends the same bytes again)
    included ─its block is finalized here, two endpoints say the same─► final | held (reverted) | void (the cancel, and
                                                                        nobody else executed it)
    signed, broadcast ─nonce spent at a finalized block, by a hash nobody here knows─► quarantined
    reserved ─without nonces: executed or cancelled at a finalized block, so that nothing can be signed─► quarantined
    quarantined ─what the finalized chain says was executed─► final | planned | void (a person had cancelled it)
    held by a revert ─the same question, some times─► final | planned   (its pre-flight then says what it waits for)
    held, and released or given up by a person ─the same question─► final | planned | void

    final by the chain's word alone ─whose transaction was it?─► slot and attempt, where it was our own

An error, a null receipt or a time-out moves nothing. A receipt counts only when ingest has its block: the bridge has
one idea of the canonical chain, whichever endpoint answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.domain.confirmations import Observation, Spent, Transition, next_transition
from bridge.domain.interventions import Intervention, InterventionKind, objection
from bridge.domain.payouts import Action, ActionKind, Inclusion, InFlight, Leg, Purpose
from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import Address, BlockStamp
from bridge.ports.database import Database, Transaction
from bridge.ports.paying import Payer
from bridge.ports.reading import ChainReader
from bridge.ports.running import Lease
from bridge.runtime.crashpoints import CrashPoint, reach
from bridge.stages.guard import WORD_WITHOUT_EVENT, Verdict, ask_chain, settle_transaction, settle_word

NO_EVENT = (
    "its final transaction succeeded, but ingest has no event of it: check that the contract watched is the one called"
)
WITHOUT_PROPOSAL = "its proposal was given up"
WITHOUT_ACTIVATION = "its activation was given up"
EXECUTED_ELSEWHERE = (
    "its cancel landed, but the chain says that another transaction executed it; release it to book that"
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
        # Whose transaction was looked for and found, or is a stranger's. Memory only: asking again changes nothing.
        self._traced: set[int] = set()

    async def step(self) -> bool:
        name = self._chain.name
        async with self._database.snapshot() as transaction:
            finalized = await transaction.events.finalized(name)
            in_flight = await transaction.payouts.in_flight(name)
            open_questions = await transaction.payouts.quarantined(name)
            open_questions += await transaction.payouts.reverted(name, SLOTS_MAX)
            by_word = await transaction.payouts.settled_by_word(name)
            orders = [
                (await transaction.payouts.action(order.action_id), order)
                for order in await transaction.interventions.open(name)
                if order.kind is InterventionKind.RELEASE or order.state is ActionState.HELD
            ]
        if finalized is None:
            return False
        at = BlockStamp(name, finalized.number, finalized.hash)
        moved = False
        for flight in in_flight:
            if flight.action.state is ActionState.INCLUDED:
                moved |= await self._settle(flight, at)
            elif flight.attempts:
                moved |= await self._look_up(flight, at)
            elif flight.action.reason is not None:
                moved |= await self._look_around(flight, at)
        ordered = {order.action_id for _, order in orders}
        for action in open_questions:
            if action.action_id not in ordered:
                moved |= await self._resolve(action, at)
        for action, order in orders:
            moved |= await self._obey(action, order, at)
        for action in by_word:
            if action.action_id not in self._traced:
                await self._trace(action, at)
        return moved

    async def _settle(self, flight: InFlight, finalized: BlockStamp) -> bool:
        """What was included, again. One endpoint's receipt was enough to wait for its block; once that is final, two
        must say the same of it. Where they say that there is none, it is looked for again."""
        [attempt] = [attempt for attempt in flight.attempts if attempt.inclusion is not None]
        assert attempt.inclusion is not None
        if attempt.inclusion.block.number > finalized.number:
            return await self._commit(flight, {}, finalized)
        elsewhere = False
        if attempt.signed.purpose is Purpose.CANCEL:
            # Its nonce paid nothing. Another may have: a second database's, or ours from before this one was restored.
            elsewhere = await ask_chain(self._payer, flight.action, finalized) is Verdict.DONE
        agreed = await self._payer.settled(attempt.signed.tx_id)
        if agreed is None or agreed.block != attempt.inclusion.block:
            return await self._commit(flight, {}, finalized, denied=True)
        return await self._commit(flight, {attempt.attempt_id: (agreed,)}, finalized, elsewhere=elsewhere)

    async def _look_up(self, flight: InFlight, finalized: BlockStamp) -> bool:
        """Every hash that the slot ever had, for the first attempt may land after the third was sent."""
        receipts = {
            attempt.attempt_id: found
            for attempt in flight.attempts
            if (found := await self._inclusions(attempt.signed.tx_id, finalized))
        }
        spent = None if receipts else await self._spent_by_unknown(flight, finalized)
        if not receipts and spent is None:
            return False
        return await self._commit(flight, receipts, finalized, spent=spent)

    async def _look_around(self, flight: InFlight, finalized: BlockStamp) -> bool:
        """Nothing of it is signed, and something keeps it from that. Where accounts count nothing it may be that
        somebody else has executed or cancelled it: then no signature of ours is to be waited for. (A nonce would let
        ours be signed, and fail.)"""
        if await self._chain.sequence(flight.slot.account, finalized) is not None:
            return False
        if not await self._done_elsewhere(flight, finalized):
            return False
        return await self._commit(flight, {}, finalized, spent=Spent.STEP)

    async def _inclusions(self, tx_id: bytes, finalized: BlockStamp) -> tuple[Inclusion, ...]:
        """What any endpoint says, until two could know better: of a final block only what they say alike, for it is not
        waited for any more. One that lies would send the action to and fro."""
        found = await self._payer.inclusions(tx_id)
        if all(inclusion.block.number > finalized.number for inclusion in found):
            return found
        agreed = await self._payer.settled(tx_id)
        if agreed is not None:
            return (agreed,)
        return tuple(inclusion for inclusion in found if inclusion.block.number > finalized.number)

    async def _spent_by_unknown(self, flight: InFlight, finalized: BlockStamp) -> Spent | None:
        sequence = await self._chain.sequence(flight.slot.account, finalized)
        if sequence is None:
            spent = Spent.STEP if await self._done_elsewhere(flight, finalized) else None
        else:
            spent = Spent.NONCE if sequence > flight.slot.nonce else None
        if spent is None:
            return None
        disowned = await self._payer.disowned([attempt.signed.tx_id for attempt in flight.attempts], finalized)
        return spent if disowned else None

    async def _done_elsewhere(self, flight: InFlight, finalized: BlockStamp) -> bool:
        """What a nonce would tell: that the step is executed (and by none of ours), or that nothing can be signed for
        it any more, for another one cancelled it."""
        if await ask_chain(self._payer, flight.action, finalized) is not Verdict.OPEN:
            return True
        refusal = await self._payer.may_replace(flight, finalized)
        return refusal is not None and not refusal.temporary

    async def _commit(
        self,
        flight: InFlight,
        receipts: dict[int, tuple[Inclusion, ...]],
        at: BlockStamp,
        *,
        spent: Spent | None = None,
        denied: bool = False,
        elsewhere: bool = False,
    ) -> bool:
        """Judge what was seen by the blocks that are canonical in this very transaction, and take the arrow."""
        recorded = [attempt.inclusion.block for attempt in flight.attempts if attempt.inclusion is not None]
        found = [inclusion.block for inclusions in receipts.values() for inclusion in inclusions]
        vouched = await self._vouched([*recorded, *found], at)
        included = flight.action.state is ActionState.INCLUDED
        reach(CrashPoint.FINALITY_SEEN_NOT_SAVED if included or not receipts else CrashPoint.INCLUSION_SEEN_NOT_SAVED)
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
                canonical[recorded[0]] and not denied if recorded else None,
                at.number,
                spent,
            )
            transition = next_transition(flight, seen)
            if transition is None:
                return False
            if transition.to is ActionState.FINAL:
                transition = await self._settled(transaction, flight, transition)
            if transition.to is ActionState.VOID and elsewhere:
                transition = replace(transition, to=ActionState.HELD, reason=EXECUTED_ELSEWHERE)
            elif transition.to is ActionState.VOID:
                by = await transaction.interventions.cancelled(flight.action.action_id)
                transition = replace(transition, reason=by or transition.reason)
            moved = await transaction.payouts.apply(flight, transition)
            if moved and transition.to is ActionState.VOID:
                await _void_batches(transaction, flight.action)
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

    async def _obey(self, action: Action, order: Intervention, at: BlockStamp) -> bool:
        """Release or give up what is held; an order that came too late is refused."""
        late = objection(order.kind, action.state)
        if late is None:
            return await self._resolve(action, at, order)
        async with self._database.begin(self._lease) as transaction:
            await transaction.interventions.refuse(order, late)
        return False

    async def _resolve(self, action: Action, at: BlockStamp, order: Intervention | None = None) -> bool:
        """Every nonce of the action is spent for good at `at` or below: what `at` says is the last word on them."""
        verdict = await ask_chain(self._payer, action, at)
        async with self._database.begin(self._lease) as transaction:
            moved = await self._conclude(transaction, action, verdict, at, order)
            if order is None:
                return moved is None
            if moved is None:
                await transaction.interventions.done(order)
            else:
                await transaction.interventions.refuse(order, moved)
            return moved is None

    async def _conclude(
        self, transaction: Transaction, action: Action, verdict: Verdict, at: BlockStamp, order: Intervention | None
    ) -> str | None:
        """Take the arrow that `verdict` allows; None, or why there is none.

        executed, with its event      → final
        executed, without             waits: an endpoint's word alone pays nobody
        not executed, given up        → void
        can never be (other content)  held waits for a person; quarantined → planned, whose pre-flight holds it
        not executed                  → planned
        """
        payouts = transaction.payouts
        if verdict is Verdict.DONE:
            if await settle_word(transaction, self._payer, action, at):
                return await _take(transaction, action, ActionState.FINAL)
            await payouts.wait(action, WORD_WITHOUT_EVENT)
            return WORD_WITHOUT_EVENT
        given_up = await _given_up(transaction, action, order)
        if given_up is not None:
            late = await _take(transaction, action, ActionState.VOID, given_up)
            if late is None:
                await _void_batches(transaction, action)
            return late
        if verdict.never and action.state is ActionState.HELD:
            await payouts.wait(action, verdict)
            return verdict
        reason = None if order is None else order.told("released")
        return await _take(transaction, action, ActionState.PLANNED, reason)

    async def _trace(self, action: Action, at: BlockStamp) -> None:
        """Find the transaction behind a final action that no attempt of ours explains. Where our own account sent it,
        this database has forgotten it (it was restored from a backup): its nonce and its gas are put on the books."""
        async with self._database.snapshot() as transaction:
            subjects = {action.distribution_id: action.decided_at}
            logs = await transaction.events.logs_about(action.chain, Address(action.target), subjects, at.number)
        for log in logs:
            if not self._payer.settlement(action, [log]).executed:
                continue
            landed = await self._payer.landed(log.tx_hash)
            if landed is None or landed.inclusion.block != log.block:
                return  # the endpoint is behind: asked again
            async with self._database.begin(self._lease) as transaction:
                if not await transaction.payouts.adopt(action, landed, log.timestamp):
                    return
        self._traced.add(action.action_id)


async def _take(transaction: Transaction, action: Action, to: ActionState, reason: str | None = None) -> str | None:
    moved = await transaction.payouts.move(action, to, reason)
    return None if moved else f"it was not {action.state} any more"


async def _given_up(transaction: Transaction, action: Action, order: Intervention | None) -> str | None:
    """By whom and why: by this order, with its proposal, or by a cancel that the payment (which then failed) outran."""
    if order is not None and order.kind is InterventionKind.CANCEL:
        return order.told("given up")
    if action.kind is ActionKind.EXECUTE and await transaction.payouts.given_up(action.distribution_id, 0):
        return WITHOUT_PROPOSAL
    if _proposes_tree(action) and await transaction.payouts.given_up(action.distribution_id, 1):
        return WITHOUT_ACTIVATION
    if order is not None:
        return None
    return await transaction.interventions.cancelled(action.action_id)


def _proposes_tree(action: Action) -> bool:
    return action.kind is ActionKind.PROPOSE and action.leg is Leg.CLAIM


async def _void_batches(transaction: Transaction, action: Action) -> None:
    """Batches of a proposal that will never be are given up with it, or their amounts would stay promised for ever. So
    is the proposal of a tree that will never be activated, while it waits: nobody would publish its proofs. (One that
    is held is given up when it is released.)"""
    if action.kind is ActionKind.PROPOSE:
        await transaction.payouts.void_planned(action.distribution_id, WITHOUT_PROPOSAL)
    elif action.leg is Leg.CLAIM:
        await transaction.payouts.void_planned(action.distribution_id, WITHOUT_ACTIVATION)
