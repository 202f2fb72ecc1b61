// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ProposalGate} from "./ProposalGate.sol";
import {IDistributor} from "./interfaces/IDistributor.sol";
import {BoundedTransfer} from "./libraries/BoundedTransfer.sol";

/// @title Pays each distribution exactly once, in batches
/// @notice {IDistributor} says what; here is how. Pausing, floor and cap are the vault's.
contract Distributor is IDistributor, ProposalGate, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    struct Proposal {
        bytes32 contentHash;
        // What batches not yet executed must pay: all of it at first, zero once every batch has executed.
        uint256 left;
        // One slot. `batchCount` is zero exactly where nothing was proposed.
        address token;
        uint32 batchCount;
        uint32 executedCount;
        // Payments that batches not yet executed must make.
        uint32 recipientsLeft;
    }

    /// @notice Recipients of one batch at most: with plain tokens it stays under half of what one transaction may use
    /// (EIP-7825: 16,777,216 gas).
    uint256 public constant MAX_RECIPIENTS = 250;

    /// @notice Gas for one transfer. Plain tokens need at most 50,000; what needs more becomes a credit, and its
    /// withdrawal has no limit. A token whose recipients can burn this (hooks) wants batches of at most 100.
    uint256 public constant TRANSFER_GAS = 100_000;

    /// @dev What must be left before each transfer: TRANSFER_GAS × 64/63, for EIP-150 keeps 1/64 of it from the call,
    /// and 5,000 more, which cover the few instructions between the check and the call, with an access to the token's
    /// account. As numbers, because Solidity computes a constant that names another one wherever it is used.
    uint256 private constant GAS_BEFORE_TRANSFER = 101_588 + 5_000;

    mapping(bytes32 id => Proposal) private _proposals;

    /// @dev The hash of each batch that is still to be executed. It is deleted before the batch is paid, so what was
    /// executed, or never proposed, has nothing to match.
    mapping(bytes32 id => mapping(uint256 index => bytes32)) private _batchHashes;

    mapping(address token => mapping(address account => uint256)) public owed;

    /// @dev The sum of `owed` over all accounts; never more than this contract's balance of a token that keeps
    /// balances as they are.
    mapping(address token => uint256) public totalOwed;

    constructor(address admin, address vault_, uint64 delay_, uint64 approvalLifetime_)
        ProposalGate(admin, vault_, delay_, approvalLifetime_)
    {}

    /// @inheritdoc IDistributor
    function propose(
        bytes32 ruleId,
        uint64 epochStart,
        uint64 epochEnd,
        address token,
        uint256 total,
        uint32 recipientCount,
        bytes32[] calldata batchHashes,
        bytes32 artifactHash,
        string calldata uri
    ) external onlyRole(PROPOSER_ROLE) returns (bytes32 id) {
        if (epochStart >= epochEnd) revert InvalidEpoch(epochStart, epochEnd);
        id = distributionId(ruleId, epochStart, epochEnd, token);
        _bind(id, token, total, recipientCount, batchHashes, artifactHash);
        _announce(id, ruleId, epochStart, epochEnd, artifactHash, uri);
        _passAutoLimit(id, token, total);
    }

    /// @inheritdoc IDistributor
    function executeBatch(bytes32 id, uint32 index, address[] calldata recipients, uint256[] calldata amounts)
        external
        nonReentrant
        whenVaultNotPaused
        onlyRole(PROPOSER_ROLE)
    {
        _requirePassable(id);
        // The arguments as they came, which are abi.encode(id, index, recipients, amounts) or match no hash.
        _consume(id, index, keccak256(msg.data[4:]));
        uint256 sum = _sum(recipients, amounts);
        address token = _disburse(id, index, sum, recipients.length);

        uint256 balanceBefore = IERC20(token).balanceOf(address(this));
        vault.release(id, token, sum);
        uint256 credited = _pay(id, index, token, recipients, amounts);
        _requireBalance(token, balanceBefore + credited);

        emit BatchExecuted(id, index, token, sum - credited, credited);
    }

    /// @inheritdoc IDistributor
    function withdraw(address token, address to) external nonReentrant whenVaultNotPaused {
        if (to == address(this)) revert InvalidRecipient(to);
        uint256 amount = owed[token][msg.sender];
        if (amount == 0) revert NothingOwed(token, msg.sender);
        delete owed[token][msg.sender];
        totalOwed[token] -= amount;

        emit Withdrawn(token, msg.sender, to, amount);
        uint256 balanceBefore = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransfer(to, amount);
        _requireBalance(token, balanceBefore - amount);
    }

    /// @inheritdoc IDistributor
    function executed(bytes32 id, uint32 index) external view returns (bool) {
        return index < _proposals[id].batchCount && _batchHashes[id][index] == 0;
    }

    /// @inheritdoc IDistributor
    function proposal(bytes32 id)
        external
        view
        returns (bytes32 contentHash, address token, uint256 left, uint32 batchCount, uint32 executedCount)
    {
        Proposal storage p = _proposals[id];
        return (p.contentHash, p.token, p.left, p.batchCount, p.executedCount);
    }

    function _contentHash(bytes32 id) internal view override returns (bytes32) {
        return _proposals[id].contentHash;
    }

    function _isDone(bytes32 id) internal view override returns (bool) {
        return _proposals[id].executedCount == _proposals[id].batchCount;
    }

    function _bind(
        bytes32 id,
        address token,
        uint256 total,
        uint32 recipientCount,
        bytes32[] calldata batchHashes,
        bytes32 artifactHash
    ) private {
        _enter(id);
        uint256 batchCount = batchHashes.length;
        if (batchCount == 0 || recipientCount < batchCount || recipientCount > batchCount * MAX_RECIPIENTS) {
            revert InvalidRecipientCount(recipientCount, batchCount);
        }
        _proposals[id] = Proposal({
            contentHash: keccak256(abi.encode(total, recipientCount, batchHashes, artifactHash)),
            left: total,
            token: token,
            batchCount: batchCount.toUint32(),
            executedCount: 0,
            recipientsLeft: recipientCount
        });
        for (uint256 i = 0; i < batchCount; ++i) {
            // Zero means executed.
            if (batchHashes[i] == 0) revert InvalidBatchHash(i);
            _batchHashes[id][i] = batchHashes[i];
        }
    }

    /// @dev Reads back what was bound: the stack has no room for all of it at once.
    function _announce(
        bytes32 id,
        bytes32 ruleId,
        uint64 epochStart,
        uint64 epochEnd,
        bytes32 artifactHash,
        string calldata uri
    ) private {
        Proposal memory p = _proposals[id];
        emit Proposed(
            id,
            ruleId,
            p.token,
            epochStart,
            epochEnd,
            p.left,
            p.recipientsLeft,
            p.batchCount,
            p.contentHash,
            artifactHash,
            uri
        );
    }

    /// @dev The guard against paying twice: comes before anything is paid, and nothing ever puts the hash back.
    function _consume(bytes32 id, uint32 index, bytes32 batchHash) private {
        if (index >= _proposals[id].batchCount) revert UnknownBatch(id, index);
        bytes32 expected = _batchHashes[id][index];
        if (expected == 0) revert AlreadyExecuted(id, index);
        if (batchHash != expected) revert BatchHashMismatch(id, index, expected, batchHash);
        delete _batchHashes[id][index];
    }

    function _sum(address[] calldata recipients, uint256[] calldata amounts) private pure returns (uint256 sum) {
        uint256 count = recipients.length;
        if (count == 0 || count > MAX_RECIPIENTS || amounts.length != count) {
            revert InvalidBatchSize(count, amounts.length);
        }
        for (uint256 i = 0; i < count; ++i) {
            sum += amounts[i];
        }
    }

    /// @dev Counts the batch against what was proposed.
    function _disburse(bytes32 id, uint32 index, uint256 sum, uint256 recipients) private returns (address token) {
        Proposal storage p = _proposals[id];
        bool last = p.executedCount + 1 == p.batchCount;

        uint256 left = p.left;
        if (sum > left || (last && sum != left)) revert TotalMismatch(id, index, left, sum);
        uint256 recipientsLeft = p.recipientsLeft;
        if (recipients > recipientsLeft || (last && recipients != recipientsLeft)) {
            revert RecipientCountMismatch(id, index);
        }

        p.left = left - sum;
        p.executedCount += 1;
        p.recipientsLeft = (recipientsLeft - recipients).toUint32();
        return p.token;
    }

    /// @dev Each recipient is checked just before it is paid, and not all of them before: each is read only once, and
    /// where one is refused, the revert takes back what those before it were paid.
    function _pay(bytes32 id, uint32 index, address token, address[] calldata recipients, uint256[] calldata amounts)
        private
        returns (uint256 credited)
    {
        address previous = address(0);
        for (uint256 i = 0; i < recipients.length; ++i) {
            address recipient = recipients[i];
            if (recipient <= previous) revert RecipientsNotAscending(previous, recipient);
            if (recipient == address(this)) revert InvalidRecipient(recipient);
            previous = recipient;
            // Else whoever sends the transaction could choose a gas limit at which transfers fail.
            if (gasleft() < GAS_BEFORE_TRANSFER) revert InsufficientGas(GAS_BEFORE_TRANSFER, gasleft());
            if (BoundedTransfer.tryTransfer(token, recipient, amounts[i], TRANSFER_GAS)) continue;
            _credit(id, index, token, recipient, amounts[i]);
            credited += amounts[i];
        }
        // Once a batch: a credit to come is nowhere read before, for every way to read or use it is shut meanwhile.
        if (credited != 0) totalOwed[token] += credited;
    }

    function _credit(bytes32 id, uint32 index, address token, address to, uint256 amount) private {
        owed[token][to] += amount;
        emit Credited(id, token, to, index, amount);
    }

    /// @dev More than expected is no harm: a recipient that is called back may send something here, and must not be able
    /// to stop a batch by it.
    function _requireBalance(address token, uint256 expected) private view {
        uint256 balance = IERC20(token).balanceOf(address(this));
        if (balance < expected) revert TokenTakesFee(token, expected, balance);
    }
}
