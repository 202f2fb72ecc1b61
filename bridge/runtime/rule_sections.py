"""What may stand in a rule file: keys, the texts that they take, and what each means.

Descriptions here are what editors show and what rules/README.md says.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from bridge.domain.quantities import BPS_UNIT, NO_UNIT, UNIT_SYNTAX, Unit, parse_unit
from bridge.domain.rules import Parameter
from bridge.domain.units import UINT256_MAX, parse_address
from bridge.runtime.fields import Section

_DURATION = re.compile(r"([0-9]+)\s*([a-z]+)\Z")
_QUANTITY = re.compile(r"([0-9][0-9_]*)\s*(\S+)?\Z")
SECONDS = {"s": 1, "second": 1, "minute": 60, "min": 60, "hour": 3600, "h": 3600, "day": 86_400, "d": 86_400}


# ── Texts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _amount(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_]*", value):
        value = int(value.replace("_", ""))
    if type(value) is not int or not 0 <= value <= UINT256_MAX:
        raise ValueError("an amount is a whole number of atoms, 0 … 2^256−1")
    return value


def _duration(value: object) -> int:
    match = _DURATION.match(value) if isinstance(value, str) else None
    unit = match and (SECONDS.get(match[2]) or SECONDS.get(match[2].removesuffix("s")))
    if match is None or not unit or len(match[1]) > 12:
        raise ValueError("a duration is a number and s, minutes, hours or days, for example `1 day` or `30 s`")
    return int(match[1]) * unit


def _address(value: str) -> str:
    parse_address(value)
    return value


def _parameter(value: object) -> Parameter:
    """`5_000 bps`: a whole number, and its unit where it has one."""
    if type(value) is int:
        return Parameter(_amount(value))
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a parameter is a whole number and its unit, for example `5_000 bps`; units: {UNIT_SYNTAX}")
    return Parameter(_amount(match[1]), parse_unit(match[2]) if match[2] else NO_UNIT)


def _bps(value: object) -> int:
    parameter = _parameter(value)
    if parameter.unit != BPS_UNIT:
        raise ValueError("this is a number of basis points, for example `100 bps`")
    return parameter.value


def _unit(value: object) -> Unit:
    return parse_unit(str(value))


Amount = Annotated[int, BeforeValidator(_amount)]
Quantity = Annotated[Parameter, PlainValidator(_parameter)]
UnitName = Annotated[Unit, PlainValidator(_unit)]
Duration = Annotated[int, BeforeValidator(_duration)]
BasisPoints = Annotated[int, BeforeValidator(_bps)]
HexAddress = Annotated[str, AfterValidator(_address)]


class OneOf(Section):
    """A section in which exactly one of WAYS stands; exactly one key, where it names none."""

    WAYS: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        keys = self.WAYS or tuple(type(self).model_fields)
        if sum(getattr(self, key) is not None for key in keys) != 1:
            raise ValueError(f"give exactly one of: {', '.join(keys)}")
        return self


class WindowSection(OneOf):
    every: Duration | None = Field(None, description="seconds, minutes, hours or days, counted from 1970 in UTC")
    calendar: str | None = Field(None, description="day, week (from Monday), month, quarter or year, in UTC")
    blocks: int | None = Field(None, description="a window ends where the block number is a multiple of this")
    each: str | None = Field(None, description="an event: a window ends with the block that holds one")


class FactorySection(Section):
    contract: str = Field(description="the contract that makes the others, as bridge.toml names it")
    event: str = Field(description="the declaration of the event with which it says so")
    address: str = Field(description="the field that names the contract made; it counts from that block on")


class EventSection(OneOf):
    WAYS = ("contract", "contracts", "factory")

    contract: str | None = Field(None, description="the contract that emits it, as bridge.toml names it")
    contracts: list[str] | None = Field(None, description="several contracts that emit it, instead of `contract`")
    factory: FactorySection | None = Field(
        None, description="all contracts that a factory makes, instead of `contract`"
    )
    event: str = Field(description="the declaration, as in Solidity, with `indexed` where the contract has it")
    where: str | None = Field(
        None, description="only events for which this is true; may use the event's fields by name"
    )
    units: dict[str, UnitName] = Field({}, description="what numeric fields count; a plain number where not said")


class BySection(Section):
    add: str = Field(description="the field that names the account that is added to")
    subtract: str = Field(description="the field that names the account that is taken from")


class TimeWeightedSection(Section):
    add: str = Field(description="what an event adds to a balance, for example deposit.amount")
    subtract: str = Field(description="what another event takes away")
    by: str | BySection = Field(description="the field that names the account, in both events or one for each")


class BalancesSection(TimeWeightedSection):
    at: str = Field("end", description="end of the window, or before its last second: before the event that ended it")


class SumsSection(Section):
    of: str = Field(description="what an event adds to its actor, signed")
    by: str = Field(description="the field that names the actor")


class MembersSection(Section):
    add: list[str] = Field(min_length=1, description="event.field of accounts that come in")
    remove: list[str] = Field([], description="event.field of accounts that go out")
    at: str = Field("end", description="end of the window, or before its last second")


class BalanceSection(Section):
    of: str = Field(description="the contract whose balance it is")
    token: str = Field(description="a token of bridge.toml")


class ReadSection(Section):
    contract: str = Field(description="the contract that is asked")
    function: str = Field(description="the view function: total() or convertToAssets(uint256)")
    returns: UnitName = Field(NO_UNIT, description="what the number counts")
    arguments: list[int | str] = Field([], description="whole numbers, addresses, names of contracts and tokens")


class PriceSourceSection(Section):
    feed: str | None = Field(None, description="a contract that answers as Chainlink's feeds do")
    http: str | None = Field(None, description="a [prices.NAME] section of bridge.toml, instead of `feed`")
    max_age: Duration | None = Field(None, description="a price older than this, at the window's last block, is none")
    average: Duration | None = Field(None, description="of a feed: time-weighted over this long before that block")
    inverse: bool = Field(False, description="the source says the base for a whole quote")


class PriceSection(PriceSourceSection):
    base: str = Field(description="the token that is priced")
    quote: str = Field(description="the token that the price is in")
    base_decimals: int = Field(description="of the base token")
    quote_decimals: int = Field(description="of the quote token")
    second: PriceSourceSection | None = Field(None, description="another source, which must say the same")
    deviation: BasisPoints | None = Field(None, description="but for so much of the lower price: `100 bps`")


class InputSection(OneOf):
    sum: str | None = Field(None, description="the sum of an expression over the events of one name in the window")
    count: str | None = Field(None, description="how many events of that name the window has")
    last: str | None = Field(None, description="an expression over the newest event; lives on from window to window")
    time_weighted: TimeWeightedSection | None = Field(None, description="table by account: balance × seconds")
    balances: BalancesSection | None = Field(None, description="table by account: a balance at one moment")
    sums: SumsSection | None = Field(None, description="table by actor: a signed sum; overdrafts are carried on")
    members: MembersSection | None = Field(None, description="table by account: 1 for each who is in")
    balance: str | BalanceSection | None = Field(None, description="what a contract holds of the asset, or of a token")
    read: ReadSection | None = Field(None, description="what a view function returns at the window's last block")
    price: PriceSection | None = Field(None, description="atoms of the quote for 10^36 atoms of the base")
    committed: str | None = Field(None, description="what is decided or carried by any rule and not yet released")
    high_water: str | None = Field(None, description="the highest value of an expression when earlier windows ended")


class GuardrailsSection(Section):
    cap_per_epoch: Amount | None = Field(None, description="most that a window pays; the excess stays for later")
    cap_total: Amount | None = Field(None, description="most that the rule ever pays")
    cap_per_recipient: Amount | None = Field(None, description="most of a window's split for one; the others share it")
    minimum_total: Amount = Field(0, description="less than this waits")
    minimum_per_recipient: Amount = Field(0, description="of carried + new; what is smaller stays owed")
    cooldown: Duration = Field(0, description="time between the ends of two windows that pay")
    lot: Amount = Field(1, description="only multiples of this are paid")
    approve_above: Amount | None = Field(None, description="a larger total is held until a person releases it")


class ShareSection(Section):
    to: HexAddress = Field(description="who gets it")
    bps: int = Field(description="basis points; together 10 000")


class LegSection(OneOf):
    WAYS = ("to", "pro_rata", "equal")

    bps: int = Field(description="basis points of the total; together 10 000")
    to: HexAddress | None = Field(None, description="one recipient")
    pro_rata: str | None = Field(None, description="a table: by its weights")
    equal: str | list[HexAddress] | None = Field(None, description="a table or a list: in equal parts")
    residual: bool = Field(False, description="takes what rounding leaves of the other legs")


class SplitSection(OneOf):
    pro_rata: str | None = Field(None, description="a table: by its weights, largest remainders first")
    shares: list[ShareSection] | None = Field(None, description="fixed shares")
    equal: str | list[HexAddress] | None = Field(None, description="a table or a list: in equal parts")
    legs: list[LegSection] | None = Field(None, description="parts of the total that are divided differently")


class Document(Section):
    """The whole file."""

    rule: str = Field(description="its name: small letters, digits and _")
    version: int = Field(description="raised with every change")
    description: str = Field(description="one line for reports")
    asset: str = Field(description="the token that is paid, as bridge.toml names it")
    window: WindowSection = Field(description="when it decides")
    events: dict[str, EventSection] = Field({}, description="the kinds of log that it listens to, by names of your own")
    inputs: Annotated[dict[str, InputSection], Field(min_length=1)] = Field(description="what is measured")
    parameters: dict[str, Quantity] = Field({}, description="numbers with units: `5_000 bps`, `7 amount<USDX>`")
    values: dict[str, str] = Field({}, description="named steps of the formula, in order")
    surplus: str = Field(description="the formula; an amount of the asset")
    carry: str = Field(description="surplus: what is not paid is kept; none: it stays where the next window finds it")
    guardrails: GuardrailsSection = Field(GuardrailsSection(), description="limits, in atoms of the asset")
    split: SplitSection = Field(description="who gets it")
    exclude: list[str] = Field([], description="addresses and contracts that are nobody's weight")


def fields_at(trail: tuple[str, ...]) -> list[str]:
    """The keys that the section at `trail` understands."""
    model: type[Section] = Document
    for part in trail:
        found = model.model_fields.get(part)
        if found is None:
            continue  # a name that the operator gave, or an index: its section was entered with the field
        inner = _models(found.annotation)
        if not inner:
            return []
        model = inner[0]
    return sorted(model.model_fields)


def _models(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
