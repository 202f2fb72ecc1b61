"""The chain as one node sees it: late, forgetful or unhealthy where its faults say so."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from bridge.simulation.svm.chain import Block, Chain, Commitment
from bridge.simulation.svm.faults import Faults
from bridge.simulation.svm.parameters import Config, Parameters
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.refusals import min_context_slot_not_reached, node_unhealthy
from bridge.simulation.svm.transactions import Reader

API_VERSION = "3.1.4"

Method = Callable[["View", Parameters], Any]


class View:
    """What every method gets."""

    def __init__(self, chain: Chain, faults: Faults) -> None:
        self.chain = chain
        self.faults = faults
        self.chance = random.Random(chain.settings.seed)

    def newest(self, commitment: Commitment) -> Block:
        """The newest block at this commitment, as far as this node knows."""
        return self.chain.newest(commitment, self.faults.lag_blocks)

    def bank(self, config: Config, name: str = "commitment") -> Block:
        """The block whose state is meant. Raises RpcRefusal where it is older than the client accepts."""
        block = self.newest(config.commitment(name))
        wanted = config.number("minContextSlot", 0)
        if block.slot < wanted:
            raise min_context_slot_not_reached(block.slot)
        return block

    def account(self, key: Pubkey, block: Block) -> Account | None:
        """The account as it was after `block`."""
        return self.chain.account(key, block)

    def reader(self, block: Block) -> Reader:
        """Of accounts as they were after `block`."""
        return lambda key: self.account(key, block)

    def record(self, signature: str) -> Record | None:
        """The transaction, unless this node does not have it yet, or no longer."""
        record = self.chain.history.find(signature)
        if record is None or not self.first_slot <= record.slot <= self.newest(Commitment.PROCESSED).slot:
            return None
        return record

    def status(self, slot: int) -> Commitment:
        """How sure the block of a slot is."""
        if slot <= self.newest(Commitment.FINALIZED).slot:
            return Commitment.FINALIZED
        return Commitment.CONFIRMED if slot <= self.newest(Commitment.CONFIRMED).slot else Commitment.PROCESSED

    @property
    def first_slot(self) -> int:
        """The oldest slot that this node still has."""
        return max(self.chain.blocks[0].slot, self.faults.forgotten_before_slot)

    def check_health(self) -> None:
        """Raises RpcRefusal when the node knows that something is wrong with it."""
        if self.faults.unhealthy:
            raise node_unhealthy(self.faults.lag_blocks or None)


def with_context(block: Block, value: Any) -> dict[str, Any]:
    """The answer of a method that tells the block it speaks about."""
    return {"context": {"apiVersion": API_VERSION, "slot": block.slot}, "value": value}
