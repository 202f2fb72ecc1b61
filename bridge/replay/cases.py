"""Golden cases of a rule: events in, decision out, held against what its author expects.

A case is a JSON file `cases/NAME.json` beside `rule.yaml`, and is read like this:

- `what` says what it shows; `accounts` gives short names to addresses. Contracts and tokens of the rule are names
  already, and so are `vault`, `distributor` and `claims`, which are never paid, and `OTHER`, another token.
- `windows` follow one another, each as long as the rule says; one that an event ends lasts until the first such event
  of its list.
- An event is [name, seconds into the window, fields]; fields that are left out are zero, or the asset where they are
  addresses. Events of one second are of one block, in the order of the list. Negative seconds lie before the first
  window.
- `reads` answers inputs that are read from the chain: a number, or {"problem": "…"}. A price may also be what its
  source says, to be judged as in production: {"answer": "200000000000", "decimals": 8, "age": 3601}. `age` is seconds
  before the window's last block; `second`, beside them, is what a second source says.
- `expect` is compared key by key with the decision, amounts as text; what it does not name may be anything.
  `counted_from` says from which second of the window on events count: before it where earlier windows were held and are
  counted together with it.

    case.json ──► events with made-up blocks ──► Memory (as in every replay) ──► decisions ──compare──► Difference
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.domain.accumulators import NOBODY
from bridge.domain.artifacts import POOL
from bridge.domain.decisions import Decision
from bridge.domain.declarations import parse_declaration
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block, Event, Log, Value
from bridge.domain.plans import Plan
from bridge.domain.prices import (
    FeedAnswer,
    MarketAnswer,
    PriceFrom,
    PriceInput,
    Round,
    combine,
    judge_feed,
    judge_market,
)
from bridge.domain.readings import Reading
from bridge.domain.rules import Balance, Binding, Read, Token
from bridge.domain.units import Address, AssetId, BlockStamp, format_address, is_address, parse_address
from bridge.domain.windows import Blocks, Calendar, Each, Every, Window, first_window, window_after
from bridge.replay.replay import Memory
from bridge.runtime.rulefile import load_rule
from bridge.stages.binding import OURS

BLOCK_SECONDS = 12
FIRST_WINDOW = 1000  # so many windows after 1970, where they are counted from there
SINCE = 1_609_459_200  # 2021-01-01, a Friday: where the first window of other rules is looked for
_REFERENCE = "eip155:31337"
_KEYS = frozenset({"what", "accounts", "windows"})
_WINDOW_KEYS = frozenset({"events", "reads", "expect"})
_PRICE_KEYS = frozenset({"answer", "decimals", "age"})


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a decision is not as expected. `expected` and `found` are JSON values; None where there is nothing."""

    window: int  # from 0
    path: str  # `pays.alice`
    expected: Any
    found: Any


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case, run."""

    path: Path
    what: str
    windows: int
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        return not self.differences

    @property
    def name(self) -> str:
        return f"{self.path.parents[1].name}/{self.path.stem}"


def run_folder(folder: Path) -> list[CaseResult]:
    """Every case of a rule folder, by name. Raises ConfigError for a rule or a case that makes no sense."""
    plan = load_rule(folder / "rule.yaml")
    return [run_case(plan, path) for path in sorted((folder / "cases").glob("*.json"))]


def run_case(plan: Plan, path: Path) -> CaseResult:
    """Raises ConfigError for a case that makes no sense."""
    case = _load(path)
    world = _World(plan, case, path)
    differences: list[Difference] = []
    for number, (step, decision) in enumerate(zip(case["windows"], world.decisions(), strict=True)):
        found = world.describe(decision)
        for key, expected in step.get("expect", {}).items():
            if key not in found:
                raise world.mistake(f"windows[{number}].expect", f"`{key}` is nothing that a decision has", known=found)
            differences += [
                Difference(number, where, wanted, got) for where, wanted, got in compare(expected, found[key], key)
            ]
    return CaseResult(path, str(case.get("what", "")), len(case["windows"]), tuple(differences))


def compare(expected: Any, found: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ, with both sides; None for what is on one side only."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from compare(expected.get(key), found.get(key), f"{path}.{key}" if path else key)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, pair in enumerate(zip(expected, found, strict=True)):
            yield from compare(*pair, f"{path}[{index}]")
    elif expected != found or type(expected) is not type(found):
        yield path, expected, found


def _load(path: Path) -> dict[str, Any]:
    try:
        case = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"is not valid JSON: {error.msg}", where=f"{path}:{error.lineno}:{error.colno}") from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", where=str(path), mend="save it as UTF-8") from None
    windows = case.get("windows") if isinstance(case, dict) else None
    if not isinstance(windows, list) or not windows or not all(isinstance(step, dict) for step in windows):
        raise ConfigError(
            "is no case",
            where=str(path),
            mend='{"what": "…", "accounts": {}, "windows": [{"events": [], "expect": {}}]}',
        )
    for where, keys, known in [
        ("", case.keys(), _KEYS),
        *((f"windows[{at}].", step.keys(), _WINDOW_KEYS) for at, step in enumerate(windows)),
    ]:
        for key in sorted(keys - known):
            raise ConfigError(
                f"unknown key `{where}{key}`", where=str(path), mend=f"known here: {', '.join(sorted(known))}"
            )
    assert isinstance(case, dict)
    return case


def _made_up(name: str) -> Address:
    """The same address for the same name, in every case."""
    return Address(hashlib.sha256(name.encode()).digest()[:20])


def _token(name: str) -> Token:
    address = _made_up(name)
    return Token(AssetId(f"{_REFERENCE}/erc20:{format_address(address)}"), address)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One event as the case has it."""

    where: str  # its place in the case
    name: str
    seconds: int  # into the window
    fields: Mapping[str, Any]


class _World:
    """A rule whose names have made-up addresses, and a case to run through it."""

    def __init__(self, plan: Plan, case: Mapping[str, Any], path: Path) -> None:
        rule = plan.rule
        tokens = {name: _token(name) for name in (rule.asset, *sorted(plan.tokens()))}
        self._plan = plan
        self._path = path
        self._windows: Sequence[Mapping[str, Any]] = case["windows"]
        self._binding = Binding(
            reference=_REFERENCE,
            asset=tokens[rule.asset].asset,
            token=tokens[rule.asset].address,
            contracts={name: _made_up(name) for name in sorted(plan.contracts())},
            tokens=tokens,
            never_paid=frozenset({NOBODY, tokens[rule.asset].address, *map(_made_up, OURS)}),
        )
        self._names = {name: token.address for name, token in tokens.items()}
        self._names |= {name: _made_up(name) for name in ("OTHER", *OURS)}
        self._names |= self._binding.contracts
        for name, address in case.get("accounts", {}).items():
            self._names[name] = self._address(address, f"accounts.{name}")

    def mistake(self, where: str, problem: str, known: Mapping[str, Any] | None = None) -> ConfigError:
        mend = f"known here: {', '.join(sorted(known))}" if known else None
        return ConfigError(problem, where=f"{self._path}: {where}", mend=mend)

    def decisions(self) -> Iterator[Decision]:
        memory = Memory(self._plan, self._binding, start_block=0)
        for number, step in enumerate(self._windows):
            where = f"windows[{number}]"
            window = self._window(memory.start, step, where)
            memory.begin(window)
            memory.first_block = window.start // BLOCK_SECONDS
            events = self._events(window, step, number)
            memory.count([each for each in events if self._plan.selects(each.source, each.fields, self._binding)])
            last = (window.end - 1) // BLOCK_SECONDS
            block = Block(last, last.to_bytes(32), bytes(32), last * BLOCK_SECONDS)
            yield memory.close(block, self._reads(step, where, block), memory.owed)

    def _window(self, start: int | None, step: Mapping[str, Any], where: str) -> Window:
        """The next one, from second `start`; the first of all where that is None."""
        match self._plan.rule.trigger:
            case Every(seconds) as every:
                return window_after(every, FIRST_WINDOW * seconds if start is None else start)
            case Calendar() as calendar:
                return first_window(calendar, SINCE) if start is None else window_after(calendar, start)
            case Blocks(blocks):
                begin = FIRST_WINDOW * blocks * BLOCK_SECONDS if start is None else start
                return Window(begin, begin + blocks * BLOCK_SECONDS)
            case Each(event):
                begin = SINCE if start is None else start
                found = [entry.seconds for entry in self._entries(step, where) if entry.name == event]
                ends = [seconds for seconds in found if seconds >= 0]
                if not ends:
                    raise self.mistake(f"{where}.events", f"an event `{event}` is needed: it ends the window")
                return Window(begin, begin + min(ends) + 1)

    def _reads(self, step: Mapping[str, Any], where: str, block: Block) -> dict[str, Reading]:
        reads = {}
        for name, value in step.get("reads", {}).items():
            if name not in self._plan.rule.inputs:
                raise self.mistake(f"{where}.reads", f"unknown input `{name}`", self._plan.rule.inputs)
            source = self._plan.rule.inputs[name]
            if isinstance(value, dict) and value.keys() == {"problem"}:
                reads[name] = Reading(0, {}, str(value["problem"]))
            elif isinstance(value, dict) and isinstance(source, PriceInput):
                reads[name] = self._price(source, value, f"{where}.reads.{name}", block)
            else:
                reads[name] = Reading(self._number(value, f"{where}.reads.{name}"), {})
        missing = sorted(self._read_names() - reads.keys())
        if missing:
            raise self.mistake(f"{where}.reads", f"`{missing[0]}` is missing: the rule reads it")
        return reads

    def _price(self, source: PriceInput, said: Mapping[str, Any], where: str, block: Block) -> Reading:
        """The price that the sources make of what they say, or why it is none."""
        first = {key: value for key, value in said.items() if key != "second"}
        if (source.second is None) != ("second" not in said):
            raise self.mistake(f"{where}.second", "is given where the rule has a second source, and there alone")
        judged = self._judged(source, source.first, first, where, block)
        if source.second is None:
            return judged
        return combine(source, judged, self._judged(source, source.second, said["second"], f"{where}.second", block))

    def _judged(
        self, source: PriceInput, wanted: PriceFrom, said: Mapping[str, Any], where: str, block: Block
    ) -> Reading:
        """One source: of a feed the newest round."""
        if not isinstance(said, dict) or said.keys() != _PRICE_KEYS:
            raise self.mistake(where, f"what a source says is {', '.join(sorted(_PRICE_KEYS))}")
        answer, decimals, age = (self._number(said[key], f"{where}.{key}") for key in ("answer", "decimals", "age"))
        at = block.timestamp - age
        if wanted.feed is None:
            return judge_market(source, wanted, MarketAnswer(answer, decimals, at, {}), block.timestamp)
        told = FeedAnswer(self._binding.contracts[wanted.feed], decimals, (Round(1, answer, at, 1),))
        return judge_feed(source, wanted, told, block.timestamp)

    def _read_names(self) -> set[str]:
        return {
            name for name, source in self._plan.rule.inputs.items() if isinstance(source, (Balance, Read, PriceInput))
        }

    def _entries(self, step: Mapping[str, Any], where: str) -> Iterator[_Entry]:
        for index, entry in enumerate(step.get("events", [])):
            place = f"{where}.events[{index}]"
            if not isinstance(entry, list) or [type(part) for part in entry] != [str, int, dict]:
                raise self.mistake(place, "an event is [name, seconds into the window, fields]")
            name, seconds, given = entry
            if name not in self._plan.rule.events:
                raise self.mistake(place, f"unknown event `{name}`", self._plan.rule.events)
            yield _Entry(place, name, seconds, given)

    def _events(self, window: Window, step: Mapping[str, Any], number: int) -> list[Event]:
        """Those of window `number`, in the order of the chain."""
        entries = sorted(self._entries(step, f"windows[{number}]"), key=lambda entry: entry.seconds)
        length = window.end - window.start
        for entry in entries:
            if entry.seconds >= length:
                problem = f"the window lasts {length} s: second {entry.seconds} is of a later one"
                raise self.mistake(entry.where, problem)
            if entry.seconds < (-window.start if number == 0 else 0):
                raise self.mistake(entry.where, "an event lies in its window, or before the first one")
        return [self._event(window.start + entry.seconds, index, entry) for index, entry in enumerate(entries)]

    def _event(self, at: int, index: int, entry: _Entry) -> Event:
        """`at` is the second of its block."""
        stamp = BlockStamp("case", at // BLOCK_SECONDS, (at // BLOCK_SECONDS).to_bytes(32))
        source = self._plan.rule.events[entry.name]
        log = Log(stamp, index, bytes(32), 0, self._binding.contracts[source.contracts[0]], (), b"", at)
        kinds = parse_declaration(source.declaration).fields
        for field in entry.fields:
            if field not in kinds:
                raise self.mistake(entry.where, f"the event `{entry.name}` has no field `{field}`", kinds)
        fields = {field: self._value(kind, entry.fields.get(field), entry.where) for field, kind in kinds.items()}
        return Event(entry.name, log, fields)

    def _value(self, kind: str, value: Any, where: str) -> Value:
        if kind == "address":
            return self._names[self._plan.rule.asset] if value is None else self._address(value, where)
        if kind == "bool":
            return bool(value)
        if kind == "string":
            return str(value or "")
        if kind.startswith("bytes"):
            return bytes.fromhex(str(value or "").removeprefix("0x")).ljust(int(kind[5:] or 0), b"\0")
        return self._number(0 if value is None else value, where)

    def _address(self, value: Any, where: str) -> Address:
        if isinstance(value, str) and value in self._names:
            return self._names[value]
        if not isinstance(value, str) or not is_address(value):
            raise self.mistake(where, f"{value!r} is neither a name nor an address", self._names)
        return parse_address(value)

    def _number(self, value: Any, where: str) -> int:
        try:
            return int(str(value).replace("_", ""))
        except ValueError:
            raise self.mistake(where, f"{value!r} is no whole number") from None

    def describe(self, decision: Decision) -> dict[str, Any]:
        """A decision in a case's words: accounts by their short names."""
        short = {address: name for name, address in self._names.items()} | {POOL: "pool"}
        artifact = json.loads(decision.artifact)

        def name(account: Address) -> str:
            return short.get(account, format_address(account))

        return {
            "verdict": decision.verdict.value,
            "reason": decision.reason,
            "surplus": str(decision.surplus),
            "total": str(decision.total),
            "left": str(decision.left),
            "pays": {name(one.recipient): str(one.amount) for one in decision.allocations},
            "paid_from_carry": {name(one.recipient): str(one.carried_in) for one in decision.allocations},
            "carries": {name(account): str(amount) for account, amount in decision.carries.items()},
            "guardrails": {guard["name"]: guard["verdict"] for guard in artifact["guardrails"]},
            "events": {source: event["count"] for source, event in artifact["events"].items()},
            "inputs": {source: each["value"] for source, each in artifact["inputs"].items() if "value" in each},
            "tables": {
                source: {name(parse_address(who)): weight for who, weight in each["weights"].items()}
                for source, each in artifact["inputs"].items()
                if "weights" in each
            },
            "overdrafts": {
                source: each["overdraft"] for source, each in artifact["inputs"].items() if "overdraft" in each
            },
            "values": {step: each["result"] for step, each in artifact["values"].items()},
            "counted_from": artifact["counted_from"] - decision.window.start,
            "approval": decision.approval,
        }
