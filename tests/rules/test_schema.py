"""What is said about the language of rules is what the program does: the JSON Schema and the reference."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from bridge.domain.errors import ConfigError
from bridge.domain.expressions import AGGREGATES, FUNCTIONS
from bridge.replay.reference import WORDS, render_reference
from bridge.runtime.rule_schema import CHOICES, render_schema
from bridge.runtime.rule_sections import OneOf
from bridge.runtime.rulefile import parse_rule

RULES = Path(__file__).resolve().parents[2] / "rules"
FILES = sorted(RULES.glob("*/rule.yaml"))
SCHEMA = json.loads((RULES / "schema.json").read_text())
FEE_WINDOW = (RULES / "fee_window/rule.yaml").read_text()
ADDRESS = "0x" + "0a" * 20
FACTORY = "factory: {contract: factory, event: 'Made(address indexed vault)', address: vault}"


def mistakes(content: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(content)]


def test_schema__committed__is_up_to_date_and_a_schema():
    assert (RULES / "schema.json").read_text() == render_schema()
    Draft202012Validator.check_schema(SCHEMA)


def test_reference__committed__is_up_to_date():
    text = (RULES / "README.md").read_text()
    assert text == render_reference()
    for name in (*FUNCTIONS, *AGGREGATES):
        assert f"| `{name}(" in text
    assert not [word for word in WORDS if word in text]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_schema__shipped_rule__fits_however_an_editor_reads_numbers(path: Path):
    text = path.read_text()
    assert mistakes(yaml.load(text, Loader=yaml.SafeLoader)) == []
    assert mistakes(as_yaml_1_2(yaml.load(text, Loader=yaml.BaseLoader))) == []


def as_yaml_1_2(value: Any) -> Any:
    """From texts: 1_000 stays one, and so may an address."""
    if isinstance(value, dict):
        return {key: as_yaml_1_2(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_yaml_1_2(each) for each in value]
    return {"true": True, "false": False}.get(value, int(value) if value.isdecimal() else value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_rule_file__shipped__names_the_schema_first(path: Path):
    assert path.read_text().startswith("# yaml-language-server: $schema=../schema.json\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("carry: surplus", "carry: all"),
        ("carry: surplus", "cary: surplus"),
        ("asset: USDX", "assets: USDX"),
        ("window: {every: 1 day}", "window: {every: 1 fortnight}"),
        ("window: {every: 1 day}", "window: {every: 1 day, blocks: 5}"),
        ("window: {every: 1 day}", "window: {calendar: days}"),
        ("window: {every: 1 day}", "window: {}"),
        ("cap_per_epoch: 1_000_000_000_000", "cap_per_epoch: -1"),
        ("cap_per_epoch: 1_000_000_000_000", "cap_per_epoch: a lot"),
        ("{sum: fee.amount}", "{sum: fee.amount, count: fee}"),
        ("{sum: fee.amount}", "{total: fee.amount}"),
        ("contract: vault", "contracts: vault"),
        ("contract: vault", "contract: vault\n    contracts: [pool]"),
        ("contract: vault", f"contract: vault\n    {FACTORY}"),
        ("split: {pro_rata: stake}", "split: {shares: [{to: 0x12, bps: 10000}]}"),
        ("split: {pro_rata: stake}", f"split: {{legs: [{{to: {ADDRESS}, pro_rata: stake, bps: 10000}}]}}"),
        ("units: {amount: amount<USDX>}", "units: {amount: pounds}"),
        ("surplus: fees", "parameters: {fee: 5 percent}\nsurplus: fees"),
    ],
)
def test_schema__what_the_program_refuses__is_marked(old: str, new: str):
    text = FEE_WINDOW.replace(old, new)
    assert text != FEE_WINDOW
    with pytest.raises(ConfigError):
        parse_rule(text, name="rule.yaml")
    # An editor keeps an address as it is written, or as a number; our own loader of texts does the first.
    content = yaml.load(text.replace("0x12", '"0x12"'), Loader=yaml.SafeLoader)
    assert mistakes(content) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("window: {every: 1 day}", "window: {calendar: month}"),
        ("window: {every: 1 day}", "window: {blocks: 7200}"),
        ("window: {every: 1 day}", "window: {each: fee}"),
        ("contract: vault", FACTORY),
        ("surplus: fees", "parameters: {fee: 5_000 bps}\nvalues: {half: 'mul_div(fees, fee, BPS)'}\nsurplus: half"),
        ("split: {pro_rata: stake}", f"split: {{equal: [{ADDRESS}]}}\nexclude: [vault, {ADDRESS}]"),
        ("split: {pro_rata: stake}", f"split: {{shares: [{{to: {ADDRESS}, bps: 10000}}]}}"),
        (
            "split: {pro_rata: stake}",
            f"split: {{legs: [{{to: {ADDRESS}, bps: 500, residual: true}}, {{equal: stake, bps: 9500}}]}}",
        ),
    ],
)
def test_schema__what_the_program_takes__is_not_marked(old: str, new: str):
    text = FEE_WINDOW.replace(old, new)
    assert text != FEE_WINDOW
    parse_rule(text, name="rule.yaml")
    assert mistakes(yaml.load(text, Loader=yaml.SafeLoader)) == []


def test_schema__choices_and_exclusions__name_keys_that_are_there():
    sections = {"Document": SCHEMA, **SCHEMA["$defs"]}
    for place in CHOICES:
        section, _, key = place.partition(".")
        assert key in sections[section]["properties"]
    for one_of in OneOf.__subclasses__():
        assert set(one_of.WAYS) <= set(sections[one_of.__name__]["properties"])


def test_schema__every_key__says_what_it_means():
    for section in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in section["properties"].items():
            assert value.get("description"), f"{section['title']}.{key}"
            assert value.get("title") or "$ref" in value
