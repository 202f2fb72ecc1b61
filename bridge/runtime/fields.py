"""What sections of `bridge.toml` are made of: amounts, names, addresses, and parts that chains of each kind share."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bridge.domain.units import UINT256_MAX, Address, is_address, parse_address

_HEX_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_CODE_HASH = re.compile(r"keccak256:[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}\Z")


def _address(value: object) -> Address:
    if isinstance(value, bytes):
        return Address(value)
    if not isinstance(value, str) or not _HEX_ADDRESS.match(value):
        raise ValueError("an address is 0x and 40 hex digits")
    return Address(bytes.fromhex(value[2:]))


def _key(value: object) -> Address:
    if isinstance(value, bytes):
        return Address(value)
    address = parse_address(value) if isinstance(value, str) and is_address(value) else b""
    if len(address) != 32:
        raise ValueError("an address is base58 of 32 bytes")
    return Address(address)


def _amount(value: object) -> int:
    """TOML integers end at 2^63, so larger amounts are written as strings of digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_]*", value):
        value = int(value.replace("_", ""))
    if type(value) is not int or not 0 <= value <= UINT256_MAX:
        raise ValueError("an amount is a whole number of atoms, 0 … 2^256−1 (quote it when it is above 2^63)")
    return value


def _name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("a name starts with a letter and has letters, digits, '_', '-' and '.'")
    return value


def _code_hash(value: object) -> bytes:
    """Named by its kind, for 64 bare hex digits could be a private key, which is refused."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not _CODE_HASH.match(value):
        raise ValueError("the hash of a contract's code is keccak256: and 64 hex digits, as `bridge deploy` prints it")
    return bytes.fromhex(value.removeprefix("keccak256:"))


HexAddress = Annotated[Address, BeforeValidator(_address)]
Base58Address = Annotated[Address, BeforeValidator(_key)]
Amount = Annotated[int, BeforeValidator(_amount)]
CodeHash = Annotated[bytes, BeforeValidator(_code_hash)]
Name = Annotated[str, AfterValidator(_name)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NativeSection(Section):
    symbol: str
    decimals: Annotated[int, Field(ge=0, le=77)]


class KeySection(Section):
    """An encrypted file with a key, and where its password is."""

    keystore: str
    password_file: str | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.password_file is None) == (self.password_env is None):
            raise ValueError("give either password_file or password_env")
        return self


class OperatorSection(KeySection):
    low_balance: Amount | None = None  # atoms of the native coin; see low_balance of the chain's section


class CeilingsSection(Section):
    """Ceilings of the sender: none of them can be passed, whatever a rule decides."""

    included_within_blocks: Annotated[int, Field(ge=1)] = 50  # what takes longer is a condition in `bridge status`
    max_per_transaction: dict[Name, Amount] = {}
    max_per_day: dict[Name, Amount] = {}
    max_per_recipient: dict[Name, Amount] = {}

    def unknown_tokens(self, known: Container[str]) -> Iterator[str]:
        """The mistakes: tokens that the chain does not have."""
        for ceiling in ("max_per_transaction", "max_per_day", "max_per_recipient"):
            for token in getattr(self, ceiling):
                if token not in known:
                    yield f"spending.{ceiling} names `{token}`, which is not in tokens"


def check_urls(urls: Iterable[str]) -> None:
    """Raises ValueError for one that is no HTTP URL."""
    for url in urls:
        if not re.match(r"https?://", url):
            raise ValueError(f"rpc `{url}` is not an http:// or https:// URL")
