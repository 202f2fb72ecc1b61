"""Columns from JSON: the quick way and the plain way must agree on everything, and on what they refuse."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.chains.evm.logs import in_order, merge_logs, parse_logs, scan_logs
from bridge.domain.events import NO_LOGS, LogColumns, join_columns, pack_logs
from tests.chains.nodes import log_json
from tests.chains.world import FakeWorld


def hexes(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).map(lambda value: "0x" + value.hex())


LOG = st.fixed_dictionaries({
    "address": hexes(20),
    "topics": st.lists(hexes(32), max_size=4),
    "data": st.binary(max_size=70).map(lambda value: "0x" + value.hex()),
    "blockHash": hexes(32),
    "blockNumber": st.integers(0, 2**63 - 1).map(hex),
    "transactionHash": hexes(32),
    "transactionIndex": st.integers(0, 2**31 - 1).map(hex),
    "logIndex": st.integers(0, 2**31 - 1).map(hex),
    "removed": st.just(False),
})  # fmt: skip


def answer(logs: list[dict[str, Any]], option: int = 0) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": logs}, option=option)


@given(st.lists(LOG, max_size=6), st.randoms(use_true_random=False))
def test_scan__compact_answer_with_keys_in_any_order__as_parsed(logs: list[dict[str, Any]], chance: Any):
    keys = ["address", "topics", "data", "blockHash", "blockNumber", "transactionHash", "transactionIndex", "logIndex"]
    chance.shuffle(keys)
    shuffled = [{key: log[key] for key in keys} for log in logs]
    assert scan_logs(answer(shuffled)) == parse_logs(logs)


@given(st.lists(LOG, min_size=1, max_size=3), st.integers(0, 10**6), st.integers(0, 255))
def test_scan__one_byte_changed__as_parsed_or_not_scanned(logs: list[dict[str, Any]], at: int, byte: int):
    body = bytearray(answer(logs))
    body[at % len(body)] = byte
    scanned = scan_logs(bytes(body))
    if scanned is None:
        return
    try:
        changed = orjson.loads(bytes(body))["result"]
    except orjson.JSONDecodeError:
        changed = logs  # what stands between the values is not looked at; the values are, each of them
    assert scanned == parse_logs(changed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":1,"result":[{}]}',
        b'{"jsonrpc":"2.0","id":1,"result":[null]}',
        b'{"jsonrpc":"2.0","id":1,"result":[',
    ],
)
def test_scan__no_logs_in_it__left_to_the_parser(body: bytes):
    assert scan_logs(body) is None


def test_scan__spaces_between__left_to_the_parser():
    log = {"address": "0x" + "11" * 20, "topics": []}
    assert scan_logs(answer([log], orjson.OPT_INDENT_2)) is None


def test_scan__fields_of_two_logs_mixed__left_to_the_parser():
    """As many keys as two logs have, but both `data` in the first one."""
    good = {key: value for key, value in EXAMPLE.items() if key != "data"}
    text = answer([EXAMPLE, good]).decode()
    doubled = text.replace('"data":"0x12"', '"data":"0x12","data":"0x34"', 1)
    assert scan_logs(doubled.encode()) is None


EXAMPLE: dict[str, Any] = {
    "address": "0x" + "11" * 20,
    "topics": ["0x" + "22" * 32],
    "data": "0x12",
    "blockHash": "0x" + "33" * 32,
    "blockNumber": "0x10",
    "transactionHash": "0x" + "44" * 32,
    "transactionIndex": "0x0",
    "logIndex": "0x1",
}


@pytest.mark.parametrize("key", list(EXAMPLE))
@pytest.mark.parametrize("value", [None, "0x1", "zz", 5, "0x" + "g1" * 32])
def test_parse__field_wrong__refused_or_exact(key: str, value: Any):
    if key in ("blockNumber", "transactionIndex", "logIndex") and value == "0x1":
        value = "0x"
    with pytest.raises(ValueError, match=r"."):
        parse_logs([EXAMPLE | {key: value}])
    assert scan_logs(answer([EXAMPLE | {key: value}])) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2)), unique=True, max_size=20))
def test_merge__parts_that_overlap__the_union_in_order(entries: list[tuple[int, int, int]]):
    def columns(wanted: list[tuple[int, int]]) -> LogColumns:
        return parse_logs([
            EXAMPLE | {"blockNumber": hex(number), "logIndex": hex(index), "data": "0x" + "ab" * (number * index)}
            for number, index in sorted(set(wanted))
        ])  # fmt: skip

    parts = [columns([entry[:2] for entry in entries if entry[2] == part]) for part in range(3)]
    whole = columns([entry[:2] for entry in entries])
    assert merge_logs(parts) == whole
    assert in_order(whole)
    middle = join_columns([whole.between(0, 2), whole.between(3, 3), whole.between(4, 9)])
    assert middle == whole
    assert middle.digest() == whole.digest()


def test_merge__same_place_other_content__refused():
    with pytest.raises(ValueError, match="different logs"):
        merge_logs([parse_logs([EXAMPLE]), parse_logs([EXAMPLE | {"data": "0x"}])])


async def test_pack__log_objects__as_parsed_from_json():
    world = FakeWorld()
    await world.mine(3, 0, 2)
    logs = [log for entry in world.fake.blocks for log in entry.logs]
    assert pack_logs(logs) == parse_logs([log_json(log) for log in logs])
    assert pack_logs([]) == parse_logs([]) == NO_LOGS
