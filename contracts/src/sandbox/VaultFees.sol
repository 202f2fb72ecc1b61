// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ISurplusVault} from "../interfaces/ISurplusVault.sol";

/// @title How the sandbox's protocols pay what they earn into the vault
/// @notice Through {ISurplusVault-payFee}, so that the books know it for what it is: a plain transfer has nothing that
/// explains it.
library VaultFees {
    using SafeERC20 for IERC20;

    /// @dev `from` has approved the calling contract, which hands all of it on at once.
    function payFrom(ISurplusVault vault, IERC20 token, address from, uint256 amount) internal {
        token.safeTransferFrom(from, address(this), amount);
        token.forceApprove(address(vault), amount);
        vault.payFee(address(token), amount);
    }
}
