"""bridge rules …, as typed: what is said of rule files, and every mistake in naming a node or a part of history."""

import asyncio
import importlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.chains.fake.chain import Emit, FakeChain
from bridge.domain.units import Address
from tests.chains.nodes import Node

main_module = importlib.import_module("bridge.cli.main")  # the package exports the function of that name
ROOT = Path(__file__).resolve().parents[2]
FEE_WINDOW = ROOT / "rules/fee_window"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Bridge = Callable[..., Said]


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Bridge:
    """The program in this process, in an empty folder: what it prints, and its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["bridge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main_module.main()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return run


# ── List and check ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_list__without_a_configuration__the_folders(bridge: Bridge, tmp_path: Path):
    shutil.copytree(FEE_WINDOW, tmp_path / "rules/fee_window")
    said = bridge("rules", "list")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0].split() == ["rule", "version", "window", "asset", "cases", "description"]
    assert said.out.splitlines()[1].split()[:6] == ["fee_window", "2", "every", "1", "day", "USDX"]


def test_list__nothing_there__says_so(bridge: Bridge):
    said = bridge("rules", "list")
    assert (said.code, said.out) == (2, "")
    assert "there is no folder rules/ with rules in it" in said.err


def test_check__a_rule_that_makes_sense__says_what_it_reads(bridge: Bridge):
    said = bridge("rules", "check", FEE_WINDOW)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == f"{FEE_WINDOW / 'rule.yaml'}: ok"
    assert "  input       stake: time_weighted (add deposit.amount, subtract withdrawal.amount, by account)" in lines
    assert "  split       pro_rata stake" in lines


def test_check__several_files__every_mistake_with_its_place_and_the_others_checked(bridge: Bridge, tmp_path: Path):
    text = (FEE_WINDOW / "rule.yaml").read_text()
    (tmp_path / "name.yaml").write_text(text.replace("surplus: fees", "surplus: fes"))
    (tmp_path / "keys.yaml").write_text(text.replace("carry:", "cary:").replace("asset: USDX", "assets: USDX"))
    said = bridge("rules", "check", "name.yaml", "keys.yaml", FEE_WINDOW)
    assert said.code == 2
    assert said.out.startswith(f"{FEE_WINDOW / 'rule.yaml'}: ok\n")
    assert "    surplus: fes\n             ^\n  mend: did you mean `fees`?" in said.err
    assert "name.yaml:" in said.err
    for mistake in ("unknown key `cary`", "unknown key `assets`", "`asset` is missing", "`carry` is missing"):
        assert mistake in said.err


def test_check__with_a_configuration__names_are_held_against_it(bridge: Bridge, tmp_path: Path):
    config = configuration(tmp_path, "http://127.0.0.1:1")
    said = bridge("rules", "check", FEE_WINDOW, "--config", config)
    assert said.code == 2
    assert "there is no contract `pool`" in said.err
    config.write_text(config.read_text().replace("[chains.here.tokens", f'pool = "0x{"bb" * 20}"\n[chains.here.tokens'))
    assert bridge("rules", "check", FEE_WINDOW, "--config", config).code == 0


def test_test__cases_of_a_folder__exit_code_and_a_diff(bridge: Bridge, tmp_path: Path):
    shutil.copytree(FEE_WINDOW, tmp_path / "mine")
    count = len(list((tmp_path / "mine/cases").glob("*.json")))
    assert bridge("rules", "test", "mine").out.endswith(f"{count} of {count} cases passed\n")
    case = tmp_path / "mine/cases/cap_hit.json"
    case.write_text(case.read_text().replace('"total": "500000000000"', '"total": "1"'))
    said = bridge("rules", "test", "mine")
    assert said.code == 1
    assert "mine/one_wei: ok\n" in said.out
    assert (
        "mine/cap_hit: FAILED\n"
        "  More than a day may pay: the rest is paid on the days that follow.\n"
        "  window 2, total\n"
        '    expected  "1"\n'
        '    found     "500000000000"\n'
    ) in said.out
    assert said.out.endswith(f"{count - 1} of {count} cases passed\n")


# ── Backtest: naming a node and a part of history ───────────────────────────────────────────────────────────────────
def configuration(folder: Path, rpc: str, chain_id: int = 1) -> Path:
    path = folder / "bridge.toml"
    address = "0x" + "aa" * 20
    path.write_text(f"""
[database]
url = "postgresql://nobody@127.0.0.1:1/none"
[chains.here]
kind = "evm"
chain_id = {chain_id}
rpc = ["{rpc}"]
start_block = 5
finality = {{ tag = "finalized" }}
[chains.here.contracts]
vault = "{address}"
[chains.here.tokens.USDX]
address = "0x{"dd" * 20}"
decimals = 6
[chains.here.governance]
admins = ["{address}"]
guardians = ["{address}"]
admin_delay_s = 1
delay_s = 1
epoch_s = 60
[chains.here.operator]
keystore = "operator.json"
password_env = "NOBODY"
""")
    return path


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The URL of a node with 300 blocks of 10,000 seconds, served by another thread."""
    chain = FakeChain(seconds_per_block=10_000)
    for number in range(1, 300):
        chain.mine(*([Emit(Address(b"\xaa" * 20), (bytes(32),))] if number % 9 == 0 else []))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    decimals = "0x" + (6).to_bytes(32).hex()
    served = asyncio.run_coroutine_threadsafe(Node(chain, answers={"eth_call": decimals}).start(), loop).result()
    yield served.url
    asyncio.run_coroutine_threadsafe(served.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


NAMES = ("--contract", "vault=0x" + "aa" * 20, "--contract", "pool=0x" + "bb" * 20, "--token", "USDX=0x" + "dd" * 20)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "--from: is missing"),
        (("--from", "soon"), "--from: `soon` is neither a block number nor a date"),
        (("--from", "9"), "--rpc: no node is named"),
        (("--from", "9", "--chain", "here", "--rpc", "NODE"), "--chain: names a chain of a configuration"),
        (("--from", "9", "--rpc", "NODE"), "--contract: what `pool` of"),
        (("--from", "9", "--rpc", "NODE", "--contract", "vault=12"), "--contract: `vault=12` is not NAME=ADDRESS"),
        (("--from", "20", "--to", "20", "--rpc", "NODE", *NAMES), "--from: block 20 is not before block 20"),
        (("--from", "2020-10-01", "--to", "9", "--rpc", "NODE", *NAMES), "is not before block 9"),
        (("--from", "9", "--to", "296", "--rpc", "NODE", *NAMES), "--to: 296 is beyond what is final: block 295,"),
        (("--from", "9", "--to", "2030-01-01", "--rpc", "NODE", *NAMES), "--to: 2030-01-01 is beyond what is final"),
        (("--from", "9", "--rpc", "NODE", *NAMES, "--depth", "290"), None),
    ],
)
def test_backtest__named_wrongly__says_which_option_and_how(
    bridge: Bridge, node: str, arguments: tuple[str, ...], problem: str | None
):
    given = [node if each == "NODE" else each for each in arguments]
    said = bridge("rules", "backtest", FEE_WINDOW, *given, "--out", "out")
    if problem is None:  # one block is final then, and --from is that block
        problem = "is not before block 9"
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("bridge: ")
    assert problem in said.err
    assert "mend: " in said.err


def test_backtest__dates_and_names_on_the_command_line__decides_every_window(bridge: Bridge, node: str, tmp_path: Path):
    arguments = ("--rpc", node, *NAMES, "--from", "2020-09-14", "--to", "2020-09-20T00:00")
    said = bridge("rules", "backtest", FEE_WINDOW, *arguments, "--out", "out")
    assert (said.code, said.err) == (0, "")  # no bar where there is no terminal
    assert said.out.startswith("fee_window v2: 5 epochs (5 nothing), 0 USDX to 0 recipients\n")
    told = json.loads((tmp_path / "out/summary.json").read_text())
    # The first block of that day, and the first of that second: what comes before it is closed.
    assert (told["from"]["block"], told["to"]["block"]) == (5, 56)


def test_backtest__configuration_of_another_chain__refused(bridge: Bridge, node: str, tmp_path: Path):
    config = configuration(tmp_path, node, chain_id=5)
    said = bridge("rules", "backtest", FEE_WINDOW, "--config", config)
    assert said.code == 2
    assert "--rpc: the node serves chain id 1, chain `here` has 5" in said.err


def test_backtest__no_node_answers__exit_code_3(bridge: Bridge):
    said = bridge("rules", "backtest", FEE_WINDOW, "--from", "1", "--rpc", "http://127.0.0.1:1", *NAMES)
    assert said.code == 3
    assert "did not answer" in said.err


def test_list__no_database__rules_all_the_same(bridge: Bridge, tmp_path: Path):
    shutil.copytree(FEE_WINDOW, tmp_path / "rules/fee_window")
    config = configuration(tmp_path, "http://127.0.0.1:1")
    pool = f'pool = "0x{"bb" * 20}"\n[chains.here.tokens'
    rule = '[[rules]]\nfile = "rules/fee_window/rule.yaml"\nchain = "here"\n'
    config.write_text(config.read_text().replace("[chains.here.tokens", pool) + rule)
    said = bridge("rules", "list")
    assert said.code == 0
    assert "what was decided is not known" in said.err
    assert said.out.splitlines()[1].split() == [
        *("fee_window", "2", "here", "not", "known", "every", "1", "day", "USDX", "—")
    ]


# ── Verify: what is asked ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "ID: give either an ID or --artifact"),
        (("abcdef", "--artifact", "a.json"), "ID: give either an ID or --artifact"),
        (("--artifact", "a.json"), "--rule: is missing"),
        (("--artifact", "a.json", "--rule", "rule.yaml"), "--artifact a.json: cannot be read: No such file"),
        (("--artifact", "b.json", "--rule", "rule.yaml"), "--rule rule.yaml: cannot be read: No such file"),
        (("--artifact", "b.json", "--rule", "b.json"), "--artifact b.json: is no record of a decision"),
        (("abcdef", "--config", "none.toml"), "none.toml: cannot be read"),
    ],
)
def test_verify__asked_wrongly__says_how(bridge: Bridge, tmp_path: Path, arguments: tuple[str, ...], problem: str):
    (tmp_path / "b.json").write_text('{"rule": {}}')
    said = bridge("verify", *arguments)
    assert (said.code, said.out) == (2, "")
    assert problem in said.err
