"""Every golden case of every shipped rule: events in, decision out. `bridge rules test` runs the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.errors import ConfigError
from bridge.domain.units import base58
from bridge.replay.cases import run_case, run_folder
from bridge.runtime.rulefile import load_rule

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
    assert len(list((folder / "cases").glob("*.json"))) >= 7


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_rule_folder__shipped__no_window_pays_without_limit(folder: Path):
    """One answer of a contract or one event that cannot be true is not paid in full, and a case shows it."""
    limits = load_rule(folder / "rule.yaml").rule.guardrails
    cases = [json.loads(path.read_text()) for path in (folder / "cases").glob("*.json")]
    expected = [window.get("expect", {}) for case in cases for window in case["windows"]]
    if limits.cap_per_epoch is None:  # where what is carried would go to the wrong ones, a person is asked
        assert limits.approve_above is not None
        assert any(each.get("guardrails", {}).get("approve_above") == "asks" for each in expected)
    else:
        assert (folder / "cases/cap_hit.json").is_file()
        assert any(each.get("guardrails", {}).get("cap_per_epoch") == "limited" for each in expected)


def test_run_folder__addresses_of_another_kind_of_chain__every_case_as_before(tmp_path: Path):
    """A shipped rule with the addresses of a chain that writes base58 in its text and in its cases."""
    folder = tmp_path / "reserve_buffer"
    shutil.copytree(RULES / "reserve_buffer", folder)
    for path in (folder / "rule.yaml", *folder.glob("cases/*.json")):
        text = path.read_text()
        for end in ("a1", "b2"):
            text = text.replace(f"0x{'0' * 38}{end}", base58(bytes.fromhex(end) * 32))
        path.write_text(text)
    results = run_folder(folder)
    assert len(results) > 7
    assert [result.name for result in results if not result.passed] == []


# ── A case that is wrong ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped rule without its cases."""
    shutil.copy(RULES / "fee_window/rule.yaml", tmp_path)
    (tmp_path / "cases").mkdir()
    return tmp_path


def write(folder: Path, case: object) -> None:
    (folder / "cases/one.json").write_text(json.dumps(case))


DAY: dict[str, Any] = {
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
        ({"windows": [{"events": [["fee", 86_400, {}]]}]}, "the window lasts 86400 s: second 86400 is of a later one"),
        (
            {"windows": [{}, {"events": [["fee", -1, {}]]}]},
            r"windows\[1\].*: an event lies in its window, or before the f",
        ),
        ({"windows": [{"events": [["fee", -(10**12), {}]]}]}, "an event lies in its window, or before the first one"),
        ({"windows": [{"events": [["fee", 0, []]]}]}, r"an event is \[name, seconds into the window, fields\]"),
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


# ── What a case can say ─────────────────────────────────────────────────────────────────────────────────────────────
FEED = """
window: {every: 1 day}
inputs:
  held: {balance: {of: vault, token: WETH}}
  price: {price: {feed: first_feed, base: WETH, quote: USDX, base_decimals: 18, quote_decimals: 6, max_age: 1 hour}}
"""
SECOND = "max_age: 1 hour, second: {http: second_market, max_age: 1 min}, deviation: 100 bps}}"
GOOD = {"answer": "200000000000", "decimals": 8, "age": 0}


def run(folder: Path, rule: str, *windows: object) -> list[tuple[int, str, object, object]]:
    """The differences of one case of a rule that is written around `rule`."""
    head = "rule: made_up\nversion: 1\ndescription: a rule\nasset: USDX\n"
    tail = "split: {shares: [{to: 0x00000000000000000000000000000000000000a1, bps: 10000}]}\n"
    (folder / "rule.yaml").write_text(head + rule.strip() + "\n" + tail)
    write(folder, {"windows": windows})
    (result,) = run_folder(folder)
    return [(each.window, each.path, each.expected, each.found) for each in result.differences]


def priced(price: object, **expect: object) -> object:
    return {"reads": {"held": "5", "price": price}, "expect": expect}


PRICED = FEED + "surplus: value(held, price)\ncarry: none\n"
TWICE = PRICED.replace("max_age: 1 hour}}", SECOND)
STALE = "price: round 1 is stale: it was 3601 s old, 3600 are allowed"


@pytest.mark.parametrize(
    ("rule", "said", "reason"),
    [
        (PRICED, GOOD, "no surplus"),
        (PRICED, GOOD | {"age": 3600}, "no surplus"),
        (PRICED, GOOD | {"age": 3601}, STALE),
        (PRICED, {"problem": "closed"}, "price: closed"),
        (TWICE, GOOD | {"second": GOOD}, "no surplus"),
        (TWICE, GOOD | {"second": GOOD | {"answer": "202000000000"}}, "no surplus"),
        (
            TWICE,
            GOOD | {"second": GOOD | {"answer": "202000000001"}},
            "price: the two sources are 101 bps apart, 100 are allowed",
        ),
        (
            TWICE,
            GOOD | {"second": GOOD | {"age": 61}},
            "price: second source: the market's price is 61 s away from the block, 60 are allowed",
        ),
    ],
)
def test_case__what_a_price_source_says__judged_as_in_production(
    folder: Path, rule: str, said: dict[str, object], reason: str
):
    assert run(folder, rule, priced(said, reason=reason)) == []


def test_case__price_in_its_own_unit__taken_as_it_is(folder: Path):
    assert (
        run(folder, PRICED, priced("2" + "0" * 36, surplus="10", inputs={"held": "5", "price": "2" + "0" * 36})) == []
    )


@pytest.mark.parametrize(
    ("rule", "said", "problem"),
    [
        (PRICED, {"answer": "1"}, "what a source says is age, answer, decimals"),
        (PRICED, GOOD | {"second": GOOD}, "is given where the rule has a second source, and there alone"),
        (TWICE, GOOD, "is given where the rule has a second source, and there alone"),
        (TWICE, GOOD | {"second": "1"}, "second: what a source says is age, answer, decimals"),
        (PRICED, GOOD | {"age": "soon"}, r"reads\.price\.age: 'soon' is no whole number"),
    ],
)
def test_case__price_source_that_makes_no_sense__says_where(
    folder: Path, rule: str, said: dict[str, object], problem: str
):
    with pytest.raises(ConfigError, match=problem):
        run(folder, rule, priced(said))


BY_SOLVER = """
window: {each: settled}
events:
  settled: {contract: book, event: "Settled()"}
  imbalance: {contract: book, event: "Imbalance(address solver, int256 amount)", units: {amount: amount<USDX>}}
inputs:
  due: {sums: {of: imbalance.amount, by: solver}}
values: {short: overdraft(due)}
surplus: total(due)
carry: surplus
guardrails: {approve_above: 4}
"""


def test_case__approval_overdraft_value__can_be_expected(folder: Path):
    window = {
        # The events are counted in the order of their seconds, and the first that ends the window ends it.
        "events": [
            ["settled", 9, {}],
            ["imbalance", 8, {"solver": "vault", "amount": "5"}],
            ["imbalance", 7, {"solver": "OTHER", "amount": "-3"}],
        ],
        "expect": {
            "approval": "5 is above approve_above of 4",
            "values": {"short": "3"},
            "overdrafts": {"due": "3"},
            "tables": {"due": {"vault": "5"}},
            "counted_from": 0,
        },
    }
    assert run(folder, BY_SOLVER, window) == []


def test_case__event_after_the_one_that_ends_the_window__refused(folder: Path):
    with pytest.raises(ConfigError, match="the window lasts 10 s: second 10 is of a later one"):
        run(folder, BY_SOLVER, {"events": [["settled", 10, {}], ["settled", 9, {}]]})


def test_case__window_held_without_a_result__counted_with_the_next(folder: Path):
    rule = """
window: {every: 1 hour}
events:
  fee: {contract: vault, event: "FeePaid(uint256 amount)", units: {amount: amount<USDX>}}
inputs:
  fees: {sum: fee.amount}
  cost: {read: {contract: book, function: total(), returns: amount<USDX>}}
surplus: fees - cost
carry: surplus
"""
    fee = [["fee", 5, {"amount": "3"}]]
    held = {"events": fee, "reads": {"cost": {"problem": "closed"}}, "expect": {"verdict": "hold", "counted_from": 0}}
    paid = {"events": fee, "reads": {"cost": "1"}, "expect": {"surplus": "5", "counted_from": -3600}}
    assert run(folder, rule, held, paid) == []


def test_case__deposit_before_the_first_window__counts(folder: Path):
    before = [["deposit", -1, {"account": "vault", "amount": "1"}], ["fee", -1, {"amount": "7000000"}]]
    events = [*before, *DAY["windows"][0]["events"]]
    write(folder, DAY | {"windows": [{"events": events, "expect": {"surplus": "2000000", "events": {"fee": 1}}}]})
    (result,) = run_folder(folder)
    assert [(each.path, each.found) for each in result.differences] == [("events.deposit", 1), ("events.withdrawal", 0)]


def test_case__share_of_what_is_never_paid__stays_owed(folder: Path):
    events = [*DAY["windows"][0]["events"], ["deposit", 0, {"account": "distributor", "amount": "5"}]]
    expect = {"pays": {"alice": "1000000"}, "carries": {"distributor": "1000000"}}
    write(folder, DAY | {"windows": [{"events": events, "expect": expect}]})
    (result,) = run_folder(folder)
    assert result.passed
