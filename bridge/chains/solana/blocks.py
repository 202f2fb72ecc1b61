"""Block headers as nodes give them. A block is named by its slot, and slots may be skipped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import rpc
from bridge.chains.solana.rpc import FINALIZED, Refusal, RpcRefused, SolanaRpc
from bridge.domain.errors import ChainDisagrees, ChainUnavailable
from bridge.domain.events import Block
from bridge.domain.units import Base58Hash

OPTIONS: Mapping[str, Any] = {**FINALIZED, "rewards": False, "maxSupportedTransactionVersion": 0}
SKIPPED_FIRST = 64  # slots looked at for the block before a skipped one; ten times as many each time
SKIPPED_MAX = 500_000  # that getBlocks looks at
Ask = Callable[[str, list[Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Contents:
    """A finalized block and where in it some transactions are."""

    block: Block
    places: Mapping[bytes, int]  # signature → index


async def read_header(ask: Ask, slot: int) -> Block:
    """The finalized block of a slot. Raises RpcRefused where there is none, ChainDisagrees for what is no block."""
    return _header(slot, await ask("getBlock", [slot, {**OPTIONS, "transactionDetails": "none"}]))


async def read_contents(ask: Ask, slot: int, wanted: Collection[bytes]) -> Contents:
    """As `read_header`, with the places of the transactions `wanted`. Raises ChainDisagrees where one is not there."""
    answer = await ask("getBlock", [slot, {**OPTIONS, "transactionDetails": "signatures"}])
    block = _header(slot, answer)
    signatures = answer.get("signatures")
    if not isinstance(signatures, list):
        raise ChainDisagrees(f"the endpoint sent block {slot} without its signatures")
    places = {text: index for index, text in enumerate(signatures)}
    try:
        return Contents(block, {signature: places[rpc.text(signature)] for signature in wanted})
    except KeyError as missing:
        raise ChainDisagrees(f"the endpoint lists transaction {missing} in block {slot}, where it is not") from None


async def read_at_or_before(ask: Ask, slot: int) -> Block:
    """The newest finalized block up to a slot: what holds at the end of it.

    Raises RpcRefused where the node has not got so far, ChainDisagrees where it has nothing before.
    """
    try:
        return await read_header(ask, slot)
    except RpcRefused as refused:
        if refused.kind is not Refusal.NO_BLOCK:
            raise
    width = SKIPPED_FIRST
    while True:
        low = max(0, slot - width)
        slots = await ask("getBlocks", [low, slot, FINALIZED])
        if isinstance(slots, list) and slots:
            return await read_header(ask, rpc.number(slots[-1], slot))
        if low == 0 or width == SKIPPED_MAX:
            raise ChainDisagrees(f"the endpoint has no block up to {slot}")
        width = min(SKIPPED_MAX, 10 * width)


async def final_slot(on: SolanaRpc, endpoint: Endpoint) -> int:
    return rpc.number(await on.call_on(endpoint, "getSlot", [FINALIZED]))


def _header(slot: int, answer: Any) -> Block:
    if answer is None:  # a node that has the slot and not yet the block
        raise ChainUnavailable(f"the endpoint does not give block {slot} yet")
    told = rpc.mapping(answer)
    if told.get("blockTime") is None:
        raise ChainDisagrees(f"the endpoint does not know the time of block {slot}")
    block = Block(
        slot,
        Base58Hash(rpc.address(told.get("blockhash"))),
        Base58Hash(rpc.address(told.get("previousBlockhash"))),
        rpc.number(told.get("blockTime")),
    )
    if rpc.number(told.get("parentSlot")) >= max(slot, 1):
        raise ChainDisagrees(f"the endpoint sent block {slot} with a parent that comes after it")
    return block


def before(block: Block, number: int) -> Block:
    """The block that holds before number + 1, under that number: where a chain is followed from its middle."""
    return replace(block, number=number)
