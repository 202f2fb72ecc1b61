"""What the contracts of a chain say, at one block, of who may do what and how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_hash.auto import keccak

from bridge.chains.evm.abi import decode_values, encode_call
from bridge.chains.evm.rpc import EvmRpc
from bridge.domain.errors import ChainDisagrees
from bridge.domain.governance import Governance, TokenLimits
from bridge.domain.units import Address

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


async def read_governance(
    rpc: EvmRpc, contracts: Mapping[str, Address], tokens: Mapping[str, Address], block_hash: bytes
) -> Governance:
    """All of it at block `block_hash`. `contracts` are the governed ones, `tokens` by symbol.

    Raises ChainDisagrees for a contract that is not ours.
    """
    views = _Views(rpc, contracts, block_hash)
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


async def latest_block_hash(rpc: EvmRpc) -> bytes:
    header = await rpc.call("eth_getBlockByNumber", ["latest", False])
    try:
        return bytes.fromhex(header["hash"][2:])
    except (TypeError, KeyError, ValueError):
        raise ChainDisagrees(f"the endpoint's latest block is {header!r:.100}") from None


class _Views:
    def __init__(self, rpc: EvmRpc, contracts: Mapping[str, Address], block_hash: bytes) -> None:
        self._rpc = rpc
        self._contracts = contracts
        self._at = {"blockHash": "0x" + block_hash.hex()}

    async def code_hash(self, contract: str) -> bytes:
        code = await self._rpc.call("eth_getCode", [self._hex(contract), self._at])
        try:
            return keccak(bytes.fromhex(code[2:]))
        except (TypeError, ValueError):
            raise ChainDisagrees(f"the endpoint gave {code!r:.100} as the code of {contract}") from None

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
        address = "0x" + token.hex()
        floor, cap = await self._view("vault", "limits(address)", ["uint256", "uint256"], address)
        autos = {
            gate: await self.number(gate, "autoLimit(address)", address) for gate in GATES if gate in self._contracts
        }
        return TokenLimits(floor, cap, autos["distributor"], autos.get("claims", 0))

    async def number(self, contract: str, signature: str, *arguments: object) -> int:
        (value,) = await self._view(contract, signature, ["uint256"], *arguments)
        return int(value)

    async def _view(self, contract: str, signature: str, returned: Sequence[str], *arguments: object) -> Any:
        data = encode_call(signature, *arguments)
        answer = await self._rpc.call("eth_call", [{"to": self._hex(contract), "data": "0x" + data.hex()}, self._at])
        try:
            return decode_values(returned, bytes.fromhex(str(answer)[2:]))
        except ValueError:
            raise ChainDisagrees(f"{self._hex(contract)} has no {signature}: it is not our {contract}") from None

    def _hex(self, contract: str) -> str:
        return "0x" + self._contracts[contract].hex()
