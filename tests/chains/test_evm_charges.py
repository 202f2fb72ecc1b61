"""What a receipt says that a transaction cost, chain by chain, to the wei."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.chains.evm.charges import Charges, read_charges
from bridge.domain.errors import ChainDisagrees

GAS, PRICE = 123_457, 1_000_003
PLAIN = {"gasUsed": hex(GAS), "effectiveGasPrice": hex(PRICE)}
L1_FEE = {"l1Fee": hex(77_777), "l1GasUsed": hex(1_600), "l1GasPrice": hex(48), "l1FeeScalar": "0.684"}
ISTHMUS = L1_FEE | {"operatorFeeScalar": hex(1_439_103_868), "operatorFeeConstant": hex(1_256_417_826_609_331_460)}
EXECUTION = GAS * PRICE

CHAINS: dict[str, tuple[dict[str, Any], Charges]] = {
    "Ethereum": (PLAIN, Charges(GAS, EXECUTION, 0, 0)),
    # The fee is beside the gas; l1GasUsed and l1GasPrice are how it was made, and no gas of ours.
    "OP stack, Scroll": (PLAIN | L1_FEE, Charges(GAS, EXECUTION + 77_777, 77_777, 0)),
    # scalar × gas ÷ 10⁶, rounded down, and the constant: 2,328,470 and 1,256,417,826,609,331,460.
    "OP stack since Isthmus": (
        PLAIN | ISTHMUS | {"gasUsed": hex(1_618)},
        Charges(1_618, 1_618 * PRICE + 77_777 + 1_256_417_826_611_659_930, 77_777, 1_256_417_826_611_659_930),
    ),
    "OP stack since Jovian": (
        PLAIN | L1_FEE | {"operatorFeeScalar": "0x3", "operatorFeeConstant": "0x5", "daFootprintGasScalar": "0x190"},
        Charges(GAS, EXECUTION + 77_777 + 300 * GAS + 5, 77_777, 300 * GAS + 5),
    ),
    "Mantle": (
        PLAIN | L1_FEE | {"operatorFeeScalar": "0x3", "operatorFeeConstant": "0x5", "tokenRatio": "0xbb8"},
        Charges(GAS, EXECUTION + 77_777 + 300 * GAS + 5, 77_777, 300 * GAS + 5),
    ),
    # A part of the gas, which is told apart and not added.
    "Arbitrum": (PLAIN | {"gasUsedForL1": hex(23_457)}, Charges(GAS, EXECUTION, 23_457 * PRICE, 0)),
    "nulls": (PLAIN | {"l1Fee": None, "gasUsedForL1": None}, Charges(GAS, EXECUTION, 0, 0)),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_charges__of_each_chain__what_is_added_and_what_is_inside(chain: str):
    receipt, expected = CHAINS[chain]
    assert read_charges(receipt) == expected


def test_charges__more_gas_for_l1_than_in_all__no_receipt():
    with pytest.raises(ChainDisagrees, match="gas for L1"):
        read_charges(PLAIN | {"gasUsedForL1": hex(GAS + 1)})


@given(st.dictionaries(st.sampled_from(["l1Fee", "operatorFeeScalar", "operatorFeeConstant"]), st.integers(0, 2**128)))
def test_charges__any_amounts__parts_never_exceed_the_whole(fields: dict[str, int]):
    charges = read_charges(PLAIN | {name: hex(value) for name, value in fields.items()})
    assert charges.total - charges.l1_fee - charges.operator_fee == EXECUTION
    assert charges.l1_fee == fields.get("l1Fee", 0)
