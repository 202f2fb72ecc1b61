"""Programs that every Solana cluster has at the same place, and the addresses that they derive."""

from __future__ import annotations

from solders.pubkey import Pubkey

from bridge.domain.units import Address

SYSTEM = Pubkey.from_string("11111111111111111111111111111111")
TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED_TOKEN = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")

TOKEN_PROGRAMS = (TOKEN, TOKEN_2022)

NATIVE = Address(bytes(32))
"""Stands for SOL where a mint is asked for: the system program's id, which no mint has."""


def associated_account(owner: Address, mint: Address, program: Pubkey) -> Address:
    """Where `owner` holds tokens of `mint`, which belongs to the token program `program`."""
    address, _ = Pubkey.find_program_address([owner, bytes(program), mint], ASSOCIATED_TOKEN)
    return Address(bytes(address))


def is_on_curve(account: Address) -> bool:
    """Whether there can be a key for the account; programs own the others."""
    return Pubkey(account).is_on_curve()
