"""Declarations of events: every type of Solidity that rules can use, and no other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.declarations import EventShape, kind_of, parse_declaration
from bridge.domain.expressions import ExpressionError, Kind

NUMBERS = ["uint", "int", *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(8, 257, 8))]
BYTES = ["bytes", *(f"bytes{size}" for size in range(1, 33))]
KINDS = (
    dict.fromkeys(NUMBERS, Kind.NUMBER)
    | dict.fromkeys(BYTES, Kind.BYTES)
    | {"address": Kind.ADDRESS, "bool": Kind.BOOL, "string": Kind.TEXT}
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "indexed")
SPACE = st.sampled_from(["", " ", "\n  "])


def test_kind_of__every_size__those_of_solidity_alone():
    sized = [f"{base}{size}" for base in ("int", "uint", "bytes") for size in ("", *range(1_000), "08", "8 ", "²")]
    found = {text: kind_of(text) for text in sized if kind_of(text)}
    assert found == {text: kind for text, kind in KINDS.items() if kind in (Kind.NUMBER, Kind.BYTES)}


@given(
    name=NAMES,
    fields=st.lists(st.tuples(NAMES, st.sampled_from(list(KINDS)), st.booleans()), unique_by=lambda each: each[0]),
    space=SPACE,
    prefix=st.sampled_from(["", "event "]),
    suffix=st.sampled_from(["", ";", " ; "]),
)
def test_parse_declaration__however_it_is_spaced__its_name_and_fields_in_order(
    name: str, fields: list[tuple[str, str, bool]], space: str, prefix: str, suffix: str
):
    parts = [f"{space}{kind}{' indexed' if indexed else ''} {field}{space}" for field, kind, indexed in fields]
    shape = parse_declaration(f"{prefix}{name}{space}({','.join(parts)}){suffix}")
    assert shape.name == name
    assert list(shape.fields.items()) == [(field, kind) for field, kind, _ in fields]


@given(st.text(alphabet="Paid(uint256 indexed,) \n;²é", max_size=40))
def test_parse_declaration__any_text__a_shape_or_a_reason_with_its_place(text: str):
    found: EventShape | ExpressionError
    try:
        found = parse_declaration(text)
    except ExpressionError as error:
        found = error
    if isinstance(found, ExpressionError):
        assert 0 <= found.offset <= len(text)
    else:
        assert re.fullmatch(r"[A-Za-z_]\w*", found.name, re.ASCII)
        assert all(kind in KINDS for kind in found.fields.values())


@pytest.mark.parametrize(
    "text", ["Paid(uint7 amount)", "Paid(uint100 amount)", "Paid(uint264 amount)", "Paid(bytes33 b)"]
)
def test_parse_declaration__no_such_size__named_where_it_stands(text: str):
    with pytest.raises(ExpressionError, match="is not a type that rules can use") as raised:
        parse_declaration(text)
    assert raised.value.offset == len("Paid(")
