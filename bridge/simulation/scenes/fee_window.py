"""Fees of an epoch for those who had deposits in it.

payers ──payFee──► vault     participants ◄──deposit, withdraw──► pool
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import ClassVar

from bridge.simulation.scenario import by_time, fees_in
from bridge.simulation.scenes.deposits import Deposits
from bridge.simulation.scenes.scene import Creation, Ground, Scene, SceneRule
from bridge.simulation.traffic import Allowance, Cast, Debut, Deed, Kind, Stage
from bridge.simulation.wallets import Wallet


class Depositors(Cast):
    shares: ClassVar[Mapping[Kind, int]] = {Kind.FEE: 40, Kind.DEPOSIT: 20, Kind.WITHDRAW: 15, Kind.NOISE: 25}

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._deposits = Deposits(stage, stage.contracts["pool"])

    def allowances(self) -> list[Allowance]:
        return [*super().allowances(), *map(self._deposits.allowance, self.stage.participants)]

    def debuts(self) -> Sequence[Debut]:
        return [partial(self._deposits.deposit, participant=wallet) for wallet in self.stage.participants]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.FEE:  # also in tokens that the rule is not about
                return self.fee(random)
            case Kind.DEPOSIT:
                return self._deposits.deposit(random, participant)
            case Kind.WITHDRAW:
                return self._deposits.withdraw(random, participant)
            case _:
                return self.noise(random)


def _contracts(ground: Ground) -> Mapping[str, Creation]:
    return {"pool": Creation("DepositPool", (ground.usdx,))}


FEE_WINDOW = Scene(
    name="fee_window",
    contracts=_contracts,
    cast=Depositors,
    rules=(SceneRule("fee_window", "fee_window", surplus=fees_in("USDX"), weights=by_time),),
)
