"""What the contracts of a chain say, at one block, of who may do what and how much.

Said by two endpoints alike, where there are two, at a block that both have: whoever could forge this answer could have
a daemon work with contracts that somebody else governs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from eth_hash.auto import keccak

from bridge.chains.evm.abi import decode_values, encode_call
from bridge.chains.evm.ranges import agreed_blocks, common_head
from bridge.chains.evm.rpc import QUORUM, EvmRpc
from bridge.chains.evm.wire import call_object, data_of, pinned
from bridge.domain.errors import ChainDisagrees
from bridge.domain.events import Block
from bridge.domain.governance import Governance, TokenLimits
from bridge.domain.units import Address, hexed

READS_MAX = 5
PAUSE_S = 0.5
"""Between reads that differ."""

HOLDERS_MAX = 64
"""More holders of one role than people can oversee are reported as a number, by the count that differs."""

_GATE_ROLES = ("DEFAULT_ADMIN_ROLE", "PROPOSER_ROLE", "APPROVER_ROLE", "GUARDIAN_ROLE")
ROLES: Mapping[str, tuple[str, ...]] = {
    "timelock": ("DEFAULT_ADMIN_ROLE", "PROPOSER_ROLE", "EXECUTOR_ROLE", "CANCELLER_ROLE"),
    "vault": ("DEFAULT_ADMIN_ROLE", "DISTRIBUTOR_ROLE", "GUARDIAN_ROLE"),
    "distributor": _GATE_ROLES,
    "claims": _GATE_ROLES,
}
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "timelock": ("getMinDelay",),
    "vault": ("epochLength",),
    "distributor": ("delay", "approvalLifetime"),
    "claims": ("delay", "approvalLifetime", "activationDelay"),
}
"""By contract; view functions that return a number."""
GATES = ("distributor", "claims")
"""What takes money out of the vault."""


def role_id(role: str) -> bytes:
    """OpenZeppelin's convention: the hash of the name; zero is the admin of all others."""
    return bytes(32) if role == "DEFAULT_ADMIN_ROLE" else keccak(role.encode())


def all_roles(
    people: Mapping[tuple[str, str], frozenset[Address]], contracts: Mapping[str, Address]
) -> dict[tuple[str, str], frozenset[Address]]:
    """Every holder of every role: those of `people`, and those that our contracts hold of each other."""
    return {
        **people,
        **{(contract, "DEFAULT_ADMIN_ROLE"): frozenset({contracts["timelock"]}) for contract in contracts},
        ("vault", "DISTRIBUTOR_ROLE"): frozenset(contracts[gate] for gate in GATES if gate in contracts),
    }


async def read_governance(rpc: EvmRpc, contracts: Mapping[str, Address], tokens: Mapping[str, Address]) -> Governance:
    """All of it at the newest block that two endpoints have. `contracts` are the governed ones, `tokens` by symbol.

    Raises ChainDisagrees for a contract that is not ours, and where endpoints go on to differ, ChainUnavailable where
    no two answer.
    """
    several = len(rpc.endpoints) >= QUORUM
    for _ in range(READS_MAX - 1 if several else 0):
        # The newest block may just be replaced, and an endpoint may lag: that passes.
        with contextlib.suppress(ChainDisagrees):
            return await _read_once(rpc, contracts, tokens)
        await asyncio.sleep(PAUSE_S)
    try:
        return await _read_once(rpc, contracts, tokens)
    except ChainDisagrees as error:
        if not several:
            raise
        raise ChainDisagrees(
            f"{READS_MAX} times no two endpoints said the same of roles, limits and code: {error}; compare them by hand"
        ) from None


async def _read_once(rpc: EvmRpc, contracts: Mapping[str, Address], tokens: Mapping[str, Address]) -> Governance:
    views = _Views(rpc, contracts, await newest_common_block(rpc))
    return Governance(
        code={contract: await views.code_hash(contract) for contract in contracts},
        roles={
            (contract, role): await views.holders(contract, role) for contract in contracts for role in ROLES[contract]
        },
        limits={symbol: await views.limits(token) for symbol, token in tokens.items()},
        settings={
            (contract, name): await views.number(contract, f"{name}()")
            for contract in contracts
            for name in SETTINGS[contract]
        },
    )


async def newest_common_block(rpc: EvmRpc) -> Block:
    """The newest that two endpoints have, the only one's newest where one is configured.

    Raises ChainDisagrees where they have different ones of its number.
    """
    [block] = await agreed_blocks(rpc, [await common_head(rpc)])
    return block


class _Views:
    def __init__(self, rpc: EvmRpc, contracts: Mapping[str, Address], block: Block) -> None:
        self._rpc = rpc
        self._contracts = contracts
        self._at = pinned(block)

    async def code_hash(self, contract: str) -> bytes:
        return keccak(await self._rpc.agreed("eth_getCode", [hexed(self._contracts[contract]), self._at], data_of))

    async def holders(self, contract: str, role: str) -> frozenset[Address]:
        identity = role_id(role)
        count = await self.number(contract, "getRoleMemberCount(bytes32)", identity)
        if count > HOLDERS_MAX:
            raise ChainDisagrees(f"{count} accounts hold {role} of {contract}; at most {HOLDERS_MAX} are read")
        members = [
            await self._view(contract, "getRoleMember(bytes32,uint256)", ["address"], identity, index)
            for index in range(count)
        ]
        return frozenset(Address(bytes.fromhex(member[2:])) for (member,) in members)

    async def limits(self, token: Address) -> TokenLimits:
        address = hexed(token)
        floor, cap = await self._view("vault", "limits(address)", ["uint256", "uint256"], address)
        autos = {
            gate: await self.number(gate, "autoLimit(address)", address) for gate in GATES if gate in self._contracts
        }
        return TokenLimits(floor, cap, autos["distributor"], autos.get("claims", 0))

    async def number(self, contract: str, signature: str, *arguments: object) -> int:
        (value,) = await self._view(contract, signature, ["uint256"], *arguments)
        return int(value)

    async def _view(self, contract: str, signature: str, returned: Sequence[str], *arguments: object) -> Any:
        address = self._contracts[contract]
        call = call_object(address, encode_call(signature, *arguments))
        answer = await self._rpc.agreed("eth_call", [call, self._at], data_of)
        try:
            return decode_values(returned, answer)
        except ValueError:
            raise ChainDisagrees(f"{hexed(address)} has no {signature}: it is not our {contract}") from None
