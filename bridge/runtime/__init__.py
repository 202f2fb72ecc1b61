"""What a process needs around the domain: configuration, logs, metrics, the clock, shutdown, crash points."""
