// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IClaims} from "../src/interfaces/IClaims.sol";
import {IProposalGate} from "../src/interfaces/IProposalGate.sol";
import {ISurplusVault} from "../src/interfaces/ISurplusVault.sol";
import {ClaimsFixture} from "./ClaimsFixture.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {FeeToken} from "./tokens/FeeToken.sol";
import {MisbehavingToken} from "./tokens/MisbehavingToken.sol";

contract ClaimsTest is ClaimsFixture {
    address private constant STRANGER = address(0xBAD);

    // ── proposeRoot ─────────────────────────────────────────────────────────────────────────────────────────────────
    function test_propose_root__valid__bound_and_emitted() public {
        Tree memory tree = treeOf(3, 1);
        bytes32 root = tree.nodes[0];
        bytes32 id = claims.distributionId(RULE, 1, 2, address(token));
        bytes32 content = keccak256(abi.encode(uint256(6), uint32(3), root, uint256(6), ARTIFACT));
        vm.expectEmit(address(claims));
        emit IClaims.RootProposed(id, RULE, address(token), 1, 2, 6, 3, 6, content, root, ARTIFACT, URI);
        vm.assertEq(propose(tree), id, "id");
        (bytes32 bound, address paidIn, uint256 total, uint256 sum, bytes32 boundRoot, uint32 count, bool activated) =
            claims.proposal(id);
        vm.assertEq(bound, content, "content");
        vm.assertEq(paidIn, address(token), "token");
        vm.assertEq(total, 6, "total");
        vm.assertEq(sum, 6, "sum");
        vm.assertEq(boundRoot, root, "root");
        vm.assertEq(count, 3, "accounts");
        vm.assertFalse(activated, "activated");
    }

    function test_propose_root__same_id_again__reverts_whatever_the_content() public {
        bytes32 id = propose(treeOf(3, 1));
        claims.activate(id);
        nextEpoch = 1;
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.AlreadyProposed.selector, id));
        this.proposeTree(treeOf(4, 1));
    }

    function test_propose_root__no_root_or_one_leaf__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IClaims.InvalidTree.selector, bytes32(0), 2));
        claims.proposeRoot(RULE, 1, 2, address(token), 1, 2, 0, 1, ARTIFACT, URI);
        vm.expectRevert(abi.encodeWithSelector(IClaims.InvalidTree.selector, bytes32("root"), 1));
        claims.proposeRoot(RULE, 1, 2, address(token), 1, 1, "root", 1, ARTIFACT, URI);
    }

    function test_propose_root__epoch_ends_before_it_starts__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.InvalidEpoch.selector, 2, 2));
        claims.proposeRoot(RULE, 2, 2, address(token), 1, 2, "root", 1, ARTIFACT, URI);
    }

    function test_propose_root__less_than_accepted_and_total__reverts() public {
        accept(treeOf(3, 1));
        bytes32 id = claims.distributionId(RULE, nextEpoch, nextEpoch + 1, address(token));
        vm.expectRevert(abi.encodeWithSelector(IClaims.CumulativeTotalMismatch.selector, id, 10, 9));
        claims.proposeRoot(RULE, nextEpoch, nextEpoch + 1, address(token), 4, 2, "root", 9, ARTIFACT, URI);
    }

    function test_propose_root__stranger__reverts() public {
        _expectUnauthorized(claims.PROPOSER_ROLE());
        claims.proposeRoot(RULE, 1, 2, address(token), 1, 2, "root", 1, ARTIFACT, URI);
    }

    // ── The gate ────────────────────────────────────────────────────────────────────────────────────────────────────
    /// @dev Under a limit that covers the addition alone, a wrong tree could give away what others have not claimed.
    function test_auto_limit__covers_the_addition_but_not_what_is_unclaimed__waits() public {
        accept(treeOf(3, 100));
        claims.setAutoLimit(address(token), 606);
        vm.warp(block.timestamp + 1 days);
        bytes32 id = propose(treeOf(3, 101));
        _assertApproved(id, true);
        vm.warp(block.timestamp + 1 days);
        claims.setAutoLimit(address(token), 605);
        id = propose(treeOf(3, 101));
        _assertApproved(id, false);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.NotApproved.selector, id));
        claims.activate(id);
    }

    function test_auto_limit__after_claims__counts_what_is_left() public {
        Tree memory tree = treeOf(3, 100);
        accept(tree);
        claim(tree, 2);
        claims.setAutoLimit(address(token), 306);
        vm.warp(block.timestamp + 1 days);
        _assertApproved(propose(treeOf(3, 101)), true);
    }

    function test_auto_limit__root_on_top_of_one_that_still_waits__counts_both() public {
        claims.setAutoLimit(address(token), 11);
        _assertApproved(propose(treeOf(3, 1), 6, 6), true);
        vm.warp(block.timestamp + 1 days);
        _assertApproved(propose(treeOf(3, 2), 6, 12), false);
    }

    function test_veto__proposed__never_activated() public {
        bytes32 id = propose(treeOf(3, 1));
        claims.veto(id);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ProposalVetoed.selector, id));
        claims.activate(id);
    }

    function test_veto__activated__too_late() public {
        bytes32 id = accept(treeOf(3, 1));
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ProposalDone.selector, id));
        claims.veto(id);
    }

    function test_gate__over_the_auto_limit__approved_then_ready() public {
        claims.setAutoLimit(address(token), 0);
        address approver = address(0xA99);
        claims.grantRole(claims.APPROVER_ROLE(), approver);
        bytes32 id = propose(treeOf(3, 1));
        (bytes32 content,,,,,,) = claims.proposal(id);
        vm.prank(approver);
        claims.approve(id, content);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.NotReady.selector, id, uint64(block.timestamp) + DELAY));
        claims.activate(id);
        vm.warp(block.timestamp + DELAY);
        claims.activate(id);
        (IProposalGate.State state,,) = claims.gate(id);
        vm.assertTrue(state == IProposalGate.State.Done, "done");
    }

    // ── activate ────────────────────────────────────────────────────────────────────────────────────────────────────
    function test_activate__valid__takes_the_total_and_accepts_the_root() public {
        Tree memory tree = treeOf(3, 1);
        bytes32 id = propose(tree);
        uint64 claimableAt = uint64(block.timestamp) + ACTIVATION_DELAY;
        vm.expectEmit(address(claims));
        emit IClaims.RootActivated(id, address(token), tree.nodes[0], 6, 6, claimableAt);
        claims.activate(id);
        vm.assertEq(token.balanceOf(address(claims)), 6, "balance");
        (bytes32 root, uint64 from, bool disabled, uint256 sum, uint256 unclaimed) = claims.latestRoot(address(token));
        vm.assertEq(root, tree.nodes[0], "root");
        vm.assertEq(from, claimableAt, "from");
        vm.assertFalse(disabled, "disabled");
        vm.assertEq(sum, 6, "sum");
        vm.assertEq(unclaimed, 6, "unclaimed");
    }

    function test_activate__again__reverts() public {
        bytes32 id = accept(treeOf(3, 1));
        vm.expectRevert(abi.encodeWithSelector(IClaims.AlreadyActivated.selector, id));
        claims.activate(id);
    }

    function test_activate__nothing_proposed__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.NotProposed.selector, bytes32("none")));
        claims.activate("none");
    }

    function test_activate__stranger__reverts() public {
        bytes32 id = propose(treeOf(3, 1));
        _expectUnauthorized(claims.PROPOSER_ROLE());
        claims.activate(id);
    }

    /// @dev Two roots on the same base: the second would forget what the first gave.
    function test_activate__base_has_moved__reverts() public {
        bytes32 first = propose(treeOf(3, 1));
        bytes32 second = propose(treeOf(2, 2));
        claims.activate(first);
        vm.warp(block.timestamp + ACTIVATION_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IClaims.CumulativeTotalMismatch.selector, second, 12, 6));
        claims.activate(second);
    }

    function test_activate__root_before_not_claimable_yet__reverts() public {
        claims.activate(propose(treeOf(3, 1)));
        uint64 claimableAt = uint64(block.timestamp) + ACTIVATION_DELAY;
        bytes32 second = propose(treeOf(3, 2));
        vm.warp(claimableAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IClaims.ActivationPending.selector, address(token), claimableAt));
        claims.activate(second);
        vm.warp(claimableAt);
        claims.activate(second);
    }

    function test_activate__vault_refuses__nothing_changes_and_it_can_be_done_later() public {
        bytes32 id = propose(treeOf(3, 1));
        vault.setLimits(address(token), 0, 5);
        vm.expectPartialRevert(ISurplusVault.CapExceeded.selector);
        claims.activate(id);
        vault.setLimits(address(token), FUNDS - 5, FUNDS);
        vm.expectPartialRevert(ISurplusVault.FloorBreached.selector);
        claims.activate(id);
        vault.setLimits(address(token), 0, FUNDS);
        claims.activate(id);
    }

    function test_activate__less_arrives_than_is_promised__reverts() public {
        FeeToken fee = new FeeToken(false);
        fee.mint(address(vault), FUNDS);
        allow(address(fee));
        bytes32 id = propose(_treeIn(address(fee)), 600, 600);
        vm.expectRevert(abi.encodeWithSelector(IClaims.LiabilityUncovered.selector, address(fee), 600, 594));
        claims.activate(id);
    }

    function test_activate__more_than_160_bits__reverts() public {
        MisbehavingToken huge = new MisbehavingToken();
        huge.mint(address(vault), type(uint256).max);
        vault.setLimits(address(huge), 0, type(uint256).max);
        claims.setAutoLimit(address(huge), type(uint256).max);
        bytes32 id = propose(_treeIn(address(huge)), 2 ** 160, 2 ** 160);
        vm.expectRevert();
        claims.activate(id);
    }

    /// @dev Each tree adds less, but an account's sum over all of them must have room beside its policy.
    function test_activate__all_trees_together_more_than_160_bits__reverts() public {
        MisbehavingToken huge = new MisbehavingToken();
        huge.mint(address(vault), type(uint256).max);
        vault.setLimits(address(huge), 0, type(uint256).max);
        claims.setAutoLimit(address(huge), type(uint256).max);
        (address[] memory accounts, uint256[] memory cumulatives) = (new address[](2), new uint256[](2));
        (accounts[0], accounts[1]) = (accountAt(0), accountAt(1));
        cumulatives[0] = 2 ** 160 - 1;
        Tree memory tree = treeOf(address(huge), accounts, cumulatives);
        accept(tree);
        claim(tree, 0);
        vm.assertEq(claims.claimed(address(huge), accounts[0]), 2 ** 160 - 1, "claimed");

        cumulatives[1] = 1;
        bytes32 id = propose(treeOf(address(huge), accounts, cumulatives));
        vm.expectPartialRevert(SafeCast.SafeCastOverflowedUintDowncast.selector);
        claims.activate(id);
    }

    // ── claim ───────────────────────────────────────────────────────────────────────────────────────────────────────
    function test_claim__valid__pays_the_account_whoever_calls() public {
        Tree memory tree = treeOf(5, 10);
        accept(tree);
        for (uint256 i = 0; i < 5; ++i) {
            vm.expectEmit(address(claims));
            emit IClaims.Claimed(address(token), accountAt(i), accountAt(i), (i + 1) * 10, (i + 1) * 10);
            claim(tree, i);
            vm.assertEq(token.balanceOf(accountAt(i)), (i + 1) * 10, "account");
        }
        vm.assertEq(unclaimedOf(address(token)), 0, "unclaimed");
        vm.assertEq(token.balanceOf(address(claims)), 0, "balance");
    }

    function test_claim__again__nothing_left() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        claim(tree, 1);
        vm.expectRevert(abi.encodeWithSelector(IClaims.NothingToClaim.selector, address(token), accountAt(1)));
        this.claimFrom(tree, 1);
    }

    function test_claim__next_tree__pays_the_difference() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        claim(tree, 0);
        tree = treeOf(3, 25);
        accept(tree);
        claim(tree, 0);
        claim(tree, 1);
        vm.assertEq(token.balanceOf(accountAt(0)), 25, "claimed twice");
        vm.assertEq(token.balanceOf(accountAt(1)), 50, "claimed once");
        vm.assertEq(claims.claimed(address(token), accountAt(1)), 50, "claimed");
        vm.assertEq(unclaimedOf(address(token)), 75, "unclaimed");
    }

    function test_claim__lower_in_the_next_tree__pays_nothing_and_forgets_nothing() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        claim(tree, 2);
        address[] memory accounts = tree.accounts;
        uint256[] memory cumulatives = new uint256[](3);
        (cumulatives[0], cumulatives[1], cumulatives[2]) = (40, 20, 29);
        tree = treeOf(address(token), accounts, cumulatives);
        accept(tree);
        vm.expectRevert(abi.encodeWithSelector(IClaims.NothingToClaim.selector, address(token), accountAt(2)));
        this.claimFrom(tree, 2);
        vm.assertEq(claims.claimed(address(token), accountAt(2)), 30, "claimed");
    }

    function test_claim__before_the_activation_delay__refused_and_the_last_root_goes_on() public {
        Tree memory first = treeOf(3, 10);
        accept(first);
        Tree memory second = treeOf(3, 20);
        claims.activate(propose(second));
        _expectInactive(second, 0);
        claim(first, 0);
        vm.assertEq(unclaimedOf(address(token)), 110, "counted against the newest");

        vm.warp(block.timestamp + ACTIVATION_DELAY - 1);
        claim(first, 1);
        _expectInactive(second, 1);
        vm.warp(block.timestamp + 1);
        _expectInactive(first, 2);
        claim(second, 0);
        claim(second, 1);
        claim(second, 2);
        vm.assertEq(token.balanceOf(accountAt(0)), 20, "both");
        vm.assertEq(token.balanceOf(address(claims)), 0, "balance");
    }

    function test_claim__not_in_the_tree__refused() public {
        Tree memory tree = treeOf(4, 10);
        accept(tree);
        bytes32[] memory proof = proofOf(tree, 1);
        vm.expectPartialRevert(IClaims.RootNotActive.selector);
        claims.claim(accountAt(1), address(token), 21, proof);
        vm.expectPartialRevert(IClaims.RootNotActive.selector);
        claims.claim(STRANGER, address(token), 20, proof);
        vm.expectPartialRevert(IClaims.RootNotActive.selector);
        claims.claim(accountAt(1), address(vault), 20, proof);
        proof[0] = "other";
        vm.expectPartialRevert(IClaims.RootNotActive.selector);
        claims.claim(accountAt(1), address(token), 20, proof);
    }

    function test_claim__empty_proof__refused() public {
        accept(treeOf(2, 10));
        vm.expectRevert(IClaims.EmptyProof.selector);
        claims.claim(accountAt(0), address(token), 10, new bytes32[](0));
    }

    function test_claim__leaf_of_another_chain_or_contract__refused() public {
        Tree memory tree = treeOf(4, 10);
        accept(tree);
        bytes32[] memory proof = proofOf(tree, 1);
        vm.chainId(5);
        vm.expectPartialRevert(IClaims.RootNotActive.selector);
        claims.claim(accountAt(1), address(token), 20, proof);
    }

    /// @dev A tree whose leaves are more than its total takes no more than its total.
    function test_claim__tree_gives_more_than_its_total__refused_where_it_ends() public {
        Tree memory tree = treeOf(3, 10);
        token.mint(address(claims), 1_000); // A gift, which the tree must not be able to take.
        claims.activate(propose(tree, 35, 35));
        vm.warp(block.timestamp + ACTIVATION_DELAY);
        claim(tree, 0);
        claim(tree, 1);
        vm.expectRevert(abi.encodeWithSelector(IClaims.ClaimExceedsUnclaimed.selector, address(token), 30, 5));
        this.claimFrom(tree, 2);
        vm.assertEq(token.balanceOf(address(claims)), 1_005, "balance");
    }

    function test_claim__token_charges_on_top__reverts_rather_than_spend_what_is_others() public {
        FeeToken fee = new FeeToken(true);
        fee.mint(address(vault), FUNDS);
        allow(address(fee));
        fee.enable(false);
        Tree memory tree = _treeIn(address(fee));
        accept(tree);
        fee.enable(true);
        vm.expectRevert(abi.encodeWithSelector(IClaims.LiabilityUncovered.selector, address(fee), 500, 499));
        this.claimFrom(tree, 0);
    }

    function test_claim__recipient_refused_by_the_token__waits_and_stops_nobody_else() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        token.behave(accountAt(1), MisbehavingToken.Behaviour.Reverts);
        vm.expectRevert(bytes("refused"));
        this.claimFrom(tree, 1);
        claim(tree, 0);
        vm.assertEq(claims.claimed(address(token), accountAt(1)), 0, "claimed");
        vm.prank(accountAt(1));
        claims.setClaimPolicy(address(token), false, STRANGER);
        claim(tree, 1);
        vm.assertEq(token.balanceOf(STRANGER), 20, "to another address");
    }

    function test_claim__token_reenters__refused_and_paid_once() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        token.behave(accountAt(1), MisbehavingToken.Behaviour.Reenters);
        bytes memory again = abi.encodeCall(claims.claim, (accountAt(2), address(token), 30, proofOf(tree, 2)));
        token.reenterWith(address(claims), again);
        claim(tree, 1);
        vm.assertEq(token.reentryError(), ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector, "error");
        vm.assertEq(token.balanceOf(accountAt(1)), 20, "paid");
        vm.assertEq(token.balanceOf(accountAt(2)), 0, "not paid");
    }

    // ── Claim policies ──────────────────────────────────────────────────────────────────────────────────────────────
    function test_claim_policy__only_self__others_refused() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        vm.expectEmit(address(claims));
        emit IClaims.ClaimPolicySet(address(token), accountAt(1), true, address(0));
        vm.prank(accountAt(1));
        claims.setClaimPolicy(address(token), true, address(0));
        vm.expectRevert(abi.encodeWithSelector(IClaims.OnlySelf.selector, accountAt(1)));
        this.claimFrom(tree, 1);
        bytes32[] memory proof = proofOf(tree, 1);
        vm.prank(accountAt(1));
        claims.claim(accountAt(1), address(token), 20, proof);
        vm.assertEq(token.balanceOf(accountAt(1)), 20, "paid");
    }

    function test_claim_policy__recipient__paid_there_whoever_calls() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        vm.prank(accountAt(1));
        claims.setClaimPolicy(address(token), false, STRANGER);
        vm.expectEmit(address(claims));
        emit IClaims.Claimed(address(token), accountAt(1), STRANGER, 20, 20);
        claim(tree, 1);
        vm.assertEq(token.balanceOf(STRANGER), 20, "paid");
    }

    function test_claim_policy__claims_itself__refused() public {
        vm.expectRevert(abi.encodeWithSelector(IClaims.InvalidRecipient.selector, address(claims)));
        claims.setClaimPolicy(address(token), false, address(claims));
        Tree memory tree = treeOf(2, 10);
        tree.accounts[0] = address(claims);
        tree = treeOf(address(token), tree.accounts, tree.cumulatives);
        accept(tree);
        vm.expectRevert(abi.encodeWithSelector(IClaims.InvalidRecipient.selector, address(claims)));
        this.claimFrom(tree, 0);
    }

    function test_claim_policy__of_one_token__says_nothing_about_another() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        vm.prank(accountAt(1));
        claims.setClaimPolicy(address(vault), true, STRANGER);
        claim(tree, 1);
        vm.assertEq(token.balanceOf(accountAt(1)), 20, "paid");
    }

    /// @dev They share a slot.
    function testFuzz_claim_policy__set_between_claims__neither_forgets_the_other(
        uint256 unit,
        bool[3] memory onlySelf,
        address[3] memory recipients
    ) public {
        unit = bound(unit, 1, FUNDS / 18);
        (address account, uint256 paid) = (accountAt(2), 0);
        for (uint256 round = 0; round < 3; ++round) {
            address recipient = recipients[round] == address(claims) ? address(0) : recipients[round];
            vm.prank(account);
            claims.setClaimPolicy(address(token), onlySelf[round], recipient);
            vm.assertEq(claims.claimed(address(token), account), paid, "claimed after the policy was set");

            Tree memory tree = treeOf(3, unit * (round + 1));
            accept(tree);
            (address to, uint256 more) = (recipient == address(0) ? account : recipient, tree.cumulatives[2] - paid);
            // After the tree was accepted: the recipient may be the vault.
            uint256 expected = token.balanceOf(to) + more;
            if (onlySelf[round]) {
                vm.expectRevert(abi.encodeWithSelector(IClaims.OnlySelf.selector, account));
                this.claimFrom(tree, 2);
            }
            bytes32[] memory proof = proofOf(tree, 2);
            vm.prank(account);
            claims.claim(account, address(token), tree.cumulatives[2], proof);
            paid += more;
            vm.assertEq(token.balanceOf(to), expected, "paid");
            vm.assertEq(claims.claimed(address(token), account), paid, "claimed");
            (bool onlySelf_, address recipient_) = claims.claimPolicy(address(token), account);
            vm.assertTrue(onlySelf_ == onlySelf[round], "only self");
            vm.assertEq(recipient_, recipient, "recipient");
        }
    }

    // ── disableRoot and pause ───────────────────────────────────────────────────────────────────────────────────────
    function test_disable_root__no_claims_until_the_next_root__funds_and_sums_stay() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        claim(tree, 0);
        vm.expectEmit(address(claims));
        emit IClaims.RootDisabled(address(token), tree.nodes[0], address(this));
        claims.disableRoot(address(token));
        _expectInactive(tree, 1);
        vm.assertEq(token.balanceOf(address(claims)), 50, "funds");
        vm.assertEq(unclaimedOf(address(token)), 50, "unclaimed");
        vm.expectRevert(abi.encodeWithSelector(IClaims.NoActiveRoot.selector, address(token)));
        claims.disableRoot(address(token));

        // The right tree in place of the wrong one: it adds nothing.
        address[] memory accounts = tree.accounts;
        uint256[] memory cumulatives = new uint256[](3);
        (cumulatives[0], cumulatives[1], cumulatives[2]) = (15, 15, 30);
        Tree memory right = treeOf(address(token), accounts, cumulatives);
        accept(right);
        _expectInactive(tree, 1);
        claim(right, 0);
        claim(right, 1);
        claim(right, 2);
        vm.assertEq(token.balanceOf(address(claims)), 0, "all claimed");
    }

    function test_disable_root__one_waits_and_one_goes_on__both_stop() public {
        Tree memory first = treeOf(3, 10);
        accept(first);
        Tree memory second = treeOf(3, 20);
        claims.activate(propose(second));
        claims.disableRoot(address(token));
        _expectInactive(first, 0);
        vm.warp(block.timestamp + ACTIVATION_DELAY);
        _expectInactive(first, 0);
        _expectInactive(second, 0);
        Tree memory third = treeOf(3, 21);
        accept(third);
        claim(third, 0);
        vm.assertEq(unclaimedOf(address(token)), 105, "unclaimed");
    }

    function test_disable_root__same_root_again__claimable_after_its_delay() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        claims.disableRoot(address(token));
        accept(tree);
        claim(tree, 2);
        vm.assertEq(unclaimedOf(address(token)), 30, "unclaimed");
    }

    function test_disable_root__stranger__reverts() public {
        _expectUnauthorized(claims.GUARDIAN_ROLE());
        claims.disableRoot(address(token));
    }

    function test_pause__vault_paused__stops_activation_and_claims() public {
        Tree memory tree = treeOf(3, 10);
        accept(tree);
        bytes32 id = propose(treeOf(3, 20));
        vault.pause();
        bytes memory refusal = abi.encodeWithSelector(IProposalGate.VaultPaused.selector, address(vault));
        vm.expectRevert(refusal);
        claims.activate(id);
        vm.expectRevert(refusal);
        this.claimFrom(tree, 0);
        claims.disableRoot(address(token));
        vault.unpause();
        claims.activate(id);
    }

    function test_set_activation_delay__admin__set_and_emitted_for_roots_to_come() public {
        vm.expectEmit(address(claims));
        emit IClaims.ActivationDelaySet(5);
        claims.setActivationDelay(5);
        claims.activate(propose(treeOf(3, 10)));
        (, uint64 from,,,) = claims.latestRoot(address(token));
        vm.assertEq(from, block.timestamp + 5, "from");
        _expectUnauthorized(claims.DEFAULT_ADMIN_ROLE());
        claims.setActivationDelay(0);
    }

    // ── Fuzz ────────────────────────────────────────────────────────────────────────────────────────────────────────
    function testFuzz_claim__any_trees_and_order__each_account_gets_its_last_sum(bytes32 seed) public {
        uint256 count = pick(seed, 0, 2, 9);
        (address[] memory accounts, uint256[] memory cumulatives) = (new address[](count), new uint256[](count));
        for (uint256 i = 0; i < count; ++i) {
            accounts[i] = accountAt(i);
        }
        Tree memory tree;
        for (uint256 round = 1; round <= 3; ++round) {
            for (uint256 i = 0; i < count; ++i) {
                cumulatives[i] += pick(seed, round * 100 + i, 0, 1_000);
            }
            tree = treeOf(address(token), accounts, cumulatives);
            accept(tree);
            for (uint256 i = 0; i < count; ++i) {
                bool claims_ = round == 3 || pick(seed, round * 200 + i, 0, 1) == 1;
                if (claims_ && cumulatives[i] > claims.claimed(address(token), accounts[i])) claim(tree, i);
            }
        }
        for (uint256 i = 0; i < count; ++i) {
            vm.assertEq(token.balanceOf(accounts[i]), cumulatives[i], "account");
        }
        vm.assertEq(token.balanceOf(address(claims)), 0, "balance");
        vm.assertEq(unclaimedOf(address(token)), 0, "unclaimed");
    }

    function testFuzz_claim__anything_but_the_leaf__refused(address account, uint256 cumulative, bytes32[] memory proof)
        public
    {
        accept(treeOf(5, 10));
        cumulative = cumulative == 0 ? 1 : cumulative;
        try claims.claim(account, address(token), cumulative, proof) {
            vm.assertTrue(false, "claimed");
        } catch (bytes memory reason) {
            bytes4 actual = bytes4(reason);
            bytes4 expected = proof.length == 0 ? IClaims.EmptyProof.selector : IClaims.RootNotActive.selector;
            if (account == address(claims)) expected = IClaims.InvalidRecipient.selector;
            vm.assertEq(actual, expected, "error");
        }
    }

    /// @dev Inner nodes are 64 bytes, leaves are hashed twice: no inner node passes for a leaf.
    function testFuzz_merkle_tree__any_size__each_leaf_has_a_proof(bytes32 seed) public pure {
        bytes32[] memory leaves = new bytes32[](pick(seed, 0, 2, 40));
        for (uint256 i = 0; i < leaves.length; ++i) {
            leaves[i] = keccak256(abi.encode(seed, i));
        }
        bytes32[] memory nodes = MerkleTree.build(leaves);
        for (uint256 i = 0; i < leaves.length; ++i) {
            bytes32[] memory proof = MerkleTree.proofOf(nodes, leaves[i]);
            bytes32 hash = leaves[i];
            for (uint256 j = 0; j < proof.length; ++j) {
                hash = MerkleTree.hashPair(hash, proof[j]);
            }
            vm.assertEq(hash, nodes[0], "root");
        }
    }

    // ── What the tests call from outside, so that a revert anywhere inside is the one that is expected ──────────────
    function proposeTree(Tree memory tree) external {
        propose(tree);
    }

    function claimFrom(Tree memory tree, uint256 i) external {
        claim(tree, i);
    }

    function _treeIn(address token_) private view returns (Tree memory tree) {
        tree = treeOf(3, 100);
        return treeOf(token_, tree.accounts, tree.cumulatives);
    }

    function _expectInactive(Tree memory tree, uint256 i) private {
        vm.assertFalse(claims.isClaimable(tree.token, tree.nodes[0]), "claimable");
        vm.expectRevert(abi.encodeWithSelector(IClaims.RootNotActive.selector, tree.token, tree.nodes[0]));
        this.claimFrom(tree, i);
    }

    function _assertApproved(bytes32 id, bool approved) private view {
        (IProposalGate.State state,,) = claims.gate(id);
        vm.assertTrue((state == IProposalGate.State.Approved) == approved, "approved");
    }

    function _expectUnauthorized(bytes32 role) private {
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, role)
        );
        vm.prank(STRANGER);
    }
}
