"""Which recipients make a batch revert: found by halving it, in simulation (eth_simulateV1).

A batch is bound to its proposal by hash, so no part of it can be tried as it stands, and none can be left out of it: a
transfer that fails is credited by the contract, and what still makes a batch revert is for a person to judge. Each part
is proposed, approved and executed under an id that no rule has, in a simulation of two blocks that nobody keeps:

    block 1               propose(part 0)  propose(part 1)  …                          from the operator
    block 2, delay later  approve(part 0)  execute(part 0)  approve(part 1)  execute(part 1)  …

Parts of one round are disjoint, so together they need no more than the batch does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eth_abi.abi import decode
from eth_hash.auto import keccak

from bridge.chains.evm.gate import approve_call
from bridge.chains.evm.rpc import EvmRpc, quantity, revert_data
from bridge.domain.errors import ChainDisagrees
from bridge.domain.payouts import Batch, Distribution, Order, Payout, PlannedCall, pack_batches
from bridge.domain.units import Address, AssetId, BlockStamp

RULE = "bridge: which recipients make a batch revert"
"""The rule of the parts' ids. No rule file can have this name: names have no spaces."""

Plan = Callable[[Order, Sequence[Batch]], tuple[Distribution, tuple[PlannedCall, ...]]]
Part = tuple[Payout, ...]


class Culprits:
    """Searches in one batch, at one block."""

    def __init__(
        self, rpc: EvmRpc, plan: Plan, *, operator: Address, distributor: Address, asset: AssetId, at: BlockStamp
    ) -> None:
        self._rpc = rpc
        self._plan = plan
        self._operator = operator
        self._distributor = distributor
        self._asset = asset
        self._hash = "0x" + at.hash.hex()
        self._block = {"blockHash": self._hash}

    async def find(self, payouts: Part, selector: bytes) -> tuple[Address, ...]:
        """Recipients without whom the batch would not revert with the error `selector`.

        Empty where the error has nothing to do with who is paid: the whole passes under its own id, or everybody fails.
        Raises RetryableError where the node cannot simulate this.
        """
        failing = await self._failing([payouts], selector)
        found: list[Payout] = []
        while failing:
            found += [payout for part in failing if len(part) == 1 for payout in part]
            halves = [half for part in failing if len(part) > 1 for half in _halves(part)]
            failing = await self._failing(halves, selector) if halves else []
        return () if len(found) == len(payouts) else tuple(payout.recipient for payout in found)

    async def _failing(self, parts: Sequence[Part], selector: bytes) -> list[Part]:
        proposals, executions = [], []
        approver = await self._approver()
        for number, part in enumerate(parts):
            order = Order(
                bytes(32), "", RULE, self._asset, number, number + 1, sum(payout.amount for payout in part), part
            )
            distribution, (propose, execute) = self._plan(order, pack_batches(part, len(part)))
            approval = approve_call(distribution.distribution_id, distribution.content_hash)
            proposals.append(self._call(self._operator, propose.payload))
            executions += [self._call(approver, approval), self._call(self._operator, execute.payload)]
        ready = {"time": hex(await self._timestamp() + await self._delay() + 1)}
        blocks = [{"calls": proposals}, {"blockOverrides": ready, "calls": executions}]
        answer = await self._rpc.call("eth_simulateV1", [{"blockStateCalls": blocks}, self._block])
        try:
            results = answer[1]["calls"][1::2]
            return [
                part
                for part, result in zip(parts, results, strict=True)
                if result["status"] == "0x0" and _error(result)[:4] == selector
            ]
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ChainDisagrees(f"the endpoint answered a simulation with something else: {error!r}") from None

    async def _approver(self) -> Address:
        """One of the contract's; where it has none, the operator, who is refused."""
        answer = await self._view(keccak(b"getRoleMembers(bytes32)")[:4] + keccak(b"APPROVER_ROLE"))
        (members,) = decode(["address[]"], answer)
        return Address(bytes.fromhex(members[0][2:])) if members else self._operator

    async def _delay(self) -> int:
        return int.from_bytes(await self._view(keccak(b"delay()")[:4]))

    async def _timestamp(self) -> int:
        header = await self._rpc.call("eth_getBlockByHash", [self._hash, False])
        return quantity(header["timestamp"])

    async def _view(self, data: bytes) -> bytes:
        call = {"to": "0x" + self._distributor.hex(), "data": "0x" + data.hex()}
        return bytes.fromhex((await self._rpc.call("eth_call", [call, self._block]))[2:])

    def _call(self, sender: Address, data: bytes) -> dict[str, str]:
        return {"from": "0x" + sender.hex(), "to": "0x" + self._distributor.hex(), "data": "0x" + data.hex()}


def _halves(part: Part) -> tuple[Part, Part]:
    middle = len(part) // 2
    return part[:middle], part[middle:]


def _error(result: dict[str, Any]) -> bytes:
    """What the call reverted with, wherever the node put it."""
    return revert_data(result.get("error")) or revert_data(result.get("returnData"))
