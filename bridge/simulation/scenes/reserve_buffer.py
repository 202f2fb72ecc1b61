"""A vault that earns, and a book of what it owes: what is left above both and a floor is paid out.

payers ──payFee──► vault     bookkeeper ──incur, settle──► book
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import ClassVar

from bridge.simulation.scenes.obligations import Obligations
from bridge.simulation.scenes.scene import OTHERS, USDX, Creation, Ground, Numbers, Scene, SceneRule
from bridge.simulation.traffic import Cast, Deed, Kind, Stage
from bridge.simulation.wallets import Wallet

RESERVE = 60_000
"""In whole dollars: already above the floor of the shipped rule."""


class Treasurers(Cast):
    shares: ClassVar[Mapping[Kind, int]] = {Kind.FEE: 40, Kind.NOISE: 30, Kind.INCUR: 20, Kind.SETTLE: 10}

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._obligations = Obligations(stage.bookkeeper, stage.tokens[0], stage.contracts["obligations"])

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.FEE:
                return self.fee(random)
            case Kind.INCUR:
                return self._obligations.incur(random)
            case Kind.SETTLE:
                return self._obligations.settle(random)
            case _:
                return self.noise(random)


def _contracts(_: Ground) -> Mapping[str, Creation]:
    return {"obligations": Creation("ObligationBook")}


def _values(numbers: Numbers) -> Mapping[str, str]:
    return {"cooldown": f"{2 * numbers.epoch_s} s"}  # as many windows as in the shipped rule


RESERVE_BUFFER = Scene(
    name="reserve_buffer",
    contracts=_contracts,
    cast=Treasurers,
    rules=(SceneRule("reserve_buffer", "reserve_buffer", _values, beneficiaries=True),),
    coins=(replace(USDX, reserve=RESERVE), *OTHERS),
)
