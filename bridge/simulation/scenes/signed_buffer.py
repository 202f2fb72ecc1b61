"""Solvers who have too much of one settlement and too little of the next: who has too much in all is paid back.

solvers ──square (+)──► settlement ──payFee──► vault
solvers ──square (−)──► settlement
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import ClassVar

from bridge.simulation.scenes import settlement
from bridge.simulation.scenes.scene import Scene, SceneRule
from bridge.simulation.traffic import Act, Allowance, Cast, Deed, Kind, signed
from bridge.simulation.wallets import Wallet


class Solvers(Cast):
    """All participants are solvers."""

    shares: ClassVar[Mapping[Kind, int]] = {Kind.GAIN: 40, Kind.SHORTFALL: 20, Kind.FEE: 10, Kind.NOISE: 30}

    def allowances(self) -> list[Allowance]:
        given = [settlement.allowance(self.stage, solver) for solver in self.stage.participants]
        return [*super().allowances(), *given]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.GAIN:
                return self._square(random, participant, kind, 1)
            case Kind.SHORTFALL:
                return self._square(random, participant, kind, -1)
            case Kind.FEE:
                return self.fee(random)
            case _:
                return self.noise(random)

    def _square(self, random: Random, solver: Wallet, kind: Kind, sign: int) -> Deed:
        token = self.stage.tokens[0]
        amount = random.randint(1, 500 * token.unit)
        act = Act(kind, solver.address, token.symbol, amount)
        return signed(act, solver, self.stage.contracts["settlement"], "square", sign * amount)


SIGNED_BUFFER = Scene(
    name="signed_buffer",
    contracts=settlement.contracts,
    cast=Solvers,
    rules=(SceneRule("signed_buffer", "signed_buffer"),),
)
