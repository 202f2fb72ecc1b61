"""What an operator types, and what it answers: on the chain and the database that a simulation left running."""

import asyncio
import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bridge.chains.evm.contracts import Artifact, Contract
from bridge.domain.units import Address
from bridge.simulation.anvil import FINALITY_DISTANCE
from bridge.simulation.wallets import Wallet
from tests.cli.program import bridge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SEED = 5
DONATION = 7_000_001  # atoms of USDX
PATIENCE_S = 60


def wait_until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"not {what} after {PATIENCE_S} s"
        time.sleep(0.05)


def rpc(facts: dict[str, Any], method: str, *parameters: object) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    request = urllib.request.Request(facts["rpc_url"], body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert "error" not in answer, answer
    return answer["result"]


def database_socket(facts: dict[str, Any]) -> Path:
    """The database's own directory: its guard removes it when the server has ended."""
    return Path(facts["database_url"].partition("?host=")[2])


def alive(facts: dict[str, Any]) -> bool:
    try:
        rpc(facts, "eth_chainId")
    except OSError:  # refused, or cut in the middle of an answer
        return database_socket(facts).exists()
    return True


@dataclass(frozen=True)
class Kept:
    """A finished simulation, its chain and database alive."""

    facts: dict[str, Any]  # what --json wrote
    config: Path
    said: str  # on standard output

    def bridge(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return bridge(*arguments, "--config", self.config)

    def answer(self, *arguments: str | Path) -> str:
        """What a command that succeeds prints."""
        run = self.bridge(*arguments)
        assert (run.returncode, run.stderr) == (0, "")
        return run.stdout


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """`bridge simulate --keep` ends with its verdict, its chain and database live on until the command it names."""
    directory = tmp_path_factory.mktemp("kept")
    run = bridge(
        *("simulate", "--keep", "--seed", str(SEED), "--epochs", "1", "--reorgs", "0"),
        *("--json", directory / "verdict.json", "--out", directory / "report"),
        timeout_s=120,
    )
    assert run.returncode == 0, run.stderr
    facts = json.loads((directory / "verdict.json").read_text())
    end_it = re.search(r"end them with: (kill \d+)$", run.stdout, re.MULTILINE)
    assert end_it
    try:
        assert alive(facts)
        yield Kept(facts, Path(facts["directory"]) / "bridge.toml", run.stdout)
    finally:
        subprocess.run(shlex.split(end_it[1]), check=True)
        wait_until(lambda: not alive(facts), "gone")
        shutil.rmtree(facts["directory"])


def test_simulate__kept__said_its_verdict_first(kept: Kept):
    assert f"balanced: seed {SEED}; every distribution is final" in kept.said
    assert kept.facts["verdict"] == "balanced"
    assert (Path(kept.facts["report_dir"]) / "report.html").is_file()


def test_status__after_a_simulation__tells_heads_rules_and_counts(kept: Kept):
    text = kept.answer("status")
    assert re.search(r"^anvil +\d+ +0 ", text, re.MULTILINE)
    for rule in ("fee_window", "points_window", "reserve_buffer"):
        assert re.search(rf"^{rule} +1 +1 +0 +[\d,.]+ (USDX|PTSX|DAIX)", text, re.MULTILINE)
    assert re.search(r"^distributions +3 final$", text, re.MULTILINE)
    assert re.search(r"^reconciled +", text, re.MULTILINE)
    for job in ("partitions", "reconcile", "seals", "sweep"):
        assert re.search(rf"^job +{job}, every [\d,]+ s, next [-\d: ]+(; LATE)?; last [-\d: ]+: ", text, re.MULTILINE)
    assert re.search(r"^job +days, every 86,400 s, next [-\d]+ 00:00:00; never yet$", text, re.MULTILINE)


def test_status__as_json__amounts_are_exact(kept: Kept):
    status = json.loads(kept.answer("status", "--json"))
    paid = {each["rule"]: each["total"] for each in kept.facts["distributions"]}
    assert {rule["rule"]: rule["allocated"] for rule in status["rules"]} == paid
    assert int(paid["reserve_buffer"]) > 2**53
    assert status["distributions"] == {"final": 3}
    assert status["dead_letters"] == []
    assert {job["name"]: job["interval_s"] for job in status["jobs"]} == {
        "days": 86_400, "partitions": 3_600, "reconcile": 60, "seals": 60, "sweep": 600
    }  # fmt: skip


def test_rules__paused_and_resumed__said_by_status_and_list(kept: Kept):
    assert kept.answer("rules", "pause", "fee_window", "--reason", "odd fees") == "rule fee_window on anvil: paused\n"
    again = kept.bridge("rules", "pause", "fee_window", "--reason", "odd fees")
    assert (again.returncode, again.stdout) == (1, "")
    assert "is paused already" in again.stderr
    assert re.search(
        r"^paused: rule fee_window on anvil, since .*: paused by \S+: odd fees$", kept.answer("status"), re.MULTILINE
    )
    assert re.search(r"^fee_window +2 +anvil +paused ", kept.answer("rules", "list"), re.MULTILINE)
    kept.answer("rules", "resume", "fee_window", "--reason", "they were fees")
    assert "paused" not in kept.answer("status")
    wrong = kept.bridge("rules", "pause", "fees", "--reason", "odd fees")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "there is no rule `fees`" in wrong.stderr


def test_migrate__again__changes_nothing(kept: Kept):
    for _ in range(2):
        assert kept.answer("migrate") == "the database is up to date\n"


# ── Explain ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("digits", [64, 8], ids=["whole", "prefix"])
def test_explain__distribution__tells_it_from_logs_to_ledger(kept: Kept, digits: int):
    distribution = kept.facts["distributions"][0]
    text = kept.answer("explain", distribution["id"][: 2 + digits])
    assert text.startswith(f"distribution {distribution['id']}\n")
    for chapter in ("What the chain said", "Who gets what", "How it is paid", "How it is booked"):
        assert chapter in text
    for tx_hash in distribution["tx_hashes"]:
        assert tx_hash in text


def test_explain__transaction_and_recipient_as_json__only_that_share(kept: Kept):
    distribution = kept.facts["distributions"][0]
    payout = distribution["payouts"][0]
    arguments = (distribution["tx_hashes"][0], "--recipient", payout["recipient"], "--json")
    story = json.loads(kept.answer("explain", *arguments))
    assert story["asked"]["kind"] == "transaction"
    assert story["distribution"]["distribution_id"] == distribution["id"]
    (share,) = story["shares"]
    assert (share["recipient"], share["amount"]) == (payout["recipient"], payout["amount"])


def test_explain__unknown__exit_code_2_and_what_could_be_asked(kept: Kept):
    run = kept.bridge("explain", "0xabcdef123456")
    assert run.returncode == 2
    assert run.stderr.startswith("bridge: ID: nothing is known under 0xabcdef123456\n  mend: give a decision's id")


def test_explain__ambiguous__lists_what_it_may_be(kept: Kept, tmp_path: Path):
    distribution = kept.facts["distributions"][0]
    twin = asyncio.run(_add_twin(kept.facts["database_url"], distribution["decision"]))
    config = tmp_path / "bridge.toml"
    config.write_text(kept.config.read_text().replace("/bridge?", "/twins?"))
    for name in ("rules", "operator.json"):
        (tmp_path / name).symlink_to(kept.config.parent / name)
    run = bridge("explain", distribution["decision"][:20], "--config", config)
    assert run.returncode == 2
    assert run.stderr.startswith("bridge: ID: ")
    assert distribution["decision"] in run.stderr
    assert twin in run.stderr
    assert "give more digits" in run.stderr


async def _add_twin(url: str, decision: str) -> str:
    """Copy the database, and in the copy the decision under an id that differs in the last byte only."""
    connection = await asyncpg.connect(url.replace("/bridge?", "/postgres?"))
    await connection.execute("CREATE DATABASE twins TEMPLATE bridge")
    await connection.close()
    original = bytes.fromhex(decision[2:])
    twin = original[:-1] + bytes([original[-1] ^ 1])
    connection = await asyncpg.connect(url.replace("/bridge?", "/twins?"))
    await connection.execute(
        """
        INSERT INTO decisions OVERRIDING SYSTEM VALUE SELECT (copied.row).* FROM (
            SELECT jsonb_populate_record(
                       d, jsonb_build_object(
                           'decision_id', $2::TEXT, 'window_start', window_start + 1, 'decision_number', 0
                       )
                   ) AS row
              FROM decisions d WHERE decision_id = $1
        ) copied
        """,
        original,
        "\\x" + twin.hex(),
    )
    await connection.close()
    return "0x" + twin.hex()


# ── Rules over history, and decisions made again ────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def backtested(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two rules would have done with the simulation's chain: its own one, and one that may pay less."""
    out = tmp_path_factory.mktemp("backtest")
    text = (kept.config.parent / "rules/fee_window.yaml").read_text()
    lower = re.sub(r"cap_per_epoch: [0-9_]+", "cap_per_epoch: 2_000_000_000", text)
    assert lower != text
    (out / "lower.yaml").write_text(lower)
    said = kept.answer("rules", "backtest", "fee_window", "--against", out / "lower.yaml", "--out", out)
    assert said.startswith("fee_window v")
    return out


def test_backtest__of_the_rule_that_ran__its_very_decisions(kept: Kept, backtested: Path):
    rows = asyncio.run(_artifacts(kept.facts["database_url"], "fee_window"))
    lines = (backtested / "decisions.json").read_bytes().splitlines()[1:-1]
    assert rows == [line.removesuffix(b",") for line in lines][: len(rows)]
    assert len(rows) == 1
    (paid,) = [each for each in kept.facts["distributions"] if each["rule"] == "fee_window"]
    with (backtested / "payouts.csv").open(newline="") as file:
        payouts = {row["recipient"]: row["amount"] for row in csv.DictReader(file)}
    assert payouts == {each["recipient"]: each["amount"] for each in paid["payouts"]}


def test_backtest__against_a_lower_cap__says_who_would_get_less(backtested: Path):
    with (backtested / "payout_differences.csv").open(newline="") as file:
        differences = [int(row["difference"]) for row in csv.DictReader(file)]
    assert differences
    assert all(each > 0 for each in differences)
    assert "cap_per_epoch" in (backtested / "index.html").read_text()


@pytest.mark.parametrize("rule", ["points_window", "reserve_buffer"])
def test_verify__a_decision_of_the_daemon__equal(kept: Kept, rule: str):
    (distribution,) = [each for each in kept.facts["distributions"] if each["rule"] == rule]
    said = kept.answer("verify", distribution["decision"])
    assert re.match(rf"{rule} v\d+, window ", said)
    assert "not verified" not in said
    assert said.endswith("\nequal\n")


def test_verify__a_record_that_was_changed__shows_where_without_a_database(kept: Kept, tmp_path: Path):
    (artifact,) = asyncio.run(_artifacts(kept.facts["database_url"], "reserve_buffer"))
    told = json.loads(artifact)
    told["allocations"][0]["amount"] = str(int(told["allocations"][0]["amount"]) + 1)
    (tmp_path / "record.json").write_text(json.dumps(told, sort_keys=True, separators=(",", ":")))
    run = bridge(
        *("verify", "--artifact", tmp_path / "record.json", "--rpc", kept.facts["rpc_url"]),
        *("--rule", kept.config.parent / "rules/reserve_buffer.yaml"),
    )
    assert (run.returncode, run.stderr) == (1, "")
    changed = told["allocations"][0]["amount"]
    assert (
        f'NOT equal: allocations[0].amount\n  expected  "{int(changed) - 1}"\n  found     "{changed}"\n' in run.stdout
    )


async def _artifacts(url: str, rule: str) -> list[bytes]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT artifact FROM decisions WHERE rule = $1 ORDER BY window_start", rule)
        return [row["artifact"] for row in rows]
    finally:
        await connection.close()


# ── Reconcile and report ────────────────────────────────────────────────────────────────────────────────────────────
def test_reconcile__balanced_until_somebody_gives_the_vault_something__then_a_break(kept: Kept, tmp_path: Path):
    assert kept.answer("reconcile").endswith("\nbalanced\n")
    found = kept.answer("reconcile", "--find-divergence", "vault", "--asset", "USDX")
    assert re.search(
        r"^books and chain agree: at block [\d,]+ the books say ([\d,]+), the chain \1$", found, re.MULTILINE
    )
    again = kept.answer("reconcile", "--from", "2020-01-01", "--to", "2100-01-01")
    assert re.search(r"^  agreed: balance of vault:0x\w+ in \S+, books ([\d,]+), chain \1$", again, re.MULTILINE)
    assert again.endswith("\nagreed\n")
    said = kept.answer("report", "--out", tmp_path / "before")
    assert "no break is open" in said
    assert (tmp_path / "before/report.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "before/report.json").read_text())["verdict"] == "balanced"

    block = _donate(kept.facts)
    with _daemon(kept, tmp_path / "daemon.log"):
        wait_until(lambda: asyncio.run(_posted(kept.facts["database_url"])) >= block, "posted")

    reconciled = kept.bridge("reconcile")
    assert reconciled.returncode == 1
    assert re.search(rf"^break \d+: unexpected_in of .*, \+{DONATION:,} atoms", reconciled.stdout, re.MULTILINE)
    assert reconciled.stdout.endswith("\nNOT balanced\n")
    reported = kept.bridge("report", "--out", tmp_path / "after")
    assert reported.returncode == 1
    report = json.loads((tmp_path / "after/report.json").read_text())
    assert report["verdict"] == "breaks"
    assert "unexpected_in" in (tmp_path / "after/report.html").read_text()


def test_report__of_a_period_in_every_format__verified_by_a_node_alone(kept: Kept, tmp_path: Path):
    out = tmp_path / "period"
    options = ("--from", "2000-01-01", "--to", "2200-01-01", "--ask-chain", "--format", "html,csv,parquet,camt053")
    said = kept.bridge("report", *options, "--out", out)
    assert said.returncode in (0, 1)  # others give the vault something
    names = ("report.html", "report.json", "camt053.xml", "README.txt", "csv", "parquet", "manifest.json")
    assert said.stdout.splitlines()[:-1] == [str(out / name) for name in names]
    assert "its figures may still grow" in (out / "report.html").read_text()
    rows = json.loads((out / "report.json").read_text())["roll_forward"]
    assert [row["difference"] for row in rows] == ["0"] * len(rows) != []

    verified = bridge("verify", out, "--rpc", kept.facts["rpc_url"])
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.endswith("\nwhole, and as on the chain\n")
    assert re.search(r"^  chain +1 blocks and \d+ balances asked for$", verified.stdout, re.MULTILINE)

    document = json.loads((out / "report.json").read_text())
    document["chains"][0]["cut_off"]["hash"] = "0x" + "00" * 32
    (out / "report.json").write_text(json.dumps(document))
    forged = bridge("verify", out, "--rpc", kept.facts["rpc_url"])
    assert forged.returncode == 1
    assert re.search(r"^NOT as on the chain: block [\d,]+ of anvil: its hash is 0x", forged.stdout, re.MULTILINE)


def _donate(facts: dict[str, Any]) -> int:
    """A payer sends the vault tokens as one sends them to anybody; the number of the block, which is final."""
    payer = Wallet.derive(SEED, "payer", 0)
    payer.nonce = int(rpc(facts, "eth_getTransactionCount", "0x" + payer.address.hex(), "latest"), 16)
    token = Contract(Address(bytes.fromhex(facts["tokens"]["USDX"]["address"][2:])), Artifact.load("TestToken"))
    raw = payer.sign(token.address, token.call("transfer", facts["contracts"]["vault"], DONATION))
    tx_hash = rpc(facts, "eth_sendRawTransaction", "0x" + raw.hex())
    for _ in range(FINALITY_DISTANCE + 1):
        latest = rpc(facts, "eth_getBlockByNumber", "latest", False)
        rpc(facts, "evm_mine", hex(int(latest["timestamp"], 16) + 1))
    receipt = rpc(facts, "eth_getTransactionReceipt", tx_hash)
    assert receipt["status"] == "0x1"
    return int(receipt["blockNumber"], 16)


async def _posted(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT block_number FROM cursors WHERE stage = 'post'"))
    finally:
        await connection.close()


@contextmanager
def _daemon(kept: Kept, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "bridge", "run", "--config", str(kept.config)]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
    assert process.returncode == 0, log.read_text()


# ── Sandbox ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def descendants(pid: int) -> set[tuple[int, str]]:
    """(process, when it started) of all that `pid` started, however far down; a number alone may be used again."""
    found: dict[int, tuple[int, str]] = {}  # parent and start
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # it ended meanwhile
        found[int(entry.name)] = int(fields[1]), fields[19]
    below = {pid}
    while more := {child for child, (parent, _) in found.items() if parent in below} - below:
        below |= more
    return {(child, found[child][1]) for child in below - {pid}}


def still_there(processes: set[tuple[int, str]]) -> list[int]:
    left = []
    for pid, start in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if fields[19] == start and fields[0] != "Z":
            left.append(pid)
    return left


def test_sandbox__of_both_chains__its_configuration_fits_and_ctrl_c_ends_it_all(tmp_path: Path):
    directory = tmp_path / "box"
    command = [sys.executable, "-m", "bridge", "sandbox", str(directory), "--chain", "both", "--seed", "3"]
    command += ["--block-time", "0.1", "--participants", "3"]
    # In a group of its own, as a shell has it: Ctrl-C reaches everything in it at once.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        while said[-1] and not said[-1].startswith("Ctrl-C"):
            said.append(process.stdout.readline())
        evm, solana = (json.loads((directory / file).read_text()) for file in ("sandbox.json", "solana.json"))
        heads = int(rpc(evm, "eth_blockNumber"), 16), rpc(solana, "getSlot")
        config = directory / "bridge.toml"
        migrated, checked = (bridge(name, "--config", config) for name in ("migrate", "check"))
        assert int(rpc(evm, "eth_blockNumber"), 16) > heads[0]
        wait_until(lambda: rpc(solana, "getSlot") > heads[1], "a new slot")
        processes = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    commands = [line.split() for line in said[-4:-1]]
    assert commands == [["bridge", name, "--config", str(config)] for name in ("migrate", "check", "run")]
    assert said[0] == f"sandbox ready, seed 3: {directory / 'sandbox.json'}\n"
    assert solana["rpc_url"] in said[1]
    assert (migrated.returncode, checked.returncode) == (0, 0), (migrated.stderr, checked.stdout, checked.stderr)
    told = checked.stdout.splitlines()
    assert [line.partition(":")[0] for line in told if not line.startswith(" ")] == ["anvil", "svm", "everything fits"]
    for tokens in ("USDX, DAIX, PTSX", "USDX, PTSX, SOL"):
        assert f"  tokens    {tokens}" in told
    assert (process.returncode, complaints) == (0, "")
    assert not alive(evm)
    assert not alive(solana | {"database_url": evm["database_url"]})
    if Path("/proc/self/stat").exists():
        assert len(processes) >= 6  # three servers, each behind its guard
        assert still_there(processes) == []


def test_sandbox__asked_to_end__exit_code_0_and_nothing_left(tmp_path: Path):
    directory = tmp_path / "box"
    command = [sys.executable, "-m", "bridge", "sandbox", str(directory), "--seed", "3", "--block-time", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(5)]
        facts = json.loads((directory / "sandbox.json").read_text())
        first = int(rpc(facts, "eth_blockNumber"), 16)
        wait_until(lambda: int(rpc(facts, "eth_blockNumber"), 16) > first + 3, "mining")
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=30)
    assert said == [
        f"sandbox ready, seed 3: {directory / 'sandbox.json'}\n",
        f"  bridge migrate --config {directory / 'bridge.toml'}\n",
        f"  bridge check --config {directory / 'bridge.toml'}\n",
        f"  bridge run --config {directory / 'bridge.toml'}\n",
        "Ctrl-C ends it.\n",
    ]
    assert (process.returncode, complaints) == (0, "")
    assert not alive(facts)
    assert {"rpc_url", "chain_id", "database_url", "contracts", "tokens", "participants"} <= facts.keys()
    assert {"vault", "distributor", "claims"} <= facts["contracts"].keys()
    assert {token["decimals"] for token in facts["tokens"].values()} == {6, 8, 18}
    assert len(facts["participants"]) == 12
