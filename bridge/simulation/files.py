"""The files of a sandbox: what an operator would write to run the daemon against it."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, format_address
from bridge.runtime.rulefile import parse_rule
from bridge.simulation.anvil import REPOSITORY
from bridge.simulation.deploy import (
    ACTIVATION_DELAY_S,
    ADMIN_DELAY_S,
    APPROVAL_LIFETIME_S,
    CAP_PER_EPOCH,
    FLOOR,
    GATE_DELAY_S,
    Deployment,
)
from bridge.simulation.traffic import Token

CHAIN = "anvil"
"""The name of the chain in bridge.toml."""

RULES = ("fee_window", "points_window", "reserve_buffer")
BATCH_RECIPIENTS = 5  # few, so that a dozen participants already make several batches
CLAIMS_ABOVE = 8  # fewer than a dozen, so that a set of all participants is claimed; of one token, see _rules


def write_files(directory: Path, facts: dict[str, Any], deployment: Deployment) -> None:
    """Write all of them. `facts` is what sandbox.json says; it is written last: where it is, the rest is too."""
    for name, wallet in (("operator", deployment.operator), ("approver", deployment.approver)):
        password = secrets.token_urlsafe(24)
        _write(directory / f"{name}.json", wallet.keystore(password), mode=0o600)
        _write(directory / f"{name}.password", password + "\n", mode=0o600)
    (directory / "rules").mkdir(exist_ok=True)
    for name, text in _rules(facts, deployment).items():
        _write(directory / "rules" / f"{name}.yaml", text)
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
    rules = "\n".join(f'[[rules]]\nfile = "rules/{name}.yaml"\nchain = "{CHAIN}"\n' for name in RULES)
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


def _rules(facts: dict[str, Any], deployment: Deployment) -> dict[str, str]:
    """The rules by name: those that are shipped, with the sandbox's numbers put in, one for each token.

    points_window is fee_window once more, under another name and in another token: its set is claimed.

    The vault's own floor is below the rules', so no payout that a rule allows is refused by the vault.
    """
    usdx, daix, ptsx = deployment.stage.tokens
    epoch_s = facts["epoch_seconds"]
    window = f"{{every: {epoch_s} s}}"
    fee_window = {
        "description": "Fees of a window, shared by time-weighted deposits",
        "asset": usdx.symbol,
        "window": window,
        "cap_per_epoch": _atoms(1_000_000, usdx),
        "minimum_total": _atoms(1, usdx),
        "minimum_per_recipient": _atoms(100, usdx),
    }
    points_window = {
        **fee_window,
        "rule": "points_window",
        "asset": ptsx.symbol,
        "cap_per_epoch": _atoms(1_000_000, ptsx),
        "minimum_total": _atoms(1, ptsx),
        "minimum_per_recipient": _atoms(1, ptsx),
    }
    reserve_buffer = {
        "asset": daix.symbol,
        "window": window,
        "floor": f"{_atoms(4_000, daix)} amount<DAIX>",
        "cap_per_epoch": _atoms(1_000_000, daix),
        "cooldown": f"{2 * epoch_s} s",
        "lot": _atoms(1_000, daix),
    }
    beneficiaries = [wallet.address for wallet in deployment.beneficiaries]
    texts = {
        "fee_window": _adapted("fee_window", fee_window),
        "points_window": _adapted("fee_window", points_window),
        "reserve_buffer": _with_shares(_adapted("reserve_buffer", reserve_buffer), beneficiaries),
    }
    for name, text in texts.items():
        parse_rule(text, name=name, contracts=set(facts["contracts"]), tokens=set(facts["tokens"]))
    return texts


def _atoms(whole: int, token: Token) -> str:
    return f"{whole * token.unit:_}"


def _adapted(name: str, values: Mapping[str, str]) -> str:
    """The shipped rule's text with other values; each key stands there once, and its comment stays."""
    path = REPOSITORY / "rules" / name / "rule.yaml"
    if not path.is_file():
        raise ConfigError("the shipped rule is not there", where=str(path), mend="check the repository out again")
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text, count = re.subn(rf"^( *{key}: *)[^#\n]*?( *(?:#.*)?)$", rf"\g<1>{value}\g<2>", text, flags=re.MULTILINE)
        assert count == 1, f"{path} has {key} {count} times"
    text = re.sub(r"(?<=amount<)USDX(?=>)", values["asset"], text)
    return f"# The rule that ships as {path.relative_to(REPOSITORY)}, with this sandbox's numbers.\n{text}"


def _with_shares(text: str, beneficiaries: Sequence[Address]) -> str:
    """The addresses of the shares, in the order in which they stand there, replaced."""
    fresh = iter(beneficiaries)
    text = re.sub(r"(?<=\bto: )0x[0-9a-fA-F]{40}\b", lambda _: format_address(next(fresh)), text)
    assert next(fresh, None) is None, "the shipped rule has fewer shares than there are beneficiaries"
    return text.replace("shares: # replace these addresses by your own", "shares:")
