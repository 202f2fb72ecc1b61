"""bridge keystore import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.app import app
from bridge.compose.keystores import encrypt_keypair
from bridge.domain.errors import ConfigError
from bridge.domain.units import format_address
from bridge.runtime.config import from_environment

keystore = typer.Typer(name="keystore", help="Encrypted files with a key.", no_args_is_help=True)
app.add_typer(keystore)


@keystore.callback()
def commands() -> None:
    """One command would otherwise be taken for the whole group."""


@keystore.command("import")
def import_key(
    keypair: Annotated[Path, typer.Argument(metavar="FILE", help="The key in plain text: 64 numbers in JSON.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The keystore to write; nothing is overwritten.")],
    password_env: Annotated[str, typer.Option(metavar="NAME", help="The variable that holds its password.")],
) -> None:
    """Encrypt a key that another program wrote down in plain text; delete that file afterwards."""
    if out.exists():
        raise ConfigError("is there already", where=f"--out {out}", mend="name another file")
    password = from_environment(password_env, "--password-env")
    try:
        text = keypair.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot be read: {problem}", where=str(keypair)) from None
    account, content = encrypt_keypair(text, password, where=str(keypair))
    try:
        # Never readable by others, and never over a key that is there.
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=f"--out {out}", mend="name another") from None
    print(f"{out}: account {format_address(account)}")
