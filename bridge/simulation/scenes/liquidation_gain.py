"""Liquidations whose gain belongs to those who had deposits before it.

participants ◄──deposit, withdraw──► stability_pool     payers ──liquidate──► stability_pool ──payFee──► vault
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import ClassVar

from bridge.domain.units import Address
from bridge.simulation.scenario import Decided, amounts_of, deposits
from bridge.simulation.scenes.deposits import Deposits
from bridge.simulation.scenes.scene import Creation, Ground, Scene, SceneRule
from bridge.simulation.traffic import Act, Allowance, Cast, Debut, Deed, Kind, Stage, TrafficBlock, signed
from bridge.simulation.wallets import Wallet


class Liquidators(Cast):
    """Payers liquidate, seldom: each time is a window of its own."""

    shares: ClassVar[Mapping[Kind, int]] = {
        Kind.LIQUIDATION: 2,
        Kind.DEPOSIT: 30,
        Kind.WITHDRAW: 25,
        Kind.FEE: 8,
        Kind.NOISE: 35,
    }

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._pool = stage.contracts["stability_pool"]
        self._deposits = Deposits(stage, self._pool)

    def allowances(self) -> list[Allowance]:
        token = self.stage.tokens[0]
        return [
            *super().allowances(),
            *map(self._deposits.allowance, self.stage.participants),
            *(Allowance(payer, token, self._pool) for payer in self.stage.payers),
        ]

    def debuts(self) -> Sequence[Debut]:
        return [partial(self._deposits.deposit, participant=wallet) for wallet in self.stage.participants]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.LIQUIDATION:
                return self._liquidate(random)
            case Kind.DEPOSIT:
                return self._deposits.deposit(random, participant)
            case Kind.WITHDRAW:
                return self._deposits.withdraw(random, participant)
            case Kind.FEE:
                return self.fee(random)
            case _:
                return self.noise(random)

    def _liquidate(self, random: Random) -> Deed:
        payer, token = random.choice(self.stage.payers), self.stage.tokens[0]
        debt = random.randint(1, 50_000 * token.unit)
        gain = debt // 10
        act = Act(Kind.LIQUIDATION, payer.address, token.symbol, gain, debt)
        return signed(act, payer, self._pool, "liquidate", debt, gain)


def _contracts(ground: Ground) -> Mapping[str, Creation]:
    return {"stability_pool": Creation("StabilityPool", (ground.vault_hex, ground.usdx))}


def _shares(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[Mapping[Address, int]]:
    """The deposits before the second that ended the window."""
    return [deposits(history, each.end - 1) for each in decided]


LIQUIDATION_GAIN = Scene(
    name="liquidation_gain",
    contracts=_contracts,
    cast=Liquidators,
    rules=(
        SceneRule(
            "liquidation_gain",
            "liquidation_gain",
            surplus=amounts_of(Kind.LIQUIDATION),
            weights=_shares,
            each=Kind.LIQUIDATION,
        ),
    ),
)
