"""A Solana chain with a world on it, for a person to look at and for a daemon to work on.

DIR/solana.json            what is where, for other programs
DIR/solana-operator.json   the operator's key, as the Solana command line keeps one: 64 numbers
DIR/solana-vault.json      the vault's key
DIR/solana.log             what the chain said
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solders.keypair import Keypair

from bridge.domain.errors import ConfigError, RetryableError
from bridge.simulation.svm.node import NodeProcess
from bridge.simulation.svm.settings import SLOT_MS, Settings
from bridge.simulation.svm.stage import derive_key

KEYS = {"operator": "solana-operator.json", "vault": "solana-vault.json"}


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

    def __init__(self, directory: Path, settings: SandboxSettings, process: NodeProcess) -> None:
        self.directory = directory
        self.settings = settings
        self.process = process

    @classmethod
    @asynccontextmanager
    async def start(cls, directory: Path, settings: SandboxSettings) -> AsyncIterator[SolanaSandbox]:
        """Start the chain, build the world and write the files into a directory that is ours; end it all at the end.

        Raises ConfigError for settings that make no sense.
        """
        settings.check()
        chain = Settings(seed=settings.seed, slot_ms=settings.slot_ms)
        process = await NodeProcess.start(directory / "solana.log", chain, participants=settings.participants)
        try:
            sandbox = cls(directory, settings, process)
            sandbox.write_files()
            yield sandbox
        finally:
            await process.stop()

    @property
    def facts_path(self) -> Path:
        """Where the facts are."""
        return self.directory / "solana.json"

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
        """Write the keys, which the seed gives, and then the facts."""
        for name, file in KEYS.items():
            _write_key(self.directory / file, derive_key(self.settings.seed, name))
        self.facts_path.write_text(json.dumps(self.facts(), indent=2) + "\n")

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
        """Never returns. Raises RetryableError when the chain dies."""
        await self.process.process.ended()
        raise RetryableError("the sandbox broke: the local Solana chain ended")


def _write_key(path: Path, key: Keypair) -> None:
    """Readable by us alone, also for a moment."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(list(bytes(key)), file)
