"""What accounts have claimed so far, as the Claims contract keeps it: many of them in one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.chains.evm.abi import encode_call
from bridge.chains.evm.rpc import Endpoint, EvmRpc, Refusal, RpcRefused
from bridge.chains.evm.wire import call_object, data_of, pinned
from bridge.domain.errors import ChainDisagrees, StateUnavailable
from bridge.domain.units import Address, BlockStamp

CLAIMED = "claimed(address,address)"
CALLS_AT_ONCE = 100
"""In one request: providers bound what they take."""
_WORD = 32


class ClaimedAmounts:
    """Implements ports.ClaimedAmounts."""

    def __init__(self, rpc: EvmRpc, contract: Address) -> None:
        self._rpc = rpc
        self._contract = contract

    async def claimed(self, wanted: Sequence[tuple[Address, Address]], at: BlockStamp) -> list[int]:
        """See ports.ClaimedAmounts. Agreed by two endpoints where there are two."""
        found: list[int] = []
        for first in range(0, len(wanted), CALLS_AT_ONCE):
            found += await self._some(wanted[first : first + CALLS_AT_ONCE], at)
        return found

    async def _some(self, wanted: Sequence[tuple[Address, Address]], at: BlockStamp) -> tuple[int, ...]:
        block = pinned(at)
        calls = [
            ("eth_call", [call_object(self._contract, encode_call(CLAIMED, token, account)), block])
            for token, account in wanted
        ]

        async def ask(endpoint: Endpoint) -> tuple[int, ...]:
            return tuple(map(_amount, await self._rpc.batch_on(endpoint, calls)))

        try:
            return await self._rpc.agreed_by(ask, CLAIMED)
        except RpcRefused as refused:
            if refused.kind is Refusal.UNKNOWN_BLOCK:
                raise StateUnavailable(f"no endpoint has the state of {at}") from None
            raise


def _amount(answer: Any) -> int:
    """0 where the contract is not there yet. Raises ChainDisagrees for what is no number."""
    word = data_of(answer)
    if word and len(word) != _WORD:
        raise ChainDisagrees(f"an endpoint sent {len(word)} bytes where one number is due")
    return int.from_bytes(word)
