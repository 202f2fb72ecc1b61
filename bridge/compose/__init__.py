"""One chain, opened as its section of the configuration says: a module for each kind of chain, joined in chain.py."""
