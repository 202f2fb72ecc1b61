"""decisions ─► distribution, payouts, actions ─► slot (nonce) ─► attempt ─► the nodes.

    decision to pay ─plan─► planned ─pre-flight─► reserved ─sign─► signed ─send─► broadcast ─► (stages/confirm.py)
                              │  ▲                                   └──── bump: one more attempt, same nonce ────┘
                              │  └ waits with a reason, asked again at each head
                              ├► held   only a person can mend it
                              └► final  the finalized chain says it was executed already

    a person's order to bump or cancel ─► one more attempt on the same nonce, saved in the transaction that answers

Each arrow is committed before the next effect: a nonce belongs to its slot before anything is signed, an attempt is
saved before a byte of it leaves, a bump likewise. No answer of a node to the bytes moves a state backwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bridge.domain.errors import ChainDisagrees, ChainUnavailable, HoldError
from bridge.domain.events import Block
from bridge.domain.interventions import Intervention, InterventionKind, objection
from bridge.domain.payouts import (
    DAY_S,
    NO_CEILINGS,
    Action,
    ActionKind,
    Attempt,
    Ceilings,
    GasFloor,
    InFlight,
    Leg,
    Purpose,
    Refusal,
    check_ceilings,
    check_forgotten,
    check_nonces,
    check_recipients,
    cumulate,
    leg_of,
)
from bridge.domain.states import ActionState
from bridge.domain.units import Address, AssetId, BlockStamp, format_address
from bridge.ports.database import Database, Transaction
from bridge.ports.paying import Broadcast, BroadcastOutcome, Payer, Ready
from bridge.ports.reading import ChainReader
from bridge.ports.running import Lease
from bridge.runtime.crashpoints import CrashPoint, reach
from bridge.stages.guard import WORD_WITHOUT_EVENT, Verdict, ask_chain, settle_word

IN_FLIGHT_MAX = 16
"""Nodes keep a bounded queue for an account (geth: 64), and one stuck nonce strands all behind it."""
PLANNED_MAX = 1000
"""Planned actions that one step reads."""
FORGOTTEN_NAMED = 5
"""Nonces that a reason names."""
PREFLIGHTS_MAX = 32
"""Pre-flights of one step, so that sending never waits long for asking."""

FEE_CEILING = "the fee ceiling leaves no room for a bump; raise max_fee_per_gas, or wait for fees to fall"
CANCELLING = "the cancel is sent; the payment it replaces may still land"
_TAKEN = (BroadcastOutcome.ACCEPTED, BroadcastOutcome.KNOWN)


@dataclass(frozen=True, slots=True)
class _View:
    """What the database says at the start of a step."""

    head: Block
    finalized: BlockStamp
    in_flight: list[InFlight]
    on_their_way: list[Action]  # those in flight, and each that gets a slot in this step
    planned: list[Action]
    orders: list[Intervention]  # open ones, to bump or to cancel


class Pay:
    """The sender of one chain."""

    name = "pay"

    def __init__(
        self,
        *,
        database: Database,
        chain: ChainReader,
        payer: Payer,
        lease: Lease,
        ceilings: Ceilings = NO_CEILINGS,
        batch_recipients: int = 200,
        claims_above: Mapping[AssetId, int] = MappingProxyType({}),
        in_flight_max: int = IN_FLIGHT_MAX,
        gas_floor: GasFloor | None = None,
    ) -> None:
        self._database = database
        self._chain = chain
        self._payer = payer
        self._lease = lease
        self._ceilings = ceilings
        self._batch_recipients = batch_recipients
        self._claims_above = claims_above
        self._in_flight_max = in_flight_max
        self._gas_floor = gas_floor
        self._nonces_checked = False
        self._accounted = 0  # every nonce below it has a slot
        # Asked or sent at this head already. Memory only: forgetting it repeats what is harmless.
        self._at_head = b""
        self._gas_noted = b""
        self._asked: set[int] = set()
        self._sent: set[bytes] = set()
        self._unsigned: dict[int, str] = {}  # why an action could not be signed

    async def step(self) -> bool:
        if await self._plan():
            return True
        view = await self._look()
        if view is None:
            return False
        if view.head.hash != self._at_head:
            self._at_head = view.head.hash
            self._asked.clear()
            self._sent.clear()
            self._unsigned.clear()
        if not self._nonces_checked:
            await self._check_nonces(view.finalized)
        obeyed = await self._obey(view)
        if obeyed:
            return True
        sent = await self._send(view)
        started = await self._start(view)
        await self._note_gas(view.head)
        return sent or started

    # ── plan ──
    async def _plan(self) -> bool:
        """One decision becomes a distribution with all its steps, in one commit. Nobody else plans for this chain, so
        what was read before is still so then."""
        entitled: Mapping[Address, int] = {}
        async with self._database.snapshot() as transaction:
            order = await transaction.payouts.next_order(self._chain.name, self._claims_above)
            if order is None:
                return False
            leg = leg_of(order, self._claims_above)
            if leg is Leg.CLAIM:
                assert self._payer.claims is not None, "sets are claimed only where there is a contract for it"
                entitled = await transaction.claims.entitled(order.chain, self._payer.claims, order.asset)
        if leg is Leg.CLAIM:
            # A large tree takes seconds, in which the lease must be renewed.
            leaves = cumulate(entitled, order.payouts)
            distribution, calls = await asyncio.to_thread(self._payer.plan_claims, order, leaves)
        else:
            distribution, calls = self._payer.plan(order, await self._payer.pack(order, self._batch_recipients))
        async with self._database.begin(self._lease) as transaction:
            await transaction.payouts.plan(distribution, calls)
        reach(CrashPoint.DISTRIBUTION_PLANNED)
        return True

    async def _look(self) -> _View | None:
        """None before the first finalized block: until then no nonce can be known."""
        name = self._chain.name
        async with self._database.snapshot() as transaction:
            head, finalized = await transaction.events.head(name), await transaction.events.finalized(name)
            if head is None or finalized is None:
                return None
            in_flight = await transaction.payouts.in_flight(name)
            return _View(
                head,
                BlockStamp(name, finalized.number, finalized.hash),
                in_flight,
                [flight.action for flight in in_flight],
                await transaction.payouts.planned(name, PLANNED_MAX),
                [
                    order
                    for order in await transaction.interventions.open(name)
                    if order.kind in (InterventionKind.BUMP, InterventionKind.CANCEL)
                ],
            )

    async def _check_nonces(self, finalized: BlockStamp) -> None:
        """Once, before anything is sent. Raises HoldError where the chain denies what the database holds as final."""
        sequence = await self._chain.sequence(self._payer.account, finalized)
        async with self._database.begin(self._lease) as transaction:
            sender = await transaction.payouts.open_sender(self._chain.name, self._payer.account, sequence or 0)
        problem = None if sequence is None else check_nonces(sender, sequence)
        if problem is not None:
            raise HoldError(problem)
        self._nonces_checked = True

    async def _note_gas(self, head: Block) -> None:
        """Once a head, and after everything else: a warning must not delay what it warns of."""
        floor = self._gas_floor
        if floor is None or head.hash == self._gas_noted:
            return
        at = BlockStamp(self._chain.name, head.number, head.hash)
        try:
            balance = await self._chain.balance(self._payer.account, floor.asset, at)
        except (ChainUnavailable, ChainDisagrees):
            return  # the head was just replaced, or nobody answers: the next step asks again
        account = self._payer.account
        async with self._database.begin(self._lease) as transaction:
            beside = 0 if floor.asked_for else await transaction.payouts.beside_gas(self._chain.name, account)
            await transaction.payouts.note_gas(self._chain.name, account, balance, floor.least + beside)
        self._gas_noted = head.hash

    # ── what a person ordered ──
    async def _obey(self, view: _View) -> bool:
        """One more attempt for each order that came in time; returns whether one was saved.

        What is held owns no nonce: stages/confirm.py gives it up.
        """
        flights = {flight.action.action_id: flight for flight in view.in_flight}
        saved = False
        for order in view.orders:
            late = objection(order.kind, order.state)
            if late is not None:
                await self._refuse_order(order, late)
            elif (flight := flights.get(order.action_id)) is not None:
                saved |= await self._replace(flight, view, order)
        return saved

    async def _replace(self, flight: InFlight, view: _View, order: Intervention) -> bool:
        """The attempt that a person ordered; the order stays open for as long as it may not be signed."""
        refusal = await self._payer.may_replace(flight, view.finalized) if flight.attempts else None
        if refusal is None:
            return await self._sign(flight, view.head, order)
        if refusal.temporary:
            await self._wait(flight.action, refusal.reason)
        else:
            await self._refuse_order(order, refusal.reason)
        return False

    async def _refuse_order(self, order: Intervention, reason: str) -> None:
        async with self._database.begin(self._lease) as transaction:
            await transaction.interventions.refuse(order, reason)

    # ── sign and send ──
    async def _send(self, view: _View) -> bool:
        """Bring every live slot one step further, lowest nonce first; returns whether a state changed."""
        moved = False
        due = self._payer.due(view.in_flight, view.head)
        for flight in view.in_flight:
            state = flight.action.state
            if state is ActionState.RESERVED:
                moved |= await self._sign(flight, view.head)
            elif state in (ActionState.SIGNED, ActionState.BROADCAST):
                late = flight.action.action_id in due
                late = late and await self._payer.may_replace(flight, view.finalized) is None
                bumped = late and await self._sign(flight, view.head)
                reason = self._unsigned.get(flight.action.action_id) or _waits_for(flight, late)
                moved |= bumped or await self._broadcast(flight, reason)
        return moved

    async def _sign(self, flight: InFlight, head: Block, order: Intervention | None = None) -> bool:
        """Save one more attempt; the next step sends it. False where it cannot be signed now."""
        if flight.slot.account != self._payer.account:
            # The key was changed with a slot open. Bytes that are signed are still sent; nothing new can be.
            await self._wait(
                flight.action,
                f"its slot belongs to {format_address(flight.slot.account)}: start with its key",
            )
            return False
        previous = flight.latest if flight.attempts else None
        signed = await self._payer.sign(flight.action, flight.slot, previous, _purpose(previous, order))
        if isinstance(signed, Refusal):
            self._unsigned[flight.action.action_id] = signed.reason
            await self._wait(flight.action, signed.reason)
            return False
        if signed is None:
            if order is not None:
                await self._refuse_order(order, FEE_CEILING)
            return False
        reach(CrashPoint.ATTEMPT_SIGNED_NOT_SAVED)
        async with self._database.begin(self._lease) as transaction:
            saved = await transaction.payouts.save_attempt(flight, signed, head.number)
            if saved and order is not None:
                await transaction.interventions.done(order)
        reach(CrashPoint.ATTEMPT_SAVED_NOT_SENT if previous is None else CrashPoint.BUMP_SAVED_NOT_SENT)
        return saved

    async def _broadcast(self, flight: InFlight, reason: str | None) -> bool:
        """Send the latest attempt once a head: what a node took it may also drop."""
        latest, action = flight.latest, flight.action
        if latest.signed.tx_id in self._sent:
            return False
        answer = await self._payer.broadcast(latest.signed.raw)
        self._sent.add(latest.signed.tx_id)
        reach(CrashPoint.SENT_NOT_RECORDED)
        taken = answer.outcome in _TAKEN
        if not taken:
            await self._wait(action, _not_taken(answer))
            return False
        if action.state is ActionState.BROADCAST and latest.sent:
            await self._wait(action, reason)
            return False
        async with self._database.begin(self._lease) as transaction:
            moved = await transaction.payouts.mark_sent(flight)
        reach(CrashPoint.BROADCAST_RECORDED)
        return moved and action.state is ActionState.SIGNED

    # ── start ──
    async def _start(self, view: _View) -> bool:
        """Give slots to planned actions as far as there is room; each is asked once a head."""
        asked = 0
        moved = False
        for action in view.planned:
            if len(view.on_their_way) >= self._in_flight_max or asked >= PREFLIGHTS_MAX:
                break
            if action.action_id in self._asked:
                continue
            asked += 1
            self._asked.add(action.action_id)
            moved |= await self._start_one(action, view)
        return moved or asked >= PREFLIGHTS_MAX

    async def _start_one(self, action: Action, view: _View) -> bool:
        """planned → reserved | held | final, or a reason to wait. Returns whether the state changed."""
        verdict = await ask_chain(self._payer, action, view.finalized)
        if verdict.never:
            return await self._refuse(action, Refusal(verdict, temporary=False))
        if verdict is Verdict.DONE:
            async with self._database.begin(self._lease) as transaction:
                if await settle_word(transaction, self._payer, action, view.finalized):
                    return await transaction.payouts.move(action, ActionState.FINAL)
                await transaction.payouts.wait(action, WORD_WITHOUT_EVENT)
                return False
        at = BlockStamp(self._chain.name, view.head.number, view.head.hash)
        ready = await self._payer.preflight(action, at, view.on_their_way)
        if isinstance(ready, Refusal):
            return await self._refuse(action, ready)
        reach(CrashPoint.PREFLIGHT_PASSED)
        return await self._reserve(action, ready, view)

    async def _reserve(self, action: Action, ready: Ready, view: _View) -> bool:
        account = self._payer.account
        sequence = await self._chain.sequence(account, view.finalized)
        async with self._database.begin(self._lease) as transaction:
            spent = await transaction.payouts.forgotten(action.chain, account, self._accounted, sequence or 0)
            unseen = [nonce for nonce, taken_up in spent if not taken_up]
            refusal = check_forgotten(account, unseen[:FORGOTTEN_NAMED])
            refusal = refusal or await self._over_limits(transaction, action, view.head)
            reserved = False
            if refusal is None:
                foreign = [nonce for nonce, _ in spent]
                reserved = await transaction.payouts.reserve(
                    action, account, ready.gas_limit, sequence or 0, view.head.timestamp, foreign=foreign
                )
        if refusal is not None:
            return await self._refuse(action, refusal)
        if reserved:
            view.on_their_way.append(action)
            self._accounted = sequence or 0
        reach(CrashPoint.SLOT_RESERVED)
        return reserved

    async def _over_limits(self, transaction: Transaction, action: Action, head: Block) -> Refusal | None:
        """A proposal is refused for what any of its batches could never do; a batch for what it would do now.

        While money has left without our intent, nothing new is sent: whoever took it may hold a key, and what is left
        may be owed to others. Nor while the books are not what they were sealed as: what they say is owed may be wrong.
        """
        outflow = await transaction.breaks.unseen_outflow(self._chain.name)
        if outflow is not None:
            return Refusal(f"break {outflow}: money left without our intent; waits until a person takes it up", True)
        fault = await transaction.seals.unseen_fault()
        if fault is not None:
            return Refusal(f"the books are not as they were sealed: {fault}; waits until a person takes it up", True)
        execute = action.kind is ActionKind.EXECUTE
        distribution = await transaction.payouts.distribution(
            action.distribution_id, action.batch_index if execute else None
        )
        order, batches = distribution.order, distribution.batches
        if not execute:
            forbidden = self._payer.forbidden_recipients(order.asset)
            return check_recipients(batches, order.total, forbidden) or check_ceilings(
                self._ceilings, order.asset, batches, None
            )
        spent = await transaction.payouts.spent_since(self._chain.name, order.asset, head.timestamp - DAY_S)
        return check_ceilings(self._ceilings, order.asset, batches, spent)

    async def _refuse(self, action: Action, refusal: Refusal) -> bool:
        if refusal.temporary:
            await self._wait(action, refusal.reason)
            return False
        async with self._database.begin(self._lease) as transaction:
            return await transaction.payouts.move(action, ActionState.HELD, refusal.reason)

    async def _wait(self, action: Action, reason: str | None) -> None:
        if reason == action.reason:
            return
        async with self._database.begin(self._lease) as transaction:
            await transaction.payouts.wait(action, reason)


def _purpose(previous: Attempt | None, order: Intervention | None) -> Purpose:
    """Once a nonce is cancelled, no later attempt of it pays: the payment may still land, and is not pushed."""
    if order is not None and order.kind is InterventionKind.CANCEL:
        return Purpose.CANCEL
    return Purpose.PAY if previous is None else previous.signed.purpose


def _waits_for(flight: InFlight, no_room: bool) -> str | None:
    if no_room:
        return FEE_CEILING
    return CANCELLING if flight.latest.signed.purpose is Purpose.CANCEL else None


def _not_taken(answer: Broadcast) -> str:
    said = f": {answer.reason}" if answer.reason else ""
    if answer.outcome is BroadcastOutcome.UNKNOWN:
        return f"no endpoint said whether it took the transaction{said}; the same bytes are sent again"
    return f"not taken by any endpoint{said}; the same bytes are sent again and every hash is looked up"
