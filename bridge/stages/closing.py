"""What becomes of a rule when logs come and when its window closes: the only calls of advance, measure and decide.

    states, events ───────────────count──► changed states, sources
    states, sources, reads, what earlier windows left ──close──► decision

Pure but for the reads, which are pinned to a block. So the stage, which keeps states in the database, and a replay,
which keeps them in memory, cannot come to different decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.domain.accumulators import Key, Source, State, Touch, advance, count_sources, touches
from bridge.domain.decisions import Decision, Facts, decide, measure
from bridge.domain.errors import HoldError
from bridge.domain.events import Block, Event
from bridge.domain.rules import Balance, Binding, Plan, Read, Window
from bridge.domain.units import Address, BlockStamp
from bridge.ports import ChainReader


@dataclass(frozen=True, slots=True)
class Counted:
    """What some events of a window change."""

    changed: Mapping[Key, State]
    sources: Mapping[str, Source]  # of the window so far


@dataclass(frozen=True, slots=True)
class Closing:
    """A window of which everything is counted, and what the decision rests on besides."""

    window: Window
    start_block: int  # the first that is read at all
    first_block: int  # of the window
    block: Block  # of the window, the last
    states: Mapping[Key, State]
    sources: Mapping[str, Source]
    reads: Mapping[str, int]
    owed: int  # decided or carried in the asset, by whatever rule
    carried: Mapping[Address, int]
    last_paid_end: int | None


def count(
    plan: Plan, window: Window, events: Sequence[Event], states: Mapping[Key, State], sources: Mapping[str, Source]
) -> Counted:
    """`events` are selected and in the order of the chain. Raises HoldError where one cannot be counted."""
    moved = [touch for event in events for touch in _touches(plan, event)]
    return Counted(advance(plan, window, moved, states), count_sources(window, events, sources))


def close(plan: Plan, binding: Binding, closing: Closing) -> Decision:
    inputs = measure(plan, closing.window, closing.states, closing.reads, closing.owed)
    facts = Facts(
        closing.start_block,
        closing.first_block,
        closing.block,
        inputs,
        closing.sources,
        closing.last_paid_end,
    )
    return decide(plan, binding, closing.window, facts, closing.carried)


async def read_inputs(chain: ChainReader, plan: Plan, binding: Binding, at: BlockStamp) -> dict[str, int]:
    """Every input that is read from the chain, at block `at` by hash."""
    reads: dict[str, int] = {}
    for name, source in plan.rule.inputs.items():
        match source:
            case Balance(contract):
                reads[name] = await chain.balance(binding.contracts[contract], binding.asset, at)
            case Read(contract, function):
                reads[name] = await chain.read_uint(binding.contracts[contract], function, at)
            case _:
                pass
    return reads


def _touches(plan: Plan, event: Event) -> Iterator[Touch]:
    try:
        yield from touches(plan, event)
    except ArithmeticError as error:
        raise HoldError(
            f"rule {plan.rule.name}: log {event.log.log_index} of block {event.log.block} cannot be counted: {error}; "
            f"correct the formulas over the event `{event.source}` and raise the version"
        ) from None
