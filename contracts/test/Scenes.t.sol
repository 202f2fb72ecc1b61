// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {SurplusVault} from "../src/SurplusVault.sol";
import {ISurplusVault} from "../src/interfaces/ISurplusVault.sol";
import {Budget} from "../src/sandbox/Budget.sol";
import {DepositPool} from "../src/sandbox/DepositPool.sol";
import {Settlement} from "../src/sandbox/Settlement.sol";
import {SmoothingPool} from "../src/sandbox/SmoothingPool.sol";
import {StabilityPool} from "../src/sandbox/StabilityPool.sol";
import {TestToken} from "../src/sandbox/TestToken.sol";
import {YieldVault} from "../src/sandbox/YieldVault.sol";
import {ForgeTest} from "./ForgeTest.sol";

/// @dev What each protocol of the sandbox earns must come into the vault as a fee, to the atom.
contract ScenesTest is ForgeTest {
    address private constant OTHER = address(0x07E8);

    TestToken private token;
    SurplusVault private vault;

    function setUp() public {
        token = new TestToken("Six", "SIX", 6);
        token.mint(address(this), 1_000_000);
        vault = new SurplusVault(address(this), 60);
    }

    /// @dev After the protocol's own event, which is expected first.
    function expectFee(address payer, uint256 amount) private {
        vm.expectEmit(address(vault));
        emit ISurplusVault.FeePaid(address(token), payer, amount);
    }

    function assertPassedOn(address protocol, uint256 amount) private view {
        vm.assertEq(token.balanceOf(address(vault)), amount, "all of it is in the vault");
        vm.assertEq(token.balanceOf(protocol), 0, "nothing stayed behind");
        vm.assertEq(token.allowance(protocol, address(vault)), 0, "no allowance is left");
    }

    // ── Smoothing pool ─────────────────────────────────────────────────────────────────────────────────────────────
    function test_smoothing_pool__pay_in__is_a_fee_of_the_vault() public {
        SmoothingPool pool = new SmoothingPool(address(vault), address(token));
        token.approve(address(pool), type(uint256).max);
        vm.expectEmit(address(pool));
        emit SmoothingPool.Inflow(address(this), 700);
        expectFee(address(pool), 700);
        pool.payIn(700);
        assertPassedOn(address(pool), 700);
    }

    function test_smoothing_pool__members__come_go_and_are_banned_for_good() public {
        SmoothingPool pool = new SmoothingPool(address(vault), address(token));
        vm.expectEmit(address(pool));
        emit SmoothingPool.MemberRegistered(address(this));
        pool.register();
        vm.expectRevert(standing(address(this), SmoothingPool.Standing.Member));
        pool.register();
        vm.expectEmit(address(pool));
        emit SmoothingPool.MemberRemoved(address(this));
        pool.resign();
        vm.expectRevert(standing(address(this), SmoothingPool.Standing.Outside));
        pool.ban(address(this));
        pool.register();
        vm.expectEmit(address(pool));
        emit SmoothingPool.MemberBanned(address(this));
        pool.ban(address(this));
        vm.expectRevert(standing(address(this), SmoothingPool.Standing.Banned));
        pool.register();
        vm.expectRevert(standing(address(this), SmoothingPool.Standing.Banned));
        pool.resign();
    }

    function standing(address account, SmoothingPool.Standing found) private pure returns (bytes memory) {
        return abi.encodeWithSelector(SmoothingPool.UnexpectedStanding.selector, account, found);
    }

    // ── Settlement ─────────────────────────────────────────────────────────────────────────────────────────────────
    function test_settlement__trade__improvement_is_a_fee_of_the_vault() public {
        Settlement settlement = new Settlement(address(vault), address(token));
        token.approve(address(settlement), type(uint256).max);
        vm.expectEmit(address(settlement));
        emit Settlement.Trade(OTHER, address(this), 90_000, 45);
        expectFee(address(settlement), 45);
        settlement.trade(OTHER, address(this), 90_000, 45);
        assertPassedOn(address(settlement), 45);
    }

    function test_settlement__no_improvement__nothing_moves() public {
        Settlement settlement = new Settlement(address(vault), address(token));
        settlement.trade(OTHER, address(this), 90_000, 0);
        assertPassedOn(address(settlement), 0);
    }

    function test_settlement__imbalance_above_zero__is_a_fee_of_the_vault() public {
        Settlement settlement = new Settlement(address(vault), address(token));
        token.approve(address(settlement), type(uint256).max);
        vm.expectEmit(address(settlement));
        emit Settlement.Imbalance(address(this), 45);
        expectFee(address(settlement), 45);
        settlement.square(45);
        assertPassedOn(address(settlement), 45);
    }

    function test_settlement__imbalance_below_zero__is_only_written_down() public {
        Settlement settlement = new Settlement(address(vault), address(token));
        token.approve(address(settlement), type(uint256).max);
        vm.expectEmit(address(settlement));
        emit Settlement.Imbalance(address(this), -45);
        settlement.square(-45);
        assertPassedOn(address(settlement), 0);
    }

    // ── Budget ─────────────────────────────────────────────────────────────────────────────────────────────────────
    function test_budget__set_by_its_owner_alone__told() public {
        Budget budget = new Budget(9);
        vm.assertEq(budget.burnPerMonth(), 9, "at first");
        vm.expectEmit(address(budget));
        emit Budget.BurnSet(4);
        budget.setBurn(4);
        vm.assertEq(budget.burnPerMonth(), 4, "then");
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, OTHER));
        vm.prank(OTHER);
        budget.setBurn(0);
    }

    // ── Yield vault ────────────────────────────────────────────────────────────────────────────────────────────────
    function test_yield_vault__harvest__shares_grow_and_as_much_is_a_fee_of_the_vault() public {
        YieldVault yield = new YieldVault(address(vault), address(token));
        token.approve(address(yield), type(uint256).max);
        yield.deposit(1_000, OTHER);
        vm.expectEmit(address(yield));
        emit YieldVault.Harvested(500);
        expectFee(address(yield), 500);
        yield.harvest(500);
        vm.assertEq(yield.totalAssets(), 1_500, "assets");
        vm.assertEq(yield.totalSupply(), 1_000, "shares");
        vm.assertEq(yield.convertToAssets(1_000), 1_499, "the virtual share has its part");
        vm.assertEq(token.balanceOf(address(vault)), 500, "vault");
    }

    /// @dev What is skimmed, at most all growth of all shares, is in the vault: whatever came and went meanwhile.
    function testFuzz_yield_vault__growth_of_all_shares__never_above_what_the_vault_got(
        uint256 first,
        uint256 profit,
        uint256 second,
        uint256 another
    ) public {
        YieldVault yield = new YieldVault(address(vault), address(token));
        token.approve(address(yield), type(uint256).max);
        (first, profit) = (bound(first, 1, 100_000), bound(profit, 0, 100_000));
        (second, another) = (bound(second, 1, 100_000), bound(another, 0, 100_000));
        yield.deposit(first, OTHER);
        uint256 before = yield.convertToAssets(1e18);
        yield.harvest(profit);
        yield.deposit(second, address(this));
        yield.harvest(another);
        uint256 grown = yield.convertToAssets(1e18) - before;
        vm.assertLe(grown * first / 1e18, profit + another, "growth of the first deposit");
        vm.assertEq(token.balanceOf(address(vault)), profit + another, "vault");
    }

    function test_yield_vault__loss__shares_shrink_and_the_vault_keeps_its_own() public {
        YieldVault yield = new YieldVault(address(vault), address(token));
        token.approve(address(yield), type(uint256).max);
        yield.deposit(1_000, OTHER);
        yield.harvest(500);
        vm.expectEmit(address(yield));
        emit YieldVault.Loss(600);
        yield.lose(600);
        vm.assertEq(yield.totalAssets(), 900, "assets");
        vm.assertEq(token.balanceOf(address(vault)), 500, "vault");
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, OTHER));
        vm.prank(OTHER);
        yield.lose(1);
    }

    // ── Stability pool ─────────────────────────────────────────────────────────────────────────────────────────────
    function test_stability_pool__liquidation__gain_is_a_fee_of_the_vault_and_deposits_stay() public {
        StabilityPool pool = new StabilityPool(address(vault), address(token));
        token.approve(address(pool), type(uint256).max);
        vm.expectEmit(address(pool));
        emit DepositPool.Deposited(address(this), 800);
        pool.deposit(800);
        vm.expectEmit(address(pool));
        emit StabilityPool.Liquidated(900, 90);
        expectFee(address(pool), 90);
        pool.liquidate(900, 90);
        vm.assertEq(token.balanceOf(address(vault)), 90, "vault");
        vm.assertEq(token.balanceOf(address(pool)), 800, "deposits");
        vm.expectEmit(address(pool));
        emit DepositPool.Withdrawn(address(this), 800);
        pool.withdraw(800);
        assertPassedOn(address(pool), 90);
    }
}
