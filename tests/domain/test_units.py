"""Addresses and ids of transactions, as chains write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.units import (
    BlockStamp,
    base58,
    base58_ranges,
    format_address,
    format_hash,
    format_tx,
    from_base58,
    hash_of,
    is_address,
    parse_address,
    parse_hash,
)


# Vectors of draft-msporny-base58-03, section 5.
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (
            b"The quick brown fox jumps over the lazy dog.",
            "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
        ),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
        (b"", ""),
    ],
)
def test_base58__published_vectors(raw: bytes, text: str):
    assert base58(raw) == text
    assert from_base58(text) == raw


@given(st.one_of(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32)))
def test_address__written_and_read__same_bytes(address: bytes):
    text = format_address(address)
    assert is_address(text)
    assert parse_address(text) == address


@given(st.binary(min_size=64, max_size=64), st.binary(min_size=32, max_size=32))
def test_tx__signature_and_hash__each_in_its_own_form(signature: bytes, hash_: bytes):
    assert from_base58(format_tx(signature)) == signature
    assert format_tx(hash_) == "0x" + hash_.hex()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vault",
        "0x" + "ab" * 32,
        "0x" + "ab" * 19,
        "0X" + "ab" * 20,
        "1" * 31,
        "1" * 33,
        "l" * 32,
        "z" * 44,
        base58(bytes([1]) * 31),
        base58(bytes([1]) * 33),
    ],
)
def test_address__none__refused(text: str):
    assert not is_address(text)
    with pytest.raises(ValueError, match="an address is"):
        parse_address(text)


@given(st.binary(min_size=4, max_size=4), st.integers(1, 6), st.binary(min_size=4, max_size=4))
def test_base58_ranges__any_prefix__holds_just_those_that_begin_with_it(raw: bytes, length: int, other: bytes):
    prefix = base58(raw)[:length]
    ranges = base58_ranges(prefix, 4)
    for each in (raw, other):
        within = sum(low <= each <= high for low, high in ranges)
        assert within == base58(each).startswith(prefix)


@pytest.mark.parametrize("prefix", ["1", "11", "1111", "11111", "z" * 7, "12", "111z"])
def test_base58_ranges__edges__every_end_of_a_range_begins_with_it(prefix: str):
    ends = [end for bounds in base58_ranges(prefix, 4) for end in bounds]
    assert all(len(end) == 4 and base58(end).startswith(prefix) for end in ends)
    assert bool(ends) == (prefix not in ("11111", "z" * 7))


@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["eip155:1", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp/token:9"]),
)
def test_hash__written_as_its_chain_does__comes_back(raw: bytes, reference: str):
    found = hash_of(raw, reference)
    text = format_hash(found)
    assert (found, hash(found)) == (raw, hash(raw))
    assert text == (f"0x{raw.hex()}" if reference == "eip155:1" else base58(raw))
    again = parse_hash(text)
    assert (again, format_hash(again)) == (raw, text)


def test_stamp__said_to_a_person__as_its_chain_writes_it():
    raw = bytes(range(32))
    assert str(BlockStamp("main", 7, raw)) == "main#7(00010203)"
    assert (
        str(BlockStamp("svm", 7, hash_of(raw, "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")))
        == f"svm#7({base58(raw)[:8]})"
    )
