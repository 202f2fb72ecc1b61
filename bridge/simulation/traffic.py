"""What people do on a sandbox's chain: made from a seed, block by block, the same bytes every time.

    seed, number of the block ─► how many acts, of which kinds, by whom ─► the cast of the scene ─► signed transactions

Only the senders of the stage sign, and nothing that others do on the chain (the daemon's payouts only ever add to a
balance) can make one of these transactions fail. So a block's transactions depend on the seed, the block's number and
the blocks before it alone, and a block that a reorganisation took away can be mined again unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import ClassVar

from bridge.chains.evm.contracts import Contract
from bridge.domain.units import Address, hexed
from bridge.simulation.wallets import Wallet

PAYERS = 4
OUTSIDERS = 4
DEBUTS_PER_BLOCK = 200
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
    REGISTER = "register"  # a participant becomes a member
    LEAVE = "leave"  # a member becomes a participant like any other
    BAN = "ban"  # the owner bans a member, for good
    INFLOW = "inflow"  # a payer pays the vault through the pool of the members
    TRADE = "trade"  # a payer pays the vault the improvement of a trade of `volume`
    GAIN = "gain"  # a solver has too much of a settlement, and pays it to the vault
    SHORTFALL = "shortfall"  # a solver has too little of a settlement, which is only written down
    PRICE = "price"  # the feed is told a price, in its own decimals
    BUDGET = "budget"  # the treasury expects another burn a month
    HARVEST = "harvest"  # the strategy earns its depositors as much as it pays the vault
    LOSS = "loss"  # the strategy loses deposits
    LIQUIDATION = "liquidation"  # a payer pays the vault the gain of a debt that is liquidated


SIGNS: Mapping[Kind, int] = {
    Kind.FEE: -1,
    Kind.DEPOSIT: -1,
    Kind.WITHDRAW: 1,
    Kind.NOISE: -1,
    Kind.INFLOW: -1,
    Kind.TRADE: -1,
    Kind.GAIN: -1,
    Kind.HARVEST: -2,
    Kind.LOSS: 1,
    Kind.LIQUIDATION: -1,
}
"""How often an act adds its amount to what its sender holds of its token."""

OF_VAULT = frozenset({Kind.FEE, Kind.INFLOW, Kind.TRADE, Kind.GAIN, Kind.HARVEST, Kind.LIQUIDATION})
"""What adds the amount to the vault."""


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
    """One transaction of the traffic: `sender` moves `amount` atoms of `token` (its symbol).

    `volume` is of a trade, of a liquidated debt, or the shares of a deposit that has them; `about` are the member that
    is banned, or trader and partner.
    """

    kind: Kind
    sender: Address
    token: str
    amount: int
    volume: int = 0
    about: tuple[Address, ...] = ()


Deed = tuple[Act, bytes]
"""An act and its signed bytes."""
Debut = Callable[[Random], Deed]


@dataclass(frozen=True, slots=True)
class TrafficBlock:
    """The traffic of one block. `transactions[i]` is the signed bytes of `acts[i]`; `timestamp` in seconds. `others`
    are signed bytes that came before it and are nobody's traffic."""

    number: int
    timestamp: int
    acts: tuple[Act, ...]
    transactions: tuple[bytes, ...]
    others: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the traffic takes place and who takes part in it. `contracts` are the scene's own, by their names in
    bridge.toml; `tokens[0]` is what participants have."""

    tokens: tuple[Token, ...]
    vault: Contract
    contracts: Mapping[str, Contract]
    participants: tuple[Wallet, ...]
    payers: tuple[Wallet, ...]
    outsiders: tuple[Wallet, ...]
    bookkeeper: Wallet  # owns what has an owner
    beneficiaries: tuple[Wallet, ...]  # own nothing and send nothing; what is theirs by a rule, they get

    def token(self, symbol: str) -> Token:
        [token] = [token for token in self.tokens if token.symbol == symbol]
        return token


@dataclass(frozen=True, slots=True)
class Allowance:
    """The owner lets the spender take any amount of the token."""

    owner: Wallet
    token: Token
    spender: Contract


class Cast(ABC):
    """Who acts in a scene, and what they did so far, so that nobody tries what must fail."""

    shares: ClassVar[Mapping[Kind, int]]
    """How often each kind of act is drawn, in parts of the sum."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def allowances(self) -> list[Allowance]:
        """What must be given before the first act: here, that payers can pay the vault in any token."""
        return [Allowance(payer, token, self.stage.vault) for payer in self.stage.payers for token in self.stage.tokens]

    def debuts(self) -> Sequence[Debut]:
        """What must be done, in this order, before anything else happens: here, nothing."""
        return ()

    @abstractmethod
    def act(self, random: Random, kind: Kind, participant: Wallet) -> Deed:
        """An act of this kind, by or about the participant if it is one of theirs; where it cannot be, another."""

    # ── What happens in several scenes ─────────────────────────────────────────────────────────────────────────────
    def fee(self, random: Random, *tokens: Token, most: int = 2_000) -> Deed:
        """Up to `most` whole ones of one of `tokens`, or of any that there is."""
        payer, token = random.choice(self.stage.payers), random.choice(tokens or self.stage.tokens)
        amount = random.randint(1, most * token.unit)
        act = Act(Kind.FEE, payer.address, token.symbol, amount)
        return signed(act, payer, self.stage.vault, "payFee", hexed(token.contract.address), amount)

    def noise(self, random: Random) -> Deed:
        sender, recipient = random.sample(self.stage.outsiders, 2)
        token = random.choice(self.stage.tokens)
        amount = random.randint(0, 10 * token.unit)  # a transfer of nothing is an event too
        act = Act(Kind.NOISE, sender.address, token.symbol, amount)
        return signed(act, sender, token.contract, "transfer", hexed(recipient.address), amount)


class Traffic:
    """The generator. `rate` is the mean number of transactions in a block; ask for each block once, in order."""

    def __init__(self, seed: int, rate: float, cast: Cast) -> None:
        self.seed = seed
        self.rate = rate
        self.cast = cast
        self._debuts = list(reversed(cast.debuts()))  # still to come
        self._stopped = False

    @property
    def opened(self) -> bool:
        """Whether all debuts are over."""
        return not self._debuts

    def stop(self) -> None:
        """From the next block on, nobody does anything any more."""
        self._stopped = True

    def block(self, number: int, timestamp: int) -> TrafficBlock:
        """The traffic of the next block. The first blocks hold the debuts and nothing else."""
        if self._stopped:
            return TrafficBlock(number, timestamp, (), ())
        random = Random(f"{self.seed}/{number}")
        if self._debuts:
            deeds = [self._debuts.pop()(random) for _ in range(min(len(self._debuts), DEBUTS_PER_BLOCK))]
        else:
            # Uniform between none and twice the rate, rounded at random so that the mean is the rate exactly.
            count = int(random.uniform(0, 2 * self.rate) + random.random())
            deeds = [self._act(random) for _ in range(count)]
        return TrafficBlock(number, timestamp, tuple(act for act, _ in deeds), tuple(raw for _, raw in deeds))

    def _act(self, random: Random) -> Deed:
        shares = self.cast.shares
        [kind] = random.choices(list(shares), weights=list(shares.values()))
        return self.cast.act(random, kind, random.choice(self.cast.stage.participants))


def signed(act: Act, sender: Wallet, contract: Contract, function: str, *arguments: object) -> Deed:
    """The act as a call of the contract."""
    return act, sender.sign(contract.address, contract.call(function, *arguments))
