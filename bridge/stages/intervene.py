"""A person's order ─► committed rows that the daemon's stages read; it need not run for that.

ID, batch ──find──► steps ──order──► held at once (hold), or an open order (release, bump, cancel)
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.domain.errors import ConfigError, RefusedError
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Action, ActionKind
from bridge.domain.states import ActionState
from bridge.ports.database import Database, Transaction

PREFIX_MIN = 6
"""Hex digits: fewer would name too much."""

_DIGITS = 64
_ENDED = (ActionState.FINAL, ActionState.VOID)


@dataclass(frozen=True, slots=True)
class Order:
    """What became of an order for one step: `refused` says why it was not taken."""

    step: Action
    refused: str | None


async def intervene(
    database: Database, kind: InterventionKind, asked: str, batch: int | None, *, reason: str, by: str
) -> list[Order]:
    """Order `kind` for the step that `asked` (and `batch`) names, or for every step of a distribution that is not over.

    Raises ConfigError where that names nothing or several things, RefusedError where there is nothing left to order.
    """
    if not reason.strip():
        raise ConfigError("is empty", where="--reason", mend="say why: it is kept with the transition")
    async with database.begin() as transaction:
        steps = await find_steps(transaction, asked, batch)
        open_steps = [step for step in steps if step.state not in _ENDED] if len(steps) > 1 else steps
        if not open_steps:
            raise RefusedError(f"{asked} is over: every step of it is final or void")
        return [
            Order(step, await transaction.interventions.order(step, kind, reason.strip(), by)) for step in open_steps
        ]


async def find_steps(transaction: Transaction, asked: str, batch: int | None = None) -> list[Action]:
    """The step with number `asked`, or the steps (or the one of `batch`) of the distribution that `asked` begins to
    name. Raises ConfigError where that is none, or not one."""
    numbered = await _numbered(transaction, asked) if batch is None else []
    steps = await _of_distribution(transaction, asked)
    distributions = sorted({step.distribution_id.hex() for step in steps})
    found = [*(f"step {step.action_id}" for step in numbered), *(f"distribution 0x{one}" for one in distributions)]
    if not found:
        raise ConfigError(
            f"no step and no distribution is known under {asked}",
            where="ID",
            mend=f"copy a step's number, or {PREFIX_MIN} digits or more of an id, from bridge payouts list --all",
        )
    if len(found) > 1:
        raise ConfigError(
            f"{asked} names several: {', '.join(found)}", where="ID", mend="give more digits; 0x… is never a number"
        )
    if batch is None:
        return numbered or steps
    chosen = [step for step in steps if step.kind is ActionKind.EXECUTE and step.batch_index == batch]
    if not chosen:
        last = max(step.ordinal for step in steps) - 1
        raise ConfigError(f"there is no batch {batch}", where="--batch", mend=f"its batches are 0 … {last}")
    return chosen


async def _numbered(transaction: Transaction, asked: str) -> list[Action]:
    if not asked.isascii() or not asked.isdecimal() or len(asked) > 18:
        return []
    try:
        return [await transaction.payouts.action(int(asked))]
    except RefusedError:
        return []


async def _of_distribution(transaction: Transaction, asked: str) -> list[Action]:
    digits = asked.strip().lower().removeprefix("0x")
    if not PREFIX_MIN <= len(digits) <= _DIGITS or set(digits) - set("0123456789abcdef"):
        return []
    low, high = (bytes.fromhex(digits.ljust(_DIGITS, fill)) for fill in "0f")
    return await transaction.payouts.steps(low, high)
