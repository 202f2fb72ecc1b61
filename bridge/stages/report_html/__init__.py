"""A report as one HTML file that needs nothing else: for a screen, a phone, and paper.

    Page (report_sections) ──► page.html.j2 (structure) + page.css + charts (inline SVG) ──► one string

Everything from outside is escaped by the template engine; charts escape for themselves.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from bridge.domain.reports.report import Amount, Report
from bridge.domain.units import format_tx
from bridge.stages.report_sections import Chart, digits, short_account, short_hash, utc
from bridge.stages.report_sections.page import page_of

DIRECTORY = Path(__file__).parent
CSS = (DIRECTORY / "page.css").read_text(encoding="utf-8")


def render_html(report: Report) -> str:
    """The whole page; the same report gives the same bytes."""
    return _template().render(page=page_of(report), css=CSS)


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
        "hex": format_tx,
        "short": short_hash,
        "account": _account,
        "plain": plain,
        "signed": _signed,
        "number": _number,
        "kind": _kind,
        "drawing": _drawing,
    }
    return made


def _account(code: str) -> Markup:
    """It may be broken before the address only."""
    return Markup('{}:<wbr><span class="whole">{}</span>').format(*short_account(code))


def plain(amount: Amount) -> Markup:
    """Digits after the sixth decimal are set small and may stand on a line of their own: an amount of 18 decimals must
    neither be rounded nor burst its column."""
    head, tail = digits(amount)
    return escape(head) + Markup('<wbr><span class="tail">{}</span>').format(tail) if tail else escape(head)


def _signed(amount: Amount) -> Markup:
    """With + or −, for columns of differences and adjustments; zero has no sign."""
    text = plain(amount)
    return Markup("+") + text if amount.atoms > 0 else text


def _number(value: int) -> str:
    return f"{value:,}"


def _kind(value: object) -> str:
    return type(value).__name__


def _drawing(chart: Chart) -> Markup:
    return Markup(chart.draw(""))  # noqa: S704 - it escapes for itself
