// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Participants' deposits in the sandbox: what the shares of a surplus are measured by
contract DepositPool {
    using SafeERC20 for IERC20;

    event Deposited(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);

    error InsufficientDeposit(address account, uint256 deposit, uint256 needed);

    IERC20 public immutable token;

    mapping(address account => uint256) public deposits;

    uint256 public totalDeposits;

    constructor(address token_) {
        token = IERC20(token_);
    }

    function deposit(uint256 amount) external {
        deposits[msg.sender] += amount;
        totalDeposits += amount;
        emit Deposited(msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    function withdraw(uint256 amount) external {
        uint256 balance = deposits[msg.sender];
        if (amount > balance) revert InsufficientDeposit(msg.sender, balance, amount);
        deposits[msg.sender] = balance - amount;
        totalDeposits -= amount;
        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }
}
