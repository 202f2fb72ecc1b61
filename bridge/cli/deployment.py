"""bridge deploy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from bridge.chains.evm.rpc import EvmRpc
from bridge.chains.evm.signer import KeystoreSigner
from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, app, run
from bridge.deploy import deploy, journal_path
from bridge.domain.errors import ConfigError
from bridge.runtime.config import Config, from_environment, load_config


@app.command("deploy")
def deploy_contracts(
    keystore: Annotated[Path, typer.Option(help="Of a fresh account, which pays and keeps no right.", metavar="FILE")],
    password_env: Annotated[str, typer.Option(help="The variable that holds its password.", metavar="NAME")],
    config: ConfigPath = DEFAULT_CONFIG,
    chain: Annotated[str | None, typer.Option(help="Which chain, where there are several.", metavar="NAME")] = None,
) -> None:
    """Deploy the contracts, and hand every role over; again goes on where it was cut off."""
    run(_deploy(config, keystore, password_env, chain))


async def _deploy(path: Path, keystore: Path, password_env: str, chain: str | None) -> int:
    config = load_config(path, deployed=False)
    name = _chain(config, chain)
    section = config.evm(name)
    signer = await asyncio.to_thread(
        KeystoreSigner.load, keystore, from_environment(password_env, "--password-env"), where="--keystore"
    )
    operator = KeystoreSigner.address_of(
        config.relative(section.operator.keystore), where=f"{config.path}: [chains.{name}.operator]"
    )
    rpc = EvmRpc(section.rpc)
    try:
        print(f"journal: {journal_path(config, name)}")
        lines = await deploy(config, name, rpc, signer, operator=operator, tell=print)
    finally:
        await rpc.close()
    print(f"\ndone; put this into {config.path}:\n\n{lines}")
    return 0


def _chain(config: Config, chain: str | None) -> str:
    if chain is None and len(config.chains) == 1:
        return next(iter(config.chains))
    if chain not in config.chains:
        known = ", ".join(config.chains)
        raise ConfigError(
            f"`{chain}` is none of the chains: {known}" if chain else f"name one of: {known}", where="--chain"
        )
    return chain
