"""Listens while the daemon runs. That nobody can read proofs must never stop anybody from being paid: an address that
is taken is tried again, for another instance on this machine may hold it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from bridge.ports.running import Clock
from bridge.runtime.logs import get_logger

RETRY_MS = 5_000

_log = get_logger("http")


async def serve_http(application: web.Application, host: str, port: int, clock: Clock) -> None:
    """Until cancelled. Port 0 lets the system choose; which it is stands in the log."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=2)
    await runner.setup()
    try:
        while True:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
                break
            except OSError as error:
                _log.warning(
                    "cannot listen, will try again", action="http.retry", host=host, port=port, error=str(error)
                )
                await clock.sleep_ms(RETRY_MS)
        address = runner.addresses[0]
        _log.info("listening", action="http.listening", host=address[0], port=address[1])
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
