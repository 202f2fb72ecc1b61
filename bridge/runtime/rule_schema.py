"""The JSON Schema of rule files, for editors: made from the very sections that read them.

    pydantic sections ──► JSON Schema (2020-12), with what each key means ──► rules/schema.json

It accepts what the program accepts, in both ways that YAML reads numbers: editors read YAML 1.2, where 1_000 is a text
and 0x… a number. What needs names to be known (units, formulas, contracts) only `bridge rules check` can say.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from bridge.domain.quantities import Unit
from bridge.domain.rules import At, Carry
from bridge.domain.windows import Period
from bridge.runtime.fields import Section
from bridge.runtime.rule_sections import Document, OneOf

WHOLE_NUMBER: JsonSchemaValue = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9][0-9_]*$"}]
}

_SYMBOL = "[A-Za-z][A-Za-z0-9_.]*"
UNIT = f"(number|bps|seconds|amount<{_SYMBOL}>|price<{_SYMBOL}/{_SYMBOL}>)"

# What texts stand for that a validator of rule_sections.py reads.
TEXTS: Mapping[str, JsonSchemaValue] = {
    "_amount": WHOLE_NUMBER,
    "_duration": {"type": "string", "pattern": r"^[0-9]{1,12}\s*(s|seconds?|min|minutes?|h|hours?|d|days?)$"},
    "_parameter": {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": rf"^[0-9][0-9_]*(\s*{UNIT})?$"}]
    },
    "_bps": {"type": "string", "pattern": r"^[0-9][0-9_]*\s*bps$"},
    "_unit": {"type": "string", "pattern": f"^{UNIT}$"},
    "int": {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9][0-9_]*$"}]},
    "_address": {
        "anyOf": [
            {"type": "string", "pattern": "^(0x[0-9a-fA-F]{40}|[1-9A-HJ-NP-Za-km-z]{32,44})$"},
            {"type": "integer"},
        ]
    },
}

CHOICES: Mapping[str, list[str]] = {
    "Document.carry": [choice.value for choice in Carry],
    "WindowSection.calendar": [period.value for period in Period],
    "BalancesSection.at": [at.value for at in At],
    "MembersSection.at": [at.value for at in At],
}
"""Keys whose value is one of some words, by section and key."""

ADDRESSES = frozenset({"Document.exclude"})
"""Lists of texts in which addresses may stand, which editors read as numbers."""


class _Schema(GenerateJsonSchema):
    """Knows the texts that our validators read, and sections of which exactly one key stands."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return self._text(schema["function"]["function"])

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return copy.deepcopy(TEXTS["int"])

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        return self._text(schema["function"]["function"])

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        if schema["function"]["function"].__name__ in TEXTS:
            return self._text(schema["function"]["function"])
        return super().function_after_schema(schema)  # of a whole section: see OneOf

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        # A key that is left out is None; nobody writes null.
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        section = schema["cls"]
        if not (section.__doc__ or "").strip() or section.__doc__ == OneOf.__doc__:
            made.pop("description", None)
        if issubclass(section, OneOf):
            ways = [{"required": [way]} for way in section.WAYS]
            made |= {"oneOf": ways} if ways else {"minProperties": 1, "maxProperties": 1}
        for name, key in made.get("properties", {}).items():
            if key.get("default", 0) is None:
                del key["default"]
            if (choices := CHOICES.get(f"{section.__name__}.{name}")) is not None:
                key["enum"] = choices
            if f"{section.__name__}.{name}" in ADDRESSES:
                key["items"] = {"type": ["string", "integer"]}
        return made

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        # A section that is left out is one whose keys are.
        if isinstance(schema.get("default"), Section | Unit):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    @staticmethod
    def _text(validator: Callable[..., Any]) -> JsonSchemaValue:
        assert validator.__name__ in TEXTS, f"say in TEXTS what {validator.__name__} reads"
        return copy.deepcopy(TEXTS[validator.__name__])


def rule_schema() -> dict[str, Any]:
    """The schema as a JSON object."""
    made = Document.model_json_schema(schema_generator=_Schema, mode="validation")
    return {"$schema": GenerateJsonSchema.schema_dialect, **made, "title": "Rule"}


def render_schema() -> str:
    """The text of rules/schema.json."""
    return json.dumps(rule_schema(), indent=2, ensure_ascii=False) + "\n"
