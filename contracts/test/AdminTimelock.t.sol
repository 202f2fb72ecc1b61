// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {AdminTimelock} from "../src/AdminTimelock.sol";
import {Claims} from "../src/Claims.sol";
import {Distributor} from "../src/Distributor.sol";
import {SurplusVault} from "../src/SurplusVault.sol";
import {ForgeTest} from "./ForgeTest.sol";

/// @dev A deployment after the hand-over: the test made it all and must have nothing left.
contract AdminTimelockTest is ForgeTest {
    uint256 private constant MIN_DELAY = 2 days;
    address private constant ADMIN = address(0xAD);
    address private constant TOKEN = address(0x70CE);
    bytes32 private constant DEFAULT_ADMIN_ROLE = 0;

    AdminTimelock private timelock;
    SurplusVault private vault;
    Distributor private distributor;
    Claims private claims;

    function setUp() public {
        vm.warp(1_000 days);
        address[] memory admins = new address[](1);
        admins[0] = ADMIN;
        timelock = new AdminTimelock(MIN_DELAY, admins);
        vault = new SurplusVault(address(this), 1 days);
        distributor = new Distributor(address(this), address(vault), 1 hours, 1 days);
        claims = new Claims(address(this), address(vault), 1 hours, 1 days, 1 hours);
        _handOver(vault);
        _handOver(distributor);
        _handOver(claims);
    }

    function test_hand_over__deployer__keeps_nothing() public {
        _assertHandedOver(vault);
        _assertHandedOver(distributor);
        _assertHandedOver(claims);
        vm.assertEq(timelock.getRoleMemberCount(DEFAULT_ADMIN_ROLE), 1, "admins of the timelock");
        vm.assertEq(timelock.getRoleMember(DEFAULT_ADMIN_ROLE, 0), address(timelock), "its own admin");
        bytes memory refusal = _unauthorized(address(this));
        vm.expectRevert(refusal);
        vault.setLimits(TOKEN, 0, 1);
        vm.expectRevert(refusal);
        vault.unpause();
        vm.expectRevert(refusal);
        distributor.setDelay(0);
        vm.expectRevert(refusal);
        distributor.setAutoLimit(TOKEN, 1);
        vm.expectRevert(refusal);
        claims.setActivationDelay(0);
    }

    function test_timelock__admin__nothing_directly() public {
        vm.expectRevert(_unauthorized(ADMIN));
        vm.prank(ADMIN);
        distributor.setDelay(0);
    }

    function test_timelock__scheduled__takes_effect_after_the_delay_and_once() public {
        bytes memory call = abi.encodeCall(distributor.setDelay, (7));
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        _execute(call);
        _schedule(call, MIN_DELAY);
        vm.warp(block.timestamp + MIN_DELAY - 1);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        _execute(call);
        vm.warp(block.timestamp + 1);
        _execute(call);
        vm.assertEq(distributor.delay(), 7, "delay");
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        _execute(call);
    }

    function test_timelock__shorter_than_its_delay__refused() public {
        vm.expectPartialRevert(TimelockController.TimelockInsufficientDelay.selector);
        _schedule(abi.encodeCall(distributor.setDelay, (7)), MIN_DELAY - 1);
    }

    function test_timelock__cancelled__never_takes_effect() public {
        bytes memory call = abi.encodeCall(distributor.setDelay, (7));
        _schedule(call, MIN_DELAY);
        bytes32 id = timelock.hashOperation(address(distributor), 0, call, 0, 0);
        vm.prank(ADMIN);
        timelock.cancel(id);
        vm.warp(block.timestamp + MIN_DELAY);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        _execute(call);
    }

    function _handOver(AccessControlEnumerable target) private {
        target.grantRole(DEFAULT_ADMIN_ROLE, address(timelock));
        target.renounceRole(DEFAULT_ADMIN_ROLE, address(this));
    }

    function _assertHandedOver(AccessControlEnumerable target) private view {
        vm.assertEq(target.getRoleMemberCount(DEFAULT_ADMIN_ROLE), 1, "admins");
        vm.assertEq(target.getRoleMember(DEFAULT_ADMIN_ROLE, 0), address(timelock), "admin");
        string[5] memory roles =
            ["DISTRIBUTOR_ROLE", "GUARDIAN_ROLE", "PROPOSER_ROLE", "APPROVER_ROLE", "CANCELLER_ROLE"];
        for (uint256 i = 0; i < roles.length; ++i) {
            vm.assertFalse(target.hasRole(keccak256(bytes(roles[i])), address(this)), "a role of the deployer");
        }
    }

    function _schedule(bytes memory call, uint256 delay) private {
        vm.prank(ADMIN);
        timelock.schedule(address(distributor), 0, call, 0, 0, delay);
    }

    function _execute(bytes memory call) private {
        vm.prank(ADMIN);
        timelock.execute(address(distributor), 0, call, 0, 0);
    }

    function _unauthorized(address account) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, account, DEFAULT_ADMIN_ROLE
            );
    }
}
