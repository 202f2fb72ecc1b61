// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {IProposalGate} from "./interfaces/IProposalGate.sol";
import {ISurplusVault} from "./interfaces/ISurplusVault.sol";

/// @title What stands between a proposal and its money
/// @notice {IProposalGate} says what; here is how.
abstract contract ProposalGate is IProposalGate, AccessControlEnumerable {
    /// @dev One slot: paying reads it once.
    struct Gate {
        // Zero exactly where nothing was proposed.
        uint64 readyAt;
        uint64 expiresAt;
        bool vetoed;
    }

    bytes32 public constant PROPOSER_ROLE = keccak256("PROPOSER_ROLE");
    bytes32 public constant APPROVER_ROLE = keccak256("APPROVER_ROLE");
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    uint64 private constant NEVER = type(uint64).max;

    ISurplusVault public immutable vault;

    uint64 public delay;
    uint64 public approvalLifetime;

    mapping(address token => uint256) public autoLimit;

    /// @dev Never above the limit that stood when the epoch's last proposal passed under it: many small proposals get
    /// no further than one large.
    mapping(address token => mapping(uint256 epoch => uint256)) public autoSpent;

    mapping(bytes32 id => Gate) private _gates;

    modifier whenVaultNotPaused() {
        if (vault.paused()) revert VaultPaused(address(vault));
        _;
    }

    constructor(address admin, address vault_, uint64 delay_, uint64 approvalLifetime_) {
        if (admin == address(0)) revert InvalidAdmin(admin);
        if (vault_.code.length == 0) revert InvalidVault(vault_);
        vault = ISurplusVault(vault_);
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _setDelay(delay_);
        _setApprovalLifetime(approvalLifetime_);
    }

    /// @inheritdoc IProposalGate
    function approve(bytes32 id, bytes32 contentHash) external onlyRole(APPROVER_ROLE) {
        if (hasRole(PROPOSER_ROLE, msg.sender)) revert ApproverIsProposer(msg.sender);
        Gate storage g = _gates[id];
        if (g.readyAt == 0) revert NotProposed(id);
        if (_contentHash(id) != contentHash) revert ContentMismatch(id, _contentHash(id), contentHash);
        if (g.vetoed) revert ProposalVetoed(id);
        if (_isDone(id)) revert ProposalDone(id);
        uint64 expiresAt = uint64(block.timestamp) + approvalLifetime;
        if (expiresAt > g.expiresAt) g.expiresAt = expiresAt;
        emit Approved(id, msg.sender, contentHash, g.readyAt, g.expiresAt);
    }

    /// @inheritdoc IProposalGate
    function veto(bytes32 id) external onlyRole(GUARDIAN_ROLE) {
        Gate storage g = _gates[id];
        if (g.vetoed) revert ProposalVetoed(id);
        if (g.readyAt != 0 && _isDone(id)) revert ProposalDone(id);
        g.vetoed = true;
        emit Vetoed(id, msg.sender);
    }

    /// @inheritdoc IProposalGate
    function setDelay(uint64 delay_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setDelay(delay_);
    }

    /// @inheritdoc IProposalGate
    function setApprovalLifetime(uint64 lifetime) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setApprovalLifetime(lifetime);
    }

    /// @inheritdoc IProposalGate
    function setAutoLimit(address token, uint256 limit) external onlyRole(DEFAULT_ADMIN_ROLE) {
        autoLimit[token] = limit;
        emit AutoLimitSet(token, limit);
    }

    /// @inheritdoc IProposalGate
    function gate(bytes32 id) external view returns (State state, uint64 readyAt, uint64 expiresAt) {
        Gate memory g = _gates[id];
        if (g.vetoed) state = State.Vetoed;
        else if (g.readyAt == 0) state = State.None;
        else if (_isDone(id)) state = State.Done;
        else state = g.expiresAt == 0 ? State.Proposed : State.Approved;
        return (state, g.readyAt, g.expiresAt);
    }

    /// @inheritdoc IProposalGate
    function distributionId(bytes32 ruleId, uint64 epochStart, uint64 epochEnd, address token)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), ruleId, epochStart, epochEnd, token));
    }

    /// @dev What the proposal `id` bound; written with the proposal and never again.
    function _contentHash(bytes32 id) internal view virtual returns (bytes32);

    /// @dev Whether everything of the proposal `id` has left the vault. Asked of proposed ids only.
    function _isDone(bytes32 id) internal view virtual returns (bool);

    /// @dev Takes a new id, which from here on waits. Nothing of the proposal may be written before.
    function _enter(bytes32 id) internal {
        Gate storage g = _gates[id];
        if (g.readyAt != 0) revert AlreadyProposed(id);
        if (g.vetoed) revert ProposalVetoed(id);
        g.readyAt = uint64(block.timestamp) + delay;
    }

    /// @dev Opens the gate at once where `amount`, the most that the proposal could move, is left under the auto-limit.
    function _passAutoLimit(bytes32 id, address token, uint256 amount) internal {
        uint256 epoch = vault.currentEpoch();
        (uint256 limit, uint256 already) = (autoLimit[token], autoSpent[token][epoch]);
        if (already > limit || amount > limit - already) return;
        autoSpent[token][epoch] = already + amount;
        Gate storage g = _gates[id];
        (g.readyAt, g.expiresAt) = (uint64(block.timestamp), NEVER);
        emit Approved(id, address(0), _contentHash(id), g.readyAt, NEVER);
    }

    /// @dev The gate itself: every outflow of a proposal comes after it.
    function _requirePassable(bytes32 id) internal view {
        Gate storage g = _gates[id];
        (uint64 readyAt, uint64 expiresAt, bool vetoed) = (g.readyAt, g.expiresAt, g.vetoed);
        if (vetoed) revert ProposalVetoed(id);
        if (readyAt == 0) revert NotProposed(id);
        if (expiresAt == 0) revert NotApproved(id);
        if (block.timestamp < readyAt) revert NotReady(id, readyAt);
        if (block.timestamp >= expiresAt) revert ApprovalExpired(id, expiresAt);
    }

    function _setDelay(uint64 delay_) private {
        delay = delay_;
        emit DelaySet(delay_);
    }

    function _setApprovalLifetime(uint64 lifetime) private {
        approvalLifetime = lifetime;
        emit ApprovalLifetimeSet(lifetime);
    }
}
