"""Solana: a vault there, made to look like what the stages know."""
