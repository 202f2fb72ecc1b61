"""A treasury in two tokens, one of which has a price that moves: what it has beyond some months' burn is paid out.

payers ──payFee (USDX, WETHX)──► vault     its owner ──setBurn──► budget     anybody ──push──► price_feed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar

from bridge.domain.units import BPS, Address
from bridge.simulation.scenario import Decided, acts, fixed
from bridge.simulation.scenes.scene import OTHERS, USDX, Coin, Creation, Ground, Scene, SceneRule
from bridge.simulation.traffic import Act, Cast, Debut, Deed, Kind, Stage, TrafficBlock, signed
from bridge.simulation.wallets import Wallet

ETHER = Coin("Sandbox Ether", "WETH", 18, reserve=40)
DOLLARS = 300_000
BURN = 64_000
"""Whole dollars a month, about: six months of it are about what the treasury is worth, more or less."""
PRICE = 2_500
"""Whole dollars, about."""
FEED_DECIMALS = 8

# As the shipped rule says.
MONTHS, MOST_BPS = 6, 500
SHARES = {Address(bytes(19) + b"\xa1"): 7_000, Address(bytes(19) + b"\xb2"): 3_000}


class Treasury(Cast):
    shares: ClassVar[Mapping[Kind, int]] = {Kind.PRICE: 10, Kind.BUDGET: 2, Kind.FEE: 48, Kind.NOISE: 40}

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._dollar, self._ether = stage.tokens[0], stage.token(ETHER.symbol)

    def debuts(self) -> Sequence[Debut]:
        """There is a price from the start."""
        return [self._push]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.PRICE:
                return self._push(random)
            case Kind.BUDGET:
                return self._set_burn(random)
            case Kind.FEE:
                return self._fee(random)
            case _:
                return self.noise(random)

    def _fee(self, random: Random) -> Deed:
        token, most = (self._dollar, 200) if random.randrange(4) else (self._ether, 1)
        return self.fee(random, token, most=most)

    def _push(self, random: Random) -> Deed:
        owner = self.stage.bookkeeper
        price = random.randint(PRICE * 9 * 10**FEED_DECIMALS // 10, PRICE * 11 * 10**FEED_DECIMALS // 10)
        act = Act(Kind.PRICE, owner.address, self._ether.symbol, price)
        return signed(act, owner, self.stage.contracts["price_feed"], "push", price)

    def _set_burn(self, random: Random) -> Deed:
        owner = self.stage.bookkeeper
        burn = random.randint(BURN * 9 * self._dollar.unit // 10, BURN * 11 * self._dollar.unit // 10)
        act = Act(Kind.BUDGET, owner.address, self._dollar.symbol, burn)
        return signed(act, owner, self.stage.contracts["budget"], "setBurn", burn)


def _contracts(_: Ground) -> Mapping[str, Creation]:
    return {
        "budget": Creation("Budget", (BURN * 10**USDX.decimals,)),
        "price_feed": Creation("Aggregator", ("WETH / USD", FEED_DECIMALS)),
    }


def _surplus(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[int]:
    """The smaller of what it is worth above some months' burn and of a part of its dollars; what earlier windows gave
    away is not its own any more, whether it has left or not."""
    found, given = [], 0
    for each in decided:
        newest = {Kind.BUDGET: BURN * 10**USDX.decimals, Kind.PRICE: 0}
        held = {USDX.symbol: DOLLARS * 10**USDX.decimals - given, ETHER.symbol: ETHER.reserve * 10**ETHER.decimals}
        for act in acts(history, 0, each.end):
            if act.kind is Kind.FEE and act.token in held:
                held[act.token] += act.amount
            elif act.kind in newest:
                newest[act.kind] = act.amount
        dollars = held[USDX.symbol]
        worth = dollars + held[ETHER.symbol] * newest[Kind.PRICE] // 10 ** (
            FEED_DECIMALS + ETHER.decimals - USDX.decimals
        )
        excess = worth - MONTHS * newest[Kind.BUDGET]
        found.append(max(min(excess, max(dollars, 0) * MOST_BPS // BPS), 0))
        given += sum(each.paid.values())
    return found


TREASURY_OVER_RESERVE = Scene(
    name="treasury_over_reserve",
    contracts=_contracts,
    cast=Treasury,
    rules=(SceneRule("treasury_over_reserve", "treasury_over_reserve", surplus=_surplus, weights=fixed(SHARES)),),
    coins=(replace(USDX, reserve=DOLLARS), *OTHERS, ETHER),
)
