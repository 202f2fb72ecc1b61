"""The watcher's decisions: any order of observations keeps to the arrows and to one live slot an action."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.domain.confirmations import Observation, Spent, next_transition
from bridge.domain.payouts import (
    Action,
    ActionKind,
    Attempt,
    Inclusion,
    InFlight,
    Purpose,
    Signed,
    Slot,
)
from bridge.domain.states import ActionState, SlotState, check_arrow
from bridge.domain.units import Address, BlockStamp

S = ActionState
OVER = (S.FINAL, S.HELD, S.VOID)


class PayoutMachine(RuleBasedStateMachine):
    """One action, its slots, and a chain that mines, reorganises and finalizes in any order.

    The machine plays the database: it applies what next_transition says exactly as the store does.
    """

    @initialize()
    def start(self) -> None:
        self.action = Action(1, b"id", "c", 1, ActionKind.EXECUTE, S.PLANNED, None, Address(b""), b"", b"", 0)
        self.slots: list[Slot] = []
        self.attempts: list[Attempt] = []  # of the live slot
        self.height = 10
        self.finalized = 8
        self.mined: dict[int, Inclusion] = {}  # canonical receipts by attempt id, of the live slot
        self.stranger_at: int | None = None  # block in which an unknown hash spent the live slot's nonce
        self.executions = 0  # finalized successes
        self.next_attempt = 1

    # ── what pay does ──
    def _move(self, to: ActionState) -> None:
        check_arrow("action", self.action.state, to)
        self.action = replace(self.action, state=to)

    @precondition(lambda self: self.action.state is S.PLANNED)
    @rule()
    def reserve(self) -> None:
        self._move(S.RESERVED)
        self.slots.append(Slot(len(self.slots) + 1, Address(b""), len(self.slots), 1, SlotState.LIVE))
        self.attempts = []

    @precondition(lambda self: self.action.state in (S.RESERVED, S.SIGNED, S.BROADCAST))
    @rule(cancel=st.booleans())
    def sign(self, cancel: bool) -> None:
        if self.action.state is S.RESERVED:
            self._move(S.SIGNED)
        purpose = Purpose.CANCEL if cancel else Purpose.PAY
        signed = Signed(b"%d" % self.next_attempt, b"", 1, 1, 1, purpose)
        self.attempts.append(Attempt(self.next_attempt, len(self.attempts), signed, 0, sent=False, inclusion=None))
        self.next_attempt += 1

    @precondition(lambda self: self.action.state is S.SIGNED)
    @rule()
    def record_broadcast(self) -> None:
        self._move(S.BROADCAST)

    # ── what the chain does ──
    @precondition(lambda self: self.attempts and not self.mined and self.stranger_at is None)
    @rule(which=st.integers(0, 10), succeeded=st.booleans())
    def mine(self, which: int, succeeded: bool) -> None:
        if not self.slots or self.slots[-1].state is not SlotState.LIVE:
            return
        self.height += 1
        attempt = self.attempts[which % len(self.attempts)]
        stamp = BlockStamp("c", self.height, b"%d/%d" % (self.height, self.next_attempt))
        self.mined = {attempt.attempt_id: Inclusion(stamp, succeeded, 1, 1)}

    @precondition(lambda self: self.attempts and not self.mined and self.stranger_at is None)
    @rule()
    def stranger_spends_the_nonce(self) -> None:
        if self.slots and self.slots[-1].state is SlotState.LIVE:
            self.height += 1
            self.stranger_at = self.height

    @rule()
    def empty_block(self) -> None:
        self.height += 1

    @rule(depth=st.integers(1, 5))
    def reorg(self, depth: int) -> None:
        ancestor = max(self.height - depth, self.finalized)
        self.mined = {which: seen for which, seen in self.mined.items() if seen.block.number <= ancestor}
        if self.stranger_at is not None and self.stranger_at > ancestor:
            self.stranger_at = None
        self.height = ancestor

    @rule(blocks=st.integers(1, 5))
    def finalize(self, blocks: int) -> None:
        self.finalized = min(self.finalized + blocks, self.height)

    # ── what confirm does ──
    @precondition(lambda self: self.slots and self.slots[-1].state is SlotState.LIVE)
    @rule(blind=st.booleans())
    def observe(self, blind: bool) -> None:
        """`blind`: the endpoints fail or answer null, which is no evidence."""
        flight = InFlight(self.action, self.slots[-1], tuple(self.attempts))
        recorded = [attempt.inclusion for attempt in self.attempts if attempt.inclusion is not None]
        spent = self.stranger_at is not None and self.stranger_at <= self.finalized
        seen = Observation(
            {} if blind else dict(self.mined),
            recorded[0] in self.mined.values() if recorded else None,
            self.finalized,
            Spent.NONCE if spent and not blind else None,
        )
        transition = next_transition(flight, seen)
        if transition is None:
            return
        assert not (blind and self.action.state in (S.SIGNED, S.BROADCAST)), "moved without evidence"
        self._move(transition.to)
        check_slot = self.slots[-1].state
        if transition.slot is not check_slot:
            check_arrow("slot", check_slot, transition.slot)
        self.slots[-1] = replace(self.slots[-1], state=transition.slot)
        self.attempts = [
            replace(
                attempt,
                inclusion=transition.inclusion
                if transition.attempt is not None and attempt.attempt_id == transition.attempt.attempt_id
                else None,
            )
            for attempt in self.attempts
        ]
        if transition.slot is not SlotState.LIVE:
            self._leave_slot(transition.to)

    def _leave_slot(self, to: ActionState) -> None:
        if to is S.FINAL:
            self.executions += 1
        self.mined, self.stranger_at, self.attempts = {}, None, []

    @precondition(lambda self: self.action.state in (S.QUARANTINED, S.HELD))
    @rule()
    def guard_says_not_executed(self) -> None:
        self._move(S.PLANNED)

    # ── what always holds ──
    @invariant()
    def one_live_slot_at_most(self) -> None:
        live = [slot for slot in getattr(self, "slots", []) if slot.state is SlotState.LIVE]
        assert len(live) <= 1
        if live:
            assert self.action.state in (S.RESERVED, S.SIGNED, S.BROADCAST, S.INCLUDED)
        elif hasattr(self, "slots"):
            assert self.action.state not in (S.RESERVED, S.SIGNED, S.BROADCAST, S.INCLUDED)

    @invariant()
    def executed_once_at_most(self) -> None:
        assert getattr(self, "executions", 0) <= 1

    @invariant()
    def included_has_its_inclusion(self) -> None:
        if hasattr(self, "action") and self.action.state is S.INCLUDED:
            assert sum(attempt.inclusion is not None for attempt in self.attempts) == 1


TestPayoutMachine = PayoutMachine.TestCase
