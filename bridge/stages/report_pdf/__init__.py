"""A report as PDF: the sections of the page, set on A4 with its period and cut-off at the head of each sheet.

    Page (report_sections) ──JSON──► page.typ ──typst──► PDF

Needs the extra `pdf`. The typesetter has its fonts within it and is given no others, no clock and no network: the same
page gives the same bytes on every machine, with the same version of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typst

from bridge.domain.reports.report import Report
from bridge.stages.report_sections import (
    Account,
    Block,
    Cell,
    Charts,
    Difference,
    Figures,
    Hash,
    Moment,
    Money,
    Page,
    Paragraph,
    Part,
    Points,
    State,
    Table,
    Words,
    digits,
    short_account,
    short_hash,
)
from bridge.stages.report_sections.page import page_of

FONT = "Libertinus Serif"
_CROSS = "×"
"""The fonts have no other."""
_TEMPLATE = (Path(__file__).parent / "page.typ").read_bytes()


def render_pdf(report: Report) -> bytes:
    """The whole document; the same report gives the same bytes."""
    made = typst.compile(
        _TEMPLATE,
        ignore_system_fonts=True,
        font_paths=[],
        sys_inputs={"page": json.dumps(_page(page_of(report)), ensure_ascii=False)},
        format="pdf",
        timestamp=0,
    )
    assert isinstance(made, bytes)
    return made


def made_by(content: bytes) -> bytes | None:
    """What a PDF says it was typeset by, where it says so."""
    found = re.search(rb"/Creator ?\(([^)]*)\)", content)
    return None if found is None else found[1]


def _page(page: Page) -> dict[str, Any]:
    return {
        "title": page.title,
        "sign": page.sign.replace("✕", _CROSS),
        "verdict": page.verdict,
        "sentence": page.sentence,
        "period": page.period,
        "cut_off": page.cut_off,
        "sections": [
            {
                "title": section.title,
                "says": section.says,
                "warns": section.warns,
                "blocks": [_block(block) for block in section.blocks],
            }
            for section in page.sections
        ],
    }


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Table():
            return {
                "kind": "table",
                "caption": block.caption,
                "wide": len(block.columns) > 7,
                "empty": block.empty or "None.",
                "columns": [{"name": c.name, "numeric": c.numeric, "share": c.share} for c in block.columns],
                "rows": [{"kind": row.kind, "cells": [_cell(cell) for cell in row.cells]} for row in block.rows],
            }
        case Charts():
            charts = [
                {"title": chart.title, "words": chart.description, "svg": chart.draw(FONT)} for chart in block.charts
            ]
            return {"kind": "charts", "charts": charts}
        case Figures():
            figures = [{"name": f.name, "value": _part(f.value), "notes": list(f.notes)} for f in block.figures]
            return {"kind": "figures", "figures": figures}
        case Points():
            return {"kind": "points", "points": list(block.points)}
        case Paragraph():
            return {"kind": "paragraph", "text": block.text}


def _cell(cell: Cell) -> list[dict[str, str]]:
    return [_part(part) for part in cell]


def _part(part: Part) -> dict[str, str]:  # noqa: PLR0911  # one for each kind
    """Its text and how it is set."""
    match part:
        case Words():
            return {"kind": "small" if part.small else "text", "text": _breakable(part.text)}
        case Moment():
            return {"kind": "text", "text": part.said}
        case Money():
            sign = "+" if part.signed and part.amount.atoms > 0 else ""
            return _amount(part, sign, "text")
        case Difference():
            if part.amount is None:
                return {"kind": "text", "text": "—"}
            wrong = part.amount.atoms != 0
            sign = (f"{_CROSS} " if wrong else "✓ ") + ("+" if part.amount.atoms > 0 else "")
            return _amount(Money(part.amount), sign, "bad" if wrong else "text")
        case Hash():
            return {"kind": "code", "text": short_hash(part.value)}
        case Account():
            return {"kind": "text", "text": ":".join(short_account(part.code))}
        case State():
            return {"kind": "state", "text": part.text.replace("_", " ")}
        case _:
            return {"kind": "code", "text": part.text}


def _breakable(text: str) -> str:
    """With places in long words where a line may end: after an underscore, and anywhere in what is longer still."""
    broken = text.replace("_", "_\u200b")
    return re.sub(r"[^\s\u200b]{19,}", lambda found: "\u200b".join(found[0]), broken)


def _amount(part: Money, sign: str, kind: str) -> dict[str, str]:
    head, tail = digits(part.amount)
    symbol = f" {part.amount.asset.symbol}" if part.symbol else ""
    return {"kind": kind, "text": f"{sign}{head}", "tail": tail, "after": symbol}
