// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev A token that does something else for each recipient. Only `transfer` misbehaves.
contract MisbehavingToken is ERC20("Misbehaving", "BAD") {
    enum Behaviour {
        Honest,
        ReturnsNothing, // pays, as USDT does
        Reenters, // makes the call that it was told to make, then pays
        Reverts,
        ReturnsFalse,
        ReturnsBomb, // succeeds with 128 KiB of zeros
        RevertsBomb,
        BurnsGas
    }

    uint256 private constant BOMB_BYTES = 128 * 1024;

    mapping(address to => Behaviour) public behaviour;

    address private _reentryTarget;
    bytes private _reentryData;
    /// @dev The first four bytes of what the call reverted with; zero where it did not revert.
    bytes4 public reentryError;
    uint256 public reentries;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function behave(address to, Behaviour behaviour_) external {
        behaviour[to] = behaviour_;
    }

    function reenterWith(address target, bytes calldata data) external {
        _reentryTarget = target;
        _reentryData = data;
    }

    /// @dev Whether a recipient with this behaviour has the tokens afterwards.
    function pays(address to) external view returns (bool) {
        return behaviour[to] <= Behaviour.Reenters;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        Behaviour b = behaviour[to];
        if (b == Behaviour.Reverts) revert("refused");
        if (b == Behaviour.ReturnsFalse) return false;
        if (b == Behaviour.BurnsGas) _burnGas();
        if (b == Behaviour.ReturnsBomb || b == Behaviour.RevertsBomb) _bomb(b == Behaviour.RevertsBomb);
        if (b == Behaviour.Reenters) _reenter();
        super.transfer(to, amount);
        if (b == Behaviour.ReturnsNothing) {
            assembly {
                return(0, 0)
            }
        }
        return true;
    }

    function _reenter() private {
        (bool success, bytes memory result) = _reentryTarget.call(_reentryData);
        reentries += 1;
        reentryError = success ? bytes4(0) : bytes4(result);
    }

    function _burnGas() private view {
        while (gasleft() > 0) {}
    }

    function _bomb(bool reverting) private pure {
        assembly {
            // Far behind anything that Solidity has written, so all zero.
            let start := add(mload(0x40), 0x1000)
            if reverting { revert(start, BOMB_BYTES) }
            return(start, BOMB_BYTES)
        }
    }
}
