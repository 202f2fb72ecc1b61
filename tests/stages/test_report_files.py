"""A report's tables, its manifest, and what is found in a folder that somebody changed."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from bridge.chains.fake.chain import FakeChain
from bridge.chains.fake.reader import FakeReader
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block
from bridge.domain.ledger import Asset
from bridge.domain.reports.assembly import assemble
from bridge.domain.reports.facts import BalanceCheck, ChainScope, CheckCount, CutOff, Flow
from bridge.domain.reports.report import Origin, Report
from bridge.domain.units import Address, AssetId, base58, format_address, hash_of
from bridge.domain.windows import Window
from bridge.stages.report import render_json, report, write
from bridge.stages.report_files.chain import Asked, ask_chain
from bridge.stages.report_files.folder import check_folder
from bridge.stages.report_files.manifest import MANIFEST
from bridge.stages.report_files.reading import report_of
from bridge.stages.report_files.tables import TABLES, Kind, csv_text
from bridge.store.database import Database
from tests.domain.test_reports import CHECKS, ETH, FLOWS, USDX, VAULT, facts, open_break
from tests.stages.rich import rich_report
from tests.stages.world import build_world

HUGE = 2**256 - 1
TABULAR = ("html", "pdf", "json", "csv", "parquet")  # camt.053 holds no amount of that size
PERIOD = Window(1_000, 2_000)


def small(**changed: object) -> Report:
    """Every kind of value stands somewhere: the largest amount, nothing, text that begins with `=`."""
    values: dict[str, Any] = {
        "flows": (*FLOWS, Flow(VAULT, "suspense:in", ETH.id, "log", False, HUGE)),
        "balance_checks": (*CHECKS, BalanceCheck(VAULT, ETH.id, None)),
        "breaks": (open_break(subject="=1+1"), open_break(break_id=2, asset=None, amount=None)),
        "checks": (CheckCount("balance", "main", "agreed", None, 3),),
        **changed,
    }
    return assemble(facts(**values), Origin("0.1.0", None, "00" * 32))


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await write(small(), tmp_path / "report", TABULAR)
    return tmp_path / "report"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"csv/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_write__every_format__every_file_in_the_manifest(folder: Path):
    manifest = json.loads((folder / MANIFEST).read_bytes())
    files = {file["path"]: file for file in manifest["files"]}
    assert files.keys() | {MANIFEST} == contents(folder).keys()
    assert len(files) == 4 + 2 * len(TABLES)
    content = (folder / "csv/roll_forward.csv").read_bytes()
    assert files["csv/roll_forward.csv"] == {
        "path": "csv/roll_forward.csv",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "rows": 4,
    }
    assert manifest["chains"][0]["cut_off"] == {"number": 9, "hash": "0x" + "01" * 32, "timestamp": 1_000}
    assert (manifest["period"], manifest["verdict"], manifest["config_sha256"]) == (None, "breaks", "00" * 32)


async def test_write__twice__same_bytes_in_every_file(folder: Path, tmp_path: Path):
    await write(small(), tmp_path / "again", TABULAR)
    assert contents(folder) == contents(tmp_path / "again")


async def test_write__fewer_formats_than_before__leaves_nothing_of_the_last_report(folder: Path):
    (folder / "notes.txt").write_text("a person's")
    await write(small(), folder, ("csv",))
    tables = (f"csv/{each.name}.csv" for each in TABLES)
    assert contents(folder).keys() == {"notes.txt", MANIFEST, "report.json", "README.txt", *tables}


async def test_csv__largest_amount__every_digit(folder: Path):
    (row,) = [row for row in table(folder, "movements") if row["asset"] == ETH.id and row["debit"] == VAULT]
    assert (row["amount"], row["symbol"], row["decimals"]) == (str(HUGE), "ETH", "18")
    rows = {(row["account"], row["symbol"]): row for row in table(folder, "roll_forward")}
    assert (rows[VAULT, "ETH"]["closing"], rows[VAULT, "ETH"]["on_chain"]) == (str(HUGE), "")
    assert (rows[VAULT, "USDX"]["closing"], rows[VAULT, "USDX"]["difference"]) == ("80", "0")


async def test_csv__text_that_a_spreadsheet_would_run__has_an_apostrophe(folder: Path):
    first, second = table(folder, "breaks")
    assert (first["subject"], first["asset"], first["opened_at"]) == ("'=1+1", USDX.id, "1970-01-01T00:23:20Z")
    assert (second["asset"], second["amount"]) == ("", "")


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", 'a "b", c', "\r=1", "", "\tx"])
def test_csv__text_of_a_person__one_row_whatever_it_is(text: str):
    document = json.loads(render_json(small(breaks=(open_break(subject=text),))))
    (table,) = (each for each in TABLES if each.name == "breaks")
    header, *rows = csv.reader(io.StringIO(csv_text(table, document), newline=""), strict=True)
    (row,) = rows
    assert len(row) == len(header)
    found = dict(zip(header, row, strict=True))["subject"]
    assert found.removeprefix("'") == text.replace("\r\n", "\n").replace("\r", "\n")
    assert not found.startswith(("=", "\t", "\n"))


async def test_parquet__same_values__typed_and_never_a_float(folder: Path):
    for each in TABLES:
        found = pyarrow.parquet.ParquetFile(folder / f"parquet/{each.name}.parquet").read()
        kinds = {column.name: column.kind for column in each.columns}
        assert found.column_names == list(kinds)
        assert not [field for field in found.schema if pa.types.is_floating(field.type)]
        assert all(found.schema.field(name).type == pa.string() for name in kinds if kinds[name] is Kind.ATOMS)
        assert found.schema.field(found.column_names[0]).metadata[b"meaning"]
    amounts = pyarrow.parquet.read_table(folder / "parquet/movements.parquet").column("amount").to_pylist()
    assert amounts == [row["amount"] for row in table(folder, "movements")]
    assert str(HUGE) in amounts


async def test_readme__every_column__with_type_and_meaning(folder: Path):
    text = (folder / "README.txt").read_text()
    for each in TABLES:
        for column in each.columns:
            assert re.search(rf"^    {column.name}\??  *{column.kind.value}  *\S", text, re.MULTILINE), column.name


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("parquet", "pyarrow", "bridge[claims]"), ("pdf", "typst", "bridge[pdf]")]
)
async def test_write__without_what_a_format_needs__names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=re.escape(extra)):
        await write(small(), tmp_path / "report", (name,))
    assert contents(tmp_path) == {}


# ── Checking a folder ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("changed", [{}, {"period": PERIOD, "earlier": FLOWS}])
async def test_check__as_it_was_written__no_problem(tmp_path: Path, changed: dict[str, object]):
    await write(small(**changed), tmp_path, TABULAR)
    checked = check_folder(tmp_path)
    assert (checked.problems, checked.notes, checked.files) == ((), (), 4 + 2 * len(TABLES))


async def test_check__real_rows__no_problem(database: Database, tmp_path: Path):
    await build_world(database)
    await write(await report(database), tmp_path, TABULAR)
    assert check_folder(tmp_path).problems == ()


def rehash(folder: Path) -> None:
    """A forger makes the manifest fit."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for file in manifest["files"]:
        content = (folder / file["path"]).read_bytes()
        file |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def replace(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def test_check__byte_changed__file_named(folder: Path):
    replace(folder / "report.html", "Roll-forward", "Roll-backward")
    hashed, compared = check_folder(folder).problems
    assert hashed.startswith("report.html: was changed: its sha256 is ")
    assert compared.startswith("report.html: is not what report.json says, from line ")


@pytest.mark.parametrize("name", ["report.html", "report.pdf", "README.txt"])
def test_check__page_changed_and_manifest_made_to_fit__page_named(folder: Path, name: str):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"0", b"1", 1) if name != "report.pdf" else content.replace(b"endobj", b"endobJ", 1)
    )
    rehash(folder)
    (problem,) = check_folder(folder).problems
    assert problem.startswith(f"{name}: is not what report.json says")


async def test_check__made_by_another_version__noted_and_its_pages_are_not_compared(tmp_path: Path):
    old = dataclasses.replace(small(), origin=Origin("0.0.1", "ab" * 32, None))
    await write(old, tmp_path, ("html",))
    replace(tmp_path / "report.html", "Roll-forward", "Roll-backward")
    rehash(tmp_path)
    checked = check_folder(tmp_path)
    assert checked.problems == ()
    assert ["another version of this program" in note for note in checked.notes] == [True]


def test_check__pdf_without_typst__noted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "bridge.stages.report_pdf", raising=False)
    monkeypatch.setitem(sys.modules, "typst", None)
    checked = check_folder(folder)
    assert checked.problems == ()
    assert checked.notes == ("report.pdf was checked by its sha256 alone: making it again needs typst (bridge[pdf])",)


async def test_check__everything_happens_in_it__whole_and_read_back_as_it_was(tmp_path: Path):
    said: list[str] = []
    await write(rich_report(), tmp_path, (*TABULAR, "camt053"), progress=said.append)
    assert check_folder(tmp_path).problems == ()
    assert report_of(json.loads((tmp_path / "report.json").read_bytes())) == rich_report()
    assert said[0] == f"writing report.html (1 of {len(said)})"
    history = table(tmp_path, "break_history")
    assert [row["to_state"] for row in history if row["break"] == "5"] == ["open", "assigned", "resolved"]
    assert len(table(tmp_path, "trend")) == 24 * 6 - 4


CLUSTER = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"


def of_cluster(genesis: bytes, cut_off: bytes) -> tuple[ChainScope, ...]:
    """The chain of a small report, as one that writes hashes in base58."""
    [chain] = facts().chains
    assert chain.cut_off is not None
    cut = dataclasses.replace(chain.cut_off, hash=cut_off)
    return (dataclasses.replace(chain, reference=CLUSTER, genesis_hash=genesis, cut_off=cut),)


async def test_check__chain_that_writes_base58__read_back_and_whole(tmp_path: Path):
    genesis, cut_off, seen = (hash_of(bytes([n]) * 32, CLUSTER) for n in (7, 8, 9))
    made = small(chains=of_cluster(genesis, cut_off), breaks=(open_break(block_hash=seen),))
    await write(made, tmp_path, TABULAR)
    assert check_folder(tmp_path).problems == ()
    document = json.loads((tmp_path / "report.json").read_text())
    assert report_of(document) == made
    [chain], [first] = table(tmp_path, "chains"), table(tmp_path, "breaks")
    assert (chain["genesis_hash"], chain["cut_off_hash"], first["block_hash"]) == tuple(
        map(base58, (genesis, cut_off, seen))
    )
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert (manifest["format"], manifest["chains"][0]["cut_off"]["hash"]) == ("bridge.report/3", base58(cut_off))
    page = (tmp_path / "report.html").read_text()
    assert f'title="{base58(cut_off)}"' in page
    assert cut_off.hex() not in page


async def of_an_older_format(directory: Path, number: int) -> None:
    """As it was written when nothing told what is held; in the first, all hashes were hex, whatever the chain."""
    made = small(chains=of_cluster(bytes([7]) * 32, bytes([8]) * 32) if number == 1 else small().chains)
    await write(dataclasses.replace(made, origin=Origin("0.1.0", "11" * 32, None)), directory, TABULAR)
    path = directory / "report.json"
    document = json.loads(path.read_text())
    del document["held"]
    for row in (*document["waterfalls"], *document["pending"]):
        del row["held"], row["given_up"]
    path.write_text(json.dumps(document))
    for kind in ("csv", "parquet"):
        (directory / kind / f"held.{kind}").unlink()
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    files = [file for file in manifest["files"] if "/held." not in file["path"]]
    for file in files:
        content = (directory / file["path"]).read_bytes()
        file |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    path.write_text(json.dumps(manifest | {"format": f"bridge.report/{number}", "files": files}))


@pytest.mark.parametrize("number", [1, 2])
async def test_check__report_of_an_older_format__whole_and_what_was_not_looked_at_is_said(number: int, tmp_path: Path):
    await of_an_older_format(tmp_path, number)
    checked = check_folder(tmp_path)
    assert checked.problems == ()
    assert checked.notes == (
        f"the tables were checked by sha256 alone: the report has the format bridge.report/{number}",
        "the report was made by another version of this program: its pages were checked by sha256 alone",
    )


async def test_check__older_report_whose_sums_or_files_were_changed__named(tmp_path: Path):
    await of_an_older_format(tmp_path, 2)
    path = tmp_path / "report.json"
    document = json.loads(path.read_text())
    [fall, *_] = document["waterfalls"]
    fall["in_flight"] = str(int(fall["in_flight"]) + 1)
    path.write_text(json.dumps(document))
    (tmp_path / "csv/gas.csv").write_text("")
    problems = check_folder(tmp_path).problems
    assert any("csv/gas.csv: is 0 of" in problem for problem in problems)
    assert any("report.json: was changed" in problem for problem in problems)
    assert any("in_flight" in problem and "waterfall of" in problem for problem in problems)


def test_check__hash_in_no_form__named(folder: Path):
    path = folder / "report.json"
    path.write_text(path.read_text().replace("0x" + "01" * 32, "0X" + "01" * 32))
    assert any("is not a report of this version" in problem for problem in check_folder(folder).problems)


def test_check__file_gone_or_added__named(folder: Path):
    (folder / "csv/gas.csv").unlink()
    (folder / "csv/more.csv").write_text("")
    assert check_folder(folder).problems == (
        "csv/gas.csv: cannot be read: No such file or directory",
        "csv/more.csv: is not in the manifest",
    )


def test_check__row_changed_and_manifest_made_to_fit__row_and_column_named(folder: Path):
    replace(folder / "csv/movements.csv", ",60\n", ",61\n")
    rehash(folder)
    assert check_folder(folder).problems == ("csv/movements.csv: row 7: amount is '61', by report.json '60'",)


def test_check__tail_cut__said_so_with_and_without_the_manifest(folder: Path):
    path = folder / "csv/movements.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    tail = "csv/movements.csv: has 10 of 12 rows: its tail is missing"
    short, rows = check_folder(folder).problems
    assert re.fullmatch(r"csv/movements.csv: is [\d,]+ of [\d,]+ bytes long: something is missing", short)
    assert rows == tail
    rehash(folder)
    assert check_folder(folder).problems == (tail,)


def test_check__parquet_row_changed__row_and_column_named(folder: Path):
    path = folder / "parquet/gas.parquet"
    found = pyarrow.parquet.read_table(path)
    changed = found.set_column(1, found.schema.field(1), pa.array([2], pa.int64()))
    pyarrow.parquet.write_table(changed, path)
    rehash(folder)
    assert check_folder(folder).problems == ("parquet/gas.parquet: row 1: transactions is 2, by report.json 1",)
    path.write_bytes(path.read_bytes()[:-20])
    assert any(problem.startswith("parquet/gas.parquet: cannot be read") for problem in check_folder(folder).problems)


def test_check__parquet_without_pyarrow__noted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "bridge.stages.report_files.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    checked = check_folder(folder)
    assert checked.problems == ()
    assert [note for note in checked.notes if "pyarrow" in note] == list(checked.notes) != []


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> tuple[str, ...]:
    """Change report.json, make tables and manifest fit, and look."""
    document = json.loads((folder / "report.json").read_bytes())
    change(document)
    (folder / "report.json").write_text(json.dumps(document))
    for each in TABLES:
        with contextlib.suppress(TypeError):  # what no table has
            (folder / f"csv/{each.name}.csv").write_text(csv_text(each, document))
        (folder / f"parquet/{each.name}.parquet").unlink()
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"] = [file for file in manifest["files"] if not file["path"].startswith("parquet")]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    rehash(folder)
    return check_folder(folder).problems


def _closing(document: dict[str, Any]) -> None:
    document["roll_forward"][2]["closing"] = "81"


def _movement(document: dict[str, Any]) -> None:
    document["movements"][1]["amount"] = "101"


def _cut_off(document: dict[str, Any]) -> None:
    document["chains"][0]["cut_off"]["number"] = 10


def _row(document: dict[str, Any]) -> None:
    del document["roll_forward"][-1]


def _verdict(document: dict[str, Any]) -> None:
    document["verdict"] = "balanced"


def _paid(document: dict[str, Any]) -> None:
    fall = document["waterfalls"][-1]
    fall["paid"], fall["in_flight"] = "70", "10"


def _held(document: dict[str, Any]) -> None:
    for table in ("waterfalls", "pending"):
        row = document[table][-1]
        row["held"], row["in_flight"] = "5", str(int(row["in_flight"]) - 5)


def _float(document: dict[str, Any]) -> None:
    document["roll_forward"][0]["closing"] = 10.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_closing, "roll_forward row 3, vault:0x01 in USDX: opening .* = 80, but closing is 81"),
        (_movement, "roll_forward row 3, vault:0x01 in USDX: its movements = 101, but received is 100"),
        (_cut_off, "manifest.json: chains is not what report.json says"),
        (_row, "roll_forward has no row for vault:0x01 in .*, which moved"),
        (_verdict, "the verdict is `balanced` though a break is open"),
        (_paid, "waterfall of USDX: its movements = 60, but paid is 70"),
        (_held, "waterfall of USDX: batches held = 0, but held is 5"),
        (_float, "report.json: is not a report of this version: .*10.0 is no whole number"),
    ],
)
def test_check__report_forged_with_all_its_tables__sum_named(
    folder: Path, change: Callable[[dict[str, Any]], None], said: str
):
    assert [problem for problem in forge(folder, change) if re.search(said, problem)]


def test_check__manifest_that_leads_out_of_the_folder__refused(folder: Path):
    replace(folder / MANIFEST, '"csv/gas.csv"', '"csv/../../gas.csv"')
    (problem,) = check_folder(folder).problems
    assert "is no path in a report's folder" in problem


def test_check__no_report__says_what_to_name(tmp_path: Path):
    with pytest.raises(ConfigError, match="bridge report --out"):
        check_folder(tmp_path)


# ── Against the chain ───────────────────────────────────────────────────────────────────────────────────────────────
OURS, TOKEN = Address(b"\x01" * 20), AssetId("fake:fake/erc20:0x" + "aa" * 20)


@pytest.fixture
def chain() -> FakeChain:
    """Block 1 is the cut-off: our vault holds 80 then, and more later."""
    chain = FakeChain()
    chain.state["balance", OURS, TOKEN] = 80
    chain.mine()
    chain.state["balance", OURS, TOKEN] = 99
    chain.mine()
    return chain


def told_by(chain: FakeChain, **changed: Any) -> dict[str, Any]:
    """What a report says of it: two blocks, and one account."""
    first, cut, _ = (each.block for each in chain.blocks)
    asset, vault = Asset(TOKEN, "fake", None, "USDX", 6), f"vault:{format_address(OURS)}"
    scope = ChainScope("fake", "fake", "fake:fake", first.hash, 0, _cut(cut), 1, 0, 0, _cut(first))
    content = small(
        chains=(scope,), assets=(asset,), gas=(), decided={}, breaks=(), balance_checks=(),
        flows=(Flow(vault, "suspense:in", TOKEN, "log", False, 80),),
    )  # fmt: skip
    document: dict[str, Any] = json.loads(render_json(content))
    for name, value in changed.items():
        document["roll_forward"][0][name] = value
    return document


def _cut(block: Block) -> CutOff:
    return CutOff(block.number, block.hash, block.timestamp)


async def test_ask_chain__same_blocks_and_balances__no_problem(chain: FakeChain):
    assert await ask_chain(told_by(chain), FakeReader(chain)) == Asked(2, 1, ())


async def test_ask_chain__other_balance__named_with_both_figures(chain: FakeChain):
    held = f"vault:{format_address(OURS)} held 80 of {TOKEN} at block 1"
    asked = await ask_chain(told_by(chain, closing="81"), FakeReader(chain))
    assert asked.problems == (f"{held}, closing is 81",)
    asked = await ask_chain(told_by(chain, closing="80", on_chain="81"), FakeReader(chain))
    assert asked.problems == (f"{held}, on_chain is 81",)


async def test_ask_chain__report_that_says_that_books_differ__as_on_the_chain(chain: FakeChain):
    document = told_by(chain, closing="81", on_chain="80", difference="-1")
    assert (await ask_chain(document, FakeReader(chain))).problems == ()


async def test_ask_chain__block_was_never_part_of_it__named_and_no_balance_asked(chain: FakeChain):
    document = told_by(chain)
    chain.fork(2)
    chain.mine()
    asked = await ask_chain(document, FakeReader(chain))
    assert (asked.blocks, asked.balances) == (2, 0)
    (problem,) = asked.problems
    assert re.fullmatch("block 1 of fake: its hash is 0x[0-9a-f]{64}, by the report 0x[0-9a-f]{64}", problem)
    document["chains"][0]["cut_off"]["number"] = 9
    assert (await ask_chain(document, FakeReader(chain))).problems == ("block 9 of fake: fake has 2 blocks only",)


async def test_ask_chain__another_chain__nothing_asked(chain: FakeChain):
    document = told_by(chain)
    document["chains"][0]["reference"] = "eip155:1"
    assert await ask_chain(document, FakeReader(chain)) == Asked(0, 0, ())


async def test_ask_chain__account_without_an_address__named(chain: FakeChain):
    (problem,) = (await ask_chain(told_by(chain, account="vault:us"), FakeReader(chain))).problems
    assert problem.startswith("vault:us or ")


async def test_ask_chain__hash_in_base58__the_same_hash(chain: FakeChain):
    document = told_by(chain)
    for name in ("opening", "cut_off"):
        stamp = document["chains"][0][name]
        stamp["hash"] = base58(bytes.fromhex(stamp["hash"][2:]))
    assert await ask_chain(document, FakeReader(chain)) == Asked(2, 1, ())
