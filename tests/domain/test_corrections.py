"""Corrections: what undoes what, and which accounts there are."""

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.corrections import Approved, Correction, book_adjustment, book_reversal, is_account
from bridge.domain.ledger import Journal, Phase, Transfer
from bridge.domain.units import UINT256_MAX, AssetId, BlockStamp

USDX = AssetId("eip155:31337/erc20:0x70")
AT, LATER = BlockStamp("anvil", 7, b"\x07" * 32), BlockStamp("anvil", 9, b"\x09" * 32)
CODES = ("vault:0x01", "payable:0x02", "suspense:out")

transfers = st.builds(
    lambda ends, amount, phase: Transfer(ends[0], ends[1], USDX, amount, phase),
    st.permutations(CODES).map(lambda codes: codes[:2]),
    st.integers(1, UINT256_MAX),
    st.sampled_from(Phase),
)


def sums(*journals: Journal) -> dict[str, tuple[int, ...]]:
    """Debits − credits posted, pending debits and pending credits of every account that is not at zero."""
    result: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for transfer in (transfer for journal in journals for transfer in journal.transfers):
        posted = transfer.amount if transfer.phase in ("posted", "post") else 0
        pending = {"posted": 0, "pending": 1, "post": -1, "void": -1}[transfer.phase] * transfer.amount
        for side, code, sign in ((1, transfer.debit, 1), (2, transfer.credit, -1)):
            result[code][0] += sign * posted
            result[code][side] += pending
    return {code: tuple(columns) for code, columns in result.items() if any(columns)}


def approved(correction: Correction) -> Approved:
    return Approved(correction, "bob")


@given(st.lists(transfers, min_size=1, max_size=6).map(tuple))
def test_book_reversal__any_journal__balances_as_if_it_had_never_been(moved: tuple[Transfer, ...]):
    wrong = Journal("kind", "reason", "log:anvil", "ab:1", AT, 100, moved)
    correction = Correction(1, "anvil", "twice", "alice", ("log:anvil", "ab:1"), None)
    undone = book_reversal(approved(correction), wrong, LATER, 200)
    assert sums(wrong, undone) == {}
    assert (undone.source, undone.ref, undone.reverses) == ("reversal", "log:anvil ab:1", ("log:anvil", "ab:1"))
    assert (undone.at, undone.valid_at) == (LATER, 200)
    assert undone.reason == "twice (asked by alice, approved by bob)"


def test_book_reversal__journal_that_moved_nothing__value_error():
    correction = Correction(1, "anvil", "twice", "alice", ("log:anvil", "ab:1"), None)
    with pytest.raises(ValueError, match="moved nothing"):
        book_reversal(approved(correction), Journal("kind", "", "log:anvil", "ab:1", AT, 100), LATER, 200)


def test_book_adjustment__is_what_was_asked_for():
    moved = Transfer("suspense:in", "surplus:unallocated", USDX, 7)
    journal = book_adjustment(approved(Correction(3, "anvil", "a gift", "alice", None, moved)), AT, 100)
    assert (journal.source, journal.ref, journal.kind, journal.reverses) == ("adjustment", "3", "adjustment", None)
    assert journal.transfers == (moved,)


def test_payload_hash__reverses__is_part_of_it_and_older_hashes_stay():
    plain = Journal("kind", "reason", "test", "1", AT, 100, (Transfer(*CODES[:2], USDX, 5),))
    reversing = replace(plain, reverses=("test", "0"))
    assert len({plain.payload_hash, reversing.payload_hash, replace(plain, reverses=("tes", "t0")).payload_hash}) == 3
    # As it was before journals could name what they reverse: a database keeps such hashes.
    assert plain.payload_hash.hex() == "cec16a536c11dd1aef7770650ae58701b6ab657a3f4e1bba4b94e0db7e52afaf"


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("vault:0x" + "ab" * 20, True),
        ("operator:gas:0x" + "ab" * 20, True),
        ("claimable:CZ8YUVdk7znjrUmnb5n7kgySk9yRAsQDYmyCxzfSky9t", True),
        ("claimable:0x" + "ab" * 32, False),
        ("surplus:carried", True),
        ("suspense:in", True),
        ("expense:adjustment", True),
        ("external:insurance-fund", True),
        ("vault:0x" + "AB" * 20, False),
        ("vault:0x" + "ab" * 19, False),
        ("suspense", False),
        ("expense:", False),
        ("expense:a b", False),
        ("suspense:in\n", False),
        ("", False),
    ],
)
def test_is_account__chart(code: str, known: bool):
    assert is_account(code) is known
