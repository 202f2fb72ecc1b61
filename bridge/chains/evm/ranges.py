"""Logs of a range of blocks, or of one block, from a named endpoint; how wide a range may be is learnt on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge.chains.evm.blocks import Header, parse_header
from bridge.chains.evm.logs import block_numbers, in_order, merge_logs, parse_logs, scan_logs
from bridge.chains.evm.rpc import Endpoint, EvmRpc
from bridge.chains.evm.wire import quantity
from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block, LogColumns
from bridge.domain.units import hexed
from bridge.ports.reading import LogFilter

ADDRESSES_MAX = 500  # in one filter; providers refuse more somewhere above 1,000
CALLS_MAX = 50  # in one batch
LOGS_WANTED = 10_000  # in one range: about 6 MB of JSON
SPAN_FIRST = 100
SPAN_MAX = 100_000
THREAD_BYTES_MIN = 1 << 18  # smaller answers are parsed faster than a thread is woken


class Span:
    """How many blocks to ask for at once.

    A provider's limit on blocks is remembered for good; the number of logs and the time steer it up and down.
    """

    def __init__(self) -> None:
        self.blocks = SPAN_FIRST
        self._limit = SPAN_MAX

    def fitted(self, blocks: int, logs: int) -> None:
        """A range of `blocks` was read and held `logs`: aim at LOGS_WANTED, at most doubling."""
        wanted = blocks * LOGS_WANTED // logs if logs else 2 * self.blocks
        self.blocks = max(1, min(wanted, 2 * self.blocks, self._limit))

    def too_wide(self, blocks: int) -> None:
        self._limit = max(1, min(self._limit, blocks // 2))
        self.blocks = min(self.blocks, self._limit)

    def too_much(self, blocks: int) -> None:
        """Too many logs or too slow here; elsewhere in the chain it may be wider again."""
        self.blocks = max(1, min(self.blocks, blocks // 2))


class LogReader:
    """Reads what `filters` match. Every answer is checked against what was asked."""

    def __init__(self, rpc: EvmRpc, filters: Sequence[LogFilter]) -> None:
        self.rpc = rpc
        self.filters = tuple(filters)
        self._criteria = [criteria for filter_ in filters for criteria in _criteria_of(filter_)]
        self._addresses = _watched(filters)

    async def fetch_range(self, endpoint: Endpoint, first: int, last: int) -> list[bytes]:
        """Unparsed answers for blocks first … last, one for each criteria."""
        window = {"fromBlock": hex(first), "toBlock": hex(last)}
        fetches = [self.rpc.fetch_on(endpoint, "eth_getLogs", [window | criteria]) for criteria in self._criteria]
        return list(await asyncio.gather(*fetches))

    async def parse_range(self, endpoint: Endpoint, bodies: Sequence[bytes], first: int, last: int) -> LogColumns:
        """Raises RpcRefused where an answer is a refusal, ChainDisagrees where it is not what was asked for."""
        try:
            if sum(map(len, bodies)) < THREAD_BYTES_MIN:
                return self._parse(endpoint, bodies, first, last)
            return await asyncio.to_thread(self._parse, endpoint, bodies, first, last)
        except ChainDisagrees:
            endpoint.doubt()
            raise

    async def of_blocks(self, endpoint: Endpoint, blocks: Sequence[Block]) -> list[LogColumns]:
        """The logs of each of `blocks`, asked for by hash: an answer cannot belong to another branch."""
        calls: list[tuple[str, Sequence[Any]]] = [
            ("eth_getLogs", [{"blockHash": hexed(block.hash)} | criteria])
            for block in blocks
            for criteria in self._criteria
        ]
        starts = range(0, len(calls), CALLS_MAX)
        chunks = await asyncio.gather(*(self.rpc.batch_on(endpoint, calls[at : at + CALLS_MAX]) for at in starts))
        answers = [answer for chunk in chunks for answer in chunk]
        found: list[LogColumns] = []
        for index, block in enumerate(blocks):
            width = len(self._criteria)
            parts = [self._columns(endpoint, answer) for answer in answers[index * width : (index + 1) * width]]
            logs = self._checked(endpoint, parts, block.number, block.number)
            if logs.block_hashes != block.hash * logs.count:
                raise ChainDisagrees(f"{endpoint.name} gave logs of another block than the one asked for")
            found.append(logs)
        return found

    def _parse(self, endpoint: Endpoint, bodies: Sequence[bytes], first: int, last: int) -> LogColumns:
        parts: list[LogColumns] = []
        for body in bodies:
            logs = scan_logs(body)
            if logs is None:
                logs = self._columns(endpoint, self.rpc.result_of(endpoint, "eth_getLogs", body))
            parts.append(logs)
        return self._checked(endpoint, parts, first, last)

    def _columns(self, endpoint: Endpoint, answer: Any) -> LogColumns:
        if not isinstance(answer, list):
            raise ChainDisagrees(f"{endpoint.name} answered eth_getLogs with something that is no list")
        try:
            return parse_logs(answer)
        except ValueError as error:
            raise ChainDisagrees(f"{endpoint.name}: {error}") from None

    def _checked(self, endpoint: Endpoint, parts: Sequence[LogColumns], first: int, last: int) -> LogColumns:
        if not all(in_order(part) for part in parts):
            raise ChainDisagrees(f"{endpoint.name} gave logs out of order, or one of them twice")
        try:
            logs = merge_logs(parts)
        except ValueError as error:
            raise ChainDisagrees(f"{endpoint.name}: {error}") from None
        if logs.count:
            numbers = block_numbers(logs)
            if numbers[0] < first or numbers[-1] > last:
                raise ChainDisagrees(f"{endpoint.name} gave logs of blocks outside of {first} … {last}")
            if self._addresses is not None:
                emitters = np.unique(np.frombuffer(logs.addresses, dtype="V20")).tolist()
                if not self._addresses.issuperset(emitters):
                    raise ChainDisagrees(f"{endpoint.name} gave logs of contracts that were not asked for")
        return logs


async def headers_on(rpc: EvmRpc, endpoint: Endpoint, numbers: Sequence[int | str]) -> list[Header | None]:
    """Headers by number or tag, from one endpoint; None for what it does not have."""
    calls: list[tuple[str, Sequence[Any]]] = [
        ("eth_getBlockByNumber", [number if isinstance(number, str) else hex(number), False]) for number in numbers
    ]
    starts = range(0, len(calls), CALLS_MAX)
    chunks = await asyncio.gather(*(rpc.batch_on(endpoint, calls[at : at + CALLS_MAX]) for at in starts))
    headers = [parse_header(endpoint.name, answer) for chunk in chunks for answer in chunk]
    for number, header in zip(numbers, headers, strict=True):
        if header is not None and isinstance(number, int) and header.block.number != number:
            raise ChainDisagrees(f"{endpoint.name} gave block {header.block.number} when asked for {number}")
    return headers


async def common_head(rpc: EvmRpc) -> int:
    """The number of the newest block that two endpoints have; the only one's newest where one is configured."""

    async def head_of(endpoint: Endpoint) -> int:
        return quantity(await rpc.call_on(endpoint, "eth_blockNumber"))

    head = await rpc.reached_by_two(head_of)
    assert head is not None, "every endpoint that answers has a head"
    return head


async def agreed_blocks(rpc: EvmRpc, numbers: Sequence[int]) -> list[Block]:
    """Blocks by number as two endpoints tell them, with their hashes and times; as the only one does where one is
    configured.

    Raises ChainDisagrees where they differ or one of the blocks is not there, ChainUnavailable where no two answer.
    """

    async def ask(endpoint: Endpoint) -> tuple[Block | None, ...]:
        return tuple(header.block if header else None for header in await headers_on(rpc, endpoint, numbers))

    found: list[Block] = []
    for number, block in zip(numbers, await rpc.agreed_by(ask, "eth_getBlockByNumber"), strict=True):
        if block is None:
            raise ChainDisagrees(f"there is no block {number}")
        found.append(block)
    return found


def _criteria_of(filter_: LogFilter) -> list[dict[str, Any]]:
    """The filter in JSON-RPC's words; several where it has more addresses than one request may name."""
    topics = [None if group is None else [hexed(topic) for topic in group] for group in filter_.topics]
    addresses = [hexed(address) for address in filter_.addresses]
    tail: dict[str, Any] = {"topics": topics} if topics else {}
    if not addresses:
        return [tail]
    return [{"address": addresses[at : at + ADDRESSES_MAX]} | tail for at in range(0, len(addresses), ADDRESSES_MAX)]


def _watched(filters: Sequence[LogFilter]) -> frozenset[bytes] | None:
    """Every address that a log may have, or None where a filter takes any."""
    if not all(filter_.addresses for filter_ in filters):
        return None
    return frozenset(bytes(address) for filter_ in filters for address in filter_.addresses)
