"""Merkle trees of keccak-256 hashes, node for node as OpenZeppelin's StandardMerkleTree lays them out.

node 0 ─┬─ 1 ─┬─ 3 …         node i has the children 2i + 1 and 2i + 2; it hashes them, the smaller hash first
        │     └─ 4 …         n leaves are the last n of 2n − 1 nodes, the smallest hash at the very end
        └─ 2 ─┬─ 5 …
              └─ 6 …         so a proof has ⌊log₂(2n − 1)⌋ hashes, or one less
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.chains.evm.abi import keccak256
from bridge.chains.evm.keccak import DIGEST, Bytes, keccak256_rows

Positions = npt.NDArray[np.intp]

LEAVES_MIN = 2
"""A tree of one leaf would have an empty proof, and who accepts that accepts the root itself as a leaf."""


@dataclass(frozen=True, slots=True, eq=False)
class MerkleTree:
    nodes: Bytes  # uint8[2n − 1, 32]
    positions: Positions  # [n]: the node of each leaf, in the order in which the leaves were given

    @classmethod
    def build(cls, leaves: Bytes) -> MerkleTree:
        """The tree over these hashes, uint8[n, 32]. Raises ValueError where there are fewer than two."""
        count = len(leaves)
        if count < LEAVES_MIN:
            raise ValueError(f"a Merkle tree needs at least {LEAVES_MIN} leaves, not {count}")
        last = 2 * count - 2
        order = np.argsort(_comparable(leaves), kind="stable")
        positions = np.empty(count, dtype=np.intp)
        positions[order] = last - np.arange(count)
        nodes = np.empty((last + 1, DIGEST), dtype=np.uint8)
        nodes[positions] = leaves
        # From the leaves up. The children of the nodes [stop // 2, stop) begin at stop or behind it, so all are there.
        stop = count - 1
        while stop:
            start = stop // 2
            nodes[start:stop] = _hash_pairs(nodes[2 * start + 1 : 2 * stop + 1].reshape(-1, 2, DIGEST))
            stop = start
        return cls(nodes, positions)

    @property
    def root(self) -> bytes:
        root: bytes = self.nodes[0].tobytes()
        return root

    @property
    def depth(self) -> int:
        """Hashes in the longest proof; the shortest has as many, or one less."""
        return len(self.nodes).bit_length() - 1

    def proofs(self, leaves: slice) -> tuple[Bytes, Positions]:
        """Proofs of k of the leaves: uint8[k, depth, 32], and how many hashes of each count.

        What is behind those is zero. All at once take 32 · depth bytes a leaf, so large trees are read in slices.
        """
        node = self.positions[leaves]
        siblings = np.zeros((len(node), self.depth, DIGEST), dtype=np.uint8)
        lengths = np.full(len(node), self.depth)
        for level in range(self.depth - 1):
            siblings[:, level] = self.nodes[_siblings(node)]
            node = (node - 1) // 2
        deep = node > 0
        siblings[deep, -1] = self.nodes[_siblings(node[deep])]
        lengths[~deep] -= 1
        return siblings, lengths

    def proof(self, leaf: int) -> tuple[bytes, ...]:
        """The proof of one leaf, from its sibling up."""
        [siblings], [length] = self.proofs(slice(leaf, leaf + 1))
        return tuple(sibling.tobytes() for sibling in siblings[:length])


def verify(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` leads from `leaf` to `root`: as the contract counts it, and apart from how trees are built."""
    node = leaf
    for sibling in proof:
        node = keccak256(min(node, sibling) + max(node, sibling))
    return bool(proof) and node == root


def _hash_pairs(pairs: Bytes) -> Bytes:
    """uint8[k, 2, 32] → uint8[k, 32]."""
    swapped = _comparable(pairs[:, 0]) > _comparable(pairs[:, 1])
    ordered = np.where(swapped[:, None, None], pairs[:, ::-1], pairs)
    return keccak256_rows(ordered.reshape(-1, 2 * DIGEST))


def _siblings(nodes: Positions) -> Positions:
    """A left child has an odd number, its sibling the next one."""
    return nodes - 1 + 2 * (nodes % 2)


def _comparable(hashes: Bytes) -> npt.NDArray[np.bytes_]:
    """Each row as one value that numpy orders byte by byte. It takes zeros at the end for none: of equal lengths, the
    same order."""
    return np.ascontiguousarray(hashes).view(f"S{DIGEST}")[:, 0]
