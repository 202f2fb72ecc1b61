// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev Takes one percent of each transfer: out of what arrives, or from the sender on top.
contract FeeToken is ERC20("Fee", "FEE") {
    bool public immutable onTop;
    bool public enabled = true;

    constructor(bool onTop_) {
        onTop = onTop_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function enable(bool enabled_) external {
        enabled = enabled_;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (!enabled || from == address(0)) return;
        super._update(onTop ? from : to, address(0), amount / 100);
    }
}
