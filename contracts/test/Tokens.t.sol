// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {IClaims} from "../src/interfaces/IClaims.sol";
import {IDistributor} from "../src/interfaces/IDistributor.sol";
import {TestToken} from "../src/sandbox/TestToken.sol";
import {ClaimsFixture} from "./ClaimsFixture.sol";
import {DistributorFixture} from "./DistributorFixture.sol";
import {FeeToken} from "./tokens/FeeToken.sol";
import {NoReturnToken} from "./tokens/NoReturnToken.sol";
import {PausableToken} from "./tokens/PausableToken.sol";
import {RebasingToken} from "./tokens/RebasingToken.sol";
import {StrictToken} from "./tokens/StrictToken.sol";

/// @dev Tokens that are as real ones are, pushed. What a recipient can do is in {DistributorTest}.
contract PushedTokensTest is DistributorFixture {
    function test_push__zero_two_and_twenty_seven_decimals__paid_to_the_atom() public {
        _assertPaid(address(_strict(0)), 1);
        _assertPaid(address(_strict(2)), 99);
        _assertPaid(address(_strict(27)), 10 ** 9 * 10 ** 27 + 1);
    }

    function test_push__token_refuses_zero__a_credit_of_nothing_stops_nobody() public {
        StrictToken strict = _strict(18);
        Plan memory plan = _planIn(address(strict), 5);
        plan.amounts[0][1] = 0;
        plan.total = 5 + 15;
        bytes32 id = propose(plan);
        vm.expectEmit(address(distributor));
        emit IDistributor.Credited(id, address(strict), recipientAt(1), 0, 0);
        execute(plan, id, 0);
        vm.assertEq(strict.balanceOf(recipientAt(2)), 15, "paid");
        vm.assertEq(distributor.totalOwed(address(strict)), 0, "owed");
    }

    function test_push__recipient_on_the_block_list__credited_and_withdrawn_elsewhere() public {
        TestToken listed = _listed();
        listed.setBlocked(recipientAt(1), true);
        Plan memory plan = _planIn(address(listed), 5);
        execute(plan, propose(plan), 0);
        vm.assertEq(listed.balanceOf(recipientAt(0)) + listed.balanceOf(recipientAt(2)), 20, "others");
        vm.assertEq(distributor.owed(address(listed), recipientAt(1)), 10, "owed");
        vm.prank(recipientAt(1));
        distributor.withdraw(address(listed), recipientAt(3));
        vm.assertEq(listed.balanceOf(recipientAt(3)), 10, "withdrawn");
    }

    function test_push__distributor_on_the_block_list__nothing_happens_until_it_is_off() public {
        TestToken listed = _listed();
        Plan memory plan = _planIn(address(listed), 5);
        bytes32 id = propose(plan);
        listed.setBlocked(address(distributor), true);
        _assertRefused(plan, id, TestToken.RecipientBlocked.selector);
        listed.setBlocked(address(distributor), false);
        execute(plan, id, 0);
    }

    function test_push__token_paused__nothing_happens_until_it_goes_on() public {
        PausableToken stopped = new PausableToken();
        stopped.mint(address(vault), FUNDS);
        allow(address(stopped));
        Plan memory plan = _planIn(address(stopped), 5);
        bytes32 id = propose(plan);
        stopped.pause();
        _assertRefused(plan, id, Pausable.EnforcedPause.selector);
        vm.assertFalse(distributor.executed(id, 0), "executed");
        stopped.unpause();
        execute(plan, id, 0);
        vm.assertEq(stopped.balanceOf(recipientAt(2)), 15, "paid");
    }

    /// @dev The token rounds each transfer down by itself; nobody else pays for it.
    function test_push__rebasing__an_atom_short_at_most_and_credits_untouched() public {
        RebasingToken rebasing = new RebasingToken();
        rebasing.mint(address(vault), 1_000_000);
        allow(address(rebasing));
        rebasing.mint(address(distributor), 5_000);
        rebasing.rebase(1.1e18);
        uint256 owed = rebasing.balanceOf(address(distributor));
        Plan memory plan = _planIn(address(rebasing), 5);
        execute(plan, propose(plan), 0);
        for (uint256 i = 0; i < 3; ++i) {
            vm.assertLe(rebasing.balanceOf(recipientAt(i)), 5 * (i + 1), "paid too much");
            vm.assertGe(rebasing.balanceOf(recipientAt(i)), 5 * (i + 1) - 1, "paid too little");
        }
        vm.assertGe(rebasing.balanceOf(address(distributor)), owed, "owed to others");
    }

    function _assertPaid(address token_, uint256 unit) private {
        Plan memory plan = _planIn(token_, unit);
        execute(plan, propose(plan), 0);
        for (uint256 i = 0; i < 3; ++i) {
            vm.assertEq(IERC20(token_).balanceOf(recipientAt(i)), (i + 1) * unit, "paid");
        }
        vm.assertEq(IERC20(token_).balanceOf(address(distributor)), 0, "left over");
    }

    /// @dev Three recipients, who get 1, 2, 3 × `unit`.
    function _planIn(address token_, uint256 unit) private view returns (Plan memory plan) {
        plan = planOf(3);
        plan.token = token_;
        plan.total *= unit;
        for (uint256 i = 0; i < 3; ++i) {
            plan.amounts[0][i] *= unit;
        }
    }

    function _assertRefused(Plan memory plan, bytes32 id, bytes4 selector) private {
        vm.expectPartialRevert(selector);
        distributor.executeBatch(id, 0, plan.recipients[0], plan.amounts[0]);
    }

    function _strict(uint8 decimals) private returns (StrictToken strict) {
        strict = new StrictToken(decimals);
        strict.mint(address(vault), 1e40);
        vault.setLimits(address(strict), 0, 1e40);
        distributor.setAutoLimit(address(strict), 1e40);
    }

    function _listed() private returns (TestToken listed) {
        listed = new TestToken("Listed", "LIST", 6);
        listed.mint(address(vault), FUNDS);
        allow(address(listed));
    }
}

/// @dev The same tokens, claimed.
contract ClaimedTokensTest is ClaimsFixture {
    function test_claim__zero_two_and_twenty_seven_decimals__paid_to_the_atom() public {
        _assertPaid(address(_strict(0)), 1);
        _assertPaid(address(_strict(2)), 99);
        _assertPaid(address(_strict(27)), 10 ** 9 * 10 ** 27 + 1);
    }

    function test_claim__token_returns_nothing__paid() public {
        NoReturnToken silent = new NoReturnToken();
        silent.mint(address(vault), FUNDS);
        allow(address(silent));
        _assertPaid(address(silent), 10);
    }

    function test_claim__account_on_the_block_list__waits_and_stops_nobody() public {
        TestToken listed = new TestToken("Listed", "LIST", 6);
        listed.mint(address(vault), FUNDS);
        allow(address(listed));
        Tree memory tree = _treeIn(address(listed), 10);
        accept(tree);
        listed.setBlocked(accountAt(0), true);
        _assertRefused(tree, 0, TestToken.RecipientBlocked.selector);
        claim(tree, 1);
        listed.setBlocked(accountAt(0), false);
        claim(tree, 0);
        vm.assertEq(listed.balanceOf(accountAt(0)), 10, "paid");
    }

    function test_claim__token_paused__waits() public {
        PausableToken stopped = new PausableToken();
        stopped.mint(address(vault), FUNDS);
        allow(address(stopped));
        Tree memory tree = _treeIn(address(stopped), 10);
        accept(tree);
        stopped.pause();
        _assertRefused(tree, 0, Pausable.EnforcedPause.selector);
        stopped.unpause();
        claim(tree, 0);
    }

    /// @dev Nobody is paid out of what others are owed: claims stop for all until the balance covers them again.
    function test_claim__token_takes_back__stops_until_it_is_covered() public {
        RebasingToken rebasing = new RebasingToken();
        rebasing.mint(address(vault), 1_000_000);
        allow(address(rebasing));
        Tree memory tree = _treeIn(address(rebasing), 10);
        accept(tree);
        rebasing.rebase(5e17);
        _assertRefused(tree, 0, IClaims.LiabilityUncovered.selector);
        rebasing.mint(address(claims), 30);
        claim(tree, 0);
        claim(tree, 1);
        claim(tree, 2);
        vm.assertEq(rebasing.balanceOf(accountAt(2)), 30, "paid");
    }

    function test_claim__token_takes_its_fee_from_what_arrives__the_account_bears_it() public {
        FeeToken fee = new FeeToken(false);
        fee.mint(address(vault), FUNDS);
        allow(address(fee));
        fee.enable(false);
        Tree memory tree = _treeIn(address(fee), 1_000);
        accept(tree);
        fee.enable(true);
        claim(tree, 0);
        vm.assertEq(fee.balanceOf(accountAt(0)), 990, "arrived");
        vm.assertEq(fee.balanceOf(address(claims)), 5_000, "others' part");
    }

    function _assertPaid(address token_, uint256 unit) private {
        Tree memory tree = _treeIn(token_, unit);
        accept(tree);
        for (uint256 i = 0; i < 3; ++i) {
            claim(tree, i);
            vm.assertEq(IERC20(token_).balanceOf(accountAt(i)), (i + 1) * unit, "paid");
        }
        vm.assertEq(IERC20(token_).balanceOf(address(claims)), 0, "left over");
    }

    function _assertRefused(Tree memory tree, uint256 i, bytes4 selector) private {
        bytes32[] memory proof = proofOf(tree, i);
        vm.expectPartialRevert(selector);
        claims.claim(tree.accounts[i], tree.token, tree.cumulatives[i], proof);
    }

    function _treeIn(address token_, uint256 unit) private view returns (Tree memory tree) {
        tree = treeOf(3, unit);
        return treeOf(token_, tree.accounts, tree.cumulatives);
    }

    function _strict(uint8 decimals) private returns (StrictToken strict) {
        strict = new StrictToken(decimals);
        strict.mint(address(vault), 1e40);
        vault.setLimits(address(strict), 0, 1e40);
        claims.setAutoLimit(address(strict), 1e40);
    }
}
