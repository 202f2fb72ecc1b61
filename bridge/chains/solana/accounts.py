"""Accounts as nodes give them, and what token programs write into theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from solders.pubkey import Pubkey

from bridge.chains.solana import rpc as values
from bridge.chains.solana.messages import Coin
from bridge.chains.solana.programs import NATIVE, SYSTEM, TOKEN_PROGRAMS
from bridge.chains.solana.rpc import SolanaRpc
from bridge.domain.errors import ChainDisagrees
from bridge.domain.units import Address

ACCOUNTS_MAX = 100
"""Accounts that one call may ask for (getMultipleAccounts)."""

TOKEN_ACCOUNT_BYTES, MINT_BYTES = 165, 82
"""Of the first token program. Token-2022 appends a byte that says which of the two it is, and extensions."""


@dataclass(frozen=True, slots=True)
class Account:
    lamports: int
    owner: Pubkey  # the program that may change it
    executable: bool
    data: bytes


def read_account(value: Any) -> Account | None:
    """Raises ChainDisagrees for what is no account."""
    if value is None:
        return None
    fields = values.mapping(value)
    executable = fields.get("executable")
    if not isinstance(executable, bool):
        raise ChainDisagrees("the endpoint sent an account that does not say whether it is a program")
    owner = Pubkey(values.address(fields.get("owner")))
    return Account(values.number(fields.get("lamports")), owner, executable, values.data(fields.get("data")))


async def read_accounts(
    rpc: SolanaRpc, addresses: Sequence[Address], config: Mapping[str, Any]
) -> list[Account | None]:
    """In the order of `addresses`; at most ACCOUNTS_MAX of them. Raises ChainUnavailable, ChainDisagrees."""
    assert len(addresses) <= ACCOUNTS_MAX
    keys = [values.text(address) for address in addresses]
    _, found = values.in_context(await rpc.call("getMultipleAccounts", [keys, {"encoding": "base64", **config}]))
    if not isinstance(found, list) or len(found) != len(keys):
        raise ChainDisagrees(f"the endpoint sent something else than {len(keys)} accounts")
    return [read_account(value) for value in found]


# ── Token accounts ──────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Holding:
    """A token account."""

    mint: Address
    owner: Address
    amount: int
    delegate: Address | None
    delegated: int  # how much of it the delegate may move
    frozen: bool


def read_holding(account: Account) -> Holding | None:
    """None where it is no token account that can be used.

    Layout: mint 32, owner 32, amount 8, delegate 4 + 32, state 1, native 4 + 8, delegated 8, close authority 4 + 32;
    little-endian.
    """
    data = account.data
    if account.owner not in TOKEN_PROGRAMS or len(data) < TOKEN_ACCOUNT_BYTES:
        return None
    if len(data) > TOKEN_ACCOUNT_BYTES and data[TOKEN_ACCOUNT_BYTES] != 2:
        return None  # Token-2022 writes what it is; 2 is a token account
    state = data[108]
    if state not in (1, 2):
        return None  # never initialised
    has_delegate = data[72:76] == b"\1\0\0\0"
    return Holding(
        mint=Address(data[:32]),
        owner=Address(data[32:64]),
        amount=int.from_bytes(data[64:72], "little"),
        delegate=Address(data[76:108]) if has_delegate else None,
        delegated=int.from_bytes(data[121:129], "little") if has_delegate else 0,
        frozen=state == 2,
    )


# ── Mints ───────────────────────────────────────────────────────────────────────────────────────────────────────────
SOL = Coin(NATIVE, SYSTEM, 9)


class Extension(IntEnum):
    """Of Token-2022 mints: those that matter to who pays with them."""

    TRANSFER_FEE = 1
    NON_TRANSFERABLE = 9
    TRANSFER_HOOK = 14
    PAUSABLE = 26


@dataclass(frozen=True, slots=True)
class Mint:
    """A mint, as it is now. `coin` of it never changes."""

    coin: Coin
    extensions: Mapping[int, bytes]

    @property
    def is_paused(self) -> bool:
        """Layout of the extension: authority 32, paused 1."""
        return self.extensions.get(Extension.PAUSABLE, b"")[32:33] == b"\1"

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be paid out by anyone, for good."""
        if Extension.NON_TRANSFERABLE in self.extensions:
            return "the token cannot be transferred: NonTransferable"
        # Layout: authority 32, program 32.
        if any(self.extensions.get(Extension.TRANSFER_HOOK, b"")[32:64]):
            return "the token runs a program of its own at each transfer, which is not supported: TransferHook"
        return None


def read_mint(address: Address, account: Account | None) -> Mint:
    """Raises ChainDisagrees where no mint is there.

    Layout: authority 4 + 32, supply 8, decimals 1, initialised 1, freeze authority 4 + 32; with extensions padded to a
    token account's length, then which of the two it is (1), then extensions: type 2, length 2, value.
    """
    if address == NATIVE:
        return Mint(SOL, {})
    if account is None or account.owner not in TOKEN_PROGRAMS or len(account.data) < MINT_BYTES:
        raise ChainDisagrees(f"{values.text(address)} is no mint of a token program")
    data = account.data
    if data[45] != 1 or (len(data) > MINT_BYTES and data[TOKEN_ACCOUNT_BYTES : TOKEN_ACCOUNT_BYTES + 1] != b"\1"):
        raise ChainDisagrees(f"{values.text(address)} is no mint")
    extensions = _extensions(data[TOKEN_ACCOUNT_BYTES + 1 :])
    coin = Coin(address, account.owner, data[44], may_take_fees=Extension.TRANSFER_FEE in extensions)
    return Mint(coin, extensions)


def _extensions(data: bytes) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        kind, length = (int.from_bytes(data[place : place + 2], "little") for place in (at, at + 2))
        if kind == 0:
            break  # the rest is room that nobody uses yet
        found[kind] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return found
