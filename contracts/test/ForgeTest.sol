// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @dev The cheat codes that these tests use, out of those that forge offers at a fixed address.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function warp(uint256 timestamp) external;
    function chainId(uint256 id) external;
    function cool(address account) external;
    function prank(address sender) external;
    function expectEmit(address emitter) external;
    function expectRevert() external;
    function expectPartialRevert(bytes4 selector) external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);

    function assertTrue(bool condition, string calldata message) external pure;
    function assertFalse(bool condition, string calldata message) external pure;
    function assertEq(uint256 left, uint256 right, string calldata message) external pure;
    function assertEq(bytes32 left, bytes32 right, string calldata message) external pure;
    function assertEq(address left, address right, string calldata message) external pure;
    function assertLe(uint256 left, uint256 right, string calldata message) external pure;
    function assertGe(uint256 left, uint256 right, string calldata message) external pure;
}

/// @dev What every test and handler starts from. Forge's own library of the kind is not on npm in a usable form.
abstract contract ForgeTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// @dev `value` folded into low…high, both included.
    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    /// @dev Gas of a whole transaction that makes this call, before refunds. It finds no slot of the three touched yet.
    function transactionGas(address to, bytes memory call, address vault, address token) internal returns (uint256) {
        vm.cool(to);
        vm.cool(vault);
        vm.cool(token);
        uint256 before = gasleft();
        (bool success,) = to.call(call);
        uint256 used = before - gasleft();
        vm.assertTrue(success, "executed");
        for (uint256 i = 0; i < call.length; ++i) {
            used += call[i] == 0 ? 4 : 16;
        }
        return 21_000 + used - 2_500; // A transaction finds the account that it calls warm.
    }

    function pick(bytes32 seed, uint256 salt, uint256 low, uint256 high) internal pure returns (uint256) {
        return bound(uint256(keccak256(abi.encode(seed, salt))), low, high);
    }
}
