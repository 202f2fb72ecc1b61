"""The operator's key: read from a keystore (Web3 Secret Storage, version 3), held in memory only.

A private key in plain text is refused wherever it is found; no message, repr or pickle ever shows the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bridge.chains.keystores import read_keystore
from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, format_address

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

_PLAIN_KEY = re.compile(r"\s*(0x)?[0-9a-fA-F]{64}\s*\Z")
_ADDRESS = re.compile(r"[0-9a-fA-F]{40}\Z")
_NAME_IT = 'add its "address" to the file, as most wallets write it'
_MAKE_ONE = "make a keystore from the key (geth account import, cast wallet import) and name that file"


class KeystoreSigner:
    """Implements ports.Signer. Signatures are deterministic (RFC 6979): the same transaction gives the same bytes."""

    __slots__ = ("_key", "account")

    def __init__(self, key: LocalAccount) -> None:
        self._key = key
        self.account = Address(bytes.fromhex(key.address[2:]))

    @classmethod
    def load(cls, path: Path, password: str, *, where: str = "operator") -> KeystoreSigner:
        """Decrypts `path`, which takes about a second. Raises ConfigError, which never repeats what the file holds."""
        from eth_account import Account  # noqa: PLC0415  # takes 0.7 s, and most commands open no keystore

        keystore = _read(path, where)
        try:
            secret = Account.decrypt(keystore, password)
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            # eth_keyfile says "MAC mismatch" for a wrong password and names the field of anything else that is wrong.
            wrong = "MAC" in str(error)
            raise ConfigError(
                f"the password does not open {path}" if wrong else f"{path} is not a version 3 keystore",
                where=f"{where} {'password' if wrong else 'keystore'}",
                mend="correct password_file or password_env" if wrong else _MAKE_ONE,
            ) from None
        return cls(Account.from_key(secret))

    @staticmethod
    def address_of(path: Path, *, where: str = "operator") -> Address:
        """The account that the keystore says it is for, without opening it. Raises ConfigError."""
        address = str(_read(path, where).get("address", "")).removeprefix("0x")
        if not _ADDRESS.match(address):
            raise ConfigError(f"{path} does not name its address", where=f"{where} keystore", mend=_NAME_IT)
        return Address(bytes.fromhex(address))

    async def sign(self, transaction: Mapping[str, object]) -> tuple[bytes, bytes]:
        signed = self._key.sign_transaction(dict(transaction))  # type: ignore[arg-type]  # its own union of literals
        return bytes(signed.hash), bytes(signed.raw_transaction)

    def __repr__(self) -> str:
        return f"KeystoreSigner({format_address(self.account)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not to be pickled")


def _read(path: Path, where: str) -> dict[str, object]:
    where = f"{where} keystore"
    keystore = read_keystore(path, plain=_PLAIN_KEY, where=where, mend=_MAKE_ONE)
    # Some wallets write "Crypto"; eth_keyfile reads both.
    if keystore is None or not {"crypto", "Crypto"} & keystore.keys():
        raise ConfigError(f"{path} is not a version 3 keystore", where=where, mend=_MAKE_ONE)
    return keystore
