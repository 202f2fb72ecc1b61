// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Distributor} from "../../src/Distributor.sol";
import {SurplusVault} from "../../src/SurplusVault.sol";
import {IProposalGate} from "../../src/interfaces/IProposalGate.sol";
import {ForgeTest} from "../ForgeTest.sol";
import {MisbehavingToken} from "../tokens/MisbehavingToken.sol";
import {PayoutHandler} from "./PayoutHandler.sol";

/// @dev What holds after any sequence of calls. What must hold within one call is asserted by the handler.
contract PayoutInvariants is ForgeTest {
    PayoutHandler private handler;
    SurplusVault private vault;
    Distributor private distributor;
    MisbehavingToken private token;

    function setUp() public {
        vm.warp(1_000 days);
        handler = new PayoutHandler();
        (vault, distributor, token) = (handler.vault(), handler.distributor(), handler.token());
        handler.payFee(10_000);
    }

    /// @dev Read by forge: only the handler is called.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_distributor__always__holds_what_it_owes() public view {
        uint256 owed = 0;
        for (uint256 i = 0; i < handler.ACTORS(); ++i) {
            owed += distributor.owed(address(token), handler.actor(i));
        }
        vm.assertEq(distributor.totalOwed(address(token)), owed, "sum of what is owed");
        vm.assertGe(token.balanceOf(address(distributor)), owed, "balance against what is owed");
        vm.assertEq(owed, handler.totalCredited() - handler.totalWithdrawn(), "owed against the handler's books");
    }

    function invariant_distribution__always__paid_and_credited_add_up() public view {
        for (uint256 i = 0; i < handler.idCount(); ++i) {
            bytes32 id = handler.ids(i);
            (,, uint256 left, uint32 batches, uint32 done) = distributor.proposal(id);
            vm.assertEq(handler.paid(id) + handler.credited(id) + left, handler.committed(id), "committed");
            if (done == batches) vm.assertEq(left, 0, "left by all batches");
        }
    }

    function invariant_batch__always__executed_at_most_once() public view {
        for (uint256 i = 0; i < handler.batchCount(); ++i) {
            (bytes32 id, uint32 index, uint256 executions) = handler.batchAt(i);
            vm.assertLe(executions, 1, "executions");
            vm.assertEq(distributor.executed(id, index) ? 1 : 0, executions, "executed");
        }
    }

    function invariant_gate__always__as_its_history_says() public view {
        for (uint256 i = 0; i < handler.idCount(); ++i) {
            bytes32 id = handler.ids(i);
            (IProposalGate.State state, uint64 readyAt, uint64 expiresAt) = distributor.gate(id);
            vm.assertEq(uint256(state), uint256(handler.stateOf(id)), "state");
            vm.assertEq(readyAt, handler.readyAt(id), "readyAt");
            vm.assertEq(expiresAt, handler.expiresAt(id), "expiresAt");
        }
        uint256 epoch = vault.currentEpoch();
        vm.assertEq(distributor.autoSpent(address(token), epoch), handler.autoPassed(epoch), "auto-limit's use");
    }

    function invariant_vault__always__counts_what_it_released() public view {
        uint256 epoch = vault.currentEpoch();
        vm.assertEq(vault.spent(address(token), epoch), handler.released(epoch), "spent");
    }

    function invariant_tokens__always__are_all_somewhere() public view {
        uint256 sum = token.balanceOf(address(vault)) + token.balanceOf(address(distributor));
        for (uint256 i = 0; i < handler.ACTORS(); ++i) {
            sum += token.balanceOf(handler.actor(i));
        }
        vm.assertEq(sum, token.totalSupply(), "supply");
    }

    /// @dev One fixed sequence through every action, so that the invariants cannot hold for lack of anything happening.
    function test_handler__each_action__takes_effect() public {
        address refused = handler.actor(0);
        handler.misbehave(0, uint256(MisbehavingToken.Behaviour.Reverts));
        handler.misbehave(1, uint256(MisbehavingToken.Behaviour.Reenters));
        for (uint256 i = 0; distributor.totalOwed(address(token)) == 0 || token.reentries() == 0; ++i) {
            vm.assertLe(i, 50, "no credit or no call back in fifty distributions");
            handler.payFee(10_000);
            uint256 first = handler.batchCount();
            handler.propose(bytes32(i));
            handler.proposeAgain(i, "other");
            for (uint256 j = first; j < handler.batchCount(); ++j) {
                handler.execute(j, j);
                handler.execute(j, j);
                (,, uint256 executions) = handler.batchAt(j);
                vm.assertEq(executions, 1, "executed");
            }
            handler.passTime(1 days);
        }
        _passTheGate();
        handler.pause(0);
        handler.withdraw(0, 2);
        vm.assertGe(distributor.owed(address(token), refused), 1, "owed");
        handler.unpause();
        handler.withdraw(0, 2);
        vm.assertEq(distributor.owed(address(token), refused), 0, "withdrawn");
        vm.assertGe(handler.totalWithdrawn(), 1, "withdrawn");
    }

    /// @dev One distribution waits, is approved, expires, is approved again, is paid; the next is vetoed.
    function _passTheGate() private {
        handler.setAutoLimit(0);
        (uint256 first, uint256 which) = (handler.batchCount(), handler.idCount());
        handler.propose("waits");
        bytes32 id = handler.ids(which);
        handler.execute(first, first);
        handler.approve(which);
        handler.execute(first, first);
        handler.passTime(12 hours - 1);
        handler.execute(first, first);
        vm.assertTrue(handler.stateOf(id) == IProposalGate.State.Approved, "approved");
        handler.approve(which);
        for (uint256 i = first; i < handler.batchCount(); ++i) {
            handler.execute(i, i);
        }
        vm.assertTrue(handler.stateOf(id) == IProposalGate.State.Done, "done");
        handler.veto(which, 0);
        handler.propose("vetoed");
        handler.veto(which + 1, 0);
        handler.veto(which + 1, 0);
        handler.execute(handler.batchCount() - 1, 0);
        vm.assertTrue(handler.stateOf(handler.ids(which + 1)) == IProposalGate.State.Vetoed, "vetoed");
    }
}
