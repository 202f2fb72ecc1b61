"""Words of view calls: what goes in comes out, and what does not fit is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.calls import from_word, parse_signature, to_word, view_call

integers = st.integers(1, 32).flatmap(
    lambda size: st.one_of(
        st.tuples(st.just(f"uint{8 * size}"), st.integers(0, 2 ** (8 * size) - 1)),
        st.tuples(st.just(f"int{8 * size}"), st.integers(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1)),
    )
)


@given(integers)
def test_words__any_integer__comes_back(typed: tuple[str, int]):
    type_, value = typed
    word = to_word(type_, value)
    assert len(word) == 32
    assert from_word(type_, word) == value


@given(integers.map(lambda typed: typed[0]), st.integers(-(2**256), 2**256))
def test_words__any_type_and_value__fits_or_is_refused(type_: str, value: int):
    bits = int(type_.lstrip("uint"))
    low, high = (0, 2**bits) if type_.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    if low <= value < high:
        assert from_word(type_, to_word(type_, value)) == value
        return
    with pytest.raises(ValueError, match="is no"):
        to_word(type_, value)
    # A word means one number only, so only what a word can mean is asked.
    if 0 <= value < 2**256 if type_.startswith("u") else -(2**255) <= value < 2**255:
        with pytest.raises(ValueError, match="not of type"):
            from_word(type_, (value % 2**256).to_bytes(32))


def test_parse_signature__spaces_and_short_names__as_the_hash_is_made():
    assert parse_signature(" convert ( uint , address,bool )") == ("convert", ("uint256", "address", "bool"))
    assert view_call("f( int )", [-1]).signature == "f(int256)"


@pytest.mark.parametrize(
    "signature",
    ["", "f", "f(", "f)(", "1f()", "f(uint0)", "f(uint08)", "f(uint264)", "f(uint256,)", "f(bytes32)", "f(uint256[])"],
)
def test_parse_signature__not_of_this_language__refused(signature: str):
    with pytest.raises(ValueError, match=r"function|supported"):
        parse_signature(signature)


def test_view_call__too_many_arguments__refused():
    with pytest.raises(ValueError, match="more than 16"):
        parse_signature(f"f({','.join(['bool'] * 17)})")
    with pytest.raises(ValueError, match="takes 1 arguments, not 2"):
        view_call("f(bool)", [True, True])
    with pytest.raises(ValueError, match="must return"):
        view_call("f()", returns=())


@pytest.mark.parametrize("size", [20, 32])
def test_to_word__address_of_either_kind_of_chain__fills_the_word_from_the_right(size: int):
    assert to_word("address", bytes([7]) * size, size) == bytes(32 - size) + bytes([7]) * size
    for other in (size - 1, 52 - size):
        with pytest.raises(ValueError, match="is no address"):
            view_call("f(address)", [bytes([7]) * other], address_bytes=size)
