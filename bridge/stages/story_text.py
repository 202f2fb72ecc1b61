"""A story as plain text for a terminal: numbered chapters, aligned columns, no colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bridge.domain.payouts import Leg, Purpose
from bridge.domain.reports.wording import count_of
from bridge.domain.stories import JournalFact, Share, SignedAttempt, Slot, Story
from bridge.domain.units import format_address, format_hash, format_tx, hash_of

ROWS_MAX = 12
"""Rows of one list that the text shows; the JSON has them all."""
TABLES = ("time_weighted", "balances", "sums", "members")
ORIGINS = ("sum", "count", "last", "committed", "high_water", "balance", "read", "price")
"""Kinds of inputs, as a decision's record names them."""


def render(story: Story) -> str:
    """The story for a terminal: numbered chapters, aligned columns, no colour."""
    chapters = [
        ("What the chain said", _tell_sources(story)),
        ("The rule", _tell_rule(story)),
        ("What was measured, and the guardrails", _tell_inputs(story)),
        ("Who gets what", _tell_shares(story)),
        ("How it is paid", _tell_steps(story)),
        ("How it is booked", _tell_journals(story)),
    ]
    asked, decision = story.asked, story.decision
    state = story.distribution.state.replace("_", " ") if story.distribution else "no distribution"
    lines = [
        f"{asked.kind} {format_tx(asked.id)}",
        f"{decision.rule} v{decision.version} on {decision.chain}: {decision.verdict}, {story.total} ({state})",
    ]
    for number, (title, body) in enumerate(chapters, 1):
        lines += ["", f"{number}. {title}", *(f"   {line}".rstrip() for line in body)]
    return "\n".join(lines) + "\n"


def _tell_sources(story: Story) -> list[str]:
    lines: list[str] = []
    for events in story.sources:
        emitters = " and ".join(events.contracts)
        condition = f" where {events.where}" if events.where else ""
        lines.append(f"{events.name}: {events.count} counted, {events.declaration} of {emitters}{condition}")
        rows = [
            [
                f"block {source.log.block.number}",
                f"log {source.log.log_index}",
                f"tx {format_tx(source.log.tx_hash)}",
                " ".join(f"{name}={value}" for name, value in source.fields.items()),
            ]
            for source in events.logs
        ]
        lines += _indent(_bounded(columns(rows[:ROWS_MAX]), len(rows)))
    return lines or ["this rule counts no events: it reads balances at the window's last block"]


def _tell_rule(story: Story) -> list[str]:
    decision = story.decision
    return columns(
        [
            ["rule", f"{decision.rule} v{decision.version}"],
            ["text", f"sha256 {decision.content_hash.hex()}"],
            ["window", f"{_utc(decision.window_start)} to {_utc(decision.window_end)}, the end not included"],
            ["pinned to", f"block {decision.block_number} {format_hash(hash_of(decision.block_hash, decision.asset))}"],
            ["decision", f"0x{decision.decision_id.hex()}, {_utc(decision.decided_at)}"],
            ["verdict", f"{decision.verdict}: {decision.reason}"],
        ]
    )


def _tell_inputs(story: Story) -> list[str]:
    record = story.artifact
    values = [
        *([name, "parameter", _quantity(text)] for name, text in record["parameters"].items()),
        *(_input(name, value) for name, value in record["inputs"].items()),
        *([name, step["formula"], _grouped(step["result"])] for name, step in record.get("values", {}).items()),
    ]
    surplus = record["surplus"]
    rest = [
        ["surplus", surplus["formula"], _grouped(surplus["result"])],
        ["found", "", _grouped(surplus["found"])],
        ["carried in", "", _grouped(record["carried_in"]["total"])],
    ]
    guards = [
        [
            guard["name"],
            f"limit {_grouped(guard['limit'])}",
            guard["verdict"],
            _grouped(guard["before"]),
            "→",
            _grouped(guard["after"]),
        ]
        for guard in record["guardrails"]
    ]
    results = [
        ["paid", "", _grouped(record["total"])],
        ["carried out", "", _grouped(record["carried_out"]["total"])],
        ["left", "", _grouped(record["left"])],
    ]
    told = columns([*values, *rest, *results], right={2})
    split = len(values) + len(rest)
    return [*told[:split], *(_indent(columns(guards, right={3, 5})) or ["  no guardrail applied"]), *told[split:]]


def _input(name: str, value: Mapping[str, Any]) -> list[str]:
    """One input as name, where it comes from, value."""
    if "weights" in value:
        kind = next(kind for kind in TABLES if kind in value)
        accounts = count_of(len(value["weights"]), "account")
        row = [name, f"{kind.replace('time_weighted', 'time-weighted')}, {accounts}", _grouped(value["total"])]
    else:
        origin = next((kind for kind in ORIGINS if kind in value), "")
        detail = value.get(origin, "")
        if isinstance(detail, Mapping):
            detail = _price(detail) if origin == "price" else _call(detail)
        row = [name, f"{origin.replace('_', ' ')} {detail}".strip(), _grouped(value["value"])]
    if "problem" in value:
        row[1] += f" (problem: {value['problem']})"
    return row


def _call(read: Mapping[str, Any]) -> str:
    """A read of a contract; records of the first format have the name of a function alone."""
    function = read["function"].partition("(")[0]
    return f"{read['contract']}.{function}({', '.join(read.get('arguments', []))})"


def _price(price: Mapping[str, Any]) -> str:
    sources = " and ".join(source["feed"] or source["http"] for source in price["sources"])
    return f"{price['base']}/{price['quote']} of {sources}"


def _quantity(text: str) -> str:
    number, _, unit = text.partition(" ")
    return f"{_grouped(number)} {unit}".strip()


def _tell_shares(story: Story) -> list[str]:
    if not story.shares:
        return [f"nobody: {story.decision.reason}"]
    rows = [
        ["recipient", "amount", "of it carried in", "weight", "of all weights", "batch", "outcome"],
        *(_tell_share(share) for share in story.shares[:ROWS_MAX]),
    ]
    return _bounded(columns(rows, right={1, 2, 3, 4, 5}), len(story.shares))


def _tell_share(share: Share) -> list[str]:
    return [
        format_address(share.recipient),
        str(share.amount),
        share.carried_in.text,
        _weight(share.weight),
        _weight(share.weights_total),
        "—" if share.batch_index is None else str(share.batch_index),
        _outcome(share),
    ]


def _outcome(share: Share) -> str:
    if share.outcome is None:
        return "not final"
    return share.outcome.replace("_", " ") + ("" if share.held is None else f": {share.held}")


def _weight(digits: str | None) -> str:
    return "—" if digits is None else _grouped(digits)


def _tell_steps(story: Story) -> list[str]:
    planned = story.distribution
    if planned is None:
        return ["no distribution is planned"]
    claimed = planned.leg is Leg.CLAIM
    size = f"{count_of(planned.recipients, 'recipient')} in "
    size += "a tree that they claim from" if claimed else count_of(planned.batches, "batch")
    lines = [
        f"distribution 0x{planned.distribution_id.hex()}",
        f"{size}, planned {_utc(planned.created_at)}",
    ]
    for step in story.steps:
        execute = "activate the tree" if claimed else f"execute batch {step.ordinal - 1}"
        what = "propose" if step.ordinal == 0 else execute
        lines += ["", f"{what}: {step.state}{f', {step.reason}' if step.reason else ''}"]
        for slot in step.slots:
            what = "signed by" if slot.nonce is None else f"nonce {slot.nonce} of"
            lines.append(f"  {what} {format_address(slot.account)}, {slot.state}")
            rows = [
                [
                    _attempt_name(slot, attempt),
                    format_tx(attempt.tx_id),
                    "not sent" if attempt.sent_at is None else _utc(attempt.sent_at),
                    f"max fee {attempt.max_fee}",
                    _landed(attempt.block_number, attempt.succeeded, attempt.final),
                    _cost(attempt),
                ]
                for attempt in slot.attempts
            ]
            lines += _indent(_indent(columns(rows)))
        moves = [
            [
                _utc(move.confirmed_at),
                f"{move.from_state} → {move.to_state}",
                "" if move.block_number is None else f"block {move.block_number}",
                move.reason or "",
            ]
            for move in step.transitions
        ]
        lines += _indent(columns(moves))
    return lines


def _attempt_name(slot: Slot, attempt: SignedAttempt) -> str:
    if attempt.purpose == Purpose.CANCEL:
        return "cancel"
    if attempt.ordinal == 0:
        return "sent"
    return "signed again" if slot.nonce is None else "bumped"


def _cost(attempt: SignedAttempt) -> str:
    """All that it took, and what that is made up of, where gas is not all of it. Deposits are no fee."""
    if attempt.fee_paid is None:
        return ""
    fees = (("L1 fee", attempt.l1_fee), ("operator fee", attempt.operator_fee))
    beside = [f"{name} {amount}" for name, amount in fees if amount.atoms]
    told = f"paid {attempt.fee_paid} for {attempt.gas_used:,} gas"
    if beside:
        told += f" ({', '.join([f'gas {attempt.gas_fee}', *beside])})"
    return told + (f", and {attempt.deposits} in deposits" if attempt.deposits.atoms else "")


def _landed(block_number: int | None, succeeded: bool | None, final: bool) -> str:
    if block_number is None:
        return "not included"
    return f"{'in' if succeeded else 'reverted in'} block {block_number}{', final' if final else ''}"


def _tell_journals(story: Story) -> list[str]:
    rows = [["at", "source", "kind", "debit", "← credit", "amount", "phase"]]
    told: Counter[str] = Counter()  # by source, so that many fees cannot hide the payout
    for journal in story.journals:
        told[journal.source] += 1
        if told[journal.source] <= ROWS_MAX:
            rows += _tell_journal(journal)
    missing = sum(max(0, count - ROWS_MAX) for count in told.values())
    if not story.journals:
        return ["nothing of it is booked yet"]
    lines = columns(rows, right={5})
    return [*lines, f"… and {count_of(missing, 'journal')} more; --json shows all"] if missing else lines


def _tell_journal(journal: JournalFact) -> list[list[str]]:
    rows = [
        ["", "", "", entry.debit, f"← {entry.credit}", str(entry.amount), entry.phase]
        for entry in journal.entries[:ROWS_MAX]
    ] or [["", "", "", "moves nothing by itself", "", "", ""]]
    if len(journal.entries) > ROWS_MAX:
        rows.append(["", "", "", f"… and {len(journal.entries) - ROWS_MAX:,} more", "", "", ""])
    rows[0][:3] = [f"block {journal.block_number}", journal.source, journal.kind]
    return rows


# ── Columns ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows of equal length as lines, each column as wide as its widest cell; those in `right` flush right."""
    if not rows:
        return []
    flush = set(right)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in flush else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _bounded(lines: list[str], count: int) -> list[str]:
    """`lines`, and how many of `count` rows they leave out."""
    return [*lines, f"… and {count - ROWS_MAX:,} more; --json shows all"] if count > ROWS_MAX else lines


def _indent(lines: Iterable[str]) -> list[str]:
    return ["  " + line for line in lines]


def _grouped(digits: str | None) -> str:
    """A string of digits with thousands apart; exact, for these are never parsed as anything but integers."""
    return "unknown" if digits is None else f"{int(digits):,}"


def _utc(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
