"""JSON-RPC over HTTP to several endpoints of one chain.

    agreed ─► every endpoint ─► what two of them say alike, or ChainDisagrees | ChainUnavailable: for what moves money
    call ─► best endpoint ─┬─ answer ─────────────────────────────────► result
                           ├─ refusal that every node would repeat ───► Refused
                           └─ dead, slow, busy, behind ─► next endpoint ─► … ─► pause ─► again, some rounds
                                                                                   └──► ChainUnavailable | Refused

An endpoint that answers and is contradicted is asked last for a while, like one that does not answer: else one that
lies quickly would be asked first for ever.

What an error answer means is the chain's own: its adapter reads it (see Refused).

No other exception than those of bridge.domain.errors (and Refused, one of them) leaves this module.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import urlsplit

import aiohttp
import orjson

from bridge.domain.errors import ChainDisagrees, ChainUnavailable, ConfigError, RetryableError

ROUNDS_MAX = 3  # how often all endpoints are tried before giving up
PAUSE_FIRST_MS = 100  # between rounds; doubles, with jitter
RETRY_AFTER_MAX_MS = 60_000  # a server that asks for more is simply unhealthy
ANSWER_BYTES_MAX = 256 * 1024 * 1024
COOLDOWN_FIRST_MS = 500  # how long a failing endpoint is asked last; doubles with each failure in a row
COOLDOWN_MAX_MS = 30_000
QUORUM = 2  # endpoints that must say the same, where two or more are configured
_T = TypeVar("_T")


class Refused(RetryableError):
    """A node answered with an error. `code` and `message` are the node's; each chain's adapter says what they mean."""

    busy = False  # a rate limit or an internal error: another endpoint, or later
    elsewhere = False  # what another endpoint may answer although this one did not

    def __init__(self, endpoint: str, method: str, code: int, message: str, data: Any = None) -> None:
        self.endpoint = endpoint
        self.method = method
        self.code = code
        self.message = message
        self.data = data
        super().__init__(f"{endpoint} refused {method}: {message[:300]} (code {code})")

    @property
    def verdict(self) -> bytes | None:
        """Where the error is itself an answer that endpoints can agree upon: what it says. None for any other."""
        return None


class Throttled(ChainUnavailable):
    """The endpoint serves no more just now (HTTP 429): it is well, and answers later."""


def name_of(url: str) -> str:
    """What may be shown of an endpoint's URL: paths, queries and user names carry keys, so only the host is left."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an unreadable URL"
    return f"{parts.hostname}{port}"


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


@dataclass(slots=True, eq=False)
class Endpoint:
    """One URL and what experience says of it."""

    url: str = field(repr=False)
    name: str
    failures: int = 0  # in a row
    latency_ms: float = 0.0  # moving average
    cool_until_ms: int = 0  # asked last until then; monotonic clock
    doubts: int = 0  # how often it was contradicted, not long after each other
    doubted_until_ms: int = 0  # asked last until then, however well it answers

    def doubt(self) -> None:
        """Two others contradict it, or what it says does not fit together: ask it last for a while. Answering does not
        end that, for that is just what it does."""
        now = _now_ms()
        if now <= self.doubted_until_ms:
            return  # one lie is met in many places
        if now > self.doubted_until_ms + COOLDOWN_MAX_MS:
            self.doubts = 0
        self.doubts += 1
        self.doubted_until_ms = now + min(COOLDOWN_MAX_MS, COOLDOWN_FIRST_MS * 2 ** min(self.doubts, 10))

    @property
    def doubted(self) -> bool:
        return self.doubted_until_ms > _now_ms()

    def succeeded(self, took_ms: float) -> None:
        self.failures = 0
        self.cool_until_ms = 0
        self.latency_ms = took_ms if self.latency_ms == 0.0 else 0.8 * self.latency_ms + 0.2 * took_ms

    def failed(self, retry_after_ms: int = 0) -> None:
        """Ask it last for a while: exponential in its failures in a row, or as long as the server says."""
        self.failures += 1
        cooldown = min(COOLDOWN_MAX_MS, COOLDOWN_FIRST_MS * 2 ** min(self.failures - 1, 10))
        self.cool_until_ms = _now_ms() + max(cooldown, min(retry_after_ms, RETRY_AFTER_MAX_MS))


@dataclass(frozen=True, slots=True)
class Answer:
    """What one endpoint said: a result, or why there is none."""

    endpoint: Endpoint
    result: Any
    error: ChainUnavailable | Refused | None


_Votes = tuple[  # who says what: a value, or a verdict; the refusals by verdict; what is no answer
    dict[tuple[_T | None, bytes | None], list[Endpoint]], dict[bytes, Refused], list[RetryableError]
]


class JsonRpc:
    """The endpoints of one chain, ranked by health, then by latency.

    Use it inside one event loop and `close` it there.
    """

    refused: ClassVar[type[Refused]] = Refused

    def __init__(self, urls: Sequence[str], *, timeout_ms: int = 10_000, requests_max: int = 16) -> None:
        """`requests_max` bounds the requests under way at once per endpoint. Raises ConfigError for unusable URLs."""
        for url in urls:
            if not _is_http(url):
                raise ConfigError(f"`{name_of(url)}` is not an http:// or https:// URL", where="rpc")
        if not urls:
            raise ConfigError("no endpoint is given", where="rpc", mend="name at least one URL")
        self.endpoints = [Endpoint(url, name_of(url)) for url in urls]
        names = [endpoint.name for endpoint in self.endpoints]
        for index, endpoint in enumerate(self.endpoints):
            if names.count(endpoint.name) > 1:
                endpoint.name = f"{endpoint.name}#{index + 1}"
        self._best = self.endpoints[0]
        self._timeout_ms = timeout_ms
        self._requests_max = requests_max
        self._session: aiohttp.ClientSession | None = None
        self._ids = itertools.count(1)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def ranked(self) -> list[Endpoint]:
        """Best first. The best so far stays it until it fails or another is twice as fast: two nodes that disagree
        about the tip should not take turns."""
        now = _now_ms()

        def rank(endpoint: Endpoint) -> tuple[bool, int, float]:
            latency = endpoint.latency_ms * (0.5 if endpoint is self._best else 1.0)
            return max(endpoint.cool_until_ms, endpoint.doubted_until_ms) > now, endpoint.failures, latency

        order = sorted(self.endpoints, key=rank)
        self._best = order[0]
        return order

    def prefer(self, endpoint: Endpoint) -> None:
        """Make `endpoint` the best one: it knows a longer chain than the others."""
        for other in self.endpoints:
            other.latency_ms = max(other.latency_ms, endpoint.latency_ms)
        self._best = endpoint

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """The result from the first endpoint, best first, that gives one.

        Raises Refused for an answer that is an error, ChainUnavailable where no endpoint answers.
        """
        return await self.first_of(lambda endpoint: self.call_on(endpoint, method, params))

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """The results of several calls, in order, all from one endpoint. Raises as `call`, for the first error."""
        return await self.first_of(lambda endpoint: self.batch_on(endpoint, calls))

    async def call_on_each(self, method: str, params: Sequence[Any] = ()) -> list[Answer]:
        """What every endpoint says, in the configured order; nothing is tried twice."""

        async def ask(endpoint: Endpoint) -> Answer:
            try:
                return Answer(endpoint, await self.call_on(endpoint, method, params), None)
            except (ChainUnavailable, Refused) as error:
                return Answer(endpoint, None, error)

        return list(await asyncio.gather(*(ask(endpoint) for endpoint in self.endpoints)))

    async def check_served(
        self,
        method: str,
        read: Callable[[Any], _T],
        *,
        where: str,
        kind: str,
        other: Callable[[str, _T], ConfigError | None],
    ) -> list[Endpoint]:
        """The endpoints that answer `method`, which tells chains of one kind apart; `read` of its result says which.

        Raises ConfigError about `where` (a section) unless one answers, as a node of that `kind` does, and `other` of
        the endpoint's name and of what it said is None for all that do: it is the mistake where that is another chain.
        """
        answers = await self.call_on_each(method)
        alive = [answer for answer in answers if answer.error is None]
        if not alive:
            reasons = "; ".join(str(answer.error) for answer in answers)
            raise ConfigError(
                f"no endpoint answers: {reasons}", where=f"{where} rpc", mend="correct the URL, or start the node"
            )
        for answer in alive:
            try:
                served = read(answer.result)
            except ChainDisagrees:
                raise ConfigError(
                    f"{answer.endpoint.name} answers, but not as {kind}", where=f"{where} rpc", mend="correct the URL"
                ) from None
            mistake = other(answer.endpoint.name, served)
            if mistake is not None:
                raise mistake
        return [answer.endpoint for answer in alive]

    async def agreed(self, method: str, params: Sequence[Any], read: Callable[[Any], _T]) -> _T:
        """As `agreed_by`, of one call: `read` of its result."""

        async def ask(endpoint: Endpoint) -> _T:
            return read(await self.call_on(endpoint, method, params))

        return await self.agreed_by(ask, method)

    async def agreed_by(self, ask: Callable[[Endpoint], Awaitable[_T]], what: str) -> _T:
        """What `ask` gets from two endpoints alike, more of them than say anything else; the only one's answer where
        one is configured. A refusal with a verdict is an answer too. `ask` gives something hashable, or
        raises ChainUnavailable, Refused, or ChainDisagrees for what makes no sense. Who failed just now is asked
        only where the others do not settle it.

        Raises Refused where they agree on a verdict, ChainDisagrees where they say different things, and otherwise
        the reason why no two answer.
        """
        if len(self.endpoints) < QUORUM:
            return await self.first_of(ask)
        voters, verdicts, problems = await self._votes(ask)
        if not voters:
            raise problems[0]
        [((value, verdict), most), *others] = sorted(voters.items(), key=lambda vote: -len(vote[1]))
        if others and (len(most) < QUORUM or len(others[0][1]) == len(most)):
            raise ChainDisagrees(f"endpoints answer {what} differently: {_names(self.endpoints)}")
        if len(most) < QUORUM:
            raise ChainUnavailable(f"only one endpoint answers {what}, two must agree; {problems[0]}")
        for _, minority in others:
            for endpoint in minority:
                endpoint.doubt()
        if verdict is not None:
            raise verdicts[verdict]
        return cast("_T", value)

    async def _votes(self, ask: Callable[[Endpoint], Awaitable[_T]]) -> _Votes[_T]:
        answering, failing = self._by_health()
        voters: defaultdict[tuple[_T | None, bytes | None], list[Endpoint]] = defaultdict(list)
        verdicts: dict[bytes, Refused] = {}
        problems: list[RetryableError] = []
        for turn in (answering, failing):
            for endpoint, (value, error) in zip(turn, await self.each(ask, turn), strict=True):
                verdict = error.verdict if isinstance(error, Refused) else None
                if verdict is not None:
                    assert isinstance(error, Refused)
                    verdicts[verdict] = error
                    voters[None, verdict].append(endpoint)
                elif error is not None:
                    problems.append(error)
                else:
                    voters[value, None].append(endpoint)
            if not problems and len(voters) == 1 and len(turn) >= QUORUM:
                break  # those that answer are enough, and of one mind
        return voters, verdicts, problems

    def _by_health(self) -> tuple[list[Endpoint], list[Endpoint]]:
        """(those that answer, those that failed just now), in the configured order: one that hangs holds nobody up
        whom two others can serve."""
        now = _now_ms()
        failing = [endpoint for endpoint in self.endpoints if endpoint.cool_until_ms > now]
        return [endpoint for endpoint in self.endpoints if endpoint not in failing], failing

    async def each(
        self, ask: Callable[[Endpoint], Awaitable[_T]], endpoints: Sequence[Endpoint] | None = None
    ) -> list[tuple[_T, None] | tuple[None, ChainUnavailable | Refused | ChainDisagrees]]:
        """(what `ask` gets, None) or (None, why it gets nothing) of every one of `endpoints`, by default of all, in
        their order; nothing is tried twice."""

        async def word(
            endpoint: Endpoint,
        ) -> tuple[_T, None] | tuple[None, ChainUnavailable | Refused | ChainDisagrees]:
            try:
                return await ask(endpoint), None
            except (ChainUnavailable, Refused, ChainDisagrees) as error:
                return None, error

        asked = self.endpoints if endpoints is None else endpoints
        return list(await asyncio.gather(*(word(endpoint) for endpoint in asked)))

    async def reached_by_two(self, ask: Callable[[Endpoint], Awaitable[int | None]]) -> int | None:
        """Of numbers that differ from endpoint to endpoint (a head, what is final, a price): the highest that two
        reach, so that none alone can drive it up. The only one's word where one is configured. None where fewer say a
        number.

        Raises ChainUnavailable where fewer than two answer.
        """
        answering, failing = self._by_health()
        needed = min(QUORUM, len(self.endpoints))
        words = await self.each(ask, answering)
        if sum(number is not None for number, _ in words) < needed:
            words += await self.each(ask, failing)
        heard = [number for number, error in words if error is None]
        if len(heard) < needed:
            raise ChainUnavailable(f"too few endpoints answer: {next(error for _, error in words if error)}")
        numbers = sorted((number for number in heard if number is not None), reverse=True)
        return numbers[needed - 1] if len(numbers) >= needed else None

    async def first_of(self, ask: Callable[[Endpoint], Awaitable[_T]]) -> _T:
        """`ask` of one endpoint after the other, best first, until one answers; pauses between rounds."""
        last: ChainUnavailable | ChainDisagrees | Refused | None = None
        for attempt in range(ROUNDS_MAX):
            if attempt:
                await asyncio.sleep(PAUSE_FIRST_MS / 1000 * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311
            for endpoint in self.ranked():
                try:
                    return await ask(endpoint)
                except ChainUnavailable as error:
                    last = error
                except ChainDisagrees as error:
                    endpoint.doubt()
                    last = error
                except Refused as error:
                    if not error.elsewhere:
                        raise
                    last = error
            if isinstance(last, Refused) and not last.busy:
                break  # all endpoints are alive and say the same
        assert last is not None
        raise last

    async def call_on(self, endpoint: Endpoint, method: str, params: Sequence[Any] = ()) -> Any:
        """One call to one endpoint, once. Raises Refused, ChainUnavailable."""
        return self.result_of(endpoint, method, await self.fetch_on(endpoint, method, params))

    async def fetch_on(self, endpoint: Endpoint, method: str, params: Sequence[Any]) -> bytes:
        """As call_on, but the unparsed answer: equal calls to equal nodes give equal bytes."""
        return await self._post(endpoint, {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, method)

    async def batch_on(self, endpoint: Endpoint, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Several calls in one request to one endpoint, once. Raises Refused for the first error among them."""
        if not calls:
            return []
        request = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        body = await self._post(endpoint, request, "batch")
        answers = _parse(endpoint, body)
        if isinstance(answers, dict):
            self._unwrap(endpoint, "batch", answers)  # raises where the batch as a whole was refused
        if not isinstance(answers, list):
            answers = []
        by_id = {answer["id"]: answer for answer in answers if isinstance(answer, dict) and _has_number(answer)}
        if not all(number in by_id for number in range(len(calls))):
            endpoint.failed()
            raise ChainUnavailable(f"{endpoint.name} answered {len(by_id)} of {len(calls)} calls of a batch")
        return [self._unwrap(endpoint, calls[number][0], by_id[number]) for number in range(len(calls))]

    def result_of(self, endpoint: Endpoint, method: str, body: bytes) -> Any:
        """The result in the unparsed answer `body`. Raises Refused, ChainUnavailable."""
        return self._unwrap(endpoint, method, _parse(endpoint, body))

    def _unwrap(self, endpoint: Endpoint, method: str, answer: Any) -> Any:
        if not isinstance(answer, dict):
            endpoint.failed()
            raise ChainUnavailable(f"{endpoint.name} answered {method} with something that is no JSON-RPC")
        error = answer.get("error")
        if error is not None:
            refused = self._refusal(endpoint, method, error)
            if refused.busy:
                endpoint.failed()
            raise refused
        if "result" not in answer:
            endpoint.failed()
            raise ChainUnavailable(f"{endpoint.name} answered {method} with neither result nor error")
        return answer["result"]

    async def _post(self, endpoint: Endpoint, request: Any, what: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit_per_host=self._requests_max),
                timeout=aiohttp.ClientTimeout(total=self._timeout_ms / 1000),
                headers={"content-type": "application/json"},
                read_bufsize=1 << 20,
            )
        started = time.monotonic()
        try:
            async with self._session.post(endpoint.url, data=orjson.dumps(request), allow_redirects=False) as response:
                body = await response.read()
                status, retry_after = response.status, response.headers.get("retry-after", "")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # Never the error's own text: it may hold the URL, and the URL may hold a key.
            endpoint.failed()
            raise ChainUnavailable(f"{endpoint.name} did not answer {what}: {type(error).__name__}") from None
        if status == 429 or status >= 500:
            endpoint.failed(int(retry_after) * 1000 if retry_after.isdigit() else 0)
            kind = Throttled if status == 429 else ChainUnavailable
            raise kind(f"{endpoint.name} answered {what} with HTTP {status}")
        if len(body) > ANSWER_BYTES_MAX:
            raise self.refused(endpoint.name, what, 0, f"the answer is too large: {len(body)} bytes")
        if status >= 400 and not body.lstrip().startswith((b"{", b"[")):
            endpoint.failed()
            raise ChainUnavailable(f"{endpoint.name} answered {what} with HTTP {status}")
        endpoint.succeeded((time.monotonic() - started) * 1000)
        return body

    def _refusal(self, endpoint: Endpoint, method: str, error: Any) -> Refused:
        if not isinstance(error, dict):
            return self.refused(endpoint.name, method, 0, str(error))
        code = error.get("code")
        return self.refused(
            endpoint.name, method, code if isinstance(code, int) else 0, str(error.get("message")), error.get("data")
        )


def _names(endpoints: Sequence[Endpoint]) -> str:
    return ", ".join(endpoint.name for endpoint in endpoints)


def _has_number(answer: dict[str, Any]) -> bool:
    return isinstance(answer.get("id"), int)


def _parse(endpoint: Endpoint, body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        endpoint.failed()
        raise ChainUnavailable(f"{endpoint.name} answered with something that is no JSON") from None


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
