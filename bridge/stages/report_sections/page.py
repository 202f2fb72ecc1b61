"""The page of a report: its sections in order, for finance readers first, for auditors after."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.domain.reports.facts import ChainScope
from bridge.domain.reports.report import Report, Verdict
from bridge.stages.report_sections import Page, audit, finance, performance, short_hash, utc

_SIGNS = {Verdict.BALANCED: "✓", Verdict.BREAKS: "✕", Verdict.UNRECONCILED: "?"}


def page_of(report: Report) -> Page:
    """The whole of it. The same report gives the same page."""
    made = (
        finance.key_figures(report),
        finance.attention(report),
        finance.surplus(report),
        finance.roll_forward(report),
        finance.distributions(report),
        finance.breaks(report),
        finance.corrections(report),
        finance.pending(report),
        finance.gas(report),
        performance.performance(report),
        audit.checks(report),
        audit.completeness(report),
        audit.providers(report),
        audit.scope(report),
        audit.origin(report),
        audit.limitations(report),
        audit.terms(),
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
