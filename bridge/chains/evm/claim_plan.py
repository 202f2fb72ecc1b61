"""A distribution that is claimed: its tree, its id, its two calls.

    order, leaves ─► ClaimSet ─► proposeRoot(root, …), activate(id)

`leaves` are what each account was given in all, so the root says more than the order does; both are in the content.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_hash.auto import keccak

from bridge.chains.evm.abi import encode_call
from bridge.chains.evm.claims import ClaimSet
from bridge.chains.evm.distributions import derive_id, token_of
from bridge.domain.errors import HoldError
from bridge.domain.payouts import ActionKind, Distribution, Leg, Order, Payout, PlannedCall, pack_batches
from bridge.domain.units import Address, hexed

PROPOSE_ROOT = "proposeRoot(bytes32,uint64,uint64,address,uint256,uint32,bytes32,uint256,bytes32,string)"
ACTIVATE = "activate(bytes32)"


def build_set(order: Order, leaves: Sequence[Payout], *, chain_id: int, contract: Address) -> ClaimSet:
    """Raises HoldError where no tree can be made of `leaves`."""
    pairs = ((leaf.recipient, leaf.amount) for leaf in leaves)
    try:
        return ClaimSet.build(chain_id, contract, token_of(order.asset), pairs)
    except ValueError as error:
        raise HoldError(f"rule {order.rule}, window from {order.window_start}: no claim tree: {error}") from None


def content_hash_of(order: Order, claims: ClaimSet) -> bytes:
    """As Claims.proposeRoot binds it to the id."""
    return keccak(
        encode(
            ["uint256", "uint32", "bytes32", "uint256", "bytes32"],
            [order.total, len(claims), claims.root, claims.total, order.decision_id],
        )
    )


def plan_tree(
    order: Order, leaves: Sequence[Payout], *, chain_id: int, contract: Address, uri: str | None
) -> tuple[Distribution, tuple[PlannedCall, ...]]:
    """`uri` is where the files of all distributions are; without one the proposal names its content alone."""
    claims = build_set(order, leaves, chain_id=chain_id, contract=contract)
    token, rule_id = token_of(order.asset), keccak(order.rule.encode())
    window = (order.window_start, order.window_end)
    distribution_id = derive_id(chain_id, contract, rule_id, window, token)
    place = f"urn:sha256:{order.decision_id.hex()}" if uri is None else f"{uri.rstrip('/')}/0x{distribution_id.hex()}/"
    proposal = encode_call(
        PROPOSE_ROOT,
        *(rule_id, *window, hexed(token), order.total),
        *(len(claims), claims.root, claims.total, order.decision_id, place),
    )
    calls = (
        PlannedCall(0, ActionKind.PROPOSE, contract, proposal),
        PlannedCall(1, ActionKind.EXECUTE, contract, encode_call(ACTIVATE, distribution_id)),
    )
    batches = pack_batches(order.payouts, len(order.payouts))
    return Distribution(distribution_id, order, content_hash_of(order, claims), batches, Leg.CLAIM), calls
