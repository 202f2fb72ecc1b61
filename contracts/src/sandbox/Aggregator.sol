// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title A price feed for the sandbox, read as Chainlink's are (AggregatorV3Interface); anybody says the price
contract Aggregator {
    event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

    error RoundMissing(uint80 roundId);

    struct Round {
        int256 answer;
        uint256 updatedAt;
    }

    uint256 public constant version = 1;

    uint8 public immutable decimals;

    string public description;

    /// @dev Round n is at n − 1: as in the field, the first round is 1.
    Round[] private _rounds;

    constructor(string memory description_, uint8 decimals_) {
        description = description_;
        decimals = decimals_;
    }

    function push(int256 answer) external {
        pushAt(answer, block.timestamp);
    }

    /// @notice Nothing is checked: answers of nothing, times in the future and times that go back are what readers of
    /// such feeds must withstand.
    function pushAt(int256 answer, uint256 updatedAt) public {
        _rounds.push(Round(answer, updatedAt));
        emit AnswerUpdated(answer, _rounds.length, updatedAt);
    }

    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        return getRoundData(uint80(_rounds.length));
    }

    function getRoundData(uint80 id)
        public
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        if (id == 0 || id > _rounds.length) revert RoundMissing(id);
        Round storage round = _rounds[id - 1];
        return (id, round.answer, round.updatedAt, round.updatedAt, id);
    }
}
