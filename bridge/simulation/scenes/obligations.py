"""What the bookkeeper owes to others, in a book of its own."""

from __future__ import annotations

from random import Random

from bridge.chains.evm.contracts import Contract
from bridge.simulation.traffic import Act, Deed, Kind, Token, signed
from bridge.simulation.wallets import Wallet


class Obligations:
    """In `token`, which the book itself does not name."""

    def __init__(self, bookkeeper: Wallet, token: Token, book: Contract) -> None:
        self._bookkeeper = bookkeeper
        self._token = token
        self._book = book
        self._owed = 0  # atoms: incurred − settled

    def incur(self, random: Random) -> Deed:
        amount = random.randint(1, 200 * self._token.unit)
        self._owed += amount
        act = Act(Kind.INCUR, self._bookkeeper.address, self._token.symbol, amount)
        return signed(act, self._bookkeeper, self._book, "incur", amount)

    def settle(self, random: Random) -> Deed:
        """Or incur, where nothing is owed."""
        if not self._owed:
            return self.incur(random)
        amount = random.randint(1, self._owed)
        self._owed -= amount
        act = Act(Kind.SETTLE, self._bookkeeper.address, self._token.symbol, amount)
        return signed(act, self._bookkeeper, self._book, "settle", amount)
