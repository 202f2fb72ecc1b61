"""Whether a report agrees in itself: every sum is taken again from report.json, those of accounts from its movements.

    movements ──roll_forward──► received, sent, fees, adjustments ─┐
    roll_forward: opening + received − sent − fees + adjustments ──┴─► closing ──► pending, difference

What a period opens with is taken from the report: only the one before it can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bridge.domain.figures import Milestones, ages, latencies, spread
from bridge.domain.ledger import Asset
from bridge.domain.reports.balances import CUSTODY, label, roll_forward, waterfalls
from bridge.domain.reports.canonical import to_json
from bridge.domain.reports.facts import CheckCount, Flow, tally
from bridge.domain.reports.report import Verdict
from bridge.domain.units import AssetId, parse_address
from bridge.stages.report_files.tables import Document

_ATOMS = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_ROLLED = ("received", "sent", "fees", "adjustments")
_FALLEN = ("earned", "adjustments", "allocated", "paid", "credited", "claimable")


def disagreements(document: Document) -> Iterator[str]:
    """What does not add up, each with its row. Raises KeyError, TypeError or ValueError where it is no report."""
    flows, assets = _flows(document), _assets(document)
    yield from _roll_forward(document, flows, assets)
    yield from _waterfalls(document, flows, assets)
    yield from _pending(document)
    for number, row in enumerate(document["gas"], 1):
        yield from _unequal(
            f"gas row {number}", "booked − fees", row, "difference", _of(row, "booked") - _of(row, "fees")
        )
    yield from _shares(document)
    if document["verdict"] == Verdict.BALANCED and any(item["state"] != "resolved" for item in document["breaks"]):
        yield "the verdict is `balanced` though a break is open"
    differs = any(row["difference"] not in (None, "0") for row in document["roll_forward"])
    if document["verdict"] == Verdict.BALANCED and differs:
        yield "the verdict is `balanced` though an account differs from the chain"


def _shares(document: Document) -> Iterator[str]:
    """Key figures that the tables say too."""
    told = document["key_figures"]
    checks = [CheckCount(**row) for row in document["checks"]]
    if to_json(tally(checks)) != told["checks"]:
        yield "key_figures: its checks are not those of the table"
    opened = [row for row in document["breaks"] if row["state"] != "resolved"]
    aged = [row["age_s"] for row in opened if row["age_s"] is not None]
    if to_json(ages(aged)) != told["open_by_age"] or told["entries"]["unmatched"] != len(opened):
        yield "key_figures: its open breaks are not those of the register"
    passed = [Milestones(**row["passed"]) for row in document["distributions"] if row["passed"] is not None]
    if to_json(latencies(passed)) != told["latencies"]:
        yield "key_figures: its latencies are not those of the distributions"
    found = [row["detected_s"] for row in document["breaks"] if row["detected_s"] is not None]
    if to_json(spread(found)) != told["detect_s"]:
        yield "key_figures: its times to detect are not those of the register"
    closed = [row["age_s"] for row in document["breaks"] if row["state"] == "resolved" and row["age_s"] is not None]
    if to_json(spread(closed)) != told["resolve_s"]:
        yield "key_figures: its times to resolve are not those of the register"


def _of(row: Mapping[str, Any], name: str) -> int:
    """The amount under `name`."""
    text = row[name]
    if not isinstance(text, str) or not _ATOMS.fullmatch(text):
        raise ValueError(f"{name} is {text!r}, not the exact digits of an amount")
    return int(text)


def _flows(document: Document) -> list[Flow]:
    return [
        Flow(row["debit"], row["credit"], AssetId(row["asset"]), row["source"], row["reverses"], _of(row, "amount"))
        for row in document["movements"]
    ]


def _assets(document: Document) -> dict[AssetId, Asset]:
    return {
        AssetId(row["id"]): Asset(
            AssetId(row["id"]),
            row["chain"],
            None if row["address"] is None else parse_address(row["address"]),
            row["symbol"],
            row["decimals"],
        )
        for row in document["assets"]
    }


def _unequal(where: str, formula: str, row: Mapping[str, Any], name: str, due: int) -> Iterator[str]:
    if _of(row, name) != due:
        yield f"{where}: {formula} = {due}, but {name} is {row[name]}"


def _roll_forward(document: Document, flows: list[Flow], assets: dict[AssetId, Asset]) -> Iterator[str]:
    made = {(row.account, row.closing.asset.id): row for row in roll_forward(flows, (), assets)}
    seen = set()
    for number, row in enumerate(document["roll_forward"], 1):
        where = f"roll_forward row {number}, {row['account']} in {label(AssetId(row['asset']), assets).symbol}"
        moved = _of(row, "received") - _of(row, "sent") - _of(row, "fees") + _of(row, "adjustments")
        formula = "opening + received − sent − fees + adjustments"
        yield from _unequal(where, formula, row, "closing", _of(row, "opening") + moved)
        if row["on_chain"] is not None:
            yield from _unequal(
                where, "on_chain − closing", row, "difference", _of(row, "on_chain") - _of(row, "closing")
            )
        key = (row["account"], AssetId(row["asset"]))
        if key in seen:
            yield f"{where}: stands there twice"
        seen.add(key)
        mine = made.get(key)
        for name in _ROLLED:
            yield from _unequal(where, "its movements", row, name, 0 if mine is None else getattr(mine, name).atoms)
        if document["period"] is None:
            yield from _unequal(where, "its movements", row, "opening", 0 if mine is None else mine.opening.atoms)
    for account, asset in sorted(made.keys() - seen):
        yield f"roll_forward has no row for {account} in {asset}, which moved"


def _waterfalls(document: Document, flows: list[Flow], assets: dict[AssetId, Asset]) -> Iterator[str]:
    made = {fall.asset.id: fall for fall in waterfalls(flows, {}, assets)}
    for row in document["waterfalls"]:
        where = f"waterfall of {row['asset']['symbol']}"
        sources = _of(row, "opening") + _of(row, "earned") + _of(row, "adjustments")
        left = sources - _of(row, "allocated") - _of(row, "carried")
        yield from _unequal(where, "opening + earned + adjustments − allocated − carried", row, "unallocated", left)
        landed = sum(_of(row, name) for name in ("paid", "credited", "claimable", "held", "given_up"))
        flying = _of(row, "promised") + _of(row, "allocated") - landed
        formula = "promised + allocated − paid − credited − claimable − held − given_up"
        yield from _unequal(where, formula, row, "in_flight", flying)
        yield from _unequal(where, "batches held", row, "held", _held(document, row["asset"]["id"]))
        mine = made.get(row["asset"]["id"])
        for name in _FALLEN:
            yield from _unequal(where, "its movements", row, name, 0 if mine is None else getattr(mine, name).atoms)


def _held(document: Document, asset: str) -> int:
    return sum(_of(item, "amount") for item in document["held"] if item["asset"] == asset)


def _pending(document: Document) -> Iterator[str]:
    for row in document["pending"]:
        asset, where = row["asset"]["id"], f"pending in {row['asset']['symbol']}"
        parts = sum(_of(row, name) for name in ("free", "in_flight", "held", "given_up", "owed"))
        yield from _unequal(where, "free + in_flight + held + given_up + owed", row, "ledger", parts)
        yield from _unequal(where, "batches held", row, "held", _held(document, asset))
        own = [item for item in document["roll_forward"] if item["asset"] == asset]
        held = sum(_of(item, "closing") for item in own if item["account"].startswith(CUSTODY))
        yield from _unequal(where, "closings of our contracts", row, "ledger", held)
        if row["chain"] is not None:
            yield from _unequal(where, "chain − ledger", row, "difference", _of(row, "chain") - _of(row, "ledger"))
