"""A chain of kind evm: contracts of ours behind JSON-RPC endpoints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bridge.chains.evm.aggregator import Aggregators
from bridge.chains.evm.claim_folder import ClaimFolder
from bridge.chains.evm.claimed import ClaimedAmounts
from bridge.chains.evm.fees import FeeCeilings
from bridge.chains.evm.follow import Finality
from bridge.chains.evm.history import EvmHistory
from bridge.chains.evm.payer import EvmPayer
from bridge.chains.evm.reader import EvmReader
from bridge.chains.evm.rpc import EvmRpc
from bridge.chains.evm.signer import KeystoreSigner
from bridge.compose.opened import Opened
from bridge.deploy import check_governance
from bridge.domain.errors import ConfigError
from bridge.domain.ledger import Asset, Watched
from bridge.domain.units import Address, format_address
from bridge.runtime.config import Config
from bridge.runtime.evm_section import EvmSection

POLL_INTERVAL_MS = 1000


async def open_evm(config: Config, name: str, section: EvmSection, stack: AsyncExitStack, *, sending: bool) -> Opened:
    """Raises ConfigError for what does not fit. With `sending` the operator's key is opened, and the roles and limits
    of the contracts are held against the configuration."""
    rpc = EvmRpc(section.rpc)
    stack.push_async_callback(rpc.close)
    reader, history = read_evm(
        name,
        rpc,
        chain_id=section.chain_id,
        finality=finality_of(section),
        poll_interval_ms=section.poll_interval_ms,
    )
    await reader.check()
    await _check_contracts(config, name, section, rpc)
    where = f"{config.path}: [chains.{name}.operator]"
    signer = await _open_signer(config, section, where) if sending else None
    operator = (
        KeystoreSigner.address_of(config.relative(section.operator.keystore), where=where)
        if signer is None
        else signer.account
    )
    if sending:
        await check_governance(config, name, rpc, operator)
    return Opened(
        reader=reader,
        history=history,
        watched=_watched(name, section, operator),
        payer=None if signer is None else _payer(name, section, rpc, signer),
        feeds=Aggregators(reader),
        files=_files(config, name, section),
        claimed=None if section.claims_contract is None else ClaimedAmounts(rpc, section.claims_contract),
    )


@contextlib.asynccontextmanager
async def open_account(config: Config, name: str, signer: KeystoreSigner) -> AsyncIterator[tuple[EvmReader, EvmPayer]]:
    """A chain as another account than the operator's uses it, under the same ceilings on fees."""
    section = config.evm(name)
    rpc = EvmRpc(section.rpc)
    try:
        reader, _ = read_evm(name, rpc, chain_id=section.chain_id, finality=finality_of(section))
        await reader.check()
        yield reader, _payer(name, section, rpc, signer)
    finally:
        await rpc.close()


def read_evm(
    name: str, rpc: EvmRpc, *, chain_id: int, finality: Finality, poll_interval_ms: int = POLL_INTERVAL_MS
) -> tuple[EvmReader, EvmHistory]:
    """What reads the chain behind `rpc`: its newest blocks, and old ones."""
    reader = EvmReader(name, rpc, chain_id=chain_id, finality=finality, poll_interval_ms=poll_interval_ms)
    return reader, EvmHistory(rpc, finality=finality)


def finality_of(section: EvmSection | None, depth: int | None = None) -> Finality:
    """`depth` blocks where a person says so, else what the section says, else the tag that most nodes know."""
    if depth is not None:
        return Finality(depth=depth)
    if section is not None:
        return Finality(tag=section.finality.tag, depth=section.finality.depth)
    return Finality(tag="finalized")


def _files(config: Config, name: str, section: EvmSection) -> ClaimFolder | None:
    if section.claims is None:
        return None
    folder = config.relative(section.claims.folder) / name
    return ClaimFolder(folder, chain_id=section.chain_id, contract=section.contracts["claims"])


async def _check_contracts(config: Config, name: str, section: EvmSection, rpc: EvmRpc) -> None:
    """An address without code answers every call with nothing, and every payment to it would vanish."""
    named = {f"contracts.{key}": address for key, address in section.contracts.items()}
    named |= {f"tokens.{key}": token.address for key, token in section.tokens.items()}
    for field, address in named.items():
        if await rpc.agreed("eth_getCode", [format_address(address), "latest"], lambda code: code in ("0x", None)):
            raise ConfigError(
                f"there is no contract at {format_address(address)} on {section.reference}",
                where=f"{config.path}: [chains.{name}] {field}",
                mend="correct the address, or the rpc if it serves another chain",
            )


async def _open_signer(config: Config, section: EvmSection, where: str) -> KeystoreSigner:
    keystore = config.relative(section.operator.keystore)
    # Opening a keystore is made slow on purpose.
    return await asyncio.to_thread(KeystoreSigner.load, keystore, config.password(section.operator, where), where=where)


def _payer(name: str, section: EvmSection, rpc: EvmRpc, signer: KeystoreSigner) -> EvmPayer:
    return EvmPayer(
        chain=name,
        chain_id=section.chain_id,
        rpc=rpc,
        signer=signer,
        vault=section.contracts["vault"],
        distributor=section.contracts["distributor"],
        claims=section.claims_contract,
        claims_uri=None if section.claims is None else section.claims.uri,
        ceilings=FeeCeilings(section.spending.max_fee_per_gas, section.spending.priority_fee_per_gas),
        bump_after_blocks=section.spending.bump_after_blocks,
    )


def _watched(name: str, section: EvmSection, operator: Address) -> Watched:
    return Watched(
        chain=name,
        vault=section.contracts["vault"],
        distributor=section.contracts["distributor"],
        operator=operator,
        tokens=tuple(
            Asset(section.asset(token.address), name, token.address, symbol, token.decimals)
            for symbol, token in section.tokens.items()
        ),
        native=Asset(section.native_asset, name, None, section.native.symbol, section.native.decimals),
        claims=section.claims_contract,
    )
