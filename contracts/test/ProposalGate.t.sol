// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IDistributor} from "../src/interfaces/IDistributor.sol";
import {IProposalGate} from "../src/interfaces/IProposalGate.sol";
import {DistributorFixture} from "./DistributorFixture.sol";

/// @dev The gate in front of a distributor, without an auto-limit unless a test sets one.
contract ProposalGateTest is DistributorFixture {
    address private constant APPROVER = address(0xA99);
    address private constant GUARDIAN = address(0x60A);
    address private constant STRANGER = address(0xBAD);
    uint64 private constant NEVER = type(uint64).max;

    function setUp() public override {
        super.setUp();
        distributor.grantRole(distributor.APPROVER_ROLE(), APPROVER);
        distributor.grantRole(distributor.GUARDIAN_ROLE(), GUARDIAN);
        distributor.setAutoLimit(address(token), 0);
    }

    // ── The way through ─────────────────────────────────────────────────────────────────────────────────────────────
    function test_gate__proposed__waits_for_approval_however_long() public {
        bytes32 id = propose(planOf(3));
        _assertGate(id, IProposalGate.State.Proposed, _now() + DELAY, 0);
        _assertRefused(id, abi.encodeWithSelector(IProposalGate.NotApproved.selector, id));
        vm.warp(block.timestamp + 1_000 days);
        _assertRefused(id, abi.encodeWithSelector(IProposalGate.NotApproved.selector, id));
    }

    function test_gate__approved__opens_at_the_end_of_the_delay_and_shuts_at_the_end_of_the_approval() public {
        bytes32 id = propose(planOf(3));
        uint64 start = _now();
        vm.expectEmit(address(distributor));
        emit IProposalGate.Approved(id, APPROVER, _content(id), start + DELAY, start + LIFETIME);
        _approve(id);
        _assertGate(id, IProposalGate.State.Approved, start + DELAY, start + LIFETIME);

        vm.warp(start + DELAY - 1);
        _assertRefused(id, abi.encodeWithSelector(IProposalGate.NotReady.selector, id, start + DELAY));
        vm.warp(start + LIFETIME);
        _assertRefused(id, abi.encodeWithSelector(IProposalGate.ApprovalExpired.selector, id, start + LIFETIME));
        vm.warp(start + LIFETIME - 1);
        execute(planOf(3), id, 0);
        _assertGate(id, IProposalGate.State.Done, start + DELAY, start + LIFETIME);
    }

    function test_gate__ready__in_the_very_second() public {
        bytes32 id = propose(planOf(3));
        _approve(id);
        vm.warp(block.timestamp + DELAY);
        execute(planOf(3), id, 0);
    }

    function test_approve__expired__renewed() public {
        bytes32 id = propose(planOf(3));
        _approve(id);
        vm.warp(block.timestamp + LIFETIME);
        _approve(id);
        execute(planOf(3), id, 0);
    }

    // ── Who may approve what ────────────────────────────────────────────────────────────────────────────────────────
    function test_approve__other_content__refused() public {
        bytes32 id = propose(planOf(3));
        bytes32 content = _content(id);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ContentMismatch.selector, id, content, bytes32("other")));
        vm.prank(APPROVER);
        distributor.approve(id, "other");
    }

    function test_approve__nothing_proposed__refused() public {
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.NotProposed.selector, bytes32("none")));
        vm.prank(APPROVER);
        distributor.approve("none", 0);
    }

    function test_approve__who_may_propose__refused() public {
        bytes32 id = propose(planOf(3));
        bytes32 content = _content(id);
        distributor.grantRole(distributor.PROPOSER_ROLE(), APPROVER);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ApproverIsProposer.selector, APPROVER));
        vm.prank(APPROVER);
        distributor.approve(id, content);
    }

    function test_approve__stranger__refused() public {
        bytes32 id = propose(planOf(3));
        bytes32 content = _content(id);
        _expectUnauthorized(STRANGER, distributor.APPROVER_ROLE());
        distributor.approve(id, content);
    }

    function test_approve__everything_executed__refused() public {
        bytes32 id = _done();
        bytes32 content = _content(id);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ProposalDone.selector, id));
        vm.prank(APPROVER);
        distributor.approve(id, content);
    }

    // ── veto ────────────────────────────────────────────────────────────────────────────────────────────────────────
    function test_veto__at_each_state__for_ever() public {
        bytes32 proposed = propose(planOf(3));
        _assertVetoed(proposed);
        bytes32 approved = _proposeFor(START + 1);
        _approve(approved);
        vm.warp(block.timestamp + DELAY);
        _assertVetoed(approved);
        distributor.setAutoLimit(address(token), FUNDS);
        _assertVetoed(_proposeFor(START + 2));
    }

    function test_veto__before_the_proposal__it_can_never_be_made() public {
        bytes32 id = distributor.distributionId(RULE, START, END, address(token));
        _veto(id);
        _assertGate(id, IProposalGate.State.Vetoed, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ProposalVetoed.selector, id));
        this.proposePlan(planOf(3));
    }

    function test_veto__half_executed__the_other_half_stays() public {
        Plan memory plan = emptyPlan(2);
        Plan memory one = planOf(2);
        addBatch(plan, 0, one.recipients[0], one.amounts[0]);
        addBatch(plan, 1, one.recipients[0], one.amounts[0]);
        bytes32 id = propose(plan);
        _approve(id);
        vm.warp(block.timestamp + DELAY);
        execute(plan, id, 1);
        _veto(id);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ProposalVetoed.selector, id));
        this.executePlan(plan, id, 0);
        vm.assertEq(token.balanceOf(recipientAt(1)), 2, "paid by the executed half alone");
    }

    function test_veto__done_or_vetoed__refused() public {
        bytes32 id = _done();
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ProposalDone.selector, id));
        vm.prank(GUARDIAN);
        distributor.veto(id);
        _veto("other");
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.ProposalVetoed.selector, bytes32("other")));
        vm.prank(GUARDIAN);
        distributor.veto("other");
    }

    function test_veto__stranger__refused() public {
        _expectUnauthorized(STRANGER, distributor.GUARDIAN_ROLE());
        distributor.veto("any");
    }

    // ── auto-limit ──────────────────────────────────────────────────────────────────────────────────────────────────
    function test_auto_limit__fits__approved_at_once_for_ever() public {
        distributor.setAutoLimit(address(token), 6);
        bytes32 id = distributor.distributionId(RULE, START, END, address(token));
        Plan memory plan = planOf(3);
        bytes32 content = keccak256(abi.encode(plan.total, plan.recipientCount, hashesOf(plan, id), ARTIFACT));
        vm.expectEmit(address(distributor));
        emit IProposalGate.Approved(id, address(0), content, _now(), NEVER);
        propose(plan);
        _assertGate(id, IProposalGate.State.Approved, _now(), NEVER);
        vm.warp(block.timestamp + 10_000 days);
        execute(plan, id, 0);
    }

    function test_auto_limit__one_atom_more__waits() public {
        distributor.setAutoLimit(address(token), 5);
        bytes32 id = propose(planOf(3));
        _assertGate(id, IProposalGate.State.Proposed, _now() + DELAY, 0);
        vm.assertEq(distributor.autoSpent(address(token), vault.currentEpoch()), 0, "spent");
    }

    function test_auto_limit__many_small_ones__pass_no_more_than_one_large() public {
        distributor.setAutoLimit(address(token), 13);
        _assertAuto(_proposeFor(START + 1), true);
        _assertAuto(_proposeFor(START + 2), true);
        _assertAuto(_proposeFor(START + 3), false);
        vm.assertEq(distributor.autoSpent(address(token), vault.currentEpoch()), 12, "spent");
        vm.warp(block.timestamp + 1 days);
        _assertAuto(_proposeFor(START + 4), true);
    }

    function test_auto_limit__lowered_below_what_was_spent__nothing_passes() public {
        distributor.setAutoLimit(address(token), 12);
        _assertAuto(_proposeFor(START + 1), true);
        distributor.setAutoLimit(address(token), 5);
        _assertAuto(_proposeFor(START + 2), false);
    }

    function test_auto_limit__of_another_token__does_not_count() public {
        distributor.setAutoLimit(address(0x1234), FUNDS);
        _assertAuto(propose(planOf(3)), false);
    }

    function test_approve__passed_under_the_auto_limit__is_not_shortened() public {
        distributor.setAutoLimit(address(token), FUNDS);
        bytes32 id = propose(planOf(3));
        _approve(id);
        _assertGate(id, IProposalGate.State.Approved, _now(), NEVER);
    }

    function testFuzz_auto_limit__any_proposals__never_more_than_the_limit(uint256 limit, bytes32 seed) public {
        limit = bound(limit, 0, 60);
        distributor.setAutoLimit(address(token), limit);
        uint256 spent = 0;
        for (uint64 i = 0; i < 8; ++i) {
            uint256 count = pick(seed, i, 1, 6);
            bytes32 id = _proposeFor(START + i, count);
            (IProposalGate.State state,,) = distributor.gate(id);
            uint256 total = count * (count + 1) / 2;
            bool fits = spent + total <= limit;
            vm.assertTrue((state == IProposalGate.State.Approved) == fits, "approved where it fits");
            if (fits) spent += total;
        }
        vm.assertLe(spent, limit, "spent");
        vm.assertEq(distributor.autoSpent(address(token), vault.currentEpoch()), spent, "counted");
    }

    // ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────
    function test_settings__admin__set_and_emitted() public {
        vm.expectEmit(address(distributor));
        emit IProposalGate.DelaySet(7);
        distributor.setDelay(7);
        vm.expectEmit(address(distributor));
        emit IProposalGate.ApprovalLifetimeSet(8);
        distributor.setApprovalLifetime(8);
        vm.expectEmit(address(distributor));
        emit IProposalGate.AutoLimitSet(address(token), 9);
        distributor.setAutoLimit(address(token), 9);
        vm.assertEq(distributor.delay(), 7, "delay");
        vm.assertEq(distributor.approvalLifetime(), 8, "lifetime");
        vm.assertEq(distributor.autoLimit(address(token)), 9, "limit");
    }

    function test_settings__others__refused() public {
        bytes32 admin = distributor.DEFAULT_ADMIN_ROLE();
        _expectUnauthorized(GUARDIAN, admin);
        distributor.setDelay(0);
        _expectUnauthorized(APPROVER, admin);
        distributor.setApprovalLifetime(1);
        _expectUnauthorized(STRANGER, admin);
        distributor.setAutoLimit(address(token), 1);
    }

    function test_set_delay__proposed_before__keeps_its_own() public {
        bytes32 id = propose(planOf(3));
        distributor.setDelay(0);
        _assertGate(id, IProposalGate.State.Proposed, _now() + DELAY, 0);
    }

    function test_pause__vault_paused__approval_and_veto_still_work() public {
        bytes32 id = propose(planOf(3));
        vault.pause();
        _approve(id);
        vm.warp(block.timestamp + DELAY);
        _assertRefused(id, abi.encodeWithSelector(IProposalGate.VaultPaused.selector, address(vault)));
        _veto(id);
    }

    // ── What the tests call from outside, so that a revert anywhere inside is the one that is expected ──────────────
    function proposePlan(Plan memory plan) external {
        propose(plan);
    }

    function executePlan(Plan memory plan, bytes32 id, uint32 index) external {
        execute(plan, id, index);
    }

    function _done() private returns (bytes32 id) {
        id = propose(planOf(3));
        _approve(id);
        vm.warp(block.timestamp + DELAY);
        execute(planOf(3), id, 0);
    }

    /// @dev 1 + 2 + 3 atoms for another epoch.
    function _proposeFor(uint64 epochStart) private returns (bytes32 id) {
        return _proposeFor(epochStart, 3);
    }

    function _proposeFor(uint64 epochStart, uint256 count) private returns (bytes32 id) {
        Plan memory plan = planOf(count);
        id = distributor.distributionId(RULE, epochStart, END, address(token));
        bytes32[] memory hashes = hashesOf(plan, id);
        distributor.propose(RULE, epochStart, END, address(token), plan.total, uint32(count), hashes, ARTIFACT, URI);
    }

    function _approve(bytes32 id) private {
        bytes32 content = _content(id);
        vm.prank(APPROVER);
        distributor.approve(id, content);
    }

    function _veto(bytes32 id) private {
        vm.expectEmit(address(distributor));
        emit IProposalGate.Vetoed(id, GUARDIAN);
        vm.prank(GUARDIAN);
        distributor.veto(id);
    }

    function _content(bytes32 id) private view returns (bytes32 content) {
        (content,,,,) = distributor.proposal(id);
    }

    function _now() private view returns (uint64) {
        return uint64(block.timestamp);
    }

    function _assertVetoed(bytes32 id) private {
        _veto(id);
        (IProposalGate.State state,,) = distributor.gate(id);
        vm.assertTrue(state == IProposalGate.State.Vetoed, "vetoed");
        bytes memory refusal = abi.encodeWithSelector(IProposalGate.ProposalVetoed.selector, id);
        _assertRefused(id, refusal);
        bytes32 content = _content(id);
        vm.expectRevert(refusal);
        vm.prank(APPROVER);
        distributor.approve(id, content);
    }

    function _assertRefused(bytes32 id, bytes memory refusal) private {
        vm.expectRevert(refusal);
        this.executePlan(planOf(3), id, 0);
    }

    function _assertAuto(bytes32 id, bool passed) private view {
        (IProposalGate.State state,,) = distributor.gate(id);
        vm.assertTrue((state == IProposalGate.State.Approved) == passed, "passed under the auto-limit");
    }

    function _assertGate(bytes32 id, IProposalGate.State state, uint64 readyAt, uint64 expiresAt) private view {
        (IProposalGate.State actual, uint64 ready, uint64 expires) = distributor.gate(id);
        vm.assertEq(uint256(actual), uint256(state), "state");
        vm.assertEq(ready, readyAt, "readyAt");
        vm.assertEq(expires, expiresAt, "expiresAt");
    }

    function _expectUnauthorized(address account, bytes32 role) private {
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, account, role));
        vm.prank(account);
    }
}
