// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev Balances are shares × index: they change without a transfer, and a transfer can arrive an atom short, as with
/// stETH.
contract RebasingToken is ERC20("Rebasing", "RB") {
    uint256 private constant UNIT = 1e18;

    uint256 public index = UNIT;

    function mint(address to, uint256 amount) external {
        _mint(to, _shares(amount));
    }

    function rebase(uint256 index_) external {
        index = index_;
    }

    function balanceOf(address account) public view override returns (uint256) {
        return super.balanceOf(account) * index / UNIT;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return super.transfer(to, _shares(amount));
    }

    function _shares(uint256 amount) private view returns (uint256) {
        return amount * UNIT / index;
    }
}
