"""A chain in memory that a script moves: forks, faults and finality on demand."""
