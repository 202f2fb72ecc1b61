// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Aggregator} from "../src/sandbox/Aggregator.sol";
import {DepositPool} from "../src/sandbox/DepositPool.sol";
import {ObligationBook} from "../src/sandbox/ObligationBook.sol";
import {TestToken} from "../src/sandbox/TestToken.sol";
import {ForgeTest} from "./ForgeTest.sol";

contract SandboxTest is ForgeTest {
    address private constant OTHER = address(0x07E8);

    TestToken private token;

    function setUp() public {
        token = new TestToken("Six", "SIX", 6);
        token.mint(address(this), 1_000);
    }

    function test_test_token__blocked__receives_nothing_until_unblocked() public {
        vm.assertEq(token.decimals(), 6, "decimals");
        vm.expectEmit(address(token));
        emit TestToken.BlockedSet(OTHER, true);
        token.setBlocked(OTHER, true);
        vm.expectRevert(abi.encodeWithSelector(TestToken.RecipientBlocked.selector, OTHER));
        token.transfer(OTHER, 1);
        token.setBlocked(OTHER, false);
        vm.assertTrue(token.transfer(OTHER, 1), "transferred");
    }

    function test_owner_only__stranger__reverts() public {
        ObligationBook book = new ObligationBook();
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, OTHER);
        vm.expectRevert(refusal);
        vm.prank(OTHER);
        token.mint(OTHER, 1);
        vm.expectRevert(refusal);
        vm.prank(OTHER);
        token.setBlocked(OTHER, true);
        vm.expectRevert(refusal);
        vm.prank(OTHER);
        book.incur(1);
        vm.expectRevert(refusal);
        vm.prank(OTHER);
        book.settle(1);
    }

    function test_deposit_pool__deposit_and_withdraw__counted_and_emitted() public {
        DepositPool pool = new DepositPool(address(token));
        token.approve(address(pool), 1_000);
        vm.expectEmit(address(pool));
        emit DepositPool.Deposited(address(this), 700);
        pool.deposit(700);
        vm.expectEmit(address(pool));
        emit DepositPool.Withdrawn(address(this), 200);
        pool.withdraw(200);
        vm.assertEq(pool.deposits(address(this)), 500, "deposit");
        vm.assertEq(pool.totalDeposits(), 500, "total");
        vm.assertEq(token.balanceOf(address(pool)), 500, "balance");
        vm.expectRevert(abi.encodeWithSelector(DepositPool.InsufficientDeposit.selector, address(this), 500, 501));
        pool.withdraw(501);
    }

    function test_obligation_book__incur_and_settle__counted_and_emitted() public {
        ObligationBook book = new ObligationBook();
        vm.expectEmit(address(book));
        emit ObligationBook.Incurred(9);
        book.incur(9);
        vm.expectEmit(address(book));
        emit ObligationBook.Settled(4);
        book.settle(4);
        vm.assertEq(book.total(), 5, "total");
        vm.expectRevert(abi.encodeWithSelector(ObligationBook.InsufficientObligations.selector, 5, 6));
        book.settle(6);
    }

    function test_aggregator__no_round__reverts() public {
        Aggregator feed = new Aggregator("ETH / USD", 8);
        vm.expectRevert(abi.encodeWithSelector(Aggregator.RoundMissing.selector, 0));
        feed.latestRoundData();
        feed.push(1);
        vm.expectRevert(abi.encodeWithSelector(Aggregator.RoundMissing.selector, 0));
        feed.getRoundData(0);
        vm.expectRevert(abi.encodeWithSelector(Aggregator.RoundMissing.selector, 2));
        feed.getRoundData(2);
    }

    function test_aggregator__pushed__newest_is_latest_and_older_ones_stay() public {
        Aggregator feed = new Aggregator("ETH / USD", 8);
        vm.assertEq(feed.decimals(), 8, "decimals");
        vm.expectEmit(address(feed));
        emit Aggregator.AnswerUpdated(2_000e8, 1, block.timestamp);
        feed.push(2_000e8);
        feed.pushAt(-1, 7);
        (uint80 round, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredIn) = feed.latestRoundData();
        vm.assertEq(uint256(round), 2, "newest");
        vm.assertTrue(answer == -1, "answer");
        vm.assertEq(startedAt, 7, "started");
        vm.assertEq(updatedAt, 7, "updated");
        vm.assertEq(uint256(answeredIn), 2, "answered in");
        (round, answer,, updatedAt,) = feed.getRoundData(1);
        vm.assertEq(uint256(round), 1, "older");
        vm.assertTrue(answer == 2_000e8, "older answer");
        vm.assertEq(updatedAt, block.timestamp, "of the block's time");
    }
}
