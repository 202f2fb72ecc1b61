"""The main job from end to end: the real daemon, the real chain, the real database, and trouble on the way."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.errors import ConfigError
from bridge.runtime.config import load_config
from bridge.simulation.outcome import Outcome
from bridge.simulation.run import percentile
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.simulate import Order, Progress, refuse_foreign_endpoints, simulate
from bridge.stages.report_files.folder import check_folder

GENESIS = 1_800_000_000  # a multiple of every epoch's length below
EPOCH_S = 40


async def run(order: Order) -> Outcome:
    async def finished(outcome: Outcome) -> None:
        pass

    def watch(progress: Progress) -> None:
        pass

    return await simulate(order, watch, finished)


def order(directory: Path, **changes: Any) -> Order:
    directory.mkdir()
    plain = Order(
        directory / "sandbox",
        directory / "report",
        seed=11,
        epochs=2,
        reorgs=0,
        block_time_s=0.15,
        epoch_s=EPOCH_S,
        genesis_timestamp=GENESIS,
    )
    return replace(plain, **changes)


def paid(outcome: Outcome) -> list[dict[str, Any]]:
    """What was paid to whom for the epochs that were ordered. Not how: transactions, and the hashes of blocks that a
    decision names, are of one run. What a slow run decides beyond the last ordered epoch is a matter of its length."""
    ordered = GENESIS + (1 + outcome.epochs) * EPOCH_S
    return [
        {key: value for key, value in distribution.items() if key not in {"tx_hashes", "decision"}}
        for distribution in outcome.to_json()["distributions"]
        if distribution["window_end"] <= ordered
    ]


def given(outcome: Outcome) -> list[dict[str, Any]]:
    """The same, whether a token let the recipient have it or the distributor keeps it for it."""
    return [each | {"payouts": [{**payout, "outcome": None} for payout in each["payouts"]]} for each in paid(outcome)]


def check_report(outcome: Outcome) -> None:
    """A stranger finds each thing that went wrong in the report's own files, and that nobody has changed them."""
    directory = outcome.report_directory
    document = json.loads((directory / "report.json").read_text())
    assert document["verdict"] == "balanced"
    assert {row["difference"] for row in document["roll_forward"]} == {"0"}
    [chain] = document["chains"]
    assert chain["reorgs"] == 3
    [found] = document["breaks"]
    assert (found["kind"], found["subject"], found["state"]) == ("unexpected_in", "suspense:in", "resolved")
    assert "booked by correction 1: asked by ann (simulated), approved by bob (simulated)" in found["resolution"]
    [fall] = [each for each in document["waterfalls"] if each["asset"]["id"] == found["asset"]]
    assert fall["adjustments"] == found["amount"]
    assert int(fall["credited"]) > 0
    assert sum(each["credited"] for each in document["distributions"]) in (1, 2)
    [gas] = document["gas"]
    assert (gas["reverted"], gas["difference"]) == (1, "0")
    lines = list(outcome.lines())
    assert sum("reorganisation" in line or line.startswith("  block ") for line in lines) >= 4
    assert not [line for line in lines if "do not say so" in line or "no occasion" in line]
    assert re.fullmatch(
        r"verified: \d+ files whole offline; on the chain, 1 block and \d+ balances are as .*", lines[-2]
    )
    assert lines[-1].startswith("balanced: seed 11")

    for name in ("report.json", "csv/breaks.csv"):
        path = directory / name
        whole = path.read_text()
        digit = whole.index(found["amount"])
        path.write_text(whole[:digit] + str(int(whole[digit]) % 9 + 1) + whole[digit + 1 :])
        assert any(problem.startswith(name) for problem in check_folder(directory).problems)
        path.write_text(whole)
    assert check_folder(directory).problems == ()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_simulate__reorganisations_on_the_way__same_payouts_as_without(tmp_path: Path):
    quiet = await run(order(tmp_path / "quiet"))
    # Whether a payment waits where something can be put before it hangs on the machine: some runs are tried.
    troubled = await run(order(tmp_path / "troubled", reorgs=3, incidents=True))
    for again in range(2):
        if any("no occasion" in sentence for sentence in troubled.happened):
            troubled = await run(order(tmp_path / f"troubled{again}", reorgs=3, incidents=True))
    assert troubled.reasons == ()
    assert quiet.reasons == ()
    assert (quiet.figures["reorgs"], troubled.figures["reorgs"]) == (0, 3)
    assert len(paid(quiet)) >= 3
    assert given(troubled) == given(quiet)
    check_report(troubled)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_simulate__daemon_killed_at_three_random_moments__ends_balanced(tmp_path: Path):
    outcome = await run(order(tmp_path / "killed", kills=3, reorgs=1))
    assert outcome.reasons == ()
    assert outcome.figures["kills"] == 3
    assert {distribution["status"] for distribution in paid(outcome)} == {"final"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rule", ["liquidation_gain", "treasury_over_reserve"])
async def test_simulate__scene_of_a_rule__it_alone_pays_and_all_is_as_the_traffic_says(tmp_path: Path, rule: str):
    outcome = await run(order(tmp_path / rule, rule=rule, epochs=1, reorgs=1))
    assert outcome.reasons == ()
    assert {distribution["rule"] for distribution in paid(outcome)} == {rule}


@pytest.mark.slow
async def test_simulate__foreign_endpoint_in_its_configuration__refused(tmp_path: Path):
    async with Sandbox.start(tmp_path / "sandbox", Settings(seed=1, block_time_s=None)) as sandbox:
        config = load_config(sandbox.config_path)
        refuse_foreign_endpoints(config, sandbox.endpoints)
        text = sandbox.config_path.read_text()
        sandbox.config_path.write_text(text.replace(sandbox.rpc_url, "https://mainnet.example"))
        with pytest.raises(ConfigError, match=r"did not start https://mainnet\.example"):
            refuse_foreign_endpoints(load_config(sandbox.config_path), sandbox.endpoints)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [((), 50, 0), ((7,), 50, 7), ((7,), 95, 7), ((1, 2, 3, 4), 50, 2), (tuple(range(1, 101)), 95, 95)],
)
def test_percentile__nearest_rank__is_one_of_the_values(values: tuple[int, ...], percent: int, expected: int):
    assert percentile(values, percent) == expected
