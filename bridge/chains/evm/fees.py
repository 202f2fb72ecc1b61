"""What a transaction should offer per gas: from the newest header, under the operator's ceilings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.chains.evm.rpc import EvmRpc, quantity
from bridge.domain.errors import ChainDisagrees
from bridge.domain.payouts import Fees, Signed, bump_fees, first_fees
from bridge.domain.units import BlockStamp


@dataclass(frozen=True, slots=True)
class FeeCeilings:
    """Wei per gas."""

    max_fee: int
    priority_fee: int  # the tip of a first attempt; bumps go beyond it, up to max_fee


@dataclass(frozen=True, slots=True)
class FeeMarket:
    """`base_fee` is None on a chain without EIP-1559; `gas_price` is what such a chain's node suggests."""

    base_fee: int | None
    gas_price: int

    def offer(self, ceilings: FeeCeilings, previous: Signed | None) -> Fees | None:
        """Fees of the next attempt; None where the ceiling leaves no room over `previous`."""
        if self.base_fee is None:
            price = min(self.gas_price, ceilings.max_fee)
            wanted = Fees(price, price)
        else:
            wanted = first_fees(self.base_fee, ceilings.priority_fee, ceilings.max_fee)
        if previous is None:
            return wanted
        before = Fees(previous.max_fee, previous.priority_fee)
        return bump_fees(before, wanted, ceilings.max_fee)

    def price_now(self, ceilings: FeeCeilings) -> int:
        """The least that a block would take at present."""
        return self.gas_price if self.base_fee is None else self.base_fee + min(1, ceilings.priority_fee)


async def read_market(rpc: EvmRpc, at: BlockStamp | None) -> FeeMarket:
    """As block `at` says, or the newest. Raises ChainDisagrees where the endpoint does not know the block."""
    method, block = ("eth_getBlockByNumber", "latest") if at is None else ("eth_getBlockByHash", "0x" + at.hash.hex())
    header = await rpc.call(method, [block, False])
    if not isinstance(header, dict):
        raise ChainDisagrees(f"the endpoint does not know block {at or 'latest'}")
    if header.get("baseFeePerGas") is not None:
        return FeeMarket(quantity(header["baseFeePerGas"]), 0)
    return FeeMarket(None, quantity(await rpc.call("eth_gasPrice", [])))


def fee_fields(fees: Fees, market: FeeMarket) -> Mapping[str, int]:
    """The fields of a transaction that carry its fees: EIP-1559 where the chain has a base fee, else legacy."""
    if market.base_fee is None:
        return {"gasPrice": fees.max_fee}
    return {"type": 2, "maxFeePerGas": fees.max_fee, "maxPriorityFeePerGas": fees.priority_fee}
