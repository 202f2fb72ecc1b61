"""A chain of any kind, opened."""

from __future__ import annotations

from contextlib import AsyncExitStack

from bridge.compose.evm import open_evm
from bridge.compose.opened import Opened
from bridge.domain.errors import ConfigError
from bridge.runtime.config import Config
from bridge.runtime.evm_section import EvmSection


async def open_chain(config: Config, name: str, stack: AsyncExitStack, *, sending: bool) -> Opened:
    """Connect to the endpoints of chain `name` and check what they serve; `stack` closes them.

    With `sending` the operator's key is opened too. Raises ConfigError for what does not fit.
    """
    section = config.chains[name]
    if isinstance(section, EvmSection):
        return await open_evm(config, name, section, stack, sending=sending)
    raise ConfigError(
        f"chains of kind {section.kind} cannot be followed yet",
        where=f"{config.path}: [chains.{name}] kind",
        mend="take the section out",
    )
