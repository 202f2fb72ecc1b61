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

SETTINGS = (
    ("timelock", "getMinDelay"),
    ("vault", "epochLength"),
    ("distributor", "delay"),
    ("distributor", "approvalLifetime"),
)
ROLES = (
    ("timelock", "DEFAULT_ADMIN_ROLE"),
    ("timelock", "PROPOSER_ROLE"),
    ("timelock", "EXECUTOR_ROLE"),
    ("timelock", "CANCELLER_ROLE"),
    ("vault", "DEFAULT_ADMIN_ROLE"),
    ("vault", "DISTRIBUTOR_ROLE"),
    ("vault", "GUARDIAN_ROLE"),
    ("distributor", "DEFAULT_ADMIN_ROLE"),
    ("distributor", "PROPOSER_ROLE"),
    ("distributor", "APPROVER_ROLE"),
    ("distributor", "GUARDIAN_ROLE"),
)
GOVERNED = ("timelock", "vault", "distributor")


def role_id(role: str) -> bytes:
    """OpenZeppelin's convention: the hash of the name; zero is the admin of all others."""
    return bytes(32) if role == "DEFAULT_ADMIN_ROLE" else keccak(role.encode())


def all_roles(
    people: Mapping[tuple[str, str], frozenset[Address]], contracts: Mapping[str, Address]
) -> dict[tuple[str, str], frozenset[Address]]:
    """Every holder of every role: those of `people`, and those that our contracts hold of each other."""
    timelock, distributor = frozenset({contracts["timelock"]}), frozenset({contracts["distributor"]})
    return {
        **people,
        ("timelock", "DEFAULT_ADMIN_ROLE"): timelock,
        ("vault", "DEFAULT_ADMIN_ROLE"): timelock,
        ("vault", "DISTRIBUTOR_ROLE"): distributor,
        ("distributor", "DEFAULT_ADMIN_ROLE"): timelock,
    }


async def read_governance(
    rpc: EvmRpc, contracts: Mapping[str, Address], tokens: Mapping[str, Address], block_hash: bytes
) -> Governance:
    """All of it at block `block_hash`. `tokens` by symbol. Raises ChainDisagrees for a contract that is not ours."""
    views = _Views(rpc, contracts, block_hash)
    return Governance(
        code={contract: await views.code_hash(contract) for contract in GOVERNED},
        roles={(contract, role): await views.holders(contract, role) for contract, role in ROLES},
        limits={symbol: await views.limits(token) for symbol, token in tokens.items()},
        settings={(contract, name): await views.number(contract, f"{name}()") for contract, name in SETTINGS},
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
        return TokenLimits(floor, cap, await self.number("distributor", "autoLimit(address)", address))

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
