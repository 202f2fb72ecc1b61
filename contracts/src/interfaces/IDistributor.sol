// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IProposalGate} from "./IProposalGate.sol";

/// @title Pays each distribution exactly once, in batches
/// @notice A distribution is one decision to pay, under the id and behind the gate of {IProposalGate}.
///
///     propose ──► gate ──► executeBatch(0..n−1, any order) ──► recipient has the tokens
///     binds the                each (id, index) once      └──► or a credit, when the transfer failed ──► withdraw
///     content to
///     the id
///
/// Amounts are atoms of the token.
interface IDistributor is IProposalGate {
    event Proposed(
        bytes32 indexed id,
        bytes32 indexed ruleId,
        address indexed token,
        uint64 epochStart,
        uint64 epochEnd,
        uint256 total,
        uint32 recipientCount,
        uint32 batchCount,
        bytes32 contentHash,
        bytes32 artifactHash,
        string uri
    );
    /// @notice The batch is done: `paid` reached recipients, `credited` waits for their withdrawal.
    event BatchExecuted(
        bytes32 indexed id, uint32 indexed index, address indexed token, uint256 paid, uint256 credited
    );
    /// @notice The transfer of `amount` to `to` failed; `to` may withdraw it.
    event Credited(bytes32 indexed id, address indexed token, address indexed to, uint32 index, uint256 amount);
    event Withdrawn(address indexed token, address indexed account, address indexed to, uint256 amount);

    /// @dev There is a batch, and each has 1 to MAX_RECIPIENTS recipients.
    error InvalidRecipientCount(uint32 recipientCount, uint256 batchCount);
    error InvalidBatchHash(uint256 index);

    error UnknownBatch(bytes32 id, uint32 index);
    error AlreadyExecuted(bytes32 id, uint32 index);
    /// @dev The recipients and amounts are not those that were proposed.
    error BatchHashMismatch(bytes32 id, uint32 index, bytes32 expected, bytes32 actual);
    error InvalidBatchSize(uint256 recipients, uint256 amounts);
    /// @dev Recipients must ascend strictly, which also says that there is no duplicate and no zero address.
    error RecipientsNotAscending(address previous, address recipient);
    /// @dev Tokens sent here for this recipient could never leave again.
    error InvalidRecipient(address recipient);
    /// @dev The batch pays more than is left of the total, or is the last one and pays less.
    error TotalMismatch(bytes32 id, uint32 index, uint256 left, uint256 sum);
    /// @dev The batches have more recipients than were proposed, or fewer when none is left.
    error RecipientCountMismatch(bytes32 id, uint32 index);

    /// @dev With so little gas a transfer could fail that would not fail otherwise.
    error InsufficientGas(uint256 needed, uint256 available);
    /// @dev More was taken from this contract than it paid, which would be paid for with what it owes to others.
    error TokenTakesFee(address token, uint256 expectedBalance, uint256 balance);

    error NothingOwed(address token, address account);

    /// @notice Bind a content to a distribution's id, for ever. PROPOSER_ROLE only.
    /// @param epochStart First second of the epoch that is paid for.
    /// @param epochEnd First second after it.
    /// @param total What all batches pay together.
    /// @param recipientCount How many payments all batches make together.
    /// @param batchHashes For each batch keccak256(abi.encode(id, uint32 index, address[] recipients, uint256[] amounts)).
    /// @param artifactHash Of the file at `uri`, from which anybody can compute the rest again.
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
    ) external returns (bytes32 id);

    /// @notice Pay one batch, once the gate lets it. PROPOSER_ROLE only.
    /// @dev A transfer that reverts, returns false or uses more than TRANSFER_GAS becomes a credit, so that no recipient
    /// can stop the others. The caller must leave enough gas for each transfer, or the whole batch reverts.
    function executeBatch(bytes32 id, uint32 index, address[] calldata recipients, uint256[] calldata amounts) external;

    /// @notice Send all that is owed to the caller in `token` to the address `to`, which may be another one because the
    /// caller's own may be what the token refuses.
    function withdraw(address token, address to) external;

    function executed(bytes32 id, uint32 index) external view returns (bool);

    /// @notice What was proposed under `id` and how far it is; all zero where nothing was.
    /// @return contentHash keccak256(abi.encode(total, recipientCount, batchHashes, artifactHash)).
    /// @return token What it pays in.
    /// @return left What batches not yet executed must pay.
    /// @return batchCount How many batches there are.
    /// @return executedCount How many have been executed.
    function proposal(bytes32 id)
        external
        view
        returns (bytes32 contentHash, address token, uint256 left, uint32 batchCount, uint32 executedCount);

    function owed(address token, address account) external view returns (uint256);

    function totalOwed(address token) external view returns (uint256);
}
