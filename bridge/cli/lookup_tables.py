"""bridge lookup-tables list, extend, retire."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import DEFAULT_CONFIG, EXIT_NO, ConfigPath, app, run
from bridge.compose.database import open_database
from bridge.compose.tables import LookupTables, key_of, open_key, open_tables
from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, AssetId, format_address, format_amount, parse_address
from bridge.runtime.config import Config, from_environment, load_config

RECENT = 10
"""Distributions."""

tables = typer.Typer(
    name="lookup-tables",
    help="Lists of addresses on chain that let one transaction pay more recipients; they pay for those who come again.",
    no_args_is_help=True,
)
app.add_typer(tables)

Chain = Annotated[str, typer.Argument(metavar="CHAIN", help="A chain of the configuration.")]
Recent = Annotated[
    int, typer.Option("--distributions", metavar="N", min=1, help="Whose recipients count: those of the last N.")
]
Key = Annotated[Path, typer.Option(metavar="FILE", help="Of an account that does nothing else: it pays the deposits.")]
Password = Annotated[str, typer.Option(metavar="NAME", help="The variable that holds its password.")]


@tables.command("list")
def list_tables(
    chain: Chain,
    config: ConfigPath = DEFAULT_CONFIG,
    distributions: Recent = RECENT,
    keystore: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also what this account has made; it is not opened.")
    ] = None,
) -> None:
    """Tables, their deposits, and how many of the recent recipients they cover."""
    run(_list(load_config(config), chain, distributions, keystore))


async def _list(config: Config, chain: str, distributions: int, keystore: Path | None) -> int:
    async with AsyncExitStack() as stack:
        found = await _open(config, chain, stack)
        listed = await found.listed(None if keystore is None else key_of(keystore))
        for one in listed:
            deposit = format_amount(one.deposit, found.native.decimals)
            print(
                f"{format_address(one.address)}  {one.entries} entries, room for {one.room}, "
                f"deposit {deposit} {found.native.symbol}: {one.problem or 'in use'}"
            )
        if not listed:
            print("there is none; `bridge lookup-tables extend` makes the first")
        for covered in await found.covered(await _recipients(config, chain, distributions)):
            print(f"{found.symbol(covered.mint)}: {covered.covered} of {covered.recipients} recent recipients covered")
    return 0


@tables.command("extend")
def extend_tables(
    chain: Chain,
    keystore: Key,
    password_env: Password,
    config: ConfigPath = DEFAULT_CONFIG,
    distributions: Recent = RECENT,
) -> None:
    """Add the recent recipients that no table has, making new tables where needed. Again goes on where it was cut
    off."""
    run(_extend(load_config(config), chain, keystore, password_env, distributions))


async def _extend(config: Config, chain: str, keystore: Path, password_env: str, distributions: int) -> int:
    async with AsyncExitStack() as stack:
        found = await _open(config, chain, stack)
        signer = await open_key(config, chain, keystore, from_environment(password_env, "--password-env"))
        recipients = await _recipients(config, chain, distributions)
        made = await found.extend(signer, recipients, print)
    if made == found.configured:
        print("all recent recipients are in the configured tables")
        return 0
    lines = ",\n    ".join(f'"{format_address(table)}"' for table in made)
    print(f"\nput this into [chains.{chain}] of {config.path}, and restart the daemon:\n")
    print(f"lookup_tables = [\n    {lines},\n]")
    return 0


@tables.command("retire")
def retire_tables(
    chain: Chain,
    asked: Annotated[list[str], typer.Argument(metavar="TABLE…", help="Tables that are configured no more.")],
    keystore: Key,
    password_env: Password,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Give tables up, and get their deposits back: deactivates them, and closes those that were some minutes ago."""
    run(_retire(load_config(config), chain, asked, keystore, password_env))


async def _retire(config: Config, chain: str, asked: Sequence[str], keystore: Path, password_env: str) -> int:
    addresses = [_table(text) for text in asked]
    async with AsyncExitStack() as stack:
        found = await _open(config, chain, stack)
        signer = await open_key(config, chain, keystore, from_environment(password_env, "--password-env"))
        return 0 if await found.retire(signer, addresses, print) else EXIT_NO


async def _open(config: Config, chain: str, stack: AsyncExitStack) -> LookupTables:
    with config.naming_file():
        return await open_tables(config, chain, stack)


async def _recipients(config: Config, chain: str, distributions: int) -> dict[AssetId, list[Address]]:
    found: defaultdict[AssetId, list[Address]] = defaultdict(list)
    async with open_database(config, connections_max=1) as database, database.snapshot() as transaction:
        for asset, recipient in await transaction.payouts.recent_recipients(chain, distributions):
            found[asset].append(recipient)
    return dict(found)


def _table(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError:
        raise ConfigError(
            f"`{text}` is no address", where="TABLE", mend="copy it from `bridge lookup-tables list`"
        ) from None
