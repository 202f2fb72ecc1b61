// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IProposalGate} from "./IProposalGate.sol";

/// @title Pays sets that are too large to push: each account claims its part with a Merkle proof
/// @notice A tree holds for each account all that it has ever been given in one token. A new tree replaces the last one
/// and loses nobody's claim, for what is paid is the account's sum less what it claimed before.
///
///     proposeRoot ──► gate ──► activate ──[activationDelay]──► claim, until the next root takes over
///     binds root to            the vault's release             └── disableRoot ──► nothing, until the next root
///     the id                   arrives, root accepted
///
/// leaf = keccak256(bytes.concat(keccak256(abi.encode(chain id, this contract, account, token, cumulative)))), and inner
/// nodes hash sorted pairs: the tree of OpenZeppelin's StandardMerkleTree. Amounts are atoms of the token.
///
/// Not for tokens whose balances shrink by themselves or by more than is transferred: with these nobody could claim
/// from the moment on that the balance is less than what is unclaimed.
interface IClaims is IProposalGate {
    /// @dev contentHash is the sixth word of the data, as in the Distributor's Proposed.
    event RootProposed(
        bytes32 indexed id,
        bytes32 indexed ruleId,
        address indexed token,
        uint64 epochStart,
        uint64 epochEnd,
        uint256 total,
        uint32 accountCount,
        uint256 cumulativeTotal,
        bytes32 contentHash,
        bytes32 root,
        bytes32 artifactHash,
        string uri
    );
    /// @notice `total` arrived from the vault, and `root` can be claimed against from `claimableAt` on.
    event RootActivated(
        bytes32 indexed id,
        address indexed token,
        bytes32 indexed root,
        uint256 total,
        uint256 cumulativeTotal,
        uint64 claimableAt
    );
    event RootDisabled(address indexed token, bytes32 indexed root, address indexed guardian);
    /// @notice `amount` of what `account` was given went to `recipient`; it has claimed `cumulative` in all.
    event Claimed(
        address indexed token, address indexed account, address indexed recipient, uint256 amount, uint256 cumulative
    );
    event ClaimPolicySet(address indexed token, address indexed account, bool onlySelf, address recipient);
    event ActivationDelaySet(uint64 delay);

    /// @dev Two accounts at least: a tree of one leaf has no proof. No root of zero.
    error InvalidTree(bytes32 root, uint32 accountCount);
    /// @dev The sum over all leaves must be that of the accepted tree and `total` more; `expected` is what it should be,
    /// or at least be when the root is proposed.
    error CumulativeTotalMismatch(bytes32 id, uint256 expected, uint256 actual);
    error AlreadyActivated(bytes32 id);
    /// @dev The root before is not claimable yet; one more now would let nobody ever claim.
    error ActivationPending(address token, uint64 claimableAt);
    /// @dev What is unclaimed exceeds the balance: the token took a fee, or took back.
    error LiabilityUncovered(address token, uint256 unclaimed, uint256 balance);

    error EmptyProof();
    /// @dev The proof leads to `root`, which cannot be claimed against: it is none of ours, not yet, or no longer.
    error RootNotActive(address token, bytes32 root);
    error NothingToClaim(address token, address account);
    /// @dev The tree gives more than its total: what is left is less than the claim.
    error ClaimExceedsUnclaimed(address token, uint256 amount, uint256 unclaimed);
    /// @dev The account wants to claim itself.
    error OnlySelf(address account);
    /// @dev Tokens sent here for this recipient could never leave again.
    error InvalidRecipient(address recipient);
    error NoActiveRoot(address token);

    /// @notice Bind a tree to a distribution's id, for ever. PROPOSER_ROLE only.
    /// @dev The auto-limit counts all that would be unclaimed, not only `total`: a wrong tree can give away both.
    /// @param total What this distribution adds.
    /// @param accountCount Leaves of the tree.
    /// @param cumulativeTotal The sum over all leaves, below 2^160.
    /// @param artifactHash Of the file at `uri`, from which anybody can compute the rest again.
    function proposeRoot(
        bytes32 ruleId,
        uint64 epochStart,
        uint64 epochEnd,
        address token,
        uint256 total,
        uint32 accountCount,
        bytes32 root,
        uint256 cumulativeTotal,
        bytes32 artifactHash,
        string calldata uri
    ) external returns (bytes32 id);

    /// @notice Take the total out of the vault and accept the root, once the gate lets it. PROPOSER_ROLE only.
    /// @dev The root before stays claimable until the new one is.
    function activate(bytes32 id) external;

    /// @notice No claims in `token` until another root is activated. GUARDIAN_ROLE only. The funds stay.
    function disableRoot(address token) external;

    /// @notice Pay what `account` was given and has not claimed yet. Anyone may, unless the account wants otherwise.
    /// @param cumulative What the tree says that it has been given in all.
    function claim(address account, address token, uint256 cumulative, bytes32[] calldata proof) external;

    /// @notice How others may claim in `token` for the caller.
    /// @dev Of one token: a policy for all would be a slot to read in each claim, also of those who never set one.
    /// @param onlySelf Only the caller may.
    /// @param recipient Where its tokens go; zero means to itself.
    function setClaimPolicy(address token, bool onlySelf, address recipient) external;

    /// @notice How long an accepted root waits, so that the guardian can look at it. Admin only. For roots to come.
    function setActivationDelay(uint64 delay_) external;

    /// @notice What was proposed under `id`; all zero where nothing was.
    /// contentHash is keccak256(abi.encode(total, accountCount, root, cumulativeTotal, artifactHash)).
    function proposal(bytes32 id)
        external
        view
        returns (
            bytes32 contentHash,
            address token,
            uint256 total,
            uint256 cumulativeTotal,
            bytes32 root,
            uint32 accountCount,
            bool activated
        );

    /// @notice The newest accepted root and its books; disabled also where there is none.
    function latestRoot(address token)
        external
        view
        returns (bytes32 root, uint64 claimableAt, bool disabled, uint256 cumulativeTotal, uint256 unclaimed);

    /// @notice Whether a claim against `root` would be accepted now, apart from a pause.
    function isClaimable(address token, bytes32 root) external view returns (bool);

    /// @notice What `account` has claimed in all. Never less than before, never more than its leaf.
    function claimed(address token, address account) external view returns (uint256);

    function claimPolicy(address token, address account) external view returns (bool onlySelf, address recipient);

    function activationDelay() external view returns (uint64);
}
