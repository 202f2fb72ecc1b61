"""bridge payouts list, show, hold, release, bump, cancel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.app import DEFAULT_CONFIG, EXIT_NO, ConfigPath, app, print_json, run
from bridge.cli.person import user
from bridge.compose.database import open_database
from bridge.domain.interventions import InterventionKind
from bridge.domain.payouts import Action, ActionKind, Leg
from bridge.domain.stories import SignedAttempt
from bridge.domain.stories import Step as Told
from bridge.domain.units import format_tx, hexed
from bridge.runtime.config import load_config
from bridge.stages.intervene import Order, find_steps, intervene
from bridge.store.interventions import Ordered
from bridge.store.payouts import Step, Summary

payouts = typer.Typer(
    name="payouts",
    help="What is being paid, step by step; and what a person can do about a step.",
    no_args_is_help=True,
)
app.add_typer(payouts)

StepId = Annotated[str, typer.Argument(metavar="ID", help="A step's number, or the first digits of a distribution.")]
BatchIndex = Annotated[int | None, typer.Option("--batch", metavar="N", min=0, help="Only this batch of it.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the transition, with your user name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@payouts.command("list")
def list_payouts(
    config: ConfigPath = DEFAULT_CONFIG,
    everything: Annotated[bool, typer.Option("--all", help="Also what is final or void.")] = False,
    as_json: AsJson = False,
) -> None:
    """Distributions with their steps: those that are not over, or all."""
    run(_list(config, everything, as_json))


async def _list(path: Path, everything: bool, as_json: bool) -> int:
    async with (
        open_database(load_config(path), connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        summaries = await transaction.payouts.summaries()
        orders = [one for one in await transaction.interventions.ordered() if one.answer is None]
    shown = [one for one in summaries if everything or one.state not in ("final", "void")]
    if as_json:
        print_json([_summary_json(one, orders) for one in shown])
        return 0
    for summary in shown:
        _print_summary(summary, orders)
    if not shown:
        print("nothing was ever planned" if not summaries else "everything is final or void; --all shows it")
    return 0


@payouts.command("show")
def show_payout(asked: StepId, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """One distribution: its steps, every transaction signed for them, and what people ordered."""
    run(_show(config, asked, as_json))


async def _show(path: Path, asked: str, as_json: bool) -> int:
    async with (
        open_database(load_config(path), connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        distribution_id = (await find_steps(transaction, asked))[0].distribution_id
        [summary] = await transaction.payouts.summaries(distribution_id)
        told = {step.ordinal: step for step in (await transaction.stories.facts(summary.decision_id)).steps}
        orders = await transaction.interventions.ordered(distribution_id)
    if as_json:
        content = _summary_json(summary, [one for one in orders if one.answer is None])
        content["orders"] = [dataclasses.asdict(one) for one in orders]
        for step in content["steps"]:
            step["attempts"] = [_attempt_json(one, nonce) for nonce, one in _attempts(told[step["ordinal"]])]
        print_json(content)
        return 0
    _print_summary(summary, orders, told)
    return 0


def _print_summary(summary: Summary, orders: Sequence[Ordered], told: dict[int, Told] | None = None) -> None:
    how = ", who claim it" if summary.leg == Leg.CLAIM else ""
    print(
        f"0x{summary.distribution_id.hex()}  {summary.state}  {summary.rule} on {summary.chain}: "
        f"{summary.total:,} atoms to {summary.recipients:,} recipients{how}"
    )
    for step in summary.steps:
        nonce = "" if step.nonce is None else f", nonce {step.nonce}"
        nonce += f", attempts {step.attempts}" if step.attempts or nonce else ""
        since = f"{step.updated_at:%Y-%m-%d %H:%M:%S}"
        print(f"  step {step.action_id} ({_name(step, summary.leg)}): {step.state}{nonce}, since {since}")
        if step.reason is not None:
            print(f"    {step.reason}")
        for nonce_of, attempt in _attempts(told[step.ordinal]) if told is not None else ():
            print(f"    {_attempt_line(nonce_of, attempt)}")
        for order in orders:
            if order.action_id == step.action_id:
                print(f"    {_order_line(order)}")


def _attempts(step: Told) -> list[tuple[int | None, SignedAttempt]]:
    return [(slot.nonce, attempt) for slot in step.slots for attempt in slot.attempts]


def _attempt_line(nonce: int | None, attempt: SignedAttempt) -> str:
    where = "saved, not taken by any node yet" if attempt.sent_at is None else "sent"
    if attempt.block_number is not None:
        how = "succeeded" if attempt.succeeded else "reverted"
        where = f"{'final' if attempt.final else 'included'} in block {attempt.block_number:,}, {how}"
    unit = " wei per gas" if attempt.max_fee.asset.symbol == "wei" else ", the price of a unit of work"
    fees = f"at most {attempt.max_fee.atoms}{unit}, tip {attempt.priority_fee.atoms}"
    slot = "" if nonce is None else f"nonce {nonce}, "
    return f"{slot}{attempt.purpose} {format_tx(attempt.tx_id)}: {fees}; {where}"


def _order_line(order: Ordered) -> str:
    answer = "waits for the daemon" if order.answer is None else order.answer
    reason = "" if order.answer_reason is None else f": {order.answer_reason}"
    return f"{order.kind} ordered by {order.ordered_by} ({order.reason}): {answer}{reason}"


def _name(step: Step, leg: str) -> str:
    if step.kind == ActionKind.PROPOSE:
        return "proposal"
    return "activation" if leg == Leg.CLAIM else f"batch {step.ordinal - 1}"


def _summary_json(summary: Summary, open_orders: Sequence[Ordered]) -> dict[str, Any]:
    """Amounts and wei are strings: readers of JSON round large integers."""
    return {
        "distribution": hexed(summary.distribution_id),
        "decision": hexed(summary.decision_id),
        "chain": summary.chain,
        "rule": summary.rule,
        "asset": summary.asset,
        "state": summary.state,
        "total": str(summary.total),
        "recipients": summary.recipients,
        "batches": summary.batches,
        "leg": summary.leg,
        "steps": [
            {
                "step": step.action_id,
                "ordinal": step.ordinal,
                "kind": step.kind,
                "batch": None if step.kind == ActionKind.PROPOSE else step.ordinal - 1,
                "state": step.state,
                "reason": step.reason,
                "since": step.updated_at,
                "nonce": step.nonce,
                "transaction": None if step.tx_id is None else format_tx(step.tx_id),
                "open_order": next((one.kind for one in open_orders if one.action_id == step.action_id), None),
            }
            for step in summary.steps
        ],
    }


def _attempt_json(attempt: SignedAttempt, nonce: int | None) -> dict[str, Any]:
    return {
        "nonce": nonce,
        "ordinal": attempt.ordinal,
        "purpose": attempt.purpose,
        "transaction": format_tx(attempt.tx_id),
        "max_fee": str(attempt.max_fee.atoms),
        "priority_fee": str(attempt.priority_fee.atoms),
        "sent_at": attempt.sent_at,
        "block": attempt.block_number,
        "succeeded": attempt.succeeded,
        "final": attempt.final,
    }


# ── Ordering ────────────────────────────────────────────────────────────────────────────────────────────────────────
COMMANDS = {
    InterventionKind.HOLD: "Stop what is not signed yet, until it is released.",
    InterventionKind.RELEASE: "Have a held step tried again, once the finalized chain says that it was not executed.",
    InterventionKind.BUMP: "Have one more attempt signed, with higher fees: now, or when the last one has expired.",
    InterventionKind.CANCEL: "Send nothing in a sent step's place (the payment may still win), or give up a held one.",
}


def _command(kind: InterventionKind) -> Callable[..., None]:
    def command(
        asked: StepId,
        reason: Reason,
        batch: BatchIndex = None,
        config: ConfigPath = DEFAULT_CONFIG,
        as_json: AsJson = False,
    ) -> None:
        run(_order(config, kind, asked, batch, reason=reason, as_json=as_json))

    return command


for _kind, _help in COMMANDS.items():
    payouts.command(_kind.value, help=_help)(_command(_kind))


async def _order(
    path: Path, kind: InterventionKind, asked: str, batch: int | None, *, reason: str, as_json: bool
) -> int:
    async with open_database(load_config(path), connections_max=1) as database:
        orders = await intervene(database, kind, asked, batch, reason=reason, by=user())
    if as_json:
        print_json([_order_json(order, kind) for order in orders])
    else:
        for order in orders:
            print(_outcome(order, kind))
    return EXIT_NO if any(order.refused for order in orders) else 0


def _outcome(order: Order, kind: InterventionKind) -> str:
    if order.refused is not None:
        return f"step {order.step.action_id} ({_step_name(order.step)}): {order.refused}"
    done = (
        "held" if kind is InterventionKind.HOLD else f"{kind} ordered; the daemon does it, `bridge payouts show` tells"
    )
    return f"step {order.step.action_id} ({_step_name(order.step)}): {done}"


def _order_json(order: Order, kind: InterventionKind) -> dict[str, Any]:
    step = order.step
    return {
        "step": step.action_id,
        "distribution": hexed(step.distribution_id),
        "batch": step.batch_index if step.kind is ActionKind.EXECUTE else None,
        "state": step.state,
        "order": kind,
        "taken": order.refused is None,
        "refused": order.refused,
    }


def _step_name(step: Action) -> str:
    return "proposal" if step.kind is ActionKind.PROPOSE else f"batch {step.batch_index}"
