"""Judges a run from the outside: what the chain holds against what the traffic's own record says it must hold.

Nothing here trusts the daemon: amounts are added up again from the traffic, and balances are read from the
chain with web3, which the daemon does not use. A payout sent twice, to the wrong account or not at all shows as a
difference of somebody's balance; one that the distributor kept, as a difference of what it owes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address
from eth_utils.conversions import to_bytes
from web3 import AsyncHTTPProvider, AsyncWeb3

from bridge.domain.units import Address, format_address
from bridge.simulation.sandbox import Sandbox
from bridge.simulation.scenario import Decided
from bridge.simulation.scenes.scene import SceneRule
from bridge.simulation.traffic import SIGNS, WORTH_PER_SENDER, Token, TrafficBlock


@dataclass(frozen=True, slots=True)
class Paid:
    """One payout as the daemon says that it became: `outcome` is paid, credited or claimable."""

    distribution_id: bytes
    token: Address
    recipient: Address
    amount: int
    outcome: str | None


async def audit(sandbox: Sandbox, payouts: Sequence[Paid]) -> list[str]:
    """Every difference between the chain and what it must hold, in words; an empty list is the good answer."""
    wrong: list[str] = []
    web3 = AsyncWeb3(AsyncHTTPProvider(sandbox.rpc_url))
    try:
        for token in sandbox.deployment.stage.tokens:
            wrong += await _audit_token(web3, sandbox, token, payouts)
    finally:
        await web3.provider.disconnect()
    return wrong


async def _audit_token(
    web3: AsyncWeb3[AsyncHTTPProvider], sandbox: Sandbox, token: Token, payouts: Sequence[Paid]
) -> list[str]:
    wrong: list[str] = []
    address = to_checksum_address(token.contract.address)
    contract = web3.eth.contract(address, abi=token.contract.artifact.abi)
    keeper = sandbox.deployment.distributor
    distributor = web3.eth.contract(to_checksum_address(keeper.address), abi=keeper.artifact.abi)
    wrong += await _audit_claims(web3, sandbox, token, payouts)
    withdrawals = await distributor.events.Withdrawn.get_logs(from_block=0, argument_filters={"token": address})
    claims = web3.eth.contract(
        to_checksum_address(sandbox.deployment.claims.address), abi=sandbox.deployment.claims.artifact.abi
    )
    taken = await claims.events.Claimed.get_logs(from_block=0, argument_filters={"token": address})
    expected = defaultdict(int, _expected_balances(sandbox, token, payouts))
    for fields in (log["args"] for log in taken):
        expected[_account(fields["recipient"])] += fields["amount"]
    owed: defaultdict[Address, int] = defaultdict(int)
    for payout in payouts:
        if payout.token == token.contract.address and payout.outcome == "credited":
            owed[payout.recipient] += payout.amount
    for fields in (log["args"] for log in withdrawals):
        owed[_account(fields["account"])] -= fields["amount"]
        expected[_account(fields["to"])] += fields["amount"]
    for account, amount in sorted(expected.items()):
        held = await contract.functions.balanceOf(to_checksum_address(account)).call()
        if held != amount:
            wrong.append(
                f"{format_address(account)} holds {held} atoms of {token.symbol} on the chain, "
                f"{amount} follow from its own transactions and its payouts"
            )
        kept = await distributor.functions.owed(address, to_checksum_address(account)).call()
        if kept != owed[account]:
            wrong.append(
                f"the distributor owes {format_address(account)} {kept} atoms of {token.symbol} on the chain, "
                f"{owed[account]} follow from the payouts that it kept and the withdrawals"
            )
    return wrong


async def _audit_claims(
    web3: AsyncWeb3[AsyncHTTPProvider], sandbox: Sandbox, token: Token, payouts: Sequence[Paid]
) -> list[str]:
    """Nobody has claimed more than it was given, and what is left is there."""
    keeper, address = sandbox.deployment.claims, to_checksum_address(token.contract.address)
    claims = web3.eth.contract(to_checksum_address(keeper.address), abi=keeper.artifact.abi)
    contract = web3.eth.contract(address, abi=token.contract.artifact.abi)
    given: defaultdict[Address, int] = defaultdict(int)
    for payout in payouts:
        if payout.token == token.contract.address and payout.outcome == "claimable":
            given[payout.recipient] += payout.amount
    wrong, left = [], 0
    for account, amount in sorted(given.items()):
        claimed = await claims.functions.claimed(address, to_checksum_address(account)).call()
        left += amount - claimed
        if claimed > amount:
            wrong.append(
                f"{format_address(account)} has claimed {claimed} atoms of {token.symbol}, it was given {amount}"
            )
    held = await contract.functions.balanceOf(to_checksum_address(keeper.address)).call()
    if held != left:
        wrong.append(f"the claims contract holds {held} atoms of {token.symbol}, {left} are given and not claimed")
    return wrong


def _account(checksummed: str) -> Address:
    return Address(to_bytes(hexstr=checksummed))


def _expected_balances(sandbox: Sandbox, token: Token, payouts: Sequence[Paid]) -> dict[Address, int]:
    """What each participant and beneficiary must hold of `token`, in atoms, withdrawals from the distributor apart."""
    stage = sandbox.deployment.stage
    start = WORTH_PER_SENDER * token.unit if token is stage.tokens[0] else 0
    expected = dict.fromkeys((wallet.address for wallet in stage.participants), start)
    expected |= dict.fromkeys((wallet.address for wallet in stage.beneficiaries), 0)
    for block in sandbox.miner.history:
        for act in block.acts:
            if act.token == token.symbol and act.sender in expected:
                expected[act.sender] += SIGNS.get(act.kind, 0) * act.amount
    for payout in payouts:
        if payout.token == token.contract.address and payout.outcome == "paid":
            expected[payout.recipient] = expected.get(payout.recipient, 0) + payout.amount
    return expected


def audit_rule(
    rule: SceneRule, history: Sequence[TrafficBlock], decided: Sequence[Decided], ends: Sequence[int]
) -> list[str]:
    """Compare what the rule found, and gave to whom, with what follows from the traffic where the scene can tell; and
    see that none of the windows that end at `ends` was left out. `decided` are all its windows, in order."""
    known = {each.end for each in decided}
    wrong = [f"{rule.name} has no decision for the window until {end}" for end in ends if end not in known]
    if rule.surplus is not None:
        for each, surplus in zip(decided, rule.surplus(history, decided), strict=True):
            if each.surplus != surplus:
                wrong.append(
                    f"{rule.name} found {each.surplus} atoms in the window {each.window}, "
                    f"{surplus} follow from what was done in it"
                )
    if rule.weights is not None:
        for each, weights in zip(decided, rule.weights(history, decided), strict=True):
            wrong += _audit_shares(rule.name, each, weights)
    return wrong


def _audit_shares(name: str, decided: Decided, weights: Mapping[Address, int]) -> list[str]:
    """Where nothing came from earlier windows and nothing was left to later ones, everybody has its share, but for the
    atoms that rounding leaves: fewer than there are shares."""
    if decided.carried or not decided.paid:
        return []
    total, whole, wrong = sum(decided.paid.values()), sum(weights.values()), list[str]()
    for account in sorted(decided.paid.keys() | weights.keys()):
        paid, weight = decided.paid.get(account, 0), weights.get(account, 0)
        if abs(paid * whole - total * weight) >= whole * len(weights):
            wrong.append(
                f"{name} gave {format_address(account)} {paid} of {total} atoms in the window {decided.window}, "
                f"its share is {weight} of {whole}"
            )
    return wrong
