"""Declarations of events, taken apart: `Paid(address indexed to, uint256 amount)`, and conditions on their fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.domain.expressions import BOOL, Expression, ExpressionError, Kind, Type, compile_expression
from bridge.domain.quantities import NO_UNIT, Unit

_DECLARATION = re.compile(r"\s*([A-Za-z_]\w*)\s*\(([^()]*)\)\s*\Z", re.ASCII)
_FIELD = re.compile(r"\s*([a-z]+[0-9]*)(?:\s+(indexed))?(?:\s+([A-Za-z_]\w*))?\s*\Z", re.ASCII)
_PLAIN = {
    "uint": Kind.NUMBER,
    "int": Kind.NUMBER,
    "bytes": Kind.BYTES,
    "address": Kind.ADDRESS,
    "bool": Kind.BOOL,
    "string": Kind.TEXT,
}
_SIZED = re.compile(r"(u?int|bytes)([1-9][0-9]{0,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class EventShape:
    """A declaration, taken apart."""

    name: str
    fields: Mapping[str, str]  # field → ABI type, in order


def parse_declaration(text: str) -> EventShape:
    """Raises ExpressionError where `text` is no event of fixed-size or simple fields."""
    match = _DECLARATION.match(text.removeprefix("event ").rstrip("; "))
    if match is None:
        raise ExpressionError(
            "not an event declaration",
            0,
            'write it as in Solidity: "Deposited(address indexed account, uint256 amount)"',
        )
    fields: dict[str, str] = {}
    for part in match[2].split(",") if match[2].strip() else []:
        found = _FIELD.match(part)
        if found is None:
            raise ExpressionError(f"`{part.strip()}` is not a field", max(text.find(part), 0), "write `uint256 amount`")
        kind, name = found[1], found[3] or f"field{len(fields)}"
        if kind_of(kind) is None:
            raise ExpressionError(f"`{kind}` is not a type that rules can use", max(text.find(part), 0))
        if name in fields:
            raise ExpressionError(f"the field `{name}` comes twice", max(text.find(part), 0))
        fields[name] = kind
    return EventShape(match[1], fields)


def field_types(shape: EventShape, units: Mapping[str, Unit]) -> dict[str, Type]:
    types: dict[str, Type] = {}
    for name, abi in shape.fields.items():
        kind = kind_of(abi) or Kind.BYTES
        types[name] = Type(kind, units.get(name, NO_UNIT) if kind is Kind.NUMBER else None)
    return types


def compile_where(
    text: str, parameters: Mapping[str, Unit], contracts: Iterable[str], fields: Mapping[str, Type]
) -> Expression:
    """A `where` over the fields of one event, and what else it may name. Raises ExpressionError."""
    known = {name: Type(Kind.NUMBER, unit) for name, unit in parameters.items()}
    known |= dict.fromkeys(contracts, Type(Kind.ADDRESS))
    known["asset"] = Type(Kind.ADDRESS)
    return compile_expression(text, {**known, **fields}, wants=BOOL)


def kind_of(abi: str) -> Kind | None:
    """None for what is no type of Solidity, or none that a rule can use."""
    match = _SIZED.fullmatch(abi)
    if match is None:
        return _PLAIN.get(abi)
    size = int(match[2])
    if match[1] == "bytes":
        return Kind.BYTES if size <= 32 else None
    return Kind.NUMBER if size % 8 == 0 and size <= 256 else None
