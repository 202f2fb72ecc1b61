"""That the simulation of a Solana vault can find bugs: with a safeguard switched off it must, with it it must not.

Several safeguards stand one behind the other, the last of them on the chain: a marker is created once. Where one of the
others is tried, that one is taken away too (see `unguarded`), so what stops a second payment is it alone.

Each run of CI tries some of them; BRIDGE_SAFEGUARDS=all tries all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from solders.pubkey import Pubkey

from bridge.chains.solana import blocks, payer, payloads, rehearsal, rpc, screening, transactions
from bridge.chains.solana.deeds import Deeds, Done
from bridge.chains.solana.markers import marker_of
from bridge.chains.solana.payer import SolanaPayer
from bridge.chains.solana.rehearsal import Rehearsal
from bridge.domain.payouts import LEFT_OUT_FROM, Action, Attempt, Inclusion, Purpose, Refusal, Signed, Slot
from bridge.domain.units import BlockStamp
from bridge.simulation.svm.admission import MAX_PROCESSING_AGE
from bridge.simulation.svm.chain import Block, Chain
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.transactions import Wire
from tests.chaos import trouble
from tests.chaos.cluster import OPERATOR, deed_of
from tests.chaos.endpoints import Wire as Endpoints
from tests.chaos.run import Outcome, Track
from tests.chaos.solana import SolanaWorld
from tests.chaos.trouble import Fault

SEEDS_MAX = 12
ALWAYS = 2
MARKER_STEPS = 4
"""The first instructions of a transaction of ours: its budget, and its marker."""
USUAL_UNITS = 100_000
YOUNG_BLOCKS = 10

Switch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Safeguard:
    """`off` takes it away; then a problem of some seed from `first` on has `word` in it."""

    name: str
    kinds: frozenset[Fault]
    word: str
    off: Switch
    first: int = 0
    rates: tuple[tuple[Fault, float], ...] = ()
    world: Switch = lambda patch: None  # how the world is, with the safeguard and without


# ── The world ───────────────────────────────────────────────────────────────────────────────────────────────────────
def unguarded(patch: pytest.MonkeyPatch) -> None:
    """A chain on which a marker stops nobody: it is gone whenever somebody comes to create it."""
    process = Chain._process

    def forget(self: Chain, wire: Wire, block: Block, parent: Block) -> Record | None:
        deed = deed_of(wire)
        if deed is not None and wire.signature not in self.history:
            marker = Pubkey(marker_of(OPERATOR, *deed))
            block.before.setdefault(marker, self.machine.read(marker))
            self.machine.write(marker, None)
        return process(self, wire, block, parent)

    rehearse = rehearsal.rehearse

    async def passes(*given: object) -> Rehearsal:
        told = await rehearse(*given)  # type: ignore[arg-type]
        failure = told.failure
        is_marker = failure is not None and failure.instruction is not None and failure.instruction < MARKER_STEPS
        return replace(told, failure=None, units=USUAL_UNITS) if is_marker else told

    patch.setattr(Chain, "_process", forget)
    patch.setattr(screening, "rehearse", passes)
    patch.setattr(screening, "_taken", lambda marker: None)


def another_packing(patch: pytest.MonkeyPatch) -> None:
    """Whoever restores the database configures other batches, too."""
    set_back = SolanaWorld._set_back

    async def reconfigure(self: SolanaWorld) -> None:
        await set_back(self)
        self._shared.batch_recipients = 1 if self._shared.batch_recipients > 1 else 3

    patch.setattr(SolanaWorld, "_set_back", reconfigure)


def forgetful(patch: pytest.MonkeyPatch) -> None:
    """No endpoint finds a transaction of ours, as long as there is trouble; and the chain does not guard."""
    unguarded(patch)
    inclusions = SolanaPayer.inclusions

    async def lost(self: SolanaPayer, tx_id: bytes) -> tuple[Inclusion, ...]:
        return () if _troubled(self) else await inclusions(self, tx_id)

    patch.setattr(SolanaPayer, "inclusions", lost)


def without_markers(patch: pytest.MonkeyPatch) -> None:
    """Nor does anybody look for markers of batches."""
    forgetful(patch)
    no_marker_check(patch)


def _troubled(payer: SolanaPayer) -> bool:
    assert isinstance(payer._rpc, Endpoints)
    return payer._rpc._process.trouble.active


# ── Switches ────────────────────────────────────────────────────────────────────────────────────────────────────────
def no_expiry(patch: pytest.MonkeyPatch) -> None:
    """Bytes are taken for dead while they have most of their life before them (at once, they would be the same)."""
    height = SolanaPayer._height

    async def high(self: SolanaPayer, at: BlockStamp) -> int:
        return await height(self, at) + MAX_PROCESSING_AGE - YOUNG_BLOCKS

    patch.setattr(SolanaPayer, "_height", high)


def no_status(patch: pytest.MonkeyPatch) -> None:
    async def unknown(self: SolanaPayer, tx_ids: Sequence[bytes]) -> bool:
        return True

    patch.setattr(SolanaPayer, "_unknown", unknown)


def no_marker_check(patch: pytest.MonkeyPatch) -> None:
    find = Deeds.find

    async def proposals_only(self: Deeds, distribution_id: bytes, index: int | None, at: BlockStamp) -> Done | None:
        assert isinstance(self._rpc, Endpoints)
        hidden = index is not None and self._rpc._process.trouble.active
        return None if hidden else await find(self, distribution_id, index, at)

    patch.setattr(Deeds, "find", proposals_only)


def no_binding(patch: pytest.MonkeyPatch) -> None:
    """Whatever is bound is taken for what we would bind."""
    proposed = SolanaPayer.proposed

    async def ours(self: SolanaPayer, action: Action, at: BlockStamp) -> bytes | None:
        return None if await proposed(self, action, at) is None else action.content_hash

    patch.setattr(SolanaPayer, "proposed", ours)


def no_saving(patch: pytest.MonkeyPatch) -> None:
    sign = SolanaPayer.sign

    async def sign_and_send(
        self: SolanaPayer, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | Refusal:
        signed = await sign(self, action, slot, previous, purpose)
        if isinstance(signed, Signed):
            await self.broadcast(signed.raw)
        return signed

    patch.setattr(SolanaPayer, "sign", sign_and_send)


def no_finality(patch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for as final is what is confirmed."""
    for options in (rpc.FINALIZED, blocks.OPTIONS, transactions.OPTIONS, payer._HEADER):
        patch.setitem(options, "commitment", "confirmed")


def no_index_of_its_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(payloads, "left_out_index", lambda index, position: index)


def no_lasting_index(patch: pytest.MonkeyPatch) -> None:
    """It is numbered by what only the database knows."""
    numbers = itertools.count(LEFT_OUT_FROM)
    patch.setattr(payloads, "left_out_index", lambda index, position: next(numbers))


SAFEGUARDS = (
    Safeguard(
        "bytes expire before others are signed",
        frozenset({Fault.LATE}),
        "was paid 2 times",
        no_expiry,
        rates=((Fault.LATE, 0.5),),
        world=unguarded,
    ),
    Safeguard(
        "every endpoint denies the status",
        frozenset(),
        "was paid 2 times",
        no_status,
        world=without_markers,
    ),
    Safeguard(
        "the marker is absent",
        frozenset({Fault.STATUS_FORGOTTEN}),
        "was paid 2 times",
        no_marker_check,
        rates=((Fault.STATUS_FORGOTTEN, 4.0),),
        world=forgetful,
    ),
    Safeguard(
        "the marker in the transaction",
        frozenset({Fault.STRANGER_BATCH}),
        "was paid 2 times",
        unguarded,
        rates=((Fault.STRANGER_BATCH, 0.6),),
    ),
    Safeguard(
        "the proposal binds the content",
        frozenset({Fault.RESTORE}),
        "money left without our intent",
        no_binding,
        first=1,
        rates=((Fault.RESTORE, 0.3),),
        world=another_packing,
    ),
    Safeguard(
        "saved before it is sent",
        frozenset({Fault.CRASH_POINT, Fault.DROPPED}),
        "was sent and never saved",
        no_saving,
        rates=((Fault.CRASH_POINT, 0.12), (Fault.DROPPED, 0.6)),
    ),
    Safeguard("settled by what is final", frozenset({Fault.REORG}), "", no_finality, rates=((Fault.REORG, 0.5),)),
    Safeguard(
        "an index of its own for who is left out",
        frozenset({Fault.ACCOUNT_FROZEN}),
        "",
        no_index_of_its_own,
        rates=((Fault.ACCOUNT_FROZEN, 0.6),),
    ),
    Safeguard(
        "the same index for who is left out, whoever lost the database",
        frozenset({Fault.ACCOUNT_FROZEN, Fault.RESTORE}),
        "got ",
        no_lasting_index,
        rates=((Fault.ACCOUNT_FROZEN, 0.6), (Fault.RESTORE, 0.3)),
    ),
)


def tried() -> Sequence[Safeguard]:
    return SAFEGUARDS if os.environ.get("BRIDGE_SAFEGUARDS") == "all" else SAFEGUARDS[:ALWAYS]


def said(outcome: Outcome, word: str) -> bool:
    return any(word in problem for problem in outcome.problems)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("safeguard", tried(), ids=lambda safeguard: safeguard.name)
def test_safeguard__switched_off__caught_and_with_it_not(
    solana: Track, safeguard: Safeguard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trouble, "RATES", {**trouble.RATES, **dict(safeguard.rates)})
    safeguard.world(monkeypatch)
    caught = None
    with monkeypatch.context() as patch:
        safeguard.off(patch)
        for seed in range(safeguard.first, safeguard.first + SEEDS_MAX):
            outcome = solana.run(seed, kinds=safeguard.kinds, instances=1)
            if said(outcome, safeguard.word):
                caught = seed
                print(f"caught by seed {seed}:", *outcome.problems, sep="\n  ")
                break
    assert caught is not None, f"no seed from {safeguard.first} on"
    outcome = solana.run(caught, kinds=safeguard.kinds, instances=1)
    assert not said(outcome, safeguard.word), outcome.problems
