"""Make a decision again, from a node alone, and hold it against its record byte by byte.

    record (artifact) ─► names of contracts, start block, hash of the rule's text
    rule's text       ─► replay from the start block on ─► the decision about the same window ─► equal, or where not

Nothing of the record goes into what is made again, but what the rule's names stand for. What a node cannot say (what
rules owe whose texts are not at hand) is taken from the record, and the answer says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from bridge.domain.accumulators import SCALAR, State
from bridge.domain.artifacts import POOL
from bridge.domain.decisions import Decision
from bridge.domain.errors import ChainUnavailable, ConfigError, StateUnavailable
from bridge.domain.events import Block
from bridge.domain.plans import Plan
from bridge.domain.prices import PriceInput
from bridge.domain.readings import Reading
from bridge.domain.records import RuleText
from bridge.domain.rules import Balance, Binding, Committed, Input, Read, RuleStart, Sums, Token
from bridge.domain.units import Address, AssetId, parse_address
from bridge.domain.windows import Window
from bridge.ports.database import Database
from bridge.ports.reading import ChainReader, History, LogFilter
from bridge.replay.cases import compare
from bridge.replay.replay import Follower, Replay, Step
from bridge.runtime.rulefile import parse_rule
from bridge.stages.binding import BoundRule, log_filters
from bridge.stages.closing import conclude, read_input
from bridge.stages.prices import PriceSources, markets_on_record

Records = Callable[[str, int], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class Claim:
    """A decision that is to be made again, with the texts that made it and those of its neighbours."""

    artifact: bytes
    texts: Sequence[RuleText]  # of the rule, each version from its first window on; and of other rules of the asset
    complete: bool  # whether `texts` has every version of every rule that decided about the asset
    ordered: bool = True  # whether they decided in the order of time: not so where one was paused
    began: RuleStart | None = None  # of the rule, where its first window is not known; None: with the start block
    trust_carried: bool = False  # what earlier windows left is taken from the record
    earlier: Records | None = None  # of the same rule and others, by rule and start of the window

    @property
    def told(self) -> Any:
        return json.loads(self.artifact)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it. `difference`: (path, made again, recorded), the first by path; None where all is equal."""

    claim: Claim
    logs: int
    windows: int  # that were decided again, of all rules
    difference: tuple[str, Any, Any] | None
    trusted: tuple[str, ...]  # what was taken from the record
    hints: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return self.difference is None


# ── The claim ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def stored_claim(database: Database, decision_id: bytes) -> Claim:
    """The claim of a decision in the database. Raises ConfigError where the stored bytes are not what the id names."""
    async with database.snapshot() as transaction:
        decision = (await transaction.stories.facts(decision_id)).decision
        if hashlib.sha256(decision.artifact).digest() != decision_id:
            raise ConfigError(
                f"the stored record of decision 0x{decision_id.hex()} has another hash than its id",
                where="ID",
                mend="somebody has changed it; give the true one with --artifact",
            )
        texts = await transaction.decisions.texts(decision.chain, AssetId(decision.asset), decision.window_end)
        paused = await transaction.decisions.were_paused(decision.chain)

    async def earlier(rule: str, window_start: int) -> bytes | None:
        async with database.snapshot() as transaction:
            return await transaction.decisions.artifact(decision.chain, rule, window_start)

    ordered = paused.isdisjoint(text.rule for text in texts)
    return Claim(decision.artifact, texts, complete=True, ordered=ordered, earlier=earlier)


def file_claim(artifact: bytes, body: str, *, since: int | None, trust_carried: bool, where: str) -> Claim:
    """The claim of an artifact alone, with the rule's text. Raises ConfigError where they do not belong together."""
    told = check_artifact(artifact, where)
    named = told["rule"]["sha256"]
    found = hashlib.sha256(body.encode()).hexdigest()
    if found != named:
        raise ConfigError(
            f"has the sha256 {found[:16]}…, the record names {named[:16]}…",
            where="--rule",
            mend=f"give the text of {told['rule']['name']} version {told['rule']['version']}, unchanged to the byte",
        )
    text = RuleText(told["rule"]["name"], told["rule"]["version"], body, 0, artifact)
    began = None if since is None else RuleStart(told["blocks"]["start"], since, {})
    return Claim(artifact, [text], complete=False, began=began, trust_carried=trust_carried)


def check_artifact(artifact: bytes, where: str) -> Any:
    """The record as JSON. Raises ConfigError where it is none."""
    try:
        told = json.loads(artifact)
        assert isinstance(told["rule"]["sha256"], str)
        assert isinstance(told["rule"]["version"], int)
        assert all(isinstance(told["blocks"][key], int) for key in ("start", "first", "last", "timestamp"))
        assert all(isinstance(told["window"][key], int) for key in ("start", "end"))
        assert all(isinstance(told[key], dict) for key in ("contracts", "inputs", "carried_in"))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise ConfigError(
            "is no record of a decision",
            where=where,
            mend="give the canonical JSON of one decision, for example a line of decisions.json without its comma",
        ) from None
    return told


def _binding(told: Any, plan: Plan) -> Binding:
    """What the rule's names stand for, as the record says."""
    return Binding(
        reference=told["chain"],
        asset=AssetId(told["asset"]),
        token=_address(told["token"]),
        contracts={name: _address(address) for name, address in told["contracts"].items()},
        tokens={name: _token(told["inputs"], plan, name) for name in sorted(plan.tokens())},
        never_paid=frozenset(_address(account) for account in told["never_paid"]),
    )


def _token(inputs: Any, plan: Plan, name: str) -> Token:
    """What a token's name stands for: the record says it where an input reads something of it."""
    for key, source in plan.rule.inputs.items():
        match source:
            case Balance(_, token) if token == name:
                asset = AssetId(inputs[key]["of"])
                return Token(asset, _address(asset.rpartition(":")[2]))
            case Read(_, _, _, arguments) if name in arguments:
                address = inputs[key]["read"]["arguments"][arguments.index(name)]
                return Token(AssetId(f"erc20:{address}"), _address(address))
    raise KeyError(name)


def _address(text: str) -> Address:
    return parse_address(text)


# ── Making it again ─────────────────────────────────────────────────────────────────────────────────────────────────
async def verify(
    claim: Claim,
    *,
    chain: ChainReader,
    history: History,
    prices: PriceSources,
    final: Block,
) -> Answer:
    """Of `prices` only the feeds are asked: markets answer as they did for the record.

    Raises ConfigError where the chain is another one or its nodes lack old states, ChainUnavailable where the window is
    not final there, HoldError where the chain is not as the rule declares it.
    """
    told = claim.told
    if told["chain"] != chain.reference:
        raise ConfigError(
            f"the node serves {chain.reference}, the decision is of {told['chain']}",
            where="--rpc",
            mend="name a node of that chain",
        )
    first, last = told["blocks"]["start"], await _closing(chain, told["blocks"]["last"], final)
    (start,) = await chain.blocks([first])
    followers = _followers(claim, chain, start)
    believed = claim.trust_carried or _depends_on_order(claim, followers)
    if believed:
        _believe(_of(followers, told), told)
    reads = partial(_read, claim, chain=chain, prices=prices)
    replay = Replay(followers, chain, start, reads=reads)
    windows = 0
    async with contextlib.aclosing(history.ranges(first, last, _filters(followers))) as ranges:
        async for added in ranges:
            try:
                async with contextlib.aclosing(replay.feed(added)) as steps:
                    async for step in steps:
                        windows += 1
                        if _is_meant(step, told):
                            return _answer(claim, step, replay.logs, windows, believed=believed)
            except StateUnavailable as error:
                raise ConfigError(
                    f"{error}, which a rule reads: the nodes keep newer states only",
                    where="--rpc",
                    mend="use an archive node",
                ) from None
    window = Window(told["window"]["start"], told["window"]["end"])
    return Answer(
        claim, replay.logs, windows, ("window", "no such window", dataclasses.asdict(window)), (), _hints(claim)
    )


async def _closing(chain: ChainReader, last: int, final: Block) -> int:
    """The number of a block after `last`, which closes the window; near it, where a chain skips numbers.

    Raises ChainUnavailable where there is none yet.
    """
    distance = 1
    while last + distance <= final.number:
        (block,) = await chain.blocks([last + distance])
        if block.number > last:
            return block.number
        distance *= 2
    if final.number > last:
        return final.number
    raise ChainUnavailable(f"block {last + 1} is not final for the node, which is at {final.number}")


def _followers(claim: Claim, chain: ChainReader, start: Block) -> list[Follower]:
    """Of every rule: its versions from their first windows on, or since `claim.began`."""
    by_rule = groupby(sorted(claim.texts, key=lambda each: (each.rule, each.version)), key=lambda each: each.rule)
    followers = []
    for _, found in by_rule:
        texts = list(found)
        versions = [_bound(text, chain, first=text is texts[0]) for text in texts]
        if claim.complete:
            followers.append(Follower.of(versions, start, first=texts[0].window_start))
        else:
            followers.append(Follower.of(versions, start, began=claim.began))
    return followers


def _bound(text: RuleText, chain: ChainReader, *, first: bool) -> BoundRule:
    plan = parse_rule(text.body, name=f"rule {text.rule}, version {text.version}")
    decoders = {source: chain.decoder(event.declaration) for source, event in plan.rule.events.items()}
    try:
        told = json.loads(text.artifact)
        binding = _binding(told, plan)
    except (LookupError, TypeError, ValueError):
        raise ConfigError(
            f"the record does not say what the names of {text.rule} version {text.version} stand for",
            where="--artifact",
            mend="give the record that belongs to the text",
        ) from None
    return BoundRule(plan, binding, decoders, from_block=0 if first else told["blocks"]["first"])


def _filters(followers: Sequence[Follower]) -> Sequence[LogFilter]:
    return log_filters([rule for each in followers for rule in each.versions])


async def _read(
    claim: Claim, rule: BoundRule, window: Window, at: Block, *, chain: ChainReader, prices: PriceSources
) -> dict[str, Reading]:
    """What is read for a window: markets cannot be asked again, so they say what they said for its record."""
    told: Any = None
    found: dict[str, Reading] = {}
    for name, source in rule.plan.rule.inputs.items():
        sources = prices
        if _asks_a_market(source):
            told = told or await _record_of(claim, rule, window)
            sources = dataclasses.replace(prices, markets=markets_on_record(told["inputs"][name]))
        reading = await read_input(chain, rule.binding, source, at, sources)
        if reading is not None:
            found[name] = reading
    return found


def _asks_a_market(source: Input) -> bool:
    return isinstance(source, PriceInput) and any(each.http is not None for each in source.sources())


async def _record_of(claim: Claim, rule: BoundRule, window: Window) -> Any:
    """The record of a window whose prices are needed. Raises ConfigError where it is not at hand."""
    told = claim.told
    if (rule.name, window.start) == (told["rule"]["name"], told["window"]["start"]):
        return told
    record = None if claim.earlier is None else await claim.earlier(rule.name, window.start)
    if record is None:
        raise ConfigError(
            f"what markets said for the window from {window.start} on stands in its own record only",
            where="--artifact",
            mend="verify it by its ID, with the database; or believe what earlier windows left: --trust-carried",
        )
    return json.loads(record)


def _is_meant(step: Step, told: Any) -> bool:
    meant: bool = (step.rule.name, step.decision.window.end) == (told["rule"]["name"], told["window"]["end"])
    return meant


def _answer(claim: Claim, step: Step, logs: int, windows: int, *, believed: bool) -> Answer:
    decision, closing, told = step.decision, step.before, claim.told
    trusted = [f"what earlier windows left: {', '.join(_LEFT)}"] if believed else []
    trusted += [
        f"{name}: what a market said, which no node knows"
        for name, source in step.rule.plan.rule.inputs.items()
        if _asks_a_market(source)
    ]
    owed = _recorded_owed(step, told)
    if not (claim.complete and claim.ordered) and owed is not None and owed != closing.owed:
        closing = dataclasses.replace(closing, owed=owed)
        decision, _ = conclude(step.rule.plan, step.rule.binding, closing)
        why = "a rule was paused meanwhile" if claim.complete else "the others' texts are not at hand"
        trusted.append(f"owed ({owed}): what all rules of the asset owe, for {why}")
    return Answer(claim, logs, windows, _difference(decision, claim), tuple(trusted), _hints(claim))


_LEFT = ("carried_in", "last_paid_end", "paid_before", "counted_from", "marks")


def _depends_on_order(claim: Claim, followers: Sequence[Follower]) -> bool:
    """Whether what other rules owed decided something that a replay in the order of time does not come to."""
    inputs = _of(followers, claim.told).rule.plan.rule.inputs.values()
    return not claim.ordered and any(isinstance(source, Committed) for source in inputs)


def _of(followers: Sequence[Follower], told: Any) -> Follower:
    """The rule that the record is of."""
    return next(each for each in followers if each.rule.name == told["rule"]["name"])


def _believe(follower: Follower, told: Any) -> None:
    """Set the rule at the window that the record is of, with what it says that earlier ones left. Raises ConfigError
    where a record cannot say all of it."""
    memory, inputs = follower.memory, told["inputs"]
    follower.rule = [rule for rule in follower.versions if rule.from_block <= told["blocks"]["first"]][-1]
    memory.plan, memory.binding = follower.rule.plan, follower.rule.binding
    for name, source in memory.plan.rule.inputs.items():
        if isinstance(source, Sums):
            raise ConfigError(
                f"what each actor of `{name}` still owes from earlier windows stands in no record",
                where="--trust-carried",
                mend="leave it out: all windows are made again then",
            )
    memory.start, memory.end = told["window"]["start"], told["window"]["end"]
    memory.first_block, memory.counted_from = told["blocks"]["first"], told["counted_from"]
    memory.carried, memory.last_paid_end = _carried(told), told["last_paid_end"]
    memory.paid = int(told["paid_before"])
    for name in memory.plan.marks:
        memory.states[name, SCALAR] = State(int(inputs[name]["value"]), 0, told["window"]["start"])


def _carried(told: Any) -> dict[Address, int]:
    by = told["carried_in"]["by"]
    return {POOL if account == "pool" else _address(account): int(amount) for account, amount in by.items()}


def _recorded_owed(step: Step, told: Any) -> int | None:
    """What the record says that all rules owe; None where the rule does not ask."""
    for name, source in step.rule.plan.rule.inputs.items():
        if isinstance(source, Committed) and "owed" in told["inputs"].get(name, {}):
            return int(told["inputs"][name]["owed"])
    return None


def _difference(decision: Decision, claim: Claim) -> tuple[str, Any, Any] | None:
    if decision.artifact == claim.artifact:
        return None
    found = next(_compare(json.loads(decision.artifact), claim.told), None)
    return found or ("", "canonical JSON", "the same JSON, written otherwise")


def _compare(made: Any, recorded: Any) -> Iterator[tuple[str, Any, Any]]:
    yield from compare(made, recorded, "")


def _hints(claim: Claim) -> tuple[str, ...]:
    """What may have been left out, where only a file was given."""
    if claim.complete or claim.trust_carried:
        return ()
    return (
        "if the rule began later than its chain's start block, say when with --since",
        "if earlier windows were decided by another version, believe what they left: --trust-carried",
    )
