"""A node of the local chain, in this process or in its own.

In a test, with slots that pass only when told to:

    async with Node.serve(Settings(timer=False, finalized_depth=4)) as node:
        async with AsyncClient(node.rpc_url) as client:          # the real one, unmodified
            await client.request_airdrop(wallet, 10**9)
            node.chain.advance()                                 # what was sent runs when its slot ends: `processed`
            node.chain.advance(4)                                # confirmed after 2 blocks, finalized after 4
            node.chain.fork(2, Fate.RELANDED)                    # the newest 2 blocks die
            node.faults.drop_next = 1                            # see faults.py for all switches
            node.faults.requests.append(Fault(Kind.LOSE_ANSWER, "sendTransaction"))

`node.ws_url` is for the WebSocket client. `node.join()` is a second node on the same chain with faults of its own: one
that is behind or forgetful, say. With `timer=True` slots pass by themselves, `slot_ms` each.

`NodeProcess.start(log, settings)` is the same in a process of its own, which `kill -9` of ours takes along; there
`await process.order({"do": "advance", "slots": 3})` does what `node.chain.advance(3)` does here (see control.py).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bridge.domain.errors import ChainUnavailable, ConfigError, RefusedError
from bridge.simulation.process import ServerProcess, make_scratch
from bridge.simulation.svm.chain import Chain
from bridge.simulation.svm.control import Control
from bridge.simulation.svm.faults import Faults
from bridge.simulation.svm.server import Server
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.view import View

SLOTS_MADE_UP_MAX = 10
"""Slots that follow at once after the process was stopped or busy; what is missing beyond is left out."""

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Node:
    """One endpoint of a local chain."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.faults = Faults()
        self.view = View(chain, self.faults)
        self.control = Control(chain, self.faults)
        self.port = 0
        self._server = Server(self.view, self.control)

    @classmethod
    @asynccontextmanager
    async def serve(
        cls,
        settings: Settings,
        *,
        port: int = 0,
        clock: Clock = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> AsyncIterator[Node]:
        """A new chain and its node. `clock` gives seconds; the timer sleeps by `sleep`.

        Raises ConfigError for settings that make no sense and for a port that is taken.
        """
        settings.check()
        genesis_time = int(clock()) if settings.genesis_time is None else settings.genesis_time
        node = cls(Chain(settings, genesis_time))
        async with AsyncExitStack() as stack:
            await node._start(port, stack)
            if settings.timer:
                stack.push_async_callback(_cancelled, asyncio.create_task(_keep_time(node.chain, clock, sleep)))
            yield node

    @asynccontextmanager
    async def join(self) -> AsyncIterator[Node]:
        """Another node of the same chain, with faults of its own."""
        node = Node(self.chain)
        async with AsyncExitStack() as stack:
            await node._start(0, stack)
            yield node

    async def _start(self, port: int, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._server.stop)
        try:
            self.port = await self._server.start(port)
        except OSError as error:
            raise ConfigError(f"port {port} cannot be used: {error.strerror}", mend="choose another port") from None

    async def close_sockets(self) -> None:
        """Close all WebSockets, as a node does that is restarted."""
        await self._server.close_sockets()

    @property
    def rpc_url(self) -> str:
        """For HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """For WebSocket."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def control_url(self) -> str:
        """For orders; nobody else can guess it."""
        return f"{self.rpc_url}{self.control.path}"

    def facts(self) -> dict[str, str]:
        """What another process needs to know."""
        return {
            "rpc_url": self.rpc_url,
            "ws_url": self.ws_url,
            "control_url": self.control_url,
            "genesis_hash": str(self.chain.genesis_hash),
        }


class NodeProcess:
    """A node in a process of its own."""

    def __init__(self, process: ServerProcess, facts: dict[str, Any]) -> None:
        self.process = process
        self.facts = facts
        self.rpc_url = facts["rpc_url"]
        self.ws_url = facts["ws_url"]
        self.control_url = facts["control_url"]
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))

    @classmethod
    async def start(cls, log: Path, settings: Settings, *, nodes: int = 1, participants: int = 0) -> NodeProcess:
        """Start it and wait until it answers; its output goes to `log`.

        With more `nodes`, `facts["others"]` says where the others are; with `participants` there is a world (see
        stage.py), and `facts["world"]` says what is in it. Raises ConfigError when it does not start.
        """
        settings.check()
        command = (
            *(sys.executable, "-m", "bridge.simulation.svm", "--port", "0"),
            *("--nodes", str(nodes), "--participants", str(participants), *_arguments(settings)),
        )
        process = await ServerProcess.start("the local Solana chain", command, scratch=make_scratch("svm"), log=log)
        await process.wait_ready(lambda: _told(log) is not None)
        facts = _told(log)
        assert facts is not None
        return cls(process, facts)

    async def order(self, order: dict[str, Any]) -> Any:
        """Give an order (see control.py); what it gives. Raises RefusedError and ChainUnavailable."""
        try:
            async with self._http.post(self.control_url, json=order) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ChainUnavailable(f"the local Solana chain does not answer: {error!r}") from error
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer["result"]

    async def stop(self) -> None:
        """Stop the chain and forget it."""
        await self._http.close()
        await self.process.stop()


def _arguments(settings: Settings) -> list[str]:
    arguments = [
        *("--seed", str(settings.seed), "--slot-ms", str(settings.slot_ms)),
        *("--confirmed-depth", str(settings.confirmed_depth), "--finalized-depth", str(settings.finalized_depth)),
        *("--skipped-per-mille", str(settings.skipped_per_mille), "--first-slot", str(settings.first_slot)),
        *("--blocks-kept", str(settings.blocks_kept), "--records-kept", str(settings.records_kept)),
        *(f"--skip-slot={slot}" for slot in sorted(settings.skipped_slots)),
    ]
    if settings.genesis_time is not None:
        arguments += ["--genesis-time", str(settings.genesis_time)]
    return arguments if settings.timer else [*arguments, "--by-hand"]


def _told(log: Path) -> dict[str, Any] | None:
    """The facts that the process prints once it answers."""
    for line in log.read_bytes().splitlines(keepends=True):
        if line.startswith(b'{"') and line.endswith(b"\n"):
            facts: dict[str, Any] = orjson.loads(line)
            return facts
    return None


async def _keep_time(chain: Chain, clock: Clock, sleep: Sleep) -> None:
    """Let slots pass as the clock does. Never returns."""
    slot_s = chain.settings.slot_ms / 1000
    due = clock() + slot_s
    while True:
        await sleep(max(0.0, due - clock()))
        late = int((clock() - due) / slot_s)
        due += slot_s * (late + 1)
        chain.advance(1 + min(max(late, 0), SLOTS_MADE_UP_MAX))


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end. Raises what ended it before."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
