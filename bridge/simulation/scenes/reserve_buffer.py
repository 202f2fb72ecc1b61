"""A vault that earns, and a book of what it owes: what is left above both and a floor is paid out.

payers ──payFee──► vault     bookkeeper ──incur, settle──► book
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar

from bridge.domain.units import Address
from bridge.simulation.scenario import Decided, acts, fixed
from bridge.simulation.scenes.obligations import Obligations
from bridge.simulation.scenes.scene import OTHERS, USDX, Creation, Ground, Numbers, Scene, SceneRule
from bridge.simulation.traffic import Cast, Deed, Kind, Stage, TrafficBlock
from bridge.simulation.wallets import Wallet

RESERVE = 60_000
"""In whole dollars: already above the floor of the shipped rule."""

# As the shipped rule says.
FLOOR = 50_000_000_000
SHARES = {Address(bytes(19) + b"\xa1"): 7_000, Address(bytes(19) + b"\xb2"): 3_000}
HOW_OFTEN = {Kind.FEE: 1, Kind.INCUR: -1, Kind.SETTLE: 1}
"""How often an act adds its amount to what is left when all is paid that is owed."""


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


def _surplus(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[int]:
    """What came in, less what is owed, the floor, and what earlier windows gave away: whether it has left or not."""
    found, given = [], 0
    for each in decided:
        left = RESERVE * 10**USDX.decimals - FLOOR - given
        for act in acts(history, 0, each.end):
            left += HOW_OFTEN.get(act.kind, 0) * act.amount if act.token == USDX.symbol else 0
        found.append(max(left, 0))
        given += sum(each.paid.values())
    return found


RESERVE_BUFFER = Scene(
    name="reserve_buffer",
    contracts=_contracts,
    cast=Treasurers,
    rules=(SceneRule("reserve_buffer", "reserve_buffer", _values, surplus=_surplus, weights=fixed(SHARES)),),
    coins=(replace(USDX, reserve=RESERVE), *OTHERS),
)
