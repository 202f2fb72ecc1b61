// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ISurplusVault} from "../interfaces/ISurplusVault.sol";
import {VaultFees} from "./VaultFees.sol";

/// @title Where the sandbox's solvers settle trades, and what they gain or lose by it
/// @notice What a solver owes it pays into the vault at once; what it is owed is only written down.
contract Settlement {
    using VaultFees for ISurplusVault;

    /// @notice `trader` got `improvement` more than it was quoted, by an order that `partner` brought.
    event Trade(address indexed trader, address indexed partner, uint256 volume, uint256 improvement);
    /// @notice A settlement left `solver` with `amount` too much or, below zero, too little.
    event Imbalance(address indexed solver, int256 amount);

    ISurplusVault public immutable vault;
    IERC20 public immutable token;

    constructor(address vault_, address token_) {
        vault = ISurplusVault(vault_);
        token = IERC20(token_);
    }

    /// @notice The caller settles a trade of others and pays its improvement into the vault.
    function trade(address trader, address partner, uint256 volume, uint256 improvement) external {
        emit Trade(trader, partner, volume, improvement);
        vault.payFrom(token, msg.sender, improvement);
    }

    /// @notice The caller, a solver, squares a settlement: it pays a positive `amount` into the vault.
    function square(int256 amount) external {
        emit Imbalance(msg.sender, amount);
        if (amount > 0) vault.payFrom(token, msg.sender, uint256(amount));
    }
}
