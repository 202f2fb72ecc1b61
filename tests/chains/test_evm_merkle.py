"""Trees against a slow and obvious one, and against what they must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from bridge.chains.evm.keccak import Bytes
from bridge.chains.evm.merkle import MerkleTree, verify

HASH = st.binary(min_size=32, max_size=32)
# Hashes that differ in few places, at the end or at the beginning: zeros behind must count, and no byte is signed.
NEAR = st.builds(
    lambda front, back: bytes(front) + bytes(28) + bytes(back),
    *[st.lists(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), min_size=2, max_size=2)] * 2,
)


def rows(hashes: list[bytes]) -> Bytes:
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32)


def plain_nodes(leaves: list[bytes]) -> list[bytes]:
    """The definition, word for word."""
    nodes = [b""] * (2 * len(leaves) - 1)
    for place, leaf in enumerate(sorted(leaves)):
        nodes[len(nodes) - 1 - place] = leaf
    for node in reversed(range(len(leaves) - 1)):
        nodes[node] = keccak(b"".join(sorted(nodes[2 * node + 1 : 2 * node + 3])))
    return nodes


def plain_proof(nodes: list[bytes], leaf: bytes) -> tuple[bytes, ...]:
    node, proof = nodes.index(leaf), []
    while node:
        proof.append(nodes[node + 1] if node % 2 else nodes[node - 1])
        node = (node - 1) // 2
    return tuple(proof)


@given(st.lists(HASH | NEAR, min_size=2, max_size=70, unique=True))
def test_tree__any_leaves__nodes_and_proofs_of_the_definition(leaves: list[bytes]):
    tree, nodes = MerkleTree.build(rows(leaves)), plain_nodes(leaves)
    assert [node.tobytes() for node in tree.nodes] == nodes
    assert [tree.proof(index) for index in range(len(leaves))] == [plain_proof(nodes, leaf) for leaf in leaves]
    assert all(verify(tree.root, leaf, tree.proof(index)) for index, leaf in enumerate(leaves))
    assert tree.depth == max(len(tree.proof(index)) for index in range(len(leaves)))


@given(st.lists(HASH, min_size=2, max_size=40, unique=True), st.data())
def test_proofs__a_slice__as_each_alone(leaves: list[bytes], data: st.DataObject):
    tree = MerkleTree.build(rows(leaves))
    some = slice(*sorted(data.draw(st.tuples(*[st.integers(0, len(leaves))] * 2))))
    siblings, lengths = tree.proofs(some)
    for index, row, length in zip(range(len(leaves))[some], siblings, lengths, strict=True):
        assert [sibling.tobytes() for sibling in row[:length]] == list(tree.proof(index))
        assert not row[length:].any()


@given(st.lists(HASH, min_size=2, max_size=20, unique=True), st.data())
def test_verify__one_bit_changed__is_refused(leaves: list[bytes], data: st.DataObject):
    tree = MerkleTree.build(rows(leaves))
    index = data.draw(st.integers(0, len(leaves) - 1))
    parts = [tree.root, leaves[index], *tree.proof(index)]
    changed, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[changed] = (int.from_bytes(parts[changed]) ^ 1 << bit).to_bytes(32)
    assert not verify(parts[0], parts[1], parts[2:])


def test_verify__the_root_itself_without_a_proof__is_refused():
    tree = MerkleTree.build(rows([b"\1" * 32, b"\2" * 32]))
    assert not verify(tree.root, tree.root, [])


@pytest.mark.parametrize("count", [0, 1])
def test_tree__fewer_than_two_leaves__is_refused(count: int):
    with pytest.raises(ValueError, match=f"at least 2 leaves, not {count}"):
        MerkleTree.build(rows([b"\1" * 32] * count))
