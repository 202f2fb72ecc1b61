"""keccak-256 of many rows against the library that hashes one."""

import numpy as np
import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from bridge.chains.evm import keccak as module
from bridge.chains.evm.keccak import Bytes, keccak256_rows


def expected(rows: Bytes) -> list[bytes]:
    return [keccak(row.tobytes()) for row in rows]


def digests(rows: Bytes) -> list[bytes]:
    return [digest.tobytes() for digest in keccak256_rows(rows)]


@given(st.integers(0, 300), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_keccak256_rows__any_length__as_one_at_a_time(length: int, count: int, seed: int):
    rows = np.random.default_rng(seed).integers(0, 256, (count, length), dtype=np.uint8)
    assert digests(rows) == expected(rows)


@pytest.mark.parametrize("length", [0, 1, 32, 64, 135, 136, 137, 160, 271, 272, 273])
def test_keccak256_rows__around_the_rate__as_one_at_a_time(length: int):
    rows = np.full((2, length), 0xFF, dtype=np.uint8)
    rows[1] = 0
    assert digests(rows) == expected(rows)


def test_keccak256_rows__more_than_a_block_and_a_rest__each_row_has_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BLOCK", 4)
    rows = np.arange(11 * 64, dtype=np.uint32).astype(np.uint8).reshape(11, 64)
    assert digests(rows) == expected(rows)
    assert len(set(digests(rows))) == len({row.tobytes() for row in rows})


def test_keccak256_rows__no_rows__no_digests():
    assert keccak256_rows(np.empty((0, 64), dtype=np.uint8)).shape == (0, 32)


def test_keccak256_rows__rows_cut_out_of_a_larger_array__are_read_right():
    rows = np.arange(8 * 200, dtype=np.uint32).astype(np.uint8).reshape(8, 200)[::2, 3:163]
    assert digests(rows) == expected(rows)
