"""A backtest leaves what the daemon would have decided, as tables, records and a page."""

import csv
import hashlib
import json
from pathlib import Path
from typing import cast

import pytest

from bridge.domain.errors import ConfigError, StateUnavailable
from bridge.domain.ledger import Asset
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.reading import ChainReader
from bridge.replay.backtest import backtest, block_from
from bridge.replay.backtest_html import render_html
from bridge.replay.backtest_outcome import Contest, Outcome, Plot, Progress, Tally
from bridge.runtime.rulefile import parse_rule
from bridge.stages.binding import BoundRule, bind_rules
from tests.stages.deciding import ALICE, BOB, BUFFER, CONTRACTS, FEES, TOKENS
from tests.stages.history import LivelyChain, ScriptedHistory, populate

USDX = Asset(TOKENS["USDX"].asset, "test", TOKENS["USDX"].address, "USDX", 2)
CAPPED = FEES.replace("split:", "guardrails: {cap_per_epoch: 500}\nsplit:").replace("version: 1", "version: 2")


def bound(chain: LivelyChain, *texts: str) -> list[BoundRule]:
    plans = [parse_rule(text, name="rule.yaml") for text in texts]
    return list(bind_rules(plans, chain=chain.reader, contracts=CONTRACTS, tokens=TOKENS))


async def run(chain: LivelyChain, contest: Contest, out: Path, *, width: int = 7, first: int = 0) -> Outcome:
    fresh(out)
    plot = Plot(chain.at(first), chain.at(chain.final))
    history = ScriptedHistory(chain, width)
    return await backtest(contest, plot, chain=chain.reader, history=history, asset=USDX, out=out)


def fresh(out: Path) -> None:
    out.mkdir(exist_ok=True)


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def chain() -> LivelyChain:
    return small_history()


def small_history() -> LivelyChain:
    """Two windows of fees, one without, and one whose weights nobody can know."""
    chain = LivelyChain()
    chain.deposit(0, ALICE, 10)
    chain.deposit(5, BOB, 10)
    chain.fee(3, 90)
    chain.fee(12, 1000)
    chain.fee(31, 5)
    chain.withdraw(35, BOB, 11)  # of 10
    chain.final = 40
    return chain


async def test_backtest__a_rule__every_file_says_the_same(chain: LivelyChain, tmp_path: Path):
    (rule,) = bound(chain, FEES)
    outcome = await run(chain, Contest(rule), tmp_path)
    assert names(tmp_path) == [*("decisions.json", "epochs.csv", "index.html", "payouts.csv", "summary.json")]
    epochs = rows(tmp_path / "epochs.csv")
    assert [(each["window_end"], each["verdict"], each["total"]) for each in epochs] == [
        *(("1100", "pay", "90"), ("1200", "pay", "1000"), ("1300", "nothing", "0"), ("1400", "hold", "0"))
    ]
    assert [(each["window_end"], each["recipient"], each["amount"]) for each in rows(tmp_path / "payouts.csv")] == [
        ("1100", "0x" + ALICE.hex(), "60"),
        ("1100", "0x" + BOB.hex(), "30"),
        ("1200", "0x" + ALICE.hex(), "500"),
        ("1200", "0x" + BOB.hex(), "500"),
    ]
    lines = (tmp_path / "decisions.json").read_bytes().splitlines()[1:-1]
    ids = ["0x" + hashlib.sha256(line.removesuffix(b",")).hexdigest() for line in lines]
    assert ids == [each["decision"] for each in epochs]
    assert [told["total"] for told in json.loads((tmp_path / "decisions.json").read_text())] == [
        each["total"] for each in epochs
    ]
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["rule"]["verdicts"] == {"pay": 2, "carry": 0, "nothing": 1, "hold": 1}
    assert (told["rule"]["total"], told["rule"]["epochs"], told["logs"]) == ("1090", 4, outcome.logs)
    page = (tmp_path / "index.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "took an account below zero" in page  # the held epoch says why


async def test_backtest__again_in_other_ranges__same_bytes(chain: LivelyChain, tmp_path: Path):
    (rule,), (other,) = bound(chain, FEES), bound(chain, CAPPED)
    for name, width in (("one", 1), ("two", 1000)):
        await run(chain, Contest(rule, other), tmp_path / name, width=width)
    files = names(tmp_path / "one")
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


async def test_backtest__against_another_version__differences_by_epoch_and_recipient(
    chain: LivelyChain, tmp_path: Path
):
    (rule,), (other,) = bound(chain, CAPPED), bound(chain, FEES)
    outcome = await run(chain, Contest(rule, other), tmp_path)
    assert [(each["window_end"], each["total"], each["total_against"]) for each in _table(tmp_path, "epoch")] == [
        *(("1200", "500", "1000"), ("1300", "500", "0"))
    ]
    assert [tuple(each.values()) for each in _table(tmp_path, "payout")][:2] == [
        ("1200", "0x" + ALICE.hex(), "250", "500", "-250"),
        ("1200", "0x" + BOB.hex(), "250", "500", "-250"),
    ]
    assert outcome.differing == 2
    assert outcome.compared() == []  # what was capped is paid later, so in all everybody gets the same
    assert "cap_per_epoch" in (tmp_path / "index.html").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["rule"]["guardrails"] == {
        "cap_per_epoch": {"limited": 1}
    }


def _table(out: Path, kind: str) -> list[dict[str, str]]:
    return rows(out / f"{kind}_differences.csv")


async def test_backtest__a_rule_that_asks_what_others_owe__is_replayed_with_them(chain: LivelyChain, tmp_path: Path):
    chain.held = 2000
    buffer, fees = sorted(bound(chain, BUFFER, FEES), key=lambda rule: rule.name, reverse=True)
    alone = await run(chain, Contest(buffer), tmp_path / "alone")
    together = await run(chain, Contest(buffer, companions=[fees]), tmp_path / "together")
    first, second = (outcome.tally.newest[0].surplus for outcome in (alone, together))
    assert first - second == 90  # what the other has decided in the first window
    assert together.companions == ("fees",)


async def test_backtest__old_states_are_gone__says_which_block_and_the_mend(chain: LivelyChain, tmp_path: Path):
    class Pruned(LivelyChain):
        async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
            raise StateUnavailable(f"no endpoint has the state of {at}")

    (buffer,) = bound(chain, BUFFER)
    pruned = Pruned()
    pruned.final = chain.final
    tmp_path.joinpath("index.html").write_text("the last good one")
    with pytest.raises(ConfigError, match=r"state of test#9\(.*\n  mend: use an archive node, or a later --from"):
        await run(pruned, Contest(buffer), tmp_path)
    assert names(tmp_path) == ["index.html"]
    assert tmp_path.joinpath("index.html").read_text() == "the last good one"


async def test_backtest__long_history__keeps_the_newest_epochs_only(tmp_path: Path):
    chain = LivelyChain()
    populate(chain, 1, 1000)
    (rule,) = bound(chain, FEES.replace("every: 100 s", "every: 10 s"))
    said: list[Progress] = []
    outcome = await backtest(
        Contest(rule),
        Plot(chain.at(0), chain.at(chain.final)),
        chain=chain.reader,
        history=ScriptedHistory(chain, 50),
        asset=USDX,
        out=tmp_path,
        tell=said.append,
    )
    assert (outcome.tally.epochs, len(outcome.tally.newest)) == (999, 60)
    assert [each.block for each in said] == list(range(49, 1000, 50))
    assert len(rows(tmp_path / "epochs.csv")) == 999
    assert "The newest 60 of 999 epochs" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("second", "number"), [(0, 0), (1000, 0), (1001, 1), (1010, 1), (1011, 2), (1395, 40), (1400, 40)]
)
async def test_block_from__second__the_first_block_that_has_it(chain: LivelyChain, second: int, number: int):
    found = await block_from(cast("ChainReader", chain), second, chain.at(40))
    assert found.number == number


def test_page__text_from_a_rule__is_escaped(chain: LivelyChain):
    (rule,) = bound(chain, FEES.replace("fees of 100 s by deposits", '"<script>alert(1)</script>"'))
    outcome = Outcome(Plot(chain.at(0), chain.at(1)), USDX, 0, Tally(rule), None, ())
    page = render_html(outcome)
    assert "<script>" not in page
    assert "No epoch ended in this part of history." in page
