"""A market over real HTTP: exact digits, and everything that a server can say instead of a price."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from bridge.domain.errors import SourceUnavailable
from bridge.domain.events import Block
from bridge.domain.prices import MarketAnswer, PriceFrom, PriceInput, judge_market
from bridge.prices.http import HttpMarket
from bridge.runtime.config import PriceSection

BLOCK = Block(5, b"\x05" * 32, b"\x04" * 32, 1_700_000_000)
KEY = "s3same/&?"
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Exchange:
    """Answers one request after the other as `says` has it, the last of them for ever."""

    url: str = ""
    says: list[str | bytes | web.Response | Respond] = field(default_factory=list)
    asked: list[web.Request] = field(default_factory=list)
    markets: list[HttpMarket] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, web.Response):
            return said
        if isinstance(said, (str, bytes)):
            return web.Response(body=said)
        return await said(request)

    def market(self, path: str = "/v1?at={timestamp}", **settings: Any) -> HttpMarket:
        key = settings.pop("key", None)
        fields = {"value": ["price"], "decimals": 8, "timeout_ms": 300, "bytes_max": 10_000, **settings}
        market = HttpMarket("exchange", PriceSection(url=self.url + path, **fields), key)
        self.markets.append(market)
        return market

    async def quote(self, said: str | bytes | web.Response | Respond, **settings: Any) -> MarketAnswer:
        self.says = [said]
        return await self.market(**settings).quote(BLOCK)


@pytest.fixture
async def exchange(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Exchange]:
    monkeypatch.setattr("bridge.prices.http.PAUSE_FIRST_MS", 1)
    exchange = Exchange()
    application = web.Application()
    application.router.add_get("/{path:.*}", exchange.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    exchange.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield exchange
    for market in exchange.markets:
        await market.close()
    await runner.cleanup()


# ── Prices ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"price": 2000}', 2000 * 10**8),
        ('{"price": 2000.123456789}', 200_012_345_678),  # what is finer than the decimals is cut off
        ('{"price": "2000.12"}', 200_012_000_000),
        ('{"price": 2.5e3}', 2500 * 10**8),
        ('{"price": 0.000000009}', 0),
        ('{"price": -1.5}', -150_000_000),
        ('{"price": 1234567890123456.78901234}', 123_456_789_012_345_678_901_234),  # a double has 16 digits
    ],
)
async def test_quote__a_number__exact(exchange: Exchange, body: str, answer: int):
    said = await exchange.quote(body)
    assert (said.answer, said.decimals, said.problem) == (answer, 8, None)


async def test_quote__nested__found_by_keys_and_places(exchange: Exchange):
    body = '{"result": {"XETHZ.USD": [["junk", {"c": "1.5"}]]}, "at": 1700000000.9}'
    said = await exchange.quote(body, value=["result", "XETHZ.USD", 0, 1, "c"], time=["at"])
    assert (said.answer, said.quoted_at) == (150_000_000, 1_700_000_000)


@pytest.mark.parametrize(
    ("form", "text", "seconds"),
    [
        ("seconds", "1700000001", 1_700_000_001),
        ("seconds", '"1700000001"', 1_700_000_001),
        ("seconds", "1.7e9", 1_700_000_000),
        ("milliseconds", "1700000001999", 1_700_000_001),
        ("iso8601", '"2023-11-14T22:13:20Z"', 1_700_000_000),
        ("iso8601", '"2023-11-14T23:13:20.900+01:00"', 1_700_000_000),
    ],
)
async def test_quote__time__in_each_form(exchange: Exchange, form: str, text: str, seconds: int):
    said = await exchange.quote(f'{{"price": 1, "at": {text}}}', time=["at"], time_format=form)
    assert said.quoted_at == seconds


async def test_quote__evidence__what_was_asked_and_answered(exchange: Exchange):
    body = '{"price": 1.50, "at": 1700000000}'
    said = await exchange.quote(body, time=["at"])
    assert said.parts == {
        "market": "exchange",
        "url": f"{exchange.url}/v1?at=1700000000",
        "status": "200",
        "body_sha256": hashlib.sha256(body.encode()).hexdigest(),
        "numeral": "1.50",
        "moment": "1700000000",
    }


async def test_quote__moments__asked_for_in_each_form(exchange: Exchange):
    await exchange.quote('{"price": 1}', path="/v1?s={timestamp}&ms={timestamp_ms}&iso={timestamp_iso}")
    query = exchange.asked[0].query
    assert query == {"s": "1700000000", "ms": "1700000000000", "iso": "2023-11-14T22:13:20Z"}


async def test_quote__key__sent_and_never_shown(exchange: Exchange):
    in_url = await exchange.quote('{"price": 1}', path="/v1?at={timestamp}&k={key}", key_env="K", key=KEY)
    in_header = await exchange.quote('{"price": 1}', key_env="K", key_header="X-Key", key=KEY)
    assert exchange.asked[0].query["k"] == KEY
    assert exchange.asked[1].headers["X-Key"] == KEY
    assert "X-Key" not in exchange.asked[0].headers
    assert "{key}" in in_url.parts["url"]
    assert KEY not in str(in_url) + str(in_header)
    with pytest.raises(SourceUnavailable) as caught:
        await exchange.quote(web.Response(status=500), path="/v1?at={timestamp}&k={key}", key_env="K", key=KEY, tries=1)
    assert KEY not in str(caught.value)


# ── What is no price ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("", "no JSON"),
        ("<html>sorry</html>", "no JSON"),
        (b"\xff\xfe{", "no JSON"),
        ('{"price": 2000', "no JSON"),
        ('{"price": 1, "price": 2}', "no JSON"),
        ('{"price": NaN}', "no JSON"),
        ('{"price": Infinity}', "no JSON"),
        ('{"price": 01}', "no JSON"),
        ("[" * 9_000, "no JSON"),
        (web.Response(body=gzip.compress(b'{"price": 1}'), headers={"content-encoding": "gzip"}), "no JSON"),
        ('{"prices": 1}', "nothing at value ['price']"),
        ("[1]", "nothing at value ['price']"),
        ('{"price": null}', "nothing at value"),
        ('{"price": true}', "no number stands at value"),
        ('{"price": {}}', "no number stands at value"),
        ('{"price": [1]}', "no number stands at value"),
        ('{"price": "soon"}', "`soon` is not a number"),
        ('{"price": "1,000"}', "is not a number"),
        ('{"price": ""}', "is not a number"),
        ('{"price": "1\\u0000"}', "is no number"),
        ('{"price": "\\ud800"}', "is no number"),
        ('{"price": "\\u0661"}', "is no number"),
        ('{"price": 1e400}', "out of range"),
        ('{"price": -1e400}', "out of range"),
        ('{"price": 1e-400}', "out of range"),
        ('{"price": 1e99999999999999999999}', "is not a number"),
        ('{"price": 1' + "0" * 5000 + "}", "5001 characters long"),
        ('{"price": 1}' + " " * 10_000, "larger than 10000 bytes"),
        (web.Response(status=404, body='{"price": 1}'), "HTTP 404"),
        (web.Response(status=204), "HTTP 204"),
    ],
)
async def test_quote__no_price__a_problem_that_names_it(exchange: Exchange, said: Any, problem: str):
    if isinstance(said, web.Response):
        encoding = {"content-encoding": "gzip"} if "content-encoding" in said.headers else {}
        said = web.Response(status=said.status, body=said.body, headers=encoding)  # each is good for one request
    answer = await exchange.quote(said)
    assert answer.answer is None
    assert answer.problem is not None
    assert answer.problem.startswith("market exchange: ")
    assert problem in answer.problem
    assert len(answer.problem) < 300
    assert answer.parts["market"] == "exchange"
    assert len(exchange.asked) == 1


@pytest.mark.parametrize(
    ("text", "form", "problem"),
    [
        ("null", "seconds", "nothing at time"),
        ('"yesterday"', "seconds", "not a number"),
        ('"yesterday"', "iso8601", "no moment"),
        ('"2023-11-14T22:13:20"', "iso8601", "no time zone"),
        ("1700000000", "iso8601", "no moment|no time zone"),
        ("1e400", "seconds", "out of range"),
    ],
)
async def test_quote__no_time__a_problem(exchange: Exchange, text: str, form: str, problem: str):
    said = await exchange.quote(f'{{"price": 1, "at": {text}}}', time=["at"], time_format=form)
    assert said.answer is None
    assert any(part in str(said.problem) for part in problem.split("|"))


async def test_quote__stale__held_when_it_is_judged(exchange: Exchange):
    wanted = PriceFrom(http="exchange", max_age_s=600)
    source = PriceInput("WETH", "USDX", 18, 6, wanted)
    for at, problem in ((1_699_999_400, None), (1_699_999_399, "601 s away"), (1_700_000_601, "601 s away")):
        said = await exchange.quote(f'{{"price": 2000, "at": {at}}}', time=["at"])
        reading = judge_market(source, wanted, said, BLOCK.timestamp)
        assert (reading.problem is None) == (problem is None)
        assert problem is None or problem in str(reading.problem)


async def test_quote__redirect__not_followed(exchange: Exchange):
    elsewhere = web.Response(status=302, headers={"location": f"{exchange.url}/elsewhere"})
    said = await exchange.quote(elsewhere)
    assert said.problem == "market exchange: HTTP 302"
    assert [request.path for request in exchange.asked] == ["/v1"]


async def test_quote__endless__cut_off_at_the_limit(exchange: Exchange):
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 100_000_000:
            await response.write(b" " * 10_000)
            sent += 10_000
        return response

    said = await exchange.quote(endless, timeout_ms=5_000)
    assert "larger than 10000 bytes" in str(said.problem)
    assert sent < 50_000_000


# ── No answer ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "100"})
    await response.prepare(request)
    await response.write(b'{"price": 1}')
    assert request.transport is not None
    request.transport.close()
    return response


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def busy(request: web.Request) -> web.StreamResponse:
    return web.Response(status=429)


async def broken(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, body='{"price": 1}')


@pytest.mark.parametrize("fault", [cut_short, hang, busy, broken])
async def test_quote__no_answer__tried_again_then_unavailable(exchange: Exchange, fault: Respond):
    exchange.says = [fault, fault, '{"price": 1}']
    assert (await exchange.market().quote(BLOCK)).answer == 10**8
    exchange.says = [fault]
    with pytest.raises(SourceUnavailable, match="market exchange does not answer"):
        await exchange.market(tries=2).quote(BLOCK)
    assert len(exchange.asked) == 5


async def test_quote__nobody_listens__unavailable():
    section = PriceSection(url="http://127.0.0.1:1/?at={timestamp}", value=["price"], decimals=8, tries=1)
    market = HttpMarket("exchange", section)
    with pytest.raises(SourceUnavailable, match="ClientConnectorError"):
        await market.quote(BLOCK)
    await market.close()
