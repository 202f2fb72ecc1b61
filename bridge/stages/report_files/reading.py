"""report.json as the report that it was written from: so that whoever has the folder can make its pages again.

document ──► Report ──► HTML, PDF: the same bytes as those in the folder, or they were changed
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from bridge.domain.ledger import Asset
from bridge.domain.reports.balances import label
from bridge.domain.reports.report import Amount, Report
from bridge.domain.units import Address, AssetId, parse_address, parse_hash
from bridge.stages.report_files.tables import Document

_PLAIN = (str, int, bool)


def report_of(document: Document) -> Report:
    """Raises KeyError, TypeError or ValueError where it is no report of this version, and AssertionError where its
    figures do not add up."""
    assets = {item["id"]: _value(Asset, item, {}, None) for item in document["assets"]}
    found = _value(Report, document, assets, None)
    assert isinstance(found, Report)
    return found


def _value(kind: Any, value: Any, assets: Mapping[AssetId, Asset], asset: Asset | None) -> Any:  # noqa: PLR0911
    """`value` of the document as a `kind`; amounts in it are of `asset`."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        kinds = [each for each in get_args(kind) if each is not type(None)]
        if value is None:
            return None
        [kind] = kinds
        return _value(kind, value, assets, asset)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        inner = get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_value(inner[0], item, assets, asset) for item in value)
        return tuple(_value(each, item, assets, asset) for each, item in zip(inner, value, strict=True))
    if kind is Amount:
        if asset is None:
            raise TypeError("an amount of no asset")
        return Amount(int(value), asset)
    if is_dataclass(kind):
        return _row(kind, value, assets)
    return _scalar(kind, value)


def _row(kind: Any, value: Any, assets: Mapping[AssetId, Asset]) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    hints, asset = _hints(kind), None
    if hints.get("asset") is Asset:
        asset = _value(Asset, value["asset"], assets, None)
    elif isinstance(value.get("asset"), str):
        asset = label(AssetId(value["asset"]), assets)
    return kind(**{item.name: _value(hints[item.name], value[item.name], assets, asset) for item in fields(kind)})


def _scalar(kind: Any, value: Any) -> Any:
    supertype = getattr(kind, "__supertype__", kind)  # of a NewType
    if kind is Address:
        return parse_address(value)
    if supertype is bytes:
        return parse_hash(value)
    if isinstance(supertype, type) and issubclass(supertype, StrEnum):
        return supertype(value)
    if supertype not in _PLAIN or type(value) is not supertype:
        raise TypeError(f"{value!r} is no {supertype}")
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
