// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC4626} from "@openzeppelin/contracts/token/ERC20/extensions/ERC4626.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ISurplusVault} from "../interfaces/ISurplusVault.sol";
import {VaultFees} from "./VaultFees.sol";

/// @title Deposits whose shares grow in value with each harvest, and shrink with each loss
/// @notice Who harvests brings the depositors their profit and the protocol as much again, which goes to the vault. So
/// whatever part of the growth is skimmed from there is covered, and no share loses by it.
///
///     strategy ──profit──► here: assets per share rise
///              └─profit──► vault: what may be skimmed
contract YieldVault is ERC4626, Ownable {
    using SafeERC20 for IERC20;
    using VaultFees for ISurplusVault;

    event Harvested(uint256 profit);
    event Loss(uint256 amount);

    ISurplusVault public immutable vault;

    constructor(address vault_, address token_)
        ERC20("Sandbox Yield", "YLDX")
        ERC4626(IERC20(token_))
        Ownable(msg.sender)
    {
        vault = ISurplusVault(vault_);
    }

    /// @notice Take twice the `profit` from the caller, who has approved it.
    function harvest(uint256 profit) external {
        emit Harvested(profit);
        IERC20 token = IERC20(asset());
        token.safeTransferFrom(msg.sender, address(this), profit);
        vault.payFrom(token, msg.sender, profit);
    }

    /// @notice The strategy loses `amount` of the deposits: it leaves with the owner, who had invested it.
    function lose(uint256 amount) external onlyOwner {
        emit Loss(amount);
        IERC20(asset()).safeTransfer(msg.sender, amount);
    }
}
