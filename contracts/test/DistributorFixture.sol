// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Distributor} from "../src/Distributor.sol";
import {SurplusVault} from "../src/SurplusVault.sol";
import {ForgeTest} from "./ForgeTest.sol";
import {MisbehavingToken} from "./tokens/MisbehavingToken.sol";

/// @dev A funded vault and a distributor. The test itself is admin, guardian and proposer, and the auto-limit lets all
/// pass: {ProposalGateTest} is about what it does not let pass.
abstract contract DistributorFixture is ForgeTest {
    bytes32 internal constant RULE = "fee_window";
    bytes32 internal constant ARTIFACT = "artifact";
    string internal constant URI = "file:artifact.json";
    uint64 internal constant START = 1_000_000;
    uint64 internal constant END = 1_086_400;
    uint256 internal constant FUNDS = 1e24;
    uint64 internal constant DELAY = 1 hours;
    uint64 internal constant LIFETIME = 1 days;

    /// @dev All batches of one distribution.
    struct Plan {
        address token;
        uint256 total;
        uint32 recipientCount;
        address[][] recipients;
        uint256[][] amounts;
    }

    SurplusVault internal vault;
    Distributor internal distributor;
    MisbehavingToken internal token;

    function setUp() public virtual {
        vm.warp(2_000_000);
        vault = new SurplusVault(address(this), 1 days);
        distributor = new Distributor(address(this), address(vault), DELAY, LIFETIME);
        vault.grantRole(vault.DISTRIBUTOR_ROLE(), address(distributor));
        vault.grantRole(vault.GUARDIAN_ROLE(), address(this));
        distributor.grantRole(distributor.PROPOSER_ROLE(), address(this));
        token = new MisbehavingToken();
        token.mint(address(vault), FUNDS);
        allow(address(token));
    }

    /// @dev Lets everything of a token leave the vault.
    function allow(address token_) internal {
        vault.setLimits(token_, 0, FUNDS);
        distributor.setAutoLimit(token_, FUNDS);
    }

    /// @dev One batch to `count` recipients, who get 1, 2, 3… atoms.
    function planOf(uint256 count) internal view returns (Plan memory plan) {
        plan = emptyPlan(1);
        (address[] memory recipients, uint256[] memory amounts) = (new address[](count), new uint256[](count));
        for (uint256 i = 0; i < count; ++i) {
            recipients[i] = recipientAt(i);
            amounts[i] = i + 1;
        }
        addBatch(plan, 0, recipients, amounts);
    }

    function emptyPlan(uint256 batches) internal view returns (Plan memory plan) {
        plan.token = address(token);
        plan.recipients = new address[][](batches);
        plan.amounts = new uint256[][](batches);
    }

    function addBatch(Plan memory plan, uint256 index, address[] memory recipients, uint256[] memory amounts)
        internal
        pure
    {
        plan.recipients[index] = recipients;
        plan.amounts[index] = amounts;
        plan.recipientCount += uint32(recipients.length);
        for (uint256 i = 0; i < amounts.length; ++i) {
            plan.total += amounts[i];
        }
    }

    function propose(Plan memory plan) internal returns (bytes32 id) {
        id = distributor.distributionId(RULE, START, END, plan.token);
        bytes32[] memory hashes = hashesOf(plan, id);
        return distributor.propose(RULE, START, END, plan.token, plan.total, plan.recipientCount, hashes, ARTIFACT, URI);
    }

    function execute(Plan memory plan, bytes32 id, uint32 index) internal {
        distributor.executeBatch(id, index, plan.recipients[index], plan.amounts[index]);
    }

    function hashesOf(Plan memory plan, bytes32 id) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](plan.recipients.length);
        for (uint32 i = 0; i < hashes.length; ++i) {
            hashes[i] = keccak256(abi.encode(id, i, plan.recipients[i], plan.amounts[i]));
        }
    }

    function recipientAt(uint256 i) internal pure returns (address) {
        return address(uint160(0xA0000 + i));
    }
}
