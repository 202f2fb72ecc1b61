// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BoundedTransfer} from "../src/libraries/BoundedTransfer.sol";
import {ForgeTest} from "./ForgeTest.sol";
import {MisbehavingToken} from "./tokens/MisbehavingToken.sol";
import {NoReturnToken} from "./tokens/NoReturnToken.sol";

/// @dev Returns what it was made with, whatever is called.
contract Echo {
    bytes private _answer;

    constructor(bytes memory answer) {
        _answer = answer;
    }

    fallback(bytes calldata) external returns (bytes memory) {
        return _answer;
    }
}

contract BoundedTransferTest is ForgeTest {
    uint256 private constant GAS = 100_000;
    address private constant TO = address(0xCAFE);

    function test_try_transfer__no_code__false() public {
        vm.assertFalse(BoundedTransfer.tryTransfer(address(0xDEAD), TO, 1, GAS), "no code");
    }

    function test_try_transfer__answers__only_true_or_nothing_counts() public {
        _assertAnswer(abi.encode(true), true);
        _assertAnswer("", true);
        _assertAnswer(abi.encode(true, "and more"), true);
        _assertAnswer(abi.encode(false), false);
        _assertAnswer(abi.encode(2), false);
        _assertAnswer(hex"01", false);
        _assertAnswer(abi.encodePacked(bytes31(0)), false);
    }

    function test_try_transfer__honest_tokens__transferred() public {
        MisbehavingToken token = new MisbehavingToken();
        token.mint(address(this), 5);
        vm.assertTrue(BoundedTransfer.tryTransfer(address(token), TO, 5, GAS), "true");
        vm.assertEq(token.balanceOf(TO), 5, "balance");
        vm.assertFalse(BoundedTransfer.tryTransfer(address(token), TO, 1, GAS), "more than is there");

        NoReturnToken silent = new NoReturnToken();
        silent.mint(address(this), 5);
        vm.assertTrue(BoundedTransfer.tryTransfer(address(silent), TO, 5, GAS), "nothing");
        vm.assertEq(silent.balanceOf(TO), 5, "balance");
    }

    function test_try_transfer__token_burns_gas__no_more_than_the_limit() public {
        MisbehavingToken token = new MisbehavingToken();
        token.behave(TO, MisbehavingToken.Behaviour.BurnsGas);
        uint256 before = gasleft();
        vm.assertFalse(BoundedTransfer.tryTransfer(address(token), TO, 1, GAS), "burned");
        vm.assertLe(before - gasleft(), GAS + 10_000, "gas");
    }

    function _assertAnswer(bytes memory answer, bool transferred) private {
        address token = address(new Echo(answer));
        bool success = BoundedTransfer.tryTransfer(token, TO, 1, GAS);
        vm.assertEq(success ? 1 : 0, transferred ? 1 : 0, "answer");
    }
}
