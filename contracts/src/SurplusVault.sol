// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ISurplusVault} from "./interfaces/ISurplusVault.sol";

/// @title Holds the funds that a surplus is paid from
/// @notice {ISurplusVault} says what; here is how.
contract SurplusVault is ISurplusVault, AccessControlEnumerable, Pausable, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    bytes32 public constant DISTRIBUTOR_ROLE = keccak256("DISTRIBUTOR_ROLE");
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    struct Limits {
        uint256 floor;
        uint256 capPerEpoch;
    }

    uint64 public immutable epochLength;

    mapping(address token => Limits) public limits;

    /// @dev Never above the cap that stood at the time of the epoch's last release.
    mapping(address token => mapping(uint256 epoch => uint256)) public spent;

    constructor(address admin, uint64 epochLength_) {
        if (admin == address(0)) revert InvalidAdmin(admin);
        if (epochLength_ == 0) revert InvalidEpochLength(epochLength_);
        epochLength = epochLength_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc ISurplusVault
    function payFee(address token, uint256 amount) external nonReentrant {
        uint256 balanceBefore = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        // What arrived, not what was sent: a token may keep a part for itself.
        uint256 arrived = IERC20(token).balanceOf(address(this)) - balanceBefore;
        emit FeePaid(token, msg.sender, arrived);
    }

    /// @inheritdoc ISurplusVault
    function setLimits(address token, uint256 floor, uint256 capPerEpoch) external onlyRole(DEFAULT_ADMIN_ROLE) {
        limits[token] = Limits(floor, capPerEpoch);
        emit LimitsSet(token, floor, capPerEpoch);
    }

    /// @inheritdoc ISurplusVault
    function release(bytes32 id, address token, uint256 amount)
        external
        nonReentrant
        whenNotPaused
        onlyRole(DISTRIBUTOR_ROLE)
    {
        uint256 epoch = currentEpoch();
        Limits memory limit = limits[token];
        _spend(token, epoch, amount, limit.capPerEpoch);

        emit Released(id, token, amount, epoch);
        IERC20(token).safeTransfer(msg.sender, amount);

        // Read after the transfer, so that a token which charges the sender on top cannot take from the floor.
        uint256 balance = IERC20(token).balanceOf(address(this));
        if (balance < limit.floor) revert FloorBreached(token, balance, limit.floor);
    }

    /// @inheritdoc ISurplusVault
    function pause() external onlyRole(GUARDIAN_ROLE) {
        _pause();
    }

    /// @inheritdoc ISurplusVault
    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    /// @inheritdoc ISurplusVault
    function paused() public view override(ISurplusVault, Pausable) returns (bool) {
        return super.paused();
    }

    /// @inheritdoc ISurplusVault
    function currentEpoch() public view returns (uint256) {
        return block.timestamp / epochLength;
    }

    function _spend(address token, uint256 epoch, uint256 amount, uint256 cap) private {
        uint256 already = spent[token][epoch];
        uint256 available = cap > already ? cap - already : 0;
        if (amount > available) revert CapExceeded(token, epoch, amount, available);
        spent[token][epoch] = already + amount;
    }
}
