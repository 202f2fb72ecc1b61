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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bridge.domain.accumulators import SCALAR, Key, Source, State
from bridge.domain.batches import keys_of
from bridge.domain.decisions import Decision
from bridge.domain.errors import ConfigError, LeaseLost
from bridge.domain.events import Block
from bridge.domain.plans import Plan
from bridge.domain.rules import Balances, RuleStart, TimeWeighted
from bridge.domain.units import Address, BlockStamp, format_address
from bridge.ports.database import Database, Transaction
from bridge.ports.reading import ChainReader
from bridge.ports.running import Lease
from bridge.runtime.crashpoints import CrashPoint, reach
from bridge.runtime.rulefile import parse_rule
from bridge.stages.binding import BoundRule, versions_of
from bridge.stages.closing import Closing, conclude, count_found, find, read_inputs
from bridge.stages.prices import PriceSources
from bridge.stages.schedule import Due, Schedule, columns_of, scope

LOGS_MAX = 10_000  # logs of one step; the last block's logs may pass it


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
        prices: PriceSources | None = None,
        logs_max: int = LOGS_MAX,
    ) -> None:
        """`always_read`: contracts whose logs are read whatever the rules are; `prices`: for rules that ask for any."""
        self._database = database
        self._chain = chain
        self._rules = rules
        self._lease = lease
        self._always_read = frozenset(always_read)
        self._prices = prices
        self._logs_max = logs_max
        self._schedule: Schedule | None = None  # once the rules are saved
        self._start = -1  # the first block that is read; set with it

    async def step(self) -> bool:
        """Raises ConfigError where a rule's text changed under its version, LeaseLost where another instance decided
        meanwhile, RetryableError and HoldError as below."""
        async with self._database.snapshot() as transaction:
            head = await transaction.events.finalized(self._chain.name)
        if head is None:
            return False
        schedule = self._schedule or await self._begin(head)
        due = await schedule.next(head)
        if due is None:
            return False
        last = await schedule.last_block(due.window.end, head)
        async with self._database.snapshot() as transaction:
            await self._check_still_due(transaction, due)
            progress = await self._advance(transaction, due, last)
        if progress.through.number < last.number:
            await self._commit(due, progress, None)
            return True
        decision, closed = await self._decide(due, progress, last)
        await self._commit(due, replace(progress, changed={**progress.changed, **closed}), decision)
        schedule.decided(due)
        return True

    async def _decide(self, due: Due, progress: _Progress, last: Block) -> tuple[Decision, Mapping[Key, State]]:
        """Everything of the window is counted: read what the rule reads, and decide. With the states that change
        because the window ends."""
        chain, rule = self._chain.name, due.rule
        async with self._database.snapshot() as transaction:
            await self._check_still_due(transaction, due)
            known = await transaction.decisions.accumulators(chain, rule.name)
            owed = await transaction.decisions.owed(chain, rule.binding.asset)
            carried = await transaction.decisions.carries(chain, rule.name, rule.binding.asset)
            last_paid_end = await transaction.decisions.last_paid_end(chain, rule.name)
            limited = rule.plan.rule.guardrails.cap_total is not None
            paid_before = await transaction.decisions.paid(chain, rule.name) if limited else 0
        closing = Closing(
            window=due.window,
            counted_from=due.span.start,
            start_block=self._start,
            first_block=due.place.first,
            block=last,
            states={**known, **progress.changed},
            sources=progress.sources,
            reads=await read_inputs(self._chain, rule.plan, rule.binding, last, self._prices),
            owed=owed,
            carried=carried,
            last_paid_end=last_paid_end,
            paid=paid_before,
        )
        return conclude(rule.plan, rule.binding, closing)

    async def _begin(self, head: Block) -> Schedule:
        """Save the rules as they are now, and find the block that everything starts from.

          start_block          head when a rule was added
        ────●────────────────────●──────────┼──────────────┼────►
            └ rules of the first day        └ its first window: nothing is decided about what was not read for it
        """
        chain = self._chain.name
        async with self._database.snapshot() as transaction:
            start_block = (await transaction.events.cursor(chain)).start_block
            stored = await transaction.events.block(chain, start_block)
        start = stored or await self._block(start_block)
        async with self._database.begin(self._lease) as transaction:
            starts = await transaction.decisions.starts(chain)
            first_day = RuleStart(start.number, start.timestamp, {})
            if "" not in starts:
                await transaction.decisions.save_start(chain, "", first_day)
            for name in sorted(starts.keys() - {"", *(rule.name for rule in self._rules)}):
                if starts[name].stopped_at is None:
                    await transaction.decisions.stop(chain, name, head.number)
            for name, versions in versions_of(self._rules).items():
                same = await self._save_versions(transaction, versions)
                rule, began = versions[-1], starts.get(name)
                if began is not None:
                    _check_goes_on(rule, began, same_version=same)
                elif "" in starts:
                    began = RuleStart(head.number + 1, head.timestamp + 1, {})
                    self._check_read_before(rule, began, starts)
                began = replace(began or first_day, contracts=_addresses(rule))
                await transaction.decisions.save_start(chain, name, began)
            starts = await transaction.decisions.starts(chain)
        self._start = start.number
        self._schedule = Schedule(
            database=self._database,
            chain=self._chain,
            stage=self.name,
            rules=self._rules,
            start=start,
            starts=starts,
        )
        return self._schedule

    async def _save_versions(self, transaction: Transaction, versions: Sequence[BoundRule]) -> bool:
        """Whether the newest was there already."""
        newest = versions[-1].plan.rule
        before = await transaction.decisions.newest_rule(self._chain.name, newest.name)
        for rule in versions:
            await transaction.decisions.save_rule(self._chain.name, rule.plan.rule)
        if before is not None and before[0] > newest.version:
            raise ConfigError(
                f"version {newest.version} was superseded by version {before[0]}",
                where=f"rule {newest.name}",
                mend=f"to go back, give the old text version {before[0] + 1}",
            )
        for older, newer in pairwise(versions):
            _check_successor(newer.plan, older.plan.rule.version, older.plan.rule.body)
        same = before is None or before[0] == newest.version
        if before is not None and not same:
            _check_successor(versions[-1].plan, *before)
        return same

    async def _block(self, number: int) -> Block:
        [block] = await self._chain.blocks([number])
        if block.number != number:
            raise ConfigError(
                f"{self._chain.name} has no block {number}: the one before is {block.number}",
                where=f"[chains.{self._chain.name}] start_block",
                mend=f"set start_block = {block.number}, or to a later block that there is",
            )
        return block

    def _check_read_before(self, late: BoundRule, began: RuleStart, starts: Mapping[str, RuleStart]) -> None:
        """What a late rule remembers from before its first window must have been read for another rule all along."""
        first_day = starts[""].block_number
        watched = {
            place
            for rule in self._rules
            if rule.name in starts and starts[rule.name].block_number == first_day  # and never stopped since
            for place in rule.places(rule.decoders)
        }
        _, _, remembered, _ = late.plan.remembers()
        for name in sorted(remembered):
            unread = [
                place for place in late.places([name]) if place[0] not in self._always_read and place not in watched
            ]
            if unread:
                raise ConfigError(
                    f"its event `{name}` was not read before block {began.block_number}, so what accounts held then is "
                    "not known",
                    where=f"rule {late.name}",
                    mend="start a new database with this rule in it from the beginning",
                )

    async def _check_still_due(self, transaction: Transaction, due: Due) -> None:
        """Raises LeaseLost where somebody has counted on meanwhile: this process stood still, and what it reads now
        does not belong to the window that it is at. Nothing of that could be committed; it cannot be computed either.
        """
        assert self._schedule is not None
        if await self._schedule.place(transaction, due.rule.name) != due.place:
            raise LeaseLost(self._lease.name)

    async def _advance(self, transaction: Transaction, due: Due, last: Block) -> _Progress:
        """The rule after the next logs, at most up to `last`."""
        name, plan, chain = due.rule.name, due.rule.plan, self._chain.name
        first, kinds = due.place.cursor + 1, due.rule.decoders
        timed = await columns_of(
            transaction, chain, due.rule, kinds, first=first, last=last.number, limit=self._logs_max
        )
        through = BlockStamp(chain, last.number, last.hash)
        if timed.logs.count >= self._logs_max:
            through = BlockStamp(chain, timed.logs.number(-1), timed.logs.block_hashes[-32:])
        made = due.rule.made(timed.logs)
        before = await transaction.decisions.accumulators(chain, name, made) if made else {}
        found = find(due.rule, timed, chain, before)
        counting = {name for name, each in plan.rule.inputs.items() if isinstance(each, (TimeWeighted, Balances))}
        keys = keys_of(found.moved) | {(table, SCALAR) for table in counting}
        known = await transaction.decisions.accumulators(chain, name, keys)
        counted = await transaction.decisions.sources(chain, name, due.span)
        after = count_found(plan, due.span, found, known, counted)
        return _Progress(through, after.changed, after.sources)

    async def _commit(self, due: Due, progress: _Progress, decision: Decision | None) -> None:
        chain, name = self._chain.name, due.rule.name
        async with self._database.begin(self._lease) as transaction:
            await transaction.decisions.save_accumulators(chain, name, progress.changed)
            await transaction.decisions.save_sources(chain, name, due.span, progress.sources)
            if decision is not None:
                await transaction.decisions.add(chain, decision)
            await transaction.chains.move_cursor(self.name, scope(chain, name), progress.through)
        if decision is not None:
            reach(CrashPoint.DECISION_SAVED)


def _check_successor(plan: Plan, version: int, body: str) -> None:
    """Raises ConfigError where the newer version cannot go on with what the older one remembers."""
    rule = plan.rule
    try:
        older = parse_rule(body, name=f"rule {rule.name}, version {version} as it was saved").remembers()
    except ConfigError as error:
        raise ConfigError(
            f"version {version}, as it was saved, is not in the language of this bridge any more, so what it counted "
            f"cannot be taken over: {error}",
            where=f"rule {rule.name}",
            mend="give the rule a new name: it then begins anew, with its first window after now",
        ) from None
    if plan.remembers() != older:
        raise ConfigError(
            f"version {rule.version} has another asset, or other events, formulas or parameters behind an input that "
            f"lives on from window to window, than version {version}: what was counted so far would be wrong for it",
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
    remembered = rule.plan.remembered_contracts()
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
