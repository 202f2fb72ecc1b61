"""OpenZeppelin's JavaScript library, which is what claimants' front ends use: the tree it makes of the same claims."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.domain.units import Address, format_address

PROGRAM = Path(__file__).with_suffix(".cjs")
VENV = Path(__file__).parents[2] / ".venv" / "bin"  # where it has a Node of its own, that is used


@dataclass(frozen=True, slots=True)
class OpenZeppelinTree:
    root: bytes
    nodes: list[bytes] | None  # from the root on; None for more than 1,000 leaves
    proofs: list[list[bytes]]  # of the first claims, as many as were asked for
    tree_s: float
    proofs_s: float
    memory_mb: float  # at its peak, the process as a whole


def make_trees(
    chain_id: int,
    contract: Address,
    token: Address,
    cumulatives: Sequence[tuple[Address, int]],
    *,
    proofs: int,
    counts: Sequence[int],
) -> list[OpenZeppelinTree]:
    """For each of `counts` the tree of so many of the first claims, with at most so many proofs."""
    arguments = (chain_id, format_address(contract), format_address(token), proofs, *counts)
    finished = subprocess.run(
        ["node", "--max-old-space-size=12000", PROGRAM, *map(str, arguments)],
        input=b"".join(account + amount.to_bytes(32) for account, amount in cumulatives),
        env={**os.environ, "PATH": os.pathsep.join([str(VENV), os.environ["PATH"]])},
        stdout=subprocess.PIPE,
        check=True,
    )
    return [_read(json.loads(line)) for line in finished.stdout.splitlines()]


def _read(made: dict[str, Any]) -> OpenZeppelinTree:
    return OpenZeppelinTree(
        root=_bytes(made["root"]),
        nodes=None if made["nodes"] is None else [_bytes(node) for node in made["nodes"]],
        proofs=[[_bytes(node) for node in proof] for proof in made["proofs"]],
        tree_s=made["treeSeconds"],
        proofs_s=made["proofsSeconds"],
        memory_mb=made["memoryMb"],
    )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
