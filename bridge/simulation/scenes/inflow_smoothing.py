"""Lumpy income, shared alike by those who are members when it is shared.

payers ──payIn──► smoothing_pool ──payFee──► vault
participants ──register, resign──► smoothing_pool ◄──ban── its owner
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import ClassVar

from bridge.domain.units import BPS, Address, format_address
from bridge.simulation.scenario import Decided, acts, amounts_of
from bridge.simulation.scenes.scene import Creation, Ground, Scene, SceneRule
from bridge.simulation.traffic import Act, Allowance, Cast, Debut, Deed, Kind, Stage, TrafficBlock, signed
from bridge.simulation.wallets import Wallet

LUMP_IN = 8
"""One inflow of so many is a lump, a hundred times as large as the others may be."""

# As the shipped rule says.
OPERATOR = Address(bytes(19) + b"\xa1")
OPERATOR_BPS = 500


class Members(Cast):
    shares: ClassVar[Mapping[Kind, int]] = {
        Kind.INFLOW: 30,
        Kind.REGISTER: 12,
        Kind.LEAVE: 12,
        Kind.BAN: 1,
        Kind.FEE: 10,
        Kind.NOISE: 35,
    }

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._token = stage.tokens[0]
        self._pool = stage.contracts["smoothing_pool"]
        self._outside = {wallet.address: wallet for wallet in stage.participants}
        self._members: dict[bytes, Wallet] = {}

    def allowances(self) -> list[Allowance]:
        given = [Allowance(payer, self._token, self._pool) for payer in self.stage.payers]
        return [*super().allowances(), *given]

    def debuts(self) -> Sequence[Debut]:
        """All but one, so that somebody is not a member from the start."""
        return [partial(self._register, participant=wallet) for wallet in self.stage.participants[1:]]

    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        match kind:
            case Kind.REGISTER if participant.address in self._outside:
                return self._register(random, participant)
            case Kind.LEAVE if participant.address in self._members and self._has_many_members():
                return self._leave(participant)
            case Kind.BAN if participant.address in self._members and self._has_many_members():
                return self._ban(participant)
            case Kind.FEE:  # of the vault all the same, and nothing to share
                return self.fee(random)
            case Kind.NOISE:
                return self.noise(random)
            case _:
                return self._pay_in(random)

    def _has_many_members(self) -> bool:
        return 2 * len(self._members) > len(self.stage.participants)

    def _register(self, _: Random, participant: Wallet) -> Deed:
        self._members[participant.address] = self._outside.pop(participant.address)
        act = Act(Kind.REGISTER, participant.address, self._token.symbol, 0)
        return signed(act, participant, self._pool, "register")

    def _leave(self, participant: Wallet) -> Deed:
        self._outside[participant.address] = self._members.pop(participant.address)
        act = Act(Kind.LEAVE, participant.address, self._token.symbol, 0)
        return signed(act, participant, self._pool, "resign")

    def _ban(self, participant: Wallet) -> Deed:
        del self._members[participant.address]
        owner, address = self.stage.bookkeeper, participant.address
        act = Act(Kind.BAN, owner.address, self._token.symbol, 0, about=(address,))
        return signed(act, owner, self._pool, "ban", format_address(address))

    def _pay_in(self, random: Random) -> Deed:
        payer = random.choice(self.stage.payers)
        lump = 100 if random.randrange(LUMP_IN) == 0 else 1
        amount = random.randint(1, lump * 50 * self._token.unit)
        act = Act(Kind.INFLOW, payer.address, self._token.symbol, amount)
        return signed(act, payer, self._pool, "payIn", amount)


def _contracts(ground: Ground) -> Mapping[str, Creation]:
    return {"smoothing_pool": Creation("SmoothingPool", (ground.vault_hex, ground.usdx))}


def _shares(history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[Mapping[Address, int]]:
    """Alike for those who are members when the window ends, and the operator's part."""
    found: list[Mapping[Address, int]] = []
    for each in decided:
        members: set[Address] = set()
        for act in acts(history, 0, each.end):
            if act.kind is Kind.REGISTER:
                members.add(act.sender)
            elif act.kind in {Kind.LEAVE, Kind.BAN}:
                members -= {*act.about} if act.kind is Kind.BAN else {act.sender}
        alike = dict.fromkeys(members, BPS - OPERATOR_BPS)
        found.append({**alike, OPERATOR: OPERATOR_BPS * len(members)})
    return found


INFLOW_SMOOTHING = Scene(
    name="inflow_smoothing",
    contracts=_contracts,
    cast=Members,
    rules=(SceneRule("inflow_smoothing", "inflow_smoothing", surplus=amounts_of(Kind.INFLOW), weights=_shares),),
)
