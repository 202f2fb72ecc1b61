// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Distributor} from "../src/Distributor.sol";
import {IDistributor} from "../src/interfaces/IDistributor.sol";
import {IProposalGate} from "../src/interfaces/IProposalGate.sol";
import {ISurplusVault} from "../src/interfaces/ISurplusVault.sol";
import {DistributorFixture} from "./DistributorFixture.sol";
import {FeeToken} from "./tokens/FeeToken.sol";
import {MisbehavingToken} from "./tokens/MisbehavingToken.sol";
import {NoReturnToken} from "./tokens/NoReturnToken.sol";

contract DistributorTest is DistributorFixture {
    address private constant STRANGER = address(0xBAD);

    // ── Constructor and ids ─────────────────────────────────────────────────────────────────────────────────────────
    function test_constructor__zero_admin_or_vault_without_code__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.InvalidAdmin.selector, address(0)));
        new Distributor(address(0), address(vault), DELAY, LIFETIME);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.InvalidVault.selector, STRANGER));
        new Distributor(address(this), STRANGER, DELAY, LIFETIME);
    }

    function test_distribution_id__other_chain_contract_or_argument__other_id() public {
        bytes32 id = distributor.distributionId(RULE, START, END, address(token));
        bytes memory preimage = abi.encode(block.chainid, address(distributor), RULE, START, END, address(token));
        vm.assertEq(id, keccak256(preimage), "formula");
        _assertOther(id, distributor.distributionId("other", START, END, address(token)));
        _assertOther(id, distributor.distributionId(RULE, START + 1, END, address(token)));
        _assertOther(id, distributor.distributionId(RULE, START, END + 1, address(token)));
        _assertOther(id, distributor.distributionId(RULE, START, END, STRANGER));
        Distributor other = new Distributor(address(this), address(vault), DELAY, LIFETIME);
        _assertOther(id, other.distributionId(RULE, START, END, address(token)));
        vm.chainId(5);
        _assertOther(id, distributor.distributionId(RULE, START, END, address(token)));
    }

    // ── propose ─────────────────────────────────────────────────────────────────────────────────────────────────────
    function test_propose__valid__bound_and_emitted() public {
        Plan memory plan = _twoBatches();
        bytes32 id = distributor.distributionId(RULE, START, END, address(token));
        bytes32[] memory hashes = hashesOf(plan, id);
        bytes32 content = keccak256(abi.encode(plan.total, plan.recipientCount, hashes, ARTIFACT));
        vm.expectEmit(address(distributor));
        emit IDistributor.Proposed(id, RULE, address(token), START, END, plan.total, 5, 2, content, ARTIFACT, URI);
        vm.assertEq(propose(plan), id, "id");

        (bytes32 contentHash, address paidIn, uint256 left, uint32 batches, uint32 done) = distributor.proposal(id);
        vm.assertEq(contentHash, content, "content");
        vm.assertEq(paidIn, address(token), "token");
        vm.assertEq(left, plan.total, "left");
        vm.assertEq(batches, 2, "batches");
        vm.assertEq(done, 0, "done");
        vm.assertFalse(distributor.executed(id, 0), "executed");
    }

    function test_propose__same_id_again__reverts_whatever_the_content() public {
        bytes32 id = propose(planOf(3));
        bytes memory refusal = abi.encodeWithSelector(IProposalGate.AlreadyProposed.selector, id);
        vm.expectRevert(refusal);
        this.proposePlan(planOf(3));
        vm.expectRevert(refusal);
        this.proposePlan(planOf(4));
        execute(planOf(3), id, 0);
        vm.expectRevert(refusal);
        this.proposePlan(planOf(3));
    }

    function test_propose__stranger__reverts() public {
        _expectUnauthorized();
        distributor.propose(RULE, START, END, address(token), 1, 1, new bytes32[](1), ARTIFACT, URI);
    }

    function test_propose__epoch_ends_before_it_starts__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.InvalidEpoch.selector, END, END));
        distributor.propose(RULE, END, END, address(token), 1, 1, new bytes32[](1), ARTIFACT, URI);
    }

    function test_propose__recipients_that_do_not_fit_batches__reverts() public {
        _expectInvalidCount(0, 0);
        _expectInvalidCount(1, 0);
        _expectInvalidCount(1, 2);
        _expectInvalidCount(251, 1);
        _expectInvalidCount(501, 2);
    }

    function test_propose__zero_batch_hash__reverts() public {
        bytes32[] memory hashes = new bytes32[](2);
        hashes[0] = "batch";
        vm.expectRevert(abi.encodeWithSelector(IDistributor.InvalidBatchHash.selector, 1));
        distributor.propose(RULE, START, END, address(token), 1, 2, hashes, ARTIFACT, URI);
    }

    // ── executeBatch: what is accepted ──────────────────────────────────────────────────────────────────────────────
    function test_execute_batch__valid__pays_each_and_emits() public {
        Plan memory plan = planOf(3);
        bytes32 id = propose(plan);
        vm.expectEmit(address(vault));
        emit ISurplusVault.Released(id, address(token), 6, vault.currentEpoch());
        vm.expectEmit(address(distributor));
        emit IDistributor.BatchExecuted(id, 0, address(token), 6, 0);
        execute(plan, id, 0);

        for (uint256 i = 0; i < 3; ++i) {
            vm.assertEq(token.balanceOf(recipientAt(i)), i + 1, "recipient");
        }
        vm.assertEq(token.balanceOf(address(vault)), FUNDS - 6, "vault");
        vm.assertEq(token.balanceOf(address(distributor)), 0, "distributor");
        vm.assertTrue(distributor.executed(id, 0), "executed");
        vm.assertFalse(distributor.executed(id, 1), "no such batch");
    }

    function test_execute_batch__again__reverts() public {
        Plan memory plan = _twoBatches();
        bytes32 id = propose(plan);
        execute(plan, id, 0);
        vm.expectRevert(abi.encodeWithSelector(IDistributor.AlreadyExecuted.selector, id, 0));
        this.executePlan(plan, id, 0);
        vm.assertEq(token.balanceOf(address(vault)), FUNDS - 6, "vault");
    }

    function test_execute_batch__any_order__all_paid() public {
        Plan memory plan = _twoBatches();
        bytes32 id = propose(plan);
        execute(plan, id, 1);
        execute(plan, id, 0);
        (,, uint256 left, uint32 batches, uint32 done) = distributor.proposal(id);
        vm.assertEq(left, 0, "left");
        vm.assertEq(done, batches, "done");
    }

    function test_execute_batch__stranger__reverts() public {
        Plan memory plan = planOf(1);
        bytes32 id = propose(plan);
        _expectUnauthorized();
        distributor.executeBatch(id, 0, plan.recipients[0], plan.amounts[0]);
    }

    function test_execute_batch__unknown__reverts() public {
        Plan memory plan = planOf(1);
        bytes32 id = propose(plan);
        vm.expectRevert(abi.encodeWithSelector(IProposalGate.NotProposed.selector, bytes32("none")));
        distributor.executeBatch("none", 0, plan.recipients[0], plan.amounts[0]);
        vm.expectRevert(abi.encodeWithSelector(IDistributor.UnknownBatch.selector, id, 1));
        distributor.executeBatch(id, 1, plan.recipients[0], plan.amounts[0]);
    }

    function test_execute_batch__other_content_than_proposed__reverts() public {
        bytes32 id = propose(_twoBatches());
        Plan memory plan = _twoBatches();
        plan.amounts[0][0] += 1;
        _expectRevertAt(plan, id, 0, IDistributor.BatchHashMismatch.selector);
        plan = _twoBatches();
        plan.recipients[0][2] = STRANGER;
        _expectRevertAt(plan, id, 0, IDistributor.BatchHashMismatch.selector);
        // The other batch of the same distribution under this index.
        (plan.recipients[0], plan.amounts[0]) = (plan.recipients[1], plan.amounts[1]);
        _expectRevertAt(plan, id, 0, IDistributor.BatchHashMismatch.selector);
    }

    function test_execute_batch__recipients_not_ascending__reverts() public {
        Plan memory plan = planOf(3);
        plan.recipients[0][1] = plan.recipients[0][0];
        _expectRevertAt(plan, propose(plan), 0, IDistributor.RecipientsNotAscending.selector);
        plan = _inOtherToken(planOf(3));
        (plan.recipients[0][1], plan.recipients[0][2]) = (plan.recipients[0][2], plan.recipients[0][1]);
        _expectRevertAt(plan, propose(plan), 0, IDistributor.RecipientsNotAscending.selector);
    }

    function test_execute_batch__zero_address__reverts() public {
        Plan memory plan = planOf(3);
        plan.recipients[0][0] = address(0);
        _expectRevertAt(plan, propose(plan), 0, IDistributor.RecipientsNotAscending.selector);
    }

    function test_execute_batch__distributor_itself__reverts() public {
        Plan memory plan = planOf(1);
        plan.recipients[0][0] = address(distributor);
        _expectRevertAt(plan, propose(plan), 0, IDistributor.InvalidRecipient.selector);
    }

    /// @dev Recipients are checked one by one while they are paid: what came before the wrong one must be undone.
    function testFuzz_execute_batch__one_recipient_out_of_place__pays_and_credits_nobody(bytes32 seed) public {
        Plan memory plan = planOf(12);
        address[] memory recipients = plan.recipients[0];
        (uint256 i, uint256 mistake) = (pick(seed, 12, 1, 11), pick(seed, 13, 0, 3));
        if (mistake == 0) recipients[i] = recipients[i - 1];
        else if (mistake == 1) recipients[i] = address(0);
        else if (mistake == 2) (recipients[i - 1], recipients[i]) = (recipients[i], recipients[i - 1]);
        else recipients[i] = address(distributor);
        bytes32 id = propose(plan);
        for (uint256 j = 0; j < 12; ++j) {
            token.behave(recipientAt(j), MisbehavingToken.Behaviour(pick(seed, j, 0, 7)));
        }
        _expectRevertAt(
            plan,
            id,
            0,
            mistake == 3 ? IDistributor.InvalidRecipient.selector : IDistributor.RecipientsNotAscending.selector
        );
        for (uint256 j = 0; j < 12; ++j) {
            vm.assertEq(token.balanceOf(recipientAt(j)), 0, "paid");
            vm.assertEq(distributor.owed(address(token), recipientAt(j)), 0, "credited");
        }
        vm.assertEq(distributor.totalOwed(address(token)), 0, "total owed");
        vm.assertEq(token.balanceOf(address(vault)), FUNDS, "vault");
        vm.assertFalse(distributor.executed(id, 0), "executed");
    }

    function test_execute_batch__amounts_whose_sum_overflows__reverts() public {
        Plan memory plan = planOf(3);
        (plan.amounts[0][0], plan.amounts[0][1]) = (type(uint256).max, 4); // 2²⁵⁶ − 1 + 4 + 3 wraps to 6.
        _expectRevertAt(plan, propose(plan), 0, 0x4e487b71); // Panic
        vm.assertEq(token.balanceOf(address(vault)), FUNDS, "vault");
    }

    function test_execute_batch__sizes_that_do_not_fit__reverts() public {
        Plan memory plan = planOf(2);
        plan.amounts[0] = new uint256[](1);
        _expectRevertAt(plan, propose(plan), 0, IDistributor.InvalidBatchSize.selector);

        plan = _inOtherToken(planOf(251));
        plan.recipientCount = 250;
        _expectRevertAt(plan, propose(plan), 0, IDistributor.InvalidBatchSize.selector);

        plan = _inOtherToken(planOf(0));
        plan.recipientCount = 1;
        _expectRevertAt(plan, propose(plan), 0, IDistributor.InvalidBatchSize.selector);
    }

    function test_execute_batch__more_than_total__reverts() public {
        Plan memory plan = _twoBatches();
        plan.total = 5;
        _expectRevertAt(plan, propose(plan), 0, IDistributor.TotalMismatch.selector);
    }

    function test_execute_batch__last_does_not_reach_total__reverts() public {
        Plan memory plan = _twoBatches();
        plan.total += 1;
        bytes32 id = propose(plan);
        execute(plan, id, 1);
        _expectRevertAt(plan, id, 0, IDistributor.TotalMismatch.selector);
    }

    function test_execute_batch__other_number_of_recipients_than_proposed__reverts() public {
        Plan memory plan = _twoBatches();
        plan.recipientCount = 2;
        _expectRevertAt(plan, propose(plan), 0, IDistributor.RecipientCountMismatch.selector);

        plan = _inOtherToken(_twoBatches());
        plan.recipientCount = 6;
        bytes32 id = propose(plan);
        execute(plan, id, 0);
        _expectRevertAt(plan, id, 1, IDistributor.RecipientCountMismatch.selector);
    }

    function test_execute_batch__vault_refuses__nothing_changes_and_it_can_be_done_later() public {
        Plan memory plan = planOf(3);
        bytes32 id = propose(plan);
        vault.setLimits(address(token), FUNDS, FUNDS);
        _expectRevertAt(plan, id, 0, ISurplusVault.FloorBreached.selector);
        vault.setLimits(address(token), 0, 5);
        _expectRevertAt(plan, id, 0, ISurplusVault.CapExceeded.selector);
        vm.assertFalse(distributor.executed(id, 0), "executed");
        vault.setLimits(address(token), 0, 6);
        execute(plan, id, 0);
    }

    // ── executeBatch: recipients and tokens that misbehave ──────────────────────────────────────────────────────────
    function test_execute_batch__token_returns_nothing__pays() public {
        NoReturnToken silent = new NoReturnToken();
        silent.mint(address(vault), FUNDS);
        allow(address(silent));
        Plan memory plan = planOf(3);
        plan.token = address(silent);
        execute(plan, propose(plan), 0);
        vm.assertEq(silent.balanceOf(recipientAt(2)), 3, "recipient");
        vm.assertEq(distributor.totalOwed(address(silent)), 0, "owed");
    }

    function test_execute_batch__recipient_refused__credited_and_emitted() public {
        Plan memory plan = planOf(3);
        bytes32 id = propose(plan);
        token.behave(recipientAt(1), MisbehavingToken.Behaviour.Reverts);
        vm.expectEmit(address(distributor));
        emit IDistributor.Credited(id, address(token), recipientAt(1), 0, 2);
        vm.expectEmit(address(distributor));
        emit IDistributor.BatchExecuted(id, 0, address(token), 4, 2);
        execute(plan, id, 0);
        vm.assertEq(distributor.owed(address(token), recipientAt(1)), 2, "owed");
        vm.assertEq(distributor.totalOwed(address(token)), 2, "total owed");
        vm.assertEq(token.balanceOf(address(distributor)), 2, "distributor");
    }

    function testFuzz_execute_batch__any_misbehaviour__changes_nobody_elses_payment(bytes32 seed) public {
        Plan memory plan = planOf(12);
        bytes32 id = propose(plan);
        token.reenterWith(address(distributor), abi.encodeCall(distributor.withdraw, (address(token), STRANGER)));
        for (uint256 i = 0; i < 12; ++i) {
            token.behave(recipientAt(i), MisbehavingToken.Behaviour(pick(seed, i, 0, 7)));
        }
        execute(plan, id, 0);
        uint256 owed = 0;
        for (uint256 i = 0; i < 12; ++i) {
            bool paid = token.pays(recipientAt(i));
            vm.assertEq(token.balanceOf(recipientAt(i)), paid ? i + 1 : 0, "paid");
            vm.assertEq(distributor.owed(address(token), recipientAt(i)), paid ? 0 : i + 1, "credited");
            owed += paid ? 0 : i + 1;
        }
        vm.assertEq(distributor.totalOwed(address(token)), owed, "total owed");
        vm.assertEq(token.balanceOf(address(distributor)), owed, "distributor");
    }

    /// @dev Copying what ten bombs return would cost more than three million gas, for memory alone.
    function test_execute_batch__return_bombs__cost_no_more_than_a_failed_transfer() public {
        Plan memory plan = planOf(10);
        bytes32 id = propose(plan);
        for (uint256 i = 0; i < 10; ++i) {
            token.behave(
                recipientAt(i),
                i % 2 == 0 ? MisbehavingToken.Behaviour.ReturnsBomb : MisbehavingToken.Behaviour.RevertsBomb
            );
        }
        uint256 gasBefore = gasleft();
        execute(plan, id, 0);
        vm.assertLe(gasBefore - gasleft(), 10 * (distributor.TRANSFER_GAS() + 30_000), "gas");
        vm.assertEq(distributor.totalOwed(address(token)), plan.total, "owed");
    }

    function test_execute_batch__token_reenters__refused_and_paid_once() public {
        Plan memory plan = _twoBatches();
        bytes32 id = propose(plan);
        distributor.grantRole(distributor.PROPOSER_ROLE(), address(token));
        token.behave(recipientAt(0), MisbehavingToken.Behaviour.Reenters);
        token.reenterWith(
            address(distributor), abi.encodeCall(distributor.executeBatch, (id, 1, plan.recipients[1], plan.amounts[1]))
        );
        execute(plan, id, 0);
        vm.assertEq(token.reentryError(), ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector, "error");
        vm.assertEq(token.balanceOf(recipientAt(0)), 1, "recipient");
        vm.assertFalse(distributor.executed(id, 1), "executed");
    }

    /// @dev Whatever gas the sender gives, an honest transfer is paid or the whole batch reverts.
    function testFuzz_execute_batch__any_gas_limit__never_forces_a_credit(uint256 gasLimit) public {
        Plan memory plan = planOf(4);
        bytes32 id = propose(plan);
        gasLimit = bound(gasLimit, 30_000, 400_000);
        bytes memory call = abi.encodeCall(distributor.executeBatch, (id, 0, plan.recipients[0], plan.amounts[0]));
        (bool success,) = address(distributor).call{gas: gasLimit}(call);
        vm.assertEq(distributor.totalOwed(address(token)), 0, "owed");
        vm.assertEq(token.balanceOf(recipientAt(3)), success ? 4 : 0, "last recipient");
    }

    function test_execute_batch__too_little_gas_for_a_transfer__reverts() public {
        Plan memory plan = planOf(4);
        bytes32 id = propose(plan);
        bytes memory call = abi.encodeCall(distributor.executeBatch, (id, 0, plan.recipients[0], plan.amounts[0]));
        (bool success, bytes memory reason) = address(distributor).call{gas: 250_000}(call);
        vm.assertFalse(success, "executed");
        vm.assertEq(bytes4(reason), IDistributor.InsufficientGas.selector, "error");
        uint256 needed;
        assembly {
            needed := mload(add(reason, 0x24))
        }
        // Of what is left, 1/64 stays here.
        vm.assertGe(needed - 5_000 - (needed - 5_000) / 64, distributor.TRANSFER_GAS(), "the token's part");
        (success,) = address(distributor).call{gas: 400_000}(call);
        vm.assertTrue(success, "enough");
    }

    function test_execute_batch__token_takes_fee__reverts_rather_than_spend_what_is_owed() public {
        _feeTokenCannotDrain(false);
        _feeTokenCannotDrain(true);
    }

    // ── withdraw ────────────────────────────────────────────────────────────────────────────────────────────────────
    function test_withdraw__credited__paid_to_another_address_once() public {
        address creditor = _credit(2);
        vm.expectEmit(address(distributor));
        emit IDistributor.Withdrawn(address(token), creditor, STRANGER, 2);
        vm.prank(creditor);
        distributor.withdraw(address(token), STRANGER);
        vm.assertEq(token.balanceOf(STRANGER), 2, "to");
        vm.assertEq(distributor.owed(address(token), creditor), 0, "owed");
        vm.assertEq(distributor.totalOwed(address(token)), 0, "total owed");

        vm.expectRevert(abi.encodeWithSelector(IDistributor.NothingOwed.selector, address(token), creditor));
        vm.prank(creditor);
        distributor.withdraw(address(token), STRANGER);
    }

    function test_withdraw__still_refused__stays_owed() public {
        address creditor = _credit(2);
        vm.expectRevert(bytes("refused"));
        vm.prank(creditor);
        distributor.withdraw(address(token), creditor);
        token.behave(creditor, MisbehavingToken.Behaviour.ReturnsFalse);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vm.prank(creditor);
        distributor.withdraw(address(token), creditor);
        vm.assertEq(distributor.owed(address(token), creditor), 2, "owed");
    }

    function test_withdraw__to_the_distributor__reverts() public {
        address creditor = _credit(2);
        vm.expectRevert(abi.encodeWithSelector(IDistributor.InvalidRecipient.selector, address(distributor)));
        vm.prank(creditor);
        distributor.withdraw(address(token), address(distributor));
    }

    function test_withdraw__token_reenters__refused() public {
        address creditor = _credit(2);
        token.behave(STRANGER, MisbehavingToken.Behaviour.Reenters);
        token.reenterWith(address(distributor), abi.encodeCall(distributor.withdraw, (address(token), STRANGER)));
        vm.prank(creditor);
        distributor.withdraw(address(token), STRANGER);
        vm.assertEq(token.reentryError(), ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector, "error");
        vm.assertEq(token.balanceOf(STRANGER), 2, "to");
    }

    function test_pause__vault_paused__stops_batches_and_withdrawals() public {
        address creditor = _credit(2);
        Plan memory plan = _inOtherToken(planOf(1));
        bytes32 id = propose(plan);
        vault.pause();
        bytes memory refusal = abi.encodeWithSelector(IProposalGate.VaultPaused.selector, address(vault));
        vm.expectRevert(refusal);
        distributor.executeBatch(id, 0, plan.recipients[0], plan.amounts[0]);
        vm.expectRevert(refusal);
        vm.prank(creditor);
        distributor.withdraw(address(token), STRANGER);

        vault.unpause();
        distributor.executeBatch(id, 0, plan.recipients[0], plan.amounts[0]);
        vm.prank(creditor);
        distributor.withdraw(address(token), STRANGER);
    }

    // ── What the tests call from outside, so that a revert anywhere inside is the one that is expected ──────────────
    function proposePlan(Plan memory plan) external {
        propose(plan);
    }

    function executePlan(Plan memory plan, bytes32 id, uint32 index) external {
        execute(plan, id, index);
    }

    /// @dev 1 + 2 + 3 atoms, then 10 + 20.
    function _twoBatches() private view returns (Plan memory plan) {
        plan = emptyPlan(2);
        Plan memory first = planOf(3);
        addBatch(plan, 0, first.recipients[0], first.amounts[0]);
        (address[] memory recipients, uint256[] memory amounts) = (new address[](2), new uint256[](2));
        (recipients[0], recipients[1]) = (recipientAt(1), recipientAt(7));
        (amounts[0], amounts[1]) = (10, 20);
        addBatch(plan, 1, recipients, amounts);
    }

    /// @dev The same plan under another id.
    function _inOtherToken(Plan memory plan) private returns (Plan memory) {
        MisbehavingToken other = new MisbehavingToken();
        other.mint(address(vault), FUNDS);
        allow(address(other));
        plan.token = address(other);
        return plan;
    }

    /// @dev Leaves the last of `count` recipients with a credit of `count` atoms.
    function _credit(uint256 count) private returns (address creditor) {
        Plan memory plan = planOf(count);
        creditor = recipientAt(count - 1);
        token.behave(creditor, MisbehavingToken.Behaviour.Reverts);
        execute(plan, propose(plan), 0);
        vm.assertEq(distributor.owed(address(token), creditor), count, "credited");
    }

    /// @dev 5,000 atoms are owed to somebody when the token starts to take its fee.
    function _feeTokenCannotDrain(bool onTop) private {
        FeeToken fee = new FeeToken(onTop);
        fee.mint(address(vault), FUNDS);
        fee.mint(address(distributor), 5_000);
        allow(address(fee));
        (address[] memory recipients, uint256[] memory amounts) = (new address[](1), new uint256[](1));
        (recipients[0], amounts[0]) = (STRANGER, 1_000);
        Plan memory plan = emptyPlan(1);
        plan.token = address(fee);
        addBatch(plan, 0, recipients, amounts);
        _expectRevertAt(plan, propose(plan), 0, IDistributor.TokenTakesFee.selector);
        vm.assertEq(fee.balanceOf(address(distributor)), 5_000, "owed to others");
    }

    function _expectRevertAt(Plan memory plan, bytes32 id, uint32 index, bytes4 selector) private {
        try this.executePlan(plan, id, index) {
            vm.assertTrue(false, "executed");
        } catch (bytes memory reason) {
            vm.assertEq(bytes4(reason), selector, "error");
        }
    }

    function _expectInvalidCount(uint32 recipientCount, uint256 batches) private {
        vm.expectRevert(abi.encodeWithSelector(IDistributor.InvalidRecipientCount.selector, recipientCount, batches));
        distributor.propose(RULE, START, END, address(token), 1, recipientCount, new bytes32[](batches), ARTIFACT, URI);
    }

    function _expectUnauthorized() private {
        bytes32 role = distributor.PROPOSER_ROLE();
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, role)
        );
        vm.prank(STRANGER);
    }

    function _assertOther(bytes32 id, bytes32 other) private pure {
        vm.assertTrue(id != other, "same id");
    }
}
