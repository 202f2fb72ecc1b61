// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Distributor} from "../../src/Distributor.sol";
import {SurplusVault} from "../../src/SurplusVault.sol";
import {IDistributor} from "../../src/interfaces/IDistributor.sol";
import {IProposalGate} from "../../src/interfaces/IProposalGate.sol";
import {ISurplusVault} from "../../src/interfaces/ISurplusVault.sol";
import {ForgeTest} from "../ForgeTest.sol";
import {MisbehavingToken} from "../tokens/MisbehavingToken.sol";

/// @dev All that can happen to a vault and a distributor, in any order: the handler is payer, proposer, guardian and
/// admin at once, and plays the recipients. It knows what must come out of each call, asserts that it does, and keeps
/// its own books for the invariants to compare.
contract PayoutHandler is ForgeTest {
    struct Batch {
        bytes32 id;
        uint32 index;
        address[] recipients;
        uint256[] amounts;
        uint256 executions;
    }

    uint256 public constant ACTORS = 6;
    uint256 private constant AMOUNT_MAX = 1_000;
    uint64 private constant DELAY = 2 hours;
    uint64 private constant LIFETIME = 12 hours;
    address private constant APPROVER = address(0xA99);

    SurplusVault public immutable vault;
    Distributor public immutable distributor;
    MisbehavingToken public immutable token;

    bytes32[] public ids;
    Batch[] private _batches;

    // The handler's own books.
    mapping(bytes32 id => uint256) public committed;
    mapping(bytes32 id => uint256) public paid;
    mapping(bytes32 id => uint256) public credited;
    mapping(uint256 epoch => uint256) public released;
    mapping(bytes32 id => IProposalGate.State) public stateOf;
    mapping(bytes32 id => uint64) public readyAt;
    mapping(bytes32 id => uint64) public expiresAt;
    mapping(bytes32 id => uint256) public batchesLeft;
    mapping(uint256 epoch => uint256) public autoPassed;
    uint256 public totalCredited;
    uint256 public totalWithdrawn;

    constructor() {
        vault = new SurplusVault(address(this), 1 days);
        distributor = new Distributor(address(this), address(vault), DELAY, LIFETIME);
        token = new MisbehavingToken();
        vault.grantRole(vault.DISTRIBUTOR_ROLE(), address(distributor));
        vault.grantRole(vault.GUARDIAN_ROLE(), address(this));
        distributor.grantRole(distributor.PROPOSER_ROLE(), address(this));
        distributor.grantRole(distributor.GUARDIAN_ROLE(), address(this));
        distributor.grantRole(distributor.APPROVER_ROLE(), APPROVER);
        // Or a token that calls back would be stopped by its missing role and not by the guard.
        distributor.grantRole(distributor.PROPOSER_ROLE(), address(token));
        vault.setLimits(address(token), 0, 100 * AMOUNT_MAX);
        distributor.setAutoLimit(address(token), 100 * AMOUNT_MAX);
    }

    // ── What may happen ─────────────────────────────────────────────────────────────────────────────────────────────
    function payFee(uint256 amount) external {
        amount = bound(amount, 0, 20 * AMOUNT_MAX);
        token.mint(address(this), amount);
        token.approve(address(vault), amount);
        vault.payFee(address(token), amount);
    }

    function propose(bytes32 seed) external {
        uint64 epochStart = uint64(ids.length);
        bytes32 id = distributor.distributionId("rule", epochStart, epochStart + 1, address(token));
        bytes32[] memory hashes = new bytes32[](pick(seed, 0, 1, 3));
        uint32 recipients = 0;
        uint256 total = 0;
        for (uint32 i = 0; i < hashes.length; ++i) {
            Batch storage batch = _draw(id, i, keccak256(abi.encode(seed, i)));
            hashes[i] = keccak256(abi.encode(id, i, batch.recipients, batch.amounts));
            recipients += uint32(batch.recipients.length);
            total += _sum(batch.amounts);
        }
        distributor.propose("rule", epochStart, epochStart + 1, address(token), total, recipients, hashes, seed, "");
        ids.push(id);
        committed[id] = total;
        batchesLeft[id] = hashes.length;
        _bookGate(id, total);
    }

    function approve(uint256 which) external {
        if (ids.length == 0) return;
        bytes32 id = ids[which % ids.length];
        (bytes32 content,,,,) = distributor.proposal(id);
        IProposalGate.State state = stateOf[id];
        vm.prank(APPROVER);
        try distributor.approve(id, content) {
            vm.assertTrue(state < IProposalGate.State.Vetoed, "approved though it should not be");
            stateOf[id] = IProposalGate.State.Approved;
            uint64 expires = uint64(block.timestamp) + LIFETIME;
            if (expires > expiresAt[id]) expiresAt[id] = expires;
        } catch (bytes memory reason) {
            _checkClosed(state, bytes4(reason));
        }
    }

    /// @dev Rarer than the rest, so that most distributions are paid.
    function veto(uint256 which, uint256 chance) external {
        if (ids.length == 0 || chance % 4 != 0) return;
        bytes32 id = ids[which % ids.length];
        IProposalGate.State state = stateOf[id];
        try distributor.veto(id) {
            vm.assertTrue(state < IProposalGate.State.Vetoed, "vetoed though it should not be");
            stateOf[id] = IProposalGate.State.Vetoed;
        } catch (bytes memory reason) {
            _checkClosed(state, bytes4(reason));
        }
    }

    function setAutoLimit(uint256 limit) external {
        distributor.setAutoLimit(address(token), bound(limit, 0, 10 * AMOUNT_MAX));
    }

    function proposeAgain(uint256 which, bytes32 content) external {
        if (ids.length == 0) return;
        uint64 epochStart = uint64(which % ids.length);
        bytes32[] memory hashes = new bytes32[](1);
        hashes[0] = keccak256(abi.encode(content));
        try distributor.propose("rule", epochStart, epochStart + 1, address(token), 1, 1, hashes, content, "") {
            vm.assertTrue(false, "proposed twice");
        } catch (bytes memory reason) {
            vm.assertEq(bytes4(reason), IProposalGate.AlreadyProposed.selector, "error of a second proposal");
        }
    }

    function execute(uint256 which, uint256 nested) external {
        if (_batches.length == 0) return;
        Batch storage batch = _batches[which % _batches.length];
        _armReentry(_batches[nested % _batches.length]);
        (uint256[] memory balances, uint256[] memory owed) = _accounts(batch);
        uint256 vaultBefore = token.balanceOf(address(vault));
        bytes4 refusal = _refusalOf(batch, vaultBefore);

        try distributor.executeBatch(batch.id, batch.index, batch.recipients, batch.amounts) {
            vm.assertEq(bytes32(0), refusal, "a batch was executed that should be refused");
            batch.executions += 1;
            batchesLeft[batch.id] -= 1;
            if (batchesLeft[batch.id] == 0) stateOf[batch.id] = IProposalGate.State.Done;
            vm.assertEq(batch.executions, 1, "executions of a batch");
            _checkPayments(batch, balances, owed);
            _checkRelease(vaultBefore, _sum(batch.amounts));
        } catch (bytes memory reason) {
            vm.assertEq(bytes4(reason), refusal, "error of a refused batch");
            vm.assertEq(token.balanceOf(address(vault)), vaultBefore, "vault after a refusal");
        }
    }

    function withdraw(uint256 who, uint256 to) external {
        (address account, address receiver) = (actor(who % ACTORS), actor(to % ACTORS));
        uint256 owed = distributor.owed(address(token), account);
        uint256 balance = token.balanceOf(receiver);
        bool pays = token.pays(receiver);
        bool expected = owed != 0 && !vault.paused() && pays;
        token.reenterWith(address(distributor), abi.encodeCall(distributor.withdraw, (address(token), receiver)));
        vm.prank(account);
        // Limited, for a token that burns all of it.
        try distributor.withdraw{gas: 1_000_000}(address(token), receiver) {
            vm.assertTrue(expected, "withdrawn though it should not be");
            vm.assertEq(token.balanceOf(receiver), balance + owed, "withdrawn");
            vm.assertEq(distributor.owed(address(token), account), 0, "owed after withdrawal");
            totalWithdrawn += owed;
        } catch {
            vm.assertFalse(expected, "not withdrawn though it should be");
            vm.assertEq(distributor.owed(address(token), account), owed, "owed after a refusal");
        }
    }

    function misbehave(uint256 who, uint256 behaviour) external {
        token.behave(actor(who % ACTORS), MisbehavingToken.Behaviour(behaviour % 8));
    }

    /// @dev Rarer than the rest, so that much happens while nothing is paused.
    function pause(uint256 chance) external {
        if (!vault.paused() && chance % 4 == 0) vault.pause();
    }

    function unpause() external {
        if (vault.paused()) vault.unpause();
    }

    function setLimits(uint256 floor, uint256 cap) external {
        vault.setLimits(address(token), bound(floor, 0, 10 * AMOUNT_MAX), bound(cap, 0, 20 * AMOUNT_MAX));
    }

    function passTime(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, 1 days));
    }

    // ── What the invariants read ────────────────────────────────────────────────────────────────────────────────────
    function actor(uint256 i) public pure returns (address) {
        return address(uint160(0xA0000 + i));
    }

    function idCount() external view returns (uint256) {
        return ids.length;
    }

    function batchCount() external view returns (uint256) {
        return _batches.length;
    }

    function batchAt(uint256 i) external view returns (bytes32 id, uint32 index, uint256 executions) {
        return (_batches[i].id, _batches[i].index, _batches[i].executions);
    }

    // ── How each call is judged ─────────────────────────────────────────────────────────────────────────────────────
    function _checkPayments(Batch storage batch, uint256[] memory balances, uint256[] memory owed) private {
        for (uint256 i = 0; i < balances.length; ++i) {
            (address to, uint256 amount) = (batch.recipients[i], batch.amounts[i]);
            bool pays = token.pays(to);
            vm.assertEq(token.balanceOf(to), balances[i] + (pays ? amount : 0), "balance of a recipient");
            vm.assertEq(distributor.owed(address(token), to), owed[i] + (pays ? 0 : amount), "credit of a recipient");
            if (pays) paid[batch.id] += amount;
            else (credited[batch.id], totalCredited) = (credited[batch.id] + amount, totalCredited + amount);
        }
    }

    function _checkRelease(uint256 vaultBefore, uint256 sum) private {
        (uint256 floor, uint256 cap) = vault.limits(address(token));
        released[vault.currentEpoch()] += sum;
        vm.assertEq(token.balanceOf(address(vault)), vaultBefore - sum, "vault");
        vm.assertGe(token.balanceOf(address(vault)), floor, "vault against its floor");
        if (sum != 0) vm.assertLe(released[vault.currentEpoch()], cap, "epoch's releases against the cap");
    }

    /// @dev The error that the batch must be refused with; zero where it must be executed.
    function _refusalOf(Batch storage batch, uint256 vaultBalance) private view returns (bytes4) {
        uint256 sum = _sum(batch.amounts);
        (uint256 floor, uint256 cap) = vault.limits(address(token));
        if (vault.paused()) return IProposalGate.VaultPaused.selector;
        bytes4 refusal = _refusalOfGate(batch.id);
        if (refusal != 0) return refusal;
        if (batch.executions != 0) return IDistributor.AlreadyExecuted.selector;
        uint256 spent = released[vault.currentEpoch()];
        if (sum > (cap > spent ? cap - spent : 0)) return ISurplusVault.CapExceeded.selector;
        if (sum > vaultBalance) return IERC20Errors.ERC20InsufficientBalance.selector;
        return vaultBalance - sum < floor ? ISurplusVault.FloorBreached.selector : bytes4(0);
    }

    function _refusalOfGate(bytes32 id) private view returns (bytes4) {
        if (stateOf[id] == IProposalGate.State.Vetoed) return IProposalGate.ProposalVetoed.selector;
        if (expiresAt[id] == 0) return IProposalGate.NotApproved.selector;
        if (block.timestamp < readyAt[id]) return IProposalGate.NotReady.selector;
        return block.timestamp < expiresAt[id] ? bytes4(0) : IProposalGate.ApprovalExpired.selector;
    }

    function _bookGate(bytes32 id, uint256 total) private {
        uint256 epoch = vault.currentEpoch();
        uint256 limit = distributor.autoLimit(address(token));
        bool passes = autoPassed[epoch] + total <= limit;
        stateOf[id] = passes ? IProposalGate.State.Approved : IProposalGate.State.Proposed;
        readyAt[id] = uint64(block.timestamp) + (passes ? 0 : DELAY);
        expiresAt[id] = passes ? type(uint64).max : 0;
        if (passes) autoPassed[epoch] += total;
    }

    function _checkClosed(IProposalGate.State state, bytes4 actual) private pure {
        bytes4 expected = state == IProposalGate.State.Vetoed
            ? IProposalGate.ProposalVetoed.selector
            : IProposalGate.ProposalDone.selector;
        vm.assertTrue(state >= IProposalGate.State.Vetoed, "refused though it should not be");
        vm.assertEq(actual, expected, "error of a closed proposal");
    }

    /// @dev A recipient that calls back tries to have another batch, or the same, executed within this one.
    function _armReentry(Batch storage batch) private {
        bytes memory call =
            abi.encodeCall(distributor.executeBatch, (batch.id, batch.index, batch.recipients, batch.amounts));
        token.reenterWith(address(distributor), call);
    }

    function _draw(bytes32 id, uint32 index, bytes32 seed) private returns (Batch storage batch) {
        batch = _batches.push();
        (batch.id, batch.index) = (id, index);
        uint256 members = pick(seed, 0, 1, 2 ** ACTORS - 1);
        for (uint256 i = 0; i < ACTORS; ++i) {
            if (members >> i & 1 == 0) continue;
            batch.recipients.push(actor(i));
            batch.amounts.push(pick(seed, i + 1, 0, AMOUNT_MAX));
        }
    }

    function _accounts(Batch storage batch) private view returns (uint256[] memory balances, uint256[] memory owed) {
        uint256 count = batch.recipients.length;
        (balances, owed) = (new uint256[](count), new uint256[](count));
        for (uint256 i = 0; i < count; ++i) {
            balances[i] = token.balanceOf(batch.recipients[i]);
            owed[i] = distributor.owed(address(token), batch.recipients[i]);
        }
    }

    function _sum(uint256[] storage amounts) private view returns (uint256 sum) {
        for (uint256 i = 0; i < amounts.length; ++i) {
            sum += amounts[i];
        }
    }
}
