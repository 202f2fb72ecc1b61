"""The scene of no rule in particular: three at work in three tokens, two that push and one whose sets are claimed.

payers ──payFee──► vault          participants ◄──deposit, withdraw──► pool (USDX)
outsiders ◄──transfer──► outsiders     bookkeeper ──incur, settle──► book (DAIX)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import ClassVar

from bridge.simulation.scenario import by_time, fees_in
from bridge.simulation.scenes.deposits import Deposits
from bridge.simulation.scenes.obligations import Obligations
from bridge.simulation.scenes.scene import Creation, Ground, Numbers, Scene, SceneRule
from bridge.simulation.traffic import Allowance, Cast, Debut, Deed, Kind, Stage
from bridge.simulation.wallets import Wallet


class Market(Cast):
    shares: ClassVar[Mapping[Kind, int]] = {
        Kind.FEE: 40,
        Kind.DEPOSIT: 20,
        Kind.WITHDRAW: 11,
        Kind.NOISE: 23,
        Kind.INCUR: 4,
        Kind.SETTLE: 2,
    }

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._deposits = Deposits(stage, stage.contracts["pool"])
        self._obligations = Obligations(stage.bookkeeper, stage.token("DAIX"), stage.contracts["obligations"])

    def allowances(self) -> list[Allowance]:
        return [*super().allowances(), *map(self._deposits.allowance, self.stage.participants)]

    def debuts(self) -> Sequence[Debut]:
        return [partial(self._deposits.deposit, participant=wallet) for wallet in self.stage.participants]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.FEE:
                return self.fee(random)
            case Kind.DEPOSIT:
                return self._deposits.deposit(random, participant)
            case Kind.WITHDRAW:
                return self._deposits.withdraw(random, participant)
            case Kind.INCUR:
                return self._obligations.incur(random)
            case Kind.SETTLE:
                return self._obligations.settle(random)
            case _:
                return self.noise(random)


def _contracts(ground: Ground) -> Mapping[str, Creation]:
    return {"obligations": Creation("ObligationBook"), "pool": Creation("DepositPool", (ground.usdx,))}


def _fee_window(numbers: Numbers) -> Mapping[str, str]:
    return {
        "description": "Fees of a window, shared by time-weighted deposits",
        "cap_per_epoch": numbers.atoms(1_000_000, "USDX"),
        "minimum_total": numbers.atoms(1, "USDX"),
        "minimum_per_recipient": numbers.atoms(100, "USDX"),
    }


def _points_window(numbers: Numbers) -> Mapping[str, str]:
    """fee_window once more, under another name and in another token."""
    return {
        **_fee_window(numbers),
        "rule": "points_window",
        "asset": "PTSX",
        "cap_per_epoch": numbers.atoms(1_000_000, "PTSX"),
        "minimum_total": numbers.atoms(1, "PTSX"),
        "minimum_per_recipient": numbers.atoms(1, "PTSX"),
    }


def _reserve_buffer(numbers: Numbers) -> Mapping[str, str]:
    """The vault's own floor is below the rule's, so no payout that the rule allows is refused by the vault."""
    return {
        "asset": "DAIX",
        "floor": numbers.atoms(4_000, "DAIX"),
        "cap_per_epoch": numbers.atoms(1_000_000, "DAIX"),
        "cooldown": f"{2 * numbers.epoch_s} s",
        "lot": numbers.atoms(1_000, "DAIX"),
    }


MARKET = Scene(
    name="market",
    contracts=_contracts,
    cast=Market,
    rules=(
        SceneRule("fee_window", "fee_window", _fee_window, surplus=fees_in("USDX"), weights=by_time),
        SceneRule("points_window", "fee_window", _points_window, surplus=fees_in("PTSX"), weights=by_time),
        SceneRule("reserve_buffer", "reserve_buffer", _reserve_buffer, beneficiaries=True),
    ),
)
