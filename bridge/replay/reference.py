"""The reference of the language of rules: rules/README.md, made from what the program itself says.

JSON Schema ──► every key       docstrings and forms ──► functions       docstrings of modules ──► the rest
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridge.domain import expressions, quantities, windows
from bridge.domain.expressions import AGGREGATES, CONSTANTS, FUNCTIONS
from bridge.replay import cases
from bridge.runtime.rule_schema import TEXTS, rule_schema
from bridge.runtime.rule_sections import SECONDS

HEAD = """\
# Rules

<!-- Written by `bridge rules reference --out rules/README.md`; a test holds it to the program. -->

A rule is a folder here: `rule.yaml` says what it does, `README.md` for whom it is, `cases/` shows it in numbers. This
is the reference of all that may stand in a `rule.yaml`. Editors that know `rules/schema.json` (the first line of each
file names it) complete keys and mark mistakes while you type; `bridge rules check` says all, with place and mend.

```sh
bridge rules check rules/fee_window                # does it make sense, and what does it read?
bridge rules test rules/fee_window                 # its golden cases
bridge rules backtest rules/fee_window --rpc URL … # what it would have decided over history
```
"""

KINDS: Mapping[str, str] = {
    "_amount": "amount: whole atoms, `1_000_000`",
    "_duration": "duration: `1 day`, `30 s`",
    "_parameter": "number and unit: `5_000 bps`",
    "int": "whole number",
    "_bps": "basis points: `100 bps`",
    "_unit": "unit",
    "_address": "address: as the chain writes it, `0x` and 40 hex digits or base58",
}
"""What the texts of TEXTS are called."""

WORDS: Mapping[str, str] = {
    "the functions in FUNCTIONS and what AGGREGATES say of a table": "the functions below and what they say of a table",
    "(quantities.py)": "(see above)",
    "BITS_MAX": f"{expressions.BITS_MAX} bits",
}
"""Names that only mean something in the code."""

FIELDS = """\
Fields of events: `uint8` … `uint256` and `int8` … `int256` are numbers; `address`, `bool`, `bytes1` … `bytes32`,
`bytes` and `string` can be compared. Events with arrays or structs cannot be declared.
"""


def render_reference() -> str:
    """The text of rules/README.md."""
    schema = rule_schema()
    parts = [HEAD, "## The file\n", *_sections(schema), *_formulas()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


# ── Keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _sections(schema: Mapping[str, Any]) -> Iterator[str]:
    """A table of the whole file, then one for each section, in the order in which they are met."""
    yield _table(schema, schema)
    met: list[tuple[str, str]] = list(_inner(schema, ""))
    told: set[str] = set()
    while met:
        path, name = met.pop(0)
        if name in told:
            continue
        told.add(name)
        section = schema["$defs"][name]
        yield f"### `{path}`\n"
        if section.get("maxProperties") == 1:
            yield "Exactly one of these keys.\n"
        yield _table(section, schema)
        met[:0] = _inner(section, f"{path}.")


def _inner(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """(path, name of the section) of every key that holds one."""
    for key, value in section["properties"].items():
        for suffix, name in _references(value):
            yield f"{prefix}{key}{suffix}", name


def _references(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "$ref" in value:
        yield "", value["$ref"].rpartition("/")[2]
    for other in value.get("anyOf", []):
        yield from _references(other)
    if isinstance(value.get("additionalProperties"), dict):
        yield from ((f".NAME{suffix}", name) for suffix, name in _references(value["additionalProperties"]))
    if isinstance(value.get("items"), dict):
        yield from ((f"[]{suffix}", name) for suffix, name in _references(value["items"]))


def _table(section: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    rows = ["| key | what it takes | meaning |", "| --- | --- | --- |"]
    required = section.get("required", [])
    for key, value in section["properties"].items():
        needed = "" if key in required or section.get("maxProperties") == 1 else f"; {_default(value)}"
        rows.append(f"| `{key}` | {_cell(_takes(value) + needed)} | {_cell(value.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default in (None, [], {}) or default is None:
        return "may be left out"
    return f"`{str(default).lower() if isinstance(default, bool) else default}` where left out"


def _takes(value: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    known = [KINDS[name] for name, text in TEXTS.items() if all(value.get(key) == part for key, part in text.items())]
    match value:
        case {"enum": choices}:
            return ", ".join(f"`{choice}`" for choice in choices)
        case _ if known:
            return known[0]
        case {"$ref": _}:
            words = "keys, see below"
        case {"anyOf": others}:
            words = " or ".join(dict.fromkeys(_takes(other) for other in others))
        case {"type": "array", "items": item}:
            words = f"list of: {_takes(item)}"
        case {"additionalProperties": dict(inner)}:
            words = f"by name: {_takes(inner)}"
        case {"type": ["string", "integer"]}:
            words = "text"
        case _:
            words = {"integer": "whole number", "string": "text", "boolean": "`true` or `false`"}[value["type"]]
    return words


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# ── Formulas ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _formulas() -> Iterator[str]:
    units = ", ".join(f"`{name}`" for name in SECONDS)
    yield f"Durations are a whole number and one of {units}, in the plural too.\n"
    yield FIELDS
    yield "## Windows\n"
    yield _doc(windows.__doc__)
    yield "## Units\n"
    yield _doc(quantities.__doc__)
    yield "## Formulas\n"
    yield _doc(expressions.__doc__, skip=2)
    yield "| function | gives |\n| --- | --- |\n" + "\n".join(
        f"| `{function.form}` | {_cell(_line(function.call.__doc__))} |" for function in FUNCTIONS.values()
    )
    yield "| of a table | gives |\n| --- | --- |\n" + "\n".join(
        f"| `{name}(table)` | {_cell(meaning)} |" for name, meaning in AGGREGATES.items()
    )
    yield "| constant | value |\n| --- | --- |\n" + "\n".join(
        f"| `{name}` | {value:,} {unit} |" for name, (value, unit) in CONSTANTS.items()
    )

    yield "## Golden cases\n"
    yield _doc(cases.__doc__).partition("    case.json")[0]


def _line(doc: str | None) -> str:
    return " ".join((doc or "").split())


def _doc(doc: str | None, *, skip: int = 0) -> str:
    """A module's docstring, as it stands: Markdown reads it; without its first `skip` paragraphs."""
    paragraphs = (doc or "").strip().split("\n\n")[skip:]
    text = "\n\n".join(paragraphs) + "\n"
    for name, word in WORDS.items():
        text = text.replace(name, word)
    return text
