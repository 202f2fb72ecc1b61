"""bridge status."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bridge.cli.app import DEFAULT_CONFIG, PLAIN_WIDTH, ConfigPath, app, print_json, run
from bridge.compose.database import open_database
from bridge.domain.figures import percent
from bridge.domain.jobs import JobState
from bridge.domain.reports.wording import count_of
from bridge.domain.units import format_amount
from bridge.runtime.config import load_config
from bridge.store.status import Consistency, Performance, Status, Waiting


@app.command("status")
def show_status(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """What calls for a person; heads, lags, counts, what is in flight, what is held."""
    run(_status(config, as_json))


async def _status(path: Path, as_json: bool) -> int:
    config = load_config(path)
    async with open_database(config, connections_max=1) as database, database.snapshot() as transaction:
        status = await transaction.status.read()
        performance = await transaction.status.performance()
        conditions = await transaction.conditions.read(config.included_within)
        letters = await transaction.dead_letters.open()
        jobs = await transaction.jobs.all()
    now = int(time.time())
    if as_json:
        content = dataclasses.asdict(status)
        content["conditions"] = [dataclasses.asdict(condition) for condition in conditions]
        content["dead_letters"] = [dataclasses.asdict(letter) for letter in letters]
        content["jobs"] = [dataclasses.asdict(job) | {"late": job.late(now)} for job in jobs]
        for rule in content["rules"]:
            # As strings: see print_json.
            rule |= {"surplus": str(rule["surplus"]), "allocated": str(rule["allocated"])}
        for held in content["held"]:
            held["amount"] = str(held["amount"])
        content["consistency"] |= {
            "agreed_ppm": status.consistency.agreed_ppm,
            "coverage_ppm": status.consistency.coverage_ppm,
            "auto_match_ppm": performance.entries.matched_ppm,
            "values": [
                dataclasses.asdict(value)
                | {"common": str(value.common), "whole": str(value.whole), "common_ppm": value.ppm}
                for value in status.consistency.values
            ],
        }
        content["performance"] = dataclasses.asdict(performance)
        for item in content["performance"]["suspense"]:
            item["balance"] = str(item["balance"])
        print_json(content)
        return 0
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    for condition in conditions:
        since = f"{condition.since:%Y-%m-%d %H:%M:%S}"
        console.print(f"{condition.name} on {condition.chain}, since {since}: {condition.subject}: {condition.detail}")
    _print_chains(console, status)
    _print_rules(console, status)
    _print_counts(console, status)
    _print_performance(console, performance)
    _print_jobs(console, jobs, now)
    _print_waiting(console, status)
    for letter in letters:
        console.print(f"given up: {letter.stage} on {letter.scope}, {letter.retries} retries: {letter.error}")
    return 0


def _table(*headers: str) -> Table:
    """Cells too long for their column go on in the next line: no digit of an amount is ever cut off."""
    table = Table(box=None, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _print_chains(console: Console, status: Status) -> None:
    table = _table("chain", "head", "behind node", "finalized", "finalized logs", "reorgs", "holder")
    for chain in status.chains:
        holder = next((lease.holder for lease in status.leases if lease.live and lease.name.endswith(chain.chain)), "—")
        table.add_row(
            chain.chain,
            _number(chain.head_number),
            _number(chain.lag_blocks),
            _number(chain.finalized_number),
            _number(chain.finalized_logs),
            _number(chain.reorgs),
            holder,
        )
    console.print(table)
    if not status.chains:
        console.print("no chain yet: start the daemon with bridge run")


def _print_rules(console: Console, status: Status) -> None:
    table = _table("rule", "windows", "paying", "held", "surplus found", "allocated", "decided until")
    for rule in status.rules:
        table.add_row(
            rule.rule,
            str(rule.windows),
            str(rule.paying),
            str(rule.holding),
            f"{format_amount(rule.surplus, rule.decimals)} {rule.symbol}",
            f"{format_amount(rule.allocated, rule.decimals)} {rule.symbol}",
            datetime.fromtimestamp(rule.decided_until, UTC).isoformat(sep=" ", timespec="seconds")[:19],
        )
    if status.rules:
        console.print(table)


def _print_counts(console: Console, status: Status) -> None:
    console.print(f"distributions   {_counts(status.distributions)}")
    console.print(f"actions         {_counts(status.actions)}")
    console.print(f"payouts         {_counts(status.payouts)}")
    for held in status.held:
        console.print(
            f"held            {format_amount(held.amount, held.decimals)} {held.symbol} on {held.chain}, to "
            f"{count_of(held.payouts, 'recipient')} in {count_of(held.batches, 'batch')}"
        )
    console.print(f"open breaks     {_counts(status.breaks)}")
    if status.break_ages:
        console.print(f"  by age        {_counts(status.break_ages)}")
    if status.reconciled is not None:
        verdict, finished_at = status.reconciled
        console.print(f"reconciled      {verdict}, {finished_at:%Y-%m-%d %H:%M:%S} UTC")
        _print_consistency(console, status.consistency)
    for cursor in status.cursors:
        console.print(f"cursor          {cursor.stage} {cursor.scope}: block {cursor.block_number:,}")


def _print_jobs(console: Console, jobs: Sequence[JobState], now: int) -> None:
    for job in jobs:
        last = "never yet" if job.finished_at is None else f"last {_time(job.finished_at)}: {job.result}"
        unfinished = job.started_at is not None and job.started_at > (job.finished_at or 0)
        begun = f"; under way since {_time(job.started_at or 0)}" if unfinished else ""
        late = "; LATE" if job.late(now) else ""
        console.print(
            f"job             {job.name}, every {job.interval_s:,} s, next {_time(job.due_at)}{late}; {last}{begun}"
        )


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _print_consistency(console: Console, told: Consistency) -> None:
    judged = told.agreed + told.broken
    values = ", ".join(f"{percent(value.ppm)} of {value.symbol}" for value in told.values)
    console.print(f"consistency     {told.agreed:,} of {judged:,} checks agree ({percent(told.agreed_ppm)}); {values}")
    console.print(
        f"coverage        {judged:,} of {judged + told.skipped:,} checks judged ({percent(told.coverage_ppm)})"
        f"{f', {told.exempt:,} exempt' if told.exempt else ''}"
    )
    for name, times in (("detected in", told.detect_s), ("resolved in", told.resolve_s)):
        if times is not None:
            console.print(f"{name}     p50 {times[0]:,} s, p95 {times[1]:,} s")


def _print_performance(console: Console, told: Performance) -> None:
    entries = told.entries
    console.print(
        f"auto-match      {percent(entries.matched_ppm)}: {entries.automatic:,} of the newest entries by itself, "
        f"{entries.by_hand:,} by hand, {entries.unmatched:,} open breaks"
    )
    for name, times in (
        ("event to final  ", told.latencies.mined_to_final_s),
        ("event to posted ", told.latencies.mined_to_posted_s),
    ):
        if times.count:
            of = count_of(times.count, "distribution")
            console.print(f"{name}p50 {times.p50:,} s, p95 {times.p95:,} s, of {of}")
    for lag in told.lags:
        if lag.blocks:
            console.print(f"final to posted p50 {lag.p50_ms:,} ms, p95 {lag.p95_ms:,} ms on {lag.chain}")
    for item in told.suspense:
        if item.balance:
            console.print(f"in suspense     {item.balance:,} atoms of {item.symbol} in {item.account}")


def _print_waiting(console: Console, status: Status) -> None:
    for waiting in status.waiting:
        console.print(
            f"{waiting.state}: {waiting.kind} {_short(waiting)} on {waiting.chain}, "
            f"since {waiting.since:%Y-%m-%d %H:%M:%S}: {waiting.reason}"
        )


def _short(waiting: Waiting) -> str:
    return waiting.id if waiting.kind == "rule" else waiting.id[:16]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "none"


def _number(value: int | None) -> str:
    return "—" if value is None else f"{value:,}"
