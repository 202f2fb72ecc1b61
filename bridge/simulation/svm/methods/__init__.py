"""All methods of the RPC, by family. Each gets a view of the chain and the parameters, and gives the `result`."""

from __future__ import annotations

from bridge.simulation.svm.methods import accounts, blocks, cluster, sending, transactions
from bridge.simulation.svm.view import Method

METHODS: dict[str, Method] = {
    **cluster.METHODS,
    **accounts.METHODS,
    **blocks.METHODS,
    **transactions.METHODS,
    **sending.METHODS,
}
