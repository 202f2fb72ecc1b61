"""`[chains.NAME]` with kind = "evm"."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bridge.domain.units import Address, AssetId, format_address
from bridge.runtime.fields import (
    Amount,
    CeilingsSection,
    CodeHash,
    HexAddress,
    Name,
    NativeSection,
    OperatorSection,
    Section,
    check_urls,
)

DEPLOYED = ("timelock", "vault", "distributor")
"""The contracts that `bridge deploy` makes."""
CLAIMS = "claims"
"""And this one, where sets can be claimed."""
GAS_PER_RECIPIENT = 30_000
"""Of a push to accounts that held nothing, rounded up."""


class FinalitySection(Section):
    """`tag`: the node's own word; `depth`: so many blocks under the head, for chains whose nodes have no such tag."""

    tag: Literal["finalized", "safe"] | None = None
    depth: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.tag is None) == (self.depth is None):
            raise ValueError('give either tag = "finalized" or depth = N')
        return self


class TokenSection(Section):
    address: HexAddress
    # For people, and what the prices of rules are held against; never part of arithmetic itself.
    decimals: Annotated[int, Field(ge=0, le=77)]


class SpendingSection(CeilingsSection):
    max_fee_per_gas: Amount = 200_000_000_000  # wei
    priority_fee_per_gas: Amount = 1_000_000_000  # wei
    batch_recipients: Annotated[int, Field(ge=1, le=250)] = 200
    bump_after_blocks: Annotated[int, Field(ge=1)] = 5


class ClaimsSection(Section):
    """Sets that are too large to push: each is a tree that its accounts claim from, with proofs for all to read."""

    # By token: recipients; larger sets are claimed. Not for tokens whose balances shrink by themselves.
    above: dict[Name, Annotated[int, Field(ge=1)]]
    folder: str = "claims"  # static files, a folder for each distribution
    uri: str | None = None  # where people find that folder; told on chain with each proposal
    activation_delay_s: Annotated[int, Field(ge=0)] = 3600  # a new tree can be looked at for so long, and disabled

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.uri is not None and not re.match(r"(https?|ipfs|ipns|ar)://", self.uri):
            raise ValueError(f"uri `{self.uri}` is no http, ipfs or arweave URL")
        return self


class TokenLimitsSection(Section):
    """In atoms. What is not named is zero: nothing of the token may leave."""

    floor: Amount = 0
    cap_per_epoch: Amount = 0
    auto_per_epoch: Amount = 0
    claims_auto_per_epoch: Amount = 0


class GovernanceSection(Section):
    """Who may do what with the contracts, and how much: `deploy` makes it so, and `run` refuses anything else."""

    admins: Annotated[list[HexAddress], Field(min_length=1)]
    approvers: list[HexAddress] = []
    guardians: Annotated[list[HexAddress], Field(min_length=1)]
    admin_delay_s: Annotated[int, Field(ge=0)]
    delay_s: Annotated[int, Field(ge=0)]
    approval_lifetime_s: Annotated[int, Field(ge=1)] = 604_800
    epoch_s: Annotated[int, Field(ge=1)]
    limits: dict[Name, TokenLimitsSection] = {}
    code: dict[Name, CodeHash] = {}


class EvmSection(Section):
    kind: Literal["evm"]
    chain_id: Annotated[int, Field(ge=1)]
    rpc: Annotated[list[str], Field(min_length=1)]
    start_block: Annotated[int, Field(ge=0)]
    finality: FinalitySection
    poll_interval_ms: Annotated[int, Field(ge=10, le=600_000)] = 1000
    native: NativeSection = NativeSection(symbol="ETH", decimals=18)
    contracts: dict[Name, HexAddress] = {}
    tokens: dict[Name, TokenSection]
    governance: GovernanceSection
    operator: OperatorSection
    spending: SpendingSection = SpendingSection()
    claims: ClaimsSection | None = None  # everything is pushed

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for token, limits in self.governance.limits.items():
            if token not in self.tokens:
                raise ValueError(f"governance.limits names `{token}`, which is not in tokens")
            if limits.claims_auto_per_epoch and self.claims is None:
                raise ValueError(f"governance.limits.{token} has claims_auto_per_epoch, but there is no claims section")
        for mistake in self.spending.unknown_tokens(self.tokens):
            raise ValueError(mistake)
        for token in self.claims.above if self.claims is not None else ():
            if token not in self.tokens:
                raise ValueError(f"claims.above names `{token}`, which is not in tokens")
        check_urls(self.rpc)
        return self

    @property
    def governed(self) -> tuple[str, ...]:
        """The contracts that `bridge deploy` makes for this chain, in that order."""
        return DEPLOYED if self.claims is None else (*DEPLOYED, CLAIMS)

    @property
    def claims_contract(self) -> Address | None:
        return None if self.claims is None else self.contracts[CLAIMS]

    @property
    def reference(self) -> str:
        """CAIP-2."""
        return f"eip155:{self.chain_id}"

    @property
    def low_balance(self) -> int:
        """Wei under which the operator's account is short of gas money: by default, what a full batch costs at most."""
        if self.operator.low_balance is not None:
            return self.operator.low_balance
        return self.spending.batch_recipients * GAS_PER_RECIPIENT * self.spending.max_fee_per_gas

    @property
    def native_asset(self) -> AssetId:
        """CAIP-19."""
        return AssetId(f"{self.reference}/slip44:60")

    def asset(self, token: Address) -> AssetId:
        return AssetId(f"{self.reference}/erc20:{format_address(token)}")
