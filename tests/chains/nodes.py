"""Nodes over real HTTP that serve a scripted chain and lie as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from bridge.chains.evm.abi import keccak256
from bridge.chains.fake.chain import FakeBlock, FakeChain, matches
from bridge.domain.events import Block, Log
from bridge.domain.units import Address
from bridge.ports.reading import LogFilter

Lie = Callable[[str, list[Any], Any], Any]  # (method, params, honest answer) → what is said instead

HANG = object()
"""A lie may return this: the node then never answers."""


class Refuse(Exception):
    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.answer = {"code": code, "message": message} | ({} if data is None else {"data": data})


@dataclass
class Node:
    """An honest node of `chain`, but for what `lie` makes of its answers."""

    chain: FakeChain
    lie: Lie = lambda method, params, answer: answer
    head: int | None = None  # a stale head: nothing above it is known
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)  # by method, what every honest node says
    asked: list[tuple[str, list[Any]]] = field(default_factory=list)
    bloom: int | None = None  # what all headers have, instead of what their logs make
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> Node:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/{key:.*}", self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _ in self.asked)

    async def _serve(self, request: web.Request) -> web.Response:
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers)
        calls = orjson.loads(await request.read())
        answers = [await self._answer(call) for call in (calls if isinstance(calls, list) else [calls])]
        body = answers if isinstance(calls, list) else answers[0]
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        method, params = call["method"], call["params"]
        self.asked.append((method, params))
        try:
            honest = self.answers[method] if method in self.answers else self._honest(method, params)
            result = self.lie(method, params, honest)
        except Refuse as refuse:
            return {"jsonrpc": "2.0", "id": call["id"], "error": refuse.answer}
        if result is HANG:
            await asyncio.Event().wait()
        return {"jsonrpc": "2.0", "id": call["id"], "result": result}

    @property
    def _visible(self) -> list[FakeBlock]:
        return self.chain.blocks if self.head is None else self.chain.blocks[: self.head + 1]

    def _honest(self, method: str, params: list[Any]) -> Any:
        visible = self._visible
        match method:
            case "eth_chainId":
                return "0x1"
            case "eth_syncing":
                return False
            case "eth_blockNumber":
                return hex(len(visible) - 1)
            case "eth_getBlockByNumber":
                numbers = {"latest": len(visible) - 1, "finalized": min(self.chain.finalized, len(visible) - 1)}
                number = numbers[params[0]] if params[0] in numbers else int(params[0], 16)
                return self._block(visible[number]) if number < len(visible) else None
            case "eth_getBlockByHash":
                known = self.chain.known.get(bytes.fromhex(params[0][2:]))
                return None if known is None else self._block(known)
            case "eth_getLogs":
                return self._logs(params[0])
        raise Refuse(-32601, "method not found")

    def _block(self, entry: FakeBlock) -> dict[str, Any]:
        bloom = bloom_of(entry.logs) if self.bloom is None else self.bloom
        return block_json(entry.block, bloom)

    def _logs(self, criteria: dict[str, Any]) -> list[dict[str, Any]]:
        addresses = tuple(Address(bytes.fromhex(text[2:])) for text in criteria.get("address", []))
        topics = tuple(
            None if group is None else tuple(bytes.fromhex(text[2:]) for text in group)
            for group in criteria.get("topics", [])
        )
        if "blockHash" in criteria:
            block = self.chain.known.get(bytes.fromhex(criteria["blockHash"][2:]))
            if block is None:
                raise Refuse(-32000, "unknown block")
            blocks = [block]
        else:
            blocks = self._visible[int(criteria["fromBlock"], 16) : int(criteria["toBlock"], 16) + 1]
        return [log_json(log) for block in blocks for log in block.logs if matches(LogFilter(addresses, topics), log)]


def log_json(log: Log) -> dict[str, Any]:
    return {
        "address": "0x" + log.address.hex(),
        "topics": ["0x" + topic.hex() for topic in log.topics],
        "data": "0x" + log.data.hex(),
        "blockHash": "0x" + log.block.hash.hex(),
        "blockNumber": hex(log.block.number),
        "blockTimestamp": hex(log.timestamp),
        "transactionHash": "0x" + log.tx_hash.hex(),
        "transactionIndex": hex(log.tx_index),
        "logIndex": hex(log.log_index),
        "removed": False,
    }


def block_json(block: Block, bloom: int) -> dict[str, Any]:
    return {
        "number": hex(block.number),
        "hash": "0x" + block.hash.hex(),
        "parentHash": "0x" + block.parent_hash.hex(),
        "timestamp": hex(block.timestamp),
        "logsBloom": f"0x{bloom:0512x}",
        "transactions": [],
    }


def bloom_of(logs: tuple[Log, ...]) -> int:
    """Written from the definition, apart from the code under test."""
    bloom = bytearray(256)
    for log in logs:
        for value in (log.address, *log.topics):
            digest = keccak256(value)
            for at in (0, 2, 4):
                bit = (digest[at] << 8 | digest[at + 1]) % 2048
                bloom[255 - bit // 8] |= 1 << (bit % 8)
    return int.from_bytes(bloom)
