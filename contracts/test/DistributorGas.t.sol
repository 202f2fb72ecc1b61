// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {DistributorFixture} from "./DistributorFixture.sol";
import {PlainToken} from "./gas/Baselines.sol";

/// @dev What a recipient of a batch of 200 costs, everything included: 1/200 of the whole transaction.
contract DistributorGasTest is DistributorFixture {
    uint256 private constant COUNT = 200;

    event GasPerRecipient(string balances, uint256 gas);

    PlainToken private plain;

    function setUp() public override {
        super.setUp();
        plain = new PlainToken();
        plain.mint(address(vault), FUNDS);
        allow(address(plain));
    }

    function test_gas__recipients_that_held_nothing__within_budget() public {
        _measure("cold", 27_300);
    }

    function test_gas__recipients_that_held_some__within_budget() public {
        for (uint256 i = 0; i < COUNT; ++i) {
            plain.mint(_recipient(i), 1);
        }
        _measure("warm", 10_150);
    }

    function test_gas__250_recipients_that_held_nothing__fit_in_half_a_transaction() public {
        vm.assertLe(_transactionGas(250), 16_777_216 / 2, "gas");
    }

    function _measure(string memory balances, uint256 budget) private {
        uint256 gas = _transactionGas(COUNT) / COUNT;
        emit GasPerRecipient(balances, gas);
        vm.assertLe(gas, budget, "gas per recipient");
    }

    function _transactionGas(uint256 count) private returns (uint256) {
        Plan memory plan = emptyPlan(1);
        plan.token = address(plain);
        (address[] memory recipients, uint256[] memory amounts) = (new address[](count), new uint256[](count));
        for (uint256 i = 0; i < count; ++i) {
            (recipients[i], amounts[i]) = (_recipient(i), 1_000_000 + i);
        }
        addBatch(plan, 0, recipients, amounts);
        bytes32 id = propose(plan);
        bytes memory call = abi.encodeCall(distributor.executeBatch, (id, 0, recipients, amounts));
        return transactionGas(address(distributor), call, address(vault), address(plain));
    }

    /// @dev Addresses as real ones are: without zero bytes, in ascending order.
    function _recipient(uint256 i) private pure returns (address) {
        return address(uint160((0x1111 + i) << 144 | 0x111111111111111111111111111111111111));
    }
}
