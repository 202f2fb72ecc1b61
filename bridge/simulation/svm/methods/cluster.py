"""Methods about the node and where the chain stands."""

from __future__ import annotations

from typing import Any

from bridge.simulation.svm.machine import SLOTS_IN_AN_EPOCH
from bridge.simulation.svm.parameters import Parameters
from bridge.simulation.svm.view import API_VERSION, Method, View

FEATURE_SET = 0


def get_health(view: View, _: Parameters) -> str:
    """`ok`, also on a node that is behind and does not know it."""
    view.check_health()
    return "ok"


def get_version(_view: View, _: Parameters) -> dict[str, Any]:
    """What we behave like."""
    return {"feature-set": FEATURE_SET, "solana-core": API_VERSION}


def get_genesis_hash(view: View, _: Parameters) -> str:
    """Which chain this is."""
    return str(view.chain.genesis_hash)


def get_slot(view: View, parameters: Parameters) -> int:
    """The slot of the newest block."""
    return view.bank(parameters.config(0)).slot


def get_block_height(view: View, parameters: Parameters) -> int:
    """How many blocks lie beneath the newest one."""
    return view.bank(parameters.config(0)).height


def get_transaction_count(view: View, parameters: Parameters) -> int:
    """How many transactions there were up to the newest block."""
    block = view.bank(parameters.config(0))
    newer = view.chain.blocks[block.height - view.chain.blocks[0].height + 1 :]
    return view.chain.landed - sum(len(later.records) for later in newer)


def get_epoch_info(view: View, parameters: Parameters) -> dict[str, Any]:
    """Where in its epoch the newest block stands."""
    block = view.bank(parameters.config(0))
    epoch, index = divmod(block.slot, SLOTS_IN_AN_EPOCH)
    return {
        "absoluteSlot": block.slot,
        "blockHeight": block.height,
        "epoch": epoch,
        "slotIndex": index,
        "slotsInEpoch": SLOTS_IN_AN_EPOCH,
        "transactionCount": get_transaction_count(view, parameters),
    }


def get_first_available_block(view: View, _: Parameters) -> int:
    """The slot of the oldest block that can be asked for."""
    first = view.first_slot
    return next((block.slot for block in view.chain.blocks if block.slot >= first), first)


METHODS: dict[str, Method] = {
    "getHealth": get_health,
    "getVersion": get_version,
    "getGenesisHash": get_genesis_hash,
    "getSlot": get_slot,
    "getBlockHeight": get_block_height,
    "getTransactionCount": get_transaction_count,
    "getEpochInfo": get_epoch_info,
    "getFirstAvailableBlock": get_first_available_block,
    "minimumLedgerSlot": get_first_available_block,
}
