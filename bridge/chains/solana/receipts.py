"""What our own transactions say once they are in a block: the price they offered, and what stays in new accounts."""

from __future__ import annotations

from bridge.chains.solana.markers import marker_of, read_deed
from bridge.chains.solana.messages import Budget
from bridge.chains.solana.programs import COMPUTE_BUDGET, SYSTEM
from bridge.chains.solana.transactions import Transaction

_TRANSFER = (2).to_bytes(4, "little")
_LIMIT, _PRICE = b"\2", b"\3"


def budget_of(transaction: Transaction) -> Budget:
    """What it asked for; zero for what it did not say."""
    fields = {step.data[:1]: step.data[1:] for step in transaction.steps if step.program == bytes(COMPUTE_BUDGET)}
    return Budget(*(int.from_bytes(fields.get(kind, b""), "little") for kind in (_LIMIT, _PRICE)))


def deposits_of(transaction: Transaction) -> int:
    """Lamports that the one who paid its fee put into new accounts: rent, which does not come back by itself.

    All that left it, but for the fee and for what it paid out: its transfers to others than the marker.
    """
    payer = transaction.keys[0]
    done = read_deed(transaction.steps, [payer]) if transaction.succeeded else None
    if done is None:
        return 0
    marker = marker_of(payer, done[1].distribution_id, done[1].index)
    paid_out = sum(
        int.from_bytes(step.data[4:12], "little")
        for step in transaction.steps
        if step.program == bytes(SYSTEM) and step.data[:4] == _TRANSFER
        if step.accounts[0] == payer and step.accounts[1] not in (marker, payer)
    )
    before, after = transaction.lamports[0]
    return max(0, before - after - transaction.fee - paid_out)
