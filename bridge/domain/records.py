"""Holding the stored rows of decisions against their records, and the records against each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.domain.artifacts import by_account
from bridge.domain.units import Address, AssetId, format_address, hexed
from bridge.domain.windows import Window


@dataclass(frozen=True, slots=True)
class Stored:
    """A decision as its rows tell it now: what was decided stands in the artifact, whose hash is the id."""

    decision_id: bytes
    rule: str
    version: int
    rule_hash: bytes  # as the table of rules has it
    rule_text_hash: bytes  # of the text as it is stored now
    asset: AssetId
    window: Window
    block_number: int
    block_hash: bytes
    verdict: str
    surplus: int
    total: int
    carried_in: int
    carried_out: int
    artifact: bytes
    allocations: Mapping[Address, tuple[int, int]]  # amount, carried_in
    planned: Mapping[Address, int] | None  # payouts of its distribution; None before it is planned
    planned_total: int | None


@dataclass(frozen=True, slots=True)
class RuleText:
    """A version of a rule that has decided, as it is stored."""

    rule: str
    version: int
    body: str
    window_start: int  # of the first window that it decided
    artifact: bytes  # of that decision


@dataclass(frozen=True, slots=True)
class Record:
    """What an artifact says of itself and of its neighbours."""

    stored: Stored
    contradictions: tuple[str, ...]  # what the rows say otherwise, by name
    first_block: int  # of the window; the last is the decision's
    carried_in: Mapping[str, str]
    carried_out: Mapping[str, str]


def compare_with_record(stored: Stored) -> Record:
    """Every word of the rows that the artifact does not bear out."""
    if hashlib.sha256(stored.artifact).digest() != stored.decision_id:
        return Record(stored, ("artifact",), stored.block_number, {}, {})
    told = json.loads(stored.artifact)
    rule_hash, rows = stored.rule_hash.hex(), stored.allocations
    pairs = {
        "rule": ([stored.rule, stored.version], [told["rule"]["name"], told["rule"]["version"]]),
        "rule text": ([rule_hash, stored.rule_text_hash.hex()], [told["rule"]["sha256"]] * 2),
        "asset": (stored.asset, told["asset"]),
        "window": ({"start": stored.window.start, "end": stored.window.end}, told["window"]),
        "block": (
            [stored.block_number, hexed(stored.block_hash)],
            [told["blocks"]["last"], told["blocks"]["hash"]],
        ),
        "block after the window": (told["blocks"]["timestamp"] >= stored.window.end, False),
        "verdict": (stored.verdict, told["verdict"]),
        "surplus": (str(stored.surplus), told["surplus"]["found"]),
        "total": (str(stored.total), told["total"]),
        "carried in": (str(stored.carried_in), told["carried_in"]["total"]),
        "carried out": (str(stored.carried_out), told["carried_out"]["total"]),
        "allocations": (
            {format_address(who): [str(part) for part in rows[who]] for who in rows},
            {one["recipient"]: [one["amount"], one["carried_in"]] for one in told["allocations"]},
        ),
    }
    if stored.planned is not None:
        paid = {format_address(who): str(amount) for who, amount in stored.planned.items()}
        pairs["payouts"] = (paid, {one["recipient"]: one["amount"] for one in told["allocations"]})
        pairs["distribution total"] = (str(stored.planned_total), told["total"])
    wrong = tuple(name for name, (row, record) in pairs.items() if row != record)
    return Record(stored, wrong, told["blocks"]["first"], told["carried_in"]["by"], told["carried_out"]["by"])


def follows(before: Record | None, record: Record) -> tuple[str, ...]:
    """What of two decisions of a rule, one after the other, does not join; `before` is None for its first."""
    gap = before is not None and (before.stored.window.end, before.stored.block_number + 1) != (
        record.stored.window.start,
        record.first_block,
    )
    lost = record.carried_in != (before.carried_out if before is not None else {})
    return (*(("window does not follow",) if gap else ()), *(("carried in is not what was left",) if lost else ()))


def carries_as_recorded(carries: Mapping[Address, int]) -> Mapping[str, str]:
    """Carried amounts as an artifact writes them."""
    return by_account(carries)
