"""What a transaction took from its sender's native coin, by its receipt: the value that it sent apart.

    Ethereum             gasUsed × effectiveGasPrice
    OP stack             the same + l1Fee + operator fee       l1Fee is not in gasUsed; the operator fee is not in the
                                                               receipt, only its two parameters are (since Isthmus)
    Scroll               the same + l1Fee
    Arbitrum             gasUsed × effectiveGasPrice           gasUsedForL1 is a part of gasUsed, so nothing is added
    zkSync, Linea, …     gasUsed × effectiveGasPrice           what L1 costs is in the price or in the gas

Sources: op-geth core/types/rollup_cost.go and receipt.go, the OP stack's specs of Isthmus and Jovian, the receipts of
Nitro's go-ethereum, Scroll's documentation of its fees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.chains.evm.wire import quantity
from bridge.domain.errors import ChainDisagrees

SCALAR_UNIT = 10**6
"""What the operator fee's scalar is divided by in Isthmus; since Jovian it is multiplied by JOVIAN_FACTOR instead."""
JOVIAN_FACTOR = 100
SINCE_JOVIAN = ("daFootprintGasScalar", "tokenRatio")
"""Fields of receipts of the newer formula: of the OP stack since Jovian; of Mantle, which began with that formula."""


@dataclass(frozen=True, slots=True)
class Charges:
    """Wei. `total` is everything; the others are the parts of it that are told apart."""

    gas_used: int
    total: int
    l1_fee: int
    operator_fee: int  # of the chain's operator, not of our account that goes by that name


def read_charges(receipt: Mapping[str, Any]) -> Charges:
    """Raises ChainDisagrees, KeyError or TypeError for what is no receipt."""
    gas_used, price = quantity(receipt["gasUsed"]), quantity(receipt["effectiveGasPrice"])
    inside = _field(receipt, "gasUsedForL1")
    if inside > gas_used:
        raise ChainDisagrees(f"a receipt has {inside} gas for L1 of {gas_used} in all")
    beside, operator_fee = _field(receipt, "l1Fee"), _operator_fee(receipt, gas_used)
    return Charges(gas_used, gas_used * price + beside + operator_fee, beside + inside * price, operator_fee)


def _operator_fee(receipt: Mapping[str, Any], gas_used: int) -> int:
    scaled = gas_used * _field(receipt, "operatorFeeScalar")
    newer = any(receipt.get(name) is not None for name in SINCE_JOVIAN)
    scaled = scaled * JOVIAN_FACTOR if newer else scaled // SCALAR_UNIT
    return scaled + _field(receipt, "operatorFeeConstant")


def _field(receipt: Mapping[str, Any], name: str) -> int:
    """0 where the chain does not report it."""
    value = receipt.get(name)
    return 0 if value is None else quantity(value)
