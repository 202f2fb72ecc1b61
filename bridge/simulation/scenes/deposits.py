"""Participants' deposits in a pool, of which nobody takes out more than is there."""

from __future__ import annotations

from random import Random

from bridge.chains.evm.contracts import Contract
from bridge.simulation.traffic import Act, Allowance, Deed, Kind, Stage, signed
from bridge.simulation.wallets import Wallet


class Deposits:
    """In `pool`, of the stage's first token."""

    def __init__(self, stage: Stage, pool: Contract) -> None:
        self._token = stage.tokens[0]
        self._pool = pool
        self._held = {wallet.address: 0 for wallet in stage.participants}  # atoms

    def allowance(self, participant: Wallet) -> Allowance:
        return Allowance(participant, self._token, self._pool)

    def deposit(self, random: Random, participant: Wallet) -> Deed:
        amount = random.randint(1, 1_000 * self._token.unit)
        self._held[participant.address] += amount
        act = Act(Kind.DEPOSIT, participant.address, self._token.symbol, amount)
        return signed(act, participant, self._pool, "deposit", amount)

    def withdraw(self, random: Random, participant: Wallet) -> Deed:
        """Or a deposit, where there is nothing to take."""
        if not self._held[participant.address]:
            return self.deposit(random, participant)
        amount = random.randint(1, self._held[participant.address])
        self._held[participant.address] -= amount
        act = Act(Kind.WITHDRAW, participant.address, self._token.symbol, amount)
        return signed(act, participant, self._pool, "withdraw", amount)
