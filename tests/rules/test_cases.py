"""Every golden case of every shipped rule: events in, decision out. `bridge rules test` runs the same."""

import json
import shutil
from pathlib import Path

import pytest

from bridge.domain.errors import ConfigError
from bridge.runtime.rulefile import load_rule
from bridge.stages.cases import run_case, run_folder

RULES = Path(__file__).resolve().parents[2] / "rules"
CASES = sorted(RULES.glob("*/cases/*.json"))
FOLDERS = sorted(path.parent for path in RULES.glob("*/rule.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_case__events_in__decision_out(path: Path):
    result = run_case(load_rule(path.parents[1] / "rule.yaml"), path)
    assert result.differences == ()
    assert result.windows == len(json.loads(path.read_text())["windows"])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_rule_folder__shipped__is_complete(folder: Path):
    plan = load_rule(folder / "rule.yaml")
    assert plan.rule.name == folder.name
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")
    assert len(list((folder / "cases").glob("*.json"))) >= 5


# ── A case that is wrong ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped rule without its cases."""
    shutil.copy(RULES / "fee_window/rule.yaml", tmp_path)
    (tmp_path / "cases").mkdir()
    return tmp_path


def write(folder: Path, case: object) -> None:
    (folder / "cases/one.json").write_text(json.dumps(case))


DAY = {
    "accounts": {"alice": "0x" + "a1" * 20},
    "windows": [
        {
            "events": [["deposit", 0, {"account": "alice", "amount": "5"}], ["fee", 9, {"amount": "2000000"}]],
            "expect": {"verdict": "pay", "pays": {"alice": "2000000"}},
        }
    ],
}


def test_case__as_expected__passes(folder: Path):
    write(folder, DAY)
    (result,) = run_folder(folder)
    assert result.passed


def test_case__other_than_expected__each_difference_with_its_path(folder: Path):
    wrong = json.loads(json.dumps(DAY))
    wrong["windows"][0]["expect"] |= {"total": "1", "pays": {"alice": "1999999", "bob": "1"}}
    write(folder, wrong)
    (result,) = run_folder(folder)
    assert not result.passed
    assert [(each.window, each.path, each.expected, each.found) for each in result.differences] == [
        (0, "pays.alice", "1999999", "2000000"),
        (0, "pays.bob", "1", None),
        (0, "total", "1", "2000000"),
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"windows": []}, "is no case"),
        ({"window": []}, "unknown key `window`"),
        ({"windows": [{"event": []}]}, r"unknown key `windows\[0\]\.event`"),
        ({"windows": [{"events": [["fees", 0, {}]]}]}, r"windows\[0\]\.events\[0\]: unknown event `fees`"),
        ({"windows": [{"events": [["fee", 0, {"amout": "1"}]]}]}, "the event `fee` has no field `amout`"),
        ({"windows": [{"events": [["fee", 0, {"amount": "1.5"}]]}]}, "'1.5' is no whole number"),
        ({"windows": [{"events": [["deposit", 0, {"account": "carol"}]]}]}, "'carol' is neither a name nor an address"),
        ({"windows": [{"events": [["fee", "0", {}]]}]}, r"an event is \[name, seconds into the window, fields\]"),
        ({"windows": [{"reads": {"asset": "1"}}]}, "unknown input `asset`"),
        ({"windows": [{"expect": {"paid": {}}}]}, "`paid` is nothing that a decision has"),
    ],
)
def test_case__makes_no_sense__says_where(folder: Path, change: dict[str, object], problem: str):
    write(folder, DAY | change)
    with pytest.raises(ConfigError, match=problem) as refused:
        run_folder(folder)
    assert str(folder / "cases/one.json") in str(refused.value)


def test_case__no_json__says_line_and_column(folder: Path):
    (folder / "cases/one.json").write_text('{"windows": [\n  {,}\n]}')
    with pytest.raises(ConfigError, match=r"one\.json:2:4: is not valid JSON"):
        run_folder(folder)
