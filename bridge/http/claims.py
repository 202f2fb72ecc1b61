"""Proofs of claims, by the id of the distribution.

    GET /claims/ID/ACCOUNT           what ACCOUNT needs to claim: {"chainId", "contract", "token", "root", "account",
                                     "cumulative", "proof"}; 404 where it has nothing to claim
    GET /claims/ID/                  index.json: root, total, number of accounts, how the proofs are sharded
    GET /claims/ID/proofs/3f7.json   the static files themselves, as any web server could serve the folder
    GET /claims/ID/claims.parquet

What stands under an id never changes, so it may be cached for ever, and pages of any origin may read it. Anything that
is not there is a JSON object with `error`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.domain.errors import ConfigError, NotInClaimSet, RefusedError
from bridge.ports.paying import ClaimFiles

_ID = re.compile(r"0x[0-9a-f]{64}\Z")
_FILES = re.compile(r"(index\.json|claims\.parquet|proofs/[0-9a-f]{1,8}\.json)\Z")
_FOR_EVER = "public, max-age=31536000, immutable"


class ClaimRoutes:
    """`files`: of each chain; ids of different chains differ."""

    def __init__(self, files: Iterable[ClaimFiles]) -> None:
        self._files = tuple(files)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_headers])
        app.router.add_get("/claims/{id}", self._index)
        app.router.add_get("/claims/{id}/", self._index)
        app.router.add_get(r"/claims/{id}/{account:0x[^/]*}", self._claim)
        app.router.add_get(r"/claims/{id}/{file:.+}", self._file)
        return app

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._send(request, "index.json")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        file = request.match_info["file"]
        if not _FILES.match(file):
            raise web.HTTPNotFound(reason="no such file: there are index.json, claims.parquet and proofs/DIGITS.json")
        return self._send(request, file)

    async def _claim(self, request: web.Request) -> web.StreamResponse:
        distribution_id, files = self._find(request)
        try:
            found = await asyncio.to_thread(files.claim, distribution_id, request.match_info["account"].lower())
        except NotInClaimSet as error:
            raise web.HTTPNotFound(reason=str(error)) from None
        except RefusedError as error:
            raise web.HTTPBadRequest(reason=str(error)) from None
        except ConfigError as error:
            raise web.HTTPServiceUnavailable(reason=error.problem) from None
        return web.json_response(found)

    def _send(self, request: web.Request, file: str) -> web.StreamResponse:
        distribution_id, files = self._find(request)
        folder = files.find(distribution_id)
        path = None if folder is None else folder / file
        if path is None or not path.is_file():
            raise web.HTTPNotFound(reason="no such file")
        return web.FileResponse(path)

    def _find(self, request: web.Request) -> tuple[bytes, ClaimFiles]:
        asked = request.match_info["id"].lower()
        if not _ID.match(asked):
            raise web.HTTPBadRequest(reason="the id of a distribution is 0x and 64 hex digits")
        distribution_id = bytes.fromhex(asked[2:])
        for files in self._files:
            if files.is_published(distribution_id):
                return distribution_id, files
        raise web.HTTPNotFound(reason="no claim set is published under this id")


@web.middleware
async def _headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
        response.headers["Cache-Control"] = _FOR_EVER
    except web.HTTPException as error:  # ours, or the router's
        response = web.json_response({"error": error.reason}, status=error.status)
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response
