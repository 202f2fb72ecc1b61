"""Decide: finalized logs ─► accumulators ─► (window closed) pinned reads ─► decision, allocations, carries.

Over all rules of the chain the earliest closed window comes first, ties by rule name, so that what one rule decided is
committed before the next is asked. Each step advances one rule by a bounded number of logs, and decides its window once
all of them are counted:

      cursor                     B: last block with timestamp < end        a finalized block with timestamp ≥ end
    ────●─────── logs ───────────●─────────────────────────────────────────●──►
                                 └ every read is pinned to B               └ so the window is closed

What a step found is computed outside any transaction and committed with the cursor in one, under the stage's lease: no
one else writes these tables, so nothing can have changed in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.domain.accumulators import SCALAR, Key, Source, State, Touch, advance, count_sources, touches
from bridge.domain.decisions import Decision, Facts, decide, measure
from bridge.domain.errors import ChainDisagrees, ConfigError, HoldError, LeaseLost
from bridge.domain.events import Block, Event, Log
from bridge.domain.rules import (
    Balance,
    Binding,
    Plan,
    Read,
    Rule,
    RuleStart,
    TimeWeighted,
    Token,
    Window,
    first_window,
    fixed_recipients,
    window_after,
)
from bridge.domain.units import Address, BlockStamp, format_address
from bridge.ports import ChainReader, Database, EventDecoder, Lease, LogFilter, Transaction
from bridge.runtime.crashpoints import CrashPoint, reach
from bridge.runtime.rulefile import parse_rule

LOGS_MAX = 10_000  # logs of one step; the last block's logs may pass it
_OURS = ("vault", "distributor", "claims")
_ZERO = Address(bytes(20))
PROBES = 16  # block headers asked for at once when looking for the last block of a window


@dataclass(frozen=True, slots=True)
class BoundRule:
    """A rule on one chain: its names have addresses, its events have decoders."""

    plan: Plan
    binding: Binding
    decoders: Mapping[str, EventDecoder]  # by event

    @property
    def name(self) -> str:
        return self.plan.rule.name

    def events(self, log: Log) -> Iterator[Event]:
        """What `log` is to this rule; nothing where it concerns another, or where a `where` leaves it out.

        Raises HoldError where the contract's event is not as the rule declares it.
        """
        for source, decoder in self.decoders.items():
            contract = self.binding.contracts[self.plan.rule.events[source].contract]
            if log.address != contract or not log.topics or log.topics[0] != decoder.topic0:
                continue
            try:
                fields = decoder.decode(log)
            except ValueError as error:
                raise HoldError(
                    f"rule {self.name}: log {log.log_index} of block {log.block} is not as the event `{source}` is "
                    f"declared: {error}; correct the declaration (is `indexed` right?) and raise the version"
                ) from None
            if self.plan.selects(source, fields, self.binding):
                yield Event(source, log, fields)


def bind_rules(
    plans: Sequence[Plan], *, chain: ChainReader, contracts: Mapping[str, Address], tokens: Mapping[str, Token]
) -> tuple[BoundRule, ...]:
    """Raises ConfigError where a name is not configured, an event cannot be decoded, or two rules share a name."""
    bound: dict[str, BoundRule] = {}
    for plan in plans:
        rule = plan.rule
        where = f"rule {rule.name}"
        if rule.name in bound:
            raise ConfigError("two rules of this name", where=where, mend="keep one [[rules]] entry for each chain")
        missing = sorted(plan.contracts() - contracts.keys())
        if missing:
            mend = f"add it to [chains.{chain.name}.contracts]"
            raise ConfigError(f"there is no contract `{missing[0]}`", where=where, mend=mend)
        if rule.asset not in tokens:
            raise ConfigError(
                f"there is no token `{rule.asset}`", where=where, mend=f"add it to [chains.{chain.name}.tokens]"
            )
        token = tokens[rule.asset]
        binding = Binding(
            reference=chain.reference,
            asset=token.asset,
            token=token.address,
            contracts={name: contracts[name] for name in sorted(plan.contracts())},
            never_paid=frozenset({_ZERO, token.address, *(contracts[name] for name in _OURS if name in contracts)}),
        )
        _check_recipients(rule, binding)
        decoders = {source: chain.decoder(event.declaration) for source, event in rule.events.items()}
        bound[rule.name] = BoundRule(plan, binding, decoders)
    _check_shared_balances(list(bound.values()))
    return tuple(bound[name] for name in sorted(bound))


def _check_recipients(rule: Rule, binding: Binding) -> None:
    for recipient in fixed_recipients(rule.split):
        if recipient in binding.never_paid:
            raise ConfigError(
                f"{format_address(recipient)} cannot be a recipient: it is the token, or a contract of ours",
                where=f"rule {rule.name}: split",
                mend="name the account that is to have the money",
            )


def _check_shared_balances(rules: Sequence[BoundRule]) -> None:
    """A rule that reads a balance takes whatever no rule has decided yet, so all rules of its asset decide together.

    Raises ConfigError where their windows differ: what the other has earned and not yet decided would be paid twice.
    """
    for reader in rules:
        for other in rules:
            same_asset = reader.binding.asset == other.binding.asset and reader is not other
            if not (same_asset and reader.plan.reads_balance):
                continue
            if other.plan.reads_balance:
                raise ConfigError(
                    f"rules {reader.name} and {other.name} both pay out what the same balance of "
                    f"{reader.plan.rule.asset} holds",
                    where=f"rule {reader.name}: inputs",
                    mend="keep one of them for each asset",
                )
            if reader.plan.rule.window_s != other.plan.rule.window_s:
                raise ConfigError(
                    f"rules {reader.name} and {other.name} pay from the same balance of {reader.plan.rule.asset} in "
                    "windows of different length: what the one has earned the other would pay out first",
                    where=f"rule {reader.name}: window",
                    mend="give both the same window",
                )


def log_filters(rules: Sequence[BoundRule]) -> tuple[LogFilter, ...]:
    """What ingest must watch for these rules: one filter a contract."""
    topics: dict[Address, set[bytes]] = {}
    for rule in rules:
        for source, decoder in rule.decoders.items():
            contract = rule.binding.contracts[rule.plan.rule.events[source].contract]
            topics.setdefault(contract, set()).add(decoder.topic0)
    return tuple(LogFilter((contract,), (tuple(sorted(topics[contract])),)) for contract in sorted(topics))


async def source_logs(
    transaction: Transaction, rule: BoundRule, *, chain: str, first: int, last: int, window: Window
) -> dict[str, list[Log]]:
    """The logs behind a decision, by event: `blocks` and `window` are in its artifact, `rule` is what it names."""
    found: dict[str, list[Log]] = {source: [] for source in rule.decoders}
    for log in await _logs(transaction, rule, chain, first=first, last=last):
        if window.start <= log.timestamp < window.end:
            for event in rule.events(log):
                found[event.source].append(log)
    return found


@dataclass(frozen=True, slots=True)
class _Due:
    """The next window of a rule. Its logs are those of blocks `first` … its last block; `cursor` is done already."""

    rule: BoundRule
    window: Window
    first: int
    cursor: int


@dataclass(frozen=True, slots=True)
class _Progress:
    """A rule after some more logs."""

    through: BlockStamp
    changed: Mapping[Key, State]
    sources: Mapping[str, Source]


class Decide:
    """The stage. One instance serves one chain."""

    name = "decide"

    def __init__(
        self,
        *,
        database: Database,
        chain: ChainReader,
        rules: Sequence[BoundRule],
        lease: Lease,
        always_read: Collection[Address] = (),
        logs_max: int = LOGS_MAX,
    ) -> None:
        """`always_read`: contracts whose logs are read whatever the rules are."""
        self._database = database
        self._chain = chain
        self._rules = rules
        self._lease = lease
        self._always_read = frozenset(always_read)
        self._logs_max = logs_max
        self._start: Block | None = None  # the first block that is read; set once
        self._starts: Mapping[str, RuleStart] = {}  # by rule; set with it
        self._last_blocks: dict[int, Block] = {}  # window end → last block before it, for the windows under way

    async def step(self) -> bool:
        """Raises ConfigError where a rule's text changed under its version, LeaseLost where another instance decided
        meanwhile, RetryableError and HoldError as below."""
        async with self._database.snapshot() as transaction:
            head = await transaction.events.finalized(self._chain.name)
        if head is None:
            return False
        start = self._start or await self._begin(head)
        due = await self._next(start, head)
        if due is None:
            return False
        last = await self._last_block(due.window.end, start, head)
        async with self._database.snapshot() as transaction:
            await self._check_still_due(transaction, due)
            progress = await self._advance(transaction, due, last)
        decision = await self._decide(due, progress, last) if progress.through.number == last.number else None
        await self._commit(due, progress, decision)
        return True

    async def _decide(self, due: _Due, progress: _Progress, last: Block) -> Decision:
        """Everything of the window is counted: read what the rule reads, and decide."""
        chain, rule = self._chain.name, due.rule
        async with self._database.snapshot() as transaction:
            await self._check_still_due(transaction, due)
            known = await transaction.decisions.accumulators(chain, rule.name)
            owed = await transaction.decisions.owed(chain, rule.binding.asset)
            carried = await transaction.decisions.carries(chain, rule.name, rule.binding.asset)
            last_paid_end = await transaction.decisions.last_paid_end(chain, rule.name)
        reads = await self._reads(rule, progress.through)
        inputs = measure(rule.plan, due.window, {**known, **progress.changed}, reads, owed)
        assert self._start is not None
        facts = Facts(self._start.number, due.first, last, inputs, progress.sources, last_paid_end)
        return decide(rule.plan, rule.binding, due.window, facts, carried)

    async def _begin(self, head: Block) -> Block:
        """Save the rules as they are now, and find the block that everything starts from.

          start_block          head when a rule was added
        ────●────────────────────●──────────┼──────────────┼────►
            └ rules of the first day        └ its first window: nothing is decided about what was not read for it
        """
        chain = self._chain.name
        async with self._database.snapshot() as transaction:
            start_block = (await transaction.events.cursor(chain)).start_block
            stored = await transaction.events.block(chain, start_block)
        start = stored or (await self._blocks([start_block]))[0]
        async with self._database.begin(self._lease) as transaction:
            starts = await transaction.decisions.starts(chain)
            first_day = RuleStart(start.number, start.timestamp, {})
            if "" not in starts:
                await transaction.decisions.save_start(chain, "", first_day)
            for name in sorted(starts.keys() - {"", *(rule.name for rule in self._rules)}):
                if starts[name].stopped_at is None:
                    await transaction.decisions.stop(chain, name, head.number)
            for rule in self._rules:
                before = await transaction.decisions.newest_rule(rule.name)
                await transaction.decisions.save_rule(rule.plan.rule)
                same = before is None or before[0] == rule.plan.rule.version
                if before is not None and not same:
                    _check_successor(rule.plan, *before)
                began = starts.get(rule.name)
                if began is not None:
                    _check_goes_on(rule, began, same_version=same)
                elif "" in starts:
                    began = RuleStart(head.number + 1, head.timestamp + 1, {})
                    self._check_read_before(rule, began, starts)
                began = replace(began or first_day, contracts=_addresses(rule))
                await transaction.decisions.save_start(chain, rule.name, began)
            self._starts = await transaction.decisions.starts(chain)
        self._start = start
        return start

    def _check_read_before(self, late: BoundRule, began: RuleStart, starts: Mapping[str, RuleStart]) -> None:
        """What a late rule remembers from before its first window must have been read for another rule all along."""
        first_day = starts[""].block_number
        watched = {
            place
            for rule in self._rules
            if rule.name in starts and starts[rule.name].block_number == first_day  # and never stopped since
            for place in _places(rule, rule.decoders)
        }
        _, _, remembered = late.plan.remembers()
        for name in sorted(remembered):
            contract, topic = _places(late, [name])[0]
            if contract not in self._always_read and (contract, topic) not in watched:
                raise ConfigError(
                    f"its event `{name}` was not read before block {began.block_number}, so what accounts held then is "
                    "not known",
                    where=f"rule {late.name}",
                    mend="start a new database with this rule in it from the beginning",
                )

    async def _next(self, start: Block, head: Block) -> _Due | None:
        """Of every rule's next window, the earliest that is closed."""
        due: list[_Due] = []
        async with self._database.snapshot() as transaction:
            for rule in self._rules:
                following = await self._following(transaction, rule, start)
                if head.timestamp >= following.window.end:
                    due.append(following)
        # At the same moment, rules that read a balance come last: they must know what the others have earned from it.
        return min(due, key=lambda one: (one.window.end, one.rule.plan.reads_balance, one.rule.name), default=None)

    async def _following(self, transaction: Transaction, rule: BoundRule, start: Block) -> _Due:
        """The rule's next window, closed or not."""
        last = await transaction.decisions.last(self._chain.name, rule.name)
        if last is None:
            window, first = first_window(rule.plan.rule.window_s, self._starts[rule.name].since), start.number
        else:
            window, first = window_after(rule.plan.rule.window_s, last[0].end), last[1] + 1
        cursor = await transaction.chains.cursor(self.name, self._scope(rule))
        return _Due(rule, window, first, cursor[0] if cursor else start.number - 1)

    async def _check_still_due(self, transaction: Transaction, due: _Due) -> None:
        """Raises LeaseLost where somebody has counted on meanwhile: this process stood still, and what it reads now
        does not belong to the window that it is at. Nothing of that could be committed; it cannot be computed either.
        """
        assert self._start is not None
        if await self._following(transaction, due.rule, self._start) != due:
            raise LeaseLost(self._lease.name)

    async def _last_block(self, end: int, start: Block, head: Block) -> Block:
        """The last block with timestamp < `end`.

        Not every block is stored: where the next one is missing, the chain is asked. All lie below the finalized head,
        so every daemon finds the same block, however it caught up.
        """
        if end in self._last_blocks:
            return self._last_blocks[end]
        async with self._database.snapshot() as transaction:
            low = await transaction.events.finalized_before(self._chain.name, end) or start
            following = await transaction.events.block(self._chain.name, low.number + 1)
        high = following if following is not None and following.timestamp >= end else head
        while high.number - low.number > 1:
            step = max((high.number - low.number) // PROBES, 1)
            for block in await self._blocks(range(low.number + step, high.number, step)):
                if block.timestamp >= end:
                    high = block
                    break
                low = block
        assert low.timestamp < end <= high.timestamp
        self._last_blocks[end] = low
        return low

    async def _blocks(self, numbers: Sequence[int]) -> list[Block]:
        blocks = await self._chain.blocks(numbers)
        if [block.number for block in blocks] != list(numbers):
            raise ChainDisagrees(f"asked for blocks {numbers}, got {[block.number for block in blocks]}")
        return blocks

    async def _advance(self, transaction: Transaction, due: _Due, last: Block) -> _Progress:
        """The rule after the next logs, at most up to `last`."""
        name, plan, chain = due.rule.name, due.rule.plan, self._chain.name
        logs = await _logs(transaction, due.rule, chain, first=due.cursor + 1, last=last.number, limit=self._logs_max)
        through = logs[-1].block if len(logs) >= self._logs_max else BlockStamp(chain, last.number, last.hash)
        events = [event for log in logs for event in due.rule.events(log)]
        moved = [touch for event in events for touch in _touches(due.rule, event)]
        keys = {touch.key for touch in moved}
        keys |= {(table, SCALAR) for table, each in plan.rule.inputs.items() if isinstance(each, TimeWeighted)}
        known = await transaction.decisions.accumulators(chain, name, keys)
        counted = await transaction.decisions.sources(chain, name, due.window)
        changed = advance(plan, due.window, moved, known)
        return _Progress(through, changed, count_sources(due.window, events, counted))

    async def _reads(self, rule: BoundRule, at: BlockStamp) -> dict[str, int]:
        """Every input that is read from the chain, at block `at` by hash."""
        reads: dict[str, int] = {}
        for name, source in rule.plan.rule.inputs.items():
            match source:
                case Balance(contract):
                    account = rule.binding.contracts[contract]
                    reads[name] = await self._chain.balance(account, rule.binding.asset, at)
                case Read(contract, function):
                    reads[name] = await self._chain.read_uint(rule.binding.contracts[contract], function, at)
                case _:
                    pass
        return reads

    async def _commit(self, due: _Due, progress: _Progress, decision: Decision | None) -> None:
        chain, name = self._chain.name, due.rule.name
        async with self._database.begin(self._lease) as transaction:
            await transaction.decisions.save_accumulators(chain, name, progress.changed)
            await transaction.decisions.save_sources(chain, name, due.window, progress.sources)
            if decision is not None:
                await transaction.decisions.add(chain, decision)
            await transaction.chains.move_cursor(self.name, self._scope(due.rule), progress.through)
        if decision is not None:
            reach(CrashPoint.DECISION_SAVED)
            self._last_blocks.pop(due.window.end, None)

    def _scope(self, rule: BoundRule) -> str:
        return f"{self._chain.name}/{rule.name}"


def _check_successor(plan: Plan, version: int, body: str) -> None:
    """Raises ConfigError where the newer version cannot go on with what the older one remembers."""
    rule = plan.rule
    older = parse_rule(body, name=f"rule {rule.name}, version {version} as it was saved")
    if plan.remembers() != older.remembers():
        raise ConfigError(
            f"version {rule.version} has another asset, or other events or formulas behind a time_weighted or "
            f"committed input, than version {version}: what was counted so far would be wrong for it",
            where=f"rule {rule.name}",
            mend="give the rule a new name; limits, split, surplus, sums and window may change under the old one",
        )


def _check_goes_on(rule: BoundRule, began: RuleStart, *, same_version: bool) -> None:
    """Raises ConfigError where a name stands for another contract than was counted from, or the rule was taken out."""
    if began.stopped_at is not None:
        raise ConfigError(
            f"it was taken out after block {began.stopped_at}, and its events since then were not read for it",
            where=f"rule {rule.name}",
            mend="give it a new name: it then begins anew, with its first window after now",
        )
    remembered = {event.contract for event in rule.plan.remembers()[2].values()}
    for name, address in _addresses(rule).items():
        known = began.contracts.get(name, address)
        if address != known and (same_version or name in remembered):
            mend = "give the rule a new name" if name in remembered else "raise the rule's version"
            raise ConfigError(
                f"contract `{name}` is {address}, but the rule has counted from {known}",
                where=f"rule {rule.name}",
                mend=f"set it back, or {mend}: each decision names the contracts that it rests on",
            )


def _addresses(rule: BoundRule) -> dict[str, str]:
    return {name: format_address(address) for name, address in rule.binding.contracts.items()}


def _places(rule: BoundRule, events: Iterable[str]) -> list[tuple[Address, bytes]]:
    """Contract and topic of each of the rule's `events`."""
    declared = rule.plan.rule.events
    return [(rule.binding.contracts[declared[name].contract], rule.decoders[name].topic0) for name in events]


def _touches(rule: BoundRule, event: Event) -> Iterator[Touch]:
    try:
        yield from touches(rule.plan, event)
    except ArithmeticError as error:
        raise HoldError(
            f"rule {rule.name}: log {event.log.log_index} of block {event.log.block} cannot be counted: {error}; "
            f"correct the formulas over the event `{event.source}` and raise the version"
        ) from None


async def _logs(
    transaction: Transaction, rule: BoundRule, chain: str, *, first: int, last: int, limit: int | None = None
) -> list[Log]:
    """Finalized logs that may concern the rule: by contract and by event, each a superset of what it selects."""
    filters = log_filters([rule])
    if not filters or first > last:
        return []
    return await transaction.events.logs(
        chain,
        first,
        last,
        addresses=[address for each in filters for address in each.addresses],
        topic0s=sorted({topic for each in filters for topic in each.topics[0] or ()}),
        limit=limit,
    )
