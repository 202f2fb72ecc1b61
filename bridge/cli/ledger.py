"""bridge ledger list, classify, adjust, reverse, corrections, approve, refuse, verify."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import DEFAULT_CONFIG, EXIT_NO, ConfigPath, app, run
from bridge.cli.person import user
from bridge.compose.database import open_database
from bridge.domain.corrections import Correction
from bridge.domain.errors import ConfigError
from bridge.domain.ledger import FalseBalance
from bridge.domain.reports.wording import count_of
from bridge.domain.seals import Tip
from bridge.ports.database import Transaction
from bridge.runtime.config import load_config
from bridge.stages import correct
from bridge.stages.balances import false_balances
from bridge.stages.seal import verify_in
from bridge.store.corrections import Asked

ledger = typer.Typer(
    name="ledger",
    help="The books: what was booked last, whether it is as it was sealed, and corrections, for which it takes two.",
    no_args_is_help=True,
)
app.add_typer(ledger)

BALANCES_SHOWN = 20
_HEAD = re.compile(r"[0-9a-f]{64}")

CorrectionId = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The correction's number.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the correction, with your user name.")]
BreakId = Annotated[
    int | None, typer.Option("--break", metavar="ID", min=1, max=2**63 - 1, help="The break that it explains.")
]


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@ledger.command("list")
def list_journals(
    config: ConfigPath = DEFAULT_CONFIG,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, max=10_000, help="How many.")] = 20,
) -> None:
    """The newest journals, with their numbers."""
    run(_list(config, last))


async def _list(path: Path, last: int) -> int:
    async with (
        open_database(load_config(path), connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        entries = await transaction.corrections.newest(last)
    for one in entries:
        print(f"journal {one.journal_id}: {one.kind} at block {one.block_number:,} of {one.chain}: {one.reason}")
        print(f"  {one.source} {one.ref}")
    if not entries:
        print("nothing is booked yet")
    return 0


@ledger.command("corrections")
def list_corrections(
    config: ConfigPath = DEFAULT_CONFIG,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are answered.")] = False,
) -> None:
    """What waits for another person's approval, or all that was ever asked for."""
    run(_corrections(config, everything))


async def _corrections(path: Path, everything: bool) -> int:
    async with (
        open_database(load_config(path), connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        found = await transaction.corrections.asked(everything=everything)
    for one in found:
        _print(one)
    if not found:
        print("no correction was ever asked for" if everything else "no correction waits for an approval")
    return 0


def _print(asked: Asked) -> None:
    correction = asked.correction
    about = "" if asked.break_id is None else f", about break {asked.break_id}"
    print(f"correction {correction.correction_id} on {correction.chain}: {_what(correction)}{about}")
    print(f"  asked by {correction.asked_by}, {asked.asked_at:%Y-%m-%d %H:%M:%S} UTC: {correction.reason}")
    if asked.answer is None:
        print("  waits for another person: bridge ledger approve or refuse")
    else:
        why = "" if asked.answer_reason is None else f": {asked.answer_reason}"
        print(f"  {asked.answer} by {asked.answered_by}, {asked.answered_at:%Y-%m-%d %H:%M:%S} UTC{why}")


def _what(correction: Correction) -> str:
    if correction.reverses is not None:
        return f"reverse {' '.join(correction.reverses)}"
    moved = correction.transfer
    assert moved is not None
    return f"{moved.amount:,} atoms of {moved.asset} to {moved.debit} from {moved.credit}"


@ledger.command("verify")
def verify_seals(
    config: ConfigPath = DEFAULT_CONFIG,
    noted: Annotated[
        str | None, typer.Option("--noted", metavar="COUNT:HEAD", help="What this command, or the log, said before.")
    ] = None,
) -> None:
    """Read all sealed journals again, and add up all transfers; exits 1 where a journal was changed, moved, added or
    taken away, or a balance is not the sum of its transfers."""
    run(_verify(config, noted))


async def _verify(path: Path, noted: str | None) -> int:
    before = None if noted is None else _tip(noted)
    async with (
        open_database(load_config(path), connections_max=1) as database,
        database.snapshot() as transaction,
    ):
        found = await verify_in(transaction, before)
        shown, more = await _false_balances(transaction)
    print(f"{count_of(found.tip.count, 'journal')} as sealed, {found.waiting:,} not sealed yet")
    if found.fault is not None:
        print(f"NOT intact: {found.fault}")
    for each in shown:
        print(f"NOT intact: {each}")
    if more:
        print(f"NOT intact: {count_of(more, 'more balance')}")
    if found.fault is not None or shown:
        return EXIT_NO
    print(f"intact: {found.tip}")
    return 0


async def _false_balances(transaction: Transaction) -> tuple[list[FalseBalance], int]:
    """The first BALANCES_SHOWN of all chains, and how many there are beside them."""
    shown: list[FalseBalance] = []
    more = 0
    for chain in await transaction.audits.chains():
        async for each in false_balances(transaction, chain):
            if len(shown) < BALANCES_SHOWN:
                shown.append(each)
            else:
                more += 1
    return shown, more


def _tip(noted: str) -> Tip:
    count, colon, head = noted.partition(":")
    digits = head.removeprefix("0x")
    if not (count.isascii() and count.isdecimal() and len(count) <= 18 and colon and _HEAD.fullmatch(digits)):
        raise ConfigError(
            f"`{noted}` is not a count and a head",
            where="--noted",
            mend="copy what stands after `intact:`, as in 12:ab…",
        )
    return Tip(int(count), bytes.fromhex(digits))


# ── Asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@ledger.command("adjust")
def adjust(
    *,
    debit: Annotated[str, typer.Option(metavar="ACCOUNT", help="Gets the amount, as in vault:0x….")],
    credit: Annotated[str, typer.Option(metavar="ACCOUNT", help="Gives it, as in suspense:in.")],
    asset: Annotated[str, typer.Option(metavar="SYMBOL", help="Or the asset's CAIP-19 id.")],
    amount: Annotated[str, typer.Option(metavar="ATOMS", help="A whole number of the asset's smallest units.")],
    reason: Reason,
    break_id: BreakId = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Ask for one more entry between two accounts. Nothing is booked before another person approves it."""
    run(_adjust(config, debit, credit, asset, amount, reason=reason, break_id=break_id))


async def _adjust(
    path: Path, debit: str, credit: str, asset: str, amount: str, *, reason: str, break_id: int | None
) -> int:
    if not (amount.isascii() and amount.isdecimal() and len(amount) <= 78):
        raise ConfigError(f"`{amount}` is not a whole number of atoms", where="--amount", mend="digits only, no point")
    async with open_database(load_config(path), connections_max=1) as database:
        number = await correct.ask_adjustment(
            database, debit, credit, asset, int(amount), reason=reason, by=user(), break_id=break_id
        )
    _print_asked(number)
    return 0


@ledger.command("classify")
def classify(
    break_id: Annotated[int, typer.Argument(metavar="BREAK", min=1, max=2**63 - 1, help="The break's number.")],
    account: Annotated[
        str, typer.Option("--as", metavar="ACCOUNT", help="Whose it was, as in surplus:unallocated or external:donor.")
    ],
    reason: Reason,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Ask to book what a break found, by what it was. Nothing is booked before another person approves it."""
    run(_classify(config, break_id, account, reason))


async def _classify(path: Path, break_id: int, account: str, reason: str) -> int:
    async with open_database(load_config(path), connections_max=1) as database:
        number = await correct.ask_classification(database, break_id, account, reason=reason, by=user())
    _print_asked(number)
    return 0


@ledger.command("reverse")
def reverse(
    journal: Annotated[str, typer.Argument(metavar="JOURNAL", help="Its number, or 'SOURCE REF' in quotes.")],
    reason: Reason,
    break_id: BreakId = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Ask for the opposite of a journal. Nothing is booked before another person approves it."""
    run(_reverse(config, journal, reason, break_id))


async def _reverse(path: Path, journal: str, reason: str, break_id: int | None) -> int:
    async with open_database(load_config(path), connections_max=1) as database:
        number = await correct.ask_reversal(database, journal, reason=reason, by=user(), break_id=break_id)
    _print_asked(number)
    return 0


def _print_asked(number: int) -> None:
    print(f"correction {number}: waits for another person: bridge ledger approve {number}")


# ── Answering ───────────────────────────────────────────────────────────────────────────────────────────────────────
@ledger.command("approve")
def approve(correction: CorrectionId, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Book what another person asked for, now."""
    run(_approve(config, correction))


async def _approve(path: Path, correction_id: int) -> int:
    async with open_database(load_config(path), connections_max=1) as database:
        journal = await correct.approve(database, correction_id, by=user())
    print(f"correction {correction_id}: booked at block {journal.at.number:,} of {journal.at.chain}")
    return 0


@ledger.command("refuse")
def refuse(correction: CorrectionId, reason: Reason, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Say no to a correction, or take back what you asked for."""
    run(_refuse(config, correction, reason))


async def _refuse(path: Path, correction_id: int, reason: str) -> int:
    async with open_database(load_config(path), connections_max=1) as database:
        await correct.refuse(database, correction_id, reason=reason, by=user())
    print(f"correction {correction_id}: refused")
    return 0
