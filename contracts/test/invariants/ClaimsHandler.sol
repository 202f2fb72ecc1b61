// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Claims} from "../../src/Claims.sol";
import {SurplusVault} from "../../src/SurplusVault.sol";
import {IClaims} from "../../src/interfaces/IClaims.sol";
import {IProposalGate} from "../../src/interfaces/IProposalGate.sol";
import {ISurplusVault} from "../../src/interfaces/ISurplusVault.sol";
import {ForgeTest} from "../ForgeTest.sol";
import {MerkleTree} from "../MerkleTree.sol";
import {MisbehavingToken} from "../tokens/MisbehavingToken.sol";

/// @dev All that can happen to a vault and its claims, in any order. The handler plays everyone, knows what must come out
/// of each call, asserts that it does, and keeps its own books for the invariants to compare.
contract ClaimsHandler is ForgeTest {
    struct Tree {
        bytes32 id;
        bytes32 root;
        uint256 total;
        uint256 cumulativeTotal;
        uint256[] leaves; // of actor 0, 1, 2…
        bool vetoed;
        bool activated;
        uint256 from;
        uint256 until; // zero before it is accepted and after it is disabled
    }

    uint256 public constant ACTORS = 5;
    uint256 private constant AMOUNT_MAX = 1_000;
    uint64 private constant ACTIVATION_DELAY = 6 hours;

    SurplusVault public immutable vault;
    Claims public immutable claims;
    MisbehavingToken public immutable token;

    Tree[] private _trees;
    uint256 private _newest; // index + 1
    mapping(address account => bool) private _onlySelf;
    mapping(address account => address) private _recipient;

    // The handler's own books.
    uint256 public accepted; // what all activations added
    uint256 public totalClaimed;
    uint256 public claimsPaid;
    mapping(address account => uint256) public claimed;
    mapping(uint256 epoch => uint256) public released;

    constructor() {
        vault = new SurplusVault(address(this), 1 days);
        claims = new Claims(address(this), address(vault), 1 hours, 1 days, ACTIVATION_DELAY);
        token = new MisbehavingToken();
        vault.grantRole(vault.DISTRIBUTOR_ROLE(), address(claims));
        vault.grantRole(vault.GUARDIAN_ROLE(), address(this));
        claims.grantRole(claims.PROPOSER_ROLE(), address(this));
        claims.grantRole(claims.GUARDIAN_ROLE(), address(this));
        vault.setLimits(address(token), 0, 100 * AMOUNT_MAX);
        claims.setAutoLimit(address(token), type(uint256).max);
    }

    // ── What may happen ─────────────────────────────────────────────────────────────────────────────────────────────
    function fund(uint256 amount) external {
        token.mint(address(vault), bound(amount, 0, 20 * AMOUNT_MAX));
    }

    /// @dev Each actor gets more or the same; now and then a tree gives more than its total.
    function propose(bytes32 seed) external {
        Tree storage tree = _trees.push();
        uint64 epoch = uint64(_trees.length);
        // Else a seed that comes twice gives one root to two trees, of which only one may be claimed against.
        seed = keccak256(abi.encode(seed, epoch));
        for (uint256 i = 0; i < ACTORS; ++i) {
            uint256 more = pick(seed, i, i == 0 ? 1 : 0, AMOUNT_MAX);
            tree.leaves.push((_newest == 0 ? 0 : _trees[_newest - 1].leaves[i]) + more);
            tree.total += more;
        }
        if (pick(seed, ACTORS, 0, 7) == 0) tree.total /= 2;
        tree.cumulativeTotal = accepted + tree.total;
        tree.root = _nodes(tree)[0];
        tree.id = claims.proposeRoot(
            "rule",
            epoch,
            epoch + 1,
            address(token),
            tree.total,
            uint32(ACTORS),
            tree.root,
            tree.cumulativeTotal,
            seed,
            ""
        );
    }

    function activate(uint256 which) external {
        if (_trees.length == 0) return;
        Tree storage tree = _trees[which % _trees.length];
        uint256 vaultBefore = token.balanceOf(address(vault));
        bytes4 refusal = _refusalOfActivation(tree, vaultBefore);
        try claims.activate(tree.id) {
            vm.assertEq(bytes32(0), refusal, "a root was activated that should be refused");
            _bookActivation(tree, which % _trees.length);
            (uint256 floor, uint256 cap) = vault.limits(address(token));
            vm.assertEq(token.balanceOf(address(vault)), vaultBefore - tree.total, "vault");
            vm.assertGe(token.balanceOf(address(vault)), floor, "vault against its floor");
            if (tree.total != 0) vm.assertLe(released[vault.currentEpoch()], cap, "releases against the cap");
        } catch (bytes memory reason) {
            vm.assertEq(bytes4(reason), refusal, "error of a refused activation");
            vm.assertEq(token.balanceOf(address(vault)), vaultBefore, "vault after a refusal");
        }
    }

    /// @dev An actor's claim against any tree that ever was, by itself or by another.
    function claim(uint256 which, uint256 who, uint256 by, uint256 nested) external {
        if (_trees.length == 0) return;
        Tree storage tree = _trees[which % _trees.length];
        (uint256 i, address caller) = (who % ACTORS, actor(by % ACTORS));
        (address account, uint256 leaf) = (actor(i), tree.leaves[i]);
        address to = _recipient[account] == address(0) ? account : _recipient[account];
        bytes32[] memory proof = _proof(tree, i);
        token.reenterWith(address(claims), _claimCall(_trees[nested % _trees.length], nested % ACTORS));
        (uint256 balance, bytes4 refusal) = (token.balanceOf(to), _refusalOfClaim(tree, i, caller));
        bool pays = token.pays(to);
        vm.prank(caller);
        // Limited, for a token that burns all of it.
        try claims.claim{gas: 2_000_000}(account, address(token), leaf, proof) {
            vm.assertEq(bytes32(0), refusal, "a claim was paid that should be refused");
            vm.assertTrue(pays, "a claim was booked though the transfer failed");
            vm.assertEq(token.balanceOf(to), balance + leaf - claimed[account], "balance of the recipient");
            totalClaimed += leaf - claimed[account];
            claimed[account] = leaf;
            claimsPaid += 1;
        } catch (bytes memory reason) {
            if (refusal != 0) vm.assertEq(bytes4(reason), refusal, "error of a refused claim");
            else vm.assertFalse(pays, "not paid though it should be");
        }
        vm.assertEq(claims.claimed(address(token), account), claimed[account], "claimed");
    }

    function setClaimPolicy(uint256 who, bool onlySelf, uint256 to) external {
        address account = actor(who % ACTORS);
        (_onlySelf[account], _recipient[account]) = (onlySelf, to % 3 == 0 ? actor(to % ACTORS) : address(0));
        vm.prank(account);
        claims.setClaimPolicy(address(token), onlySelf, _recipient[account]);
    }

    /// @dev Rarer than the rest, as are veto and pause, so that much happens between them.
    function disableRoot(uint256 chance) external {
        if (chance % 4 != 0) return;
        bool active = _newest != 0 && _trees[_newest - 1].until != 0;
        try claims.disableRoot(address(token)) {
            vm.assertTrue(active, "disabled nothing");
            for (uint256 i = 0; i < _trees.length; ++i) {
                _trees[i].until = 0;
            }
        } catch (bytes memory reason) {
            vm.assertFalse(active, "not disabled");
            vm.assertEq(bytes4(reason), IClaims.NoActiveRoot.selector, "error");
        }
    }

    function veto(uint256 which, uint256 chance) external {
        if (_trees.length == 0 || chance % 4 != 0) return;
        Tree storage tree = _trees[which % _trees.length];
        try claims.veto(tree.id) {
            vm.assertFalse(tree.vetoed || tree.activated, "vetoed though it should not be");
            tree.vetoed = true;
        } catch {
            vm.assertTrue(tree.vetoed || tree.activated, "not vetoed though it should be");
        }
    }

    function misbehave(uint256 who, uint256 behaviour) external {
        token.behave(actor(who % ACTORS), MisbehavingToken.Behaviour(behaviour % 8));
    }

    function pause(uint256 chance) external {
        if (!vault.paused() && chance % 4 == 0) vault.pause();
    }

    function unpause() external {
        if (vault.paused()) vault.unpause();
    }

    function setLimits(uint256 floor, uint256 cap) external {
        vault.setLimits(address(token), bound(floor, 0, 10 * AMOUNT_MAX), bound(cap, 0, 20 * AMOUNT_MAX));
    }

    function passTime(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, 1 days));
    }

    // ── What the invariants read ────────────────────────────────────────────────────────────────────────────────────
    function actor(uint256 i) public pure returns (address) {
        return address(uint160(0xA0000 + i));
    }

    function treeCount() external view returns (uint256) {
        return _trees.length;
    }

    /// @dev The most that a tree which was ever accepted gives to actor i.
    function highestLeaf(uint256 i) external view returns (uint256 highest) {
        for (uint256 j = 0; j < _trees.length; ++j) {
            if (_trees[j].activated && _trees[j].leaves[i] > highest) highest = _trees[j].leaves[i];
        }
    }

    function isClaimable(uint256 which) external view returns (bool onChain, bool expected) {
        Tree storage tree = _trees[which];
        return (claims.isClaimable(address(token), tree.root), _isActive(tree));
    }

    // ── How each call is judged ─────────────────────────────────────────────────────────────────────────────────────
    function _refusalOfActivation(Tree storage tree, uint256 vaultBalance) private view returns (bytes4) {
        if (vault.paused()) return IProposalGate.VaultPaused.selector;
        if (tree.vetoed) return IProposalGate.ProposalVetoed.selector;
        if (tree.activated) return IClaims.AlreadyActivated.selector;
        if (tree.cumulativeTotal != accepted + tree.total) return IClaims.CumulativeTotalMismatch.selector;
        if (_newest != 0) {
            Tree storage last = _trees[_newest - 1];
            if (last.until != 0 && last.from > block.timestamp) return IClaims.ActivationPending.selector;
        }
        (uint256 floor, uint256 cap) = vault.limits(address(token));
        uint256 spent = released[vault.currentEpoch()];
        if (tree.total > (cap > spent ? cap - spent : 0)) return ISurplusVault.CapExceeded.selector;
        if (tree.total > vaultBalance) return IERC20Errors.ERC20InsufficientBalance.selector;
        return vaultBalance - tree.total < floor ? ISurplusVault.FloorBreached.selector : bytes4(0);
    }

    function _bookActivation(Tree storage tree, uint256 index) private {
        tree.activated = true;
        (tree.from, tree.until) = (block.timestamp + ACTIVATION_DELAY, type(uint256).max);
        if (_newest != 0 && _trees[_newest - 1].until != 0) _trees[_newest - 1].until = tree.from;
        _newest = index + 1;
        accepted += tree.total;
        released[vault.currentEpoch()] += tree.total;
    }

    function _refusalOfClaim(Tree storage tree, uint256 i, address caller) private view returns (bytes4) {
        address account = actor(i);
        if (vault.paused()) return IProposalGate.VaultPaused.selector;
        if (_onlySelf[account] && caller != account) return IClaims.OnlySelf.selector;
        if (tree.leaves[i] <= claimed[account]) return IClaims.NothingToClaim.selector;
        if (!_isActive(tree)) return IClaims.RootNotActive.selector;
        bool fits = totalClaimed + tree.leaves[i] - claimed[account] <= accepted;
        return fits ? bytes4(0) : IClaims.ClaimExceedsUnclaimed.selector;
    }

    function _isActive(Tree storage tree) private view returns (bool) {
        return tree.until != 0 && tree.from <= block.timestamp && block.timestamp < tree.until;
    }

    function _claimCall(Tree storage tree, uint256 i) private view returns (bytes memory) {
        return abi.encodeCall(claims.claim, (actor(i), address(token), tree.leaves[i], _proof(tree, i)));
    }

    function _proof(Tree storage tree, uint256 i) private view returns (bytes32[] memory) {
        return MerkleTree.proofOf(_nodes(tree), _leaf(tree, i));
    }

    function _nodes(Tree storage tree) private view returns (bytes32[] memory) {
        bytes32[] memory leaves = new bytes32[](ACTORS);
        for (uint256 i = 0; i < ACTORS; ++i) {
            leaves[i] = _leaf(tree, i);
        }
        return MerkleTree.build(leaves);
    }

    function _leaf(Tree storage tree, uint256 i) private view returns (bytes32) {
        return MerkleTree.leafOf(address(claims), actor(i), address(token), tree.leaves[i]);
    }
}
