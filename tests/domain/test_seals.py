"""The encoding under the seals: no two journals share one, and a link says where it is."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.seals import START, JournalDigest, link

columns = st.lists(st.one_of(st.text(max_size=3), st.binary(max_size=3)), min_size=2, max_size=2)
entries = st.tuples(columns, st.lists(columns, max_size=3))


def digest(entry: tuple[list[str | bytes], list[list[str | bytes]]]) -> bytes:
    head, transfers = entry
    made = JournalDigest(head)
    for transfer in transfers:
        made.add(transfer)
    return made.close()


def raw(entry: tuple[list[str | bytes], list[list[str | bytes]]]) -> object:
    return [[part.encode() if isinstance(part, str) else part for part in row] for row in (entry[0], *entry[1])]


@given(entries, entries)
def test_digest__same_only_for_the_same_columns(one, other):
    assert (digest(one) == digest(other)) == (raw(one) == raw(other))


def test_digest__bytes_as_documented():
    made = digest((["ab", b"\x01"], [["c", ""]]))
    encoded = b"\x01" + b"\0\0\0\x02ab" + b"\0\0\0\x01\x01" + b"\0\0\0\x01c" + b"\0\0\0\0" + b"\0\0\0\x011"
    assert made == hashlib.sha256(encoded).digest()
    assert link(START, 7, made) == hashlib.sha256(b"\x01" + START + (7).to_bytes(8) + made).digest()


def test_link__other_position_or_head_before__other_head():
    one, two = digest((["a", "b"], [])), digest((["a", "c"], []))
    heads = {link(START, 1, one), link(START, 2, one), link(one, 1, one), link(START, 1, two)}
    assert len(heads) == 4
