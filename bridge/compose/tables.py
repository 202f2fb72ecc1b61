"""Tables of addresses that a chain looks up in transactions, for the commands that keep them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.keeper import Covered, Keeper, Listed, Tell
from bridge.chains.solana.payloads import mint_of
from bridge.chains.solana.reader import SolanaReader
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.signer import KeystoreSigner
from bridge.chains.solana.tokens import VAULT
from bridge.compose.solana import names_of
from bridge.domain.errors import ConfigError, HoldError
from bridge.domain.units import Address, AssetId, format_address
from bridge.ports.paying import Signer
from bridge.runtime.config import Config
from bridge.runtime.solana_section import SolanaSection

Recipients = Mapping[AssetId, Sequence[Address]]


class LookupTables:
    """Those of one chain."""

    def __init__(self, section: SolanaSection, keeper: Keeper) -> None:
        self.native = section.native
        self.configured = tuple(section.lookup_tables)
        self._section = section
        self._keeper = keeper

    async def listed(self, authority: Address | None) -> list[Listed]:
        return await self._keeper.tables(authority)

    async def covered(self, recipients: Recipients) -> list[Covered]:
        return await self._keeper.covered(self._by_mint(recipients))

    async def extend(self, signer: Signer, recipients: Recipients, tell: Tell) -> tuple[Address, ...]:
        return await self._keeper.extend(signer, self._by_mint(recipients), tell)

    async def retire(self, signer: Signer, tables: Sequence[Address], tell: Tell) -> bool:
        return await self._keeper.retire(signer, tables, tell)

    def symbol(self, mint: Address) -> str:
        known = {token.address: symbol for symbol, token in self._section.tokens.items()}
        return known.get(mint, format_address(mint))

    def _by_mint(self, recipients: Recipients) -> dict[Address, Sequence[Address]]:
        """Without what was paid before the configuration changed."""
        found: dict[Address, Sequence[Address]] = {}
        for asset, people in recipients.items():
            try:
                mint = mint_of(asset, self._section.reference)
            except HoldError:
                continue
            if any(token.address == mint for token in self._section.tokens.values()):
                found[mint] = people
        return found


async def open_tables(config: Config, name: str, stack: AsyncExitStack) -> LookupTables:
    """Raises ConfigError for a chain that has no such tables, and for endpoints that are not the configured chain's."""
    section = _section(config, name)
    rpc = SolanaRpc(section.rpc)
    stack.push_async_callback(rpc.close)
    operator = _operator(config, name, section)
    await SolanaReader(name, rpc, names_of(section, operator), genesis_hash=section.genesis_hash).check()
    keeper = Keeper(
        rpc,
        section.lookup_tables,
        section.contracts[VAULT],
        [token.address for token in section.tokens.values()],
        FeeCeilings(section.spending.max_priority_fee),
        poll_interval_ms=section.poll_interval_ms,
    )
    return LookupTables(section, keeper)


async def open_key(config: Config, name: str, keystore: Path, password: str) -> KeystoreSigner:
    """Raises ConfigError for a key whose coins are accounted for."""
    _refuse(config, name, KeystoreSigner.address_of(keystore, where="--keystore"))
    return await asyncio.to_thread(KeystoreSigner.load, keystore, password, where="--keystore")


def key_of(keystore: Path) -> Address:
    """Whose it is, without opening it. Raises ConfigError."""
    return KeystoreSigner.address_of(keystore, where="--keystore")


def _refuse(config: Config, name: str, account: Address) -> None:
    section = _section(config, name)
    ours = {address: f"contracts.{key}" for key, address in section.contracts.items()}
    ours |= dict.fromkeys(section.former_operators, "a former operator")
    ours[_operator(config, name, section)] = "the operator"
    if account in ours:
        raise ConfigError(
            f"{format_address(account)} is {ours[account]}, whose coins the books account for",
            where="--keystore",
            mend="name the key of another account, which does nothing else",
        )


def _operator(config: Config, name: str, section: SolanaSection) -> Address:
    where = f"{config.path}: [chains.{name}.operator]"
    return KeystoreSigner.address_of(config.relative(section.operator.keystore), where=where)


def _section(config: Config, name: str) -> SolanaSection:
    section = config.chains.get(name)
    if section is None:
        known = ", ".join(config.chains)
        raise ConfigError(f"`{name}` is none of the chains", where="CHAIN", mend=f"name one of: {known}")
    if not isinstance(section, SolanaSection):
        raise ConfigError(
            f"chain {name} is of kind {section.kind}, whose transactions look nothing up",
            where="CHAIN",
            mend="name a chain of kind solana",
        )
    return section
