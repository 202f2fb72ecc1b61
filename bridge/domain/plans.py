"""The check that a rule makes sense, and what comes of one that does.

A Plan has every expression checked against the types of what it names and compiled, and knows for each event which
inputs it moves. A mistake is shown at its place in the file, with the mend.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.domain.calls import parse_signature, to_word
from bridge.domain.declarations import EventShape, compile_where, field_types, kind_of, parse_declaration
from bridge.domain.events import Value
from bridge.domain.expressions import (
    CONSTANTS,
    PLAIN,
    Expression,
    ExpressionError,
    Kind,
    Type,
    compile_expression,
)
from bridge.domain.prices import PriceInput, mistakes
from bridge.domain.quantities import NO_UNIT, SECONDS, amount_of, price_of
from bridge.domain.rules import (
    LASTING,
    NAME,
    TABLES,
    At,
    Balance,
    Balances,
    Binding,
    Carry,
    Committed,
    Count,
    Equal,
    Guardrails,
    HighWater,
    Input,
    Last,
    Legs,
    Members,
    Parameter,
    ProRata,
    Read,
    Rule,
    RuleEvent,
    RuleMistake,
    Shares,
    Sum,
    Sums,
    TimeWeighted,
    To,
    address_places,
    contract_places,
    made_by,
    token_places,
)
from bridge.domain.units import ADDRESS_SYNTAX, BPS, Address, is_address
from bridge.domain.windows import Blocks, Each, Every


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

    def addresses(self) -> Iterator[tuple[tuple[str, ...], int, Address]]:
        """Every address that the rule's text has, with its place and the character there where it begins."""
        yield from ((trail, 0, address) for trail, address in address_places(self.rule))
        for name, where in self.wheres.items():
            if where is not None:
                yield from ((("events", name, "where"), offset, address) for offset, address in where.addresses)

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
    if not NAME.match(rule.name):
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
    if not NAME.match(name) or name in CONSTANTS:
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


def _shape(name: str, event: RuleEvent) -> EventShape:
    try:
        shape = parse_declaration(event.declaration)
    except ExpressionError as error:
        raise RuleMistake(("events", name, "event"), error.problem, mend=error.mend, offset=error.offset) from None
    numbers = [each for each, abi in shape.fields.items() if kind_of(abi) is Kind.NUMBER]
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
        wanted = kind_of(abi)
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
        if not (is_address(text) or NAME.match(text)):
            mend = ADDRESS_SYNTAX
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


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(known) or 'none'}"


def _compile(trail: tuple[str, ...], text: str, names: Mapping[str, Type], wants: Type | Kind) -> Expression:
    try:
        return compile_expression(text, names, wants=wants)
    except ExpressionError as error:
        raise RuleMistake(trail, error.problem, mend=error.mend, offset=error.offset) from None
