"""What a rule says, and the check that it makes sense.

rule.yaml ──(runtime/rulefile)──► Rule ──compile_rule──► Plan ──► accumulators, decisions

A Rule is the file as data, nothing resolved. A Plan has every expression checked and compiled, and knows for each event
which inputs it moves. Names of contracts and of the asset are given addresses by a Binding, from the configuration.

Windows are half-open, in UTC, aligned to 1970, and leave no gap:

      since           start           end = next start
    ────●───────────────┼───────────────┼───────────────┼────► block timestamps
        └ first block   └ first window ─┘
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.domain.events import Value
from bridge.domain.expressions import NUMERIC, Expression, ExpressionError, Kind, compile_expression
from bridge.domain.units import BPS, Address, AssetId

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DECLARATION = re.compile(r"\s*([A-Za-z_]\w*)\s*\(([^()]*)\)\s*\Z")
_FIELD = re.compile(r"\s*([a-z]+[0-9]*)(?:\s+(indexed))?(?:\s+([A-Za-z_]\w*))?\s*\Z")


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

    SURPLUS = "surplus"  # kept for the next window: for rules that add up events, each of which is seen once
    NONE = "none"  # left where it is: for rules that read a balance, where the next window finds it again


@dataclass(frozen=True, slots=True)
class RuleEvent:
    """A kind of log that the rule listens to."""

    contract: str  # a name of the configuration
    declaration: str  # `FeePaid(address indexed token, address indexed payer, uint256 amount)`
    where: str | None = None  # only events for which this is true


@dataclass(frozen=True, slots=True)
class Sum:
    """Σ `amount` over the events of the window."""

    amount: str  # an expression over the fields of one event: `fee.amount`


@dataclass(frozen=True, slots=True)
class TimeWeighted:
    """By account, ∫ balance dt over the window; unit: amount × seconds. Balances live on from window to window."""

    add: str
    subtract: str
    by: str  # the field that names the account, in both events


@dataclass(frozen=True, slots=True)
class Balance:
    """What `contract` holds of the rule's asset at the window's block."""

    contract: str


@dataclass(frozen=True, slots=True)
class Read:
    """What the view function `function()` of `contract` returns at the window's block, one uint256."""

    contract: str
    function: str


@dataclass(frozen=True, slots=True)
class Committed:
    """What is decided and not yet released: all decisions in the asset, and all carries, less Σ `released` events."""

    released: str


Input = Sum | TimeWeighted | Balance | Read | Committed


@dataclass(frozen=True, slots=True)
class Guardrails:
    """Limits of every decision, in atoms and seconds."""

    cap_per_epoch: int | None = None
    minimum_total: int = 0
    minimum_per_recipient: int = 0
    cooldown_s: int = 0
    lot: int = 1


@dataclass(frozen=True, slots=True)
class ProRata:
    input: str


@dataclass(frozen=True, slots=True)
class Shares:
    shares: tuple[tuple[Address, int], ...]  # (recipient, basis points)


@dataclass(frozen=True, slots=True)
class Equal:
    recipients: tuple[Address, ...]


Split = ProRata | Shares | Equal


def fixed_recipients(split: Split) -> tuple[Address, ...]:
    """Those that the rule's text names."""
    match split:
        case Shares(shares):
            return tuple(recipient for recipient, _ in shares)
        case Equal(recipients):
            return recipients
        case _:
            return ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of one rule. `content_hash` is the sha256 of `body`, the file's text; every decision names it."""

    name: str
    version: int
    description: str
    asset: str  # a token's name in the configuration
    window_s: int
    events: Mapping[str, RuleEvent]
    inputs: Mapping[str, Input]
    parameters: Mapping[str, int]
    surplus: str
    carry: Carry
    guardrails: Guardrails
    split: Split
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
    # Accounts that money must not go to: the zero address and the distributor refuse it, which would stop the whole
    # batch; in the token's contract it would be lost; the vault would pay itself.
    never_paid: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class RuleStart:
    """Where a rule began on a chain: its windows start at second `since` or later."""

    block_number: int  # its events are complete from here on
    since: int
    contracts: Mapping[str, str]  # name → address, as its names stood then
    stopped_at: int | None = None  # the block after which it was not configured any more


# ── Windows ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, order=True)
class Window:
    """start <= block timestamp < end, seconds since 1970."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"not a window: {self.start} … {self.end}")


def first_window(every_s: int, since: int) -> Window:
    """The first full window of blocks from timestamp `since` on."""
    start = -(-since // every_s) * every_s
    return Window(start, start + every_s)


def window_after(every_s: int, end: int) -> Window:
    """The window that begins where the last one ended; shorter once, where a new version changed the length."""
    return Window(end, (end // every_s + 1) * every_s)


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
    surplus: Expression
    wheres: Mapping[str, Expression | None]  # by event
    effects: Mapping[str, tuple[Effect, ...]]  # by event

    def contracts(self) -> frozenset[str]:
        """Every contract that the rule names."""
        return frozenset(_contracts(self.rule))

    @property
    def reads_balance(self) -> bool:
        """Whether it finds its surplus in what a contract holds, and so also finds what other rules left there."""
        return any(isinstance(source, Balance) for source in self.rule.inputs.values())

    def remembers(self) -> tuple[str, Mapping[str, Input], Mapping[str, RuleEvent]]:
        """What outlives a window: the asset of what is carried, running inputs, and the events that move them.

        A newer version that differs in this would go on with sums that were counted from something else.
        """
        inputs = {
            name: source for name, source in self.rule.inputs.items() if isinstance(source, (TimeWeighted, Committed))
        }
        events = {
            name: self.rule.events[name]
            for name, effects in self.effects.items()
            if any(effect.input in inputs for effect in effects)
        }
        return self.rule.asset, inputs, events

    def selects(self, event: str, fields: Mapping[str, Value], binding: Binding) -> bool:
        """Whether an event of this shape counts for the rule."""
        where = self.wheres[event]
        if where is None:
            return True
        return bool(where.evaluate({**self.rule.parameters, **binding.contracts, "asset": binding.token, **fields}))


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
    shapes = {name: _shape(name, event) for name, event in rule.events.items()}
    for name in rule.parameters:
        if name in rule.inputs or name == "asset":
            raise RuleMistake(("parameters", name), f"`{name}` is already the name of something else")
    wheres = {name: _where(rule, name, shapes[name]) for name in rule.events}
    effects: dict[str, list[Effect]] = {name: [] for name in rule.events}
    for name, source in rule.inputs.items():
        for event, effect in _effects(name, source, shapes):
            effects[event].append(effect)
    for name, found in effects.items():
        if not found:
            raise RuleMistake(("events", name), "no input uses this event", mend="use it in `inputs`, or remove it")
    names = {
        name: Kind.TABLE if isinstance(source, TimeWeighted) else Kind.AMOUNT for name, source in rule.inputs.items()
    }
    names |= dict.fromkeys(rule.parameters, Kind.NUMBER)
    surplus = _compile(("surplus",), rule.surplus, names, NUMERIC)
    _check_split(rule)
    _check_carry(rule)
    return Plan(rule, surplus, wheres, {name: tuple(found) for name, found in effects.items()})


def _check_scalars(rule: Rule) -> None:
    if not _NAME.match(rule.name):
        raise RuleMistake(("rule",), "a name has small letters, digits and _, and starts with a letter")
    if rule.version < 1:
        raise RuleMistake(("version",), "versions count from 1")
    if rule.window_s < 1:
        raise RuleMistake(("window", "every"), "a window lasts a second at least")
    for place, names in (("events", rule.events), ("inputs", rule.inputs), ("parameters", rule.parameters)):
        for name in names:
            if not _NAME.match(name):
                raise RuleMistake((place, name), "a name has small letters, digits and _, and starts with a letter")
    limits = rule.guardrails
    if limits.lot < 1:
        raise RuleMistake(("guardrails", "lot"), "a lot is one atom at least")
    if limits.cap_per_epoch is not None:
        for name, least in (("minimum_total", limits.minimum_total), ("lot", limits.lot)):
            if least > limits.cap_per_epoch:
                raise RuleMistake(("guardrails", name), "larger than cap_per_epoch, so nothing could ever be paid")
        if limits.minimum_per_recipient > limits.cap_per_epoch:
            raise RuleMistake(
                ("guardrails", "minimum_per_recipient"), "larger than cap_per_epoch, so nothing could ever be paid"
            )


def _shape(name: str, event: RuleEvent) -> EventShape:
    try:
        return parse_declaration(event.declaration)
    except ExpressionError as error:
        raise RuleMistake(("events", name, "event"), error.problem, mend=error.mend, offset=error.offset) from None


def _where(rule: Rule, name: str, shape: EventShape) -> Expression | None:
    text = rule.events[name].where
    if text is None:
        return None
    for declared in shape.fields:
        if declared in {*rule.parameters, *_contracts(rule), "asset"}:
            raise RuleMistake(
                ("events", name, "event"),
                f"the field `{declared}` has the name of something else in this rule",
                mend="name the field otherwise: only its type and place count",
            )
    try:
        return compile_where(text, rule.parameters, _contracts(rule), shape)
    except ExpressionError as error:
        trail = ("events", name, "where")
        raise RuleMistake(trail, error.problem, mend=error.mend, offset=error.offset) from None


def compile_where(text: str, parameters: Iterable[str], contracts: Iterable[str], shape: EventShape) -> Expression:
    """A `where` over the fields of one event, and what else it may name. Raises ExpressionError."""
    known = dict.fromkeys(parameters, Kind.NUMBER)
    known |= dict.fromkeys(contracts, Kind.ADDRESS)
    known["asset"] = Kind.ADDRESS
    known |= {declared: _kind_of(kind) or Kind.BYTES for declared, kind in shape.fields.items()}
    return compile_expression(text, known, wants=(Kind.BOOL,))


def _effects(name: str, source: Input, shapes: Mapping[str, EventShape]) -> Iterator[tuple[str, Effect]]:
    """The events that move the input `name`, with what they do."""
    match source:
        case Sum(amount):
            event, expression = _amount(("inputs", name, "sum"), amount, shapes)
            yield event, Effect(name, expression, 1, None)
        case Committed(released):
            event, expression = _amount(("inputs", name, "committed"), released, shapes)
            yield event, Effect(name, expression, 1, None)
        case TimeWeighted(add, subtract, by):
            place = ("inputs", name, "time_weighted")
            for key, text, sign in (("add", add, 1), ("subtract", subtract, -1)):
                event, expression = _amount((*place, key), text, shapes)
                if shapes[event].fields.get(by) != "address":
                    fields = ", ".join(field for field, kind in shapes[event].fields.items() if kind == "address")
                    raise RuleMistake(
                        (*place, "by"),
                        f"the event `{event}` has no field `{by}` that is an address",
                        mend=f"its addresses are: {fields or 'none'}",
                    )
                yield event, Effect(name, expression, sign, by)
        case Balance() | Read():
            if isinstance(source, Read) and not _FUNCTION.match(source.function):
                raise RuleMistake(
                    ("inputs", name, "read", "function"), "not the name of a function", mend="write it without ()"
                )


def _amount(trail: tuple[str, ...], text: str, shapes: Mapping[str, EventShape]) -> tuple[str, Expression]:
    """An expression over the fields of exactly one event, and which event that is."""
    known = {
        f"{event}.{declared}": _kind_of(kind) or Kind.BYTES
        for event, shape in shapes.items()
        for declared, kind in shape.fields.items()
    }
    expression = _compile(trail, text, known, NUMERIC)
    events = {name.split(".")[0] for name in expression.names}
    if len(events) != 1:
        raise RuleMistake(trail, "must use the fields of one event", mend="for example fee.amount")
    return events.pop(), expression


def _check_split(rule: Rule) -> None:
    match rule.split:
        case ProRata(name):
            if not isinstance(rule.inputs.get(name), TimeWeighted):
                tables = ", ".join(key for key, source in rule.inputs.items() if isinstance(source, TimeWeighted))
                raise RuleMistake(
                    ("split", "pro_rata"),
                    f"`{name}` is not an input that holds a table by account",
                    mend=f"such inputs are: {tables or 'none; add one with time_weighted'}",
                )
        case Shares(shares):
            whole = sum(bps for _, bps in shares)
            if whole != BPS:
                raise RuleMistake(
                    ("split", "shares"), f"the shares add up to {whole} bps", mend=f"a whole is {BPS} bps"
                )
            for index, (recipient, bps) in enumerate(shares):
                _check_recipient(("split", "shares", str(index), "to"), recipient)
                if bps < 1:
                    raise RuleMistake(("split", "shares", str(index), "bps"), "a share is one bps at least")
        case Equal(recipients):
            if not recipients:
                raise RuleMistake(("split", "equal"), "nobody is named")
            for index, recipient in enumerate(recipients):
                _check_recipient(("split", "equal", str(index)), recipient)


def _check_recipient(trail: tuple[str, ...], recipient: Address) -> None:
    if not any(recipient):
        raise RuleMistake(trail, "the zero address burns what it gets", mend="name a recipient")


def _check_carry(rule: Rule) -> None:
    balance = next((name for name, source in rule.inputs.items() if isinstance(source, Balance)), None)
    if balance is not None and rule.carry is Carry.SURPLUS:
        raise RuleMistake(
            ("carry",),
            f"what is not paid stays in `{balance}`, which the next window reads again: it would count twice",
            mend="carry: none",
        )
    if balance is None and rule.carry is Carry.NONE:
        raise RuleMistake(
            ("carry",),
            "events are added up once, so what is not paid would be forgotten",
            mend="carry: surplus",
        )


def _contracts(rule: Rule) -> Iterator[str]:
    yield from (event.contract for event in rule.events.values())
    yield from (source.contract for source in rule.inputs.values() if isinstance(source, (Balance, Read)))


def _compile(trail: tuple[str, ...], text: str, names: Mapping[str, Kind], wants: Sequence[Kind]) -> Expression:
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
