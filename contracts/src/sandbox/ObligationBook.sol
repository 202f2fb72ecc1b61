// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title What the sandbox's treasury owes to others: a reserve must cover `total` before anything is a surplus
contract ObligationBook is Ownable {
    event Incurred(uint256 amount);
    event Settled(uint256 amount);

    error InsufficientObligations(uint256 total, uint256 needed);

    uint256 public total;

    constructor() Ownable(msg.sender) {}

    function incur(uint256 amount) external onlyOwner {
        total += amount;
        emit Incurred(amount);
    }

    function settle(uint256 amount) external onlyOwner {
        if (amount > total) revert InsufficientObligations(total, amount);
        total -= amount;
        emit Settled(amount);
    }
}
