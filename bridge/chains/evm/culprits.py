"""Which recipients make a batch revert: found by halving it, in simulation.

A batch is bound to its proposal by hash, so no part of it can be tried as it stands, and none can be left out of it: a
transfer that fails is credited by the contract, and what still makes a batch revert is for a person to judge. Each part
is executed under an id that no rule has, in a simulation that nobody keeps. Nodes can be asked in two ways:

    eth_simulateV1     block 1               propose(part 0)  propose(part 1)  …                  from the operator
                       block 2, delay later  approve(part 0)  execute(part 0)  approve(part 1)  execute(part 1)  …
    eth_call, on another state: execute(part), with the part's proposal and its open gate written into the
                       Distributor's storage; one call a part

Parts of one round are disjoint, so together they need no more than the batch does. A node that overlooks what it is to
write knows no proposal of the part's id, so it names nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from eth_abi.abi import decode
from eth_hash.auto import keccak

from bridge.chains.evm.gate import approve_call
from bridge.chains.evm.rpc import EvmRpc, Refusal, RpcRefused
from bridge.chains.evm.storage import Layout
from bridge.chains.evm.wire import call_object, pinned, quantity, revert_data
from bridge.domain.errors import ChainDisagrees, RetryableError
from bridge.domain.payouts import Batch, Distribution, Order, Payout, PlannedCall, pack_batches
from bridge.domain.units import Address, AssetId, BlockStamp, hexed

RULE = "bridge: which recipients make a batch revert"
"""The rule of the parts' ids. No rule file can have this name: names have no spaces."""

Plan = Callable[[Order, Sequence[Batch]], tuple[Distribution, tuple[PlannedCall, ...]]]
Part = tuple[Payout, ...]
Ask = Callable[[Sequence[Part]], Awaitable[list[bytes]]]

NEVER = 2**64 - 1
"""When an approval under the auto-limit expires (ProposalGate)."""


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
        self._hash = hexed(at.hash)
        self._block = pinned(at)

    async def find(self, payouts: Part, selector: bytes) -> tuple[Address, ...]:
        """Recipients without whom the batch would not revert with the error `selector`.

        Empty where the error has nothing to do with who is paid: the whole passes under its own id, or everybody fails.
        Raises RetryableError where no node can be asked in either way.
        """
        try:
            return await self._search(payouts, selector, self._simulated)
        except RetryableError:
            return await self._search(payouts, selector, self._on_another_state)

    async def _search(self, payouts: Part, selector: bytes, ask: Ask) -> tuple[Address, ...]:
        found: list[Payout] = []
        parts = [payouts]
        while parts:
            errors = await ask(parts)
            failing = [part for part, error in zip(parts, errors, strict=True) if error[:4] == selector]
            found += [payout for part in failing if len(part) == 1 for payout in part]
            parts = [half for part in failing if len(part) > 1 for half in _halves(part)]
        return () if len(found) == len(payouts) else tuple(payout.recipient for payout in found)

    # ── eth_simulateV1 ──
    async def _simulated(self, parts: Sequence[Part]) -> list[bytes]:
        """What each part reverts with; empty where it passes."""
        proposals, executions = [], []
        approver = await self._approver()
        for number, part in enumerate(parts):
            distribution, propose, execute = self._planned(number, part)
            approval = approve_call(distribution.distribution_id, distribution.content_hash)
            proposals.append(self._call(self._operator, propose.payload))
            executions += [self._call(approver, approval), self._call(self._operator, execute.payload)]
        ready = {"time": hex(await self._timestamp() + await self._delay() + 1)}
        blocks = [{"calls": proposals}, {"blockOverrides": ready, "calls": executions}]
        answer = await self._rpc.call("eth_simulateV1", [{"blockStateCalls": blocks}, self._block])
        try:
            results = [_error(result) if result["status"] == "0x0" else b"" for result in answer[1]["calls"][1::2]]
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ChainDisagrees(f"the endpoint answered a simulation with something else: {error!r}") from None
        if len(results) != len(parts):
            raise ChainDisagrees(f"the endpoint simulated {len(results)} of {len(parts)} parts")
        return results

    # ── eth_call on another state ──
    async def _on_another_state(self, parts: Sequence[Part]) -> list[bytes]:
        """The same, where nodes know no eth_simulateV1."""
        return list(await asyncio.gather(*(self._executed(number, part) for number, part in enumerate(parts))))

    async def _executed(self, number: int, part: Part) -> bytes:
        distribution, _, execute = self._planned(number, part)
        words = self._proposed(distribution, execute.payload)
        written = {hexed(slot): hexed(word) for slot, word in words.items()}
        state = {hexed(self._distributor): {"stateDiff": written}}
        try:
            await self._rpc.call("eth_call", [self._call(self._operator, execute.payload), self._block, state])
        except RpcRefused as refused:
            if refused.kind is not Refusal.REVERTED:
                raise
            return revert_data(refused.data)
        return b""

    def _proposed(self, distribution: Distribution, execute: bytes) -> dict[bytes, bytes]:
        """The Distributor's storage after the part was proposed and let through, as far as it concerns the part."""
        id_, [batch] = distribution.distribution_id, distribution.batches
        layout = Layout.load("Distributor")
        proposal = {
            "contentHash": int.from_bytes(distribution.content_hash),
            "left": batch.total,
            "token": int(self._asset.rpartition("0x")[2], 16),
            "batchCount": 1,
            "executedCount": 0,
            "recipientsLeft": len(batch.payouts),
        }
        return {
            **layout.words("_gates", [id_], {"readyAt": 1, "expiresAt": NEVER, "vetoed": 0}),
            **layout.words("_proposals", [id_], proposal),
            **layout.words("_batchHashes", [id_, bytes(32)], int.from_bytes(keccak(execute[4:]))),
        }

    def _planned(self, number: int, part: Part) -> tuple[Distribution, PlannedCall, PlannedCall]:
        """A part as a distribution of its own, of one batch."""
        total = sum(payout.amount for payout in part)
        order = Order(bytes(32), "", RULE, self._asset, number, number + 1, total, part)
        distribution, (propose, execute) = self._plan(order, pack_batches(part, len(part)))
        return distribution, propose, execute

    async def _approver(self) -> Address:
        """One of the contract's; where it has none, the operator, who is refused."""
        answer = await self._view(keccak(b"getRoleMembers(bytes32)")[:4] + keccak(b"APPROVER_ROLE"))
        (members,) = decode(["address[]"], answer)
        return Address(bytes.fromhex(members[0][2:])) if members else self._operator

    async def _delay(self) -> int:
        return int.from_bytes(await self._view(keccak(b"delay()")[:4]))

    async def _timestamp(self) -> int:
        header = await self._rpc.call("eth_getBlockByHash", [self._hash, False])
        if not isinstance(header, dict):
            raise ChainDisagrees("the endpoint does not know the block that it is to simulate on")
        return quantity(header.get("timestamp"))

    async def _view(self, data: bytes) -> bytes:
        call = call_object(self._distributor, data)
        return bytes.fromhex((await self._rpc.call("eth_call", [call, self._block]))[2:])

    def _call(self, sender: Address, data: bytes) -> dict[str, str]:
        return call_object(self._distributor, data, sender)


def _halves(part: Part) -> tuple[Part, Part]:
    middle = len(part) // 2
    return part[:middle], part[middle:]


def _error(result: dict[str, Any]) -> bytes:
    """What the call reverted with, wherever the node put it."""
    return revert_data(result.get("error")) or revert_data(result.get("returnData"))
