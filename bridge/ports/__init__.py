"""What the stages need from the world, as Protocols.

Adapters live in `chains/` and `store/`; stages know only what is written here. Reads that could depend on time take a
`BlockStamp`: nothing here answers for "latest" by accident.

A store is one Protocol a noun. Each lists exactly what stages call; all work inside the transaction that they come
from.
"""
