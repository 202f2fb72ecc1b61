"""Stages run against the same chains that the adapters are held to."""

from tests.chains.conftest import anvil_world, forking, solana_world

__all__ = ["anvil_world", "forking", "solana_world"]
