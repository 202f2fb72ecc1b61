"""Solvers who have too much of one settlement and too little of the next: who has too much in all is paid back.

solvers ──square (+)──► settlement ──payFee──► vault
solvers ──square (−)──► settlement
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar

from bridge.domain.units import Address
from bridge.simulation.scenario import Decided, acts
from bridge.simulation.scenes import settlement
from bridge.simulation.scenes.scene import Scene, SceneRule
from bridge.simulation.traffic import Act, Allowance, Cast, Deed, Kind, TrafficBlock, signed
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


def _shares(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[Mapping[Address, int]]:
    """What each has too much of a window, less what it had too little of those before."""
    found: list[Mapping[Address, int]] = []
    short: dict[Address, int] = {}  # below zero: atoms that a solver has to make good first
    for each in decided:
        balances = dict(short)
        for act in acts(history, *each.window):
            if act.kind in {Kind.GAIN, Kind.SHORTFALL}:
                amount = act.amount if act.kind is Kind.GAIN else -act.amount
                balances[act.sender] = balances.get(act.sender, 0) + amount
        found.append({solver: balance for solver, balance in balances.items() if balance > 0})
        short = {solver: balance for solver, balance in balances.items() if balance < 0}
    return found


def _surplus(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[int]:
    return [sum(shares.values()) for shares in _shares(history, decided)]


SIGNED_BUFFER = Scene(
    name="signed_buffer",
    contracts=settlement.contracts,
    cast=Solvers,
    rules=(SceneRule("signed_buffer", "signed_buffer", surplus=_surplus, weights=_shares),),
)
