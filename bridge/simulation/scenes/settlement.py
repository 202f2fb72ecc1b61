"""Those who settle trades, and pay what is gained by it into the vault through the contract that settles."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.simulation.scenes.scene import Creation, Ground
from bridge.simulation.traffic import Allowance, Stage
from bridge.simulation.wallets import Wallet


def contracts(ground: Ground) -> Mapping[str, Creation]:
    return {"settlement": Creation("Settlement", (ground.vault_hex, ground.usdx))}


def allowance(stage: Stage, wallet: Wallet) -> Allowance:
    return Allowance(wallet, stage.tokens[0], stage.contracts["settlement"])
