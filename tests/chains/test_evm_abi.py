"""Plans compiled from declarations decode as the reference encoder encodes; mistakes say where they are."""

import eth_abi.abi
import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from bridge.chains.evm.abi import compile_event, decode_values, encode_call
from bridge.domain.errors import ConfigError
from bridge.domain.events import Log
from bridge.domain.units import Address, BlockStamp


def log_of(topics: tuple[bytes, ...], data: bytes) -> Log:
    return Log(BlockStamp("fake", 1, b"h" * 32), 0, b"t" * 32, 0, Address(b"a" * 20), topics, data, 0)


def word(value: int) -> bytes:
    return (value % 2**256).to_bytes(32)


@given(
    st.tuples(
        st.binary(min_size=20, max_size=20),
        st.integers(0, 2**256 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=50),
        st.binary(max_size=80),
        st.booleans(),
        st.binary(min_size=4, max_size=4),
    )
)
def test_decode__every_type__as_encoded(values: tuple[bytes, int, int, str, bytes, bool, bytes]):
    account, big, small, text, raw, flag, four = values
    plan = compile_event(
        "Mixed(address indexed a, uint256 b, int64 indexed c, string d, bytes e, bool f, bytes4 indexed g)"
    )
    data = eth_abi.abi.encode(["uint256", "string", "bytes", "bool"], [big, text, raw, flag])
    topics = (plan.topic0, account.rjust(32, b"\0"), word(small), four.ljust(32, b"\0"))
    assert plan.decode(log_of(topics, data)) == {
        "a": account, "b": big, "c": small, "d": text, "e": raw, "f": flag, "g": four,
    }  # fmt: skip


def test_compile__transfer__known_topic():
    plan = compile_event("event Transfer(address indexed from, address indexed to, uint value);")
    assert plan.topic0 == keccak(b"Transfer(address,address,uint256)")
    assert dict(plan.fields) == {"from": "address", "to": "address", "value": "uint256"}


def test_compile__indexed_string__its_hash():
    plan = compile_event("Named(string indexed name)")
    assert plan.topic0 == keccak(b"Named(string)")
    assert plan.decode(log_of((plan.topic0, b"n" * 32), b"")) == {"name": b"n" * 32}
    assert plan.fields["name"] == "bytes32"


@pytest.mark.parametrize(
    ("topics", "data"),
    [
        ((), b""),
        ((b"x" * 32,), word(1)),
        ((keccak(b"Paid(address,uint8)"),), word(1)),
        ((keccak(b"Paid(address,uint8)"), word(1)), b"\1"),
        ((keccak(b"Paid(address,uint8)"), word(1)), word(256)),
        ((keccak(b"Paid(address,uint8)"), word(2**160)), word(1)),
        ((keccak(b"Paid(address,uint8)"), word(1), word(1)), word(1)),
    ],
)
def test_decode__not_the_declared_shape__refused(topics: tuple[bytes, ...], data: bytes):
    with pytest.raises(ValueError, match=r"."):
        compile_event("Paid(address indexed to, uint8 amount)").decode(log_of(topics, data))


@pytest.mark.parametrize("offset", [31, 64, 2**255])
def test_decode__dynamic_field_points_nowhere__refused(offset: int):
    plan = compile_event("Said(string text)")
    with pytest.raises(ValueError, match="dynamic"):
        plan.decode(log_of((plan.topic0,), word(offset) + b"\xff" * 32))


@pytest.mark.parametrize(
    ("declaration", "column"),
    [
        ("Foo(uint300 a)", 5),
        ("Foo(uint256)", 5),
        ("Foo(uint256 a", 14),
        ("Foo(uint256 a, uint256[] b)", 16),
        ("Foo(uint256 a, bool a)", 16),
        ("Foo(uint256 a,)", 15),
        ("(uint256 a)", 1),
        ("", 1),
        ("Foo(bool indexed a, bool indexed b, bool indexed c, bool indexed d)", 5),
        ("Foo(uint256 a) anonymous", 15),
    ],
)
def test_compile__mistake__says_the_column(declaration: str, column: int):
    with pytest.raises(ConfigError, match=rf"column {column}:"):
        compile_event(declaration)


def test_encode_call__nested_types__selector_and_arguments():
    data = encode_call("f(uint256,(bytes32,uint8),address[])", 1, (b"b" * 32, 2), [b"c" * 20])
    assert data[:4] == keccak(b"f(uint256,(bytes32,uint8),address[])")[:4]
    types = ["uint256", "(bytes32,uint8)", "address[]"]
    assert decode_values(types, data[4:]) == (1, (b"b" * 32, 2), ("0x" + "63" * 20,))
    with pytest.raises(ValueError, match="not the encoding"):
        decode_values(types, data[4:60])
