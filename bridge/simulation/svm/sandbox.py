"""A Solana chain with a world on it, for a person to look at and for a daemon to work on.

DIR/bridge.toml            the daemon's configuration: this chain alone, or beside what another sandbox wrote there
DIR/svm-*.json, .password  the keystores that it names, and their passwords        DIR/rules/svm/  its rules
DIR/solana.json            what is where, for other programs
DIR/solana-operator.json   the operator's key, as the Solana command line keeps one: 64 numbers
DIR/solana-vault.json      the vault's key
DIR/solana.log             what the chain said
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from bridge.domain.errors import ConfigError, RetryableError
from bridge.simulation.postgres import Postgres
from bridge.simulation.svm.files import SOL_TOKEN, Site, write_alone, write_site
from bridge.simulation.svm.node import NodeProcess
from bridge.simulation.svm.settings import SLOT_MS, Settings
from bridge.simulation.svm.stage import Token, derive_key

KEYS = {"operator": "solana-operator.json", "vault": "solana-vault.json"}
EPOCH_S = 60
"""Length of the rules' windows."""


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What it is made from; the same settings make the same keys, tokens and holdings."""

    seed: int
    participants: int = 12
    slot_ms: int = SLOT_MS

    def check(self) -> None:
        """Raises ConfigError for a value that makes no sense."""
        if not 1 <= self.participants <= 1000:
            raise ConfigError("participants must be 1 … 1000")


class SolanaSandbox:
    """A running one. `async with SolanaSandbox.start(directory, SandboxSettings(seed=7)) as sandbox: …`"""

    def __init__(
        self, directory: Path, settings: SandboxSettings, process: NodeProcess, postgres: Postgres | None
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.process = process
        self.postgres = postgres

    @classmethod
    @asynccontextmanager
    async def start(
        cls, directory: Path, settings: SandboxSettings, *, beside: bool = False
    ) -> AsyncIterator[SolanaSandbox]:
        """Start the chain, build the world and write the files into a directory that is ours; end it all at the end.

        With `beside` another sandbox has a database and a configuration there already, which gets this chain too.
        Raises ConfigError for settings that make no sense.
        """
        settings.check()
        chain = Settings(seed=settings.seed, slot_ms=settings.slot_ms)
        async with AsyncExitStack() as stack:
            process = await NodeProcess.start(directory / "solana.log", chain, participants=settings.participants)
            stack.push_async_callback(process.stop)
            postgres = None
            if not beside:
                postgres = await Postgres.start(directory / "postgres.log")
                stack.push_async_callback(postgres.stop)
            sandbox = cls(directory, settings, process, postgres)
            sandbox.write_files()
            yield sandbox

    @property
    def facts_path(self) -> Path:
        """Where the facts are."""
        return self.directory / "solana.json"

    @property
    def config_path(self) -> Path:
        """The daemon's configuration."""
        return self.directory / "bridge.toml"

    def facts(self) -> dict[str, Any]:
        """What solana.json says."""
        told = self.process.facts
        return {
            "seed": self.settings.seed,
            "slot_ms": self.settings.slot_ms,
            "rpc_url": told["rpc_url"],
            "ws_url": told["ws_url"],
            "control_url": told["control_url"],
            "genesis_hash": told["genesis_hash"],
            "keys": KEYS,
            **told["world"],
        }

    def write_files(self) -> None:
        """Write the keys, which the seed gives, the configuration, and then the facts: where they are, the rest is."""
        for name, file in KEYS.items():
            _write_key(self.directory / file, derive_key(self.settings.seed, name))
        if self.postgres is None:
            section = write_site(self.directory, self._site())
            with self.config_path.open("a", encoding="utf-8") as config:
                config.write(section)
        else:
            write_alone(self.config_path, self._site(), self.postgres.url)
        self.facts_path.write_text(json.dumps(self.facts(), indent=2) + "\n")

    def _site(self) -> Site:
        facts = self.facts()
        # Whoever is paid in a token that withholds a fee gets less than was decided, so payouts of it are refused.
        tokens = [
            Token(symbol, Pubkey.from_string(each["mint"]), each["decimals"], Pubkey.from_string(each["program"]))
            for symbol, each in facts["tokens"].items()
            if not each["transfer_fee_bps"]
        ]
        return Site(
            genesis_hash=facts["genesis_hash"],
            rpc_url=facts["rpc_url"],
            ws_url=facts["ws_url"],
            start_slot=facts["start_slot"],
            poll_interval_ms=self.settings.slot_ms,
            operator=derive_key(self.settings.seed, "operator"),
            vault=derive_key(self.settings.seed, "vault"),
            pool=facts["pool"],
            obligations=facts["obligations"],
            tokens=(*tokens, SOL_TOKEN),
            beneficiaries=[Pubkey.from_string(each) for each in facts["beneficiaries"]],
            epoch_s=EPOCH_S,
        )

    def lines(self) -> list[str]:
        """What a person wants to know first."""
        facts = self.facts()
        tokens = [f"{symbol} {token['mint']}" for symbol, token in facts["tokens"].items()]
        return [
            f"Solana: RPC {facts['rpc_url']}  WebSocket {facts['ws_url']}",
            f"  operator {facts['operator']}",
            f"  vault    {facts['vault']}",
            *(f"  mint     {token}" for token in tokens),
            f"  {len(facts['participants'])} participants and all the rest: {self.facts_path}",
        ]

    async def watch(self) -> None:
        """Never returns. Raises RetryableError when a part of it dies."""
        servers = [self.process.process, *([] if self.postgres is None else [self.postgres.process])]
        tasks = [asyncio.create_task(server.ended(), name=server.name) for server in servers]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        raise RetryableError(f"the sandbox broke: {', '.join(task.get_name() for task in done)} ended")


def _write_key(path: Path, key: Keypair) -> None:
    """Readable by us alone, also for a moment."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(list(bytes(key)), file)
