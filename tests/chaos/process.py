"""One process of the daemon, as far as the world can do something to it: it waits for its turn, freezes, and dies.

Everything of the outside that a stage can await goes through `turn`, so dying here is dying at an await: nothing that a
stage does afterwards reaches anybody, for every port of a dead process answers with Died.
"""

from __future__ import annotations

from bridge.runtime.crashpoints import CrashPoint
from tests.chaos.loop import SeededLoop
from tests.chaos.trouble import Fault, Trouble

FREEZE_MAX_S = 9


class Died(BaseException):
    """Not an Exception: nothing on the way may catch it."""


class Process:
    def __init__(self, name: str, loop: SeededLoop, trouble: Trouble) -> None:
        self.name = name
        self.loop = loop
        self.trouble = trouble
        self.dead = False
        self._frozen_until_s = 0.0

    async def turn(self, label: str) -> None:
        """Somewhere before or after something that takes time. Raises Died when the process dies here, or has died."""
        self.check()
        if not self.loop.talking:
            self.perhaps_freeze(Fault.FREEZE)
            await self.loop.turn(f"{self.name} {label}", self._awake)
        self.perhaps_die(label)

    def reach(self, point: CrashPoint) -> None:
        self.check()
        if self.trouble.strikes(Fault.CRASH_POINT):
            self._die(point.name)
        self.perhaps_freeze(Fault.FREEZE_POINT)

    def perhaps_die(self, where: str) -> None:
        self.check()
        if self.trouble.strikes(Fault.CRASH):
            self._die(where)

    def perhaps_freeze(self, fault: Fault) -> None:
        """As when a machine stands still: the leases run out, and later we go on as if nothing had happened."""
        if self.trouble.strikes(fault):
            self._frozen_until_s = self.loop.time() + self.trouble.chance.uniform(1, FREEZE_MAX_S)
            self.loop.call_at(self._frozen_until_s, lambda: None)  # so that there is such a moment

    def check(self) -> None:
        if self.dead:
            raise Died(self.name)

    def _die(self, where: str) -> None:
        self.dead = True
        self.loop.note(f"{self.name} dies at {where}")
        raise Died(f"{self.name} at {where}")

    def _awake(self) -> bool:
        return self.dead or self.loop.time() >= self._frozen_until_s
