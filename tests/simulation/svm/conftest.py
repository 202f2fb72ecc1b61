"""A node whose slots pass by hand, and the real clients of it."""

from collections.abc import AsyncIterator

import pytest
from solana.rpc.async_api import AsyncClient

from bridge.simulation.svm.node import Node
from tests.simulation.svm.sending import SETTINGS


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """A new chain; nothing happens on it by itself."""
    async with Node.serve(SETTINGS) as node:
        yield node


@pytest.fixture
async def client(node: Node) -> AsyncIterator[AsyncClient]:
    """The real client. Without HTTP/2, which a plain connection does not have."""
    async with AsyncClient(node.rpc_url, http2=False) as client:
        yield client
