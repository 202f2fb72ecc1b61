"""bridge breaks list, show, assign, explain, resolve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, app, print_json, run
from bridge.cli.person import user
from bridge.compose.database import open_database
from bridge.domain.breaks import AGE_BANDS, MENDED_BY, Break, BreakChange, LastLook, age_band, why_unresolvable
from bridge.domain.errors import ConfigError
from bridge.domain.states import BreakState
from bridge.domain.units import format_hash
from bridge.runtime.config import load_config
from bridge.store.breaks import Breaks

breaks = typer.Typer(
    name="breaks", help="Where books and chain part, and what a person knows of it.", no_args_is_help=True
)
app.add_typer(breaks)


class Shown(StrEnum):
    """What `list --state` takes: the states, and all of them."""

    OPEN = "open"
    ASSIGNED = "assigned"
    EXPLAINED = "explained"
    RESOLVED = "resolved"
    ALL = "all"


BreakId = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The break's number.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="What it was; kept with the break, with your user name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@breaks.command("list")
def list_breaks(
    config: ConfigPath = DEFAULT_CONFIG,
    state: Annotated[
        Shown | None, typer.Option(help="Only those in this state; otherwise all that are not resolved.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Breaks with their ages, oldest first."""
    run(_list(config, state, as_json))


async def _list(path: Path, state: Shown | None, as_json: bool) -> int:
    async with (
        open_database(load_config(path), connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        if state is None:
            found = await transaction.breaks.unresolved()
        else:
            found = await transaction.breaks.in_states(
                tuple(BreakState) if state is Shown.ALL else [BreakState(state.value)]
            )
    now = datetime.now(UTC)
    if as_json:
        print_json([_json(one, now) for one in found])
        return 0
    for one in found:
        print(_line(one, now))
        print(f"  {one.evidence}")
    if found:
        print(f"{len(found)} by age: {_by_age(found, now)}")
    else:
        print("no break is open" if state in (None, Shown.OPEN) else f"no break is {state}")
    return 0


@breaks.command("show")
def show_break(break_id: BreakId, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """One break: its evidence, who did what about it and when, and what would settle it."""
    run(_show(config, break_id, as_json))


async def _show(path: Path, break_id: int, as_json: bool) -> int:
    config = load_config(path)
    async with (
        open_database(config, connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        found = await transaction.breaks.find(break_id)
        history = await transaction.breaks.history(break_id)
        look = await transaction.breaks.last_look(break_id)
        asked = [one for one in await transaction.corrections.asked(everything=True) if one.break_id == break_id]
    now = datetime.now(UTC)
    if as_json:
        content = _json(found, now)
        content["history"] = [_change_json(change) for change in history]
        content["corrections"] = [one.correction.correction_id for one in asked]
        content["mended_by"] = MENDED_BY[found.kind]
        content["unresolvable"] = None if found.state is BreakState.RESOLVED else why_unresolvable(found, look)
        print_json(content)
        return 0
    print(_line(found, now))
    for key, value in sorted(orjson.loads(found.evidence).items()):
        if isinstance(value, list):
            print(f"  {key}:")
            for each in value:
                print(f"    {each}")
        else:
            print(f"  {key}: {value}")
    print(f"  first found at block {found.at.number:,}, {format_hash(config.hash_of(found.at))}")
    for change in history:
        print(f"  {_change_line(change)}")
    for one in asked:
        answer = "waits for another person" if one.answer is None else f"{one.answer} by {one.answered_by}"
        print(f"  correction {one.correction.correction_id}, asked for by {one.correction.asked_by}: {answer}")
    if found.state is not BreakState.RESOLVED:
        print(f"  {_outlook(found, look)}")
    return 0


def _line(one: Break, now: datetime) -> str:
    amount = "" if one.amount is None else f", {one.amount:+,} atoms"
    state = f"assigned to {one.assignee}" if one.state is BreakState.ASSIGNED else str(one.state)
    since = f"since {_time(one.opened_at)} UTC ({age_band(one.age(now))})"
    if one.resolved_at is not None:
        since = f"{_time(one.resolved_at)} UTC, after {age_band(one.age(now))}"
    return f"break {one.break_id}: {one.kind} of {one.subject}{amount} on {one.chain}, {state} {since}"


def _change_line(change: BreakChange) -> str:
    words = "" if change.words is None else f": {'to ' if change.state is BreakState.ASSIGNED else ''}{change.words}"
    what = "opened" if change.came_from is None else str(change.state)
    return f"{_time(change.at)}  {what} by {change.by}{words}"


def _outlook(found: Break, look: LastLook | None) -> str:
    refused = why_unresolvable(found, look)
    if refused is None:
        return f"a person may resolve it: bridge breaks resolve {found.break_id} --reason TEXT"
    return f"not to be resolved yet: {refused}"


def _by_age(found: Sequence[Break], now: datetime) -> str:
    counts = Counter(age_band(one.age(now)) for one in found)
    return ", ".join(f"{counts[band]} {band}" for band in AGE_BANDS if counts[band])


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _json(one: Break, now: datetime) -> dict[str, Any]:
    """Amounts as strings: see print_json."""
    return {
        "break_id": one.break_id,
        "kind": one.kind,
        "chain": one.chain,
        "level": one.level,
        "subject": one.subject,
        "asset": one.asset,
        "amount": None if one.amount is None else str(one.amount),
        "state": one.state,
        "assignee": one.assignee,
        "block_number": one.at.number,
        "block_hash": f"0x{one.at.hash.hex()}",
        "opened_at": one.opened_at,
        "resolved_at": one.resolved_at,
        "resolution": one.resolution,
        "age_s": int(one.age(now).total_seconds()),
        "age": age_band(one.age(now)),
        "evidence": orjson.loads(one.evidence),
    }


def _change_json(change: BreakChange) -> dict[str, Any]:
    return {
        "at": change.at,
        "by": change.by,
        "from": change.came_from,
        "to": change.state,
        "words": change.words,
    }


# ── Doing ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@breaks.command("assign")
def assign_break(
    break_id: BreakId,
    to: Annotated[str, typer.Option(metavar="PERSON", help="Who takes care of it from now on.")],
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Say who takes care of it. After unexpected_out, payouts go on from here."""
    person = _said(to, "--to", "name who takes care of it")
    run(_change(config, f"break {break_id}: assigned to {person}", lambda s: s.assign(break_id, to=person, by=user())))


@breaks.command("explain")
def explain_break(break_id: BreakId, reason: Reason, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Say what a break was. It stays listed until it is resolved; after unexpected_out, payouts go on from here."""
    words = _said(reason, "--reason", "say what it was: it is kept with the break")
    run(_change(config, f"break {break_id}: explained", lambda s: s.explain(break_id, reason=words, by=user())))


@breaks.command("resolve")
def resolve_break(break_id: BreakId, reason: Reason, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Close a break whose cause is gone. What the last run still found is refused: it would only come again."""
    words = _said(reason, "--reason", "say what settled it: it is kept with the break")
    run(_change(config, f"break {break_id}: resolved", lambda s: s.resolve(break_id, reason=words, by=user())))


def _said(words: str, option: str, mend: str) -> str:
    if not words.strip():
        raise ConfigError("is empty", where=option, mend=mend)
    return words.strip()


async def _change(path: Path, done: str, change: Callable[[Breaks], Coroutine[Any, Any, None]]) -> int:
    async with open_database(load_config(path), connections_max=1) as database, database.begin() as transaction:
        await change(transaction.breaks)
    print(done)
    return 0
