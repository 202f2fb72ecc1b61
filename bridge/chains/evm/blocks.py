"""Block headers as nodes give them, and the bloom filter in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.chains.evm.abi import keccak256
from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block
from bridge.ports.reading import LogFilter


@dataclass(frozen=True, slots=True)
class Header:
    block: Block
    bloom: int  # 2048 bits; 0 where the node gives none


def parse_header(endpoint: str, answer: Any) -> Header | None:
    """None for a block that the node does not have. Raises ChainDisagrees for one that lacks what a mined block has."""
    if answer is None:
        return None
    if not isinstance(answer, Mapping):
        raise ChainDisagrees(f"{endpoint} gave something that is no block")
    try:
        block = Block(
            int(answer["number"], 16),
            bytes.fromhex(answer["hash"][2:]),
            bytes.fromhex(answer["parentHash"][2:]),
            int(answer["timestamp"], 16),
        )
        bloom = int(answer.get("logsBloom") or "0x0", 16)
    except (KeyError, TypeError, ValueError) as error:
        # A pending block has null fields; some nodes give those, or null times, while they are syncing.
        raise ChainDisagrees(f"{endpoint} gave a block without {error}") from None
    if len(block.hash) != 32 or len(block.parent_hash) != 32:
        raise ChainDisagrees(f"{endpoint} gave a block whose hashes are not 32 bytes")
    return Header(block, bloom)


def may_hold(bloom: int, filters: Sequence[LogFilter]) -> bool:
    """False when the block surely holds no log that a filter matches. True is a hint only: blooms err to that side."""
    return bloom != 0 and any(_may_match(bloom, filter_) for filter_ in filters)


def _may_match(bloom: int, filter_: LogFilter) -> bool:
    groups = [filter_.addresses or None, *filter_.topics]
    return all(group is None or any(bloom & _bits(value) == _bits(value) for value in group) for group in groups)


def _bits(value: bytes) -> int:
    """Yellow paper, section 4.3.1: the low 11 bits of each of the first three byte pairs of the hash."""
    digest = keccak256(value)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2]) & 2047)
    return bits
