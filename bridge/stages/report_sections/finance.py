"""Sections for finance and operations: what was found, paid, and waits; what differs and what was done about it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bridge.domain.figures import percent
from bridge.domain.reports.report import Break, Distribution, Gas, Held, KeyFigures, Report, RollForward, Waterfall
from bridge.domain.reports.wording import count_of
from bridge.stages.report_sections import (
    Account,
    Block,
    Charts,
    Code,
    Difference,
    Figure,
    Figures,
    Hash,
    Moment,
    Money,
    Paragraph,
    Part,
    Row,
    Section,
    State,
    Table,
    Words,
    duration,
    short_hash,
)
from bridge.stages.report_sections.charts import ageing_chart, distribution_charts, waterfall_chart
from bridge.stages.report_sections.parts import DASH, row_of, signed, table_of


def key_figures(report: Report) -> Section:
    figures = []
    for fall in report.waterfalls:
        symbol = fall.asset.symbol
        figures.append(
            Figure(f"Earned, {symbol}", Money(fall.earned), (f"plus {signed(fall.opening)} held at opening",))
        )
        parts = ("paid", "credited", "claimable", "in_flight", "held", "given_up")
        told = [(name, getattr(fall, name)) for name in parts]
        notes = ", ".join(f"{signed(amount)} {name.replace('_', ' ')}" for name, amount in told if amount.atoms)
        figures.append(Figure(f"Distributed, {symbol}", Money(fall.allocated), (notes or "nothing yet",)))
    settled = sum(item.paid + item.credited + item.claimable for item in report.distributions)
    final = sum(item.state == "final" for item in report.distributions)
    recipients = sum(item.recipients for item in report.distributions)
    told_figures, resolved = report.key_figures, len(report.breaks) - len(report.open_breaks)
    figures += [
        Figure(
            "Distributions",
            Words(f"{len(report.distributions):,}"),
            (f"{final:,} final; {settled:,} of {count_of(recipients, 'recipient')} settled",),
        ),
        Figure("Open breaks", Words(f"{len(report.open_breaks):,}"), (f"{resolved:,} resolved",)),
        Figure(
            "Checks that agree",
            Words(percent(told_figures.checks.agreed_ppm)),
            (_judged(told_figures),),
        ),
    ]
    paid = told_figures.latencies.mined_to_final_s
    if paid.count:
        figures.append(
            Figure(
                "From event to final payout", Words(duration(paid.p50)), (f"median; 95 % within {duration(paid.p95)}",)
            )
        )
    figures += [
        Figure(
            f"Gas, {gas.chain}",
            Money(gas.fees, symbol=True),
            (_spent(gas),),
        )
        for gas in report.gas
    ]
    return Section("key", "Key figures", "The period in a few numbers.", (Figures(tuple(figures)),))


def _judged(told: KeyFigures) -> str:
    checks = told.checks
    return f"{checks.agreed:,} agree, {checks.broken:,} do not, {checks.skipped:,} could not be judged"


def _spent(gas: Gas) -> str:
    ceiling = f"{percent(gas.spent_ppm)} of what was allowed"
    return f"{count_of(gas.transactions, 'transaction')}, {gas.reverted:,} reverted; {ceiling}"


def attention(report: Report) -> Section | None:
    if not report.attention:
        return None
    rows = [row_of(Words(item.kind), Code(item.subject), Words(item.reason)) for item in report.attention]
    held = [_held(item) for item in report.held]
    names = ("Distribution", "Rule", "Batch#", "For", "Amount#", "Since (UTC)", "Why")
    shares = (2, 2, 1, 3, 2, 2, 4)
    return Section(
        "attention",
        "Waits for a person",
        "Nothing here goes on before somebody decides.",
        (
            table_of(
                "Held steps and decisions, corrections that were asked for, and work given up after its retries",
                ("What", "Which", "Why"),
                rows,
            ),
            *([table_of("Payouts that are held", names, held, shares=shares)] if held else []),
        ),
        warns=True,
    )


def _held(item: Held) -> Row:
    whom = Words(count_of(item.recipients, "recipient")) if item.recipient is None else Code(item.recipient)
    return row_of(
        Hash(item.distribution_id),
        Words(item.rule),
        Words(f"{item.batch_index:,}"),
        whom,
        Money(item.amount, symbol=True),
        Moment(item.since),
        Words(item.reason),
    )


def surplus(report: Report) -> Section:
    promised = "what was promised before and not paid at the start + " if report.period else ""
    falls = report.waterfalls
    blocks: tuple[Block, ...] = (Paragraph("No surplus has been booked yet."),)
    if falls:
        charts = Charts(tuple(waterfall_chart(fall, f"waterfall-{number}") for number, fall in enumerate(falls)))
        blocks = (charts, _waterfalls(falls, with_promised=report.period is not None))
    return Section(
        "surplus",
        "Surplus",
        "Where surplus came from and where it is now. Opening + earned ± adjustments = allocated + carried + "
        f"unallocated, and {promised}allocated = paid + credited + claimable + in flight + held + given up.",
        blocks,
    )


_STEPS = (
    ("opening", "Held at opening", ""),
    ("earned", "Earned", ""),
    ("adjustments", "Adjustments", ""),
    ("allocated", "Allocated by decisions", "subtotal"),
    ("promised", "Promised before the period, and not paid at its start", ""),
    ("paid", "of which paid", "part"),
    ("credited", "of which credited: the transfer failed, the contract keeps it for the recipient", "part"),
    ("claimable", "of which claimable: each account claims its part, or has claimed it", "part"),
    ("in_flight", "of which in flight: decided, not final on chain", "part"),
    ("held", "of which held: it waits for a person", "part"),
    ("given_up", "of which given up: still owed, and no payment is on its way", "part"),
    ("carried", "Carried to later windows", ""),
    (
        "unallocated",
        "Left unallocated: held at opening, earned outside the decided windows, or left in place by a rule (dust too)",
        "",
    ),
)


def _waterfalls(falls: Sequence[Waterfall], *, with_promised: bool) -> Table:
    rows = [
        row_of(Words(name), *(Money(getattr(fall, field), signed=field == "adjustments") for fall in falls), kind=kind)
        for field, name, kind in _STEPS
        if with_promised or field != "promised"
    ]
    rows.append(row_of(Words("Allocated in the ledger minus decided"), *(Difference(fall.undecided) for fall in falls)))
    names = ("Step", *(f"{fall.asset.symbol}#" for fall in falls))
    kind = "pairs" if len(falls) == 1 else ""
    return table_of("The same with every digit", names, rows, kind=kind, shares=(3, *(1 for _ in falls)))


def roll_forward(report: Report) -> Section:
    since = "the end of the period before" if report.period else "the opening of the books"
    shown = [row for row in report.roll_forward if _holds_or_moved(row)]
    quiet = len(report.roll_forward) - len(shown)
    rows = [
        row_of(
            Account(row.account),
            Words(row.closing.asset.symbol),
            *(Money(amount) for amount in (row.opening, row.received, row.sent, row.fees)),
            Money(row.adjustments, signed=True),
            Money(row.closing),
            Words("not read") if row.on_chain is None else Money(row.on_chain),
            Difference(row.difference),
        )
        for row in shown
    ]
    names = "Account", "Asset", "Opening#", "Received#", "Sent#", "Fees#", "Adjustments#", "Closing#", "On chain#"
    table = table_of(
        "Roll-forward by account and asset",
        (*names, "Difference#"),
        rows,
        kind="wide",
        empty="No watched account has moved or was checked yet.",
        shares=(3, 1, 2, 2, 2, 2, 2, 2, 2, 2),
    )
    return Section(
        "roll",
        "Roll-forward",
        f"What each watched account held from {since} to the cut-off, beside what the chain said at that block. "
        "Opening + received − sent − fees ± adjustments = closing."
        + (f" Left out: {count_of(quiet, 'account')} that held nothing all the time." if quiet else ""),
        (table,),
    )


def _holds_or_moved(row: RollForward) -> bool:
    amounts = (row.opening, row.received, row.sent, row.fees, row.adjustments, row.closing, row.on_chain)
    return any(amount is not None and amount.atoms for amount in amounts)


def distributions(report: Report) -> Section:
    rows = [_distribution(item) for item in report.distributions]
    names = (
        "Id",
        "Rule",
        "Window (UTC)",
        "Total#",
        "Recipients#",
        "Batches#",
        "State",
        "Event to final#",
        "Transactions",
    )
    table = table_of(
        "Every distribution, oldest window first",
        names,
        rows,
        empty="Nothing has been distributed yet.",
        shares=(2, 2, 3, 2, 1, 1, 2, 1, 3),
    )
    charts = distribution_charts(report.distributions)
    return Section(
        "distributions",
        "Distributions",
        "What was decided to be paid, to how many, and how far it has come.",
        (*([Charts(charts)] if charts else []), table),
    )


def _distribution(item: Distribution) -> Row:
    recipients = [Words(f"{item.recipients:,}")]
    if item.credited:
        recipients.append(Words(f"{item.credited:,} credited", small=True))
    if item.claimable:
        recipients.append(Words(f"{item.claimable:,} to claim", small=True))
    took = None
    if item.passed is not None and item.passed.final_at is not None:
        took = max(0, item.passed.final_at - item.passed.mined_at)
    return Row(
        (
            (Hash(item.distribution_id),),
            (Words(f"{item.rule} v{item.version}"),),
            (Moment(item.window_start), Moment(item.window_end, "to ")),
            (Money(item.total, symbol=True),),
            tuple(recipients),
            (Words(f"{item.batches:,}"),),
            (State(item.state),),
            (Words(duration(took)),),
            tuple(Hash(tx) for tx in item.tx_hashes) or (Words("none yet"),),
        )
    )


def breaks(report: Report) -> Section:
    register = table_of(
        "Breaks, open ones first",
        ("No.", "Kind", "Subject", "Amount#", "Open for#", "Found after#", "State", "Evidence"),
        [_break(item) for item in report.breaks],
        empty="No break was ever found." if report.period is None else "No break stood in this period.",
        shares=(1, 2, 3, 2, 1, 1, 3, 4),
    )
    history = table_of(
        "What was done about them",
        ("No.", "When (UTC)", "By", "From", "To", "Words"),
        [
            row_of(
                Words(str(event.break_id)),
                Moment(event.at),
                Words(event.by),
                DASH if event.from_state is None else State(event.from_state),
                State(event.to_state),
                Words(event.words or "—"),
            )
            for item in report.breaks
            for event in item.history
        ],
    )
    blocks: list[Block] = [register]
    if report.open_breaks:
        blocks.insert(0, Charts((ageing_chart(report.key_figures.open_by_age),)))
    if history.rows:
        blocks.append(history)
    return Section(
        "breaks",
        "Break register",
        "Every difference between books and chain that was found, with its age, its evidence and who took care of it. "
        "The amount is chain minus books.",
        tuple(blocks),
    )


def _break(item: Break) -> Row:
    state: list[Part] = [State(item.state)]
    if item.assignee:
        state.append(Words(f"taken by {item.assignee}", small=True))
    if item.resolution:
        state.append(Words(item.resolution, small=True))
    evidence = [Code(f"block {item.block_number:,} {short_hash(item.block_hash)}")]
    evidence += [Code(f"{name} {value}") for name, value in _evidence(item.evidence)]
    return Row(
        (
            (Words(str(item.break_id)),),
            (Words(item.kind.replace("_", " ")),),
            (Code(item.subject),),
            (DASH if item.amount is None else Money(item.amount, signed=True, symbol=True),),
            (Words(duration(item.age_s)),),
            (Words(duration(None if item.detected_s is None else max(0, item.detected_s))),),
            tuple(state),
            tuple(evidence),
        )
    )


def _evidence(text: str) -> list[tuple[str, str]]:
    """JSON evidence as name and value, in the order it was stored."""
    found = json.loads(text)
    if not isinstance(found, dict):
        return [("evidence", text)]
    return [(str(name), _said(value)) for name, value in found.items()]


def _said(value: object) -> str:
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else value
        if isinstance(value, str)
        else json.dumps(value)
    )


def corrections(report: Report) -> Section:
    rows = []
    for item in report.corrections:
        what: tuple[Part, ...] = (Words("reverses"), Code(item.reverses or ""))
        if item.reverses is None:
            what = (Code(f"from {item.credit}"), Code(f"to {item.debit}"))
        about = () if item.break_id is None else (Words(f"of break {item.break_id}", small=True),)
        answer: tuple[Part, ...] = (Words("nobody yet"),)
        if item.answer is not None:
            answer = (Words(f"{item.answer} by {item.answered_by}"), Moment(item.answered_at))
            answer += (Words(item.answer_reason, small=True),) if item.answer_reason else ()
        rows.append(
            Row(
                (
                    (Words(str(item.correction_id)),),
                    what,
                    (DASH if item.amount is None else Money(item.amount, symbol=True),),
                    (Words(item.reason), *about),
                    (Words(item.asked_by), Moment(item.asked_at)),
                    answer,
                    (DASH if item.block_number is None else Words(f"{item.block_number:,}"),),
                )
            )
        )
    table = table_of(
        "Adjustments and reversals",
        ("No.", "What", "Amount#", "Reason", "Asked for by (UTC)", "Answered (UTC)", "Booked at block#"),
        rows,
        empty="Nothing was booked by hand.",
        shares=(1, 4, 2, 3, 2, 3, 1),
    )
    return Section(
        "corrections",
        "Adjustments and reversals",
        "What people booked by hand, why, who asked for it and which other person approved it.",
        (table,),
    )


def pending(report: Report) -> Section:
    rows = [
        row_of(
            Words(item.asset.symbol),
            Money(item.free),
            Money(item.in_flight),
            Money(item.held),
            Money(item.given_up),
            Money(item.owed),
            Money(item.ledger),
            Words("not read") if item.chain is None else Money(item.chain),
            Difference(item.difference),
        )
        for item in report.pending
    ]
    table = table_of(
        "Custody, by whom it is for",
        (
            "Asset",
            "Free#",
            "In flight#",
            "Held#",
            "Given up#",
            "Owed on chain#",
            "Ledger#",
            "On chain#",
            "Difference#",
        ),
        rows,
        kind="wide",
        empty="Nothing is in custody yet.",
    )
    return Section(
        "pending",
        "Pending bridge",
        "What our contracts hold and for whom. Free + in flight + held + given up + owed = ledger, and the ledger "
        "equals the chain.",
        (table,),
    )


def gas(report: Report) -> Section:
    rows = [
        row_of(
            Words(item.chain),
            Words(f"{item.transactions:,}"),
            Words(f"{item.reverted:,}"),
            Words(f"{item.gas_used:,}"),
            Money(item.budget, symbol=True),
            Money(item.fees),
            Words(percent(item.spent_ppm)),
            Money(item.booked),
            Difference(item.difference),
        )
        for item in report.gas
    ]
    names = "Chain", "Transactions#", "Reverted#", "Gas used#", "Allowed at most#", "Fees by receipts#", "Of that#"
    return Section(
        "gas",
        "Gas",
        "What the finalized transactions of the operator cost, beside what they were allowed to cost: gas limit × fee "
        "ceiling of each, and what a rollup takes beside its gas.",
        (
            table_of(
                "Finalized transactions of the operator",
                (*names, "Fees booked#", "Difference#"),
                rows,
                empty="No transaction of the operator is final yet.",
            ),
        ),
    )
