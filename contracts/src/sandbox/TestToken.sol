// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A token for the sandbox: anybody's money is its owner's to make, and some accounts may be refused
contract TestToken is ERC20, Ownable {
    event BlockedSet(address indexed account, bool blocked);

    error RecipientBlocked(address account);

    mapping(address account => bool) public blocked;

    uint8 private immutable _decimals;

    constructor(string memory name_, string memory symbol_, uint8 decimals_) ERC20(name_, symbol_) Ownable(msg.sender) {
        _decimals = decimals_;
    }

    function mint(address to, uint256 amount) external onlyOwner {
        _mint(to, amount);
    }

    /// @notice As the issuers of real tokens can: transfers to a blocked account revert.
    function setBlocked(address account, bool blocked_) external onlyOwner {
        blocked[account] = blocked_;
        emit BlockedSet(account, blocked_);
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (blocked[to]) revert RecipientBlocked(to);
        super._update(from, to, amount);
    }
}
