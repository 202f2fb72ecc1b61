"""GET /metrics: what a monitoring system scrapes. It has an address of its own, for proofs are everybody's and this is
not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from bridge.domain.errors import RetryableError
from bridge.runtime.metrics import CONTENT_TYPE, Sample, exposition

Read = Callable[[], Awaitable[Iterable[Sample]]]


class MetricRoutes:
    def __init__(self, read: Read) -> None:
        self._read = read

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _metrics(self, _: web.Request) -> web.Response:
        try:
            body = exposition(await self._read())
        except RetryableError as error:  # the database is away: the scrape fails, which is what it should tell
            raise web.HTTPServiceUnavailable(text=str(error)) from None
        return web.Response(body=body.encode(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
