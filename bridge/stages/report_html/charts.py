"""Charts as inline SVG, in integers: bars are placed in whole hundredths of a percent, no float touches an amount.

Each chart has a description for those who cannot see it and prints its figures beside its bars. Kinds are told apart by
their labels, and what is not final by an outline, not by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

from markupsafe import Markup, escape

from bridge.domain.reports import Amount, Distribution, Waterfall

_WIDTH = 10_000  # of the plot, in user units: a bar is placed to the hundredth of a percent
WINDOWS_MAX = 24
"""Bars in one chart; older windows stay in the table."""


def waterfall_chart(fall: Waterfall) -> Markup:
    """Bars from left to right: what came in adds up, what was done with it takes away, to zero at the end.

    opening      ████
    earned           ████████
    paid         ███████         │
    in flight           ██       │  each begins where the one before ends
    left                  ███
    """
    came = [
        ("Held at opening", fall.opening),
        ("In flight before", fall.promised),
        ("Earned", fall.earned),
        ("Adjustments", fall.adjustments),
    ]
    went = [
        ("Paid", fall.paid),
        ("Credited", fall.credited),
        ("Claimable", fall.claimable),
        ("In flight", fall.in_flight),
        ("Carried", fall.carried),
        ("Unallocated", fall.unallocated),
    ]
    bars: list[tuple[str, Amount, str, int, int]] = []  # label, amount, kind, from, to in atoms
    level = 0
    for label, amount in came:
        bars.append((label, amount, "in", level, level + amount.atoms))
        level += amount.atoms
    bars.append(("To distribute", Amount(level, fall.asset), "sum", 0, level))
    level = 0
    for label, amount in went:
        bars.append((label, amount, _kind(label), level, level + amount.atoms))
        level += amount.atoms
    shown = [bar for bar in bars if bar[1].atoms or bar[2] == "sum"]
    low = min(0, *(min(bar[3], bar[4]) for bar in shown))
    high = max(1, *(max(bar[3], bar[4]) for bar in shown))
    rows = [
        bar(
            *(label, amount, kind),
            start=scale(min(start, end), low, high),
            end=scale(max(start, end), low, high),
        )
        for label, amount, kind, start, end in shown
    ]
    described = ", ".join(f"{label} {amount}" for label, amount, *_ in shown)
    return bar_chart(f"Surplus waterfall, {fall.asset.symbol}", described, rows)


def _kind(label: str) -> str:
    return {"Paid": "paid", "Credited": "credited", "Claimable": "credited", "In flight": "flight"}.get(label, "left")


def distribution_charts(distributions: Sequence[Distribution]) -> list[Markup]:
    """One chart an asset: what was distributed for each window, the newest WINDOWS_MAX of them."""
    charts = []
    by_asset = sorted(distributions, key=lambda item: (item.total.asset.id, item.window_end, item.rule))
    for asset, group in groupby(by_asset, key=lambda item: item.total.asset):
        shown = list(group)[-WINDOWS_MAX:]
        high = max(item.total.atoms for item in shown)
        rows = [
            bar(
                f"{item.rule}, {_day(item.window_end)}",
                item.total,
                "paid" if item.state == "final" else "flight",
                start=0,
                end=scale(item.total.atoms, 0, high),
                note=item.state.replace("_", " "),
            )
            for item in shown
        ]
        described = ", ".join(f"{item.rule} {item.total} {item.state}" for item in shown)
        charts.append(bar_chart(f"Distributions by end of window (UTC), {asset.symbol}", described, rows))
    return charts


def _day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%m-%d %H:%M")


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


def plain(amount: Amount) -> Markup:
    """Every digit, and two decimals at least where the asset has them, so that columns line up.

    Digits after the sixth decimal are set small and may stand on a line of their own: an amount of 18 decimals must
    neither be rounded nor burst its column.
    """
    whole, _, fraction = amount.text.partition(".")
    fraction = fraction.ljust(min(2, amount.asset.decimals), "0")
    text = escape(f"{whole}.{fraction[:6]}" if fraction else whole).replace("-", "−")
    return text + Markup('<wbr><span class="tail">{}</span>').format(fraction[6:]) if fraction[6:] else text


def bar_chart(title: str, description: str, rows: Sequence[Markup]) -> Markup:
    return Markup('<figure class="chart" aria-label="{}"><figcaption>{}</figcaption><ul>{}</ul></figure>').format(
        f"{title}: {description}", title, Markup("").join(escape(row) for row in rows)
    )
