"""A chain of kind solana: a vault that pays by itself, behind the JSON-RPC endpoints of a cluster."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from bridge.chains.solana.executions import Markers
from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.history import SolanaHistory
from bridge.chains.solana.payer import SolanaPayer
from bridge.chains.solana.reader import SolanaReader
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.signer import KeystoreSigner
from bridge.chains.solana.tables import check_tables
from bridge.chains.solana.tokens import VAULT, Names, Token
from bridge.chains.solana.vault import check_vault
from bridge.compose.opened import Opened
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block
from bridge.domain.ledger import Asset, Watched
from bridge.domain.prices import FeedAnswer
from bridge.domain.units import Address, format_address
from bridge.runtime.config import Config
from bridge.runtime.fields import KeySection
from bridge.runtime.logs import get_logger
from bridge.runtime.solana_section import NATIVE, SolanaSection

_log = get_logger("compose")

POLL_INTERVAL_MS = 1000


class NoFeeds:
    """Implements ports.PriceFeeds: no contract answers as a feed, so a rule that asks one is held, and says so."""

    async def rounds(self, feed: Address, at: Block, since: int | None) -> FeedAnswer:
        return FeedAnswer(feed, None, ())


async def open_solana(
    config: Config, name: str, section: SolanaSection, stack: AsyncExitStack, *, sending: bool
) -> Opened:
    """Raises ConfigError for what does not fit. With `sending` the keys are opened, and what the operator may do is
    held against the vault's accounts."""
    rpc = SolanaRpc(section.rpc)
    stack.push_async_callback(rpc.close)
    operator = KeystoreSigner.address_of(
        config.relative(section.operator.keystore), where=f"{config.path}: [chains.{name}.operator]"
    )
    names = names_of(section, operator)
    reader, history = read_solana(name, rpc, names, section.genesis_hash, section)
    await reader.check()
    _check_native(config, name, section, operator)
    payer = None
    if sending:
        for symbol in await check_vault(rpc, names, name):
            _log.warning("the operator may move nothing", action="chain.powerless", chain=name, token=symbol)
        await check_tables(rpc, section.lookup_tables, f"{config.path}: [chains.{name}] lookup_tables")
        payer = await _payer(config, name, section, rpc)
    return Opened(
        reader=reader,
        history=history,
        watched=_watched(name, section, operator),
        payer=payer,
        feeds=NoFeeds(),
        files=None,
        executions=Markers(rpc, (operator, *section.former_operators)),
    )


def read_solana(
    name: str, rpc: SolanaRpc, names: Names, genesis_hash: bytes, section: SolanaSection | None = None
) -> tuple[SolanaReader, SolanaHistory]:
    """What reads the cluster behind `rpc`: its newest blocks, at the pace that `section` gives, and old ones."""
    reader = SolanaReader(
        name,
        rpc,
        names,
        genesis_hash=genesis_hash,
        poll_interval_ms=POLL_INTERVAL_MS if section is None else section.poll_interval_ms,
        wake_url=None if section is None else section.websocket,
    )
    return reader, SolanaHistory(name, rpc, names)


def names_of(section: SolanaSection, operator: Address) -> Names:
    return Names(
        contracts=section.contracts,
        operator=operator,
        tokens={symbol: Token(token.address, token.decimals) for symbol, token in section.tokens.items()},
        fee_memo=section.fee_memo,
        former_operators=tuple(section.former_operators),
    )


def _check_native(config: Config, name: str, section: SolanaSection, operator: Address) -> None:
    """What is paid out must be told from fees and deposits, which the operator pays."""
    if any(token.address == NATIVE for token in section.tokens.values()) and section.contracts[VAULT] == operator:
        raise ConfigError(
            "the vault is the operator's own account, whose native coin pays fees: it cannot be paid out too",
            where=f"{config.path}: [chains.{name}] contracts.vault",
            mend="give the vault an account and a vault_key of its own, or take the native coin out of tokens",
        )


async def _payer(config: Config, name: str, section: SolanaSection, rpc: SolanaRpc) -> SolanaPayer:
    vault = section.contracts[VAULT]
    signer = await _open(config, section.operator, f"{config.path}: [chains.{name}.operator]")
    where = f"{config.path}: [chains.{name}.vault_key]"
    vault_signer = None if section.vault_key is None else await _open(config, section.vault_key, where)
    if vault_signer is not None and vault_signer.account != vault:
        raise ConfigError(
            f"is the key of {format_address(vault_signer.account)}, the vault is {format_address(vault)}",
            where=where,
            mend="name the vault's own keystore, or correct contracts.vault",
        )
    ceiling = section.spending.max_priority_fee
    return SolanaPayer(
        chain=name,
        reference=section.reference,
        genesis=section.genesis_hash,
        rpc=rpc,
        signer=signer,
        vault=vault,
        ceilings=FeeCeilings(ceiling),
        create_accounts=section.spending.create_accounts,
        vault_signer=vault_signer,
        former_operators=section.former_operators,
        ours=list(section.contracts.values()),
        lookup_tables=section.lookup_tables,
    )


async def _open(config: Config, key: KeySection, where: str) -> KeystoreSigner:
    # Opening a keystore is made slow on purpose.
    password = config.password(key, where)
    return await asyncio.to_thread(KeystoreSigner.load, config.relative(key.keystore), password, where=where)


def _watched(name: str, section: SolanaSection, operator: Address) -> Watched:
    vault = section.contracts[VAULT]
    return Watched(
        chain=name,
        vault=vault,
        distributor=vault,  # nothing stands between the vault and who is paid
        operator=operator,
        tokens=tuple(
            Asset(section.asset(token.address), name, token.address, symbol, token.decimals)
            for symbol, token in section.tokens.items()
        ),
        native=Asset(section.native_asset, name, None, section.native.symbol, section.native.decimals),
    )
