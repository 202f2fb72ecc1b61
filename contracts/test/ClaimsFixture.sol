// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Claims} from "../src/Claims.sol";
import {SurplusVault} from "../src/SurplusVault.sol";
import {ForgeTest} from "./ForgeTest.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {MisbehavingToken} from "./tokens/MisbehavingToken.sol";

/// @dev A funded vault and claims. The test itself is admin, guardian and proposer, and the auto-limit lets all pass.
abstract contract ClaimsFixture is ForgeTest {
    bytes32 internal constant RULE = "fee_window";
    bytes32 internal constant ARTIFACT = "artifact";
    string internal constant URI = "file:artifact.json";
    uint64 internal constant DELAY = 1 hours;
    uint64 internal constant LIFETIME = 1 days;
    uint64 internal constant ACTIVATION_DELAY = 2 hours;
    uint256 internal constant FUNDS = 1e24;

    /// @dev What each account was given in all.
    struct Tree {
        address token;
        address[] accounts;
        uint256[] cumulatives;
        bytes32[] nodes;
        uint256 sum;
    }

    SurplusVault internal vault;
    Claims internal claims;
    MisbehavingToken internal token;
    uint64 internal nextEpoch = 1;

    function setUp() public virtual {
        vm.warp(1_000 days);
        vault = new SurplusVault(address(this), 1 days);
        claims = new Claims(address(this), address(vault), DELAY, LIFETIME, ACTIVATION_DELAY);
        vault.grantRole(vault.DISTRIBUTOR_ROLE(), address(claims));
        vault.grantRole(vault.GUARDIAN_ROLE(), address(this));
        claims.grantRole(claims.PROPOSER_ROLE(), address(this));
        claims.grantRole(claims.GUARDIAN_ROLE(), address(this));
        token = new MisbehavingToken();
        token.mint(address(vault), FUNDS);
        allow(address(token));
    }

    function allow(address token_) internal {
        vault.setLimits(token_, 0, FUNDS);
        claims.setAutoLimit(token_, type(uint256).max);
    }

    /// @dev `count` accounts, of which account i was given (i + 1) × `unit`.
    function treeOf(uint256 count, uint256 unit) internal view returns (Tree memory tree) {
        (address[] memory accounts, uint256[] memory cumulatives) = (new address[](count), new uint256[](count));
        for (uint256 i = 0; i < count; ++i) {
            (accounts[i], cumulatives[i]) = (accountAt(i), (i + 1) * unit);
        }
        return treeOf(address(token), accounts, cumulatives);
    }

    function treeOf(address token_, address[] memory accounts, uint256[] memory cumulatives)
        internal
        view
        returns (Tree memory tree)
    {
        (tree.token, tree.accounts, tree.cumulatives) = (token_, accounts, cumulatives);
        bytes32[] memory leaves = new bytes32[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            leaves[i] = MerkleTree.leafOf(address(claims), accounts[i], token_, cumulatives[i]);
            tree.sum += cumulatives[i];
        }
        tree.nodes = MerkleTree.build(leaves);
    }

    function proofOf(Tree memory tree, uint256 i) internal view returns (bytes32[] memory) {
        bytes32 leaf = MerkleTree.leafOf(address(claims), tree.accounts[i], tree.token, tree.cumulatives[i]);
        return MerkleTree.proofOf(tree.nodes, leaf);
    }

    /// @dev Under the id of the next epoch; adds what the tree has over the accepted one.
    function propose(Tree memory tree) internal returns (bytes32 id) {
        (,,, uint256 accepted,) = claims.latestRoot(tree.token);
        return propose(tree, tree.sum - accepted, tree.sum);
    }

    function propose(Tree memory tree, uint256 total, uint256 cumulativeTotal) internal returns (bytes32 id) {
        uint64 epoch = nextEpoch++;
        uint32 count = uint32(tree.accounts.length);
        return claims.proposeRoot(
            RULE, epoch, epoch + 1, tree.token, total, count, tree.nodes[0], cumulativeTotal, ARTIFACT, URI
        );
    }

    /// @dev Proposes, activates and waits until the tree can be claimed against.
    function accept(Tree memory tree) internal returns (bytes32 id) {
        id = propose(tree);
        claims.activate(id);
        vm.warp(block.timestamp + ACTIVATION_DELAY);
    }

    function claim(Tree memory tree, uint256 i) internal {
        claims.claim(tree.accounts[i], tree.token, tree.cumulatives[i], proofOf(tree, i));
    }

    function unclaimedOf(address token_) internal view returns (uint256 unclaimed) {
        (,,,, unclaimed) = claims.latestRoot(token_);
    }

    function accountAt(uint256 i) internal pure returns (address) {
        return address(uint160(0xACC0000 + i));
    }
}
