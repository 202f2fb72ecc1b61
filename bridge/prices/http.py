"""Prices of a market, asked for over HTTP as bridge.toml describes it.

    URL with the block's time filled in ─► one answer of bounded size ─► JSON ─► numeral at a path ─► exact integer
              ├─ no answer, 429, 5xx, cut short ─► again, some times ─► SourceUnavailable
              └─ anything else that is no price ─► an answer with a problem

Numbers are never read as floats: what stands in the text is what counts, digit by digit. What was asked, what was
answered and the hash of the whole answer are kept as evidence, and no key with them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import quote

import aiohttp

from bridge.domain.errors import SourceUnavailable
from bridge.domain.events import Block
from bridge.domain.prices import MarketAnswer, parse_numeral
from bridge.runtime.config import PriceSection

PAUSE_FIRST_MS = 200  # between tries; doubles
TEXT_MAX = 80  # characters of a number or a moment


class _NoPrice(ValueError):
    """The source answered, and it is no price."""


class HttpMarket:
    """Implements ports.Market. Use it inside one event loop and `close` it there."""

    def __init__(self, name: str, section: PriceSection, key: str | None = None) -> None:
        self.name = name
        self._section = section
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def quote(self, at: Block) -> MarketAnswer:
        """See ports.Market."""
        section = self._section
        url = section.url_at(at.timestamp)
        parts = {"market": self.name, "url": url}
        try:
            status, body = await self._fetch_patiently(url)
            parts |= {"status": str(status), "body_sha256": hashlib.sha256(body).hexdigest()}
            document = _parse(status, body)
            parts["numeral"] = _numeral_at(document, section.value, "value")
            answer = _number(parts["numeral"], section.decimals, "value")
            quoted_at = None
            if section.time is not None:
                parts["moment"] = _numeral_at(document, section.time, "time")
                quoted_at = _seconds(parts["moment"], section.time_format)
        except _NoPrice as error:
            return MarketAnswer(None, section.decimals, None, parts, f"market {self.name}: {error}")
        return MarketAnswer(answer, section.decimals, quoted_at, parts)

    async def _fetch_patiently(self, url: str) -> tuple[int, bytes]:
        """(status, body). Raises SourceUnavailable where no try gets an answer, _NoPrice for one that is too large."""
        reason = ""
        for attempt in range(self._section.tries):
            if attempt:
                await asyncio.sleep(PAUSE_FIRST_MS / 1000 * 2 ** (attempt - 1))
            try:
                status, body = await self._fetch(url)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = type(error).__name__
                continue
            if status != 429 and status < 500:
                return status, body
            reason = f"HTTP {status}"
        raise SourceUnavailable(f"market {self.name} does not answer: {reason}")

    async def _fetch(self, url: str) -> tuple[int, bytes]:
        if self._session is None:
            # As it is sent: a small answer that unfolds to a huge one is no JSON, and is refused as that.
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._section.timeout_ms / 1000),
                headers={"accept": "application/json", "accept-encoding": "identity"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        headers = {}
        if self._key is not None and self._section.key_header is not None:
            headers[self._section.key_header] = self._key
        elif self._key is not None:
            url = url.replace("{key}", quote(self._key, safe=""))
        limit = self._section.bytes_max
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise _NoPrice(f"the answer is larger than {limit} bytes")
            return response.status, bytes(body)


# ── What stands in an answer ────────────────────────────────────────────────────────────────────────────────────────
def _parse(status: int, body: bytes) -> Any:
    """JSON with its numbers as they are written. Raises _NoPrice for anything else, and for keys that stand twice."""
    if status != 200:
        raise _NoPrice(f"HTTP {status}")
    try:
        return json.loads(
            body.decode(),
            parse_float=str,
            parse_int=str,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError):
        raise _NoPrice("the answer is no JSON") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _numeral_at(document: Any, path: Sequence[str | int], what: str) -> str:
    """The text at `path`: a number, or a string that holds one."""
    found = document
    for place, step in enumerate(path):
        try:
            if isinstance(step, int):
                found = found[step] if isinstance(found, list) else None
            else:
                found = found[step] if isinstance(found, dict) else None
        except (KeyError, IndexError):
            found = None
        if found is None:
            raise _NoPrice(f"the answer has nothing at {what} {list(path[: place + 1])}")
    if not isinstance(found, str):
        raise _NoPrice(f"no number stands at {what} {list(path)}")
    if len(found) > TEXT_MAX:
        raise _NoPrice(f"what stands at {what} is {len(found)} characters long")
    if not (found.isascii() and found.isprintable()):  # it is going to be shown and stored
        raise _NoPrice(f"what stands at {what} is no number")
    return found


def _number(text: str, decimals: int, what: str) -> int:
    try:
        return parse_numeral(text, decimals)
    except ValueError as error:
        raise _NoPrice(f"{what}: {error}") from None


def _seconds(text: str, form: str) -> int:
    """Seconds since 1970, rounded down."""
    if form != "iso8601":
        return _number(text, 0, "time") // (1000 if form == "milliseconds" else 1)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _NoPrice(f"time: `{text}` is no moment") from None
    if moment.tzinfo is None:
        raise _NoPrice(f"time: `{text}` names no time zone")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
