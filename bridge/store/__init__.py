"""The adapter to Postgres, one module per noun. The only place that knows asyncpg."""
