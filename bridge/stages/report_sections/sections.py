"""The sections of a report and their words: for finance readers first, for auditors after."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from bridge.domain.figures import Spread, percent
from bridge.domain.reports.facts import ChainScope
from bridge.domain.reports.report import (
    Amount,
    Break,
    Completeness,
    Distribution,
    Gas,
    Held,
    KeyFigures,
    Report,
    RollForward,
    Verdict,
    Waterfall,
)
from bridge.domain.reports.wording import count_of
from bridge.stages.report_sections import (
    Account,
    Block,
    Cell,
    Charts,
    Code,
    Column,
    Difference,
    Figure,
    Figures,
    Hash,
    Moment,
    Money,
    Page,
    Paragraph,
    Part,
    Points,
    Row,
    Section,
    State,
    Table,
    Words,
    duration,
    milliseconds,
    short_hash,
    utc,
)
from bridge.stages.report_sections.charts import (
    ageing_chart,
    consistency_chart,
    coverage_chart,
    distribution_charts,
    lag_chart,
    waterfall_chart,
)

_SIGNS = {Verdict.BALANCED: "✓", Verdict.BREAKS: "✕", Verdict.UNRECONCILED: "?"}
_DASH = Words("—")


def page_of(report: Report) -> Page:
    """The whole of it. The same report gives the same page."""
    made = (
        _key_figures(report),
        _attention(report),
        _surplus(report),
        _roll_forward(report),
        _distributions(report),
        _breaks(report),
        _corrections(report),
        _pending(report),
        _gas(report),
        _performance(report),
        _checks(report),
        _completeness(report),
        _providers(report),
        _scope(report),
        _origin(report),
        _limitations(report),
        _terms(),
    )
    return Page(
        title=f"Surplus redistribution: {report.verdict} at {utc(report.generated_at)}",
        verdict=report.verdict.name.lower(),
        sign=_SIGNS[report.verdict],
        sentence=report.sentence,
        period=_period(report),
        cut_off=_cut_off(report.chains),
        sections=tuple(section for section in made if section is not None),
    )


def _period(report: Report) -> str:
    if report.period is None:
        return "Everything since the books were opened."
    return f"From {utc(report.period.start)} to {utc(report.period.end)}, the end not included."


def _cut_off(chains: Sequence[ChainScope]) -> str:
    told = [
        f"{chain.chain}, finalized block {chain.cut_off.number:,} ({short_hash(chain.cut_off.hash)}), "
        f"{utc(chain.cut_off.timestamp)}"
        for chain in chains
        if chain.cut_off
    ]
    return f"Books and chain at the cut-off of {'; '.join(told) or 'no chain: no block is final yet'}."


# ── For finance and operations ──────────────────────────────────────────────────────────────────────────────────────
def _key_figures(report: Report) -> Section:
    figures = []
    for fall in report.waterfalls:
        symbol = fall.asset.symbol
        figures.append(
            Figure(f"Earned, {symbol}", Money(fall.earned), (f"plus {_told(fall.opening)} held at opening",))
        )
        parts = ("paid", "credited", "claimable", "in_flight", "held", "given_up")
        told = [(name, getattr(fall, name)) for name in parts]
        notes = ", ".join(f"{_told(amount)} {name.replace('_', ' ')}" for name, amount in told if amount.atoms)
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


def _attention(report: Report) -> Section | None:
    if not report.attention:
        return None
    rows = [_row(Words(item.kind), Code(item.subject), Words(item.reason)) for item in report.attention]
    held = [_held(item) for item in report.held]
    names = ("Distribution", "Rule", "Batch#", "For", "Amount#", "Since (UTC)", "Why")
    shares = (2, 2, 1, 3, 2, 2, 4)
    return Section(
        "attention",
        "Waits for a person",
        "Nothing here goes on before somebody decides.",
        (
            _table(
                "Held steps and decisions, corrections that were asked for, and work given up after its retries",
                ("What", "Which", "Why"),
                rows,
            ),
            *([_table("Payouts that are held", names, held, shares=shares)] if held else []),
        ),
        warns=True,
    )


def _held(item: Held) -> Row:
    whom = Words(count_of(item.recipients, "recipient")) if item.recipient is None else Code(item.recipient)
    return _row(
        Hash(item.distribution_id),
        Words(item.rule),
        Words(f"{item.batch_index:,}"),
        whom,
        Money(item.amount, symbol=True),
        Moment(item.since),
        Words(item.reason),
    )


def _surplus(report: Report) -> Section:
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
        _row(Words(name), *(Money(getattr(fall, field), signed=field == "adjustments") for fall in falls), kind=kind)
        for field, name, kind in _STEPS
        if with_promised or field != "promised"
    ]
    rows.append(_row(Words("Allocated in the ledger minus decided"), *(Difference(fall.undecided) for fall in falls)))
    names = ("Step", *(f"{fall.asset.symbol}#" for fall in falls))
    kind = "pairs" if len(falls) == 1 else ""
    return _table("The same with every digit", names, rows, kind=kind, shares=(3, *(1 for _ in falls)))


def _roll_forward(report: Report) -> Section:
    since = "the end of the period before" if report.period else "the opening of the books"
    shown = [row for row in report.roll_forward if _holds_or_moved(row)]
    quiet = len(report.roll_forward) - len(shown)
    rows = [
        _row(
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
    table = _table(
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


def _distributions(report: Report) -> Section:
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
    table = _table(
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


def _breaks(report: Report) -> Section:
    register = _table(
        "Breaks, open ones first",
        ("No.", "Kind", "Subject", "Amount#", "Open for#", "Found after#", "State", "Evidence"),
        [_break(item) for item in report.breaks],
        empty="No break was ever found." if report.period is None else "No break stood in this period.",
        shares=(1, 2, 3, 2, 1, 1, 3, 4),
    )
    history = _table(
        "What was done about them",
        ("No.", "When (UTC)", "By", "From", "To", "Words"),
        [
            _row(
                Words(str(event.break_id)),
                Moment(event.at),
                Words(event.by),
                _DASH if event.from_state is None else State(event.from_state),
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
            (_DASH if item.amount is None else Money(item.amount, signed=True, symbol=True),),
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


def _corrections(report: Report) -> Section:
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
                    (_DASH if item.amount is None else Money(item.amount, symbol=True),),
                    (Words(item.reason), *about),
                    (Words(item.asked_by), Moment(item.asked_at)),
                    answer,
                    (_DASH if item.block_number is None else Words(f"{item.block_number:,}"),),
                )
            )
        )
    table = _table(
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


def _pending(report: Report) -> Section:
    rows = [
        _row(
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
    table = _table(
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


def _gas(report: Report) -> Section:
    rows = [
        _row(
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
            _table(
                "Finalized transactions of the operator",
                (*names, "Fees booked#", "Difference#"),
                rows,
                empty="No transaction of the operator is final yet.",
            ),
        ),
    )


# ── How well it goes ────────────────────────────────────────────────────────────────────────────────────────────────
def _performance(report: Report) -> Section:
    told = report.key_figures
    charts = [lag_chart(lag, f"lag-{number}") for number, lag in enumerate(told.lags) if lag.blocks]
    if told.trend:
        charts = [consistency_chart(told.trend), coverage_chart(told.trend), *charts]
    blocks: list[Block] = [_indicators(told, report)]
    if charts:
        blocks.append(Charts(tuple(charts)))
    if told.trend:
        blocks.append(_trend(told))
    return Section(
        "performance",
        "How well it goes",
        "How much agrees, how much could be looked at, and how long things take: p50 is the median, and 95 % took no "
        "longer than p95.",
        tuple(blocks),
    )


def _indicators(told: KeyFigures, report: Report) -> Table:
    checks, entries = told.checks, told.entries
    judged = checks.agreed + checks.broken
    rows: list[tuple[str, Part, str]] = [
        (
            "Consistency by count",
            Words(percent(checks.agreed_ppm)),
            f"{checks.agreed:,} of {count_of(judged, 'check')} that could be judged agree",
        ),
        *(
            (
                f"Consistency by value, {share.whole.asset.symbol}",
                Words(percent(share.ppm)),
                f"{_told(share.common)} of {_told(share.whole)} stand in books and chain alike",
            )
            for share in told.values
        ),
        (
            "Coverage",
            Words(percent(checks.coverage_ppm)),
            f"{judged:,} of {judged + checks.skipped:,} checks could be judged; {checks.exempt:,} more are exempt",
        ),
        (
            "Auto-match rate",
            Words(percent(entries.matched_ppm)),
            f"{entries.automatic:,} journals without a person, {entries.by_hand:,} by hand, {entries.unmatched:,} open",
        ),
        *_times("Event mined to decided", told.latencies.mined_to_decided_s, "distribution"),
        *_times("Event mined to payout final", told.latencies.mined_to_final_s, "distribution"),
        *_times("Payout final to posted", told.latencies.final_to_posted_s, "distribution"),
        *_times("Event mined to posted, end to end", told.latencies.mined_to_posted_s, "distribution"),
        *_times("Time to detect a break", told.detect_s, "break"),
        *_times("Time to resolve a break", told.resolve_s, "break"),
        *(
            (
                f"Finalized to posted, {lag.chain}",
                Words(f"p50 {milliseconds(lag.p50_ms)}, p95 {milliseconds(lag.p95_ms)}"),
                f"{count_of(lag.blocks, 'block')} that hold events of ours",
            )
            for lag in told.lags
        ),
        (
            "Open breaks by age",
            Words(f"{sum(band.breaks for band in told.open_by_age):,}"),
            ", ".join(f"{band.band}: {band.breaks:,}" for band in told.open_by_age),
        ),
    ]
    suspense = [
        (
            f"Suspense, {item.account}, {item.balance.asset.symbol}",
            Difference(item.balance),
            "moved on chain and not explained; zero when all is",
        )
        for item in report.suspense
    ]
    made = [_row(Words(name), value, Words(meaning)) for name, value, meaning in (*rows, *suspense)]
    return _table("Indicators", ("What", "Figure#", "Of what"), made, shares=(2, 2, 4))


def _times(name: str, told: Spread, noun: str) -> Iterable[tuple[str, Part, str]]:
    figure = f"p50 {duration(told.p50)}, p95 {duration(told.p95)}" if told.count else "—"
    yield name, Words(figure), count_of(told.count, noun)


def _trend(told: KeyFigures) -> Table:
    rows = [
        _row(
            Moment(point.first_at),
            Moment(point.last_at),
            *(
                Words(f"{number:,}")
                for number in (
                    point.runs,
                    point.whole.agreed,
                    point.whole.broken,
                    point.whole.skipped,
                    point.whole.exempt,
                )
            ),
            Words(percent(point.whole.agreed_ppm)),
            _DASH if point.value_ppm is None else Words(percent(point.value_ppm)),
            Words(percent(point.whole.coverage_ppm)),
        )
        for point in told.trend
    ]
    names = (
        "From (UTC)",
        "To (UTC)",
        "Runs#",
        "Agreed#",
        "Broken#",
        "Not judged#",
        "Exempt#",
        "By count#",
        "By value#",
        "Coverage#",
    )
    return _table(
        "The same over time, in groups of runs", names, rows, kind="dense", shares=(3, 3, 1, 1, 1, 1, 1, 2, 2, 2)
    )


# ── For an auditor ──────────────────────────────────────────────────────────────────────────────────────────────────
def _checks(report: Report) -> Section:
    rows = [
        _row(
            Words(item.level),
            Words(item.chain),
            State(item.outcome),
            Words(item.cause or "—"),
            Words(f"{item.count:,}"),
        )
        for item in report.checks
    ]
    run = report.reconciliation
    told = (
        "No reconciliation yet." if run is None else f"Reconciliation {run.reconciliation_id}, {utc(run.finished_at)}."
    )
    return Section(
        "checks",
        "Checks",
        f"What the reconciliation looked at, and everything that it skipped, with the cause. {told}",
        (
            _table(
                "Checks by kind and outcome",
                ("Kind", "Chain", "Outcome", "Cause", "Checks#"),
                rows,
                empty="Nothing was checked yet.",
                shares=(1, 1, 1, 4, 1),
            ),
        ),
    )


def _completeness(report: Report) -> Section:
    ranges = [
        _row(
            Words(item.chain),
            Words(f"{span.first_block:,} – {span.last_block:,}"),
            Words(f"{span.ranges:,}"),
            Words(f"{span.logs:,}"),
            Code(span.read_by),
            Code(span.verified_by + ("" if span.independent else " (the same)")),
        )
        for item in report.completeness
        for span in item.spans
    ]
    seals = [
        _row(
            Words(item.chain),
            Words(f"{item.journals:,}"),
            Words(f"{item.sealed:,}"),
            _DASH if item.last_sequence is None else Words(f"{item.last_sequence:,}"),
            _DASH if item.head is None else Code(f"0x{item.head.hex()}"),
        )
        for item in report.seals
    ]
    return Section(
        "completeness",
        "Completeness",
        "That nothing is missing: blocks were read in ranges without a gap, each one twice, and journals are linked "
        "into one hash chain.",
        (
            Points(tuple(_complete(item) for item in report.completeness)),
            _table(
                "Finalized ranges",
                ("Chain", "Blocks", "Ranges#", "Logs#", "Read by", "Verified by"),
                ranges,
                empty="Nothing was read yet.",
                shares=(1, 2, 1, 1, 3, 3),
            ),
            _table(
                "Journals of this report, and the hash chain that they are sealed into",
                ("Chain", "Journals#", "Sealed#", "Newest seal#", "Head of the hash chain there"),
                seals,
                empty="Nothing is booked yet.",
                shares=(1, 1, 1, 1, 5),
            ),
        ),
    )


def _complete(item: Completeness) -> str:
    gaps = "no gap" if not item.gaps else count_of(len(item.gaps), "gap")
    if not item.spans:
        return f"{item.chain}: nothing was read yet."
    second = (
        "every range was verified by another provider than the one that read it"
        if item.independent
        else "the same provider read and verified: the second read is not independent"
    )
    return f"{item.chain}: {count_of(item.logs, 'finalized log')}, {gaps}; {second}."


def _providers(report: Report) -> Section:
    rows = [
        _row(Words(item.chain), Code(item.name), Words(f"{item.ranges_read:,}"), Words(f"{item.ranges_verified:,}"))
        for item in report.providers
    ]
    named = ", ".join(str(number) for number in report.disagreements)
    told = f"Their disagreements are breaks {named} of the register." if named else "No disagreement was recorded."
    return Section(
        "providers",
        "RPC providers",
        f"Who told us what is on the chain. {told}",
        (
            _table(
                "Endpoints and the finalized ranges that they read or verified",
                ("Chain", "Endpoint", "Read#", "Verified#"),
                rows,
                empty="No endpoint was asked yet.",
                shares=(1, 4, 1, 1),
            ),
        ),
    )


def _scope(report: Report) -> Section:
    chains = [
        _row(
            Words(chain.chain),
            Words(chain.reference),
            Hash(chain.genesis_hash),
            Words(f"{chain.start_block:,}"),
            _DASH if chain.opening is None else Words(f"{chain.opening.number:,}"),
            _DASH if chain.cut_off is None else Words(f"{chain.cut_off.number:,}"),
            _DASH if chain.cut_off is None else Hash(chain.cut_off.hash),
            _DASH if chain.posted_through is None else Words(f"{chain.posted_through:,}"),
            Words(f"{chain.reorgs:,} ({count_of(chain.blocks_orphaned, 'block')})"),
        )
        for chain in report.chains
    ]
    assets = [_row(Words(a.symbol), Code(a.id), Words(str(a.decimals))) for a in report.assets]
    accounts = [
        _row(Code(account), Words("contract of ours" if account in report.contracts else "sending account"))
        for account in report.accounts
    ]
    rules = [
        _row(
            Words(f"{rule.rule} v{rule.version}"),
            Code(f"0x{rule.content_hash.hex()}"),
            *(Words(f"{number:,}") for number in (rule.pay, rule.carry, rule.nothing, rule.hold)),
        )
        for rule in report.rules
    ]
    names = "Chain", "Reference", "Genesis", "Books from#", "Opening#", "Cut-off#", "Its hash", "Booked through#"
    return Section(
        "scope",
        "Scope",
        "Chains, assets, wallets and rules that this report is about. Its opening is the closing of the period before.",
        (
            _table("Chains", (*names, "Reorganisations#"), chains, empty="No chain yet."),
            _table("Assets", ("Symbol", "Asset", "Decimals#"), assets, empty="No asset yet.", shares=(1, 4, 1)),
            _table("Watched wallets", ("Account", "Kind"), accounts, kind="pairs", empty="None yet.", shares=(3, 1)),
            _table(
                "Rules",
                ("Rule", "sha256 of its text", "Paid#", "Carried#", "Nothing#", "Held#"),
                rules,
                empty="No rule has decided yet.",
                shares=(2, 5, 1, 1, 1, 1),
            ),
        ),
    )


def _origin(report: Report) -> Section:
    origin = report.origin
    rows = [
        _row(Words("Program"), Code(f"bridge {origin.version}" if origin.version else "—")),
        _row(Words("sha256 of its code"), Code(origin.code_sha256 or "—")),
        _row(Words("sha256 of the configuration file"), Code(origin.config_sha256 or "—")),
    ]
    return Section(
        "origin",
        "Made by",
        "Which program and which configuration made this report; hashes of rules stand under Scope.",
        (_table("Program and configuration", ("What", "Value"), rows, kind="pairs", shares=(1, 3)),),
    )


def _limitations(report: Report) -> Section:
    return Section(
        "limitations", "Limitations", "What must not be concluded from this report.", (Points(report.limitations),)
    )


_TERMS = (
    ("Atom", "The smallest unit of an asset. Every amount is an exact number of them; nothing is rounded."),
    ("Finalized", "A block that the chain will not replace any more. Only such blocks count."),
    ("Cut-off", "The finalized block, named by number and hash, at which books and chain are compared."),
    (
        "Break",
        "A difference between books and chain. It stays in the register, with its history, after it is resolved.",
    ),
    ("Surplus", "What a rule found that the vault holds beyond what it owes."),
    ("In flight", "Decided to be paid, and not yet in a finalized block."),
    ("Held", "Decided to be paid, and stopped until a person releases it or gives it up. It stays put aside."),
    ("Given up", "Decided to be paid, and not paid by the bridge any more: still owed, until a person settles it."),
    ("Credited", "A transfer that the recipient's side refused: the contract keeps the amount for it."),
    ("Claimable", "Published in a tree of claims: each account takes its part itself."),
    ("Carried", "Too small to be paid yet, or more than a limit lets through: it waits for a later window."),
    ("Dust", "What division leaves over. It is never lost: it stays unallocated or is carried."),
    ("Suspense", "Moved on the chain and not explained yet. Zero when everything is."),
    ("Seal", "A journal's place in a hash chain: whoever changes one journal changes every later head."),
)


def _terms() -> Section:
    rows = [_row(Words(term), Words(meaning)) for term, meaning in _TERMS]
    return Section(
        "terms", "Terms", "What words mean here.", (_table("Terms", ("Term", "Meaning"), rows, shares=(1, 5)),)
    )


# ── Parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _row(*parts: Part, kind: str = "") -> Row:
    return Row(tuple(_cell(part) for part in parts), kind)


def _cell(part: Part) -> Cell:
    return (part,)


def _table(
    caption: str,
    names: Sequence[str],
    rows: Sequence[Row],
    *,
    kind: str = "",
    empty: str = "",
    shares: Sequence[int] = (),
) -> Table:
    """A name that ends with # is that of a column of numbers."""
    shares = shares or (1,) * len(names)
    columns = tuple(
        Column(name.removesuffix("#"), name.endswith("#"), share) for name, share in zip(names, shares, strict=True)
    )
    assert all(len(row.cells) == len(columns) for row in rows)
    return Table(caption, columns, tuple(rows), kind, empty)


def _told(amount: Amount) -> str:
    return amount.text.replace("-", "−")
