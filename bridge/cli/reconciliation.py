"""bridge reconcile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import DEFAULT_CONFIG, EXIT_NO, ConfigPath, app, run
from bridge.daemon import divergence, open_services, reconciler
from bridge.domain.breaks import HELD, Outcome
from bridge.domain.errors import ConfigError
from bridge.domain.units import format_hash, format_tx
from bridge.runtime.config import load_config
from bridge.stages.divergence import BlockLog, Probe


@app.command("reconcile")
def reconcile_books(
    config: ConfigPath = DEFAULT_CONFIG,
    account: Annotated[
        str | None,
        typer.Option(
            "--find-divergence",
            metavar="ACCOUNT",
            help="Instead, find the block where the books of this account (vault, or a code, or an address) part from "
            "the chain. The node must have old states.",
        ),
    ] = None,
    asset: Annotated[str | None, typer.Option(metavar="SYMBOL", help="Which token of the account.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Instead, look again at the blocks from this time, in UTC, …"),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="… to before this one. Opens and closes no break.")
    ] = None,
) -> None:
    """Hold the books against the chain at its finalized block, now; exits 1 when anything differs."""
    if asset is not None and account is None:
        raise ConfigError("says nothing by itself", where="--asset", mend="give --find-divergence ACCOUNT with it")
    if start is None and end is None:
        run(_reconcile(config) if account is None else _find_divergence(config, account, asset))
    if start is None or end is None or account is not None:
        raise ConfigError("do not fit together", where="options", mend="give --from and --to, and nothing else")
    first, last = _seconds(start, "--from"), _seconds(end, "--to")
    if first >= last:
        raise ConfigError(f"is not after {start}", where=f"--to {end}", mend="give a later time")
    run(_examine(config, first, last))


def _seconds(told: str, option: str) -> int:
    try:
        at = datetime.fromisoformat(told)
    except ValueError:
        mend = "write 2026-11-01, or 2026-11-01T12:00:00"
        raise ConfigError("is not a time", where=f"{option} {told}", mend=mend) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


async def _examine(path: Path, start: int, end: int) -> int:
    config = load_config(path)
    async with open_services(config, sending=False) as services:
        found = await reconciler(services).examine(start, end)
    for period, checks in found:
        last = period.last
        print(f"blocks {period.first:,} to {last.number:,} of {last.chain}, {format_hash(config.hash_of(last))}")
        for check in checks:
            asset = "" if check.asset is None else f" in {check.asset}"
            says = "" if check.expected is None or check.actual is None else f", books {check.expected:,}"
            says += f", chain {check.actual:,}" if says else ""
            cause = "" if check.cause is None else f": {check.cause}"
            print(f"  {check.outcome}: {check.level} of {check.subject}{asset}{says}{cause}")
            for difference in check.differences:
                amount = "" if difference.amount is None else f", {difference.amount:+,} atoms"
                print(f"    {difference.kind} of {difference.subject}{amount}")
    if not found:
        print("no chain has a booked block of that time")
        return EXIT_NO
    agreed = all(check.outcome is not Outcome.BROKEN for _, checks in found for check in checks)
    print("agreed" if agreed else "NOT agreed")
    return 0 if agreed else EXIT_NO


async def _reconcile(path: Path) -> int:
    config = load_config(path)
    async with open_services(config, sending=False) as services:
        found = await reconciler(services).run()
    for stamp in found.at:
        print(f"at block {stamp.number:,} of {stamp.chain}, {format_hash(config.hash_of(stamp))}")
    for level, outcomes in found.counts().items():
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count)
        print(f"  {level:<13} {counts or 'nothing to check'}")
    for check in found.skipped:
        name = "held" if check.subject == HELD else "skipped"
        print(f"{name}: {check.level} of {check.subject}: {check.skipped}")
    for broken in found.breaks:
        amount = "" if broken.amount is None else f", {broken.amount:+,} atoms"
        since = f"{broken.opened_at:%Y-%m-%d %H:%M:%S} UTC"
        print(f"break {broken.break_id}: {broken.kind} of {broken.subject}{amount}, {broken.state} since {since}")
        print(f"  {broken.evidence}")
    print("balanced" if found.balanced else "NOT balanced")
    return 0 if found.balanced else EXIT_NO


async def _find_divergence(path: Path, account: str, symbol: str | None) -> int:
    config = load_config(path)
    async with open_services(config, sending=False) as services:
        found = await divergence(services, account, symbol)
    print(f"{found.mirror.code} in {found.mirror.asset.symbol}, {found.probes} blocks looked at")
    if found.first is None:
        print(f"books and chain agree: {_probe(found.cut_off)}")
        if found.running != found.cut_off.books:
            print(
                f"the running balance is {found.running:,}, and the transfers add up to {found.cut_off.books:,}: "
                "the row in `balances` was changed"
            )
            return EXIT_NO
        return 0
    if found.agreed is None:
        print(f"they differ from the opening on: {_probe(found.first)}")
    else:
        print(f"they part at block {found.first.at.number:,}, {format_hash(config.hash_of(found.first.at))}")
        print(f"  before: {_probe(found.agreed)}")
        print(f"  then:   {_probe(found.first)}")
    print(f"  now:    {_probe(found.cut_off)}")
    print("logs of that block:" if found.logs else "no log of that block is about our contracts or this token")
    for log in found.logs:
        print(f"  {_log(log)}")
    print("journals around it:" if found.journals else "no journal around it moved the account")
    for move, altered in found.journals:
        mark = "; ITS ROWS ARE NOT THOSE IT WAS BOOKED WITH" if altered else ""
        here = "► " if move.block_number == found.first.at.number else "  "
        print(f"{here}block {move.block_number:,}: {move.net:+,} {move.kind}, {move.reason} ({move.source}){mark}")
    return EXIT_NO


def _probe(probe: Probe) -> str:
    differs = f", differs by {probe.difference:+,}" if probe.difference else ""
    return f"at block {probe.at.number:,} the books say {probe.books:,}, the chain {probe.chain:,}{differs}"


def _log(found: BlockLog) -> str:
    if not found.on_node:
        state = "stored, but the node does not have it"
    elif not found.stored:
        state = "the node has it, we do not: it is not stored, or the books do not read it"
    else:
        state = "booked" if found.booked else "stored, but not booked"
    log = found.event.log
    return f"log {log.log_index} {found.event.source} of transaction {format_tx(log.tx_hash)}: {state}"
