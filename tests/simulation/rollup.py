"""A local chain that takes fees as rollups of the OP stack do: beside the gas, and told in receipts alone.

block ─► each transaction of the operator: its balance is less by l1Fee and operator fee
receipt ─► two doors, as two providers ─► the same receipt with l1Fee, operatorFeeScalar, operatorFeeConstant
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from bridge.domain.units import format_address
from bridge.simulation.sandbox import Sandbox
from tests.crash.proxy import Proxy

SCALAR, CONSTANT = 1_234_567, 1_000_003


def l1_fee(receipt: dict[str, Any]) -> int:
    return 7_777_777_777 + int(receipt["transactionHash"][:10], 16)


def operator_fee(receipt: dict[str, Any]) -> int:
    """As since Isthmus."""
    return int(receipt["gasUsed"], 16) * SCALAR // 10**6 + CONSTANT


class Door(Proxy):
    async def _ask(self, body: bytes) -> bytes:
        answered = await super()._ask(body)
        if b"eth_getTransactionReceipt" not in body:
            return answered
        said = json.loads(answered)
        for one in said if isinstance(said, list) else [said]:
            if isinstance(one.get("result"), dict):
                fees = {"operatorFeeScalar": hex(SCALAR), "operatorFeeConstant": hex(CONSTANT)}
                one["result"] |= fees | {"l1Fee": hex(l1_fee(one["result"])), "l1GasUsed": "0x640"}
        return json.dumps(said).encode()


class Rollup:
    """`l1_fees` and `operator_fees`: what was taken from the operator so far, in wei."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.l1_fees = self.operator_fees = 0
        self._anvil = sandbox.anvil
        self._operator = format_address(sandbox.deployment.operator.address)
        self._mine = sandbox.anvil.mine

    async def mine(self, timestamp: int, transactions: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        receipts = await self._mine(timestamp, transactions)
        for receipt in await self._anvil.call("eth_getBlockReceipts", "latest"):
            if receipt["from"] == self._operator:
                self.l1_fees += l1_fee(receipt)
                self.operator_fees += operator_fee(receipt)
                held = int(await self._anvil.call("eth_getBalance", self._operator, "latest"), 16)
                left = held - l1_fee(receipt) - operator_fee(receipt)
                await self._anvil.call("anvil_setBalance", self._operator, hex(left))
        return receipts


@asynccontextmanager
async def as_rollup(sandbox: Sandbox) -> AsyncIterator[Rollup]:
    """The sandbox's daemon is to reach its chain by two doors of a rollup."""
    rollup = Rollup(sandbox)
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(Door(sandbox.rpc_url).running()) for _ in range(2)]
        text = sandbox.config_path.read_text()
        named = ", ".join(f'"{door.url}"' for door in doors)
        text = text.replace(f'rpc = ["{sandbox.rpc_url}"]', f"rpc = [{named}]")
        # Other decimals than the tokens say: they are for people, and no amount may hang on them.
        for token, lie in zip(sandbox.deployment.stage.tokens, (77, 0, 18), strict=True):
            text = text.replace(f'"\ndecimals = {token.decimals}\n', f'"\ndecimals = {lie}\n', 1)
        sandbox.config_path.write_text(text)
        sandbox.anvil.mine = rollup.mine  # type: ignore[method-assign]
        yield rollup
