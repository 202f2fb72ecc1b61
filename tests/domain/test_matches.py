"""What suspense matches: never an atom more than cancels out, and nothing that could be matched in two ways."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.matches import Moved, match

HASHES = st.sampled_from([None, b"a", b"b", b"c"])
PAYERS = st.sampled_from([None, b"p", b"q"])
AMOUNTS = st.integers(-3, 3).filter(bool) | st.integers(-(2**256), 2**256).filter(bool)
MOVES = st.lists(st.builds(Moved, AMOUNTS, HASHES, PAYERS, st.text(max_size=2)), max_size=12)


@given(MOVES)
def test_match__any_moves__what_is_matched_cancels_out_and_the_rest_keeps_its_order(moves: list[Moved]):
    found = match(moves)
    assert found.by_transaction + found.by_payer + len(found.left) == len(moves)
    assert sum(move.amount for move in found.left) == sum(move.amount for move in moves)
    assert found.by_payer % 2 == 0
    rest = iter(moves)
    assert all(any(move is each for each in rest) for move in found.left), "in the order in which they came"


@given(MOVES)
def test_match__any_moves__a_transaction_is_matched_whole_and_only_where_it_comes_to_zero(moves: list[Moved]):
    found = match(moves)
    sums: Counter[bytes] = Counter()
    for move in moves:
        if move.tx_hash is not None:
            sums[move.tx_hash] += move.amount
    assert found.by_transaction == sum(move.tx_hash is not None and sums[move.tx_hash] == 0 for move in moves)


@given(MOVES)
def test_match__any_moves__a_payer_is_matched_only_where_it_can_be_in_one_way(moves: list[Moved]):
    nets: Counter[bytes | None] = Counter()
    for move in moves:
        nets[move.tx_hash] += move.amount
    open_ = [move for move in moves if move.tx_hash is None or nets[move.tx_hash]]
    left = match(moves).left
    for move in open_:
        alike = [each for each in open_ if (each.payer, abs(each.amount)) == (move.payer, abs(move.amount))]
        paired = move.payer is not None and sorted(each.amount for each in alike) == [
            -abs(move.amount),
            abs(move.amount),
        ]
        assert (not any(each is move for each in left)) == paired


@given(MOVES, st.randoms(use_true_random=False))
def test_match__in_another_order__the_same(moves: list[Moved], random: Random):
    shuffled = list(moves)
    random.shuffle(shuffled)
    found, again = match(moves), match(shuffled)
    assert (found.by_transaction, found.by_payer) == (again.by_transaction, again.by_payer)
    assert Counter(found.left) == Counter(again.left)
