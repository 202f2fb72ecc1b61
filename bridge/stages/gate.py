"""A person's call to the gate, signed with a key of their own: simulated ─► signed ─► sent ─► in a block.

Nothing of it is written to the database: what counts is what the chain says, and calling twice does no harm.
"""

from __future__ import annotations

from bridge.domain.errors import RefusedError, RetryableError
from bridge.domain.payouts import Action, Inclusion, Refusal, Signed, Slot
from bridge.domain.states import SlotState
from bridge.domain.units import BlockStamp, format_tx
from bridge.ports.paying import BroadcastOutcome, Payer
from bridge.ports.reading import ChainReader
from bridge.ports.running import Clock

POLL_MS = 500


async def send_call(
    chain: ChainReader, payer: Payer, clock: Clock, call: Action, wait_ms: int
) -> tuple[bytes, Inclusion]:
    """Send the payload of `call` from the payer's account; transaction id and receipt.

    Raises RefusedError where the chain would refuse it, or did; RetryableError where it is in no block after `wait_ms`.
    """
    [head] = await chain.blocks([await chain.node_head()])
    at = BlockStamp(chain.name, head.number, head.hash)
    ready = await payer.preflight(call, at)
    if isinstance(ready, Refusal):
        raise RefusedError(ready.reason)
    # The next nonce after what is in blocks: where another transaction of the account waits, nodes refuse this one.
    nonce = await chain.sequence(payer.account, at)
    assert nonce is not None, "gates are contracts of chains whose accounts have nonces"
    signed = await payer.sign(call, Slot(0, payer.account, nonce, ready.gas_limit, SlotState.LIVE), None)
    assert isinstance(signed, Signed), "a first attempt always has fees"
    name = f"transaction {format_tx(signed.tx_id)}"
    answer = await payer.broadcast(signed.raw)
    if answer.outcome is BroadcastOutcome.REJECTED:
        raise RetryableError(f"{name} was not taken: {answer.reason}")
    give_up_ms = clock.monotonic_ms() + wait_ms
    while not (found := await payer.inclusions(signed.tx_id)):
        if clock.monotonic_ms() >= give_up_ms:
            raise RetryableError(f"{name} is sent, and in no block yet: look for it before you send another")
        await clock.sleep_ms(POLL_MS)
    if not found[0].succeeded:
        raise RefusedError(f"{name} reverted in block {found[0].block.number}")
    return signed.tx_id, found[0]
