// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SurplusVault} from "../src/SurplusVault.sol";
import {ISurplusVault} from "../src/interfaces/ISurplusVault.sol";
import {ForgeTest} from "./ForgeTest.sol";
import {FeeToken} from "./tokens/FeeToken.sol";
import {MisbehavingToken} from "./tokens/MisbehavingToken.sol";
import {NoReturnToken} from "./tokens/NoReturnToken.sol";

/// @dev The test is admin, guardian and distributor.
contract SurplusVaultTest is ForgeTest {
    bytes32 private constant ID = "distribution";
    uint64 private constant EPOCH = 1 days;
    uint256 private constant FUNDS = 1_000_000;
    address private constant STRANGER = address(0xBAD);

    SurplusVault private vault;
    MisbehavingToken private token;

    function setUp() public {
        vm.warp(10 * EPOCH);
        vault = new SurplusVault(address(this), EPOCH);
        vault.grantRole(vault.GUARDIAN_ROLE(), address(this));
        vault.grantRole(vault.DISTRIBUTOR_ROLE(), address(this));
        token = new MisbehavingToken();
        token.mint(address(vault), FUNDS);
    }

    function test_constructor__zero_admin_or_epoch__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ISurplusVault.InvalidAdmin.selector, address(0)));
        new SurplusVault(address(0), EPOCH);
        vm.expectRevert(abi.encodeWithSelector(ISurplusVault.InvalidEpochLength.selector, 0));
        new SurplusVault(address(this), 0);
    }

    function test_pay_fee__plain_token__pulls_and_emits() public {
        token.mint(address(this), 500);
        token.approve(address(vault), 500);
        vm.expectEmit(address(vault));
        emit ISurplusVault.FeePaid(address(token), address(this), 500);
        vault.payFee(address(token), 500);
        vm.assertEq(token.balanceOf(address(vault)), FUNDS + 500, "vault");
    }

    function test_pay_fee__token_returns_nothing__pulls_and_emits() public {
        NoReturnToken silent = new NoReturnToken();
        silent.mint(address(this), 500);
        silent.approve(address(vault), 500);
        vm.expectEmit(address(vault));
        emit ISurplusVault.FeePaid(address(silent), address(this), 500);
        vault.payFee(address(silent), 500);
    }

    function test_pay_fee__token_takes_fee__emits_what_arrived() public {
        FeeToken fee = new FeeToken(false);
        fee.mint(address(this), 500);
        fee.approve(address(vault), 500);
        vm.expectEmit(address(vault));
        emit ISurplusVault.FeePaid(address(fee), address(this), 495);
        vault.payFee(address(fee), 500);
    }

    function test_pay_fee__paused__still_works() public {
        vault.pause();
        token.mint(address(this), 1);
        token.approve(address(vault), 1);
        vault.payFee(address(token), 1);
        vm.assertEq(token.balanceOf(address(vault)), FUNDS + 1, "vault");
    }

    function test_set_limits__admin__stored_and_emitted() public {
        vm.expectEmit(address(vault));
        emit ISurplusVault.LimitsSet(address(token), 7, 9);
        vault.setLimits(address(token), 7, 9);
        (uint256 floor, uint256 cap) = vault.limits(address(token));
        vm.assertEq(floor, 7, "floor");
        vm.assertEq(cap, 9, "cap");
    }

    function test_roles__stranger__may_do_nothing() public {
        _expectUnauthorized(vault.DEFAULT_ADMIN_ROLE());
        vault.setLimits(address(token), 0, 1);
        _expectUnauthorized(vault.DISTRIBUTOR_ROLE());
        vault.release(ID, address(token), 1);
        _expectUnauthorized(vault.GUARDIAN_ROLE());
        vault.pause();
        vault.pause();
        _expectUnauthorized(vault.DEFAULT_ADMIN_ROLE());
        vault.unpause();
    }

    function test_roles__guardian__cannot_resume() public {
        vault.grantRole(vault.GUARDIAN_ROLE(), STRANGER);
        vm.prank(STRANGER);
        vault.pause();
        _expectUnauthorized(vault.DEFAULT_ADMIN_ROLE());
        vault.unpause();
    }

    function test_release__no_limits_set__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ISurplusVault.CapExceeded.selector, address(token), 10, 1, 0));
        vault.release(ID, address(token), 1);
    }

    function test_release__within_limits__sends_counts_and_emits() public {
        vault.setLimits(address(token), 0, 1_000);
        vm.expectEmit(address(vault));
        emit ISurplusVault.Released(ID, address(token), 400, 10);
        vault.release(ID, address(token), 400);
        vm.assertEq(token.balanceOf(address(this)), 400, "distributor");
        vm.assertEq(vault.spent(address(token), 10), 400, "spent");
        vm.assertEq(vault.currentEpoch(), 10, "epoch");
    }

    function test_release__cap_used_up__reverts_until_next_epoch() public {
        vault.setLimits(address(token), 0, 1_000);
        vault.release(ID, address(token), 1_000);
        vm.warp(11 * EPOCH - 1);
        vm.expectRevert(abi.encodeWithSelector(ISurplusVault.CapExceeded.selector, address(token), 10, 1, 0));
        vault.release(ID, address(token), 1);
        vm.warp(11 * EPOCH);
        vault.release(ID, address(token), 1_000);
        vm.assertEq(vault.spent(address(token), 11), 1_000, "spent");
    }

    function test_release__cap_lowered_below_spent__reverts() public {
        vault.setLimits(address(token), 0, 1_000);
        vault.release(ID, address(token), 800);
        vault.setLimits(address(token), 0, 500);
        vm.expectRevert(abi.encodeWithSelector(ISurplusVault.CapExceeded.selector, address(token), 10, 1, 0));
        vault.release(ID, address(token), 1);
    }

    function test_release__cap_of_other_token__untouched() public {
        MisbehavingToken other = new MisbehavingToken();
        other.mint(address(vault), 1_000);
        vault.setLimits(address(token), 0, 1_000);
        vault.setLimits(address(other), 0, 1_000);
        vault.release(ID, address(token), 1_000);
        vault.release(ID, address(other), 1_000);
        vm.assertEq(other.balanceOf(address(this)), 1_000, "other token");
    }

    function test_release__down_to_floor__allowed_and_not_one_more() public {
        vault.setLimits(address(token), FUNDS - 100, type(uint256).max);
        vault.release(ID, address(token), 100);
        vm.expectRevert(
            abi.encodeWithSelector(ISurplusVault.FloorBreached.selector, address(token), FUNDS - 101, FUNDS - 100)
        );
        vault.release(ID, address(token), 1);
    }

    function test_release__token_charges_sender_on_top__floor_holds() public {
        FeeToken fee = new FeeToken(true);
        fee.mint(address(vault), 1_000);
        vault.setLimits(address(fee), 500, 1_000);
        vm.expectRevert(abi.encodeWithSelector(ISurplusVault.FloorBreached.selector, address(fee), 495, 500));
        vault.release(ID, address(fee), 500);
    }

    function test_release__paused__reverts() public {
        vault.setLimits(address(token), 0, 1_000);
        vault.pause();
        vm.assertTrue(vault.paused(), "paused");
        vm.expectRevert(Pausable.EnforcedPause.selector);
        vault.release(ID, address(token), 1);
        vault.unpause();
        vault.release(ID, address(token), 1);
    }

    function test_release__token_reenters__refused() public {
        vault.setLimits(address(token), 0, 1_000);
        vault.grantRole(vault.DISTRIBUTOR_ROLE(), address(token));
        token.behave(address(this), MisbehavingToken.Behaviour.Reenters);
        token.reenterWith(address(vault), abi.encodeCall(vault.release, (ID, address(token), 1)));
        vault.release(ID, address(token), 10);
        vm.assertEq(token.reentryError(), ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector, "error");
        vm.assertEq(vault.spent(address(token), 10), 10, "spent");
    }

    function testFuzz_release__any_amounts__never_above_cap_nor_below_floor(
        uint256 floor,
        uint256 cap,
        uint256[4] memory amounts
    ) public {
        floor = bound(floor, 0, FUNDS * 2);
        cap = bound(cap, 0, FUNDS * 2);
        vault.setLimits(address(token), floor, cap);
        uint256 released = 0;
        for (uint256 i = 0; i < amounts.length; ++i) {
            // Now and then far too much, so that an overflow would show.
            uint256 amount = amounts[i] % 8 == 0 ? amounts[i] : bound(amounts[i], 0, FUNDS / 2);
            bool allowed = released <= cap && amount <= cap - released && amount <= FUNDS - released
                && FUNDS - released - amount >= floor;
            try vault.release(ID, address(token), amount) {
                vm.assertTrue(allowed, "released though not allowed");
                released += amount;
            } catch {
                vm.assertFalse(allowed, "refused though allowed");
            }
        }
        vm.assertEq(vault.spent(address(token), 10), released, "spent");
        vm.assertEq(token.balanceOf(address(this)), released, "balance");
    }

    function _expectUnauthorized(bytes32 role) private {
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, role)
        );
        vm.prank(STRANGER);
    }
}
