"""The sections of a rule file → Rule: shapes become the values that the domain knows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from bridge.domain.prices import PriceFrom, PriceInput
from bridge.domain.rules import (
    At,
    Balance,
    Balances,
    By,
    Carry,
    Committed,
    Count,
    Equal,
    Factory,
    Guardrails,
    HighWater,
    Input,
    Last,
    Legs,
    LegSplit,
    Members,
    ProRata,
    Read,
    Rule,
    RuleEvent,
    RuleMistake,
    Shares,
    Split,
    Sum,
    Sums,
    TimeWeighted,
    To,
)
from bridge.domain.units import parse_address
from bridge.domain.windows import Blocks, Calendar, Each, Every, Period, Trigger
from bridge.runtime.rule_sections import (
    BySection,
    Document,
    EventSection,
    InputSection,
    LegSection,
    PriceSection,
    PriceSourceSection,
    SplitSection,
    WindowSection,
)
from bridge.runtime.yaml_source import Trail

_Choice = TypeVar("_Choice", bound=StrEnum)


def rule_of(document: Document, text: str) -> Rule:
    """`text` is the whole file. Raises RuleMistake for a word that is none of those that its place knows."""
    limits = document.guardrails
    return Rule(
        name=document.rule,
        version=document.version,
        description=document.description,
        asset=document.asset,
        trigger=_trigger(document.window),
        events={key: _event(each) for key, each in document.events.items()},
        inputs={key: _input(key, each) for key, each in document.inputs.items()},
        parameters=document.parameters,
        values=document.values,
        surplus=document.surplus,
        carry=_choice(Carry, ("carry",), document.carry),
        guardrails=Guardrails(
            cap_per_epoch=limits.cap_per_epoch,
            cap_total=limits.cap_total,
            cap_per_recipient=limits.cap_per_recipient,
            minimum_total=limits.minimum_total,
            minimum_per_recipient=limits.minimum_per_recipient,
            cooldown_s=limits.cooldown,
            lot=limits.lot,
            approve_above=limits.approve_above,
        ),
        split=_split(document.split),
        exclude=tuple(document.exclude),
        body=text,
        content_hash=hashlib.sha256(text.encode()).digest(),
    )


def _choice(choices: type[_Choice], trail: Trail, text: str) -> _Choice:
    if text not in set(choices):
        known = [str(choice) for choice in choices]
        raise RuleMistake(trail, f"`{text}` is none of {', '.join(known)}", mend=f"write {known[0]}")
    return choices(text)


def _trigger(section: WindowSection) -> Trigger:
    if section.every is not None:
        return Every(section.every)
    if section.calendar is not None:
        return Calendar(_choice(Period, ("window", "calendar"), section.calendar))
    if section.blocks is not None:
        return Blocks(section.blocks)
    assert section.each is not None  # OneOf
    return Each(section.each)


def _event(section: EventSection) -> RuleEvent:
    if section.factory is not None:
        made = section.factory
        factory = Factory(made.contract, made.event, made.address)
        return RuleEvent((), section.event, section.where, section.units, factory)
    contracts = section.contracts or [section.contract or ""]
    return RuleEvent(tuple(contracts), section.event, section.where, section.units)


def _input(name: str, section: InputSection) -> Input:
    simple: dict[str, Callable[[str], Input]] = {
        "sum": Sum,
        "count": Count,
        "last": Last,
        "committed": Committed,
        "high_water": HighWater,
    }
    for key, kind in simple.items():
        if (text := getattr(section, key)) is not None:
            return kind(text)
    if section.balance is not None:
        held = section.balance
        return Balance(held) if isinstance(held, str) else Balance(held.of, held.token)
    if section.read is not None:
        read = section.read
        arguments = tuple(_argument(one) for one in read.arguments)
        return Read(read.contract, _signature(read.function), read.returns, arguments)
    if section.price is not None:
        return _price(section.price)
    return _table(name, section)


def _price(section: PriceSection) -> PriceInput:
    second = section.second
    return PriceInput(
        base=section.base,
        quote=section.quote,
        base_decimals=section.base_decimals,
        quote_decimals=section.quote_decimals,
        first=_price_source(section, section.max_age),
        second=None if second is None else _price_source(second, second.max_age or section.max_age),
        deviation_bps=section.deviation,
    )


def _price_source(section: PriceSourceSection, max_age: int | None) -> PriceFrom:
    return PriceFrom(section.feed, section.http, max_age or 0, section.average or 0, section.inverse)


def _table(name: str, section: InputSection) -> Input:
    if (weighted := section.time_weighted) is not None:
        return TimeWeighted(weighted.add, weighted.subtract, _by(weighted.by))
    if (balances := section.balances) is not None:
        at = _choice(At, ("inputs", name, "balances", "at"), balances.at)
        return Balances(balances.add, balances.subtract, _by(balances.by), at)
    if (sums := section.sums) is not None:
        return Sums(sums.of, sums.by)
    members = section.members
    assert members is not None  # OneOf
    at = _choice(At, ("inputs", name, "members", "at"), members.at)
    return Members(tuple(members.add), tuple(members.remove), at)


def _by(section: str | BySection) -> By:
    return By(section, section) if isinstance(section, str) else By(section.add, section.subtract)


def _signature(function: str) -> str:
    return function if "(" in function else f"{function}()"


def _argument(value: int | str) -> int | str:
    return int(value.replace("_", "")) if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_]*", value) else value


def _split(section: SplitSection) -> Split:
    if section.shares is not None:
        return Shares(tuple((parse_address(share.to), share.bps) for share in section.shares))
    if section.legs is not None:
        return Legs(tuple(LegSplit(leg.bps, _part(leg), leg.residual) for leg in section.legs))
    part = _part(section)
    assert not isinstance(part, To)
    return part


def _part(section: LegSection | SplitSection) -> ProRata | Equal | To:
    if section.pro_rata is not None:
        return ProRata(section.pro_rata)
    if isinstance(section, LegSection) and section.to is not None:
        return To(parse_address(section.to))
    equal = section.equal
    assert equal is not None  # OneOf
    return Equal(equal) if isinstance(equal, str) else Equal(tuple(parse_address(recipient) for recipient in equal))
