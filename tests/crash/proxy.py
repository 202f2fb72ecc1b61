"""A node's front door, with faults to switch on: what stands between a daemon and its RPC provider."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from random import Random

import aiohttp
from aiohttp import web

WHIMS_SHARE = 0.08
"""Of all requests."""


class Fault(Enum):
    """What becomes of a request while the fault lasts."""

    REFUSE = "refuse"  # the connection ends before the node has heard of it
    HANG = "hang"  # nothing happens until the fault is over, then the connection ends
    CUT = "cut"  # the node answers, and the answer is lost
    LOSE_SENT = "lose sent"  # CUT for transactions, everything else passes


class Whim(Enum):
    """What an unreliable provider does to a request, by chance. It may fail and repeat, but it invents nothing."""

    END_BEFORE = "end before"  # the connection ends before the node has heard of it
    END_AFTER = "end after"  # the node answers, and the answer is lost
    SLOW = "slow"
    TWICE = "twice"  # the node gets the request twice; the second answer counts
    BUSY = "busy"  # 429
    BUSY_FOR = "busy for"  # 429 with Retry-After
    TRUNCATED = "truncated"  # the first half of the answer
    STALE = "stale"  # what the same request was answered some time ago: an older head, no receipt yet
    OTHER_TYPE = "other type"  # JSON, but no JSON-RPC


class Proxy:
    """Passes requests on to `node`."""

    def __init__(self, node: str) -> None:
        self.url = ""
        self.node = node
        self.delay_s = 0.0  # of every answer
        self.chance: Random | None = None  # where whims come from; None: there are none
        self.whims: Counter[Whim] = Counter()  # those that were had
        self._old: dict[bytes, bytes] = {}  # an earlier answer to each request
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
        if fault is None and self.chance is not None and self.chance.random() < WHIMS_SHARE:
            return await self._on_a_whim(request, body, self.chance)
        if fault is not None:
            self._felt.put_nowait(None)
        if fault is Fault.HANG:
            await self._over.wait()
        if fault in (Fault.REFUSE, Fault.HANG):
            return _end(request)
        answered = await self._ask(body)
        return _end(request) if fault is not None else web.Response(body=answered, content_type="application/json")

    async def _on_a_whim(self, request: web.Request, body: bytes, chance: Random) -> web.StreamResponse:
        possible = [whim for whim in Whim if whim is not Whim.STALE or body in self._old]
        whim = min(possible, key=lambda whim: (self.whims[whim], chance.random()))  # each has its turn
        self.whims[whim] += 1
        if whim is Whim.BUSY:
            return web.Response(status=429)
        if whim is Whim.BUSY_FOR:
            return web.Response(status=429, headers={"retry-after": "1"})
        if whim is Whim.END_BEFORE:
            return _end(request)
        if whim is Whim.SLOW:
            await asyncio.sleep(chance.uniform(0.05, 0.5))
        if whim is Whim.TWICE:
            await self._ask(body)
        answered = self._old[body] if whim is Whim.STALE else await self._ask(body)
        if whim is Whim.END_AFTER:
            return _end(request)
        if whim is Whim.TRUNCATED:
            answered = answered[: len(answered) // 2]
        if whim is Whim.OTHER_TYPE:
            answered = chance.choice([b"null", b"[]", b"7", b'"busy"', b"{}"])
        return web.Response(body=answered, content_type="application/json")

    async def _ask(self, body: bytes) -> bytes:
        async with self._client.post(self.node, data=body, headers={"content-type": "application/json"}) as answer:
            answered = await answer.read()
        await asyncio.sleep(self.delay_s)
        if self.chance is not None and (body not in self._old or self.chance.random() < 0.2):
            self._old[body] = answered
        return answered


def _end(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
