"""Deposits that grow with each harvest and shrink with each loss; of the growth above its best, a part is skimmed.

participants ◄──deposit, withdraw──► yield_vault ──lose──► its owner
payers ──harvest (twice the profit)──► yield_vault, which keeps one and pays one to the vault
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from random import Random
from typing import ClassVar

from bridge.domain.units import BPS, Address, format_address
from bridge.simulation.scenario import IN_POOL, Decided, acts, weights
from bridge.simulation.scenes.scene import Creation, Ground, Scene, SceneRule
from bridge.simulation.traffic import Act, Allowance, Cast, Debut, Deed, Kind, Stage, TrafficBlock, signed
from bridge.simulation.wallets import Wallet

SCALE = 10**36
PART_BPS = 5_000
"""Of the gain is skimmed, as the shipped rule says."""
ASSETS = {Kind.DEPOSIT: 1, Kind.WITHDRAW: -1, Kind.HARVEST: 1, Kind.LOSS: -1}
"""How often an act adds its amount to what the vault holds for all shares."""


class Savers(Cast):
    """Participants save, payers harvest."""

    shares: ClassVar[Mapping[Kind, int]] = {
        Kind.HARVEST: 6,
        Kind.LOSS: 2,
        Kind.DEPOSIT: 25,
        Kind.WITHDRAW: 22,
        Kind.FEE: 10,
        Kind.NOISE: 35,
    }

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._token = stage.tokens[0]
        self._vault = stage.contracts["yield_vault"]
        self._assets = 0  # atoms in the vault
        self._shares = {wallet.address: 0 for wallet in stage.participants}

    def allowances(self) -> list[Allowance]:
        spenders = (*self.stage.participants, *self.stage.payers)
        return [*super().allowances(), *(Allowance(wallet, self._token, self._vault) for wallet in spenders)]

    def debuts(self) -> Sequence[Debut]:
        return [partial(self._deposit, participant=wallet) for wallet in self.stage.participants]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.HARVEST:
                return self._harvest(random)
            case Kind.LOSS if self._assets >= 1_000:
                return self._lose(random)
            case Kind.WITHDRAW if self._worth(participant):
                return self._withdraw(random, participant)
            case Kind.FEE:
                return self.fee(random)
            case Kind.NOISE:
                return self.noise(random)
            case _:
                return self._deposit(random, participant)

    # As ERC-4626 counts in OpenZeppelin's contract: with one share and one atom more than there are, and for the vault.
    def _supply(self) -> int:
        return sum(self._shares.values())

    def _worth(self, participant: Wallet) -> int:
        """Atoms that the participant can take out."""
        return self._shares[participant.address] * (self._assets + 1) // (self._supply() + 1)

    def _deposit(self, random: Random, participant: Wallet) -> Deed:
        amount = random.randint(1, 1_000 * self._token.unit)
        shares = amount * (self._supply() + 1) // (self._assets + 1)
        self._shares[participant.address] += shares
        self._assets += amount
        address = participant.address
        act = Act(Kind.DEPOSIT, address, self._token.symbol, amount, shares)
        return signed(act, participant, self._vault, "deposit", amount, format_address(address))

    def _withdraw(self, random: Random, participant: Wallet) -> Deed:
        amount = random.randint(1, self._worth(participant))
        shares = -(-amount * (self._supply() + 1) // (self._assets + 1))
        self._shares[participant.address] -= shares
        self._assets -= amount
        account = format_address(participant.address)
        act = Act(Kind.WITHDRAW, participant.address, self._token.symbol, amount, shares)
        return signed(act, participant, self._vault, "withdraw", amount, account, account)

    def _harvest(self, random: Random) -> Deed:
        payer = random.choice(self.stage.payers)
        profit = random.randint(1, 200 * self._token.unit)
        self._assets += profit
        act = Act(Kind.HARVEST, payer.address, self._token.symbol, profit)
        return signed(act, payer, self._vault, "harvest", profit)

    def _lose(self, random: Random) -> Deed:
        owner = self.stage.bookkeeper
        amount = random.randint(1, self._assets // 200)  # far from all, so that the shares stay worth something
        self._assets -= amount
        act = Act(Kind.LOSS, owner.address, self._token.symbol, amount)
        return signed(act, owner, self._vault, "lose", amount)


def _contracts(ground: Ground) -> Mapping[str, Creation]:
    return {"yield_vault": Creation("YieldVault", (ground.vault_hex, ground.usdx))}


def _surplus(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[int]:
    """Of what all shares gained above their best at the ends of earlier windows."""
    found: list[int] = []
    best: int | None = None
    for each in decided:
        assets, shares = 0, 0
        for act in acts(history, 0, each.end):
            assets += ASSETS.get(act.kind, 0) * act.amount
            shares += IN_POOL.get(act.kind, 0) * act.volume
        rate = SCALE * (assets + 1) // (shares + 1)
        gain = max(rate - (rate if best is None else best), 0)
        found.append(shares * gain // SCALE * PART_BPS // BPS)
        best = max(rate, best or 0)
    return found


def _shares(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[Mapping[Address, int]]:
    return [weights(history, *each.window, counted=attrgetter("volume")) for each in decided]


YIELD_SKIM = Scene(
    name="yield_skim",
    contracts=_contracts,
    cast=Savers,
    rules=(SceneRule("yield_skim", "yield_skim", surplus=_surplus, weights=_shares),),
)
