"""What a chain will take for a transaction beside its gas, before it is sent: asked from the chain's own contract.

    OP stack             0x4200…000F   getL1Fee(unsigned bytes), and since Isthmus getOperatorFee(gas)
    Scroll               0x5300…0002   getL1Fee(unsigned bytes)
    every other chain    no contract there, and nothing is taken beside: what L1 costs is in the gas, or in its price

What was taken in the end the receipt says (charges.py), and that is what is booked.
"""

from __future__ import annotations

from bridge.chains.evm.abi import encode_call
from bridge.chains.evm.rpc import EvmRpc, Refusal, RpcRefused
from bridge.chains.evm.wire import call_object, data_of, pinned
from bridge.domain.errors import ChainDisagrees
from bridge.domain.units import Address, BlockStamp, hexed

ORACLES = (Address(b"\x42" + bytes(18) + b"\x0f"), Address(b"\x53" + bytes(18) + b"\x02"))
L1_FEE, OPERATOR_FEE = "getL1Fee(bytes)", "getOperatorFee(uint256)"
FIELDS_BYTES = 120
"""What a transaction has beside its call data at most, unsigned. None of it is taken to be zero, which costs less."""
MARGIN_NUMERATOR, MARGIN_DENOMINATOR = 5, 4
"""Over what the contract says: L1's price may rise by an eighth with each of its blocks."""


class DataFees:
    """Of one chain. Where its contract is does not change, so it is looked for once."""

    def __init__(self, rpc: EvmRpc) -> None:
        self._rpc = rpc
        self._oracle: Address | None = None
        self._looked = False

    async def estimate(self, payload: bytes, gas_limit: int, at: BlockStamp) -> int:
        """Wei that a transaction with this call data may cost beside its gas, at the prices of block `at`.

        Raises ChainUnavailable, ChainDisagrees.
        """
        if not self._looked:
            self._oracle, self._looked = await self._find(at), True
        if self._oracle is None:
            return 0
        unsigned = payload + b"\xff" * FIELDS_BYTES
        l1_fee = await self._ask(self._oracle, L1_FEE, unsigned, at)
        return l1_fee * MARGIN_NUMERATOR // MARGIN_DENOMINATOR + await self._ask(
            self._oracle, OPERATOR_FEE, gas_limit, at
        )

    async def _find(self, at: BlockStamp) -> Address | None:
        for oracle in ORACLES:
            if await self._rpc.agreed("eth_getCode", [hexed(oracle), pinned(at)], data_of):
                return oracle
        return None

    async def _ask(self, oracle: Address, function: str, argument: bytes | int, at: BlockStamp) -> int:
        """0 where the contract has no such function: it was made before there was such a fee."""
        call = call_object(oracle, encode_call(function, argument))
        try:
            answer = await self._rpc.agreed("eth_call", [call, pinned(at)], data_of)
        except RpcRefused as refused:
            if refused.kind is Refusal.REVERTED:
                return 0
            raise
        if len(answer) != 32:
            raise ChainDisagrees(f"{function} of {hexed(oracle)} answers with {len(answer)} bytes")
        return int.from_bytes(answer)
