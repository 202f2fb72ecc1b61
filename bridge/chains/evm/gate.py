"""The calls of ProposalGate that people make: an approver, a guardian."""

from __future__ import annotations

from bridge.chains.evm.abi import encode_call

APPROVE, VETO = "approve(bytes32,bytes32)", "veto(bytes32)"


def approve_call(distribution_id: bytes, content_hash: bytes) -> bytes:
    """Names the content that is meant: the contract refuses it for any other."""
    return encode_call(APPROVE, distribution_id, content_hash)


def veto_call(distribution_id: bytes) -> bytes:
    return encode_call(VETO, distribution_id)
