"""The key of one account: read from an encrypted keystore, held in memory only.

A keystore is a JSON file. The key is the 32 bytes that ed25519 calls a seed; the public key, which is the address, goes
into the encryption as associated data, so a file whose address was changed does not open:

    {"kind": "ed25519", "version": 1, "address": "<base58>",
     "kdf": {"name": "scrypt", "n": 262144, "r": 8, "p": 1, "salt": "<hex>"},
     "cipher": {"name": "aes-256-gcm", "nonce": "<hex>", "text": "<hex, the tag at its end>"}}

A private key in plain text is refused wherever it is found; no message, repr or pickle ever shows the key.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from Crypto.Cipher import AES
from solders.keypair import Keypair

from bridge.chains.keystores import read_keystore
from bridge.chains.solana.messages import signed_part, signers_of, tx_id_of, with_signature
from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, format_address, parse_address

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**18, 8, 1
SCRYPT_N_MAX, SCRYPT_RP_MAX = 2**20, 64
"""A file that asks for more would use up the memory of the machine."""

_PLAIN_KEY = re.compile(
    r"\s*([1-9A-HJ-NP-Za-km-z]{86,88}|(0x)?[0-9a-fA-F]{64}|(0x)?[0-9a-fA-F]{128}"
    r"|\[\s*\d{1,3}(\s*,\s*\d{1,3}){31,63}\s*\])\s*\Z"
)
_MAKE_ONE = "make a keystore from the key (bridge keystore import) and name that file"
_TAG_BYTES = 16


class KeystoreSigner:
    """Implements ports.Signer. ed25519 is deterministic: the same transaction gives the same bytes."""

    __slots__ = ("_key", "account")

    def __init__(self, key: Keypair) -> None:
        self._key = key
        self.account = Address(bytes(key.pubkey()))

    @classmethod
    def load(cls, path: Path, password: str, *, where: str = "operator") -> KeystoreSigner:
        """Decrypts `path`, which takes about a second. Raises ConfigError, which never repeats what the file holds."""
        keystore = _read(path, where)
        try:
            seed = open_keystore(keystore, password)
        except WrongPassword:
            raise ConfigError(
                f"the password does not open {path}",
                where=f"{where} password",
                mend="correct password_file or password_env",
            ) from None
        except (ValueError, TypeError, KeyError, MemoryError):
            raise _not_a_keystore(path, where) from None
        return cls(Keypair.from_seed(seed))

    @staticmethod
    def address_of(path: Path, *, where: str = "operator") -> Address:
        """The account that the keystore says it is for, without opening it. Raises ConfigError."""
        try:
            return parse_address(str(_read(path, where)["address"]))
        except (ValueError, KeyError):
            raise ConfigError(f"{path} does not name its address", where=f"{where} keystore", mend=_MAKE_ONE) from None

    async def sign(self, transaction: Mapping[str, object]) -> tuple[bytes, bytes]:
        """Fills this account's signature into {"raw": a transaction}. The id is right once the first signer signed.

        Raises ValueError where the transaction asks for no signature of this account.
        """
        raw = transaction["raw"]
        assert isinstance(raw, bytes)
        if self.account not in signers_of(raw):
            raise ValueError(f"the transaction asks for no signature of {format_address(self.account)}")
        signature = bytes(self._key.sign_message(signed_part(raw)))
        complete = with_signature(raw, self.account, signature)
        return tx_id_of(complete), complete

    def __repr__(self) -> str:
        return f"KeystoreSigner({format_address(self.account)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not to be pickled")


# ── The file ────────────────────────────────────────────────────────────────────────────────────────────────────────
class WrongPassword(ValueError):
    """The password does not open the keystore, or somebody changed its address, nonce or text."""


def make_keystore(seed: bytes, password: str, *, scrypt_n: int = SCRYPT_N) -> dict[str, Any]:
    """Encrypt a key of 32 bytes. Never the same twice: salt and nonce are drawn."""
    address = bytes(Keypair.from_seed(seed).pubkey())
    salt, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
    kdf = {"name": "scrypt", "n": scrypt_n, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()}
    cipher = AES.new(_derive(kdf, password), AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(address)
    text, tag = cipher.encrypt_and_digest(seed)
    return {
        "kind": "ed25519",
        "version": 1,
        "address": format_address(address),
        "kdf": kdf,
        "cipher": {"name": "aes-256-gcm", "nonce": nonce.hex(), "text": (text + tag).hex()},
    }


def open_keystore(keystore: Mapping[str, Any], password: str) -> bytes:
    """The key. Raises WrongPassword, and ValueError, TypeError or KeyError for what is no keystore."""
    kdf, sealed = keystore["kdf"], keystore["cipher"]
    if (kdf["name"], sealed["name"]) != ("scrypt", "aes-256-gcm"):
        raise ValueError("another kind of encryption")
    address = parse_address(keystore["address"])
    nonce, text = bytes.fromhex(sealed["nonce"]), bytes.fromhex(sealed["text"])
    if len(address) != 32 or len(nonce) != 12 or len(text) != 32 + _TAG_BYTES:
        raise ValueError("a part has the wrong length")
    cipher = AES.new(_derive(kdf, password), AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(address)
    try:
        seed = cipher.decrypt_and_verify(text[:-_TAG_BYTES], text[-_TAG_BYTES:])
    except ValueError:
        raise WrongPassword from None
    if bytes(Keypair.from_seed(seed).pubkey()) != address:
        raise ValueError("the key is another account's")
    return seed


def read_keypair(text: str) -> bytes:
    """The key in a file of the Solana command line (64 numbers: the key, then its public key). Raises ValueError."""
    numbers = json.loads(text)
    if not isinstance(numbers, list) or len(numbers) != 64 or not all(type(one) is int for one in numbers):
        raise ValueError("not 64 numbers")
    return bytes(Keypair.from_bytes(bytes(numbers)).secret())


def _derive(kdf: Mapping[str, Any], password: str) -> bytes:
    n, r, p = kdf["n"], kdf["r"], kdf["p"]
    if any(type(value) is not int for value in (n, r, p)) or not (1 < n <= SCRYPT_N_MAX and 0 < r * p <= SCRYPT_RP_MAX):
        raise ValueError("unusable parameters of scrypt")
    salt = bytes.fromhex(kdf["salt"])
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * r * (n + p + 2), dklen=32)


def _read(path: Path, where: str) -> dict[str, Any]:
    keystore = read_keystore(path, plain=_PLAIN_KEY, where=f"{where} keystore", mend=_MAKE_ONE)
    if keystore is None or (keystore.get("kind"), keystore.get("version")) != ("ed25519", 1):
        raise _not_a_keystore(path, where)
    return keystore


def _not_a_keystore(path: Path, where: str) -> ConfigError:
    return ConfigError(f"{path} is not a keystore for ed25519, version 1", where=f"{where} keystore", mend=_MAKE_ONE)
