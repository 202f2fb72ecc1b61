"""What becomes of a rule when logs come and when its window closes: the only calls of advance, measure, decide, close.

    logs ──find──► what they do ──count──► changed states, sources
    states, sources, reads, what earlier windows left ──conclude──► decision, changed states

Pure but for the reads, which are pinned to a block. A stage that keeps states in the database and a replay that keeps
them in memory cannot come to different decisions by this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.domain.accumulators import Key, Source, State, Touch, advance, count_sources, touches
from bridge.domain.batches import Moves, advance_columns, count_source_columns, moves_of
from bridge.domain.decisions import Decision, close, decide
from bridge.domain.errors import HoldError
from bridge.domain.events import Block, Event, EventColumns, TimedLogs, unpack_logs
from bridge.domain.measurements import Facts, measure
from bridge.domain.plans import Plan
from bridge.domain.prices import PriceInput
from bridge.domain.readings import Reading
from bridge.domain.rules import Balance, Binding, Input, Read
from bridge.domain.units import Address, BlockStamp
from bridge.domain.windows import Window
from bridge.ports.reading import ChainReader
from bridge.stages.binding import BoundRule
from bridge.stages.prices import PriceSources, read_price


@dataclass(frozen=True, slots=True)
class Counted:
    """What some logs change."""

    changed: Mapping[Key, State]
    sources: Mapping[str, Source]  # of the window so far


@dataclass(frozen=True, slots=True)
class Found:
    """What logs are to a rule, and what they do to its inputs."""

    logs: TimedLogs
    selected: Mapping[str, EventColumns]  # by event
    moved: Mapping[str, Moves]  # by input

    @property
    def count(self) -> int:
        """Events, which are fewer than the logs where some concern others."""
        return sum(len(events.rows) for events in self.selected.values())


@dataclass(frozen=True, slots=True)
class Closing:
    """A window of which everything is counted, and what the decision rests on besides."""

    window: Window
    counted_from: int  # second: earlier than the window where the surplus of one before could not be determined
    start_block: int  # the first that is read at all
    first_block: int  # of the window
    block: Block  # of the window, the last
    states: Mapping[Key, State]
    sources: Mapping[str, Source]
    reads: Mapping[str, Reading]
    owed: int  # decided or carried in the asset, by whatever rule
    carried: Mapping[Address, int]
    last_paid_end: int | None
    paid: int  # all that the rule ever decided to pay


def find(rule: BoundRule, logs: TimedLogs, chain: str, states: Mapping[Key, State]) -> Found:
    """`states` has those of rule.made. Raises HoldError, naming the log, where one of them cannot be counted."""
    try:
        selected = rule.columns(logs, states)
        return Found(logs, selected, moves_of(rule.plan, selected, logs.times))
    except (ValueError, ArithmeticError):
        # Looked at one by one, they say which it is, and what is wrong with it.
        for log in unpack_logs(chain, logs):
            for event in rule.events(log):
                deque(_touches(rule.plan, event))
        raise


def count_found(
    plan: Plan, span: Window, found: Found, states: Mapping[Key, State], sources: Mapping[str, Source]
) -> Counted:
    """`span` is what is counted together, of which only the start is looked at. `states` must hold what advance asks
    for, of the keys of what moved."""
    changed = advance_columns(plan, span, found.moved, states)
    return Counted(changed, count_source_columns(span, found.selected, found.logs, sources))


def count(
    plan: Plan, span: Window, events: Sequence[Event], states: Mapping[Key, State], sources: Mapping[str, Source]
) -> Counted:
    """As count_found, of events that are objects: selected, and in the order of the chain."""
    moved = [touch for event in events for touch in _touches(plan, event)]
    return Counted(advance(plan, span, moved, states), count_sources(span, events, sources))


def conclude(plan: Plan, binding: Binding, closing: Closing) -> tuple[Decision, Mapping[Key, State]]:
    """The decision, and the states that change because the window ends."""
    span = Window(closing.counted_from, closing.window.end)
    facts = Facts(
        start_block=closing.start_block,
        first_block=closing.first_block,
        block=closing.block,
        counted_from=closing.counted_from,
        inputs=measure(plan, span, closing.states, closing.reads, closing.owed),
        sources=closing.sources,
        last_paid_end=closing.last_paid_end,
        paid_before=closing.paid if plan.rule.guardrails.cap_total is not None else 0,
    )
    decision = decide(plan, binding, closing.window, facts, closing.carried)
    return decision, close(plan, closing.window, facts, decision)


async def read_inputs(
    chain: ChainReader, plan: Plan, binding: Binding, at: Block, prices: PriceSources | None = None
) -> dict[str, Reading]:
    """Every input that is read from the chain, at block `at` by hash, and every price as of that block."""
    found = {name: await read_input(chain, binding, source, at, prices) for name, source in plan.rule.inputs.items()}
    return {name: reading for name, reading in found.items() if reading is not None}


async def read_input(
    chain: ChainReader, binding: Binding, source: Input, at: Block, prices: PriceSources | None
) -> Reading | None:
    """None for inputs that are counted and not read."""
    stamp = BlockStamp(chain.name, at.number, at.hash)
    match source:
        case Balance(contract, token):
            asset = binding.asset if token is None else binding.tokens[token].asset
            return Reading(await chain.balance(binding.contracts[contract], asset, stamp), {})
        case Read():
            return await _read(chain, binding, source, stamp)
        case PriceInput():
            assert prices is not None, "a rule asks for a price, and there are no sources"
            return await read_price(source, prices, binding.contracts, at)
        case _:
            return None


async def _read(chain: ChainReader, binding: Binding, source: Read, at: BlockStamp) -> Reading:
    """A contract that does not answer holds the decision; the next window asks again."""
    arguments = [one if isinstance(one, int) else binding.address(one) for one in source.arguments]
    answer = await chain.read_call(binding.contracts[source.contract], source.function, arguments, at)
    if answer is None:
        return Reading(0, {}, f"{source.contract} does not answer {source.function} at block {at.number}")
    return Reading(answer[0], {})


def _touches(plan: Plan, event: Event) -> Iterator[Touch]:
    try:
        yield from touches(plan, event)
    except ArithmeticError as error:
        raise HoldError(
            f"rule {plan.rule.name}: log {event.log.log_index} of block {event.log.block} cannot be counted: {error}; "
            f"correct the formulas over the event `{event.source}` and raise the version"
        ) from None
