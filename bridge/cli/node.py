"""A chain as a command that needs no daemon names it: --rpc, with names from --config or from the command line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, AssetId, parse_address
from bridge.runtime.config import ChainSection, Config

if TYPE_CHECKING:
    from bridge.compose.node import Node

RpcUrls = Annotated[
    list[str] | None,
    typer.Option("--rpc", metavar="URL", help="A node; twice or more: two must say the same. Default: of --config."),
]
ContractNames = Annotated[
    list[str] | None, typer.Option("--contract", metavar="NAME=ADDRESS", help="What a name of the rule stands for.")
]
TokenNames = Annotated[list[str] | None, typer.Option("--token", metavar="NAME=ADDRESS", help="The same for a token.")]
ChainName = Annotated[str | None, typer.Option("--chain", metavar="NAME", help="Which chain of --config.")]
Depth = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Blocks under the head that are final, where nodes have no such tag."),
]


@dataclass(frozen=True, slots=True)
class Names:
    """What was said of a chain: all of it optional."""

    config: Config | None = None
    chain: str | None = None
    rpc: Sequence[str] = ()
    contracts: Sequence[str] = ()
    tokens: Sequence[str] = ()
    depth: int | None = None
    assets: Sequence[AssetId] = ()  # whose balances will be asked for

    def section(self) -> tuple[str, ChainSection] | None:
        """The chain of the configuration that is meant. Raises ConfigError where it is not clear."""
        if self.config is None:
            if self.chain is not None:
                raise ConfigError("names a chain of a configuration", where="--chain", mend="give --config too")
            return None
        chains = self.config.chains
        chain = next(iter(chains)) if self.chain is None and len(chains) == 1 else self.chain
        if chain not in chains:
            raise ConfigError(
                f"`{chain}` is none of the chains" if chain else "there are several chains",
                where="--chain",
                mend=f"name one of: {', '.join(chains)}",
            )
        return chain, chains[chain]


@contextlib.asynccontextmanager
async def open_node(names: Names) -> AsyncIterator[Node]:
    """Raises ConfigError where a node serves another chain than the configuration says, or a name makes no sense."""
    from bridge.compose.node import Asked, open_asked  # noqa: PLC0415  # only where a node is asked: it takes a second

    name, section = names.section() or ("chain", None)
    urls = list(names.rpc) or (list(section.rpc) if section is not None else [])
    if not urls:
        raise ConfigError("no node is named", where="--rpc", mend="give --rpc URL, or a --config with one")
    contracts, tokens = _addresses("--contract", names.contracts), _addresses("--token", names.tokens)
    asked = Asked(name, urls, contracts, tokens, names.depth, names.assets)
    async with AsyncExitStack() as stack:
        yield await open_asked(asked, names.config, section, stack)


def _addresses(option: str, texts: Sequence[str]) -> dict[str, Address]:
    found: dict[str, Address] = {}
    for text in texts:
        name, _, address = text.partition("=")
        try:
            found[name] = parse_address(address)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(
                f"`{text}` is not NAME=ADDRESS", where=option, mend=f"{option} vault=0x… with 40 hex digits, or base58"
            )
    return found


def parse_moment(option: str, text: str) -> tuple[int | None, int | None]:
    """(block, None) or (None, second): `19_000_000`, `2026-01-31`, `2026-01-31T12:00`, in UTC. Raises ConfigError."""
    digits = text.replace("_", "")
    if digits.isascii() and digits.isdecimal():
        return int(digits), None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"`{text}` is neither a block number nor a date",
            where=option,
            mend=f"{option} 19000000, or {option} 2026-01-31, or {option} 2026-01-31T12:00 (UTC)",
        ) from None
    return None, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def rule_file(asked: str, config: Config | None) -> Path:
    """The file that RULE names: a file, a folder with a rule.yaml, or a rule of the configuration. Raises ConfigError
    where there is none."""
    path = Path(asked)
    if path.is_dir():
        path = path / "rule.yaml"
    if path.is_file():
        return path
    configured = [config.relative(rule.file) for rule in config.rules] if config is not None else []
    for candidate in (*configured, Path("rules") / asked / "rule.yaml"):
        if candidate.is_file() and asked in (candidate.stem, candidate.parent.name):
            return candidate
    raise ConfigError(
        f"there is no rule {asked}", where="RULE", mend="give a rule file, or a folder with a rule.yaml in it"
    )
