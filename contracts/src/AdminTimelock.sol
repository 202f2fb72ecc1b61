// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title The admin of vault and distributor: what it does was announced, and could be cancelled, for a delay before
/// @notice OpenZeppelin's timelock whose role holders can be listed, so that anyone can see that there are no others.
/// The admins propose, cancel and execute; the timelock is its own admin from the first block.
contract AdminTimelock is TimelockController, AccessControlEnumerable {
    constructor(uint256 minDelay, address[] memory admins)
        TimelockController(minDelay, admins, admins, address(0))
    {}

    function supportsInterface(bytes4 interfaceId)
        public
        view
        override(TimelockController, AccessControlEnumerable)
        returns (bool)
    {
        return super.supportsInterface(interfaceId);
    }

    function _grantRole(bytes32 role, address account)
        internal
        override(AccessControl, AccessControlEnumerable)
        returns (bool)
    {
        return super._grantRole(role, account);
    }

    function _revokeRole(bytes32 role, address account)
        internal
        override(AccessControl, AccessControlEnumerable)
        returns (bool)
    {
        return super._revokeRole(role, account);
    }
}
