"""Adapters to chains, one package each, all held to the same contract tests."""
