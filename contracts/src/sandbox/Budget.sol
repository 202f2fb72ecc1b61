// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title What the sandbox's treasury expects to spend: it must be able to for some months before anything is a surplus
contract Budget is Ownable {
    event BurnSet(uint256 burnPerMonth);

    uint256 public burnPerMonth;

    constructor(uint256 burnPerMonth_) Ownable(msg.sender) {
        _set(burnPerMonth_);
    }

    function setBurn(uint256 burnPerMonth_) external onlyOwner {
        _set(burnPerMonth_);
    }

    function _set(uint256 burnPerMonth_) private {
        burnPerMonth = burnPerMonth_;
        emit BurnSet(burnPerMonth_);
    }
}
