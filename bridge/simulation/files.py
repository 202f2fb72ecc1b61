"""The files of a sandbox: what an operator would write to run the daemon against it."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from bridge.domain.units import format_address
from bridge.simulation.deploy import (
    ACTIVATION_DELAY_S,
    ADMIN_DELAY_S,
    APPROVAL_LIFETIME_S,
    CAP_PER_EPOCH,
    FLOOR,
    GATE_DELAY_S,
    Deployment,
)
from bridge.simulation.rules import rule_texts

CHAIN = "anvil"
"""The name of the chain in bridge.toml."""

BATCH_RECIPIENTS = 5  # few, so that a dozen participants already make several batches
CLAIMS_ABOVE = 8  # fewer than a dozen, so that a set of all participants is claimed; of one token, see _configuration


def write_files(directory: Path, facts: dict[str, Any], deployment: Deployment) -> None:
    """Write all of them. `facts` is what sandbox.json says; it is written last: where it is, the rest is too."""
    for name, wallet in (("operator", deployment.operator), ("approver", deployment.approver)):
        password = secrets.token_urlsafe(24)
        write_file(directory / f"{name}.json", wallet.keystore(password), mode=0o600)
        write_file(directory / f"{name}.password", password + "\n", mode=0o600)
    (directory / "rules").mkdir(exist_ok=True)
    for name, text in rule_texts(facts, deployment).items():
        write_file(directory / "rules" / f"{name}.yaml", text)
    write_file(directory / "bridge.toml", _configuration(facts, deployment))
    write_file(directory / "sandbox.json", json.dumps(facts, indent=2) + "\n")


def write_file(path: Path, text: str, *, mode: int = 0o644) -> None:
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
    names = [rule.name for rule in deployment.scene.rules]
    rules = "\n".join(f'[[rules]]\nfile = "rules/{name}.yaml"\nchain = "{CHAIN}"\n' for name in names)
    ceilings = ", ".join(f'{token.symbol} = "{CAP_PER_EPOCH * token.unit}"' for token in deployment.stage.tokens)
    return f"""\
# Written by the sandbox, which must be running for this to work.
lease_duration_ms = 3000

[http]
listen = "127.0.0.1:0"

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
{_governance(facts, deployment)}[chains.{CHAIN}.operator]
keystore = "operator.json"
password_file = "operator.password"

# The most that the daemon may spend, whatever a rule decides. Amounts in atoms.
[chains.{CHAIN}.spending]
max_fee_per_gas = 200_000_000_000
priority_fee_per_gas = 1_000_000_000
batch_recipients = {BATCH_RECIPIENTS}
max_per_transaction = {{ {ceilings} }}

# Sets of more recipients are claimed, each account with its proof.
[chains.{CHAIN}.claims]
above = {{ PTSX = {CLAIMS_ABOVE} }}
activation_delay_s = {ACTIVATION_DELAY_S}

{rules}"""


def _governance(facts: dict[str, Any], deployment: Deployment) -> str:
    code = "\n".join(f'{name} = "keccak256:{digest.hex()}"' for name, digest in deployment.code.items())
    limits = "\n".join(
        f'{token.symbol} = {{ floor = "{FLOOR * token.unit}", cap_per_epoch = "{CAP_PER_EPOCH * token.unit}", '
        f'auto_per_epoch = "{CAP_PER_EPOCH * token.unit}", claims_auto_per_epoch = "{CAP_PER_EPOCH * token.unit}" }}'
        for token in deployment.stage.tokens
    )
    return f"""\
# Who may do what with the contracts, and how much; the daemon does not start where the chain says otherwise.
[chains.{CHAIN}.governance]
admins = ["{format_address(deployment.admin.address)}"]
approvers = ["{format_address(deployment.approver.address)}"]
guardians = ["{format_address(deployment.admin.address)}"]
admin_delay_s = {ADMIN_DELAY_S}
delay_s = {GATE_DELAY_S}
approval_lifetime_s = {APPROVAL_LIFETIME_S}
epoch_s = {facts["epoch_seconds"]}

[chains.{CHAIN}.governance.limits]
{limits}

[chains.{CHAIN}.governance.code]
{code}

"""
