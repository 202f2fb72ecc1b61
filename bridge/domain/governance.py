"""Who may do what with the contracts of one chain, and how much: as it should be, as it is, and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.domain.units import Address, format_address


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What may leave the vault of one token, in atoms."""

    floor: int  # the vault never goes below
    cap_per_epoch: int  # leaves in one epoch of the vault at most
    auto_per_epoch: int  # of that, what needs neither approval nor delay to be pushed
    claims_auto_per_epoch: int = 0  # and to be claimed; counts all that a new tree could give away, old claims included


@dataclass(frozen=True, slots=True)
class Governance:
    """`contract` is a name of the configuration: timelock, vault, distributor, claims."""

    code: Mapping[str, bytes]  # contract → keccak256 of its runtime code, immutable values included; 32 bytes
    roles: Mapping[tuple[str, str], frozenset[Address]]  # (contract, role) → everyone who holds it
    limits: Mapping[str, TokenLimits]  # by token symbol
    settings: Mapping[tuple[str, str], int]  # (contract, view function) → what it returns


def differences(wanted: Governance, found: Governance) -> tuple[str, ...]:
    """What is not on the chain as it should be, a sentence each; empty where all of it agrees."""
    return (*_code(wanted, found), *_roles(wanted, found), *_limits(wanted, found), *_settings(wanted, found))


def _code(wanted: Governance, found: Governance) -> Iterable[str]:
    for contract, expected in wanted.code.items():
        actual = found.code[contract]
        if actual != expected:
            yield f"{contract}: its code is keccak256:{actual.hex()}, not keccak256:{expected.hex()}"


def _roles(wanted: Governance, found: Governance) -> Iterable[str]:
    for (contract, role), expected in wanted.roles.items():
        actual = found.roles[contract, role]
        for account in sorted(expected - actual):
            yield f"{contract}: {format_address(account)} should have {role} and has it not"
        for account in sorted(actual - expected):
            yield f"{contract}: {format_address(account)} has {role} and should not"


def _limits(wanted: Governance, found: Governance) -> Iterable[str]:
    for symbol, expected in wanted.limits.items():
        actual = found.limits[symbol]
        for name in ("floor", "cap_per_epoch", "auto_per_epoch", "claims_auto_per_epoch"):
            if getattr(actual, name) != getattr(expected, name):
                yield f"{name} of {symbol} is {getattr(actual, name)} atoms, not {getattr(expected, name)}"


def _settings(wanted: Governance, found: Governance) -> Iterable[str]:
    for (contract, name), expected in wanted.settings.items():
        actual = found.settings[contract, name]
        if actual != expected:
            yield f"{contract}: {name} is {actual}, not {expected}"
