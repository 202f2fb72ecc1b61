"""A key that another program wrote down in plain text, as a keystore of ours."""

from __future__ import annotations

import json

from bridge.chains.solana.signer import make_keystore, read_keypair
from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, parse_address


def encrypt_keypair(text: str, password: str, *, where: str) -> tuple[Address, str]:
    """(the account, the keystore's text), of the file that the command line of Solana keeps a key in. Takes about a
    second. Raises ConfigError, which never repeats what was read."""
    try:
        seed = read_keypair(text)
    except (ValueError, TypeError):
        raise ConfigError(
            "holds no key that is understood", where=where, mend="name a file as solana-keygen writes it: 64 numbers"
        ) from None
    keystore = make_keystore(seed, password)
    return parse_address(keystore["address"]), json.dumps(keystore, indent=2) + "\n"
