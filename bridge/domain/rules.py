"""What a rule says, and the check that it makes sense.

rule.yaml ──(runtime/rulefile)──► Rule ──compile_rule──► Plan ──► accumulators, decisions

A Rule is the file as data, nothing resolved. A Plan has every expression checked and compiled, and knows for each event
which inputs it moves. Names of contracts and of tokens are given addresses by a Binding, from the configuration.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bridge.domain.calls import parse_signature, to_word
from bridge.domain.events import Value
from bridge.domain.expressions import (
    BOOL,
    CONSTANTS,
    PLAIN,
    Expression,
    ExpressionError,
    Kind,
    Type,
    compile_expression,
)
from bridge.domain.prices import PriceFrom, PriceInput, mistakes
from bridge.domain.quantities import NO_UNIT, SECONDS, Unit, amount_of, price_of
from bridge.domain.units import BPS, Address, AssetId
from bridge.domain.windows import Blocks, Each, Every, Trigger

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_DECLARATION = re.compile(r"\s*([A-Za-z_]\w*)\s*\(([^()]*)\)\s*\Z")
_FIELD = re.compile(r"\s*([a-z]+[0-9]*)(?:\s+(indexed))?(?:\s+([A-Za-z_]\w*))?\s*\Z")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")


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
        if _ADDRESS.match(text):
            return Address(bytes.fromhex(text[2:]))
        if text == "asset":
            return self.token
        return self.contracts[text] if text in self.contracts else self.tokens[text].address


@dataclass(frozen=True, slots=True)
class RuleStart:
    """Where a rule began on a chain: its windows start at second `since` or later."""

    block_number: int  # its events are complete from here on
    since: int
    contracts: Mapping[str, str]  # name → address, as its names stood then
    stopped_at: int | None = None  # the block after which it was not configured any more


# ── The plan ────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class EventShape:
    """A declaration, taken apart."""

    name: str
    fields: Mapping[str, str]  # field → ABI type, in order


@dataclass(frozen=True, slots=True)
class Effect:
    """What an event does to an input: adds `sign` × `amount`, to `account` where the input is a table."""

    input: str
    amount: Expression
    sign: int
    account: str | None  # a field of the event


@dataclass(frozen=True, slots=True)
class Plan:
    """A rule that makes sense, ready to run."""

    rule: Rule
    values: Mapping[str, Expression]  # the named steps, in order
    surplus: Expression
    marks: Mapping[str, Expression]  # of high_water inputs: what is held against the mark
    wheres: Mapping[str, Expression | None]  # by event
    effects: Mapping[str, tuple[Effect, ...]]  # by event
    parameters: Mapping[str, int]

    def contracts(self) -> frozenset[str]:
        """Every contract that the rule names."""
        return frozenset(name for _, name in contract_places(self.rule))

    def tokens(self) -> frozenset[str]:
        """Every token that the rule reads something of, its asset apart."""
        return frozenset(name for _, name in token_places(self.rule))

    @property
    def reads_balance(self) -> bool:
        """Whether it finds its surplus in what a contract holds, and so also finds what other rules left there."""
        return self.rule.carry is Carry.NONE

    def remembers(self) -> tuple[str, Mapping[str, Input], Mapping[str, RuleEvent], Mapping[str, Parameter]]:
        """What outlives a window: the asset of what is carried, lasting inputs and those that marks are held against,
        the events that move them, and the parameters of both.

        A newer version that differs in this would go on with sums that were counted from something else, or hold a mark
        against something else.
        """
        held = {name for mark in self.marks.values() for name in mark.names}
        inputs = {
            name: source for name, source in self.rule.inputs.items() if isinstance(source, LASTING) or name in held
        }
        moving = [effect for effects in self.effects.values() for effect in effects if effect.input in inputs]
        events = {
            name: self.rule.events[name]
            for name, effects in self.effects.items()
            if any(effect.input in inputs for effect in effects)
        }
        expressions = [effect.amount for effect in moving] + [self.marks[name] for name in inputs if name in self.marks]
        expressions += [where for name in events if (where := self.wheres[name]) is not None]
        used = {name for expression in expressions for name in expression.names}
        parameters = {name: value for name, value in self.rule.parameters.items() if name in used}
        return self.rule.asset, inputs, events, parameters

    def remembered_contracts(self) -> frozenset[str]:
        """The contracts behind what outlives a window."""
        _, inputs, events, _ = self.remembers()
        lasting = {("inputs", name) for name in inputs} | {("events", name) for name in events}
        return frozenset(contract for trail, contract in contract_places(self.rule) if trail[:2] in lasting)

    def selects(self, event: str, fields: Mapping[str, Value], binding: Binding) -> bool:
        """Whether an event of this shape counts for the rule."""
        where = self.wheres[event]
        if where is None:
            return True
        return bool(where.evaluate({**self.parameters, **binding.contracts, "asset": binding.token, **fields}))


def parse_declaration(text: str) -> EventShape:
    """Raises ExpressionError where `text` is no event of fixed-size or simple fields."""
    match = _DECLARATION.match(text.removeprefix("event ").rstrip("; "))
    if match is None:
        raise ExpressionError(
            "not an event declaration",
            0,
            'write it as in Solidity: "Deposited(address indexed account, uint256 amount)"',
        )
    fields: dict[str, str] = {}
    for part in match[2].split(",") if match[2].strip() else []:
        found = _FIELD.match(part)
        if found is None:
            raise ExpressionError(f"`{part.strip()}` is not a field", max(text.find(part), 0), "write `uint256 amount`")
        kind, name = found[1], found[3] or f"field{len(fields)}"
        if _kind_of(kind) is None:
            raise ExpressionError(f"`{kind}` is not a type that rules can use", max(text.find(part), 0))
        if name in fields:
            raise ExpressionError(f"the field `{name}` comes twice", max(text.find(part), 0))
        fields[name] = kind
    return EventShape(match[1], fields)


def compile_rule(rule: Rule) -> Plan:
    """Raises RuleMistake for the first thing that makes no sense, with its place and the mend."""
    _check_scalars(rule)
    _check_names(rule)
    rule = _with_factories(rule)
    scope = _Scope(rule, {name: _shape(name, event) for name, event in rule.events.items()})
    wheres = {name: _where(scope, name) for name in rule.events}
    effects: dict[str, list[Effect]] = {name: [] for name in rule.events}
    names: dict[str, Type] = {name: each.type for name, each in rule.parameters.items()}
    for name, source in rule.inputs.items():
        found = list(_effects(scope, name, source))
        for event, effect in found:
            effects[event].append(effect)
        if not isinstance(source, HighWater):
            names[name] = _type_of(rule, name, source, [effect for _, effect in found])
    _check_used(rule, effects)
    marks = {
        name: _compile(("inputs", name, "high_water"), source.of, names, Kind.NUMBER)
        for name, source in rule.inputs.items()
        if isinstance(source, HighWater)
    }
    names |= {name: expression.type for name, expression in marks.items()}
    values: dict[str, Expression] = {}
    for name, text in rule.values.items():
        values[name] = _compile(("values", name), text, names, Kind.NUMBER)
        names[name] = values[name].type
    surplus = _compile(("surplus",), rule.surplus, names, Type(Kind.NUMBER, amount_of(rule.asset)))
    _check_split(rule)
    _check_carry(rule)
    parameters = {name: each.value for name, each in rule.parameters.items()}
    frozen = {name: tuple(found) for name, found in effects.items()}
    return Plan(rule, values, surplus, marks, wheres, frozen, parameters)


def _with_factories(rule: Rule) -> Rule:
    """The rule with what each factory makes as one more event and one more table, which its text cannot name."""
    events, inputs = dict(rule.events), dict(rule.inputs)
    for name, event in rule.events.items():
        if event.factory is None:
            continue
        trail, factory = ("events", name, "factory"), event.factory
        if rule.trigger == Each(name):
            problem = "contracts that a factory makes cannot end windows: which they are is known only while counting"
            raise RuleMistake(("window", "each"), problem, mend="name an event of a contract, or use `every`")
        try:
            fields = parse_declaration(factory.declaration).fields
        except ExpressionError as error:
            raise RuleMistake((*trail, "event"), error.problem, mend=error.mend, offset=error.offset) from None
        if fields.get(factory.address) != "address":
            addresses = [field for field, kind in fields.items() if kind == "address"]
            problem = f"the event has no field `{factory.address}` that is an address"
            raise RuleMistake((*trail, "address"), problem, mend=_near(factory.address, addresses))
        made = made_by(name)
        events[made] = RuleEvent((factory.contract,), factory.declaration)
        inputs[made] = Members((f"{made}.{factory.address}",), (), At.END)
    return replace(rule, events=events, inputs=inputs)


# ── Names and limits ────────────────────────────────────────────────────────────────────────────────────────────────
def _check_scalars(rule: Rule) -> None:
    if not _NAME.match(rule.name):
        raise RuleMistake(("rule",), "a name has small letters, digits and _, and starts with a letter")
    if rule.version < 1:
        raise RuleMistake(("version",), "versions count from 1")
    match rule.trigger:
        case Every(seconds) if seconds < 1:
            raise RuleMistake(("window", "every"), "a window lasts a second at least")
        case Blocks(count) if count < 1:
            raise RuleMistake(("window", "blocks"), "a window has one block at least")
        case Each(event) if event not in rule.events:
            raise RuleMistake(("window", "each"), f"there is no event `{event}`", mend=_near(event, rule.events))
    _check_limits(rule.guardrails)


def _check_limits(limits: Guardrails) -> None:
    if limits.lot < 1:
        raise RuleMistake(("guardrails", "lot"), "a lot is one atom at least")
    least_of_all = {
        "minimum_total": limits.minimum_total,
        "lot": limits.lot,
        "minimum_per_recipient": limits.minimum_per_recipient,
    }
    for cap in ("cap_per_epoch", "cap_total"):
        highest = getattr(limits, cap)
        for name, least in least_of_all.items():
            if highest is not None and least > highest:
                raise RuleMistake(("guardrails", name), f"larger than {cap}, so nothing could ever be paid")
    if limits.cap_per_recipient == 0:
        raise RuleMistake(("guardrails", "cap_per_recipient"), "nothing could ever be paid")


def _check_names(rule: Rule) -> None:
    taken: dict[str, str] = {"asset": "the asset"}
    places: tuple[tuple[str, Iterable[str]], ...] = (
        ("inputs", rule.inputs),
        ("parameters", rule.parameters),
        ("values", rule.values),
    )
    for name in rule.events:
        _check_name(("events", name), name)
    for place, names in places:
        for name in names:
            _check_name((place, name), name)
            if name in taken:
                raise RuleMistake((place, name), f"`{name}` is already the name of something else")
            taken[name] = place


def _check_name(trail: tuple[str, ...], name: str) -> None:
    if not _NAME.match(name) or name in CONSTANTS:
        raise RuleMistake(trail, "a name has small letters, digits and _, and starts with a letter")


def _check_used(rule: Rule, effects: Mapping[str, Sequence[Effect]]) -> None:
    for name, found in effects.items():
        if not found and rule.trigger != Each(name):
            raise RuleMistake(("events", name), "no input uses this event", mend="use it in `inputs`, or remove it")


# ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Scope:
    rule: Rule
    shapes: Mapping[str, EventShape]

    def types(self, event: str) -> dict[str, Type]:
        """Of an event's fields."""
        return field_types(self.shapes[event], self.rule.events[event].units)


def field_types(shape: EventShape, units: Mapping[str, Unit]) -> dict[str, Type]:
    types: dict[str, Type] = {}
    for name, abi in shape.fields.items():
        kind = _kind_of(abi) or Kind.BYTES
        types[name] = Type(kind, units.get(name, NO_UNIT) if kind is Kind.NUMBER else None)
    return types


def _shape(name: str, event: RuleEvent) -> EventShape:
    try:
        shape = parse_declaration(event.declaration)
    except ExpressionError as error:
        raise RuleMistake(("events", name, "event"), error.problem, mend=error.mend, offset=error.offset) from None
    numbers = [each for each, abi in shape.fields.items() if _kind_of(abi) is Kind.NUMBER]
    for each in event.units:
        if each not in numbers:
            problem = f"the event has no field `{each}` that is a number"
            raise RuleMistake(("events", name, "units", each), problem, mend=_near(each, numbers))
    if len(set(event.contracts)) != len(event.contracts) or bool(event.contracts) == (event.factory is not None):
        raise RuleMistake(("events", name, "contracts"), "names each contract once, and one at least")
    return shape


def _where(scope: _Scope, name: str) -> Expression | None:
    rule, text = scope.rule, scope.rule.events[name].where
    if text is None:
        return None
    contracts = {contract for _, contract in contract_places(rule)}
    for declared in scope.shapes[name].fields:
        if declared in {*rule.parameters, *contracts, "asset"}:
            raise RuleMistake(
                ("events", name, "event"),
                f"the field `{declared}` has the name of something else in this rule",
                mend="name the field otherwise: only its type and place count",
            )
    parameters = {each: parameter.unit for each, parameter in rule.parameters.items()}
    try:
        return compile_where(text, parameters, contracts, scope.types(name))
    except ExpressionError as error:
        trail = ("events", name, "where")
        raise RuleMistake(trail, error.problem, mend=error.mend, offset=error.offset) from None


def compile_where(
    text: str, parameters: Mapping[str, Unit], contracts: Iterable[str], fields: Mapping[str, Type]
) -> Expression:
    """A `where` over the fields of one event, and what else it may name. Raises ExpressionError."""
    known = {name: Type(Kind.NUMBER, unit) for name, unit in parameters.items()}
    known |= dict.fromkeys(contracts, Type(Kind.ADDRESS))
    known["asset"] = Type(Kind.ADDRESS)
    return compile_expression(text, {**known, **fields}, wants=BOOL)


# ── Inputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _effects(scope: _Scope, name: str, source: Input) -> Iterator[tuple[str, Effect]]:
    """The events that move the input `name`, with what they do."""
    trail = ("inputs", name)
    match source:
        case Sum(text) | Committed(text) | Last(text):
            key = {Sum: "sum", Committed: "committed", Last: "last"}[type(source)]
            event, expression = _of_event(scope, (*trail, key), text)
            yield event, Effect(name, expression, 1, None)
        case Count(event):
            _check_event(scope, (*trail, "count"), event)
            yield event, Effect(name, _ONE, 1, None)
        case TimeWeighted(add, subtract, by) | Balances(add, subtract, by):
            key = "time_weighted" if isinstance(source, TimeWeighted) else "balances"
            for part, text, account, sign in (("add", add, by.add, 1), ("subtract", subtract, by.subtract, -1)):
                event, expression = _of_event(scope, (*trail, key, part), text)
                _check_account(scope, (*trail, key, "by"), event, account)
                yield event, Effect(name, expression, sign, account)
        case Sums(of, by):
            event, expression = _of_event(scope, (*trail, "sums", "of"), of)
            _check_account(scope, (*trail, "sums", "by"), event, by)
            yield event, Effect(name, expression, 1, by)
        case Members(add, remove):
            for part, fields, sign in (("add", add, 1), ("remove", remove, -1)):
                for index, text in enumerate(fields):
                    place = (*trail, "members", part, str(index))
                    event, _, account = text.partition(".")
                    _check_event(scope, place, event)
                    _check_account(scope, place, event, account)
                    yield event, Effect(name, _ONE, sign, account)
        case Read():
            _check_read(trail, source)
        case PriceInput():
            _check_price((*trail, "price"), source)


_ONE = compile_expression("1", {}, wants=Kind.NUMBER)


def _check_event(scope: _Scope, trail: tuple[str, ...], event: str) -> None:
    if event not in scope.shapes:
        raise RuleMistake(trail, f"there is no event `{event}`", mend=_near(event, scope.shapes))


def _check_account(scope: _Scope, trail: tuple[str, ...], event: str, by: str) -> None:
    fields = scope.shapes[event].fields
    if fields.get(by) != "address":
        addresses = ", ".join(name for name, kind in fields.items() if kind == "address")
        problem = f"the event `{event}` has no field `{by}` that is an address"
        raise RuleMistake(trail, problem, mend=f"its addresses are: {addresses or 'none'}")


def _check_read(trail: tuple[str, ...], source: Read) -> None:
    try:
        _, types = parse_signature(source.function)
    except ValueError as error:
        mend = "write it as total() or convertToAssets(uint256)"
        raise RuleMistake((*trail, "read", "function"), str(error), mend=mend) from None
    if len(types) != len(source.arguments):
        problem = f"{source.function} takes {len(types)} arguments, {len(source.arguments)} are given"
        raise RuleMistake((*trail, "read"), problem, mend="give them in `arguments: [...]`")
    for index, (abi, argument) in enumerate(zip(types, source.arguments, strict=True)):
        wanted = _kind_of(abi)
        fits = (
            isinstance(argument, int) if wanted is Kind.NUMBER else wanted is Kind.ADDRESS and isinstance(argument, str)
        )
        if not fits or (isinstance(argument, int) and not _fits(abi, argument)):
            raise RuleMistake((*trail, "read", "arguments", str(index)), f"this is no {abi}")


def _fits(abi: str, number: int) -> bool:
    try:
        to_word({"uint": "uint256", "int": "int256"}.get(abi, abi), number)
    except ValueError:
        return False
    return True


def _check_price(trail: tuple[str, ...], source: PriceInput) -> None:
    for key, problem in mistakes(source):
        raise RuleMistake(trail if key == "first" else (*trail, key), problem)


def _of_event(scope: _Scope, trail: tuple[str, ...], text: str) -> tuple[str, Expression]:
    """An expression over the fields of exactly one event, and which event that is."""
    known = {name: each.type for name, each in scope.rule.parameters.items()}
    for event in scope.shapes:
        known |= {f"{event}.{name}": found for name, found in scope.types(event).items()}
    expression = _compile(trail, text, known, Kind.NUMBER)
    events = {name.split(".")[0] for name in expression.names if "." in name}
    if len(events) != 1:
        raise RuleMistake(trail, "must use the fields of one event", mend="for example fee.amount")
    return events.pop(), expression


def _type_of(rule: Rule, name: str, source: Input, effects: Sequence[Effect]) -> Type:  # noqa: PLR0911  # one for each kind of input
    """What the input is in a formula."""
    units = {effect.amount.type.unit or NO_UNIT for effect in effects}
    if len(units) > 1:
        kinds = " and ".join(sorted(map(str, units)))
        raise RuleMistake(("inputs", name), f"adds and subtracts different units: {kinds}", mend="give both one unit")
    unit = units.pop() if units else NO_UNIT
    match source:
        case TimeWeighted():
            return Type(Kind.TABLE, unit * SECONDS)
        case Balances() | Sums():
            return Type(Kind.TABLE, unit)
        case Members():
            return Type(Kind.TABLE, NO_UNIT)
        case Balance(_, token):
            return Type(Kind.NUMBER, amount_of(token or rule.asset))
        case Read():
            return Type(Kind.NUMBER, source.returns)
        case PriceInput(base, quote):
            return Type(Kind.NUMBER, price_of(base, quote))
        case Committed():
            if unit != amount_of(rule.asset):
                problem = f"this is {effects[0].amount.type}, but {amount_of(rule.asset)} is due here"
                raise RuleMistake(("inputs", name, "committed"), problem, mend="give the event's field this unit")
            return Type(Kind.NUMBER, unit)
        case Count():
            return PLAIN
        case _:
            return Type(Kind.NUMBER, unit)


# ── Split and carry ─────────────────────────────────────────────────────────────────────────────────────────────────
def _check_split(rule: Rule) -> None:
    match rule.split:
        case Shares(shares):
            _check_whole(("split", "shares"), [bps for _, bps in shares])
            for index, (recipient, _) in enumerate(shares):
                _check_recipient(("split", "shares", str(index), "to"), recipient)
        case Legs(legs):
            _check_whole(("split", "legs"), [leg.bps for leg in legs])
            for index, leg in enumerate(legs):
                trail = ("split", "legs", str(index))
                _check_part(rule, trail, leg.split)
                if leg.residual and not isinstance(leg.split, To):
                    raise RuleMistake(
                        (*trail, "residual"), "what rounding leaves goes to one recipient", mend="to: 0x…"
                    )
            if sum(leg.residual for leg in legs) > 1:
                raise RuleMistake(("split", "legs"), "only one leg can take what rounding leaves")
        case part:
            _check_part(rule, ("split",), part)
    for index, text in enumerate(rule.exclude):
        if not (_ADDRESS.match(text) or _NAME.match(text)):
            mend = "an address is 0x and 40 hex digits"
            raise RuleMistake(("exclude", str(index)), "neither an address nor the name of a contract", mend=mend)


def _check_whole(trail: tuple[str, ...], parts: Sequence[int]) -> None:
    whole = sum(parts)
    if whole != BPS:
        raise RuleMistake(trail, f"the {trail[-1]} add up to {whole} bps", mend=f"a whole is {BPS} bps")
    for index, bps in enumerate(parts):
        if bps < 1:
            raise RuleMistake((*trail, str(index), "bps"), "a share is one bps at least")


def _check_part(rule: Rule, trail: tuple[str, ...], part: ProRata | Equal | To) -> None:
    match part:
        case ProRata(name):
            _check_table(rule, (*trail, "pro_rata"), name)
        case Equal(str(name)):
            _check_table(rule, (*trail, "equal"), name)
        case To(recipient):
            _check_recipient((*trail, "to"), recipient)
        case Equal(tuple(recipients)):
            if not recipients:
                raise RuleMistake((*trail, "equal"), "nobody is named")
            for index, named in enumerate(recipients):
                _check_recipient((*trail, "equal", str(index)), Address(named))


def _check_table(rule: Rule, trail: tuple[str, ...], name: str) -> None:
    if not isinstance(rule.inputs.get(name), (TimeWeighted, Balances, Sums, Members)):
        tables = ", ".join(key for key, source in rule.inputs.items() if isinstance(source, TABLES))
        raise RuleMistake(
            trail,
            f"`{name}` is not an input that holds a table by account",
            mend=f"such inputs are: {tables or 'none; add one with time_weighted, balances, sums or members'}",
        )


TABLES = (TimeWeighted, Balances, Sums, Members)


def _check_recipient(trail: tuple[str, ...], recipient: Address) -> None:
    if not any(recipient):
        raise RuleMistake(trail, "the zero address burns what it gets", mend="name a recipient")


def _check_carry(rule: Rule) -> None:
    """What is found once must be kept; what the next window finds again must not be kept as well."""
    kinds = {type(source): name for name, source in rule.inputs.items()}
    moving = kinds.keys() & {Sum, Count, Sums, HighWater}
    read = next((kinds[kind] for kind in (Balance, Read) if kind in kinds), None)
    again = HighWater not in kinds and (Balance in kinds or (read is not None and not moving))
    if again and rule.carry is Carry.SURPLUS:
        raise RuleMistake(
            ("carry",),
            f"what is not paid stays in `{read}`, which the next window reads again: it would count twice",
            mend="carry: none",
        )
    if not again and rule.carry is Carry.NONE:
        raise RuleMistake(
            ("carry",),
            "events are added up once, so what is not paid would be forgotten",
            mend="carry: surplus",
        )


# ── Names of the configuration ──────────────────────────────────────────────────────────────────────────────────────
def contract_places(rule: Rule) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every contract that the rule names, with the place that names it."""
    yield from _contracts_of_events(rule)
    yield from _contracts_of_inputs(rule)
    for index, text in enumerate(rule.exclude):
        if _NAME.match(text):
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
                    if isinstance(argument, str) and _NAME.match(argument) and argument != "asset":
                        yield ("inputs", key, "read", "arguments", str(index)), argument
            case PriceInput():
                for trail, each in price_places(key, source):
                    if each.feed is not None:
                        yield (*trail, "feed"), each.feed


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
                    if isinstance(argument, str) and not _NAME.match(argument) and not _ADDRESS.match(argument):
                        yield ("inputs", key, "read", "arguments", str(index)), argument


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(known) or 'none'}"


def _compile(trail: tuple[str, ...], text: str, names: Mapping[str, Type], wants: Type | Kind) -> Expression:
    try:
        return compile_expression(text, names, wants=wants)
    except ExpressionError as error:
        raise RuleMistake(trail, error.problem, mend=error.mend, offset=error.offset) from None


def _kind_of(abi: str) -> Kind | None:
    if re.fullmatch(r"u?int(8|16|24|32|40|48|56|64|72|80|88|96|1[0-9]{2}|2[0-4][0-9]|25[0-6])?", abi):
        return Kind.NUMBER
    if re.fullmatch(r"bytes([1-9]|[12][0-9]|3[0-2])?", abi):
        return Kind.BYTES
    return {"address": Kind.ADDRESS, "bool": Kind.BOOL, "string": Kind.TEXT}.get(abi)
