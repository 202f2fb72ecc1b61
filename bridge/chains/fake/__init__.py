"""A chain in memory with scripted reorganisations and faults."""
