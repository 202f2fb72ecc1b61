"""Whether a transaction may be part of the block upon another one: what Agave asks before it runs anything.

1  its blockhash is one of the newest 151 of this very fork ─ or ─ it is the nonce of an account that one of its
   signers controls and that has not been advanced in this slot yet
2  it was not processed before on this fork
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from solders.pubkey import Pubkey

from bridge.simulation.svm.machine import NONCE_AUTHORITY, NONCE_VALUE, durable_nonce, is_nonce
from bridge.simulation.svm.transactions import Reader, Wire

if TYPE_CHECKING:
    from bridge.simulation.svm.chain import Block, Chain

MAX_PROCESSING_AGE = 150
"""Blocks that may lie between the block of a blockhash and the parent of the block that uses it.

`lastValidBlockHeight` is that block's height + 150, as Agave computes it; a transaction can land in a block one higher.
So only when a block *above* it is finalized and the transaction is nowhere has it expired for good.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`err` is Agave's TransactionError; None: it may run, and uses the durable `nonce` unless that is None."""

    err: str | None
    nonce: Pubkey | None = None


def admit(chain: Chain, wire: Wire, upon: Block, read: Reader) -> Verdict:
    """Decide for the block that follows `upon`; `read` gives accounts as they are after `upon`."""
    nonce = None
    if not blockhash_valid(chain, wire.blockhash, upon):
        nonce = _advanceable(wire, upon, read)
        if nonce is None:
            return Verdict("BlockhashNotFound")
    processed = chain.history.find(wire.signature)
    if processed is not None and processed.slot <= upon.slot:
        return Verdict("AlreadyProcessed")
    return Verdict(None, nonce)


def blockhash_valid(chain: Chain, blockhash: str, upon: Block) -> bool:
    """Whether it is the hash of `upon` or of one of the 150 blocks before it."""
    height = chain.height_of_hash(blockhash)
    return height is not None and 0 <= upon.height - height <= MAX_PROCESSING_AGE


def _advanceable(wire: Wire, upon: Block, read: Reader) -> Pubkey | None:
    key = wire.nonce()
    account = read(key) if key is not None else None
    if account is None or not is_nonce(account):
        return None
    value = account.data[NONCE_VALUE]
    current = value == bytes(wire.message.recent_blockhash) and value != durable_nonce(upon.hash)
    authorized = Pubkey.from_bytes(account.data[NONCE_AUTHORITY]) in wire.signers()
    return key if current and authorized else None
