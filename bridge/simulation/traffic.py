"""What people do on a sandbox's chain: made from a seed, block by block, the same bytes every time.

    payers ──payFee──► vault          participants ◄──deposit, withdraw──► pool
    outsiders ◄──transfer──► outsiders     bookkeeper ──incur, settle──► book

Only the senders named here sign, and nothing that others do on the chain (the daemon's payouts only ever add to a
balance) can make one of these transactions fail. So a block's transactions depend on the seed, the block's number and
the blocks before it alone, and a block that a reorganisation took away can be mined again unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

from bridge.chains.evm.contracts import Contract
from bridge.domain.units import Address
from bridge.simulation.wallets import Wallet

PAYERS = 4
OUTSIDERS = 4
OPENING_DEPOSITS_PER_BLOCK = 200
WORTH_PER_SENDER = 100_000_000
"""Whole tokens that each sender is given to start with. More than traffic can spend in years."""


class Kind(Enum):
    """What a transaction of the traffic does."""

    FEE = "fee"  # a payer pays the vault, in any token
    DEPOSIT = "deposit"  # a participant pays into the pool
    WITHDRAW = "withdraw"  # a participant takes out of the pool
    NOISE = "noise"  # an outsider sends another one a token that we watch
    INCUR = "incur"  # the book owes more
    SETTLE = "settle"  # the book owes less


# How often each is drawn, in parts of the sum.
SHARES = {Kind.FEE: 40, Kind.DEPOSIT: 20, Kind.WITHDRAW: 11, Kind.NOISE: 23, Kind.INCUR: 4, Kind.SETTLE: 2}


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the sandbox. `unit` is one whole token in atoms."""

    symbol: str
    decimals: int
    contract: Contract

    @property
    def unit(self) -> int:
        return int(10**self.decimals)


@dataclass(frozen=True, slots=True)
class Act:
    """One transaction of the traffic: `sender` moves `amount` atoms of `token` (its symbol)."""

    kind: Kind
    sender: Address
    token: str
    amount: int


@dataclass(frozen=True, slots=True)
class TrafficBlock:
    """The traffic of one block. `transactions[i]` is the signed bytes of `acts[i]`; `timestamp` in seconds."""

    number: int
    timestamp: int
    acts: tuple[Act, ...]
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the traffic takes place and who takes part in it. The pool is of `tokens[0]`, the book of `tokens[1]`;
    any other token is only paid in."""

    tokens: tuple[Token, ...]
    vault: Contract
    pool: Contract
    book: Contract
    participants: tuple[Wallet, ...]
    payers: tuple[Wallet, ...]
    outsiders: tuple[Wallet, ...]
    bookkeeper: Wallet


class Traffic:
    """The generator. `rate` is the mean number of transactions in a block; ask for each block once, in order."""

    def __init__(self, seed: int, rate: float, stage: Stage) -> None:
        self.seed = seed
        self.rate = rate
        self.stage = stage
        self._deposits = dict.fromkeys((wallet.address for wallet in stage.participants), 0)  # atoms in the pool
        self._owed = 0  # atoms that the book owes: incurred − settled
        self._newcomers = list(reversed(stage.participants))  # have not made their first deposit
        self._stopped = False

    @property
    def opened(self) -> bool:
        """Whether every participant has made a first deposit."""
        return not self._newcomers

    def stop(self) -> None:
        """From the next block on, nobody does anything any more."""
        self._stopped = True

    def block(self, number: int, timestamp: int) -> TrafficBlock:
        """The traffic of the next block. The first blocks hold each participant's first deposit and nothing else."""
        if self._stopped:
            return TrafficBlock(number, timestamp, (), ())
        random = Random(f"{self.seed}/{number}")
        if self._newcomers:
            newcomers = [self._newcomers.pop() for _ in range(min(len(self._newcomers), OPENING_DEPOSITS_PER_BLOCK))]
            pairs = [self._deposit(random, newcomer) for newcomer in newcomers]
        else:
            # Uniform between none and twice the rate, rounded at random so that the mean is the rate exactly.
            count = int(random.uniform(0, 2 * self.rate) + random.random())
            pairs = [self._act(random) for _ in range(count)]
        return TrafficBlock(number, timestamp, tuple(act for act, _ in pairs), tuple(raw for _, raw in pairs))

    def _act(self, random: Random) -> tuple[Act, bytes]:
        [kind] = random.choices(list(SHARES), weights=list(SHARES.values()))
        participant = random.choice(self.stage.participants)
        # What cannot be taken away is added instead.
        if kind is Kind.FEE:
            return self._fee(random)
        if kind is Kind.NOISE:
            return self._noise(random)
        if kind is Kind.WITHDRAW and self._deposits[participant.address] > 0:
            return self._withdraw(random, participant)
        if kind is Kind.SETTLE and self._owed > 0:
            return self._settle(random)
        if kind in {Kind.DEPOSIT, Kind.WITHDRAW}:
            return self._deposit(random, participant)
        return self._incur(random)

    def _fee(self, random: Random) -> tuple[Act, bytes]:
        payer, token = random.choice(self.stage.payers), random.choice(self.stage.tokens)
        amount = random.randint(1, 2_000 * token.unit)
        raw = payer.sign(self.stage.vault.address, self.stage.vault.call("payFee", _hex(token), amount))
        return Act(Kind.FEE, payer.address, token.symbol, amount), raw

    def _noise(self, random: Random) -> tuple[Act, bytes]:
        sender, recipient = random.sample(self.stage.outsiders, 2)
        token = random.choice(self.stage.tokens)
        amount = random.randint(0, 10 * token.unit)  # a transfer of nothing is an event too
        call = token.contract.call("transfer", "0x" + recipient.address.hex(), amount)
        return Act(Kind.NOISE, sender.address, token.symbol, amount), sender.sign(token.contract.address, call)

    def _deposit(self, random: Random, participant: Wallet) -> tuple[Act, bytes]:
        token, pool = self.stage.tokens[0], self.stage.pool
        amount = random.randint(1, 1_000 * token.unit)
        self._deposits[participant.address] += amount
        act = Act(Kind.DEPOSIT, participant.address, token.symbol, amount)
        return act, participant.sign(pool.address, pool.call("deposit", amount))

    def _withdraw(self, random: Random, participant: Wallet) -> tuple[Act, bytes]:
        token, pool = self.stage.tokens[0], self.stage.pool
        amount = random.randint(1, self._deposits[participant.address])
        self._deposits[participant.address] -= amount
        act = Act(Kind.WITHDRAW, participant.address, token.symbol, amount)
        return act, participant.sign(pool.address, pool.call("withdraw", amount))

    def _incur(self, random: Random) -> tuple[Act, bytes]:
        token, book = self.stage.tokens[1], self.stage.book
        amount = random.randint(1, 200 * token.unit)
        self._owed += amount
        act = Act(Kind.INCUR, self.stage.bookkeeper.address, token.symbol, amount)
        return act, self.stage.bookkeeper.sign(book.address, book.call("incur", amount))

    def _settle(self, random: Random) -> tuple[Act, bytes]:
        token, book = self.stage.tokens[1], self.stage.book
        amount = random.randint(1, self._owed)
        self._owed -= amount
        act = Act(Kind.SETTLE, self.stage.bookkeeper.address, token.symbol, amount)
        return act, self.stage.bookkeeper.sign(book.address, book.call("settle", amount))


def _hex(token: Token) -> str:
    return "0x" + token.contract.address.hex()
