"""A whole world on one machine: local chains, a Postgres, traffic and faults."""
