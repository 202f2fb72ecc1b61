"""Methods about blocks.

What a slot without a block is answered with depends on how sure it is that there will be none:

    up to the finalized slot    −32007 skipped (−32009 from a node with an archive), or −32001 once it is cleaned up
    above it                    −32004 not available: it may still come, or be of a fork that dies
"""

from __future__ import annotations

from typing import Any

from bridge.simulation.svm.chain import Block, Commitment
from bridge.simulation.svm.encodings import encode_transaction
from bridge.simulation.svm.parameters import Config, Parameters
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.refusals import (
    block_cleaned_up,
    block_not_available,
    block_status_not_available_yet,
    history_not_available,
    invalid_params,
    long_term_storage_slot_skipped,
    slot_skipped,
)
from bridge.simulation.svm.view import Method, View

SLOT_RANGE_MAX = 500_000
DETAILS = ("full", "accounts", "signatures", "none")


def get_block(view: View, parameters: Parameters) -> dict[str, Any]:
    """A block with its transactions, as `transactionDetails` wants them."""
    parameters.require(1)
    slot, config = parameters.number(0), parameters.config_or_encoding(1)
    commitment = config.at_least_confirmed()
    if view.faults.no_history:
        raise history_not_available()
    return _encode(_find(view, slot, commitment), config)


def _find(view: View, slot: int, commitment: Commitment) -> Block:
    if slot > view.newest(commitment).slot:
        raise block_not_available(slot)
    if slot < view.first_slot:
        raise block_cleaned_up(slot, view.first_slot)
    block = view.chain.at_slot(slot)
    if block is None:
        if slot > view.newest(Commitment.FINALIZED).slot:
            raise block_not_available(slot)
        raise long_term_storage_slot_skipped(slot) if view.faults.archive else slot_skipped(slot)
    if block.height > view.newest(Commitment.PROCESSED).height - view.faults.unwritten_blocks:
        raise block_status_not_available_yet(slot)
    return block


def _encode(block: Block, config: Config) -> dict[str, Any]:
    details = config.text("transactionDetails", "full")
    if details not in DETAILS:
        names = ", ".join(f"`{name}`" for name in DETAILS)
        raise invalid_params(f"Invalid params: unknown variant `{details}`, expected one of {names}.")
    told: dict[str, Any] = {
        "blockhash": str(block.hash),
        "previousBlockhash": str(block.parent_hash),
        "parentSlot": block.parent_slot,
        "blockHeight": block.height,
        "blockTime": block.time,
    }
    version_max = config.version_max()
    if config.flag("rewards", default=True):
        told["rewards"] = []
    if details == "signatures":
        told["signatures"] = [record.signature for record in block.records]
    elif details == "accounts":
        told["transactions"] = [_accounts(record, version_max) for record in block.records]
    elif details == "full":
        encoding = config.text("encoding", "json")
        told["transactions"] = [encode_transaction(record, encoding, version_max) for record in block.records]
    return told


def _accounts(record: Record, version_max: int | None) -> dict[str, Any]:
    told = encode_transaction(record, "jsonParsed", version_max)
    parsed = told["transaction"]
    left_out = {"innerInstructions", "logMessages", "rewards", "loadedAddresses", "returnData", "computeUnitsConsumed"}
    return {
        **told,
        "transaction": {"signatures": parsed["signatures"], "accountKeys": parsed["message"]["accountKeys"]},
        "meta": {name: value for name, value in record.meta.items() if name not in left_out},
    }


def get_blocks(view: View, parameters: Parameters) -> list[int]:
    """The slots from the first to the last, both included, that hold a block."""
    parameters.require(1)
    start = parameters.number(0)
    second = parameters.get(1)
    config = parameters.config(1 if isinstance(second, dict) else 2)
    newest = view.newest(config.at_least_confirmed()).slot
    end = parameters.number(1) if isinstance(second, int) else newest
    if end < start:
        return []
    if end - start > SLOT_RANGE_MAX:
        raise invalid_params(f"Slot range too large; max {SLOT_RANGE_MAX}")
    return _slots(view, start, min(end, newest))


def get_blocks_with_limit(view: View, parameters: Parameters) -> list[int]:
    """The first so many slots from one on that hold a block."""
    parameters.require(2)
    start, limit = parameters.number(0), parameters.number(1)
    if limit > SLOT_RANGE_MAX:
        raise invalid_params(f"Limit too large; max {SLOT_RANGE_MAX}")
    newest = view.newest(parameters.config(2).at_least_confirmed()).slot
    return _slots(view, start, newest)[:limit]


def _slots(view: View, start: int, end: int) -> list[int]:
    first = max(start, view.first_slot)
    return [block.slot for block in view.chain.blocks if first <= block.slot <= end]


def get_block_time(view: View, parameters: Parameters) -> int | None:
    """When the block was made, in seconds."""
    parameters.require(1)
    return _find(view, parameters.number(0), Commitment.PROCESSED).time


METHODS: dict[str, Method] = {
    "getBlock": get_block,
    "getBlocks": get_blocks,
    "getBlocksWithLimit": get_blocks_with_limit,
    "getBlockTime": get_block_time,
}
