// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Claims} from "../../src/Claims.sol";
import {SurplusVault} from "../../src/SurplusVault.sol";
import {ForgeTest} from "../ForgeTest.sol";
import {MisbehavingToken} from "../tokens/MisbehavingToken.sol";
import {ClaimsHandler} from "./ClaimsHandler.sol";

/// @dev What holds after any sequence of calls. What must hold within one call is asserted by the handler.
contract ClaimsInvariants is ForgeTest {
    ClaimsHandler private handler;
    SurplusVault private vault;
    Claims private claims;
    MisbehavingToken private token;

    function setUp() public {
        vm.warp(1_000 days);
        handler = new ClaimsHandler();
        (vault, claims, token) = (handler.vault(), handler.claims(), handler.token());
        handler.fund(19_000);
    }

    /// @dev Read by forge: only the handler is called.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_claims__always__hold_what_is_unclaimed() public view {
        (,,, uint256 cumulativeTotal, uint256 unclaimed) = claims.latestRoot(address(token));
        vm.assertEq(cumulativeTotal, handler.accepted(), "accepted");
        vm.assertEq(unclaimed, handler.accepted() - handler.totalClaimed(), "unclaimed against the handler's books");
        vm.assertGe(token.balanceOf(address(claims)), unclaimed, "balance against what is unclaimed");
    }

    function invariant_claimed__always__at_most_the_leaf() public view {
        uint256 sum = 0;
        for (uint256 i = 0; i < handler.ACTORS(); ++i) {
            uint256 claimed = claims.claimed(address(token), handler.actor(i));
            vm.assertEq(claimed, handler.claimed(handler.actor(i)), "claimed");
            vm.assertLe(claimed, handler.highestLeaf(i), "claimed against the leaf");
            sum += claimed;
        }
        vm.assertEq(sum, handler.totalClaimed(), "sum of what was claimed");
    }

    function invariant_roots__always__claimable_in_their_windows_alone() public view {
        uint256 claimable = 0;
        for (uint256 i = 0; i < handler.treeCount(); ++i) {
            (bool onChain, bool expected) = handler.isClaimable(i);
            vm.assertTrue(onChain == expected, "claimable");
            if (onChain) claimable += 1;
        }
        vm.assertLe(claimable, 1, "roots that are claimable at once");
    }

    function invariant_vault__always__counts_what_it_released() public view {
        uint256 epoch = vault.currentEpoch();
        vm.assertEq(vault.spent(address(token), epoch), handler.released(epoch), "spent");
    }

    function invariant_tokens__always__are_all_somewhere() public view {
        uint256 sum = token.balanceOf(address(vault)) + token.balanceOf(address(claims));
        for (uint256 i = 0; i < handler.ACTORS(); ++i) {
            sum += token.balanceOf(handler.actor(i));
        }
        vm.assertEq(sum, token.totalSupply(), "supply");
    }

    /// @dev One fixed sequence through every action, so that the invariants cannot hold for lack of anything happening.
    function test_handler__each_action__takes_effect() public {
        handler.misbehave(1, uint256(MisbehavingToken.Behaviour.Reenters));
        handler.misbehave(2, uint256(MisbehavingToken.Behaviour.ReturnsBomb));
        handler.setClaimPolicy(3, true, 1);
        handler.setClaimPolicy(4, false, 3);
        for (uint256 round = 0; round < 3; ++round) {
            handler.propose(bytes32(round));
            handler.activate(round);
            handler.activate(round);
            _claimAll(round);
            handler.passTime(12 hours);
            handler.pause(0);
            _claimAll(round);
            handler.unpause();
            _claimAll(round);
        }
        vm.assertGe(handler.claimsPaid(), 3 * 3, "claims that were paid");
        vm.assertGe(token.reentries(), 1, "call backs");
        handler.propose("vetoed");
        handler.veto(3, 0);
        handler.activate(3);
        handler.disableRoot(0);
        _claimAll(2);
        handler.disableRoot(0);
    }

    function _claimAll(uint256 tree) private {
        for (uint256 i = 0; i < handler.ACTORS(); ++i) {
            handler.claim(tree, i, i + 1, i);
            handler.claim(tree, i, i, i);
        }
    }
}
