"""Bars that are as wide as there is room, for pages with long lists: placed in whole hundredths of a percent, no float
touches an amount. The report's own charts are in report_sections.

Each chart has a description for those who cannot see it and prints its figures beside its bars. Kinds are told apart by
their labels, and what is not final by an outline, not by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from bridge.domain.reports.report import Amount
from bridge.stages.report_html import plain

_WIDTH = 10_000  # of the plot, in user units: a bar is placed to the hundredth of a percent


def scale(atoms: int, low: int, high: int) -> int:
    return (atoms - low) * _WIDTH // (high - low)


def bar(label: str, amount: Amount, kind: str, *, start: int, end: int, note: str = "") -> Markup:
    width = max(end - start, 25)  # what is there can be seen
    return Markup(
        '<li class="bar"><span class="bar-label">{}{}</span>'
        '<svg class="plot" viewBox="0 0 10000 100" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="track" width="10000" height="100"/><rect class="fill {}" x="{}" width="{}" height="100"/></svg>'
        '<span class="bar-value" title="{} atoms">{}</span></li>'
    ).format(
        label,
        Markup(' <small class="note">{}</small>').format(note) if note else "",
        kind,
        min(start, _WIDTH - width),
        width,
        amount.atoms,
        plain(amount),
    )


def bar_chart(title: str, description: str, rows: Sequence[Markup]) -> Markup:
    return Markup('<figure class="chart" aria-label="{}"><figcaption>{}</figcaption><ul>{}</ul></figure>').format(
        f"{title}: {description}", title, Markup("").join(escape(row) for row in rows)
    )
