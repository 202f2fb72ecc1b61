"""Prices in rule.yaml: what is read, and that each mistake is shown at its place."""

import pytest

from bridge.domain.errors import ConfigError
from bridge.domain.plans import Plan
from bridge.domain.prices import PriceFrom, PriceInput
from bridge.runtime.rulefile import parse_rule

TEXT = """\
rule: value
version: 1
description: What a fee in WETH is worth
asset: USDX
window: {every: 1 hour}
events:
  fee:
    contract: vault
    event: "FeePaid(address indexed payer, uint256 amount)"
    units: {amount: amount<WETH>}
inputs:
  fees: {sum: fee.amount}
  eth:
    price:
      feed: eth_usd
      base: WETH
      quote: USDX
      base_decimals: 18
      quote_decimals: 6
      max_age: 1 hour
      average: 30 minutes
      second: {http: exchange, max_age: 10 minutes}
      deviation: 100 bps
surplus: value(fees, eth)
carry: surplus
split: {shares: [{to: 0x00000000000000000000000000000000000000a1, bps: 10_000}]}
"""


def parse(text: str) -> Plan:
    return parse_rule(
        text,
        name="rule.yaml",
        contracts={"vault", "eth_usd"},
        tokens={"USDX"},
        markets={"exchange"},
        decimals={"USDX": 6},
    )


def test_parse_rule__price__as_written():
    plan = parse(TEXT)
    assert plan.rule.inputs["eth"] == PriceInput(
        base="WETH",
        quote="USDX",
        base_decimals=18,
        quote_decimals=6,
        first=PriceFrom(feed="eth_usd", max_age_s=3600, average_s=1800),
        second=PriceFrom(http="exchange", max_age_s=600),
        deviation_bps=100,
    )
    assert plan.contracts() == {"vault", "eth_usd"}


def test_parse_rule__second_source_without_an_age__that_of_the_first():
    source = parse(TEXT.replace("{http: exchange, max_age: 10 minutes}", "{http: exchange}")).rule.inputs["eth"]
    assert isinstance(source, PriceInput)
    assert source.second == PriceFrom(http="exchange", max_age_s=3600)


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("feed: eth_usd", "feed: eth_eur", 15, "there is no contract `eth_eur`"),
        ("feed: eth_usd", "feed: eth_eur", 15, "did you mean `eth_usd`?"),
        ("http: exchange,", "http: exchang,", 22, "there is no [prices] section `exchang`"),
        ("      feed: eth_usd\n", "", 15, "give either feed or http"),
        ("feed: eth_usd", "feed: eth_usd\n      http: exchange", 15, "give either feed or http"),
        ("      max_age: 1 hour\n", "", 15, "max_age is missing"),
        ("feed: eth_usd", "http: exchange", 15, "only the rounds of a feed can be averaged"),
        ("quote_decimals: 6", "quote_decimals: 18", 19, "USDX has 6 decimals in bridge.toml"),
        ("base_decimals: 18", "base_decimals: 78", 18, "a token has 0 … 77 decimals"),
        ("quote: USDX", "quote: WETH", 17, "always 1"),
        ("deviation: 100 bps", "deviation: 100", 23, "a number of basis points"),
        ("deviation: 100 bps", "deviation: 1 amount<USDX>", 23, "a number of basis points"),
        ("deviation: 100 bps", "deviation: 1%", 23, "`%` is no unit"),
        ("deviation: 100 bps", "deviation: 0 bps", 23, "1 … 10000 bps"),
        ("      deviation: 100 bps\n", "", 15, "given together"),
        ("      second: {http: exchange, max_age: 10 minutes}\n", "", 22, "given together"),
        ("{http: exchange, max_age: 10 minutes}", "{feed: eth_usd}", 22, "the same as the first"),
        ("average: 30 minutes", "averag: 30 minutes", 21, "did you mean `average`?"),
        ("max_age: 1 hour", "max_age: 3600", 20, "a duration is a number and"),
        ("value(fees, eth)", "fees", 24, "amount<USDX> is due"),
        ("value(fees, eth)", "value(eth, fees)", 24, "price"),
    ],
)
def test_parse_rule__mistake_in_a_price__named_where_it_stands(old: str, new: str, line: int, problem: str):
    assert old in TEXT
    with pytest.raises(ConfigError) as caught:
        parse(TEXT.replace(old, new, 1))
    message = str(caught.value)
    assert problem in message
    assert message.startswith(f"rule.yaml:{line}:"), message


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        ('{contract: vault, function: "rate(uint8)", arguments: [256]}', "this is no uint8"),
        ('{contract: vault, function: "rate(uint8)", arguments: [-1]}', "this is no uint8"),
        ('{contract: vault, function: "rate(uint256)"}', "takes 1 arguments"),
    ],
)
def test_parse_rule__argument_that_does_not_fit__named(read: str, problem: str):
    text = TEXT.replace("inputs:\n", f"inputs:\n  rate: {{read: {read}}}\n")
    with pytest.raises(ConfigError, match=problem):
        parse(text)
