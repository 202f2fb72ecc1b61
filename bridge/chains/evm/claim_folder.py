"""Claim sets of one chain's distributions, each published in a folder under its id.

FOLDER/0x2c67…/index.json, proofs/…, claims.parquet        (claim_files.py)
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.chains.evm.claim_files import load, lookup, publish
from bridge.chains.evm.claim_plan import build_set, content_hash_of
from bridge.domain.errors import ConfigError, HoldError, RefusedError, RetryableError
from bridge.domain.payouts import Distribution, Payout
from bridge.domain.units import Address, format_address, hexed

_ADDRESS_DIGITS = 40


class ClaimFolder:
    """Implements ports.ClaimFiles."""

    def __init__(self, folder: Path, *, chain_id: int, contract: Address) -> None:
        """Raises ConfigError where sets could not be published: better now than when there is money in one."""
        if importlib.util.find_spec("pyarrow") is None:
            raise ConfigError("claim sets need pyarrow", mend="install the extra: bridge[claims]")
        self._folder = folder
        self._chain_id = chain_id
        self._contract = contract

    def publish(self, distribution: Distribution, leaves: Sequence[Payout]) -> None:
        order = distribution.order
        claims = build_set(order, leaves, chain_id=self._chain_id, contract=self._contract)
        if content_hash_of(order, claims) != distribution.content_hash:
            raise HoldError(
                f"distribution 0x{distribution.distribution_id.hex()} was planned with another tree than its payouts "
                "and the entitlements before it make now: rows were changed"
            )
        try:
            publish(claims, self._path(distribution.distribution_id))
        except (OSError, ConfigError) as error:  # a full disk, something else in its place: mended, it goes on
            raise RetryableError(f"proofs cannot be published: {error}") from error

    def is_published(self, distribution_id: bytes) -> bool:
        return (self._path(distribution_id) / "index.json").is_file()

    def find(self, distribution_id: bytes) -> Path | None:
        return self._path(distribution_id) if self.is_published(distribution_id) else None

    def claim(self, distribution_id: bytes, account: str) -> Mapping[str, object]:
        path = self._path(distribution_id)
        digits = account.removeprefix("0x")
        try:
            address = Address(bytes.fromhex(digits)) if len(digits) == _ADDRESS_DIGITS else None
        except ValueError:
            address = None
        if address is None:
            raise RefusedError(f"{account[:64]!r} is no address: 0x and {_ADDRESS_DIGITS} hex digits")
        found, index = lookup(path, address), load(path)
        return {
            "chainId": index.chain_id,
            "contract": format_address(index.contract),
            "token": format_address(index.token),
            "root": hexed(index.root),
            "account": format_address(found.account),
            "cumulative": str(found.cumulative),
            "proof": [hexed(sibling) for sibling in found.proof],
        }

    def _path(self, distribution_id: bytes) -> Path:
        return self._folder / f"0x{distribution_id.hex()}"
