"""A chain as a command that needs no daemon and no key opens it: by its section, or by what a node says that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from bridge.chains.evm.aggregator import Aggregators
from bridge.chains.evm.rpc import EvmRpc
from bridge.chains.evm.wire import quantity
from bridge.chains.jsonrpc import Refused
from bridge.chains.solana import rpc as values
from bridge.chains.solana.accounts import read_account, read_mint
from bridge.chains.solana.reader import reference_of
from bridge.chains.solana.rpc import FINALIZED, SolanaRpc
from bridge.chains.solana.signer import KeystoreSigner
from bridge.chains.solana.tokens import VAULT, Names, Token
from bridge.compose.evm import finality_of, read_evm
from bridge.compose.solana import NoFeeds, names_of, read_solana
from bridge.domain import rules
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, ConfigError
from bridge.domain.events import Block
from bridge.domain.units import Address, AssetId, format_address, parse_address
from bridge.ports.reading import ChainReader, History, PriceFeeds
from bridge.runtime.config import ChainSection, Config
from bridge.runtime.evm_section import EvmSection
from bridge.runtime.solana_section import NATIVE, SolanaSection

NOBODY = Address(bytes(32))
OPERATOR = "operator"
"""Stands among the contracts for the account that pays, where no configuration names it."""


@dataclass(frozen=True, slots=True)
class Node:
    """An opened chain."""

    reader: ChainReader
    history: History
    feeds: PriceFeeds
    contracts: Mapping[str, Address]
    tokens: Mapping[str, rules.Token]
    decimals: Mapping[str, int] = field(default_factory=dict)  # by token; those that the configuration knows
    # Why what the vault executed is not told from other payments, where it is not: a rule that asks for it finds less.
    unknown_deeds: str | None = None

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


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said of a chain. Addresses by name stand beside those of the section, and before them."""

    name: str
    urls: Sequence[str]
    contracts: Mapping[str, Address]
    tokens: Mapping[str, Address]
    depth: int | None = None
    assets: Sequence[AssetId] = ()  # whose balances will be asked for, of this chain or others


async def open_asked(asked: Asked, config: Config | None, section: ChainSection | None, stack: AsyncExitStack) -> Node:
    """Raises ConfigError where a node serves another chain than the section says."""
    if isinstance(section, EvmSection):
        return await _open_evm(asked, section, stack)
    if isinstance(section, SolanaSection):
        assert config is not None
        return await _open_solana(asked, config, section, stack)
    return await _open_unknown(asked, stack)


async def _open_unknown(asked: Asked, stack: AsyncExitStack) -> Node:
    """Of the kinds of chains, the one whose question the node understands."""
    rpc = SolanaRpc(asked.urls)
    stack.push_async_callback(rpc.close)
    try:
        genesis_hash = await rpc.agreed("getGenesisHash", [], values.address)
    except (Refused, ChainUnavailable, ChainDisagrees):
        return await _open_evm(asked, None, stack)
    return await _open_bare(asked, rpc, genesis_hash)


def _check_addresses(asked: Asked, example: Address) -> None:
    for option, named in (("--contract", asked.contracts), ("--token", asked.tokens)):
        for name, address in named.items():
            if len(address) != len(example):
                raise ConfigError(
                    f"{name}={format_address(address)} is no address of this chain",
                    where=option,
                    mend=f"its addresses look like {format_address(example)}",
                )


# ── Contracts of ours behind JSON-RPC ───────────────────────────────────────────────────────────────────────────────
async def _open_evm(asked: Asked, section: EvmSection | None, stack: AsyncExitStack) -> Node:
    _check_addresses(asked, Address(bytes(20)))
    rpc = EvmRpc(asked.urls)
    stack.push_async_callback(rpc.close)
    chain_id = await rpc.agreed("eth_chainId", [], quantity)
    if section is not None and section.chain_id != chain_id:
        raise ConfigError(
            f"the node serves chain id {chain_id}, chain `{asked.name}` has {section.chain_id}",
            where="--rpc",
            mend=f"name a node of chain {section.chain_id}, or another chain with --chain",
        )
    reader, history = read_evm(asked.name, rpc, chain_id=chain_id, finality=finality_of(section, asked.depth))
    contracts, tokens, decimals = _named(asked, section)
    return Node(
        reader,
        history,
        Aggregators(reader),
        contracts,
        {
            symbol: rules.Token(AssetId(f"{reader.reference}/erc20:{format_address(address)}"), address)
            for symbol, address in tokens.items()
        },
        decimals,
    )


def _named(asked: Asked, section: ChainSection | None) -> tuple[dict[str, Address], dict[str, Address], dict[str, int]]:
    """(contracts, tokens, decimals of tokens) by name."""
    if section is None:
        return dict(asked.contracts), dict(asked.tokens), {}
    return (
        {**section.contracts, **asked.contracts},
        {**{symbol: token.address for symbol, token in section.tokens.items()}, **asked.tokens},
        {symbol: token.decimals for symbol, token in section.tokens.items()},
    )


# ── A vault on a cluster ────────────────────────────────────────────────────────────────────────────────────────────
async def _open_solana(asked: Asked, config: Config, section: SolanaSection, stack: AsyncExitStack) -> Node:
    _check_addresses(asked, NOBODY)
    rpc = SolanaRpc(asked.urls)
    stack.push_async_callback(rpc.close)
    operator = KeystoreSigner.address_of(
        config.relative(section.operator.keystore), where=f"{config.path}: [chains.{asked.name}.operator]"
    )
    names = names_of(section, operator)
    contracts, tokens, _ = _named(asked, section)
    more = await _tokens(rpc, {symbol: mint for symbol, mint in tokens.items() if symbol not in section.tokens})
    names = Names(contracts, operator, {**names.tokens, **more}, names.fee_memo)
    return await _node(asked.name, rpc, names, section.genesis_hash)


async def _open_bare(asked: Asked, rpc: SolanaRpc, genesis_hash: bytes) -> Node:
    """Without a configuration nobody's transactions are the operator's, unless it is named: what was paid is seen then,
    not why."""
    _check_addresses(asked, NOBODY)
    contracts = {VAULT: NOBODY, **asked.contracts}
    operator = contracts.pop(OPERATOR, NOBODY)
    kind = f"{reference_of(genesis_hash)}/token:"
    mints = {str(asset): parse_address(asset.removeprefix(kind)) for asset in asked.assets if asset.startswith(kind)}
    names = Names(contracts, operator, await _tokens(rpc, {**mints, **asked.tokens}))
    node = await _node(asked.name, rpc, names, genesis_hash)
    return node if operator != NOBODY else replace(node, unknown_deeds="whose transactions pay is not said")


async def _tokens(rpc: SolanaRpc, mints: Mapping[str, Address]) -> dict[str, Token]:
    """With the decimals that the mints have."""
    found: dict[str, Token] = {}
    for symbol, mint in mints.items():
        config = {"encoding": "base64", **FINALIZED}
        _, account = values.in_context(await rpc.call("getAccountInfo", [values.text(mint), config]))
        try:
            found[symbol] = Token(mint, read_mint(mint, read_account(account)).coin.decimals)
        except ChainDisagrees as error:
            raise ConfigError(str(error), where=f"--token {symbol}", mend="name the token's mint") from None
    return found


async def _node(name: str, rpc: SolanaRpc, names: Names, genesis_hash: bytes) -> Node:
    reader, history = read_solana(name, rpc, names, genesis_hash)
    await reader.check()
    reference = reference_of(genesis_hash)
    return Node(
        reader,
        history,
        NoFeeds(),
        names.contracts,
        {symbol: rules.Token(_asset(reference, token.mint), token.mint) for symbol, token in names.tokens.items()},
        {symbol: token.decimals for symbol, token in names.tokens.items()},
    )


def _asset(reference: str, mint: Address) -> AssetId:
    if mint == NATIVE:
        return AssetId(f"{reference}/slip44:501")
    return AssetId(f"{reference}/token:{format_address(mint)}")
