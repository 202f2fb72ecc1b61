// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ISurplusVault} from "../interfaces/ISurplusVault.sol";
import {VaultFees} from "./VaultFees.sol";

/// @title A pool that smooths lumpy income: whatever any member's block earned goes to all members alike
/// @notice The money goes on to the vault at once. Who is banned stays out for good.
contract SmoothingPool is Ownable {
    using VaultFees for ISurplusVault;

    enum Standing {
        Outside,
        Member,
        Banned
    }

    event MemberRegistered(address indexed member);
    event MemberRemoved(address indexed member);
    event MemberBanned(address indexed member);
    event Inflow(address indexed payer, uint256 amount);

    error UnexpectedStanding(address account, Standing standing);

    ISurplusVault public immutable vault;
    IERC20 public immutable token;

    mapping(address account => Standing) public standing;

    constructor(address vault_, address token_) Ownable(msg.sender) {
        vault = ISurplusVault(vault_);
        token = IERC20(token_);
    }

    function register() external {
        _move(msg.sender, Standing.Outside, Standing.Member);
        emit MemberRegistered(msg.sender);
    }

    function resign() external {
        _move(msg.sender, Standing.Member, Standing.Outside);
        emit MemberRemoved(msg.sender);
    }

    function ban(address member) external onlyOwner {
        _move(member, Standing.Member, Standing.Banned);
        emit MemberBanned(member);
    }

    /// @notice Take `amount` from the caller, who has approved it, and pay it into the vault.
    function payIn(uint256 amount) external {
        emit Inflow(msg.sender, amount);
        vault.payFrom(token, msg.sender, amount);
    }

    function _move(address account, Standing from, Standing to) private {
        if (standing[account] != from) revert UnexpectedStanding(account, standing[account]);
        standing[account] = to;
    }
}
