"""Claim sets: who may have claimed how much in total, as the tree whose root the Claims contract accepts.

    (account, cumulative), … ─► ascending accounts ─► leaves ─► MerkleTree ─► root; a proof for each account

A leaf is keccak256(keccak256(abi.encode(chainid, contract, account, token, cumulative))): hashed twice, so that no
inner node can pass for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bridge.chains.evm.abi import encode_values, keccak256
from bridge.chains.evm.keccak import DIGEST, Bytes, keccak256_rows
from bridge.chains.evm.merkle import MerkleTree, verify
from bridge.domain.errors import NotInClaimSet
from bridge.domain.units import Address, check_amount, format_address

LEAF_TYPES = ("uint256", "address", "address", "address", "uint256")
_ADDRESS = 20  # bytes
_WORD = 32  # bytes of each value that abi.encode writes
_CHUNK = 1 << 16
"""Leaves encoded at once: bounds memory, 160 bytes each."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the contract must be told to pay `account`."""

    account: Address
    cumulative: int  # atoms, in total since the first root
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ClaimSet:
    chain_id: int
    contract: Address
    token: Address
    accounts: Bytes  # uint8[n, 20], strictly ascending
    cumulatives: Bytes  # uint8[n, 32], big-endian; none is zero
    total: int  # atoms; the sum of the cumulatives
    tree: MerkleTree

    @classmethod
    def build(
        cls, chain_id: int, contract: Address, token: Address, cumulatives: Iterable[tuple[Address, int]]
    ) -> ClaimSet:
        """The set of these accounts with what each is due in total, in any order.

        Raises ValueError where there are fewer than two, one comes twice, is zero or is the contract, or an amount or
        the sum of all is not a positive uint256.
        """
        given = list(cumulatives)
        if any(len(account) != _ADDRESS for account, _ in given):
            raise ValueError(f"an account has {_ADDRESS} bytes")
        if any(check_amount(amount) == 0 for _, amount in given):
            raise ValueError("a claim of zero cannot be paid")
        unordered = _rows((account for account, _ in given), _ADDRESS)
        order = np.argsort(unordered.view(f"S{_ADDRESS}")[:, 0])
        accounts = unordered[order]
        if len(accounts) and not accounts[0].any():
            raise ValueError("the zero address cannot claim")
        if (accounts == np.frombuffer(contract, dtype=np.uint8)).all(axis=1).any():
            raise ValueError(f"the claims contract {format_address(contract)} cannot claim from itself")
        for again in np.flatnonzero((accounts[1:] == accounts[:-1]).all(axis=1))[:1]:
            raise ValueError(f"account {format_address(accounts[again].tobytes())} comes twice")
        total = check_amount(sum(amount for _, amount in given))
        amounts = _rows((amount.to_bytes(_WORD) for _, amount in given), _WORD)[order]
        tree = MerkleTree.build(_hash_leaves(chain_id, contract, token, accounts, amounts))
        claims = cls(chain_id, contract, token, accounts, amounts, total, tree)
        # One account by the other way, which shares no code with this one.
        assert verify_claim(chain_id, contract, token, claims.claim(claims.account(0)), tree.root)
        return claims

    def __len__(self) -> int:
        return len(self.accounts)

    @property
    def root(self) -> bytes:
        return self.tree.root

    def account(self, index: int) -> Address:
        return Address(self.accounts[index].tobytes())

    def cumulative(self, index: int) -> int:
        return int.from_bytes(self.cumulatives[index].tobytes())

    def claim(self, account: Address) -> Claim:
        """Raises NotInClaimSet."""
        index = int(np.searchsorted(self.accounts.view(f"S{_ADDRESS}")[:, 0], account))
        if index == len(self) or self.account(index) != account:
            raise NotInClaimSet(account, self.root)
        return Claim(account, self.cumulative(index), self.tree.proof(index))


def hash_leaf(chain_id: int, contract: Address, token: Address, account: Address, cumulative: int) -> bytes:
    values = (chain_id, *(format_address(address) for address in (contract, account, token)), cumulative)
    return keccak256(keccak256(encode_values(LEAF_TYPES, values)))


def verify_claim(chain_id: int, contract: Address, token: Address, claim: Claim, root: bytes) -> bool:
    """Whether the contract accepts `claim` under `root`; counted one hash at a time."""
    return verify(root, hash_leaf(chain_id, contract, token, claim.account, claim.cumulative), claim.proof)


def _hash_leaves(chain_id: int, contract: Address, token: Address, accounts: Bytes, amounts: Bytes) -> Bytes:
    leaves = np.empty((len(accounts), DIGEST), dtype=np.uint8)
    for start in range(0, len(accounts), _CHUNK):
        some = slice(start, start + _CHUNK)
        words = np.zeros((len(accounts[some]), len(LEAF_TYPES), _WORD), dtype=np.uint8)
        words[:, 0] = np.frombuffer(chain_id.to_bytes(_WORD), dtype=np.uint8)
        words[:, 1, -_ADDRESS:] = np.frombuffer(contract, dtype=np.uint8)
        words[:, 2, -_ADDRESS:] = accounts[some]
        words[:, 3, -_ADDRESS:] = np.frombuffer(token, dtype=np.uint8)
        words[:, 4] = amounts[some]
        leaves[some] = keccak256_rows(keccak256_rows(words.reshape(-1, len(LEAF_TYPES) * _WORD)))
    return leaves


def _rows(values: Iterable[bytes], width: int) -> Bytes:
    return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, width)
