"""What nodes say to a transaction that is sent, classified in one place.

Nodes are asked to pass it on unread (no pre-flight of their own), so a node that takes it has only looked at its shape,
and one that does not says nothing about another. No answer says that a transaction failed: only its status does, or the
end of its life without one.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.chains.broadcasts import read_reply
from bridge.chains.jsonrpc import Answer
from bridge.chains.solana import rpc as values
from bridge.ports.paying import Broadcast, BroadcastOutcome

_ACCEPTED, _KNOWN, _REJECTED, _UNKNOWN = (
    BroadcastOutcome.ACCEPTED,
    BroadcastOutcome.KNOWN,
    BroadcastOutcome.REJECTED,
    BroadcastOutcome.UNKNOWN,
)
CODES: Mapping[int, BroadcastOutcome] = {
    -32003: _REJECTED,  # a signature is false
    -32013: _REJECTED,  # wrong number of signatures
    -32602: _REJECTED,  # too long, or no transaction: wrong by construction
}
REPLIES: tuple[tuple[str, BroadcastOutcome], ...] = (
    # The node has these very bytes, in a block: success of an earlier send.
    ("already been processed", _KNOWN),
    ("alreadyprocessed", _KNOWN),
    # Too old, or from a block that this node does not have: expired, or the node is behind.
    ("blockhash not found", _REJECTED),
    ("blockhashnotfound", _REJECTED),
    ("too large", _REJECTED),
)


def read_answer(answer: Answer, tx_id: bytes) -> Broadcast:
    """What one endpoint said to the transaction `tx_id`."""
    return read_reply(answer, values.text(tx_id), REPLIES, CODES)
