"""Trades that end better than they were quoted: a part goes back to trader and partner.

payers ──trade──► settlement ──payFee (the improvement)──► vault
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar

from bridge.domain.units import BPS, Address, format_address
from bridge.simulation.scenario import Decided, acts
from bridge.simulation.scenes import settlement
from bridge.simulation.scenes.scene import Scene, SceneRule
from bridge.simulation.traffic import Act, Allowance, Cast, Deed, Kind, TrafficBlock, signed
from bridge.simulation.wallets import Wallet

IMPROVEMENT_BPS_MAX = 300
"""Of the volume."""

# As the shipped rule says: of the improvement, of the volume, and for trader and partner.
PART_BPS, MOST_BPS, PARTIES_BPS = 5_000, 100, (7_000, 3_000)


class Traders(Cast):
    """Participants trade, beneficiaries bring them the orders, and payers settle."""

    shares: ClassVar[Mapping[Kind, int]] = {Kind.TRADE: 60, Kind.FEE: 10, Kind.NOISE: 30}

    def allowances(self) -> list[Allowance]:
        return [*super().allowances(), *(settlement.allowance(self.stage, payer) for payer in self.stage.payers)]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.TRADE:
                return self._trade(random, participant)
            case Kind.FEE:
                return self.fee(random)
            case _:
                return self.noise(random)

    def _trade(self, random: Random, trader: Wallet) -> Deed:
        token, contract = self.stage.tokens[0], self.stage.contracts["settlement"]
        payer, partner = random.choice(self.stage.payers), random.choice(self.stage.beneficiaries)
        volume = random.randint(1, 20_000 * token.unit)
        improvement = volume * random.randint(0, IMPROVEMENT_BPS_MAX) // 10_000  # often none at all of a small one
        act = Act(Kind.TRADE, payer.address, token.symbol, improvement, volume, (trader.address, partner.address))
        parties = (format_address(trader.address), format_address(partner.address))
        return signed(act, payer, contract, "trade", *parties, volume, improvement)


def _given_back(act: Act) -> int:
    return min(act.amount * PART_BPS // BPS, act.volume * MOST_BPS // BPS)


def _surplus(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[int]:
    return [sum(_given_back(act) for act in acts(history, *each.window) if act.kind is Kind.TRADE) for each in decided]


def _shares(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[Mapping[Address, int]]:
    found: list[Mapping[Address, int]] = []
    for each in decided:
        shares: dict[Address, int] = {}
        for act in acts(history, *each.window):
            for account, bps in zip(act.about, PARTIES_BPS, strict=True) if act.kind is Kind.TRADE else ():
                shares[account] = shares.get(account, 0) + bps * _given_back(act)
        found.append(shares)
    return found


PRICE_IMPROVEMENT = Scene(
    name="price_improvement",
    contracts=settlement.contracts,
    cast=Traders,
    rules=(SceneRule("price_improvement", "price_improvement", surplus=_surplus, weights=_shares),),
)
