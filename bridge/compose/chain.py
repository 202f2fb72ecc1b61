"""A chain of any kind, opened. Only the libraries of kinds that are configured are loaded."""

# ruff: noqa: PLC0415

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bridge.domain.errors import ConfigError
from bridge.ports.reading import EventDecoder
from bridge.runtime.config import Config
from bridge.runtime.evm_section import EvmSection

if TYPE_CHECKING:
    from bridge.compose.opened import Opened


async def open_chain(config: Config, name: str, stack: AsyncExitStack, *, sending: bool) -> Opened:
    """Connect to the endpoints of chain `name` and check what they serve; `stack` closes them.

    With `sending` the operator's key is opened too. Raises ConfigError for what does not fit.
    """
    section = config.chains[name]
    if isinstance(section, EvmSection):
        from bridge.compose.evm import open_evm

        return await open_evm(config, name, section, stack, sending=sending)
    from bridge.compose.solana import open_solana

    return await open_solana(config, name, section, stack, sending=sending)


def compile_event(config: Config, chain: str, declaration: str) -> EventDecoder:
    """An event's declaration as the chain called `chain` understands it. Raises ConfigError where it does not."""
    if chain not in config.chains:
        raise ConfigError(f"chain `{chain}` is not there", where=f"{config.path}: chains", mend="name a file with it")
    if isinstance(config.chains[chain], EvmSection):
        from bridge.chains.evm import abi

        return abi.compile_event(declaration)
    from bridge.chains.solana import events

    return events.compile_event(declaration)
