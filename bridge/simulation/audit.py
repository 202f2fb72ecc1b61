"""Judges a run from the outside: what the chain holds against what the traffic's own record says it must hold.

Nothing here trusts the daemon's ledger: fees and stakes are added up again from the traffic, and balances are read from
the chain. A payout sent twice, to the wrong account or not at all shows as a difference of somebody's balance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.domain.units import Address, format_address
from bridge.simulation.sandbox import Sandbox
from bridge.simulation.scenario import fees
from bridge.simulation.traffic import WORTH_PER_SENDER, Kind, Token


@dataclass(frozen=True, slots=True)
class Paid:
    """One payout as the daemon says that it became: `outcome` is paid or credited."""

    distribution_id: bytes
    token: Address
    recipient: Address
    amount: int
    outcome: str | None


async def audit(sandbox: Sandbox, payouts: Sequence[Paid]) -> list[str]:
    """Every difference between the chain and what it must hold, in words; an empty list is the good answer."""
    wrong: list[str] = []
    for token in sandbox.deployment.stage.tokens:
        expected = _expected_balances(sandbox, token, payouts)
        for account, amount in sorted(expected.items()):
            held = await _balance(sandbox, token, account)
            if held != amount:
                wrong.append(
                    f"{format_address(account)} holds {held} atoms of {token.symbol} on the chain, "
                    f"{amount} follow from its own transactions and its payouts"
                )
    return wrong


def _expected_balances(sandbox: Sandbox, token: Token, payouts: Sequence[Paid]) -> dict[Address, int]:
    """What each participant and beneficiary must hold of `token`, in atoms."""
    stage = sandbox.deployment.stage
    is_pool_token = token is stage.tokens[0]
    start = WORTH_PER_SENDER * token.unit if is_pool_token else 0
    expected: dict[Address, int] = defaultdict(int)
    for wallet in stage.participants:
        expected[wallet.address] = start
    for wallet in sandbox.deployment.beneficiaries:
        expected[wallet.address] = 0
    signs = {Kind.DEPOSIT: -1, Kind.WITHDRAW: 1}
    for block in sandbox.miner.history:
        for act in block.acts:
            if act.kind in signs and is_pool_token:
                expected[act.sender] += signs[act.kind] * act.amount
    for payout in payouts:
        if payout.token == token.contract.address and payout.outcome == "paid":
            expected[payout.recipient] += payout.amount
    return dict(expected)


async def _balance(sandbox: Sandbox, token: Token, account: Address) -> int:
    call = {"to": format_address(token.contract.address), "data": "0x70a08231" + account.rjust(32, b"\0").hex()}
    return int(await sandbox.anvil.call("eth_call", call, "latest"), 16)


def audit_fees(sandbox: Sandbox, found: dict[int, int]) -> list[str]:
    """Compare the surplus that fee_window found, atoms by the start of its window, with the fees that were paid."""
    symbol = sandbox.deployment.stage.tokens[0].symbol
    wrong: list[str] = []
    for start, surplus in sorted(found.items()):
        paid = fees(sandbox.miner.history, start, start + sandbox.settings.epoch_s).get(symbol, 0)
        if paid != surplus:
            wrong.append(f"fee_window found {surplus} atoms in the window from {start}, {paid} were paid in it")
    return wrong
