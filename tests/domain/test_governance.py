"""What differs between what should be and what is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.governance import Governance, TokenLimits, differences
from bridge.domain.units import Address

ACCOUNTS = st.frozensets(st.binary(min_size=20, max_size=20).map(Address), max_size=4)
OPERATOR, STRANGER = Address(b"\x01" * 20), Address(b"\x02" * 20)
WANTED = Governance(
    code={"vault": b"\x11" * 32},
    roles={("distributor", "PROPOSER_ROLE"): frozenset({OPERATOR})},
    limits={"USDC": TokenLimits(1, 2, 3)},
    settings={("distributor", "delay"): 3600},
)


def test_differences__all_agree__none():
    assert differences(WANTED, WANTED) == ()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(WANTED, code={"vault": b"\x12" * 32}), "its code is keccak256:1212"),
        (replace(WANTED, roles={("distributor", "PROPOSER_ROLE"): frozenset()}), "should have PROPOSER_ROLE"),
        (
            replace(WANTED, roles={("distributor", "PROPOSER_ROLE"): frozenset({OPERATOR, STRANGER})}),
            f"0x{'02' * 20} has PROPOSER_ROLE and should not",
        ),
        (replace(WANTED, limits={"USDC": TokenLimits(0, 2, 3)}), "floor of USDC is 0 atoms, not 1"),
        (replace(WANTED, limits={"USDC": TokenLimits(1, 9, 3)}), "cap_per_epoch of USDC is 9 atoms, not 2"),
        (replace(WANTED, limits={"USDC": TokenLimits(1, 2, 9)}), "auto_per_epoch of USDC is 9 atoms, not 3"),
        (replace(WANTED, settings={("distributor", "delay"): 0}), "distributor: delay is 0, not 3600"),
    ],
)
def test_differences__one_thing_differs__named_once(found: Governance, said: str):
    (difference,) = differences(WANTED, found)
    assert said in difference


@given(wanted=ACCOUNTS, found=ACCOUNTS)
def test_differences__holders__each_that_only_one_side_has(wanted: frozenset[Address], found: frozenset[Address]):
    role = ("vault", "GUARDIAN_ROLE")
    lines = differences(Governance({}, {role: wanted}, {}, {}), Governance({}, {role: found}, {}, {}))
    assert len(lines) == len(wanted ^ found)
