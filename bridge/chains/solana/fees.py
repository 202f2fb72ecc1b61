"""What a transaction offers: a price for each unit of computing that it may use, under the operator's ceiling.

    fee = 5,000 lamports a signature + compute limit × price, rounded up

Too low an offer is mended by the next attempt, which may be signed once this one has expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.chains.solana import rpc as values
from bridge.chains.solana.messages import Budget
from bridge.chains.solana.rpc import SolanaRpc
from bridge.domain.errors import ChainDisagrees, ChainUnavailable
from bridge.domain.payouts import Signed
from bridge.domain.units import Address

LAMPORTS_A_SIGNATURE = 5_000
MICRO = 1_000_000

MARKET_NUMERATOR, MARKET_DENOMINATOR = 3, 4
"""Of the prices that recent blocks took for the accounts in question: the one that three quarters did not pass."""

SECOND_PRICE = 10_000
"""What a second attempt offers at least, where the first offered nothing: some hundred lamports a transaction."""

UNITS_NUMERATOR, UNITS_DENOMINATOR = 5, 4
UNITS_MORE = 5_000
"""Over what the simulation used. The price is paid for the limit, so not much more."""


@dataclass(frozen=True, slots=True)
class FeeCeilings:
    """Micro-lamports a compute unit."""

    unit_price: int
    unit_price_least: int = 0  # offered even where nobody else offers anything

    def __post_init__(self) -> None:
        assert 0 <= self.unit_price_least <= self.unit_price


def limit_for(units_used: int, most: int) -> int:
    return min(units_used * UNITS_NUMERATOR // UNITS_DENOMINATOR + UNITS_MORE, most)


def fee_of(budget: Budget, signatures: int) -> int:
    """Lamports, to the last one what the chain takes."""
    return LAMPORTS_A_SIGNATURE * signatures + -(-budget.compute_units * budget.unit_price // MICRO)


def offer(market: int, ceilings: FeeCeilings, previous: Signed | None) -> int:
    """The price of the next attempt: the market's; where no block took `previous` in its whole life, twice that too."""
    wanted = max(market, ceilings.unit_price_least)
    if previous is not None:
        wanted = max(wanted, 2 * previous.max_fee, SECOND_PRICE)
    return min(wanted, ceilings.unit_price)


async def read_market(rpc: SolanaRpc, accounts: Sequence[Address]) -> int:
    """What transactions that write to `accounts` paid lately; 0 where nobody says. Never a reason not to send."""
    keys = [values.text(account) for account in accounts]
    try:
        answer = await rpc.call("getRecentPrioritizationFees", [keys])
        if not isinstance(answer, list):
            return 0
        prices = sorted(values.number(values.mapping(entry).get("prioritizationFee")) for entry in answer)
    except (ChainUnavailable, ChainDisagrees, values.RpcRefused):
        return 0
    return prices[(len(prices) - 1) * MARKET_NUMERATOR // MARKET_DENOMINATOR] if prices else 0
