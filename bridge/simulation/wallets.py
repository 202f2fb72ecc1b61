"""Keys that are good for nothing but a sandbox."""

from __future__ import annotations

import json
from typing import Any

from eth_account import Account
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from bridge.domain.units import Address
from bridge.simulation.anvil import CHAIN_ID

# The first key of every Anvil, known to the whole world. Its account is the only one with money at genesis.
DEPLOYER_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")

# Far above what an empty local chain asks for, so that a transaction is never too cheap for a block.
MAX_FEE_PER_GAS_WEI = 100 * 10**9
PRIORITY_FEE_PER_GAS_WEI = 10**9
GAS_LIMIT = 300_000


class Wallet:
    """One key, and the nonce of its next transaction. Nobody else may sign for it, so the nonce needs no reading."""

    def __init__(self, key: bytes) -> None:
        self._key = PrivateKey(key)  # remembers its public key, which is slow to derive
        self.address = Address(self._key.public_key.to_canonical_address())
        self.nonce = 0

    @classmethod
    def derive(cls, seed: int, role: str, index: int = 0) -> Wallet:
        """The same wallet for the same arguments, always."""
        return cls(keccak(f"bridge sandbox {seed} {role} {index}".encode()))

    def sign(self, to: Address | None, data: bytes = b"", *, value: int = 0, gas: int = GAS_LIMIT) -> bytes:
        """The raw bytes of this wallet's next transaction; `value` in wei. Without `to` it makes a contract."""
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": self.nonce,
            "to": b"" if to is None else to,
            "value": value,
            "data": data,
            "gas": gas,
            "maxFeePerGas": MAX_FEE_PER_GAS_WEI,
            "maxPriorityFeePerGas": PRIORITY_FEE_PER_GAS_WEI,
        }
        self.nonce += 1
        return bytes(Account.sign_transaction(transaction, self._key).raw_transaction)

    def keystore(self, password: str) -> str:
        """The key as a keystore file's text. Few rounds: it guards nothing, and the daemon should start at once."""
        return json.dumps(Account.encrypt(self._key, password, kdf="pbkdf2", iterations=1000), indent=2) + "\n"
