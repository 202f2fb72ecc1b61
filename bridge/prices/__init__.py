"""Adapters to what prices are asked from off the chain."""
