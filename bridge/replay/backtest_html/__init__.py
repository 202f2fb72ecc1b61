"""A backtest as one HTML file that needs nothing else, in the style and with the charts of the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Template
from markupsafe import Markup

from bridge.domain.decisions import Verdict
from bridge.domain.ledger import Asset
from bridge.domain.reports.report import Amount
from bridge.domain.units import AssetId, format_address
from bridge.replay.backtest_outcome import RECIPIENTS_SHOWN, Epoch, Outcome, Tally
from bridge.stages.report_html import CSS, environment
from bridge.stages.report_html.charts import bar, bar_chart, scale
from bridge.stages.report_sections import utc

DIRECTORY = Path(__file__).parent

_EPOCHS = Asset(AssetId("epochs"), "", None, "epochs", 0)
"""So that a number of epochs can stand in a chart."""


def render_html(outcome: Outcome) -> str:
    """The whole page; the same backtest gives the same bytes."""
    tallies = [tally for tally in (outcome.tally, outcome.against) if tally is not None]
    return _template().render(
        outcome=outcome,
        rule=outcome.tally.rule.plan.rule,
        other=None if outcome.against is None else outcome.against.rule.plan.rule,
        tallies=tallies,
        css=CSS,
        amount_of=lambda atoms: Amount(atoms, outcome.asset),
        held=outcome.tally.verdicts[Verdict.HOLD],
        charts=_charts(outcome),
        compared=outcome.compared()[:RECIPIENTS_SHOWN],
        address=format_address,
        Verdict=Verdict,
    )


@cache
def _template() -> Template:
    return environment(DIRECTORY).get_template("backtest.html.j2")


def _charts(outcome: Outcome) -> list[Markup]:
    tallies = [tally for tally in (outcome.tally, outcome.against) if tally is not None]
    charts: list[Markup] = []
    for tally in tallies:
        name = f"{tally.rule.name} v{tally.rule.plan.rule.version}" if len(tallies) > 1 else ""
        charts += [
            *_epochs_chart(tally.newest, outcome.asset, name),
            *_recipients_chart(tally, outcome.asset, name),
            *_guards_chart(tally, name),
        ]
    return charts


def _epochs_chart(epochs: Sequence[Epoch], asset: Asset, name: str) -> list[Markup]:
    """What each epoch found; those that do not pay are outlines."""
    if not epochs:
        return []
    high = max(1, *(epoch.surplus for epoch in epochs))
    rows = [
        bar(
            utc(epoch.end)[:16],
            Amount(epoch.surplus, asset),
            "paid" if epoch.verdict is Verdict.PAY else "flight",
            start=0,
            end=scale(epoch.surplus, 0, high),
            note=epoch.verdict.value,
        )
        for epoch in epochs
    ]
    described = ", ".join(f"{utc(epoch.end)[:16]} {Amount(epoch.surplus, asset)} {epoch.verdict}" for epoch in epochs)
    return [bar_chart(_title(f"Surplus by end of epoch (UTC), {asset.symbol}", name), described, rows)]


def _recipients_chart(tally: Tally, asset: Asset, name: str) -> list[Markup]:
    largest = tally.largest()
    if not largest:
        return []
    high = max(amount for _, amount in largest)
    rows = [
        bar(format_address(who), Amount(amount, asset), "paid", start=0, end=scale(amount, 0, high))
        for who, amount in largest
    ]
    described = ", ".join(f"{format_address(who)} {Amount(amount, asset)}" for who, amount in largest)
    return [bar_chart(_title(f"Recipients who would have got most, {asset.symbol}", name), described, rows)]


def _guards_chart(tally: Tally, name: str) -> list[Markup]:
    if not tally.guards:
        return []
    hits = sorted(tally.guards.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        bar(guard, Amount(count, _EPOCHS), "left", start=0, end=scale(count, 0, max(tally.epochs, 1)), note=verdict)
        for (guard, verdict), count in hits
    ]
    described = ", ".join(f"{guard} {verdict} {count}" for (guard, verdict), count in hits)
    return [bar_chart(_title(f"Guardrails, epochs of {tally.epochs:,}", name), described, rows)]


def _title(title: str, name: str) -> str:
    return f"{title}: {name}" if name else title
