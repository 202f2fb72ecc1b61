// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ClaimsFixture} from "./ClaimsFixture.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {PlainToken} from "./gas/Baselines.sol";

/// @dev What a claim costs in a tree of depth 10, everything included.
contract ClaimsGasTest is ClaimsFixture {
    uint256 private constant DEPTH = 10;
    uint256 private constant AMOUNT = 1_234_567;

    event GasOfClaim(string which, uint256 gas);

    PlainToken private plain;

    /// @dev One account has claimed from the tree before, and the other never. All of it in here, because what a slot
    /// costs depends on what it held when the transaction began, which for forge is the test.
    function setUp() public override {
        super.setUp();
        plain = new PlainToken();
        plain.mint(address(vault), FUNDS);
        allow(address(plain));
        _accept(AMOUNT);
        claims.claim(accountAt(0), address(plain), AMOUNT, _proof(1, AMOUNT));
        _accept(2 * AMOUNT);
    }

    function test_gas__first_claim__within_budget() public {
        _assertWithin("first", 1, 101_700);
    }

    function test_gas__next_claim__within_budget() public {
        _assertWithin("next", 0, 67_500);
    }

    function _assertWithin(string memory which, uint256 account, uint256 budget) private {
        bytes32[] memory proof = _proof(1 - account, 2 * AMOUNT);
        bytes memory call = abi.encodeCall(claims.claim, (accountAt(account), address(plain), 2 * AMOUNT, proof));
        uint256 gas = transactionGas(address(claims), call, address(vault), address(plain));
        emit GasOfClaim(which, gas);
        vm.assertLe(gas, budget, "gas");
    }

    /// @dev A tree whose first two leaves are the two accounts; what else is in it, nobody needs to know.
    function _accept(uint256 cumulative) private {
        bytes32[] memory proof = _proof(1, cumulative);
        Tree memory tree;
        (tree.token, tree.accounts, tree.sum) = (address(plain), new address[](2 ** DEPTH), 10 * cumulative);
        tree.nodes = new bytes32[](1);
        tree.nodes[0] = MerkleTree.leafOf(address(claims), accountAt(0), address(plain), cumulative);
        for (uint256 i = 0; i < DEPTH; ++i) {
            tree.nodes[0] = MerkleTree.hashPair(tree.nodes[0], proof[i]);
        }
        accept(tree);
    }

    /// @dev Of the account beside `sibling`.
    function _proof(uint256 sibling, uint256 cumulative) private view returns (bytes32[] memory proof) {
        proof = new bytes32[](DEPTH);
        proof[0] = MerkleTree.leafOf(address(claims), accountAt(sibling), address(plain), cumulative);
        for (uint256 i = 1; i < DEPTH; ++i) {
            proof[i] = keccak256(abi.encode(i));
        }
    }
}
