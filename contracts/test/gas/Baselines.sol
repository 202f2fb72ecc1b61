// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

// What our gas is measured against (scripts/bench gas).

/// @dev Nothing but OpenZeppelin's ERC-20.
contract PlainToken is ERC20("Plain", "PLAIN") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @dev The algorithm of Disperse: pull the sum, then send each part. No guard of any kind.
contract Disperse {
    function disperse(IERC20 token, address[] calldata recipients, uint256[] calldata amounts) external {
        uint256 total = 0;
        for (uint256 i = 0; i < recipients.length; ++i) {
            total += amounts[i];
        }
        require(token.transferFrom(msg.sender, address(this), total));
        for (uint256 i = 0; i < recipients.length; ++i) {
            require(token.transfer(recipients[i], amounts[i]));
        }
    }
}

/// @dev A loop over what the contract already has: less cannot be done with this token.
contract TransferLoop {
    function pay(IERC20 token, address[] calldata recipients, uint256[] calldata amounts) external {
        for (uint256 i = 0; i < recipients.length; ++i) {
            token.transfer(recipients[i], amounts[i]);
        }
    }
}
