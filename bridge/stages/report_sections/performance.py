"""The section that says how well it goes: shares, ages, times."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.domain.figures import Spread, percent
from bridge.domain.reports.report import KeyFigures, Report
from bridge.domain.reports.wording import count_of
from bridge.stages.report_sections import (
    Block,
    Charts,
    Difference,
    Moment,
    Part,
    Section,
    Table,
    Words,
    duration,
    milliseconds,
)
from bridge.stages.report_sections.charts import consistency_chart, coverage_chart, lag_chart
from bridge.stages.report_sections.parts import DASH, row_of, signed, table_of


def performance(report: Report) -> Section:
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
                f"{signed(share.common)} of {signed(share.whole)} stand in books and chain alike",
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
    made = [row_of(Words(name), value, Words(meaning)) for name, value, meaning in (*rows, *suspense)]
    return table_of("Indicators", ("What", "Figure#", "Of what"), made, shares=(2, 2, 4))


def _times(name: str, told: Spread, noun: str) -> Iterable[tuple[str, Part, str]]:
    figure = f"p50 {duration(told.p50)}, p95 {duration(told.p95)}" if told.count else "—"
    yield name, Words(figure), count_of(told.count, noun)


def _trend(told: KeyFigures) -> Table:
    rows = [
        row_of(
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
            DASH if point.value_ppm is None else Words(percent(point.value_ppm)),
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
    return table_of(
        "The same over time, in groups of runs", names, rows, kind="dense", shares=(3, 3, 1, 1, 1, 1, 1, 2, 2, 2)
    )
