"""The encoding under the seals: no two journals share one, and a link says where it is."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.seals import START, JournalDigest, link

columns = st.lists(st.binary(max_size=3), min_size=2, max_size=2)
entries = st.tuples(columns, st.lists(columns, max_size=3))


def digest(entry: tuple[list[bytes], list[list[bytes]]]) -> bytes:
    head, transfers = entry
    made = JournalDigest(head)
    for transfer in transfers:
        made.add(transfer)
    return made.close()


@given(entries, entries)
def test_digest__same_only_for_the_same_columns(one, other):
    assert (digest(one) == digest(other)) == (one == other)


def test_digest__bytes_as_documented():
    made = digest(([b"ab", b"\x01"], [[b"c", b""]]))
    encoded = b"\x01" + b"\0\0\0\x02ab" + b"\0\0\0\x01\x01" + b"\0\0\0\x01c" + b"\0\0\0\0" + b"\0\0\0\x011"
    assert made == hashlib.sha256(encoded).digest()
    assert link(START, 7, made) == hashlib.sha256(b"\x01" + START + (7).to_bytes(8) + made).digest()


def test_digest__a_column_of_any_length__its_length_in_four_bytes():
    for size in (255, 256, 70_000):
        encoded = b"\x01" + size.to_bytes(4) + bytes(size) + b"\0\0\0\x02ab" + b"\0\0\0\x010"
        assert digest(([bytes(size), b"ab"], [])) == hashlib.sha256(encoded).digest()


def test_link__other_position_or_head_before__other_head():
    one, two = digest(([b"a", b"b"], [])), digest(([b"a", b"c"], []))
    heads = {link(START, 1, one), link(START, 2, one), link(one, 1, one), link(START, 1, two)}
    assert len(heads) == 4
