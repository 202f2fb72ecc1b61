"""The one form that a report has in JSON: what the manifest's sums and the pages are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from bridge.domain.ledger import Asset
from bridge.domain.reports.report import (
    Amount,
    Break,
    Correction,
    Distribution,
    Gas,
    Held,
    Movement,
    RollForward,
    Suspense,
    ValueShare,
)
from bridge.domain.units import format_address, format_hash

_OF_ONE_ASSET = (RollForward, Movement, Suspense, Distribution, Held, Break, Gas, Correction, ValueShare)
"""Rows whose amounts are of one asset: its id stands beside them in JSON, where an amount is atoms alone."""


def to_json(value: object) -> object:
    """Plain lists, dicts, strings and numbers; amounts are strings of atoms, hashes and ids are as format_hash
    has them.

    Raises TypeError for anything that has no such form, a float above all.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case bytes():
            return format_hash(value)
        case Amount():
            return str(value.atoms)
        case tuple() | list():
            return [to_json(item) for item in value]
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
    if is_dataclass(value):
        found = {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
        if isinstance(value, _OF_ONE_ASSET):
            amounts = (getattr(value, item.name) for item in fields(value))
            found["asset"] = next((amount.asset.id for amount in amounts if isinstance(amount, Amount)), None)
        if isinstance(value, Asset) and value.address is not None:
            found["address"] = format_address(value.address)
        return found
    raise TypeError(f"{type(value).__name__} has no form in JSON")
