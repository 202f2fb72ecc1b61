"""Values in the JSON-RPC of EVM nodes, written and read."""

from __future__ import annotations

import re
from typing import Any

from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block
from bridge.domain.units import BlockStamp, hexed

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}\Z")
_HEX_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


# ── Written ──
def pinned(at: BlockStamp | Block) -> dict[str, Any]:
    """The block that a read is about, where a method takes one (EIP-1898): by hash, and canonical, so that a node on
    another branch refuses rather than answers. Reth and Anvil overlook the second: they serve one branch only."""
    return {"blockHash": hexed(at.hash), "requireCanonical": True}


def call_object(contract: bytes, data: bytes, sender: bytes | None = None) -> dict[str, str]:
    """What eth_call, eth_estimateGas and eth_simulateV1 are to execute; from nobody in particular without `sender`."""
    call = {"to": hexed(contract), "data": hexed(data)}
    return call if sender is None else {"from": hexed(sender), **call}


# ── Read ──
def data_of(value: object) -> bytes:
    """JSON-RPC data. Raises ChainDisagrees where the endpoint sent something else."""
    try:
        return bytes.fromhex(str(value)[2:])
    except ValueError:
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where data is due") from None


def quantity(value: object) -> int:
    """A JSON-RPC quantity. Raises ChainDisagrees where the endpoint sent something else."""
    if not isinstance(value, str) or not _QUANTITY.match(value):
        raise ChainDisagrees(f"the endpoint sent {value!r:.100} where a quantity is due")
    return int(value, 16)


def revert_data(data: object) -> bytes:
    """The bytes that a call reverted with, wherever the node put them; empty where it gave none."""
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    # Some clients write "Reverted 0x…".
    found = _HEX_DATA.search(data) if isinstance(data, str) else None
    return b"" if found is None else bytes.fromhex(found[0][2:])
