"""Accounts of the two token programs, as they lie in memory.

mint      0 authority? (4 + 32)   36 supply (8)   44 decimals   45 initialized   46 freeze authority? (4 + 32)   82
account   0 mint   32 owner   64 amount (8)   72 delegate? (4 + 32)   108 state   109 native? (4 + 8)
          121 delegated amount (8)   129 close authority? (4 + 32)   165
Token-2022 adds 165 kind (1 mint, 2 account), then extensions: type (2), length (2), data
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
PROGRAM_NAMES = {TOKEN_PROGRAM: "spl-token", TOKEN_2022_PROGRAM: "spl-token-2022"}

MINT_SIZE = 82
ACCOUNT_SIZE = 165
MULTISIG_SIZE = 355
KIND_MINT, KIND_ACCOUNT = 1, 2
STATES = ("uninitialized", "initialized", "frozen")
TRANSFER_FEE_CONFIG, TRANSFER_FEE_AMOUNT, IMMUTABLE_OWNER = 1, 2, 7


@dataclass(frozen=True, slots=True)
class Mint:
    """A token. Amounts are atoms of it."""

    program: Pubkey
    authority: Pubkey | None
    supply: int
    decimals: int
    initialized: bool
    freeze_authority: Pubkey | None
    extensions: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """A token account. Amounts are atoms of `mint`."""

    program: Pubkey
    mint: Pubkey
    owner: Pubkey
    amount: int
    delegate: Pubkey | None
    delegated: int
    state: str
    native_reserve: int | None  # lamports of rent beneath wrapped SOL; None: not wrapped SOL
    close_authority: Pubkey | None
    extensions: tuple[tuple[int, bytes], ...]


def read_mint(account: Account | None) -> Mint | None:
    """None: it is no mint."""
    if account is None or not _is_kind(account, MINT_SIZE, KIND_MINT):
        return None
    data = bytes(account.data)
    return Mint(
        program=account.owner,
        authority=_option(data, 0),
        supply=int.from_bytes(data[36:44], "little"),
        decimals=data[44],
        initialized=data[45] == 1,
        freeze_authority=_option(data, 46),
        extensions=tuple(_extensions(data)),
    )


def read_holding(account: Account | None) -> Holding | None:
    """None: it is no token account."""
    if account is None or not _is_kind(account, ACCOUNT_SIZE, KIND_ACCOUNT) or account.data[108] == 0:
        return None
    data = bytes(account.data)
    native = int.from_bytes(data[109:113], "little") == 1
    return Holding(
        program=account.owner,
        mint=Pubkey.from_bytes(data[:32]),
        owner=Pubkey.from_bytes(data[32:64]),
        amount=int.from_bytes(data[64:72], "little"),
        delegate=_option(data, 72),
        delegated=int.from_bytes(data[121:129], "little"),
        state=STATES[data[108]],
        native_reserve=int.from_bytes(data[113:121], "little") if native else None,
        close_authority=_option(data, 129),
        extensions=tuple(_extensions(data)),
    )


def ui_amount(atoms: int, decimals: int) -> dict[str, Any]:
    """An amount as the RPC says it. `amount` and `uiAmountString` are exact; `uiAmount` is documented as a float."""
    whole, fraction = divmod(atoms, 10**decimals)
    text = str(whole)
    digits = str(fraction).rjust(decimals, "0").rstrip("0") if fraction else ""
    exact = f"{text}.{digits}" if digits else text
    return {"amount": str(atoms), "decimals": decimals, "uiAmount": float(exact), "uiAmountString": exact}


def parsed(account: Account, read: Callable[[Pubkey], Account | None]) -> dict[str, Any] | None:
    """What `jsonParsed` says of a mint or a token account; None: it is neither."""
    mint = read_mint(account)
    if mint is not None:
        return {"type": "mint", "info": _mint_info(mint)}
    holding = read_holding(account)
    if holding is None:
        return None
    of = read_mint(read(holding.mint))
    return None if of is None else {"type": "account", "info": _holding_info(holding, of.decimals)}


def _mint_info(mint: Mint) -> dict[str, Any]:
    info: dict[str, Any] = {
        "decimals": mint.decimals,
        "freezeAuthority": _text(mint.freeze_authority),
        "isInitialized": mint.initialized,
        "mintAuthority": _text(mint.authority),
        "supply": str(mint.supply),
    }
    if mint.program == TOKEN_2022_PROGRAM:
        info["extensions"] = [_extension(kind, data) for kind, data in mint.extensions]
    return info


def _holding_info(holding: Holding, decimals: int) -> dict[str, Any]:
    info: dict[str, Any] = {
        "isNative": holding.native_reserve is not None,
        "mint": str(holding.mint),
        "owner": str(holding.owner),
        "state": holding.state,
        "tokenAmount": ui_amount(holding.amount, decimals),
    }
    if holding.delegate is not None:
        info["delegate"] = str(holding.delegate)
        info["delegatedAmount"] = ui_amount(holding.delegated, decimals)
    if holding.native_reserve is not None:
        info["rentExemptReserve"] = ui_amount(holding.native_reserve, decimals)
    if holding.close_authority is not None:
        info["closeAuthority"] = str(holding.close_authority)
    if holding.program == TOKEN_2022_PROGRAM:
        info["extensions"] = [_extension(kind, data) for kind, data in holding.extensions]
    return info


def _extension(kind: int, data: bytes) -> dict[str, Any]:
    if kind == TRANSFER_FEE_CONFIG:
        return {
            "extension": "transferFeeConfig",
            "state": {
                "transferFeeConfigAuthority": _nonzero(data[:32]),
                "withdrawWithheldAuthority": _nonzero(data[32:64]),
                "withheldAmount": int.from_bytes(data[64:72], "little"),
                "olderTransferFee": _transfer_fee(data[72:90]),
                "newerTransferFee": _transfer_fee(data[90:108]),
            },
        }
    if kind == TRANSFER_FEE_AMOUNT:
        return {"extension": "transferFeeAmount", "state": {"withheldAmount": int.from_bytes(data[:8], "little")}}
    if kind == IMMUTABLE_OWNER:
        return {"extension": "immutableOwner"}
    return {"extension": "unparseableExtension"}


def _transfer_fee(data: bytes) -> dict[str, int]:
    return {
        "epoch": int.from_bytes(data[:8], "little"),
        "maximumFee": int.from_bytes(data[8:16], "little"),
        "transferFeeBasisPoints": int.from_bytes(data[16:18], "little"),
    }


def _is_kind(account: Account, size: int, kind: int) -> bool:
    if account.owner not in PROGRAM_NAMES:
        return False
    length = len(account.data)
    if length == size:
        return True
    extended = account.owner == TOKEN_2022_PROGRAM and length > ACCOUNT_SIZE and length != MULTISIG_SIZE
    return extended and account.data[ACCOUNT_SIZE] == kind


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = ACCOUNT_SIZE + 1
    while position + 4 <= len(data):
        kind = int.from_bytes(data[position : position + 2], "little")
        length = int.from_bytes(data[position + 2 : position + 4], "little")
        if kind == 0:
            return
        yield kind, data[position + 4 : position + 4 + length]
        position += 4 + length


def _option(data: bytes, start: int) -> Pubkey | None:
    present = int.from_bytes(data[start : start + 4], "little") == 1
    return Pubkey.from_bytes(data[start + 4 : start + 36]) if present else None


def _text(key: Pubkey | None) -> str | None:
    return None if key is None else str(key)


def _nonzero(data: bytes) -> str | None:
    return str(Pubkey.from_bytes(data)) if any(data) else None
