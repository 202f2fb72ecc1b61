"""A report as one HTML file that needs nothing else: for a screen, a phone, and paper.

    Report ──► page.html.j2 (structure and words) + page.css + charts (inline SVG) ──► one string

Everything from outside is escaped by the template engine; charts escape for themselves.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from bridge.domain.reports import Amount, Report, Verdict
from bridge.stages.report_html.charts import distribution_charts, plain, waterfall_chart

DIRECTORY = Path(__file__).parent
CSS = (DIRECTORY / "page.css").read_text(encoding="utf-8")

_SIGNS = {Verdict.BALANCED: "✓", Verdict.BREAKS: "✕", Verdict.UNRECONCILED: "?"}  # readable without colour


def render_html(report: Report) -> str:
    """The whole page; the same report gives the same bytes."""
    return _template().render(
        report=report,
        sign=_SIGNS[report.verdict],
        css=CSS,
        waterfall_chart=waterfall_chart,
        distribution_charts=distribution_charts(report.distributions),
    )


@cache
def _template() -> Template:
    return environment().get_template("page.html.j2")


def environment(*directories: Path) -> Environment:
    """What pages of this style are made with; templates in `directories` may import parts.html.j2."""
    made = Environment(
        loader=FileSystemLoader([*directories, DIRECTORY]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "utc": utc,
        "hex": _hex,
        "short": _short,
        "code": _code,
        "duration": _duration,
        "plain": plain,
        "signed": _signed,
        "number": _number,
        "evidence": _evidence,
    }
    return made


def utc(timestamp: int | None) -> str:
    if timestamp is None:
        return "—"
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _short(value: bytes) -> str:
    """For eyes; the whole value stands in the element's title."""
    return f"0x{value.hex()[:8]}…{value.hex()[-4:]}"


def _code(account: str) -> Markup:
    """An account code with its address shortened: vault:0x1234…abcd; it may be broken before the address only."""
    name, _, address = account.rpartition(":")
    short = f"{address[:8]}…{address[-4:]}" if len(address) > 20 else address
    return Markup('{}:<wbr><span class="whole">{}</span>').format(name, short)


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return "—"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _signed(amount: Amount) -> Markup:
    """With + or −, for columns of differences and adjustments; zero has no sign."""
    text = plain(amount)
    return Markup("+") + text if amount.atoms > 0 else text


def _number(value: int) -> str:
    return f"{value:,}"


def _evidence(text: str) -> list[tuple[str, str]]:
    """JSON evidence as name and value, in the order it was stored."""
    found = json.loads(text)
    if not isinstance(found, dict):
        return [("evidence", text)]
    return [(str(name), value if isinstance(value, str) else json.dumps(value)) for name, value in found.items()]
