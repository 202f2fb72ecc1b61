"""The files of a sandbox: what an operator would write to run the daemon against it."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from bridge.simulation.deploy import CAP_PER_EPOCH, Deployment

CHAIN = "anvil"
"""The name of the chain in bridge.toml."""

BATCH_RECIPIENTS = 5  # few, so that a dozen participants already make several batches


def write_files(directory: Path, facts: dict[str, Any], deployment: Deployment) -> None:
    """Write all of them. `facts` is what sandbox.json says; it is written last: where it is, the rest is too."""
    password = secrets.token_urlsafe(24)
    _write(directory / "operator.json", deployment.operator.keystore(password), mode=0o600)
    _write(directory / "operator.password", password + "\n", mode=0o600)
    _write(directory / "bridge.toml", _configuration(facts, deployment))
    _write(directory / "sandbox.json", json.dumps(facts, indent=2) + "\n")


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace the file whole, and never let it be readable by more than `mode` for a moment."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def _configuration(facts: dict[str, Any], deployment: Deployment) -> str:
    poll_ms = min(1000, max(50, int((facts["block_time"] or 0) * 500)))
    contracts = "\n".join(f'{name} = "{address}"' for name, address in facts["contracts"].items())
    tokens = "\n".join(
        f'[chains.{CHAIN}.tokens.{symbol}]\naddress = "{token["address"]}"\ndecimals = {token["decimals"]}\n'
        for symbol, token in facts["tokens"].items()
    )
    ceilings = ", ".join(f'{token.symbol} = "{CAP_PER_EPOCH * token.unit}"' for token in deployment.stage.tokens)
    return f"""\
# Written by the sandbox, which must be running for this to work.
[database]
url = {json.dumps(facts["database_url"])}

[logs]
level = "info"
format = "json"

[chains.{CHAIN}]
kind = "evm"
chain_id = {facts["chain_id"]}
rpc = ["{facts["rpc_url"]}"]
start_block = {facts["start_block"]}
finality = {{ tag = "finalized" }}
poll_interval_ms = {poll_ms}
native = {{ symbol = "ETH", decimals = 18 }}

[chains.{CHAIN}.contracts]
{contracts}

{tokens}
[chains.{CHAIN}.operator]
keystore = "operator.json"
password_file = "operator.password"

# The most that the daemon may spend, whatever a rule decides. Amounts in atoms.
[chains.{CHAIN}.spending]
max_fee_per_gas = 200_000_000_000
priority_fee_per_gas = 1_000_000_000
batch_recipients = {BATCH_RECIPIENTS}
max_per_transaction = {{ {ceilings} }}
"""
