"""Charts as SVG, in integers: no float touches an amount, and the same figures give the same bytes.

Kinds are told apart by patterns and labels, never by colour alone; every figure stands beside its mark. A drawing is
360 units wide (in tenths), so that its text can be read on a phone, and fits on paper twice beside itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from markupsafe import Markup, escape

from bridge.domain.breaks import PPM, Level
from bridge.domain.figures import LAG_BANDS, AgeBand, Lag, TrendPoint, percent
from bridge.domain.reports.report import Amount, Distribution, Waterfall
from bridge.stages.report_sections import Chart

WIDTH = 3_600
_TEXT = 110  # size of text
_ROW = 330
_LETTERS = 54
"""That a line has room for, its label and its figure together, in any usual font."""
_FIGURE_MAX = 24
_GAP = 2
"""Letters between two labels on one line."""
WINDOWS_MAX = 16
"""Bars in one chart; older windows stay in the table."""


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    figure: str
    kind: str
    start: int  # of WIDTH
    end: int


# ── Bars ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def waterfall_chart(fall: Waterfall, name: str) -> Chart:
    """Bars from left to right: what came in adds up, what was done with it takes away, to zero at the end.

    opening      ████
    earned           ████████
    paid         ███████         │
    in flight           ██       │  each begins where the one before ends
    left                  ███
    """
    came = [
        ("Held at opening", fall.opening),
        ("Promised before", fall.promised),
        ("Earned", fall.earned),
        ("Adjustments", fall.adjustments),
    ]
    went = [
        ("Paid", fall.paid, "paid"),
        ("Credited", fall.credited, "dots"),
        ("Claimable", fall.claimable, "lines"),
        ("In flight", fall.in_flight, "hatch"),
        ("Held", fall.held, "grid"),
        ("Given up", fall.given_up, "rings"),
        ("Carried", fall.carried, "cross"),
        ("Unallocated", fall.unallocated, "blank"),
    ]
    bars: list[tuple[str, Amount, str, int, int]] = []  # label, amount, kind, from, to in atoms
    level = 0
    for label, amount in came:
        bars.append((label, amount, "in", level, level + amount.atoms))
        level += amount.atoms
    bars.append(("To distribute", Amount(level, fall.asset), "sum", 0, level))
    level = 0
    for label, amount, kind in went:
        bars.append((label, amount, kind, level, level + amount.atoms))
        level += amount.atoms
    shown = [bar for bar in bars if bar[1].atoms or bar[2] == "sum"]
    low = min(0, *(min(bar[3], bar[4]) for bar in shown))
    high = max(1, *(max(bar[3], bar[4]) for bar in shown))
    rows = [
        _Bar(
            label,
            short_amount(amount),
            kind,
            _scaled(min(start, end), low, high),
            _scaled(max(start, end), low, high),
        )
        for label, amount, kind, start, end in shown
    ]
    described = ", ".join(f"{label} {amount}" for label, amount, *_ in shown)
    return _bars(name, f"Surplus, {fall.asset.symbol}: what came in, and where it is", described, rows)


def distribution_charts(distributions: Sequence[Distribution]) -> tuple[Chart, ...]:
    """One chart an asset: what was distributed for each window, the newest WINDOWS_MAX of them."""
    charts = []
    by_asset = sorted(distributions, key=lambda item: (item.total.asset.id, item.window_end, item.rule))
    for number, (asset, group) in enumerate(groupby(by_asset, key=lambda item: item.total.asset)):
        shown = list(group)[-WINDOWS_MAX:]
        high = max(item.total.atoms for item in shown)
        rows = [
            _Bar(
                f"{item.rule}, {_moment(item.window_end)}",
                short_amount(item.total) + ("" if item.state == "final" else f" {item.state.replace('_', ' ')}"),
                "paid" if item.state == "final" else "hatch",
                0,
                _scaled(item.total.atoms, 0, high),
            )
            for item in shown
        ]
        described = ", ".join(f"{item.rule} {item.total} {item.state}" for item in shown)
        title = f"Distributions by end of window (UTC), {asset.symbol}"
        charts.append(_bars(f"distributions-{number}", title, described, rows))
    return tuple(charts)


def ageing_chart(bands: Sequence[AgeBand]) -> Chart:
    rows = [(item.band, item.breaks) for item in bands]
    return _counts("ageing", "Open breaks by age", rows, "hatch")


def lag_chart(lag: Lag, name: str) -> Chart:
    rows = list(zip(LAG_BANDS, lag.bands, strict=True))
    return _counts(name, f"{lag.chain}: from final block to booked entry, blocks", rows, "in")


def _counts(name: str, title: str, rows: Sequence[tuple[str, int]], kind: str) -> Chart:
    high = max(1, *(count for _, count in rows))
    bars = [_Bar(label, f"{count:,}", kind if count else "none", 0, _scaled(count, 0, high)) for label, count in rows]
    return _bars(name, title, ", ".join(f"{label}: {count:,}" for label, count in rows), bars)


def _bars(name: str, title: str, description: str, bars: Sequence[_Bar]) -> Chart:
    def draw(font: str) -> str:
        height = _ROW * len(bars)
        marks = [mark for place, bar in enumerate(bars) for mark in _bar(name, bar, place * _ROW)]
        return _drawing(chart, height, marks, {bar.kind for bar in bars}, font)

    chart = Chart(name, title, description, draw)
    return chart


def _bar(name: str, bar: _Bar, top: int) -> list[Markup]:
    width = 0 if bar.kind == "none" else max(bar.end - bar.start, 20)  # what is there can be seen
    return [
        _text(0, top + 120, _shortened(bar.label, _LETTERS - len(bar.figure))),
        _text(WIDTH, top + 120, bar.figure, "end"),
        Markup('<rect class="track" x="0" y="{}" width="{}" height="100" fill="#eef1f4"/>').format(top + 165, WIDTH),
        _mark(name, bar.kind, (min(bar.start, WIDTH - width), top + 165), (width, 100)) if width else Markup(),
    ]


# ── Lines and cells: how it went over time ──────────────────────────────────────────────────────────────────────────
def consistency_chart(trend: Sequence[TrendPoint]) -> Chart:
    """Shares of checks and of value that agree, in groups of runs; at the top all of it.

    100 %  ●──────●      ●──     ● solid: by count
                   ╲    ╱        □ dashed: by value
    99 %            ●──●
    """
    counted = [point.whole.agreed_ppm for point in trend]
    valued = [point.value_ppm for point in trend]
    low = min([*counted, *(ppm for ppm in valued if ppm is not None)])
    low = next(floor for floor in (999_000, 990_000, 900_000, 500_000, 0) if floor <= low)
    described = "; ".join(
        f"{_moment(point.last_at)}: by count {percent(ppm)}, "
        f"by value {'not compared' if value is None else percent(value)}"
        for point, ppm, value in zip(trend, counted, valued, strict=True)
    )
    title = "Consistency: share of checks, and of value, that agree"

    def height_of(ppm: int) -> int:
        return 1_100 - (ppm - low) * 900 // (PPM - low)

    def draw(font: str) -> str:
        places = _places(len(trend))
        by_count = [(x, height_of(ppm)) for x, ppm in zip(places, counted, strict=True)]
        by_value = [(x, height_of(ppm)) for x, ppm in zip(places, valued, strict=True) if ppm is not None]
        marks = [
            _grid(200),
            _grid(1_100),
            _text(560, 240, "100 %", "end"),
            _text(560, 1_140, percent(low), "end"),
            _line(by_value, dashed=True),
            *(
                Markup(
                    '<rect x="{}" y="{}" width="90" height="90" fill="none" stroke="currentColor" stroke-width="16"/>'
                ).format(x - 45, y - 45)
                for x, y in by_value
            ),
            _line(by_count, dashed=False),
            *(Markup('<circle cx="{}" cy="{}" r="38" fill="currentColor"/>').format(x, y) for x, y in by_count),
            *_dates(trend, 1_300),
            Markup('<circle cx="60" cy="1470" r="38" fill="currentColor"/>'),
            _text(160, 1_510, "by count"),
            Markup(
                '<rect x="1155" y="1425" width="90" height="90" fill="none" stroke="currentColor" stroke-width="16"/>'
            ),
            _text(1_300, 1_510, "by value, worst asset"),
        ]
        return _drawing(chart, 1_560, marks, set(), font)

    chart = Chart("consistency", title, described, draw)
    return chart


def coverage_chart(trend: Sequence[TrendPoint]) -> Chart:
    """Levels of checks over time: whether all of a group of runs could be judged, and agreed."""
    levels = [str(level) for level in Level]
    found = {(item.level, column): item.tally for column, point in enumerate(trend) for item in point.levels}

    def kind(level: str, column: int) -> str:
        tally = found.get((level, column))
        if tally is None:
            return "blank"
        return "dark" if tally.broken else "hatch" if tally.skipped else "light"

    words = {"light": "all agree", "hatch": "some not judged", "dark": "some broken", "blank": "no check"}
    described = "; ".join(
        f"{level}: "
        + ", ".join(f"{_moment(trend[column].last_at)} {words[kind(level, column)]}" for column in range(len(trend)))
        for level in levels
    )
    title = "Coverage: what could be judged, by kind of check and time"

    def draw(font: str) -> str:
        left, size = 850, (WIDTH - 850) // len(trend)
        size = min(size, 500)
        marks = []
        for line, level in enumerate(levels):
            marks.append(_text(0, 190 * line + 130, level))
            for column in range(len(trend)):
                cell = kind(level, column)
                marks.append(_mark("coverage", cell, (left + column * size, 190 * line), (size - 14, 176)))
                if cell == "dark":
                    x = left + column * size + (size - 14) // 2
                    marks.append(_text(x, 190 * line + 128, "×", "middle", fill="#fff"))
        bottom = 190 * len(levels)
        marks += _dates(trend, bottom + 130, left, left + size * len(trend))
        for place, (cell, meaning) in enumerate(words.items()):
            x, y = 1_800 * (place % 2), bottom + 250 + 190 * (place // 2)
            marks += [_mark("coverage", cell, (x, y), (160, 130)), _text(x + 220, y + 110, meaning)]
        return _drawing(chart, bottom + 620, marks, set(words), font)

    chart = Chart("coverage", title, described, draw)
    return chart


def _places(count: int) -> list[int]:
    """Where `count` points stand beside each other."""
    left, right = 700, WIDTH - 100
    return [(left + right) // 2] if count == 1 else [left + (right - left) * n // (count - 1) for n in range(count)]


def _dates(trend: Sequence[TrendPoint], y: int, left: int = 600, right: int = WIDTH) -> list[Markup]:
    """When the first run ended and when the last one did; of the last the time alone, or of both the last alone, where
    there is no room for more and a gap between them."""
    first, last = _moment(trend[0].first_at), _moment(trend[-1].last_at)
    day, _, time = last.partition(" ")
    ends = [last] if first[: len(day)] != day else [last, time]
    fitting = [end for end in ends if (len(first) + _GAP + len(end)) * WIDTH <= (right - left) * _LETTERS]
    if first == last or not fitting:
        return [_text(left, y, last)]
    return [_text(left, y, first), _text(right, y, fitting[0], "end")]


def _line(points: Sequence[tuple[int, int]], *, dashed: bool) -> Markup:
    if len(points) < 2:
        return Markup()
    return Markup('<polyline points="{}" fill="none" stroke="currentColor" stroke-width="22"{}/>').format(
        " ".join(f"{x},{y}" for x, y in points), Markup(' stroke-dasharray="90 60"') if dashed else ""
    )


def _grid(y: int) -> Markup:
    return Markup(
        '<line x1="600" x2="{}" y1="{}" y2="{}" stroke="currentColor" stroke-width="6" opacity="0.35"/>'
    ).format(WIDTH, y, y)


# ── Marks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
_SOLID = {"in": "#8fb0d6", "sum": "#33465c", "paid": "#1f7a4d", "dark": "#8c1420", "light": "#cfe3d6", "blank": "none"}
_PATTERNS = {
    "hatch": '<path d="M0 60L60 0" stroke="currentColor" stroke-width="14"/>',
    "cross": '<path d="M0 60L60 0M0 0L60 60" stroke="currentColor" stroke-width="8"/>',
    "dots": '<circle cx="30" cy="30" r="16" fill="currentColor"/>',
    "grid": '<path d="M0 30H60M30 0V60" stroke="currentColor" stroke-width="8"/>',
    "rings": '<circle cx="30" cy="30" r="18" fill="none" stroke="currentColor" stroke-width="8"/>',
    "lines": '<path d="M0 30H60" stroke="currentColor" stroke-width="14"/>',
}


def _mark(name: str, kind: str, place: tuple[int, int], size: tuple[int, int]) -> Markup:
    fill = _SOLID.get(kind, f"url(#{name}-{kind})")
    return Markup(
        '<rect class="mark {}" x="{}" y="{}" width="{}" height="{}" fill="{}" stroke="currentColor" stroke-width="8"/>'
    ).format(kind, *place, *size, fill)


def _text(x: int, y: int, text: str, anchor: str = "start", fill: str = "currentColor") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}" fill="{}">{}</text>').format(x, y, anchor, fill, text)


def _drawing(chart: Chart, height: int, marks: Sequence[Markup], kinds: set[str], font: str) -> str:
    patterns = Markup("").join(
        Markup('<pattern id="{}-{}" width="60" height="60" patternUnits="userSpaceOnUse">{}</pattern>').format(
            chart.name,
            kind,
            Markup(_PATTERNS[kind]),  # noqa: S704 - ours
        )
        for kind in sorted(kinds & _PATTERNS.keys())
    )
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 {width} {height}" font-size="{size}"'
        '{font} role="img" aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{title}</title>'
        '<desc id="{name}-desc">{description}</desc>{patterns}{marks}</svg>'
    ).format(
        width=WIDTH,
        height=height,
        size=_TEXT,
        font=Markup(' font-family="{}"').format(font) if font else "",
        name=chart.name,
        title=chart.title,
        description=chart.description,
        patterns=Markup("<defs>{}</defs>").format(patterns) if patterns else "",
        marks=Markup("").join(escape(mark) for mark in marks),
    )


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: max(letters - 1, 8)]}…"


def _scaled(atoms: int, low: int, high: int) -> int:
    return (atoms - low) * WIDTH // (high - low)


def short_amount(amount: Amount) -> str:
    """For a chart: its first digits, cut off and never rounded; the table beside it has all of them."""
    whole, _, fraction = amount.text.partition(".")
    shown = f"{whole}.{fraction[:4].ljust(min(2, amount.asset.decimals), '0')}" if amount.asset.decimals else whole
    shown += "…" if fraction[4:] else ""
    if len(shown) > _FIGURE_MAX:
        shown = f"{whole[:11]}… ({sum(map(str.isdecimal, whole))} digits)"
    return shown.replace("-", "−")


def _moment(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M")
