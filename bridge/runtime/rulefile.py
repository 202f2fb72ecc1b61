"""`rule.yaml` → Rule, with every mistake shown where it stands.

text ──yaml──► tree with positions ──► plain values ──pydantic──► shape ──► Rule ──compile_rule──► Plan

    rules/fee_window/rule.yaml:18:10: unknown name `fes`
        surplus: fes
                 ^
      mend: did you mean `fees`?

YAML is read more strictly than YAML is: no anchors, no keys twice, no floats; whole numbers are decimal digits, and an
address may stand without quotes.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from bridge.domain.errors import ConfigError
from bridge.domain.prices import PriceFrom, PriceInput
from bridge.domain.quantities import BPS_UNIT, NO_UNIT, UNIT_SYNTAX, Unit, parse_unit
from bridge.domain.rules import (
    At,
    Balance,
    Balances,
    By,
    Carry,
    Committed,
    Count,
    Equal,
    Factory,
    Guardrails,
    HighWater,
    Input,
    Last,
    Legs,
    LegSplit,
    Members,
    Parameter,
    Plan,
    ProRata,
    Read,
    Rule,
    RuleEvent,
    RuleMistake,
    Shares,
    Split,
    Sum,
    Sums,
    TimeWeighted,
    To,
    compile_rule,
    contract_places,
    market_places,
    token_places,
)
from bridge.domain.units import UINT256_MAX, Address
from bridge.domain.windows import Blocks, Calendar, Each, Every, Period, Trigger

SIZE_MAX = 65_536  # bytes of a rule file
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_DURATION = re.compile(r"([0-9]+)\s*([a-z]+)\Z")
_QUANTITY = re.compile(r"([0-9][0-9_]*)\s*(\S+)?\Z")
SECONDS = {"s": 1, "second": 1, "minute": 60, "min": 60, "hour": 3600, "h": 3600, "day": 86_400, "d": 86_400}

Trail = tuple[str, ...]
_Choice = TypeVar("_Choice", bound=StrEnum)


# ── What may stand in the file ──────────────────────────────────────────────────────────────────────────────────────
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
    if not _ADDRESS.match(value):
        raise ValueError("an address is 0x and 40 hex digits")
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


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OneOf(Section):
    """A section in which exactly one key stands."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in self.__dict__.values()) != 1:
            raise ValueError(f"give exactly one of: {', '.join(type(self).model_fields)}")
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


class EventSection(Section):
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

    @model_validator(mode="after")
    def _one_emitter(self) -> Self:
        if sum(way is not None for way in (self.contract, self.contracts, self.factory)) != 1:
            raise ValueError("give exactly one of: contract, contracts, factory")
        return self


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


class LegSection(Section):
    bps: int = Field(description="basis points of the total; together 10 000")
    to: HexAddress | None = Field(None, description="one recipient")
    pro_rata: str | None = Field(None, description="a table: by its weights")
    equal: str | list[HexAddress] | None = Field(None, description="a table or a list: in equal parts")
    residual: bool = Field(False, description="takes what rounding leaves of the other legs")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.to, self.pro_rata, self.equal)) != 1:
            raise ValueError("give exactly one of: to, pro_rata, equal")
        return self


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


def load_rule(
    path: Path,
    *,
    contracts: Collection[str] | None = None,
    tokens: Collection[str] | None = None,
    markets: Collection[str] | None = None,
    decimals: Mapping[str, int] | None = None,
) -> Plan:
    """Read and check a rule file; with `contracts`, `tokens` and `markets`, also that the names it uses are configured,
    and with `decimals`, by token, that its prices have the same.

    Raises ConfigError with file, line, column, a caret and the mend.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        mend = "rules[].file in bridge.toml names it, relative to that file"
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), mend=mend) from None
    if len(content) > SIZE_MAX:
        raise ConfigError(f"larger than {SIZE_MAX} bytes", where=str(path), mend="a rule is a small text")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", where=str(path), mend="save it as UTF-8") from None
    return parse_rule(text, name=str(path), contracts=contracts, tokens=tokens, markets=markets, decimals=decimals)


def parse_rule(
    text: str,
    *,
    name: str,
    contracts: Collection[str] | None = None,
    tokens: Collection[str] | None = None,
    markets: Collection[str] | None = None,
    decimals: Mapping[str, int] | None = None,
) -> Plan:
    """As load_rule, from text; `name` stands for the file in messages."""
    source = _Source(name, text)
    content = source.read()
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        mistakes = [source.explain(item) for item in error.errors()]
        raise ConfigError("\n".join(str(mistake) for mistake in mistakes)) from None
    try:
        rule = _rule(document, text)
        _check_names(rule, contracts, tokens, markets)
        _check_decimals(rule, decimals or {})
        plan = compile_rule(rule)
    except RuleMistake as mistake:
        raise source.at(mistake.trail, mistake.problem, mistake.mend, offset=mistake.offset) from None
    return plan


def _rule(document: Document, text: str) -> Rule:
    limits = document.guardrails
    return Rule(
        name=document.rule,
        version=document.version,
        description=document.description,
        asset=document.asset,
        trigger=_trigger(document.window),
        events={key: _event(each) for key, each in document.events.items()},
        inputs={key: _input(key, each) for key, each in document.inputs.items()},
        parameters=document.parameters,
        values=document.values,
        surplus=document.surplus,
        carry=_choice(Carry, ("carry",), document.carry),
        guardrails=Guardrails(
            cap_per_epoch=limits.cap_per_epoch,
            cap_total=limits.cap_total,
            cap_per_recipient=limits.cap_per_recipient,
            minimum_total=limits.minimum_total,
            minimum_per_recipient=limits.minimum_per_recipient,
            cooldown_s=limits.cooldown,
            lot=limits.lot,
            approve_above=limits.approve_above,
        ),
        split=_split(document.split),
        exclude=tuple(document.exclude),
        body=text,
        content_hash=hashlib.sha256(text.encode()).digest(),
    )


def _choice(choices: type[_Choice], trail: Trail, text: str) -> _Choice:
    if text not in set(choices):
        known = [str(choice) for choice in choices]
        raise RuleMistake(trail, f"`{text}` is none of {', '.join(known)}", mend=f"write {known[0]}")
    return choices(text)


def _trigger(section: WindowSection) -> Trigger:
    if section.every is not None:
        return Every(section.every)
    if section.calendar is not None:
        return Calendar(_choice(Period, ("window", "calendar"), section.calendar))
    if section.blocks is not None:
        return Blocks(section.blocks)
    assert section.each is not None  # OneOf
    return Each(section.each)


def _event(section: EventSection) -> RuleEvent:
    if section.factory is not None:
        made = section.factory
        factory = Factory(made.contract, made.event, made.address)
        return RuleEvent((), section.event, section.where, section.units, factory)
    contracts = section.contracts or [section.contract or ""]
    return RuleEvent(tuple(contracts), section.event, section.where, section.units)


def _input(name: str, section: InputSection) -> Input:
    simple: dict[str, Callable[[str], Input]] = {
        "sum": Sum,
        "count": Count,
        "last": Last,
        "committed": Committed,
        "high_water": HighWater,
    }
    for key, kind in simple.items():
        if (text := getattr(section, key)) is not None:
            return kind(text)
    if section.balance is not None:
        held = section.balance
        return Balance(held) if isinstance(held, str) else Balance(held.of, held.token)
    if section.read is not None:
        read = section.read
        arguments = tuple(_argument(one) for one in read.arguments)
        return Read(read.contract, _signature(read.function), read.returns, arguments)
    if section.price is not None:
        return _price(section.price)
    return _table(name, section)


def _price(section: PriceSection) -> PriceInput:
    second = section.second
    return PriceInput(
        base=section.base,
        quote=section.quote,
        base_decimals=section.base_decimals,
        quote_decimals=section.quote_decimals,
        first=_price_source(section, section.max_age),
        second=None if second is None else _price_source(second, second.max_age or section.max_age),
        deviation_bps=section.deviation,
    )


def _price_source(section: PriceSourceSection, max_age: int | None) -> PriceFrom:
    return PriceFrom(section.feed, section.http, max_age or 0, section.average or 0, section.inverse)


def _table(name: str, section: InputSection) -> Input:
    if (weighted := section.time_weighted) is not None:
        return TimeWeighted(weighted.add, weighted.subtract, _by(weighted.by))
    if (balances := section.balances) is not None:
        at = _choice(At, ("inputs", name, "balances", "at"), balances.at)
        return Balances(balances.add, balances.subtract, _by(balances.by), at)
    if (sums := section.sums) is not None:
        return Sums(sums.of, sums.by)
    members = section.members
    assert members is not None  # OneOf
    at = _choice(At, ("inputs", name, "members", "at"), members.at)
    return Members(tuple(members.add), tuple(members.remove), at)


def _by(section: str | BySection) -> By:
    return By(section, section) if isinstance(section, str) else By(section.add, section.subtract)


def _signature(function: str) -> str:
    return function if "(" in function else f"{function}()"


def _argument(value: int | str) -> int | str:
    return int(value.replace("_", "")) if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_]*", value) else value


def _split(section: SplitSection) -> Split:
    if section.shares is not None:
        return Shares(tuple((_bytes(share.to), share.bps) for share in section.shares))
    if section.legs is not None:
        return Legs(tuple(LegSplit(leg.bps, _part(leg), leg.residual) for leg in section.legs))
    part = _part(section)
    assert not isinstance(part, To)
    return part


def _part(section: LegSection | SplitSection) -> ProRata | Equal | To:
    if section.pro_rata is not None:
        return ProRata(section.pro_rata)
    if isinstance(section, LegSection) and section.to is not None:
        return To(_bytes(section.to))
    equal = section.equal
    assert equal is not None  # OneOf
    return Equal(equal) if isinstance(equal, str) else Equal(tuple(_bytes(recipient) for recipient in equal))


def _bytes(address: str) -> Address:
    return Address(bytes.fromhex(address[2:]))


def _check_names(
    rule: Rule,
    contracts: Collection[str] | None,
    tokens: Collection[str] | None,
    markets: Collection[str] | None,
) -> None:
    if tokens is not None and rule.asset not in tokens:
        raise RuleMistake(("asset",), f"there is no token `{rule.asset}`", mend=_near(rule.asset, tokens))
    for known, what, places in (
        (contracts, "contract", contract_places(rule)),
        (tokens, "token", token_places(rule)),
        (markets, "[prices] section", market_places(rule)),
    ):
        for trail, named in places:
            if known is not None and named not in known:
                raise RuleMistake(trail, f"there is no {what} `{named}`", mend=_near(named, known))


def _check_decimals(rule: Rule, decimals: Mapping[str, int]) -> None:
    """A price that is worked out with other decimals than the token has is wrong by a power of ten."""
    for name, source in rule.inputs.items():
        if not isinstance(source, PriceInput):
            continue
        sides = (("base", source.base, source.base_decimals), ("quote", source.quote, source.quote_decimals))
        for side, token, said in sides:
            if decimals.get(token, said) != said:
                problem = f"{token} has {decimals[token]} decimals in bridge.toml"
                raise RuleMistake(
                    ("inputs", name, "price", f"{side}_decimals"), problem, mend=f"write {decimals[token]}"
                )


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"bridge.toml has: {', '.join(sorted(known)) or 'none'}"


# ── Positions ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(slots=True)
class _Source:
    """The text, and where in it each value and each key stands (line and column from 0)."""

    name: str
    text: str
    values: dict[Trail, yaml.Node] = field(default_factory=dict)
    keys: dict[Trail, yaml.Node] = field(default_factory=dict)

    def read(self) -> Mapping[str, Any]:
        """The file as plain values. Raises ConfigError for what is no YAML, or YAML that we do not accept."""
        try:
            for token in yaml.scan(self.text, Loader=yaml.SafeLoader):
                if isinstance(token, (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken)):
                    raise self._mark(token.start_mark, "anchors, aliases and tags are not read", "write the value out")
            root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = f"is not valid YAML: {error.problem}"
            if mark is None:
                raise ConfigError(problem, where=self.name) from None
            raise self._mark(mark, problem, "look at this line and the one above it") from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigError(f"is not valid YAML: {error}", where=self.name) from None
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError("holds no rule", where=self.name, mend="start with `rule: NAME`")
        content = self._value(root, ())
        assert isinstance(content, dict)
        return content

    def _value(self, node: yaml.Node, trail: Trail) -> Any:
        self.values[trail] = node
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, trail)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*trail, str(index))) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, trail: Trail) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._mark(key.start_mark, "a key is a name")
            if key.value in result:
                raise self._mark(key.start_mark, f"the key `{key.value}` comes twice", "keep one of them")
            self.keys[*trail, key.value] = key
            result[key.value] = self._value(value, (*trail, key.value))
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind == "int" and re.fullmatch(r"[+-]?(0|[1-9][0-9_]*)", text) and len(text) <= 100:
            return int(text.replace("_", ""))
        if kind == "float":
            raise self._mark(node.start_mark, f"`{text}` is not a whole number", "amounts are whole numbers of atoms")
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        return text  # addresses, dates, `yes`, 0x10 and 010 are text: what needs a number will refuse them

    def explain(self, item: Any) -> ConfigError:
        """One of pydantic's findings, at its place."""
        trail: Trail = tuple(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _fields_at(trail[:-1])
            near = difflib.get_close_matches(trail[-1], known, n=1)
            mend = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
            return self.at(trail, f"unknown key `{trail[-1]}`", mend, key=True)
        if item["type"] == "missing":
            return self.at(trail[:-1], f"`{trail[-1]}` is missing", f"add `{trail[-1]}: …`", key=True)
        message: str = item["msg"].removeprefix("Value error, ")
        return self.at(trail, message[0].lower() + message[1:])

    def at(
        self, trail: Trail, problem: str, mend: str | None = None, *, offset: int = 0, key: bool = False
    ) -> ConfigError:
        """An error `offset` characters into the value at `trail`; at its key where the value itself is not to blame."""
        while trail and trail not in self.values:
            trail = trail[:-1]
        node = self.keys.get(trail) if key else None
        node = node or self.values[trail]
        mark = node.start_mark
        style = getattr(node, "style", None)
        if style in ("|", ">"):
            offset = 0  # the text begins on another line
        return self._mark(mark, problem, mend, offset + (1 if offset and style in ("'", '"') else 0))

    def _mark(self, mark: yaml.Mark, problem: str, mend: str | None = None, offset: int = 0) -> ConfigError:
        lines = self.text.splitlines() or [""]
        line = lines[min(mark.line, len(lines) - 1)]
        column = min(mark.column + offset, len(line))
        shown = f"{problem}\n    {line}\n    {' ' * column}^"
        return ConfigError(shown, where=f"{self.name}:{mark.line + 1}:{column + 1}", mend=mend)


def _fields_at(trail: Trail) -> list[str]:
    """The keys that the section at `trail` understands."""
    model: type[BaseModel] = Document
    for part in trail:
        found = model.model_fields.get(part)
        if found is None:
            continue  # a name that the operator gave, or an index: its section was entered with the field
        inner = _models(found.annotation)
        if not inner:
            return []
        model = inner[0]
    return sorted(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
