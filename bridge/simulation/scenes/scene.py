"""What a scene is: tokens and contracts, who acts there, and the shipped rules that are run on what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridge.domain.units import Address, hexed
from bridge.simulation.scenario import Surplus, Weights
from bridge.simulation.traffic import Cast, Kind, Stage, Token

RESERVE = 5_000


@dataclass(frozen=True, slots=True)
class Coin:
    """A token to be made. The vault has `reserve` whole ones of it before anybody earns it anything."""

    name: str
    symbol: str
    decimals: int
    reserve: int = RESERVE


USDX = Coin("Sandbox Dollar", "USDX", 6)
OTHERS = (Coin("Sandbox Dai", "DAIX", 18), Coin("Sandbox Points", "PTSX", 8))
COINS = (USDX, *OTHERS)
"""As few and as many decimals as real tokens have."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a scene's contracts can be built on. There is no code at the vault's address yet."""

    tokens: tuple[Token, ...]
    vault: Address

    @property
    def usdx(self) -> str:
        """Its address, as 0x and hex digits."""
        return hexed(self.tokens[0].contract.address)

    @property
    def vault_hex(self) -> str:
        return hexed(self.vault)


@dataclass(frozen=True, slots=True)
class Creation:
    """A contract to be made."""

    artifact: str
    arguments: tuple[object, ...] = ()


class Unit(Protocol):
    """A token, as far as amounts are written in it."""

    @property
    def symbol(self) -> str: ...
    @property
    def unit(self) -> int:
        """One whole token in atoms."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the text of a shipped rule is adapted to."""

    epoch_s: int
    tokens: Sequence[Unit]

    def atoms(self, whole: int, symbol: str) -> str:
        [token] = [token for token in self.tokens if token.symbol == symbol]
        return f"{whole * token.unit:_}"


def nothing_else(_: Numbers) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class SceneRule:
    """A rule of the scene: the one that is shipped as `shipped`, as it stands there but for its window and `values`.

    A window of a fixed length lasts an epoch. With `each`, one ends with every block that has an act of that kind.
    """

    name: str
    shipped: str
    values: Callable[[Numbers], Mapping[str, str]] = nothing_else  # other texts for keys that stand there once
    beneficiaries: bool = False  # the addresses of its shares are replaced by those of the stage
    surplus: Surplus | None = None  # None: not told by the traffic alone
    weights: Weights | None = None  # likewise
    each: Kind | None = None
    file: Path | None = None  # a rule of one's own, instead of the shipped one
    free: bool = False  # which windows it has is not told by the traffic


@dataclass(frozen=True, slots=True)
class Scene:
    """`contracts` are by their names in bridge.toml."""

    name: str
    contracts: Callable[[Ground], Mapping[str, Creation]]
    cast: Callable[[Stage], Cast]
    rules: tuple[SceneRule, ...]
    coins: tuple[Coin, ...] = COINS
