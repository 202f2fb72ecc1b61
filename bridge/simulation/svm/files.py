"""What an operator would write to run the daemon on a local Solana chain: keystores, rules, a section of bridge.toml.

The rules are those of the catalogue, with the numbers and the addresses of this chain.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import solders.system_program as system
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from bridge.chains.solana.signer import make_keystore
from bridge.domain.units import Address
from bridge.simulation.files import write_file
from bridge.simulation.rules import adapted, with_shares
from bridge.simulation.scenes.scene import Numbers, SceneRule
from bridge.simulation.svm.stage import SOL, VAULT_LAMPORTS, Token

CHAIN = "svm"
"""The name of the chain in bridge.toml."""
RULES = f"rules/{CHAIN}"
"""Where its rules are: those of another chain have the same names."""
SCRYPT_N = 1 << 10
"""Few rounds: it guards nothing, and the daemon should start at once."""

SOL_TOKEN = Token("SOL", Pubkey.default(), 9, system.ID)
RESERVE_SOL = VAULT_LAMPORTS // SOL
LOT = 100_000  # lamports
PAID_AT_MOST = 20 * LOT  # of one window: three tenths of it are less than the rent of an empty account


@dataclass(frozen=True, slots=True)
class Site:
    """A chain with a vault on it, and what belongs to that. Addresses are base58."""

    genesis_hash: str
    rpc_url: str
    ws_url: str
    start_slot: int
    poll_interval_ms: int
    operator: Keypair
    vault: Keypair
    pool: str
    obligations: str  # the mint whose supply is what the treasury owes
    tokens: Sequence[Token]  # USDX and SOL among them
    beneficiaries: Sequence[Pubkey]
    epoch_s: int
    batch_recipients: int = 5
    lookup_tables: Sequence[str] = ()
    keeper: Keypair | None = None  # of the tables, which a daemon has no use for


def fee_window(numbers: Numbers) -> Mapping[str, str]:
    """What differs from the rule that ships."""
    return {"minimum_total": numbers.atoms(1, "USDX"), "minimum_per_recipient": numbers.atoms(1, "USDX")}


def reserve_buffer(numbers: Numbers) -> Mapping[str, str]:
    """What differs from the rule that ships: it pays SOL."""
    return {
        "asset": SOL_TOKEN.symbol,
        "floor": numbers.atoms(RESERVE_SOL, SOL_TOKEN.symbol),
        "cap_per_epoch": f"{PAID_AT_MOST:_}",
        "cooldown": f"{numbers.epoch_s} s",
        "lot": f"{LOT:_}",
    }


SHIPPED: Mapping[str, Callable[[Numbers], Mapping[str, str]]] = {
    "fee_window": fee_window,
    "reserve_buffer": reserve_buffer,
}
WITH_SHARES = ("reserve_buffer",)


def write_site(directory: Path, site: Site) -> str:
    """Write keystores and rules; what bridge.toml must say of the chain and its rules."""
    keys = {"operator": site.operator, "vault": site.vault}
    for name, key in (keys if site.keeper is None else {**keys, "keeper": site.keeper}).items():
        password = secrets.token_urlsafe(24)
        keystore = make_keystore(key.secret(), password, scrypt_n=SCRYPT_N)
        write_file(directory / f"{CHAIN}-{name}.json", json.dumps(keystore), mode=0o600)
        write_file(directory / f"{CHAIN}-{name}.password", password + "\n", mode=0o600)
    (directory / RULES).mkdir(parents=True, exist_ok=True)
    numbers = Numbers(site.epoch_s, [_Unit(token) for token in site.tokens])
    for name, values in SHIPPED.items():
        text = adapted(SceneRule(name, name, values), numbers)
        if name in WITH_SHARES:
            text = with_shares(text, [Address(bytes(key)) for key in site.beneficiaries])
        write_file(directory / RULES / f"{name}.yaml", text)
    return _section(site)


def write_alone(path: Path, site: Site, database_url: str) -> None:
    """The configuration of a daemon with this chain alone, and what it names."""
    section = write_site(path.parent, site)
    text = f"""\
# Written by the simulation, which must be running for this to work.
lease_duration_ms = 3000

[database]
url = {json.dumps(database_url)}

[logs]
level = "info"
format = "json"
{section}"""
    write_file(path, text)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A token as the numbers of rules are made with."""

    token: Token

    @property
    def symbol(self) -> str:
        return self.token.symbol

    @property
    def unit(self) -> int:
        return int(10**self.token.decimals)


def _section(site: Site) -> str:
    tokens = "\n".join(
        f'[chains.{CHAIN}.tokens.{token.symbol}]\naddress = "{token.mint}"\ndecimals = {token.decimals}\n'
        for token in site.tokens
    )
    tables = ", ".join(f'"{table}"' for table in site.lookup_tables)
    rules = "\n".join(f'[[rules]]\nfile = "{RULES}/{name}.yaml"\nchain = "{CHAIN}"\n' for name in SHIPPED)
    return f"""
[chains.{CHAIN}]
kind = "solana"
genesis_hash = "{site.genesis_hash}"
rpc = ["{site.rpc_url}"]
websocket = "{site.ws_url}"
start_block = {site.start_slot}
poll_interval_ms = {site.poll_interval_ms}
lookup_tables = [{tables}]

[chains.{CHAIN}.contracts]
vault = "{site.vault.pubkey()}"
pool = "{site.pool}"
obligations = "{site.obligations}"

{tokens}
[chains.{CHAIN}.operator]
keystore = "{CHAIN}-operator.json"
password_file = "{CHAIN}-operator.password"

[chains.{CHAIN}.vault_key]
keystore = "{CHAIN}-vault.json"
password_file = "{CHAIN}-vault.password"

[chains.{CHAIN}.spending]
batch_recipients = {site.batch_recipients}

{rules}"""
