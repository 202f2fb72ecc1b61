"""The bridge: watches contracts, decides how a surplus is redistributed, pays it out and proves it."""
