"""A local Solana chain: LiteSVM as a node with slots, forks, JSON-RPC and WebSocket. Begin with node.py."""
