"""Published claim sets: what is written is what is read, whole or not at all, and always the same."""

from __future__ import annotations

import random
import re
import sys
import threading
from pathlib import Path

import orjson
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.chains.evm import claim_files, claim_table
from bridge.chains.evm.claim_files import ClaimIndex, load, lookup, publish
from bridge.chains.evm.claims import ClaimSet, hash_leaf, verify_claim
from bridge.chains.evm.merkle import verify
from bridge.domain.errors import ConfigError, NotInClaimSet
from bridge.domain.units import UINT256_MAX, Address, format_address

CHAIN_ID = 31337
CONTRACT = Address(b"\x11" * 20)
TOKEN = Address(b"\xee" * 19 + b"\0")


def draw(count: int, seed: int = 0) -> list[tuple[Address, int]]:
    chance = random.Random(seed)
    return [(Address(chance.randbytes(20)), chance.randrange(1, 1 << chance.randrange(1, 200))) for _ in range(count)]


def build(entries: list[tuple[Address, int]]) -> ClaimSet:
    return ClaimSet.build(CHAIN_ID, CONTRACT, TOKEN, entries)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("count", "digits"), [(2, 1), (3, 1), (1024, 1), (1025, 2)])
def test_publish__each_account__is_looked_up_again(tmp_path: Path, count: int, digits: int):
    entries = draw(count)
    claims = build(entries)
    publish(claims, tmp_path / "set")
    expected = ClaimIndex(CHAIN_ID, CONTRACT, TOKEN, claims.root, claims.total, count, digits)
    assert load(tmp_path / "set") == expected
    for account, cumulative in entries:
        found = lookup(tmp_path / "set", account)
        assert found == claims.claim(account)
        assert found.cumulative == cumulative
        assert verify_claim(CHAIN_ID, CONTRACT, TOKEN, found, claims.root)
    assert len(list((tmp_path / "set" / "proofs").iterdir())) == 16**digits
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_publish__shards__hold_the_accounts_that_begin_so_and_plain_json(tmp_path: Path):
    entries = draw(1100)
    publish(build(entries), tmp_path / "set")
    found: dict[str, dict[str, str]] = {}
    for path in (tmp_path / "set" / "proofs").iterdir():
        shard = orjson.loads(path.read_bytes())
        assert list(shard) == sorted(shard)
        assert all(account.startswith("0x" + path.stem) for account in shard)
        found |= shard
    assert {account: entry["cumulative"] for account, entry in found.items()} == {
        format_address(account): str(cumulative) for account, cumulative in entries
    }
    assert all(set(entry) == {"cumulative", "proof"} for entry in found.values())


def test_publish__same_claims_in_another_order__same_bytes(tmp_path: Path):
    entries = draw(300)
    publish(build(entries), tmp_path / "one")
    publish(build(entries[::-1]), tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 18


def test_publish__chunks_that_cut_shards__same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    claims = build(draw(100))
    publish(claims, tmp_path / "one")
    monkeypatch.setattr(claim_files, "_CHUNK", 7)
    publish(claims, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_publish__accounts_of_one_prefix_alone__other_shards_are_there_and_empty(tmp_path: Path):
    entries = [(Address(b"\xff" * 19 + bytes([index])), UINT256_MAX // 8) for index in range(5)]
    publish(build(entries), tmp_path / "set")
    files = contents(tmp_path / "set")
    assert [name for name in files if files[name] != b"{}\n"].count("proofs/f.json") == 1
    assert sum(text == b"{}\n" for text in files.values()) == 15
    assert lookup(tmp_path / "set", entries[4][0]).cumulative == UINT256_MAX // 8


def test_publish__table__says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claim_table, "ROWS_PER_GROUP", 64)
    entries = draw(150)
    claims = build(entries)
    publish(claims, tmp_path / "set")
    table = pyarrow.parquet.ParquetFile(tmp_path / "set" / "claims.parquet")
    assert table.metadata.num_row_groups == 3
    rows = table.read().to_pylist()
    assert [(row["account"], row["cumulative"]) for row in rows] == [
        (format_address(account), str(cumulative)) for account, cumulative in sorted(entries)
    ]
    for row, (account, cumulative) in zip(rows, sorted(entries), strict=True):
        assert row["leaf"] == hash_leaf(CHAIN_ID, CONTRACT, TOKEN, account, cumulative)
        assert tuple(row["proof"]) == claims.claim(account).proof
        assert verify(claims.root, row["leaf"], row["proof"])


def test_publish__again__changes_nothing(tmp_path: Path):
    claims = build(draw(20))
    publish(claims, tmp_path / "set")
    before = (tmp_path / "set").stat().st_ino
    publish(claims, tmp_path / "set")
    assert (tmp_path / "set").stat().st_ino == before


def test_publish__another_set_is_there__is_refused_and_left_alone(tmp_path: Path):
    first, second = build(draw(20)), build(draw(20, seed=1))
    publish(first, tmp_path / "set")
    before = contents(tmp_path / "set")
    message = f"another claim set is published here, with root 0x{first.root.hex()}, not 0x{second.root.hex()}"
    with pytest.raises(ConfigError, match=message):
        publish(second, tmp_path / "set")
    assert contents(tmp_path / "set") == before


def test_publish__a_directory_of_something_else__is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="no claim set is published here"):
        publish(build(draw(3)), tmp_path)


def test_publish__dies_half_way__nothing_is_there_and_the_next_one_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(claims: ClaimSet, path: Path) -> None:
        raise OSError("disk full")

    claims = build(draw(20))
    publish(claims, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(claim_table, "write_table", fail)
        with pytest.raises(OSError, match="disk full"):
            publish(claims, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    (tmp_path / ".set.partial" / "proofs" / "stale.json").write_bytes(b"{}")
    publish(claims, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")
    assert not (tmp_path / ".set.partial").exists()


def test_publish__several_at_the_same_time__one_directory_whole(tmp_path: Path):
    claims, failed = build(draw(200)), []

    def attempt() -> None:
        try:
            publish(claims, tmp_path / "set")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    publish(claims, tmp_path / "alone")
    assert contents(tmp_path / "set") == contents(tmp_path / "alone")


def test_publish__without_pyarrow__names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, claim_table.__name__)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=re.escape("bridge[claims]")):
        publish(build(draw(3)), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stranger", [b"\xff" * 20, b"\0" * 20, b"\x55" * 20])
def test_lookup__account_that_is_not_in_the_set__is_told_so(tmp_path: Path, stranger: bytes):
    claims = build(draw(5))
    publish(claims, tmp_path / "set")
    message = f"0x{stranger.hex()} has nothing to claim: it is not in the set with root 0x{claims.root.hex()}"
    with pytest.raises(NotInClaimSet, match=message):
        lookup(tmp_path / "set", Address(stranger))


def test_lookup__nothing_published__says_where(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"index\.json: no claim set is published here"):
        lookup(tmp_path, Address(b"\1" * 20))


def change(path: Path, before: bytes, after: bytes) -> None:
    text = path.read_bytes()
    assert before in text
    path.write_bytes(text.replace(before, after, 1))


@pytest.mark.parametrize(
    "damage", ["amount", "proof", "root", "shard missing", "shard cut", "shard odd", "range", "index cut"]
)
def test_lookup__damaged_files__names_the_file_and_no_claim(tmp_path: Path, damage: str):
    claims = build(draw(9))
    publish(claims, tmp_path / "set")
    claim = claims.claim(claims.account(4))
    index, shard = tmp_path / "set" / "index.json", tmp_path / "set" / "proofs" / f"{claim.account.hex()[0]}.json"
    match damage:
        case "amount":
            change(shard, b'"%d"' % claim.cumulative, b'"%d"' % (claim.cumulative + 1))
        case "range":
            change(shard, b'"%d"' % claim.cumulative, b'"-1"')
        case "proof":
            change(shard, claim.proof[0].hex().encode(), claim.proof[1].hex().encode())
        case "root":
            change(index, claims.root.hex().encode(), b"00" * 32)
        case "shard missing":
            shard.unlink()
        case "shard cut":
            shard.write_bytes(shard.read_bytes()[:-40])
        case "shard odd":
            change(shard, b'"proof":[', b'"other":[')
        case "index cut":
            index.write_bytes(index.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=re.escape(str(index if "index" in damage else shard))) as raised:
        lookup(tmp_path / "set", claim.account)
    assert raised.value.mend == "take the directory away and publish the claim set again"


@given(
    st.builds(
        ClaimIndex,
        chain_id=st.integers(1, 2**53),
        contract=st.binary(min_size=20, max_size=20).map(Address),
        token=st.binary(min_size=20, max_size=20).map(Address),
        root=st.binary(min_size=32, max_size=32),
        total=st.integers(2, UINT256_MAX),
        count=st.integers(2, 10**9),
        digits=st.integers(1, 5),
    )
)
def test_index__any__is_read_as_it_was_written(index: ClaimIndex):
    assert ClaimIndex.from_json(index.to_json()) == index


GOOD = ClaimIndex(CHAIN_ID, CONTRACT, TOKEN, b"\1" * 32, 2, 2, 1).to_json()


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"{}", b'{"root": "0x"}', b'{"root": 1}', GOOD.replace(b"31337", b'"31337"')]
)
def test_index__something_else__is_refused(text: bytes):
    with pytest.raises(ValueError, match="not the index of a claim set"):
        ClaimIndex.from_json(text)
