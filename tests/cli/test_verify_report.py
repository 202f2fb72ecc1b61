"""`bridge verify DIR` as whoever got a report types it: without configuration, database or node."""

from pathlib import Path

import pytest

from bridge.stages.report import write
from tests.cli.program import bridge
from tests.stages.test_report_files import small


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await write(small(), tmp_path / "2026-11", ("html", "csv"))
    return tmp_path / "2026-11"


def test_verify__whole_folder__says_what_it_is_about(folder: Path):
    run = bridge("verify", folder)
    assert (run.returncode, run.stderr) == (0, "")
    first, *_, last = run.stdout.splitlines()
    assert first == "Books and chain do not agree: 2 breaks open."
    assert f"main        eip155:1, block 9 0x{'01' * 32}" in run.stdout
    assert "not asked: give --rpc URL" in run.stdout
    assert last == "whole"


def test_verify__row_changed__named_and_exits_1(folder: Path):
    path = folder / "csv/movements.csv"
    path.write_text(path.read_text().replace(",60\n", ",61\n", 1))
    run = bridge("verify", folder)
    assert run.returncode == 1
    assert "NOT whole: csv/movements.csv: was changed" in run.stdout
    assert "NOT whole: csv/movements.csv: row 7: amount is '61', by report.json '60'" in run.stdout


def test_verify__report_json_is_no_report__said_without_a_stack_trace(folder: Path):
    (folder / "report.json").write_text("[]")
    run = bridge("verify", folder)
    assert (run.returncode, run.stderr) == (1, "")
    assert "NOT whole: report.json: is not a report of this version" in run.stdout


def test_verify__folder_with_an_option_of_decisions__refused(folder: Path):
    run = bridge("verify", folder, "--trust-carried")
    assert (run.returncode, run.stdout) == (2, "")
    assert "--trust-carried: is about a decision" in run.stderr


def test_verify__folder_that_is_no_report__says_what_to_name(tmp_path: Path):
    run = bridge("verify", tmp_path)
    assert run.returncode == 2
    assert "name the folder that `bridge report --out` wrote" in run.stderr
