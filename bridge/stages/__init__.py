"""The steps of the flow. Each reads what the one before committed and commits its result with its cursor."""
