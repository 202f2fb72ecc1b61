// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ProposalGate} from "./ProposalGate.sol";
import {IClaims} from "./interfaces/IClaims.sol";

/// @title Pays each account what a Merkle tree says that it was given
/// @notice {IClaims} says what; here is how. Pausing, floor and cap are the vault's.
contract Claims is IClaims, ProposalGate, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    struct RootProposal {
        bytes32 contentHash;
        uint256 total;
        uint256 cumulativeTotal;
        bytes32 root;
        address token;
        uint32 accountCount;
        bool activated;
    }

    /// @dev One slot, so that a claim reads when it may be and writes what is left in one access. Claimable while
    /// from ≤ now < until. Only the newest root has no end, and only it counts what is unclaimed of the token, whichever
    /// root is claimed against.
    struct Window {
        uint48 from;
        uint48 until;
        uint160 unclaimed;
    }

    /// @dev At most these two can be claimed against: the root before `previous` ended when `previous` ended.
    struct Roots {
        bytes32 newest;
        bytes32 previous;
        // No account can have claimed more than this, so `Account.claimed` has room for it.
        uint160 cumulativeTotal;
    }

    /// @dev One slot, so that a claim reads and writes no other for an account that wants its tokens itself.
    struct Account {
        uint160 claimed;
        bool onlySelf;
        // Only then is there a recipient to read.
        bool redirected;
    }

    uint48 private constant FOREVER = type(uint48).max;

    uint64 public activationDelay;

    mapping(bytes32 id => RootProposal) private _proposals;
    mapping(address token => Roots) private _roots;
    mapping(address token => mapping(bytes32 root => Window)) private _windows;
    mapping(address token => mapping(address account => Account)) private _accounts;
    mapping(address token => mapping(address account => address)) private _recipients;

    constructor(address admin, address vault_, uint64 delay_, uint64 approvalLifetime_, uint64 activationDelay_)
        ProposalGate(admin, vault_, delay_, approvalLifetime_)
    {
        _setActivationDelay(activationDelay_);
    }

    /// @inheritdoc IClaims
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
    ) external onlyRole(PROPOSER_ROLE) returns (bytes32 id) {
        if (epochStart >= epochEnd) revert InvalidEpoch(epochStart, epochEnd);
        if (root == 0 || accountCount < 2) revert InvalidTree(root, accountCount);
        id = distributionId(ruleId, epochStart, epochEnd, token);
        _enter(id);
        _proposals[id] = RootProposal({
            contentHash: keccak256(abi.encode(total, accountCount, root, cumulativeTotal, artifactHash)),
            total: total,
            cumulativeTotal: cumulativeTotal,
            root: root,
            token: token,
            accountCount: accountCount,
            activated: false
        });
        _announce(id, ruleId, epochStart, epochEnd, artifactHash, uri);
        _passAutoLimit(id, token, _atStake(id, token, total, cumulativeTotal));
    }

    /// @inheritdoc IClaims
    function activate(bytes32 id) external nonReentrant whenVaultNotPaused onlyRole(PROPOSER_ROLE) {
        _requirePassable(id);
        RootProposal storage p = _proposals[id];
        if (p.activated) revert AlreadyActivated(id);
        p.activated = true;
        (address token, uint256 total) = (p.token, p.total);
        (uint64 claimableAt, uint256 unclaimed) = _accept(id, token, p.root, total, p.cumulativeTotal);
        emit RootActivated(id, token, p.root, total, p.cumulativeTotal, claimableAt);

        vault.release(id, token, total);
        _requireCovered(token, unclaimed);
    }

    /// @inheritdoc IClaims
    function disableRoot(address token) external onlyRole(GUARDIAN_ROLE) {
        Roots storage roots = _roots[token];
        bytes32 root = roots.newest;
        if (_windows[token][root].until == 0) revert NoActiveRoot(token);
        // Not what is unclaimed: the next root goes on from there.
        _windows[token][root].until = 0;
        _windows[token][roots.previous].until = 0;
        emit RootDisabled(token, root, msg.sender);
    }

    /// @inheritdoc IClaims
    function claim(address account, address token, uint256 cumulative, bytes32[] calldata proof)
        external
        nonReentrant
        whenVaultNotPaused
    {
        Account storage a = _accounts[token][account];
        (address recipient, uint256 amount) = _due(a, token, account, cumulative);
        uint256 unclaimed = _take(token, _rootOf(account, token, cumulative, proof), amount);
        a.claimed = cumulative.toUint160();

        emit Claimed(token, account, recipient, amount, cumulative);
        IERC20(token).safeTransfer(recipient, amount);
        _requireCovered(token, unclaimed);
    }

    /// @inheritdoc IClaims
    function setClaimPolicy(address token, bool onlySelf, address recipient) external {
        if (recipient == address(this)) revert InvalidRecipient(recipient);
        Account storage a = _accounts[token][msg.sender];
        (a.onlySelf, a.redirected) = (onlySelf, recipient != address(0));
        _recipients[token][msg.sender] = recipient;
        emit ClaimPolicySet(token, msg.sender, onlySelf, recipient);
    }

    /// @inheritdoc IClaims
    function setActivationDelay(uint64 delay_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setActivationDelay(delay_);
    }

    /// @inheritdoc IClaims
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
        )
    {
        RootProposal storage p = _proposals[id];
        return (p.contentHash, p.token, p.total, p.cumulativeTotal, p.root, p.accountCount, p.activated);
    }

    /// @inheritdoc IClaims
    function latestRoot(address token)
        external
        view
        returns (bytes32 root, uint64 claimableAt, bool disabled, uint256 cumulativeTotal, uint256 unclaimed)
    {
        Roots storage roots = _roots[token];
        Window memory window = _windows[token][roots.newest];
        return (roots.newest, window.from, window.until == 0, roots.cumulativeTotal, window.unclaimed);
    }

    /// @inheritdoc IClaims
    function claimed(address token, address account) external view returns (uint256) {
        return _accounts[token][account].claimed;
    }

    /// @inheritdoc IClaims
    function claimPolicy(address token, address account) external view returns (bool onlySelf, address recipient) {
        return (_accounts[token][account].onlySelf, _recipients[token][account]);
    }

    /// @inheritdoc IClaims
    function isClaimable(address token, bytes32 root) public view returns (bool) {
        Window memory window = _windows[token][root];
        return window.from <= block.timestamp && block.timestamp < window.until;
    }

    function _contentHash(bytes32 id) internal view override returns (bytes32) {
        return _proposals[id].contentHash;
    }

    function _isDone(bytes32 id) internal view override returns (bool) {
        return _proposals[id].activated;
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
        RootProposal memory p = _proposals[id];
        emit RootProposed(
            id,
            ruleId,
            p.token,
            epochStart,
            epochEnd,
            p.total,
            p.accountCount,
            p.cumulativeTotal,
            p.contentHash,
            p.root,
            artifactHash,
            uri
        );
    }

    /// @dev All that the tree of a new proposal could give away when it is activated: what is unclaimed now, what it
    /// adds, and what roots proposed but not activated yet add before it. Claims in between only make it less.
    function _atStake(bytes32 id, address token, uint256 total, uint256 cumulativeTotal)
        private
        view
        returns (uint256)
    {
        Roots storage roots = _roots[token];
        uint256 least = roots.cumulativeTotal + total;
        if (cumulativeTotal < least) revert CumulativeTotalMismatch(id, least, cumulativeTotal);
        return cumulativeTotal - (roots.cumulativeTotal - _windows[token][roots.newest].unclaimed);
    }

    function _accept(bytes32 id, address token, bytes32 root, uint256 total, uint256 cumulativeTotal)
        private
        returns (uint48 from, uint256 unclaimed)
    {
        Roots storage roots = _roots[token];
        if (cumulativeTotal != roots.cumulativeTotal + total) {
            revert CumulativeTotalMismatch(id, roots.cumulativeTotal + total, cumulativeTotal);
        }
        Window storage last = _windows[token][roots.newest];
        if (last.from > block.timestamp && last.until != 0) revert ActivationPending(token, last.from);

        from = (block.timestamp + activationDelay).toUint48();
        unclaimed = last.unclaimed + total;
        last.unclaimed = 0;
        if (last.until != 0) last.until = from;
        _windows[token][root] = Window(from, FOREVER, unclaimed.toUint160());
        (roots.previous, roots.newest, roots.cumulativeTotal) = (roots.newest, root, cumulativeTotal.toUint160());
    }

    /// @dev Counts a claim against `root`; returns what is left for all other claims.
    function _take(address token, bytes32 root, uint256 amount) private returns (uint256 unclaimed) {
        Window storage window = _windows[token][root];
        (uint48 from, uint48 until, uint160 left) = (window.from, window.until, window.unclaimed);
        if (block.timestamp < from || block.timestamp >= until) revert RootNotActive(token, root);
        if (until != FOREVER) {
            window = _windows[token][_roots[token].newest];
            left = window.unclaimed;
        }
        unclaimed = left;
        if (amount > unclaimed) revert ClaimExceedsUnclaimed(token, amount, unclaimed);
        unclaimed -= amount;
        window.unclaimed = uint160(unclaimed); // No more than it was.
    }

    /// @dev Where a claim goes and what it is, if the proof holds: what the account was given and has not claimed.
    function _due(Account storage a, address token, address account, uint256 cumulative)
        private
        view
        returns (address recipient, uint256 amount)
    {
        (uint256 before, bool onlySelf, bool redirected) = (a.claimed, a.onlySelf, a.redirected);
        if (onlySelf && msg.sender != account) revert OnlySelf(account);
        recipient = redirected ? _recipients[token][account] : account;
        if (recipient == address(this)) revert InvalidRecipient(recipient);
        if (cumulative <= before) revert NothingToClaim(token, account);
        amount = cumulative - before;
    }

    function _rootOf(address account, address token, uint256 cumulative, bytes32[] calldata proof)
        private
        view
        returns (bytes32)
    {
        // Without it, whoever could have a leaf's hash accepted as a root would be paid without a tree.
        if (proof.length == 0) revert EmptyProof();
        bytes32 inner = keccak256(abi.encode(block.chainid, address(this), account, token, cumulative));
        return MerkleProof.processProofCalldata(proof, keccak256(bytes.concat(inner)));
    }

    function _requireCovered(address token, uint256 unclaimed) private view {
        uint256 balance = IERC20(token).balanceOf(address(this));
        if (balance < unclaimed) revert LiabilityUncovered(token, unclaimed, balance);
    }

    function _setActivationDelay(uint64 delay_) private {
        activationDelay = delay_;
        emit ActivationDelaySet(delay_);
    }
}
