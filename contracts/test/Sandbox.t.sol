// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
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
}
