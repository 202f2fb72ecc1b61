"""rule.yaml: what is read, and that each mistake is shown at its place with the mend."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.errors import ConfigError
from bridge.domain.quantities import amount_of
from bridge.domain.rules import Carry, Parameter, Shares
from bridge.domain.units import Address, base58, format_address
from bridge.domain.windows import Every
from bridge.runtime.rulefile import SIZE_MAX, load_rule, parse_rule

RULES = Path(__file__).resolve().parents[2] / "rules"
TEXT = (RULES / "fee_window" / "rule.yaml").read_text()
BUFFER = (RULES / "reserve_buffer" / "rule.yaml").read_text()
CONTRACTS = {"vault", "pool", "obligations"}


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_rule(text, name="rule.yaml", contracts=CONTRACTS, tokens={"USDX"})
    return str(caught.value)


def test_load_rule__shipped_file__rule_with_the_hash_of_its_bytes():
    path = RULES / "reserve_buffer" / "rule.yaml"
    rule = load_rule(path, contracts=CONTRACTS, tokens={"USDX"}).rule
    assert rule.content_hash == hashlib.sha256(path.read_bytes()).digest()
    assert rule.body.encode() == path.read_bytes()
    assert (rule.name, rule.trigger, rule.carry) == ("reserve_buffer", Every(3600), Carry.NONE)
    assert rule.parameters == {"floor": Parameter(50_000_000_000, amount_of("USDX"))}
    assert rule.guardrails.cooldown_s == 7200
    assert isinstance(rule.split, Shares)  # addresses without quotes are no integers
    assert [(recipient.hex()[-2:], bps) for recipient, bps in rule.split.shares] == [("a1", 7000), ("b2", 3000)]


def test_parse_rule__unknown_name__line_column_caret_and_mend():
    assert complaint(TEXT.replace("surplus: fees", "surplus: fes - 1")) == (
        "rule.yaml:29:10: unknown name `fes`\n    surplus: fes - 1\n             ^\n  mend: did you mean `fees`?"
    )


def test_parse_rule__mistake_inside_quotes__caret_under_it():
    message = complaint(TEXT.replace("where: token == asset", 'where: "token == aset"'))
    line, caret = message.splitlines()[1:3]
    assert line[caret.index("^") :].startswith('aset"')


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("guardrails:", "gardrails:", "unknown key `gardrails`"),
        ("guardrails:", "gardrails:", "did you mean `guardrails`?"),
        ("minimum_total", "minimum_totl", "did you mean `minimum_total`?"),
        ("surplus: fees\n", "", "`surplus` is missing"),
        ("contract: pool", "contract: pol", "there is no contract `pol`"),
        ("asset: USDX", "asset: USDC", "there is no token `USDC`"),
        ("every: 1 day", "every: 1 fortnight", "a duration is a number and"),
        ("every: 1 day", "every: 86400", "a duration is a number and"),
        ("version: 2", "version: 1.5", "`1.5` is not a whole number"),
        ("version: 2", "version: one", "rule.yaml:4:10"),
        ("version: 2", "version: 0x1", "rule.yaml:4:10"),
        ("minimum_total: 1_000_000", "minimum_total: -1", "an amount is a whole number"),
        ("minimum_total: 1_000_000", f"minimum_total: {2**256}", "an amount is a whole number"),
        ("minimum_total: 1_000_000", "minimum_total: 1e6", "an amount is a whole number"),
        ("carry: surplus", "carry: all", "none of surplus, none"),
        ("split: {pro_rata: stake}", "split: {}", "give exactly one of: pro_rata, shares, equal, legs"),
        ("split: {pro_rata: stake}", "split: {pro_rata: stake, equal: []}", "give exactly one of"),
        ("split: {pro_rata: stake}", "split: {shares: [{to: 0x12, bps: 1}]}", "an address is 0x and 40 hex digits"),
        ("fees: {sum: fee.amount}", "fees: {}", "give exactly one of: sum"),
        ("asset: USDX", "asset: USDX\nasset: USDX", "the key `asset` comes twice"),
        ("asset: USDX", "asset: &a USDX", "anchors, aliases and tags are not read"),
        ("asset: USDX", "asset: !!python/name:os.system USDX", "anchors, aliases and tags are not read"),
        ("inputs:", "inputs: [", "is not valid YAML"),
        (TEXT, "- 1", "holds no rule"),
        (TEXT, "", "holds no rule"),
        (TEXT, "[" * 2000, "is not valid YAML"),
        (TEXT, "a: \x00", "is not valid YAML"),
    ],
)
def test_parse_rule__mistake__named(old: str, new: str, expected: str):
    assert old in TEXT
    assert expected in complaint(TEXT.replace(old, new, 1))


VAULT = Address(bytes([7]) * 32)
ELSEWHERE = "0x" + "ab" * 20


def foreign(text: str) -> str:
    """The complaint where the rule is for a chain whose addresses have 32 bytes."""
    with pytest.raises(ConfigError) as caught:
        parse_rule(text, name="rule.yaml", example=VAULT)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (BUFFER, "rule.yaml:35:12"),
        (TEXT.replace("where: token == asset", f"where: token == asset and payer != {ELSEWHERE}"), "rule.yaml:14:40"),
        (TEXT.replace("split:", f"exclude: [pool, '{ELSEWHERE}']\nsplit:"), "rule.yaml:37:17"),
    ],
)
def test_parse_rule__addresses_of_another_kind_of_chain__named_where_they_stand(text: str, place: str):
    said = foreign(text)
    assert said.startswith(f"{place}: 0x"), said
    assert "is no address of the chain that this rule is for" in said
    assert said.endswith(f"mend: its addresses look like {format_address(VAULT)}")
    parse_rule(text, name="rule.yaml", example=Address(bytes([7]) * 20))


def test_parse_rule__shipped_rule_with_addresses_of_its_chain__loads():
    text = BUFFER.replace("0x00000000000000000000000000000000000000a1", base58(bytes([1]) * 32))
    text = text.replace("0x00000000000000000000000000000000000000b2", base58(bytes([2]) * 32))
    split = parse_rule(text, name="rule.yaml", example=VAULT).rule.split
    assert split == Shares(((Address(bytes([1]) * 32), 7000), (Address(bytes([2]) * 32), 3000)))


def test_parse_rule__several_mistakes_of_form__all_of_them_at_once():
    message = complaint(TEXT.replace("guardrails:", "gardrails:").replace("carry:", "cary:"))
    assert "unknown key `gardrails`" in message
    assert "unknown key `cary`" in message
    assert "`carry` is missing" in message


def test_parse_rule__amounts_as_wide_as_uint256__exact():
    rule = parse_rule(BUFFER.replace("50_000_000_000", str(2**256 - 1)), name="rule.yaml").rule
    assert rule.parameters["floor"].value == 2**256 - 1


@pytest.mark.parametrize(("content", "expected"), [(b"\xff", "not UTF-8"), (b" " * (SIZE_MAX + 1), "larger than")])
def test_load_rule__file_that_cannot_be_read__named(tmp_path: Path, content: bytes, expected: str):
    path = tmp_path / "rule.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        load_rule(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rule(tmp_path / "absent.yaml")


@given(st.data())
def test_parse_rule__any_damage_to_a_line__a_rule_or_a_config_error(data: st.DataObject):
    lines = TEXT.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    cut = data.draw(st.integers(0, len(line)))
    lines[number] = line[:cut] + data.draw(st.text(max_size=4)) + line[cut + data.draw(st.integers(0, 3)) :]
    said = "rule.yaml"
    try:
        parse_rule("\n".join(lines), name="rule.yaml", contracts=CONTRACTS, tokens={"USDX"})
    except ConfigError as error:
        said = str(error)
    assert said.startswith("rule.yaml")
