// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ISurplusVault} from "../interfaces/ISurplusVault.sol";
import {DepositPool} from "./DepositPool.sol";
import {VaultFees} from "./VaultFees.sol";

/// @title Deposits that stand behind loans: what a liquidation gains belongs to those who had them before it
/// @notice Who liquidates settles `debt` itself, so deposits stay what they are, and pays the `gain` into the vault.
contract StabilityPool is DepositPool {
    using VaultFees for ISurplusVault;

    event Liquidated(uint256 debt, uint256 gain);

    ISurplusVault public immutable vault;

    constructor(address vault_, address token_) DepositPool(token_) {
        vault = ISurplusVault(vault_);
    }

    function liquidate(uint256 debt, uint256 gain) external {
        emit Liquidated(debt, gain);
        vault.payFrom(token, msg.sender, gain);
    }
}
