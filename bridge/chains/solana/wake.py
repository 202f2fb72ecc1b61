"""A WebSocket that says when to look, and nothing else: what it tells is not believed, and its silence proves nothing.

accountSubscribe for what is watched ─► a notification ─► the poller looks now
closed, refused, silent ──────────────────────────────────► the poller looks when its interval is over
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import aiohttp
import orjson

from bridge.chains.solana import rpc
from bridge.chains.solana.rpc import FINALIZED
from bridge.domain.units import Address

PAUSE_FIRST_MS = 500  # before it connects again; doubles up to the most
PAUSE_MAX_MS = 30_000
HEARTBEAT_S = 20
SUBSCRIPTIONS_MAX = 100
MESSAGE_BYTES_MAX = 1 << 20


class Wake:
    """Waits until it is time to look. Without a URL that is always the interval."""

    def __init__(self, url: str | None, accounts: Sequence[Address]) -> None:
        self._url = url
        self._accounts = accounts[:SUBSCRIPTIONS_MAX]
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, interval_ms: int) -> None:
        """Returns at a notification since the last wait, or when the interval is over."""
        if self._url is not None and (self._listening is None or self._listening.done()):
            self._listening = asyncio.create_task(self._listen(self._url), name="wake")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), interval_ms / 1000)
        self._news.clear()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None

    async def _listen(self, url: str) -> None:
        pause_ms = PAUSE_FIRST_MS
        while True:
            try:
                async with aiohttp.ClientSession() as session, session.ws_connect(
                    url, heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES_MAX
                ) as socket:  # fmt: skip
                    await self._subscribe(socket)
                    async for message in socket:
                        pause_ms = PAUSE_FIRST_MS
                        self._hear(message)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                pass  # as for a socket that was closed: it is only late, never wrong, to look without it
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(2 * pause_ms, PAUSE_MAX_MS)

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        for number, account in enumerate(self._accounts):
            params = [rpc.text(account), {**FINALIZED, "encoding": "base64"}]
            request = {"jsonrpc": "2.0", "id": number, "method": "accountSubscribe", "params": params}
            await socket.send_str(orjson.dumps(request).decode())

    def _hear(self, message: aiohttp.WSMessage) -> None:
        if message.type is aiohttp.WSMsgType.TEXT and b'"accountNotification"' in message.data.encode():
            self._news.set()
