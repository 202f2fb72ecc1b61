"""What a rule says: the file as data, and what its names stand for on a chain.

rule.yaml ──(runtime/rulefile)──► Rule ──(plans)──► Plan ──► accumulators, decisions

Nothing is resolved here. Names of contracts and of tokens are given addresses by a Binding, from the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.domain.expressions import Kind, Type
from bridge.domain.prices import PriceFrom, PriceInput
from bridge.domain.quantities import NO_UNIT, Unit
from bridge.domain.units import Address, AssetId, is_address, parse_address
from bridge.domain.windows import Trigger

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")


class RuleMistake(ValueError):
    """The rule makes no sense at `trail` (keys and indexes from the top), `offset` characters into that value."""

    def __init__(self, trail: Sequence[str], problem: str, *, mend: str | None = None, offset: int = 0) -> None:
        super().__init__(f"{'.'.join(trail)}: {problem}")
        self.trail = tuple(trail)
        self.problem = problem
        self.mend = mend
        self.offset = offset


# ── The file as data ────────────────────────────────────────────────────────────────────────────────────────────────
class Carry(StrEnum):
    """What becomes of surplus that is found and not paid."""

    SURPLUS = "surplus"  # kept for the next window: for rules that find each unit once
    NONE = "none"  # left where it is: for rules that read a balance, where the next window finds it again


@dataclass(frozen=True, slots=True)
class Factory:
    """A contract that makes others, and says so: each counts from the block of its event on."""

    contract: str
    declaration: str
    address: str  # the field that names the contract made


@dataclass(frozen=True, slots=True)
class RuleEvent:
    """A kind of log that the rule listens to."""

    contracts: tuple[str, ...]  # names of the configuration; none where a factory makes them
    declaration: str  # `FeePaid(address indexed token, address indexed payer, uint256 amount)`
    where: str | None = None  # only events for which this is true
    units: Mapping[str, Unit] = field(default_factory=dict)  # of numeric fields; the others are plain numbers
    factory: Factory | None = None


def made_by(event: str) -> str:
    """The name under which the contracts of a factory's event are counted, as an event and as an input of its own."""
    return f"{event}@factory"


class At(StrEnum):
    """Which moment of a window a table tells of."""

    END = "end"
    BEFORE = "before"  # its last second: what was there before the event that ended the window


@dataclass(frozen=True, slots=True)
class Sum:
    """Σ `amount` over the events of the window."""

    amount: str  # an expression over the fields of one event: `fee.amount`


@dataclass(frozen=True, slots=True)
class Count:
    """How many events of that name the window has."""

    event: str


@dataclass(frozen=True, slots=True)
class Last:
    """`value` of the newest event so far; lives on from window to window. 0 before the first."""

    value: str


@dataclass(frozen=True, slots=True)
class By:
    """The fields that name the account whose balance an event adds to or takes from."""

    add: str
    subtract: str


@dataclass(frozen=True, slots=True)
class TimeWeighted:
    """By account, ∫ balance dt over the window; unit: amount × seconds. Balances live on from window to window."""

    add: str
    subtract: str
    by: By


@dataclass(frozen=True, slots=True)
class Balances:
    """By account, what was added less what was subtracted, at one moment of the window."""

    add: str
    subtract: str
    by: By
    at: At


@dataclass(frozen=True, slots=True)
class Sums:
    """By actor, Σ `of` over the window, signed. What is above zero at its end is the actor's weight and is used up with
    the window; what is below is an overdraft that the actor's next windows have to make good first."""

    of: str
    by: str


@dataclass(frozen=True, slots=True)
class Members:
    """By account, 1 from an event of `add` until one of `remove`; `event.field` names the account."""

    add: tuple[str, ...]
    remove: tuple[str, ...]
    at: At


@dataclass(frozen=True, slots=True)
class Balance:
    """What `contract` holds of a token (the rule's asset where None) at the window's block."""

    contract: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What a view function of `contract` returns at the window's block, one uint256.

    `function` is its signature: `convertToAssets(uint256)`. Arguments are whole numbers, addresses, names of contracts
    and tokens.
    """

    contract: str
    function: str
    returns: Unit = NO_UNIT
    arguments: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """What is decided and not yet released: all decisions in the asset, and all carries, less Σ `released` events."""

    released: str


@dataclass(frozen=True, slots=True)
class HighWater:
    """The highest value that an expression over the other inputs had when earlier windows ended; at first its own."""

    of: str


Table = TimeWeighted | Balances | Sums | Members
Input = Sum | Count | Last | Table | Balance | Read | PriceInput | Committed | HighWater
TABLES = (TimeWeighted, Balances, Sums, Members)
LASTING = (Last, TimeWeighted, Balances, Sums, Members, Committed, HighWater)
"""Inputs that remember something of earlier windows."""


@dataclass(frozen=True, slots=True)
class Parameter:
    value: int
    unit: Unit = NO_UNIT

    @property
    def type(self) -> Type:
        return Type(Kind.NUMBER, self.unit, self.value.bit_length())


@dataclass(frozen=True, slots=True)
class Guardrails:
    """Limits of every decision, in atoms and seconds."""

    cap_per_epoch: int | None = None
    cap_total: int | None = None  # of all that the rule ever pays
    cap_per_recipient: int | None = None  # of what one window's split gives to one
    minimum_total: int = 0
    minimum_per_recipient: int = 0
    cooldown_s: int = 0
    lot: int = 1
    approve_above: int | None = None  # a larger total waits for a person


@dataclass(frozen=True, slots=True)
class ProRata:
    input: str


@dataclass(frozen=True, slots=True)
class Shares:
    shares: tuple[tuple[Address, int], ...]  # (recipient, basis points)


@dataclass(frozen=True, slots=True)
class Equal:
    recipients: tuple[Address, ...] | str  # or a table, whose accounts count alike


@dataclass(frozen=True, slots=True)
class To:
    recipient: Address


@dataclass(frozen=True, slots=True)
class LegSplit:
    """A part of the total, and how it is divided. A residual one also takes what rounding leaves of the others."""

    bps: int
    split: ProRata | Equal | To
    residual: bool = False


@dataclass(frozen=True, slots=True)
class Legs:
    legs: tuple[LegSplit, ...]


Split = ProRata | Shares | Equal | Legs


def fixed_recipients(split: Split) -> tuple[Address, ...]:
    """Those that the rule's text names."""
    match split:
        case Shares(shares):
            return tuple(recipient for recipient, _ in shares)
        case Equal(recipients) if not isinstance(recipients, str):
            return recipients
        case Legs(legs):
            named: list[Address] = []
            for leg in legs:
                match leg.split:
                    case To(recipient):
                        named.append(recipient)
                    case inner:
                        named.extend(fixed_recipients(inner))
            return tuple(named)
        case _:
            return ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of one rule. `content_hash` is the sha256 of `body`, the file's text; every decision names it."""

    name: str
    version: int
    description: str
    asset: str  # a token's name in the configuration
    trigger: Trigger
    events: Mapping[str, RuleEvent]
    inputs: Mapping[str, Input]
    parameters: Mapping[str, Parameter]
    values: Mapping[str, str]  # named steps of the formula, in order
    surplus: str
    carry: Carry
    guardrails: Guardrails
    split: Split
    exclude: tuple[str, ...]  # addresses and names of contracts that are nobody's weight
    body: str = field(repr=False)
    content_hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """An asset that rules may name."""

    asset: AssetId
    address: Address


@dataclass(frozen=True, slots=True)
class Binding:
    """What a rule's names stand for on one chain."""

    reference: str  # CAIP-2
    asset: AssetId
    token: Address  # the asset's contract: `asset` in a `where`
    contracts: Mapping[str, Address]
    tokens: Mapping[str, Token] = field(default_factory=dict)  # that the rule names beside its asset
    # Accounts that money must not go to: the zero address and the distributor refuse it, which would stop the whole
    # batch; in the token's contract it would be lost; the vault would pay itself.
    never_paid: frozenset[Address] = frozenset()

    def address(self, text: str) -> Address:
        """Of an address written out, a contract's name, `asset` or a token's name."""
        if text == "asset":
            return self.token
        if text in self.contracts:
            return self.contracts[text]
        return self.tokens[text].address if text in self.tokens else parse_address(text)


@dataclass(frozen=True, slots=True)
class RuleStart:
    """Where a rule began on a chain: its windows start at second `since` or later."""

    block_number: int  # its events are complete from here on
    since: int
    contracts: Mapping[str, str]  # name → address, as its names stood then
    stopped_at: int | None = None  # the block after which it was not configured any more


# ── Names of the configuration ──────────────────────────────────────────────────────────────────────────────────────
def contract_places(rule: Rule) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every contract that the rule names, with the place that names it."""
    yield from _contracts_of_events(rule)
    yield from _contracts_of_inputs(rule)
    for index, text in enumerate(rule.exclude):
        if NAME.match(text):
            yield ("exclude", str(index)), text


def _contracts_of_events(rule: Rule) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, event in rule.events.items():
        if event.factory is not None:
            yield ("events", key, "factory", "contract"), event.factory.contract
        for index, contract in enumerate(event.contracts):
            place = ("contract",) if len(event.contracts) == 1 else ("contracts", str(index))
            yield ("events", key, *place), contract


def _contracts_of_inputs(rule: Rule) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, source in rule.inputs.items():
        match source:
            case Balance(contract, token):
                yield ("inputs", key, "balance", *(("of",) if token else ())), contract
            case Read(contract, _, _, arguments):
                yield ("inputs", key, "read", "contract"), contract
                for index, argument in enumerate(arguments):
                    if isinstance(argument, str) and NAME.match(argument) and argument != "asset":
                        yield ("inputs", key, "read", "arguments", str(index)), argument
            case PriceInput():
                for trail, each in price_places(key, source):
                    if each.feed is not None:
                        yield (*trail, "feed"), each.feed


def address_places(rule: Rule) -> Iterator[tuple[tuple[str, ...], Address]]:
    """Every address that the rule writes out, but for those in a `where`, with the place that has it."""
    yield from _addresses_of_split(("split",), rule.split)
    for index, text in enumerate(rule.exclude):
        if not NAME.match(text):
            yield ("exclude", str(index)), parse_address(text)
    for key, source in rule.inputs.items():
        if isinstance(source, Read):
            for index, argument in enumerate(source.arguments):
                if isinstance(argument, str) and is_address(argument):
                    yield ("inputs", key, "read", "arguments", str(index)), parse_address(argument)


def _addresses_of_split(trail: tuple[str, ...], split: Split | To) -> Iterator[tuple[tuple[str, ...], Address]]:
    match split:
        case To(recipient):
            yield (*trail, "to"), recipient
        case Shares(shares):
            for index, (recipient, _) in enumerate(shares):
                yield (*trail, "shares", str(index), "to"), recipient
        case Equal(recipients) if not isinstance(recipients, str):
            for index, recipient in enumerate(recipients):
                yield (*trail, "equal", str(index)), recipient
        case Legs(legs):
            for index, leg in enumerate(legs):
                yield from _addresses_of_split((*trail, "legs", str(index)), leg.split)


def market_places(rule: Rule) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every market that the rule asks for prices, with the place that names it."""
    for key, source in rule.inputs.items():
        if isinstance(source, PriceInput):
            for trail, each in price_places(key, source):
                if each.http is not None:
                    yield (*trail, "http"), each.http


def price_places(name: str, source: PriceInput) -> Iterator[tuple[tuple[str, ...], PriceFrom]]:
    """The sources of a price, with their places in the rule."""
    yield ("inputs", name, "price"), source.first
    if source.second is not None:
        yield ("inputs", name, "price", "second"), source.second


def token_places(rule: Rule) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every token beside the asset whose contract the rule needs, with the place that names it."""
    for key, source in rule.inputs.items():
        match source:
            case Balance(_, str(token)):
                yield ("inputs", key, "balance", "token"), token
            case Read(_, _, _, arguments):
                for index, argument in enumerate(arguments):
                    if isinstance(argument, str) and not NAME.match(argument) and not is_address(argument):
                        yield ("inputs", key, "read", "arguments", str(index)), argument
