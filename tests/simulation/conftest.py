"""The world that tests of books meddle with."""

from tests.simulation.meddling import world

__all__ = ["world"]
