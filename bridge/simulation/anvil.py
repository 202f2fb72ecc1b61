"""A local EVM chain: Foundry's Anvil from node_modules, mined by us alone.

genesis ── 1 ── 2 ── … ── head − 4 ──────── head
                          finalized          latest       (FINALITY_DISTANCE = 4)
"""

from __future__ import annotations

import itertools
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from eth_hash.auto import keccak

from bridge.chains.evm.contracts import Contract
from bridge.chains.evm.wire import call_object
from bridge.domain.errors import ChainUnavailable, ConfigError, RefusedError
from bridge.domain.units import hexed
from bridge.simulation.process import ServerProcess, make_scratch

CHAIN_ID = 31337
SLOTS_IN_AN_EPOCH = 2
FINALITY_DISTANCE = 2 * SLOTS_IN_AN_EPOCH
"""Blocks from the finalized one to the head: Anvil finalizes two of its epochs late."""

BLOCK_GAS_LIMIT = 100_000_000
GENESIS_BALANCE_ETHER = 1_000_000_000

OLD_STATES = 5000
"""States of old blocks that can be read; each takes some 250 kB of disk, so there has to be an end."""

REPOSITORY = Path(__file__).parents[2]
LISTENING = re.compile(r"^Listening on (127\.0\.0\.1:\d+)$", re.MULTILINE)


def find_anvil() -> Path:
    """The program for this machine. Raises ConfigError when it is not installed."""
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform, sys.platform)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    program = REPOSITORY / "node_modules" / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / "anvil"
    if not program.is_file():
        raise ConfigError("the local chain (Anvil) is not installed", where=str(program), mend="run scripts/setup")
    return program


class Anvil:
    """A running chain and its JSON-RPC client. Mines only when told to; one account, the deployer's, is rich."""

    def __init__(self, process: ServerProcess, rpc_url: str) -> None:
        self.process = process
        self.rpc_url = rpc_url
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        self._ids = itertools.count(1)

    @classmethod
    async def start(cls, log: Path, *, genesis_timestamp: int) -> Anvil:
        """Start a chain whose block 0 has `genesis_timestamp` (seconds) and wait until it answers.

        Its output goes to `log`. Raises ConfigError when it is not installed or does not start.
        """
        program, scratch = find_anvil(), make_scratch("anvil")
        # The port is the kernel's choice, so nobody can take it between our choosing and Anvil's binding. First in,
        # first out keeps a block's transactions in the order of their sending. States of old blocks go to the scratch.
        command = (
            *(str(program), "--host", "127.0.0.1", "--port", "0", "--chain-id", str(CHAIN_ID)),
            *("--no-mining", "--order", "fifo", "--slots-in-an-epoch", str(SLOTS_IN_AN_EPOCH)),
            *("--timestamp", str(genesis_timestamp), "--gas-limit", str(BLOCK_GAS_LIMIT)),
            *("--accounts", "1", "--balance", str(GENESIS_BALANCE_ETHER)),
            *("--cache-path", str(scratch), "--max-persisted-states", str(OLD_STATES)),
            "--no-request-size-limit",  # a whole chain may be given back to it
        )
        process = await ServerProcess.start("Anvil", command, scratch=scratch, log=log)
        await process.wait_ready(lambda: _listening(log) is not None)
        return cls(process, f"http://{_listening(log)}")

    async def call(self, method: str, *parameters: Any) -> Any:
        """One JSON-RPC call; its `result`.

        Raises ChainUnavailable when Anvil does not answer and RefusedError when it answers with an error.
        """
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        try:
            async with self._http.post(self.rpc_url, json=request) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ChainUnavailable(f"the local chain at {self.rpc_url} does not answer: {error!r}") from error
        if "error" in answer:
            raise RefusedError(f"the local chain refused {method}: {answer['error'].get('message')}")
        return answer["result"]

    async def view(self, contract: Contract, function: str, *arguments: object) -> bytes:
        """What a view of a contract returns now. Raises as `call`."""
        call = call_object(contract.address, contract.call(function, *arguments))
        return bytes.fromhex((await self.call("eth_call", call, "latest"))[2:])

    async def mine(self, timestamp: int, transactions: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        """Make one block with this timestamp (seconds) out of what is in the pool and these signed transactions.

        The receipts of `transactions`, in their order. Raises RefusedError unless all are in the block and succeeded.
        """
        for raw in transactions:
            await self.call("eth_sendRawTransaction", hexed(raw))
        await self.call("evm_mine", hex(timestamp))
        if not transactions:
            return []
        block = await self.call("eth_getBlockReceipts", "latest")
        receipts = {receipt["transactionHash"]: receipt for receipt in block}
        hashes = [hexed(keccak(raw)) for raw in transactions]
        for position, transaction_hash in enumerate(hashes):
            if receipts.get(transaction_hash, {}).get("status") != "0x1":
                raise RefusedError(f"transaction {position} of the block, {transaction_hash}, did not succeed")
        return [receipts[transaction_hash] for transaction_hash in hashes]

    async def holds(self, tx_id: bytes) -> bool:
        """Whether the transaction is in the pool, to be mined."""
        found = await self.call("eth_getTransactionByHash", hexed(tx_id))
        return found is not None and found["blockHash"] is None

    async def head(self) -> int:
        """The number of the newest block."""
        return int(await self.call("eth_blockNumber"), 16)

    async def stop(self) -> None:
        """Stop the chain and forget it."""
        await self._http.close()
        await self.process.stop()


def _listening(log: Path) -> str | None:
    match = LISTENING.search(log.read_text(errors="replace"))
    return match[1] if match else None
