"""Decoding many logs at once says what decoding each of them says."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.chains.evm.abi import EventPlan, compile_event
from bridge.domain.events import Log, Value, pack_logs
from bridge.domain.units import Address, BlockStamp

HERE, THERE, ELSEWHERE = (Address(bytes([n]) * 20) for n in (1, 2, 3))
PLANS = [
    compile_event(declaration)
    for declaration in (
        "Paid(address indexed token, address indexed payer, uint256 amount)",
        "Moved(uint256 indexed a, int256 b, int64 c, uint8 d, int8 indexed e, uint128 f)",
        "Noted(bytes4 indexed a, bytes32 b, bytes1 c, bool indexed d, bool e, address f)",
        "Said(string indexed a, string b, uint64 c, bytes d)",
        "Nothing()",
    )
]

# Words as compilers write them, and some that they do not.
words = st.one_of(
    st.integers(0, 3).map(lambda number: number.to_bytes(32)),
    st.sampled_from([1 << 64, (1 << 128) - 1, 1 << 200, 1 << 255]).map(lambda number: number.to_bytes(32)),
    st.sampled_from([-1, -128, -129, -(2**63), -(2**63) - 1, -(2**255)]).map(lambda n: n.to_bytes(32, signed=True)),
    st.binary(min_size=20, max_size=20).map(lambda account: account.rjust(32, b"\0")),
    st.binary(min_size=4, max_size=4).map(lambda short: short.ljust(32, b"\0")),
    st.binary(min_size=32, max_size=32),
)


@st.composite
def some_log(draw: st.DrawFn, plan: EventPlan, *, sound: bool) -> tuple[Address, tuple[bytes, ...], bytes]:
    """A log of `plan`; where not `sound`, it may be anything."""
    address = draw(st.sampled_from([HERE, THERE, ELSEWHERE]))
    values: dict[str, bytes] = {name: draw(_word_of(kind) if sound else words) for name, kind in plan.fields.items()}
    topics = [plan.topic0]
    head, tail = b"", b""
    for step in plan.steps:
        if step.indexed:
            topics.append(values[step.name])
        elif step.dynamic:
            text = draw(st.text(max_size=40)).encode()
            head += (plan.head_size + len(tail)).to_bytes(32)
            tail += len(text).to_bytes(32) + text
        else:
            head += values[step.name]
    data = head + tail
    if not sound:
        data = draw(st.sampled_from([data, data, data, data[:-1], data + b"more", b""]))
        topics = draw(st.sampled_from([topics, topics, topics, topics[:-1], [*topics, bytes(32)][:4]]))
    return address, tuple(topics), data


def _word_of(kind: str) -> st.SearchStrategy[bytes]:
    if kind == "bool":
        return st.booleans().map(lambda flag: flag.to_bytes(32))
    if kind == "address":
        return st.binary(min_size=20, max_size=20).map(lambda account: account.rjust(32, b"\0"))
    if kind.startswith("bytes"):
        size = int(kind.removeprefix("bytes") or 32)
        return st.binary(min_size=size, max_size=size).map(lambda raw: raw.ljust(32, b"\0"))
    if kind.startswith("string"):
        return st.just(b"")  # not a word: see some_log
    bits = int(kind.removeprefix("u").removeprefix("int"))
    if kind.startswith("u"):
        return st.one_of(st.integers(0, 9), st.integers(0, 2**bits - 1)).map(lambda number: number.to_bytes(32))
    whole = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.one_of(st.integers(-9, 9), whole).map(lambda number: number.to_bytes(32, signed=True))


def one_by_one(plan: EventPlan, logs: Sequence[Log], addresses: set[Address]) -> list[tuple[int, dict[str, Value]]]:
    return [
        (row, dict(plan.decode(log)))
        for row, log in enumerate(logs)
        if log.address in addresses and log.topics and log.topics[0] == plan.topic0
    ]


def made(entries: Sequence[tuple[Address, tuple[bytes, ...], bytes]]) -> list[Log]:
    return [
        Log(BlockStamp("fake", row, row.to_bytes(32)), row, bytes(32), row, address, topics, data, row)
        for row, (address, topics, data) in enumerate(entries)
    ]


def check(plan: EventPlan, logs: Sequence[Log], addresses: set[Address]) -> None:
    found = plan.decode_columns(pack_logs(logs), addresses)
    expected = one_by_one(plan, logs, addresses)
    assert list(found.rows) == [row for row, _ in expected]
    assert list(found.fields) == list(plan.fields)
    for name, column in found.fields.items():
        assert list(column) == [fields[name] for _, fields in expected]
        assert [type(value) for value in column] == [type(fields[name]) for _, fields in expected]


places = st.sets(st.sampled_from([HERE, THERE, ELSEWHERE]))


@given(st.lists(st.sampled_from(PLANS).flatmap(lambda plan: some_log(plan, sound=True)), max_size=30), places)
def test_decode_columns__logs_of_many_events__as_one_by_one(
    entries: list[tuple[Address, tuple[bytes, ...], bytes]], addresses: set[Address]
):
    logs = made([*entries, (HERE, (), b"anonymous")])
    for plan in PLANS:
        check(plan, logs, addresses)


@given(
    st.sampled_from(PLANS).flatmap(
        lambda plan: st.tuples(
            st.just(plan), st.lists(st.one_of(some_log(plan, sound=True), some_log(plan, sound=False)), max_size=4)
        )
    )
)
@example((PLANS[0], []))
@example((PLANS[0], [(HERE, (PLANS[0].topic0, bytes(32), bytes(32)), bytes(31))]))
def test_decode_columns__a_log_that_is_not_as_declared__refused_as_one_by_one(
    case: tuple[EventPlan, list[tuple[Address, tuple[bytes, ...], bytes]]],
):
    plan, entries = case
    logs = made(entries)
    try:
        one_by_one(plan, logs, {HERE})
    except ValueError:
        with pytest.raises(ValueError, match=r"not|dynamic"):
            plan.decode_columns(pack_logs(logs), {HERE})
    else:
        check(plan, logs, {HERE})


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("address", b"\1" + bytes(31)),
        ("address", bytes(11) + b"\1" + bytes(20)),
        ("bool", (2).to_bytes(32)),
        ("bool", b"\1" + bytes(30) + b"\1"),
        ("uint8", (256).to_bytes(32)),
        ("uint248", b"\1" + bytes(31)),
        ("int8", (128).to_bytes(32)),
        ("int8", (-129).to_bytes(32, signed=True)),
        ("int64", (1 << 255).to_bytes(32)),
        ("int248", b"\xff" + bytes(31)),
        ("bytes4", b"abcde" + bytes(27)),
        ("bytes31", bytes(31) + b"\1"),
    ],
)
@pytest.mark.parametrize("indexed", ["", "indexed "])
def test_decode_columns__one_word_of_many_that_no_compiler_writes__refused(kind: str, word: bytes, indexed: str):
    plan = compile_event(f"Made({kind} {indexed}value)")
    sound, broken = (
        (HERE, (plan.topic0, value), b"") if indexed else (HERE, (plan.topic0,), value) for value in (bytes(32), word)
    )
    check(plan, made([sound] * 3), {HERE})
    with pytest.raises(ValueError, match="not a"):
        plan.decode(made([broken])[0])
    with pytest.raises(ValueError, match="not a"):
        plan.decode_columns(pack_logs(made([sound, broken, sound])), {HERE})


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("int256", [-1, 2**255 - 1, -(2**255), 0, 2**254]),
        ("int128", [-1, 2**127 - 1, -(2**127), 2**64]),
        ("int8", [-1, 127, -128]),
        ("uint256", [0, 2**256 - 1, 2**255, 2**64 - 1, 2**64, 2**128, 2**192]),
        ("uint64", [2**64 - 1, 0]),
        ("uint8", [255, 0]),
    ],
)
def test_decode_columns__numbers_of_every_size_in_one_column__exact(kind: str, numbers: list[int]):
    plan = compile_event(f"Made({kind} value)")
    words = [number.to_bytes(32, signed=number < 0) for number in numbers]
    found = plan.decode_columns(pack_logs(made([(HERE, (plan.topic0,), word) for word in words])), {HERE})
    assert found.fields["value"] == numbers
    check(plan, made([(HERE, (plan.topic0,), word) for word in words]), {HERE})


def test_decode_columns__data_too_short__never_read_on_into_the_next_log():
    plan = compile_event("Made(uint256 a, uint256 b)")
    short, sound = (HERE, (plan.topic0,), bytes(63)), (HERE, (plan.topic0,), bytes(64))
    check(plan, made([sound, sound]), {HERE})
    with pytest.raises(ValueError, match="not Made as declared"):
        plan.decode_columns(pack_logs(made([short, sound])), {HERE})
