"""That the simulation can find bugs: with one safeguard switched off it must, and with all of them it must not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from bridge.domain.payouts import Action, Attempt, InFlight, Purpose, Signed, Slot
from bridge.domain.units import BlockStamp
from bridge.ports.running import Lease
from bridge.stages.confirm import Confirm
from bridge.stages.decide import Decide
from bridge.store import payouts
from bridge.store.database import Database, Transaction
from tests.chaos import trouble
from tests.chaos.daemon import here
from tests.chaos.network import Network
from tests.chaos.nodes import Payer
from tests.chaos.process import Process
from tests.chaos.run import Track
from tests.chaos.trouble import Fault

SEEDS_MAX = 30

pytestmark = pytest.mark.slow


def first_caught(track: Track, word: str, kinds: set[Fault], *, first: int = 0, instances: int = 1) -> int | None:
    """The first seed, from `first` on, in which a problem names `word`."""
    for seed in range(first, first + SEEDS_MAX):
        outcome = track.run(seed, kinds=frozenset(kinds), instances=instances)
        if any(word in problem for problem in outcome.problems):
            return seed
    return None


def test_fence__switched_off__two_daemons_decide(track: Track, monkeypatch: pytest.MonkeyPatch):
    """A daemon stands still just before it commits what it counted; another takes over, and then it goes on."""
    kinds = {Fault.FREEZE_POINT}
    monkeypatch.setattr(trouble, "RATES", {**trouble.RATES, Fault.FREEZE_POINT: 0.5})
    monkeypatch.setattr(Process, "reach", lambda self, point: None)  # there and nowhere else
    begin: Callable[..., AbstractAsyncContextManager[Transaction]] = Database.begin
    commit: Callable[..., Awaitable[None]] = Decide._commit

    async def freeze_and_commit(self: Decide, *found: object) -> None:
        here().perhaps_freeze(Fault.FREEZE_POINT)
        await commit(self, *found)

    def begin_unfenced(self: Database, lease: Lease | None = None) -> AbstractAsyncContextManager[Transaction]:
        return begin(self)

    monkeypatch.setattr(Decide, "_commit", freeze_and_commit)
    with monkeypatch.context() as patch:
        patch.setattr(Database, "begin", begin_unfenced)
        seed = first_caught(track, "", kinds, first=9, instances=2)
    assert seed is not None
    assert track.run(seed, kinds=frozenset(kinds), instances=2).problems == []


def test_save_before_send__switched_off__sent_and_forgotten(track: Track, monkeypatch: pytest.MonkeyPatch):
    """It dies between sending and saving; when it signs again, the fees are others, and so are the bytes."""
    kinds = {Fault.CRASH_POINT, Fault.FEE_SPIKE}
    monkeypatch.setattr(trouble, "RATES", {**trouble.RATES, Fault.CRASH_POINT: 0.3, Fault.FEE_SPIKE: 0.5})
    sign = Payer.sign

    async def sign_and_send(
        self: Payer, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | None:
        signed = await sign(self, action, slot, previous, purpose)
        if signed is not None:
            await self.broadcast(signed.raw)
        return signed

    with monkeypatch.context() as patch:
        patch.setattr(Payer, "sign", sign_and_send)
        seed = first_caught(track, "was sent and never saved", kinds)
    assert seed is not None
    assert track.run(seed, kinds=frozenset(kinds), instances=1).problems == []


def test_guard_on_chain__switched_off__paid_twice(track: Track, monkeypatch: pytest.MonkeyPatch):
    """Every node denies every receipt, so only the contract still knows what was paid."""
    kinds = {Fault.NULL_RECEIPT}

    async def deny(self: Payer, tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        return self._process.trouble.strikes(Fault.NULL_RECEIPT)

    async def never(self: Payer, action: Action, at: BlockStamp) -> bool:
        return False

    monkeypatch.setattr(Payer, "disowned", deny)
    monkeypatch.setattr(trouble, "RATES", {**trouble.RATES, Fault.NULL_RECEIPT: 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(Network, "_executable", staticmethod(lambda transaction, before: True))
        patch.setattr(Payer, "executed", never)
        seed = first_caught(track, "was paid 2 times", kinds, first=11)
    assert seed is not None
    assert not any("was paid" in problem for problem in track.run(seed, kinds=frozenset(kinds), instances=1).problems)


def test_look_up_of_old_hashes__switched_off__our_own_attempt_is_a_stranger(
    track: Track, monkeypatch: pytest.MonkeyPatch
):
    """Fees rise, what waits is replaced, fees fall, and a producer that never got the replacement mines the old one."""
    kinds = {Fault.FEE_SPIKE, Fault.OLD_ATTEMPT}
    monkeypatch.setattr(trouble, "RATES", {**trouble.RATES, Fault.OLD_ATTEMPT: 1.0})

    async def look_up_the_newest(self: Confirm, flight: InFlight, finalized: BlockStamp) -> bool:
        newest = flight.latest
        found = await self._payer.inclusions(newest.signed.tx_id)
        spent = None if found else await self._spent_by_unknown(replace(flight, attempts=(newest,)), finalized)
        receipts = {newest.attempt_id: found} if found else {}
        return bool(found or spent) and await self._commit(flight, receipts, finalized, spent=spent)

    with monkeypatch.context() as patch:
        patch.setattr(Confirm, "_look_up", look_up_the_newest)
        seed = first_caught(track, "was called a stranger's", kinds)
    assert seed is not None
    assert track.run(seed, kinds=frozenset(kinds), instances=1).problems == []


def test_search_for_forgotten_transactions__switched_off__not_in_the_books(
    track: Track, monkeypatch: pytest.MonkeyPatch
):
    """A restored database learns from the chain that a batch was executed, and not by which transaction of its own."""
    kinds = {Fault.RESTORE}

    async def never(self: Confirm, action: Action, at: BlockStamp) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(Confirm, "_trace", never)
        seed = first_caught(track, "was executed and is no final attempt", kinds)
    assert seed is not None
    assert track.run(seed, kinds=frozenset(kinds), instances=1).problems == []


def test_order_of_trees__switched_off__the_next_one_forgets_what_the_one_before_gave(
    track: Track, monkeypatch: pytest.MonkeyPatch
):
    """Each tree of a token builds on the one before. Planned too early, it can never be activated."""
    waits, never = "v.state NOT IN ('final', 'void')", "FALSE"
    assert waits in payouts.NEXT_ORDER
    with monkeypatch.context() as patch:
        patch.setattr(payouts, "NEXT_ORDER", payouts.NEXT_ORDER.replace(waits, never))
        seed = first_caught(track, "not settled", set())
    assert seed is not None
    assert track.run(seed, kinds=frozenset(), instances=1).problems == []
