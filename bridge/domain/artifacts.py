"""The record of a decision: canonical JSON that says all that it rests on.

Sorted keys, no spaces, amounts as strings of digits; its sha256 is the decision's id. It says where each name of the
rule's text points, and names nothing else as a configuration does: with the rule's text and a node it can be made
again, and every machine writes the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, assert_never

from bridge.domain.accumulators import Source
from bridge.domain.measurements import Facts, Measurement
from bridge.domain.plans import Plan
from bridge.domain.prices import PriceFrom, PriceInput
from bridge.domain.rules import (
    TABLES,
    Balance,
    Balances,
    Binding,
    By,
    Committed,
    Count,
    Equal,
    HighWater,
    Input,
    Last,
    Legs,
    LegSplit,
    Members,
    ProRata,
    Read,
    RuleEvent,
    Shares,
    Split,
    Sum,
    Sums,
    TimeWeighted,
    To,
    made_by,
)
from bridge.domain.units import Address, format_address, hexed
from bridge.domain.windows import Window

FORMAT = "bridge.decision/2"
POOL = Address(b"")
"""The key of carried surplus that no recipient has yet."""


def canonical(document: Any) -> bytes:
    """JSON with one way to write it: sorted keys, no spaces, ASCII. Floats are refused."""
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _refuse_floats(document: Any) -> None:
    if isinstance(document, float):
        raise TypeError("an artifact holds no floats")
    if isinstance(document, dict):
        for value in document.values():
            _refuse_floats(value)
    elif isinstance(document, (list, tuple)):
        for value in document:
            _refuse_floats(value)


def describe_facts(plan: Plan, binding: Binding, window: Window, facts: Facts) -> dict[str, Any]:
    rule = plan.rule
    return {
        "format": FORMAT,
        "chain": binding.reference,
        "asset": binding.asset,
        "token": format_address(binding.token),
        "contracts": {name: format_address(address) for name, address in binding.contracts.items()},
        "never_paid": [format_address(account) for account in sorted(binding.never_paid)],
        "rule": {"name": rule.name, "version": rule.version, "sha256": rule.content_hash.hex()},
        "split": describe_split(rule.split),
        "window": {"start": window.start, "end": window.end},
        "counted_from": facts.counted_from,
        "last_paid_end": facts.last_paid_end,
        "paid_before": str(facts.paid_before),
        "excluded": [format_address(account) for account in sorted(excluded(plan, binding))],
        "blocks": {
            "start": facts.start_block,
            "first": facts.first_block,
            "last": facts.block.number,
            "hash": hexed(facts.block.hash),
            "timestamp": facts.block.timestamp,
        },
        "events": {
            name: {
                "contracts": [format_address(address) for address in _emitters(name, event, binding, facts)],
                "declaration": event.declaration,
                "where": event.where,
                "units": {name: str(unit) for name, unit in event.units.items()},
                **_describe_source(facts.sources.get(name)),
            }
            for name, event in rule.events.items()
        },
        "inputs": {
            name: _describe_input(rule.inputs[name], binding, measured) for name, measured in facts.inputs.items()
        },
        "parameters": {name: f"{each.value} {each.unit}" for name, each in rule.parameters.items()},
    }


def excluded(plan: Plan, binding: Binding) -> frozenset[Address]:
    return frozenset(binding.address(text) for text in plan.rule.exclude)


def describe_split(split: Split) -> dict[str, Any]:
    match split:
        case Shares(shares):
            return {"shares": [{"to": format_address(recipient), "bps": bps} for recipient, bps in shares]}
        case Legs(legs):
            return {"legs": [_describe_leg(leg) for leg in legs]}
        case part:
            return _describe_part(part)


def _describe_leg(leg: LegSplit) -> dict[str, Any]:
    return {"bps": leg.bps, "residual": leg.residual, **_describe_part(leg.split)}


def _describe_part(part: ProRata | Equal | To) -> dict[str, Any]:
    match part:
        case ProRata(name):
            return {"pro_rata": name}
        case To(recipient):
            return {"to": format_address(recipient)}
        case Equal(recipients):
            named = recipients if isinstance(recipients, str) else [format_address(each) for each in recipients]
            return {"equal": named}
        case _:
            assert_never(part)


def _describe_source(source: Source | None) -> dict[str, Any]:
    if source is None:
        return {"count": 0, "first": None, "last": None}
    return {"count": source.count, "first": list(source.first), "last": list(source.last)}


def _describe_input(source: Input, binding: Binding, measured: Measurement) -> dict[str, Any]:
    value = {"value": str(measured.value), **measured.parts, **_describe_source_of(source, binding)}
    if isinstance(source, TABLES):
        value["total"] = value.pop("value")
        value["weights"] = by_account(measured.weights)
    if isinstance(source, Sums):
        value["overdraft"] = str(measured.overdraft)
    return value if measured.problem is None else {**value, "problem": measured.problem}


def _describe_source_of(source: Input, binding: Binding) -> dict[str, Any]:  # noqa: PLR0911, PLR0912  # one for each kind
    match source:
        case Sum(text):
            return {"sum": text}
        case Count(event):
            return {"count": event}
        case Last(text):
            return {"last": text}
        case Committed(text):
            return {"committed": text}
        case HighWater(text):
            return {"high_water": text}
        case Balance(contract, token):
            asset = binding.asset if token is None else binding.tokens[token].asset
            return {"balance": format_address(binding.contracts[contract]), "of": asset}
        case Read(contract, function, _, arguments):
            given = [str(one) if isinstance(one, int) else format_address(binding.address(one)) for one in arguments]
            address = format_address(binding.contracts[contract])
            return {"read": {"contract": address, "function": function, "arguments": given}}
        case PriceInput():
            return {"price": _describe_price(source, binding)}
        case TimeWeighted(add, subtract, by):
            return {"time_weighted": {"add": add, "subtract": subtract, "by": _describe_by(by)}}
        case Balances(add, subtract, by, at):
            return {"balances": {"add": add, "subtract": subtract, "by": _describe_by(by), "at": at.value}}
        case Sums(of, by):
            return {"sums": {"of": of, "by": by}}
        case Members(add, remove, at):
            return {"members": {"add": list(add), "remove": list(remove), "at": at.value}}
        case _:
            assert_never(source)


def _describe_price(source: PriceInput, binding: Binding) -> dict[str, Any]:
    return {
        "base": source.base,
        "quote": source.quote,
        "base_decimals": source.base_decimals,
        "quote_decimals": source.quote_decimals,
        "sources": [_describe_price_source(each, binding) for each in source.sources()],
        "deviation_bps": source.deviation_bps,
    }


def _describe_price_source(source: PriceFrom, binding: Binding) -> dict[str, Any]:
    return {
        "feed": None if source.feed is None else format_address(binding.contracts[source.feed]),
        "http": source.http,
        "max_age_s": source.max_age_s,
        "average_s": source.average_s,
        "inverse": source.inverse,
    }


def _emitters(name: str, event: RuleEvent, binding: Binding, facts: Facts) -> list[Address]:
    """The contracts of an event: those that it names, or those that a factory has made by the end of the window."""
    if event.factory is None:
        return [binding.contracts[contract] for contract in event.contracts]
    return sorted(facts.inputs[made_by(name)].weights)


def _describe_by(by: By) -> str | dict[str, str]:
    return by.add if by.add == by.subtract else {"add": by.add, "subtract": by.subtract}


def by_account(amounts: Mapping[Address, int]) -> dict[str, str]:
    """By account; surplus without a recipient stands under `pool`."""
    return {
        "pool" if account == POOL else format_address(account): str(amount)
        for account, amount in sorted(amounts.items())
    }
