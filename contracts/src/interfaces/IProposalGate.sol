// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title What stands between a proposal and its money
/// @notice
///
///     none ──propose──► proposed ──approve──► approved ──[readyAt ≤ now < expiresAt]──► pays ──► done
///                           └── within the auto-limit: approved at once, ready at once, for ever
///     all but done ──veto──► vetoed, for ever
///
/// An id is made of *what* is paid for (rule, epoch, token) and of nothing else: no nonce and no content, so that a
/// decision computed again has the same id and cannot be paid again. The content is bound to the id by its proposal.
/// Times are seconds of `block.timestamp`, amounts atoms of the token.
interface IProposalGate {
    enum State {
        None,
        Proposed,
        Approved,
        Vetoed,
        Done
    }

    /// @notice `id` may be paid from `readyAt` on and before `expiresAt`. An approver of zero is the auto-limit.
    event Approved(bytes32 indexed id, address indexed approver, bytes32 contentHash, uint64 readyAt, uint64 expiresAt);
    event Vetoed(bytes32 indexed id, address indexed guardian);
    event DelaySet(uint64 delay);
    event ApprovalLifetimeSet(uint64 lifetime);
    event AutoLimitSet(address indexed token, uint256 limit);

    /// @dev An admin of zero could never be replaced.
    error InvalidAdmin(address admin);
    error InvalidVault(address vault);
    /// @dev The vault is paused, and with it every outflow.
    error VaultPaused(address vault);
    /// @dev An epoch ends after it starts.
    error InvalidEpoch(uint64 epochStart, uint64 epochEnd);

    error AlreadyProposed(bytes32 id);
    error NotProposed(bytes32 id);
    error NotApproved(bytes32 id);
    error NotReady(bytes32 id, uint64 readyAt);
    error ApprovalExpired(bytes32 id, uint64 expiresAt);
    error ProposalVetoed(bytes32 id);
    error ProposalDone(bytes32 id);
    /// @dev The approver means another content than the one that is bound to the id.
    error ContentMismatch(bytes32 id, bytes32 expected, bytes32 actual);
    /// @dev One stolen key must not be enough, so who may propose may not approve, whoever proposed.
    error ApproverIsProposer(address account);

    /// @notice Let `id` be paid once it is ready. APPROVER_ROLE only.
    /// @dev Again, to renew an approval that has expired. An approval counts from when it is given: one that is given
    /// more than its lifetime before `readyAt` is of no use. None is ever shortened.
    /// @param contentHash What the approver has checked; must be what the proposal bound.
    function approve(bytes32 id, bytes32 contentHash) external;

    /// @notice Nothing of `id` that is not executed yet ever will be. GUARDIAN_ROLE only. Works before the proposal too.
    function veto(bytes32 id) external;

    /// @notice How long a proposal waits at least. Admin only. Counts for proposals to come.
    function setDelay(uint64 delay_) external;

    /// @notice How long an approval is good for. Admin only. Counts for approvals to come.
    function setApprovalLifetime(uint64 lifetime) external;

    /// @notice How much of `token` proposals of one vault epoch may move together with neither approval nor delay.
    /// Admin only. A proposal that does not fit counts nothing and waits for its approval.
    function setAutoLimit(address token, uint256 limit) external;

    /// @notice `readyAt` is zero where nothing was proposed, `expiresAt` where nothing was approved; an approval may
    /// have expired.
    function gate(bytes32 id) external view returns (State state, uint64 readyAt, uint64 expiresAt);

    /// @notice keccak256(abi.encode(chain id, this contract, ruleId, epochStart, epochEnd, token)).
    /// @param epochStart First second of the epoch that is paid for.
    /// @param epochEnd First second after it.
    function distributionId(bytes32 ruleId, uint64 epochStart, uint64 epochEnd, address token)
        external
        view
        returns (bytes32);

    function delay() external view returns (uint64);

    function approvalLifetime() external view returns (uint64);

    function autoLimit(address token) external view returns (uint256);

    /// @notice What passed under the auto-limit in a vault epoch.
    function autoSpent(address token, uint256 epoch) external view returns (uint256);
}
