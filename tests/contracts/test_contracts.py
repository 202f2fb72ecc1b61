"""The contracts' own tests, run by forge, and the compiled files that are committed."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "bridge/chains/evm/artifacts"
CONTRACTS = {
    *("SurplusVault", "Distributor", "Claims", "AdminTimelock"),
    *("TestToken", "DepositPool", "ObligationBook"),
    *("SmoothingPool", "Settlement", "Budget", "YieldVault", "StabilityPool", "Aggregator"),
}

# Where .venv has a Node of its own, the compiler must find it.
PATH = os.pathsep.join([str(ROOT / ".venv/bin"), os.environ["PATH"]])


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": PATH}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.timeout(300)
def test_forge__quick_profile__all_tests_pass() -> None:
    # The program itself: what npm puts in front of it exits 0 even where a test failed.
    (forge,) = ROOT.glob("node_modules/@foundry-rs/forge-*/bin/forge")
    finished = run(forge, "test", "--json", cwd=ROOT / "contracts")
    assert finished.stdout.startswith("{"), finished.stdout + finished.stderr
    results = {
        f"{suite}:{test}": result
        for suite, report in json.loads(finished.stdout).items()
        for test, result in report["test_results"].items()
    }
    failed = {
        name: result.get("reason") or result["status"]
        for name, result in results.items()
        if result["status"] != "Success"
    }
    assert failed == {}
    assert finished.returncode == 0, finished.stderr
    assert any("invariant_" in name for name in results)
    assert any("testFuzz_" in name for name in results)


@pytest.mark.timeout(300)
def test_build_contracts__committed_artifacts__are_what_the_sources_give() -> None:
    finished = run(ROOT / "scripts/build-contracts", "--check")
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_artifacts__each__is_complete_and_names_no_machine() -> None:
    assert {path.stem for path in ARTIFACTS.glob("*.json")} == CONTRACTS
    for path in ARTIFACTS.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        artifact = json.loads(text)
        assert set(artifact) == {"contract", "abi", "bytecode", "deployedBytecode", "storage", "compiler"}
        assert artifact["contract"] == path.stem
        assert artifact["abi"]
        assert bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
        assert str(ROOT) not in text
