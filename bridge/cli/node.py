"""A chain as a command that needs no daemon names it: --rpc, with names from --config or from the command line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bridge.chains.evm.follow import Finality
from bridge.chains.evm.history import EvmHistory
from bridge.chains.evm.reader import EvmReader
from bridge.chains.evm.rpc import EvmRpc, quantity
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block
from bridge.domain.rules import Token
from bridge.domain.units import Address, AssetId, format_address
from bridge.runtime.config import Config
from bridge.runtime.evm_section import EvmSection

RpcUrls = Annotated[
    list[str] | None,
    typer.Option("--rpc", metavar="URL", help="A node; twice or more: two must say the same. Default: of --config."),
]
ContractNames = Annotated[
    list[str] | None, typer.Option("--contract", metavar="NAME=0x…", help="What a name of the rule stands for.")
]
TokenNames = Annotated[list[str] | None, typer.Option("--token", metavar="NAME=0x…", help="The same for a token.")]
ChainName = Annotated[str | None, typer.Option("--chain", metavar="NAME", help="Which chain of --config.")]
Depth = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Blocks under the head that are final, where nodes have no such tag."),
]
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")


@dataclass(frozen=True, slots=True)
class Names:
    """What was said of a chain: all of it optional."""

    config: Config | None = None
    chain: str | None = None
    rpc: Sequence[str] = ()
    contracts: Sequence[str] = ()
    tokens: Sequence[str] = ()
    depth: int | None = None

    def section(self) -> tuple[str, EvmSection] | None:
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
        return chain, self.config.evm(chain)


@dataclass(frozen=True, slots=True)
class Node:
    """An opened chain."""

    reader: EvmReader
    history: EvmHistory
    contracts: Mapping[str, Address]
    tokens: Mapping[str, Token]
    decimals: Mapping[str, int] = field(default_factory=dict)  # by token; those that the configuration knows

    async def finalized(self) -> Block:
        """The newest finalized block. Raises ConfigError where none is known."""
        block = await self.history.finalized()
        if block is None:
            raise ConfigError(
                "the nodes name no finalized block",
                where="--rpc",
                mend="wait for the first; or give --depth N, for chains whose nodes know no such tag",
            )
        return block


@contextlib.asynccontextmanager
async def open_node(names: Names) -> AsyncIterator[Node]:
    """Raises ConfigError where a node serves another chain than the configuration says, or a name makes no sense."""
    found = names.section()
    name, section = found or ("chain", None)
    urls = list(names.rpc) or (list(section.rpc) if section is not None else [])
    if not urls:
        raise ConfigError("no node is named", where="--rpc", mend="give --rpc URL, or a --config with one")
    contracts = dict(section.contracts) if section is not None else {}
    contracts |= _addresses("--contract", names.contracts)
    tokens = {symbol: token.address for symbol, token in section.tokens.items()} if section is not None else {}
    tokens |= _addresses("--token", names.tokens)
    rpc = EvmRpc(urls)
    try:
        chain_id = await rpc.agreed("eth_chainId", [], quantity)
        if section is not None and section.chain_id != chain_id:
            raise ConfigError(
                f"the node serves chain id {chain_id}, chain `{name}` has {section.chain_id}",
                where="--rpc",
                mend=f"name a node of chain {section.chain_id}, or another chain with --chain",
            )
        finality = _finality(section, names.depth)
        reader = EvmReader(name, rpc, chain_id=chain_id, finality=finality)
        yield Node(
            reader,
            EvmHistory(rpc, finality=finality),
            contracts,
            {
                symbol: Token(AssetId(f"{reader.reference}/erc20:{format_address(address)}"), address)
                for symbol, address in tokens.items()
            },
            {symbol: token.decimals for symbol, token in section.tokens.items()} if section is not None else {},
        )
    finally:
        await rpc.close()


def _finality(section: EvmSection | None, depth: int | None) -> Finality:
    if depth is not None:
        return Finality(depth=depth)
    if section is not None:
        return Finality(tag=section.finality.tag, depth=section.finality.depth)
    return Finality(tag="finalized")


def _addresses(option: str, texts: Sequence[str]) -> dict[str, Address]:
    found: dict[str, Address] = {}
    for text in texts:
        name, _, address = text.partition("=")
        if not name or not _ADDRESS.match(address):
            raise ConfigError(
                f"`{text}` is not NAME=ADDRESS", where=option, mend=f"{option} vault=0x… with 40 hex digits"
            )
        found[name] = Address(bytes.fromhex(address[2:]))
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
