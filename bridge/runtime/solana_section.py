"""`[chains.NAME]` with kind = "solana"."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bridge.domain.units import Address, AssetId, base58, format_address
from bridge.runtime.fields import (
    Amount,
    Base58Address,
    CeilingsSection,
    KeySection,
    Name,
    NativeSection,
    OperatorSection,
    Section,
    check_urls,
)

VAULT = "vault"
NATIVE = Address(bytes(32))
"""Stands for the native coin where a token is named: the address of the program that moves it."""
LAMPORTS_PER_BATCH = 3_000_000
"""Fee, marker and some new accounts of one transaction, rounded up."""
BATCHES_KEPT = 100


class MintSection(Section):
    address: Base58Address
    # For people, and what the prices of rules are held against; never part of arithmetic itself. Held against the mint.
    decimals: Annotated[int, Field(ge=0, le=77)]


class SolanaSpendingSection(CeilingsSection):
    max_priority_fee: Amount = 1_000_000  # micro-lamports per compute unit
    batch_recipients: Annotated[int, Field(ge=1, le=64)] = 64  # of one transaction, as far as its bytes reach
    create_accounts: bool = True  # pay the rent of token accounts that recipients never had; else they wait, held


class SolanaSection(Section):
    kind: Literal["solana"]
    genesis_hash: Base58Address  # which cluster this is: what getGenesisHash answers
    rpc: Annotated[list[str], Field(min_length=1)]
    websocket: str | None = None  # wakes the listener sooner; what it says is not believed
    start_block: Annotated[int, Field(ge=0)]  # slot
    poll_interval_ms: Annotated[int, Field(ge=10, le=600_000)] = 1000
    native: NativeSection = NativeSection(symbol="SOL", decimals=9)
    contracts: dict[Name, Base58Address]  # accounts that own the token accounts which count; `vault` pays
    tokens: dict[Name, MintSection]
    operator: OperatorSection
    # Accounts that had the operator's part before: what they paid is paid, whatever the database remembers.
    former_operators: list[Base58Address] = []
    # Accounts that list recipients, so that a transaction has room for more: made by `bridge lookup-tables`.
    lookup_tables: Annotated[list[Base58Address], Field(max_length=1024)] = []
    vault_key: KeySection | None = None  # where the vault must sign itself: to pay out the native coin
    fee_memo: str = "fee"  # of a payment into the vault that is no donation
    spending: SolanaSpendingSection = SolanaSpendingSection()
    claims: None = None  # everything is pushed

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if VAULT not in self.contracts:
            raise ValueError(f"contracts has no `{VAULT}`: the account whose tokens are paid out")
        for mistake in self.spending.unknown_tokens(self.tokens):
            raise ValueError(mistake)
        if any(token.address == NATIVE for token in self.tokens.values()) and self.vault_key is None:
            raise ValueError("tokens has the native coin, which only the vault's own key can pay out: add vault_key")
        if len(set(self.lookup_tables)) < len(self.lookup_tables):
            raise ValueError("lookup_tables names one twice")
        check_urls(self.rpc)
        return self

    @property
    def reference(self) -> str:
        """CAIP-2."""
        return f"solana:{base58(self.genesis_hash)[:32]}"

    @property
    def low_balance(self) -> int:
        """Lamports under which the operator's account is short: by default, what a hundred batches cost about."""
        if self.operator.low_balance is not None:
            return self.operator.low_balance
        return BATCHES_KEPT * LAMPORTS_PER_BATCH

    @property
    def native_asset(self) -> AssetId:
        """CAIP-19."""
        return AssetId(f"{self.reference}/slip44:501")

    def asset(self, token: Address) -> AssetId:
        if token == NATIVE:
            return self.native_asset
        return AssetId(f"{self.reference}/token:{format_address(token)}")
