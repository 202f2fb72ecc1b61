"""Claim sets: the same tree as OpenZeppelin's library makes, and what may not be in one."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from bridge.chains.evm import claims as module
from bridge.chains.evm.claims import Claim, ClaimSet, hash_leaf, verify_claim
from bridge.domain.errors import NotInClaimSet
from bridge.domain.units import UINT256_MAX, Address
from tests.chains.openzeppelin import make_trees

CHAIN_ID = 31337
CONTRACT = Address(b"\x11" * 20)
TOKEN = Address(b"\xee" * 19 + b"\0")

ACCOUNT = st.binary(min_size=20, max_size=20).filter(any).map(Address)
ENTRIES = st.dictionaries(ACCOUNT, st.integers(1, UINT256_MAX // 64), min_size=2, max_size=40).map(
    lambda entries: list(entries.items())
)


def build(entries: list[tuple[Address, int]]) -> ClaimSet:
    return ClaimSet.build(CHAIN_ID, CONTRACT, TOKEN, entries)


def draw(count: int, seed: int = 0) -> list[tuple[Address, int]]:
    chance = random.Random(seed)
    return [(Address(chance.randbytes(20)), chance.randrange(1, 1 << chance.randrange(1, 200))) for _ in range(count)]


def plain_leaf(account: Address, cumulative: int) -> bytes:
    types = ["uint256", "address", "address", "address", "uint256"]
    return keccak(keccak(encode(types, [CHAIN_ID, "0x" + CONTRACT.hex(), account, TOKEN, cumulative])))


@given(ENTRIES)
def test_claim_set__any_entries__every_claim_is_accepted_under_the_root(entries: list[tuple[Address, int]]):
    claims = build(entries)
    assert claims.total == sum(cumulative for _, cumulative in entries)
    assert [(claims.account(index), claims.cumulative(index)) for index in range(len(claims))] == sorted(entries)
    leaves = {node.tobytes() for node in claims.tree.nodes[len(entries) - 1 :]}
    assert leaves == {plain_leaf(*entry) for entry in entries}
    for account, cumulative in entries:
        claim = claims.claim(account)
        assert (claim.account, claim.cumulative) == (account, cumulative)
        assert verify_claim(CHAIN_ID, CONTRACT, TOKEN, claim, claims.root)


def test_claim_set__same_entries__trees_and_proofs_of_openzeppelins_library():
    entries, counts = draw(1000), [*range(2, 41), 999, 1000]
    trees = make_trees(CHAIN_ID, CONTRACT, TOKEN, entries, proofs=1000, counts=counts)
    for count, theirs in zip(counts, trees, strict=True):
        claims = build(entries[:count])
        assert claims.root == theirs.root
        assert [node.tobytes() for node in claims.tree.nodes] == theirs.nodes
        assert [list(claims.claim(account).proof) for account, _ in entries[:count]] == theirs.proofs


def test_claim_set__large_amounts__leaves_of_openzeppelins_library():
    amounts = [2**64 - 1, 2**64, 2**128, 2**255, UINT256_MAX - 2**255 - 2**128 - 2**65 + 1]
    entries = [(Address(bytes([index]) * 20), amount) for index, amount in enumerate(amounts, start=1)]
    claims = build(entries)
    [theirs] = make_trees(CHAIN_ID, CONTRACT, TOKEN, entries, proofs=5, counts=[5])
    assert (claims.root, claims.total) == (theirs.root, UINT256_MAX)
    assert [list(claims.claim(account).proof) for account, _ in entries] == theirs.proofs


def test_leaf__largest_uint256__both_ways_are_solidity():
    account = Address(b"\xff" * 20)
    assert hash_leaf(CHAIN_ID, CONTRACT, TOKEN, account, UINT256_MAX) == plain_leaf(account, UINT256_MAX)
    rows = [np.frombuffer(value, dtype=np.uint8)[None] for value in (account, UINT256_MAX.to_bytes(32))]
    [leaf] = module._hash_leaves(CHAIN_ID, CONTRACT, TOKEN, *rows)
    assert leaf.tobytes() == plain_leaf(account, UINT256_MAX)


def test_claim_set__leaves_in_several_chunks__same_root(monkeypatch: pytest.MonkeyPatch):
    entries = draw(50)
    whole = build(entries)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert build(entries).root == whole.root


def test_claim_set__entries_in_another_order__same_root():
    entries = draw(20)
    assert build(entries).root == build(entries[::-1]).root


@pytest.mark.parametrize("change", ["account", "cumulative", "proof", "chain", "contract", "token", "root"])
def test_verify_claim__anything_else__is_refused(change: str):
    claims = build(draw(9))
    claim, other = claims.claim(claims.account(3)), claims.claim(claims.account(4))
    claim = Claim(
        other.account if change == "account" else claim.account,
        claim.cumulative + (change == "cumulative"),
        other.proof if change == "proof" else claim.proof,
    )
    accepted = verify_claim(
        CHAIN_ID + (change == "chain"),
        TOKEN if change == "contract" else CONTRACT,
        CONTRACT if change == "token" else TOKEN,
        claim,
        build(draw(8)).root if change == "root" else claims.root,
    )
    assert not accepted


@pytest.mark.parametrize("stranger", [b"\0" * 20, b"\xff" * 20, b"\x55" * 20])
def test_claim__account_that_has_none__is_told_so(stranger: bytes):
    claims = build(draw(5))
    message = f"0x{stranger.hex()} has nothing to claim: it is not in the set with root 0x{claims.root.hex()}"
    with pytest.raises(NotInClaimSet, match=re.escape(message)):
        claims.claim(Address(stranger))


ONE, TWO = (Address(b"\1" * 20), 5), (Address(b"\2" * 20), 7)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "at least 2 leaves, not 0"),
        ([ONE], "at least 2 leaves, not 1"),
        ([ONE, TWO, (ONE[0], 9)], "account 0x" + "01" * 20 + " comes twice"),
        ([TWO, (Address(bytes(20)), 1)], "the zero address cannot claim"),
        ([TWO, ONE, (CONTRACT, 1)], "the claims contract 0x1111111111111111111111111111111111111111 cannot claim"),
        ([ONE, (Address(b"\3" * 21), 1)], "20 bytes"),
        ([ONE, (TWO[0], 0)], "claim of zero"),
        ([ONE, (TWO[0], -1)], "not a uint256"),
        ([ONE, (TWO[0], UINT256_MAX + 1)], "not a uint256"),
        ([ONE, (TWO[0], UINT256_MAX)], "not a uint256"),  # the sum is what the vault must hold
    ],
)
def test_claim_set__what_cannot_be_claimed__is_refused(entries: list[tuple[Address, int]], message: str):
    with pytest.raises(ValueError, match=message):
        build(entries)
