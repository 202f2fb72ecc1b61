"""JSON-RPC over HTTP and WebSocket, on one port.

POST /            one request, or a batch            GET /         WebSocket: subscriptions
GET  /health      `ok` or `behind`                   POST /<secret>/control     see control.py
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from bridge.domain.errors import BridgeError
from bridge.simulation.svm.control import Control
from bridge.simulation.svm.faults import Fault, Kind
from bridge.simulation.svm.methods import METHODS
from bridge.simulation.svm.parameters import Parameters
from bridge.simulation.svm.refusals import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    RpcRefusal,
    method_not_found,
)
from bridge.simulation.svm.subscriptions import Outbox, Subscriptions
from bridge.simulation.svm.view import View

REQUEST_SIZE_MAX = 50 * 1024
"""Bytes of a request, as Agave limits it."""

Answer = dict[str, Any]


class TransportFault(Exception):
    """The request is to be met by a fault of the connection rather than by an answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind)
        self.fault = fault


class Server:
    """One node's door."""

    def __init__(self, view: View, control: Control) -> None:
        self._view = view
        self._control = control
        self._subscriptions = Subscriptions(view)
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """Listen on this port of this machine alone, 0: any free one; the port."""
        app = web.Application(client_max_size=REQUEST_SIZE_MAX)
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._socket)
        app.router.add_get("/health", self._health)
        app.router.add_post(self._control.path, self._order)
        self._control.close_sockets = self.close_sockets
        # A client that gives up ends its handler: one that hangs on purpose would never end else.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        """Answer no longer."""
        self._subscriptions.close()
        await self.close_sockets()
        if self._runner is not None:
            await self._runner.cleanup()

    async def close_sockets(self) -> None:
        """Close all WebSockets, as a node does that is restarted."""
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    # HTTP.

    async def _post(self, request: web.Request) -> web.StreamResponse:
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return _json(_failure(None, RpcRefusal(PARSE_ERROR, "Parse error")))
        try:
            return _json(await self._answer_all(body))
        except TransportFault as met:
            return await self._meet(request, met.fault)

    async def _answer_all(self, body: Any) -> Any:
        if not isinstance(body, list):
            return await self._answer(body)
        if not body:
            return _failure(None, RpcRefusal(INVALID_REQUEST, "Invalid request"))
        return [await self._answer(item) for item in body]

    async def _answer(self, body: Any) -> Answer:
        number, method = _identity(body)
        if method is None:
            return _failure(number, RpcRefusal(INVALID_REQUEST, "Invalid request"))
        fault = self._view.faults.take(method, self._view.chance)
        if fault is not None:
            if fault.kind is Kind.ERROR:
                return _failure(number, RpcRefusal(fault.code, fault.message, fault.data))
            if fault.kind is Kind.SLOW:
                await asyncio.sleep(fault.delay_ms / 1000)
            elif fault.kind is not Kind.LOSE_ANSWER:
                raise TransportFault(fault)
        try:
            answer = {"jsonrpc": "2.0", "result": self._call(method, body), "id": number}
        except RpcRefusal as refusal:
            answer = _failure(number, refusal)
        except BridgeError as error:
            answer = _failure(number, RpcRefusal(INTERNAL_ERROR, f"Internal error: {error}"))
        if fault is not None and fault.kind is Kind.LOSE_ANSWER:
            raise TransportFault(fault)
        return answer

    def _call(self, method: str, body: Mapping[str, Any]) -> Any:
        if method not in METHODS:
            raise method_not_found()
        return METHODS[method](self._view, Parameters(body.get("params")))

    async def _meet(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.kind is Kind.RATE_LIMIT:
            refusal = RpcRefusal(429, "Too many requests for a specific RPC call")
            return web.Response(
                status=429,
                headers={"Retry-After": str(fault.retry_after_s)},
                body=orjson.dumps(_failure(None, refusal)),
                content_type="application/json",
            )
        if fault.kind is Kind.GARBAGE:
            return web.Response(text="<html>502 Bad Gateway</html>", content_type="text/html")
        if fault.kind is Kind.HANG:
            await asyncio.Event().wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="behind" if self._view.faults.unhealthy else "ok")

    async def _order(self, request: web.Request) -> web.Response:
        try:
            return _json({"result": await self._control.obey(orjson.loads(await request.read()))})
        except (BridgeError, orjson.JSONDecodeError) as error:
            return _json({"error": str(error)}, status=400)

    # WebSocket.

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self._view.faults.refuse_sockets:
            return web.Response(status=503)
        socket = web.WebSocketResponse(max_msg_size=REQUEST_SIZE_MAX)
        if not socket.can_prepare(request):
            return web.Response(status=405, text="Used HTTP Method is not allowed. POST or OPTIONS is required\n")
        await socket.prepare(request)
        outbox = Outbox()
        self._sockets.add(socket)
        sending = asyncio.create_task(_send(socket, outbox))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._listen(message.data, outbox)
        finally:
            self._sockets.discard(socket)
            self._subscriptions.forget(outbox)
            sending.cancel()
            await asyncio.wait([sending])
        return socket

    def _listen(self, text: str, outbox: Outbox) -> None:
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError:
            outbox.put(_failure(None, RpcRefusal(PARSE_ERROR, "Parse error")))
            return
        number, method = _identity(body)
        if method is None:
            outbox.put(_failure(number, RpcRefusal(INVALID_REQUEST, "Invalid request")))
            return
        try:
            result = self._subscriptions.call(method, Parameters(body.get("params")), outbox)
        except RpcRefusal as refusal:
            outbox.put(_failure(number, refusal))
            return
        outbox.put({"jsonrpc": "2.0", "result": result, "id": number})
        if method.endswith("Subscribe"):
            self._subscriptions.subscribed(result)


async def _send(socket: web.WebSocketResponse, outbox: Outbox) -> None:
    with contextlib.suppress(ConnectionError):  # the client is gone: whoever reads from it notices
        while not outbox.overflown:
            await socket.send_str((await outbox.get()).decode())
    await socket.close(code=WSCloseCode.POLICY_VIOLATION)


def _identity(body: Any) -> tuple[Any, str | None]:
    """A request's id, and its method unless it is no request."""
    if not isinstance(body, dict):
        return None, None
    method = body.get("method")
    valid = body.get("jsonrpc") == "2.0" and isinstance(method, str)
    return body.get("id"), method if valid else None


def _failure(number: Any, refusal: RpcRefusal) -> Answer:
    return {"jsonrpc": "2.0", "error": refusal.to_json(), "id": number}


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
