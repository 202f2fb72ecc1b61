// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title Holds the funds that a surplus is paid from
/// @notice Money comes in through {payFee} or a plain transfer. It leaves only through {release}, within the limits
/// that the admin has set for the token, and not at all while the vault is paused.
///
///     payer ──payFee──► vault ──release──► Distributor ──► recipients
///                         │ floor, cap per epoch, pause
///
/// Amounts are atoms of the token. An epoch is `block.timestamp / epochLength`.
interface ISurplusVault {
    /// @notice `payer` paid a fee of which `amount` arrived.
    event FeePaid(address indexed token, address indexed payer, uint256 amount);
    event LimitsSet(address indexed token, uint256 floor, uint256 capPerEpoch);
    /// @notice `amount` left the vault for the distribution `id`.
    event Released(bytes32 indexed id, address indexed token, uint256 amount, uint256 epoch);

    /// @dev An admin of zero could never be replaced.
    error InvalidAdmin(address admin);
    error InvalidEpochLength(uint64 epochLength);
    /// @dev The token's releases in this epoch have only `available` left under the cap.
    error CapExceeded(address token, uint256 epoch, uint256 needed, uint256 available);
    /// @dev The release would leave `balance`, which is less than `floor`.
    error FloorBreached(address token, uint256 balance, uint256 floor);

    /// @notice Take `amount` of `token` from the caller, who has approved it. Works while paused: it is no outflow.
    function payFee(address token, uint256 amount) external;

    /// @notice Set what must stay in the vault and what may leave it in one epoch. Admin only.
    /// @dev A token without limits has a cap of zero, so nothing of it leaves before the admin allows it. A cap that
    /// is lowered below what the epoch has spent already stops further releases until the next epoch.
    function setLimits(address token, uint256 floor, uint256 capPerEpoch) external;

    /// @notice Send `amount` of `token` to the caller, who holds DISTRIBUTOR_ROLE, for the distribution `id`.
    function release(bytes32 id, address token, uint256 amount) external;

    /// @notice Stop every outflow: releases, batches and withdrawals of the Distributor. Guardian only.
    function pause() external;

    /// @notice Let outflows go on. Admin only: who stops is not who resumes.
    function unpause() external;

    function paused() external view returns (bool);

    function limits(address token) external view returns (uint256 floor, uint256 capPerEpoch);

    /// @notice How much of `token` was released in `epoch`.
    function spent(address token, uint256 epoch) external view returns (uint256);

    function currentEpoch() external view returns (uint256);

    /// @notice Seconds in an epoch.
    function epochLength() external view returns (uint64);
}
