"""Tokens that misbehave, compiled where a test needs them: running needs no compiler."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bridge.chains.evm.contracts import Artifact

ROOT = Path(__file__).resolve().parents[2]
SOURCES = "test/tokens"


def compile_tokens(out: Path, source: str = SOURCES) -> Path:
    """All of them, or the one in the file `source`; the folder that holds what came of it."""
    (forge,) = ROOT.glob("node_modules/@foundry-rs/forge-*/bin/forge")
    command = [str(forge), "build", source, "--out", str(out / "out"), "--cache-path", str(out / "cache")]
    finished = subprocess.run(command, cwd=ROOT / "contracts", capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return out / "out"


def token_artifact(compiled: Path, name: str) -> Artifact:
    built = json.loads((compiled / f"{name}.sol" / f"{name}.json").read_text())
    return Artifact(name, built["abi"], bytes.fromhex(built["bytecode"]["object"][2:]))
