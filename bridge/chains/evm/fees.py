"""What a transaction should offer per gas: from the newest header, under the operator's ceilings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.chains.evm.rpc import QUORUM, Endpoint, EvmRpc
from bridge.chains.evm.wire import quantity
from bridge.domain.errors import ChainDisagrees
from bridge.domain.payouts import Fees, Signed, bump_fees, first_fees
from bridge.domain.units import BlockStamp, hexed

GAS_ALIKE_NUMERATOR, GAS_ALIKE_DENOMINATOR = 5, 4
"""How far apart two estimates may be: what is added to an estimate for safety covers it."""


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
    """As block `at` says, or the newest: of what endpoints say, the highest that two reach, so that one alone cannot
    drive it up; too low an offer is mended by bumps.

    Raises ChainDisagrees where an endpoint does not know the block, ChainUnavailable where too few answer.
    """
    method, block = ("eth_getBlockByNumber", "latest") if at is None else ("eth_getBlockByHash", hexed(at.hash))

    async def base_fee_of(endpoint: Endpoint) -> int | None:
        header = await rpc.call_on(endpoint, method, [block, False])
        if not isinstance(header, dict):
            raise ChainDisagrees(f"{endpoint.name} does not know block {at or 'latest'}")
        return None if header.get("baseFeePerGas") is None else quantity(header["baseFeePerGas"])

    async def price_of(endpoint: Endpoint) -> int:
        return quantity(await rpc.call_on(endpoint, "eth_gasPrice"))

    base_fee = await rpc.reached_by_two(base_fee_of)
    return FeeMarket(base_fee, 0 if base_fee is not None else await rpc.reached_by_two(price_of) or 0)


async def estimate_gas(rpc: EvmRpc, params: Sequence[Any]) -> int:
    """eth_estimateGas. Nodes search for it each in its own way, so two endpoints need only say about the same; the
    higher of the two counts.

    Raises RpcRefused where it would revert, ChainDisagrees where no two are alike, and why no two answer.
    """

    async def ask(endpoint: Endpoint) -> int:
        return quantity(await rpc.call_on(endpoint, "eth_estimateGas", params))

    if len(rpc.endpoints) < QUORUM:
        return await rpc.first_of(ask)
    words = await rpc.each(ask)
    estimates = sorted((gas for gas, _ in words if gas is not None), reverse=True)
    for higher, lower in itertools.pairwise(estimates):
        if higher * GAS_ALIKE_DENOMINATOR <= lower * GAS_ALIKE_NUMERATOR:
            return higher
    if len(estimates) >= QUORUM:
        raise ChainDisagrees(f"no two endpoints estimate about the same gas: {estimates}")
    raise next(error for _, error in words if error is not None)


def fee_fields(fees: Fees, market: FeeMarket) -> Mapping[str, int]:
    """The fields of a transaction that carry its fees: EIP-1559 where the chain has a base fee, else legacy."""
    if market.base_fee is None:
        return {"gasPrice": fees.max_fee}
    return {"type": 2, "maxFeePerGas": fees.max_fee, "maxPriorityFeePerGas": fees.priority_fee}
