// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @dev OpenZeppelin's StandardMerkleTree over (chain id, contract, account, token, cumulative): leaves sorted by hash fill
/// the end of an array from the back; node i is the hash of nodes 2i + 1 and 2i + 2, the smaller first; node 0 is the root.
library MerkleTree {
    function leafOf(address claims, address account, address token, uint256 cumulative)
        internal
        view
        returns (bytes32)
    {
        return keccak256(bytes.concat(keccak256(abi.encode(block.chainid, claims, account, token, cumulative))));
    }

    /// @dev Sorts `leaves` in place.
    function build(bytes32[] memory leaves) internal pure returns (bytes32[] memory nodes) {
        _sort(leaves);
        nodes = new bytes32[](2 * leaves.length - 1);
        for (uint256 i = 0; i < leaves.length; ++i) {
            nodes[nodes.length - 1 - i] = leaves[i];
        }
        for (uint256 i = leaves.length - 1; i > 0; --i) {
            nodes[i - 1] = hashPair(nodes[2 * i - 1], nodes[2 * i]);
        }
    }

    function proofOf(bytes32[] memory nodes, bytes32 leaf) internal pure returns (bytes32[] memory proof) {
        uint256 node = nodes.length;
        while (node > 0 && nodes[node - 1] != leaf) --node;
        require(node > nodes.length / 2, "no such leaf");
        proof = new bytes32[](256);
        uint256 depth = 0;
        for (node -= 1; node > 0; node = (node - 1) / 2) {
            proof[depth] = nodes[node % 2 == 1 ? node + 1 : node - 1];
            ++depth;
        }
        assembly ("memory-safe") {
            mstore(proof, depth)
        }
    }

    function hashPair(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return keccak256(a < b ? abi.encode(a, b) : abi.encode(b, a));
    }

    function _sort(bytes32[] memory values) private pure {
        for (uint256 i = 1; i < values.length; ++i) {
            bytes32 value = values[i];
            uint256 j = i;
            for (; j > 0 && values[j - 1] > value; --j) {
                values[j] = values[j - 1];
            }
            values[j] = value;
        }
    }
}
