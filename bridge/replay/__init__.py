"""Rules without a daemon: windows decided in memory, for golden cases, backtests and making decisions again."""
