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
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bridge.domain.errors import ConfigError
from bridge.domain.rules import (
    Balance,
    Carry,
    Committed,
    Equal,
    Guardrails,
    Input,
    Plan,
    ProRata,
    Read,
    Rule,
    RuleEvent,
    RuleMistake,
    Shares,
    Split,
    Sum,
    TimeWeighted,
    compile_rule,
)
from bridge.domain.units import UINT256_MAX, Address

SIZE_MAX = 65_536  # bytes of a rule file
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_DURATION = re.compile(r"([0-9]+)\s*([a-z]+)\Z")
_SECONDS = {"s": 1, "second": 1, "minute": 60, "min": 60, "hour": 3600, "h": 3600, "day": 86_400, "d": 86_400}

Trail = tuple[str, ...]


# ── What may stand in the file ──────────────────────────────────────────────────────────────────────────────────────
def _amount(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_]*", value):
        value = int(value.replace("_", ""))
    if type(value) is not int or not 0 <= value <= UINT256_MAX:
        raise ValueError("an amount is a whole number of atoms, 0 … 2^256−1")
    return value


def _duration(value: object) -> int:
    match = _DURATION.match(value) if isinstance(value, str) else None
    unit = match and (_SECONDS.get(match[2]) or _SECONDS.get(match[2].removesuffix("s")))
    if match is None or not unit or len(match[1]) > 12:
        raise ValueError("a duration is a number and s, minutes, hours or days, for example `1 day` or `30 s`")
    return int(match[1]) * unit


def _address(value: str) -> str:
    if not _ADDRESS.match(value):
        raise ValueError("an address is 0x and 40 hex digits")
    return value


Amount = Annotated[int, BeforeValidator(_amount)]
Duration = Annotated[int, BeforeValidator(_duration)]
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


class WindowSection(Section):
    every: Duration


class EventSection(Section):
    contract: str
    event: str
    where: str | None = None


class TimeWeightedSection(Section):
    add: str
    subtract: str
    by: str


class ReadSection(Section):
    contract: str
    function: str


class InputSection(OneOf):
    sum: str | None = None
    time_weighted: TimeWeightedSection | None = None
    balance: str | None = None
    read: ReadSection | None = None
    committed: str | None = None


class GuardrailsSection(Section):
    cap_per_epoch: Amount | None = None
    minimum_total: Amount = 0
    minimum_per_recipient: Amount = 0
    cooldown: Duration = 0
    lot: Amount = 1


class ShareSection(Section):
    to: HexAddress
    bps: int


class SplitSection(OneOf):
    pro_rata: str | None = None
    shares: list[ShareSection] | None = None
    equal: list[HexAddress] | None = None


class Document(Section):
    """The whole file."""

    rule: str
    version: int
    description: str
    asset: str
    window: WindowSection
    events: dict[str, EventSection] = {}
    inputs: Annotated[dict[str, InputSection], Field(min_length=1)]
    parameters: dict[str, Amount] = {}
    surplus: str
    carry: str
    guardrails: GuardrailsSection = GuardrailsSection()
    split: SplitSection


def load_rule(path: Path, *, contracts: Collection[str] | None = None, tokens: Collection[str] | None = None) -> Plan:
    """Read and check a rule file; with `contracts` and `tokens`, also that the names it uses are configured.

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
    return parse_rule(text, name=str(path), contracts=contracts, tokens=tokens)


def parse_rule(
    text: str, *, name: str, contracts: Collection[str] | None = None, tokens: Collection[str] | None = None
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
        plan = compile_rule(_rule(document, text))
        _check_names(plan, contracts, tokens)
    except RuleMistake as mistake:
        raise source.at(mistake.trail, mistake.problem, mistake.mend, offset=mistake.offset) from None
    return plan


def _rule(document: Document, text: str) -> Rule:
    if document.carry not in set(Carry):
        raise RuleMistake(("carry",), f"`{document.carry}` is neither surplus nor none", mend="carry: surplus")
    limits = document.guardrails
    return Rule(
        name=document.rule,
        version=document.version,
        description=document.description,
        asset=document.asset,
        window_s=document.window.every,
        events={key: RuleEvent(each.contract, each.event, each.where) for key, each in document.events.items()},
        inputs={key: _input(each) for key, each in document.inputs.items()},
        parameters=document.parameters,
        surplus=document.surplus,
        carry=Carry(document.carry),
        guardrails=Guardrails(
            cap_per_epoch=limits.cap_per_epoch,
            minimum_total=limits.minimum_total,
            minimum_per_recipient=limits.minimum_per_recipient,
            cooldown_s=limits.cooldown,
            lot=limits.lot,
        ),
        split=_split(document.split),
        body=text,
        content_hash=hashlib.sha256(text.encode()).digest(),
    )


def _input(section: InputSection) -> Input:
    if section.sum is not None:
        return Sum(section.sum)
    if section.time_weighted is not None:
        table = section.time_weighted
        return TimeWeighted(table.add, table.subtract, table.by)
    if section.balance is not None:
        return Balance(section.balance)
    if section.read is not None:
        return Read(section.read.contract, section.read.function)
    assert section.committed is not None  # OneOf
    return Committed(section.committed)


def _split(section: SplitSection) -> Split:
    if section.pro_rata is not None:
        return ProRata(section.pro_rata)
    if section.shares is not None:
        return Shares(tuple((_bytes(share.to), share.bps) for share in section.shares))
    assert section.equal is not None  # OneOf
    return Equal(tuple(_bytes(recipient) for recipient in section.equal))


def _bytes(address: str) -> Address:
    return Address(bytes.fromhex(address[2:]))


def _check_names(plan: Plan, contracts: Collection[str] | None, tokens: Collection[str] | None) -> None:
    rule = plan.rule
    if tokens is not None and rule.asset not in tokens:
        raise RuleMistake(("asset",), f"there is no token `{rule.asset}`", mend=_near(rule.asset, tokens))
    if contracts is None:
        return
    places: list[tuple[Trail, str]] = [
        (("events", key, "contract"), each.contract) for key, each in rule.events.items()
    ]
    for key, each in rule.inputs.items():
        if isinstance(each, Balance):
            places.append((("inputs", key, "balance"), each.contract))
        if isinstance(each, Read):
            places.append((("inputs", key, "read", "contract"), each.contract))
    for trail, contract in places:
        if contract not in contracts:
            raise RuleMistake(trail, f"there is no contract `{contract}`", mend=_near(contract, contracts))


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
