"""The JSON Schema of rule files, for editors: made from the very sections that read them.

    pydantic sections ──► JSON Schema (2020-12), with what each key means ──► rules/schema.json

It accepts what the program accepts, in both ways that YAML reads numbers: editors read YAML 1.2, where 1_000 is a text and
0x… a number. What needs names to be known (units, formulas, contracts) only `bridge rules check` can say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from bridge.domain.rules import Carry
from bridge.runtime.rulefile import Document, OneOf

WHOLE_NUMBER: JsonSchemaValue = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9][0-9_]*$"}]
}

# What texts stand for that a validator of rulefile.py reads.
TEXTS: Mapping[str, JsonSchemaValue] = {
    "_amount": WHOLE_NUMBER,
    "_duration": {"type": "string", "pattern": r"^[0-9]{1,12}\s*(s|seconds?|min|minutes?|h|hours?|d|days?)$"},
    "_address": {"anyOf": [{"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}, {"type": "integer"}]},
}

KEYS: Mapping[str, str] = {
    "Document": "A rule: when there is a surplus, how much it is, and who gets it.",
    "Document.rule": "The rule's name: small letters, digits and _. Another name is another rule, which begins anew.",
    "Document.version": "Counts from 1; raise it with every change. Old decisions keep the text they were made with.",
    "Document.description": "One line for people.",
    "Document.asset": "What is paid: a token of bridge.toml.",
    "Document.window": "When it decides. Windows are half-open (start <= block time < end) and leave no gap.",
    "Document.events": "Kinds of logs that it listens to, by a name of your choice.",
    "Document.inputs": "What is measured at the end of each window, by a name of your choice.",
    "Document.parameters": "Numbers that formulas name.",
    "Document.surplus": "The formula, over inputs and parameters. A negative result is no surplus.",
    "Document.carry": "What becomes of surplus that is not paid: `surplus` keeps it for the next window, `none` leaves "
    "it in the balance that the next window reads again.",
    "Document.guardrails": "Limits of every decision.",
    "Document.split": "Who gets what is paid.",
    "WindowSection.every": "As long as this, aligned to 1970 in UTC: `1 day`, `30 s`.",
    "EventSection.contract": "A contract of bridge.toml.",
    "EventSection.event": "Its declaration as in Solidity, with `indexed` where the contract has it.",
    "EventSection.where": "Only events for which this is true, over its fields, parameters, contracts and `asset`.",
    "InputSection.sum": "Σ of an expression over the fields of one event, of the window.",
    "InputSection.time_weighted": "A table: by account, its balance × seconds over the window.",
    "InputSection.balance": "What a contract holds of the asset at the window's last block.",
    "InputSection.read": "What a view function returns at the window's last block.",
    "InputSection.committed": "Decided or carried in the asset, by any rule, and not yet released: less Σ of this.",
    "TimeWeightedSection.add": "What adds to an account's balance: an expression over the fields of one event.",
    "TimeWeightedSection.subtract": "What takes away from it.",
    "TimeWeightedSection.by": "The field that names the account, in both events.",
    "ReadSection.contract": "A contract of bridge.toml.",
    "ReadSection.function": "The name of the function, which takes nothing and returns one uint256.",
    "GuardrailsSection.cap_per_epoch": "Atoms that one window pays at most.",
    "GuardrailsSection.minimum_total": "Atoms below which nothing is paid yet.",
    "GuardrailsSection.minimum_per_recipient": "Atoms below which a recipient is owed and not paid yet; judged on "
    "carried + new.",
    "GuardrailsSection.cooldown": "Time between the ends of two windows that pay.",
    "GuardrailsSection.lot": "Only whole multiples of so many atoms are paid.",
    "ShareSection.to": "The recipient.",
    "ShareSection.bps": "Basis points; all of them add up to 10 000.",
    "SplitSection.pro_rata": "By the weights of a table.",
    "SplitSection.shares": "In fixed shares.",
    "SplitSection.equal": "The same to each.",
}
"""What each section and key means, where its field does not say so itself."""


CHOICES: Mapping[str, list[str]] = {"carry": [choice.value for choice in Carry]}
"""Keys whose value is one of some words."""


class _Schema(GenerateJsonSchema):
    """Knows the texts that our validators read, and sections of which exactly one key stands."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return self._text(schema["function"]["function"]) or super().function_before_schema(schema)

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        return self._text(schema["function"]["function"]) or super().function_after_schema(schema)

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        # A key that is left out is None; nobody writes null.
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        section = schema["cls"]
        if section.__doc__ or section.__name__ in KEYS:
            made["description"] = KEYS.get(section.__name__) or " ".join(section.__doc__.split())
        if issubclass(section, OneOf):
            made |= {"minProperties": 1, "maxProperties": 1}
        for name, key in made.get("properties", {}).items():
            said = section.model_fields[name].description or KEYS.get(f"{section.__name__}.{name}")
            if said:
                key["description"] = said
            if key.get("default", 0) is None:
                del key["default"]
            if name in CHOICES:
                key["enum"] = CHOICES[name]
        return made

    @staticmethod
    def _text(validator: Callable[..., Any]) -> JsonSchemaValue | None:
        known = TEXTS.get(getattr(validator, "__name__", ""))
        return None if known is None else json.loads(json.dumps(known))


def rule_schema() -> dict[str, Any]:
    """The schema as a JSON object."""
    made = Document.model_json_schema(schema_generator=_Schema, mode="validation")
    return {"$schema": GenerateJsonSchema.schema_dialect, **made, "title": "Rule"}


def render_schema() -> str:
    """The text of rules/schema.json."""
    return json.dumps(rule_schema(), indent=2, ensure_ascii=False) + "\n"
