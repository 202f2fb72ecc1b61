"""A node's front door, with faults to switch on: what stands between a daemon and its RPC provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

import aiohttp
from aiohttp import web


class Fault(Enum):
    """What becomes of a request while the fault lasts."""

    REFUSE = "refuse"  # the connection ends before the node has heard of it
    HANG = "hang"  # nothing happens until the fault is over, then the connection ends
    CUT = "cut"  # the node answers, and the answer is lost
    LOSE_SENT = "lose sent"  # CUT for transactions, everything else passes


class Proxy:
    """Passes requests on to `node`."""

    def __init__(self, node: str) -> None:
        self.url = ""
        self.node = node
        self._fault: Fault | None = None
        self._over = asyncio.Event()  # set when the present fault ends
        self._felt: asyncio.Queue[None] = asyncio.Queue()  # an item for each request that met the present fault

    async def suffer(self, fault: Fault, *, times: int = 1, at_least_s: float = 0) -> None:
        """Returns when `times` requests have met it and it has lasted `at_least_s` after that: then it is over."""
        self._fault, self._over, self._felt = fault, asyncio.Event(), asyncio.Queue()
        for _ in range(times):
            await self._felt.get()
        await asyncio.sleep(at_least_s)
        self._fault = None
        self._over.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/", self._serve)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as self._client:
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self._fault
        if fault is Fault.LOSE_SENT and b"eth_sendRawTransaction" not in body:
            fault = None
        if fault is not None:
            self._felt.put_nowait(None)
        if fault is Fault.HANG:
            await self._over.wait()
        if fault in (Fault.REFUSE, Fault.HANG):
            return _end(request)
        async with self._client.post(self.node, data=body, headers={"content-type": "application/json"}) as answer:
            answered = await answer.read()
        return _end(request) if fault is not None else web.Response(body=answered, content_type="application/json")


def _end(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
