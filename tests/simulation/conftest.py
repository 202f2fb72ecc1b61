"""The world that tests of books meddle with."""

from tests.simulation.meddling import rollup_world, world

__all__ = ["rollup_world", "world"]
