"""`rule.yaml` → Plan, with every mistake shown where it stands.

text ──yaml_source──► plain values ──rule_sections──► shape ──rule_document──► Rule ──compile_rule──► Plan

    rules/fee_window/rule.yaml:18:10: unknown name `fes`
        surplus: fes
                 ^
      mend: did you mean `fees`?
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import ValidationError

from bridge.domain.errors import ConfigError
from bridge.domain.plans import Plan, compile_rule
from bridge.domain.prices import PriceInput
from bridge.domain.rules import Rule, RuleMistake, contract_places, market_places, token_places
from bridge.domain.units import Address, format_address
from bridge.runtime.config import Config
from bridge.runtime.rule_document import rule_of
from bridge.runtime.rule_sections import Document, fields_at
from bridge.runtime.yaml_source import YamlSource

SIZE_MAX = 65_536  # bytes of a rule file


def load_rule(
    path: Path,
    *,
    contracts: Collection[str] | None = None,
    tokens: Collection[str] | None = None,
    markets: Collection[str] | None = None,
    decimals: Mapping[str, int] | None = None,
    example: Address | None = None,
) -> Plan:
    """Read and check a rule file; with `contracts`, `tokens` and `markets`, also that the names it uses are configured,
    with `decimals`, by token, that its prices have the same, and with `example`, an address of the chain that it is
    for, that the addresses it writes out could be there.

    Raises ConfigError with file, line, column, a caret and the mend.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        mend = "rules[].file in bridge.toml names it, relative to that file"
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), mend=mend) from None
    if len(content) > SIZE_MAX:
        raise ConfigError(f"larger than {SIZE_MAX} bytes", where=str(path), mend="a rule is a small text")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", where=str(path), mend="save it as UTF-8") from None
    return parse_rule(
        text, name=str(path), contracts=contracts, tokens=tokens, markets=markets, decimals=decimals, example=example
    )


def load_configured(config: Config, chain: str, file: Path) -> Plan:
    """As load_rule, held against all that the configuration says of the chain that the rule is for."""
    section = config.chains[chain]
    return load_rule(
        file,
        contracts=set(section.contracts),
        tokens=set(section.tokens),
        markets=set(config.prices),
        decimals={symbol: token.decimals for symbol, token in section.tokens.items()},
        example=next(iter(section.contracts.values()), None),
    )


def parse_rule(
    text: str,
    *,
    name: str,
    contracts: Collection[str] | None = None,
    tokens: Collection[str] | None = None,
    markets: Collection[str] | None = None,
    decimals: Mapping[str, int] | None = None,
    example: Address | None = None,
) -> Plan:
    """As load_rule, from text; `name` stands for the file in messages."""
    source = YamlSource(name, text)
    content = source.read()
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        mistakes = [source.explain(item, fields_at) for item in error.errors()]
        raise ConfigError("\n".join(str(mistake) for mistake in mistakes)) from None
    try:
        rule = rule_of(document, text)
        _check_names(rule, contracts, tokens, markets)
        _check_decimals(rule, decimals or {})
        plan = compile_rule(rule)
        _check_addresses(plan, example)
    except RuleMistake as mistake:
        raise source.at(mistake.trail, mistake.problem, mistake.mend, offset=mistake.offset) from None
    return plan


def _check_names(
    rule: Rule,
    contracts: Collection[str] | None,
    tokens: Collection[str] | None,
    markets: Collection[str] | None,
) -> None:
    if tokens is not None and rule.asset not in tokens:
        raise RuleMistake(("asset",), f"there is no token `{rule.asset}`", mend=_near(rule.asset, tokens))
    for known, what, places in (
        (contracts, "contract", contract_places(rule)),
        (tokens, "token", token_places(rule)),
        (markets, "[prices] section", market_places(rule)),
    ):
        for trail, named in places:
            if known is not None and named not in known:
                raise RuleMistake(trail, f"there is no {what} `{named}`", mend=_near(named, known))


def _check_decimals(rule: Rule, decimals: Mapping[str, int]) -> None:
    """A price that is worked out with other decimals than the token has is wrong by a power of ten."""
    for name, source in rule.inputs.items():
        if not isinstance(source, PriceInput):
            continue
        sides = (("base", source.base, source.base_decimals), ("quote", source.quote, source.quote_decimals))
        for side, token, said in sides:
            if decimals.get(token, said) != said:
                problem = f"{token} has {decimals[token]} decimals in bridge.toml"
                raise RuleMistake(
                    ("inputs", name, "price", f"{side}_decimals"), problem, mend=f"write {decimals[token]}"
                )


def _check_addresses(plan: Plan, example: Address | None) -> None:
    """One of another kind of chain is nobody there: what it gets could not be sent, what asks for it never holds."""
    for trail, offset, address in plan.addresses():
        if example is not None and len(address) != len(example):
            raise RuleMistake(
                trail,
                f"{format_address(address)} is no address of the chain that this rule is for",
                mend=f"its addresses look like {format_address(example)}",
                offset=offset,
            )


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"bridge.toml has: {', '.join(sorted(known)) or 'none'}"
