"""Our compiled contracts: how to make one and how to call it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak

from bridge.domain.errors import ConfigError
from bridge.domain.units import Address

ARTIFACTS = Path(__file__).parent / "artifacts"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract."""

    name: str
    abi: Sequence[dict[str, Any]]
    bytecode: bytes

    @classmethod
    def load(cls, name: str) -> Artifact:
        """Raises ConfigError where it has not been built."""
        path = ARTIFACTS / f"{name}.json"
        if not path.is_file():
            raise ConfigError(
                f"the contract {name} has not been built", where=str(path), mend="run scripts/build-contracts"
            )
        content = json.loads(path.read_text())
        return cls(name, content["abi"], bytes.fromhex(content["bytecode"].removeprefix("0x")))

    def creation(self, *arguments: object) -> bytes:
        """What to send to make one."""
        constructors = [entry for entry in self.abi if entry["type"] == "constructor"]
        inputs = [field["type"] for field in constructors[0]["inputs"]] if constructors else []
        return self.bytecode + encode(inputs, arguments)

    def call(self, function: str, *arguments: object) -> bytes:
        """The data of a call of `function`, which must have one signature only."""
        [entry] = [entry for entry in self.abi if entry["type"] == "function" and entry["name"] == function]
        inputs = [field["type"] for field in entry["inputs"]]
        return keccak(f"{function}({','.join(inputs)})".encode())[:4] + encode(inputs, arguments)


@dataclass(frozen=True, slots=True)
class Contract:
    """A deployed contract."""

    address: Address
    artifact: Artifact

    def call(self, function: str, *arguments: object) -> bytes:
        return self.artifact.call(function, *arguments)
