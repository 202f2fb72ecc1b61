// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title An ERC-20 transfer that can fail but not hurt
/// @notice The token gets a limited amount of gas and can hand back one word at most.
library BoundedTransfer {
    /// @notice Whether `token` transferred `amount` to `to`: the call did not revert, and it returned true or, from a
    /// contract, nothing (as USDT does).
    /// @dev Assembly because Solidity copies all that a call returns, even where the result is not used: a token that
    /// returns a megabyte would make the caller pay for it ("return bomb"). Here only the first word is copied, to the
    /// scratch space. OpenZeppelin's LowLevelCall does the same but cannot limit the gas.
    ///
    /// The caller must hold at least 64/63 of `gasLimit`: with less, the EVM quietly gives the token less (EIP-150).
    function tryTransfer(address token, address to, uint256 amount, uint256 gasLimit) internal returns (bool success) {
        bytes4 selector = IERC20.transfer.selector;
        assembly ("memory-safe") {
            // Behind all that is allocated, and not allocated either: the next call writes over it.
            let data := mload(0x40)
            mstore(data, selector)
            mstore(add(data, 0x04), and(to, 0xffffffffffffffffffffffffffffffffffffffff))
            mstore(add(data, 0x24), amount)
            success := call(gasLimit, token, 0, data, 0x44, 0x00, 0x20)
            switch returndatasize()
            case 0 { success := and(success, gt(extcodesize(token), 0)) }
            default { success := and(success, and(gt(returndatasize(), 0x1f), eq(mload(0x00), 1))) }
        }
    }
}
