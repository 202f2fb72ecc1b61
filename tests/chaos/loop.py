"""An event loop in which one task at a time does anything, in an order that a seed chooses, by a clock of its own.

    a task asks for a turn ─► nobody can go on ─► the seed picks one of those that wait, or the next moment of the clock

Whoever was picked runs alone until it asks again, so the order of everything follows from the seed alone, whatever the
database takes: while it is spoken to, nobody is picked and the clock stands still.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TURNS_MAX = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """Someone who waits to go on."""

    label: str
    may: Callable[[], bool]
    future: asyncio.Future[None]


class Restless(Exception):
    """More turns than any run needs: somebody works without end."""


class SeededLoop(asyncio.SelectorEventLoop):
    """Times are seconds since the start of the run."""

    _scheduled: list[asyncio.TimerHandle]
    _timer_cancelled_count: int

    def __init__(self) -> None:
        self.begin(random.Random(0), slowness=0)
        super().__init__()

    def begin(self, chance: random.Random, *, slowness: float) -> None:
        """Another run, at second 0. `slowness`: how often time passes although somebody could go on."""
        self.talking = False  # somebody waits for the database
        self.slowness = slowness
        self.trace: list[str] = []
        self._turns = 0
        self._now_s = 0.0
        self._chance = chance
        self._waiting: list[Turn] = []
        for timer in getattr(self, "_scheduled", ()):
            timer.cancel()

    def time(self) -> float:
        return self._now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """At once, and alone: what a thread does would come at a moment that no seed decides."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # whoever waits is told
            future.set_exception(error)
        return future

    async def turn(self, label: str, may: Callable[[], bool] = lambda: True) -> None:
        """Wait until it is our turn; `may` says whether we can have one yet."""
        turn = Turn(label, may, self.create_future())
        self._waiting.append(turn)
        try:
            await turn.future
        finally:
            if turn in self._waiting:  # cancelled
                self._waiting.remove(turn)

    def note(self, event: str) -> None:
        """One more line of what happened."""
        self.trace.append(f"{self._now_s:.3f} {event}")

    def _run_once(self) -> None:
        if not self._ready and not self.talking and not self._stopping:  # type: ignore[attr-defined]
            self._pick()
        super()._run_once()  # type: ignore[misc]

    def _pick(self) -> None:
        timers = self._scheduled
        while timers and timers[0].cancelled():
            self._timer_cancelled_count -= 1
            heapq.heappop(timers)._scheduled = False  # type: ignore[attr-defined]
        able = [turn for turn in self._waiting if not turn.future.done() and turn.may()]
        if able and not (timers and self._chance.random() < self.slowness):
            turn = self._chance.choice(able)
            self._waiting.remove(turn)
            turn.future.set_result(None)
            self._turns += 1
            self.note(turn.label)
            if self._turns > TURNS_MAX:
                raise Restless(f"{TURNS_MAX} turns in {self._now_s:.0f} s")
        elif timers:
            self._now_s = max(self._now_s, timers[0].when())
        else:
            raise Restless("everybody waits for somebody else")
