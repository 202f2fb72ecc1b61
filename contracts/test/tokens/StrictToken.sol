// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev Any number of decimals, and no transfer of nothing.
contract StrictToken is ERC20 {
    error NothingToTransfer();

    uint8 private immutable _decimals;

    constructor(uint8 decimals_) ERC20("Strict", "STRICT") {
        _decimals = decimals_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (amount == 0) revert NothingToTransfer();
        return super.transfer(to, amount);
    }
}
