"""One chain for the contract tests, moved by a script: in memory, or a real node."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

from eth_abi.abi import encode
from eth_hash.auto import keccak

from bridge.chains.evm.follow import Finality
from bridge.chains.evm.reader import EvmReader
from bridge.chains.evm.rpc import EvmRpc
from bridge.chains.fake.chain import Emit, FakeChain
from bridge.chains.fake.reader import FakeReader
from bridge.domain.events import Block
from bridge.domain.units import Address, AssetId
from bridge.ports.reading import ChainReader, LogFilter
from bridge.simulation.anvil import CHAIN_ID, Anvil

TOPIC = keccak(b"Emitted(uint256,uint256)")
OTHER_TOPIC = keccak(b"Other(uint256,uint256)")
ACCOUNT = Address(b"\x77" * 20)
CALLED = Address(b"\x78" * 20)

# Call data is (count, topic). Emits `count` logs with two topics, the second and the data being count … 1:
#   n = calldata[0]; while n: mem[0] = n; log2(mem[0:32], calldata[32], n); n -= 1
EMITTER = bytes.fromhex("6000355b8015601d57806000528060203560206000a2600190036003565b00")
EMITTER_INIT = bytes.fromhex("601f8060093d393df3") + EMITTER


class World(Protocol):
    """What the contract tests need of a chain. `chain()[-5]` is final."""

    @property
    def whole(self) -> bool:
        """Whether every block near the head is handed on, and so are reorganisations."""

    @property
    def sequence(self) -> int | None:
        """Of an account that has sent nothing."""

    @property
    def account(self) -> Address: ...
    @property
    def genesis(self) -> bytes:
        """The hash that names the chain."""

    @property
    def reader(self) -> ChainReader: ...
    @property
    def filters(self) -> Sequence[LogFilter]: ...
    @property
    def native(self) -> AssetId: ...
    @property
    def first(self) -> int:
        """The block from which tests follow; everything before it is set-up."""

    async def mine(self, *counts: int) -> None:
        """One block for each of `counts`, with that many watched logs, whose data are `count` … 1, and one that is not
        watched."""

    def log_index(self, place: int) -> int:
        """The index of the watched log at so many places from the first one in its block."""

    async def chain(self) -> list[Block]:
        """The canonical chain, from block 0."""

    async def fund(self, amount: int) -> None:
        """From the next block on, `account` holds `amount` of the native coin."""


class ForkingWorld(World, Protocol):
    """A chain with blocks that are not final yet, 4 under the head, and with contracts that can be called."""

    async def fork(self, depth: int, *counts: int) -> None:
        """Replace the last `depth` blocks by blocks with these many logs."""

    async def answer(self, signature: str, *arguments: int | bytes, words: Sequence[int]) -> None:
        """From the next block on, CALLED returns `words` for this call, and reverts for any other."""


class FakeWorld:
    whole, sequence, account = True, 0, ACCOUNT

    def __init__(self) -> None:
        self.fake = FakeChain()
        self.reader = FakeReader(self.fake)
        self.emitter = Address(b"\xee" * 20)
        self.filters = [LogFilter((self.emitter,), ((TOPIC,),))]
        self.native = AssetId("fake:fake/slip44:60")
        self.first = 0
        self.genesis = self.fake.blocks[0].block.hash

    def log_index(self, place: int) -> int:
        return place

    async def mine(self, *counts: int) -> None:
        for count in counts:
            logs = [
                Emit(self.emitter, (TOPIC, number.to_bytes(32)), number.to_bytes(32)) for number in range(count, 0, -1)
            ]
            self.fake.mine(*logs, Emit(self.emitter, (OTHER_TOPIC, bytes(32))))

    async def fork(self, depth: int, *counts: int) -> None:
        self.fake.fork(depth)
        await self.mine(*counts)

    async def chain(self) -> list[Block]:
        return [entry.block for entry in self.fake.blocks]

    async def fund(self, amount: int) -> None:
        self.fake.state["balance", ACCOUNT, self.native] = amount

    async def answer(self, signature: str, *arguments: int | bytes, words: Sequence[int]) -> None:
        self.fake.answer(CALLED, signature, *arguments, words=words)


class AnvilWorld:
    """Blocks are mined by hand; each has a timestamp of its own, so no two forks have equal blocks."""

    whole, sequence, account = True, 0, ACCOUNT

    def __init__(
        self, anvil: Anvil, sender: str, emitter: Address, *, first: int, now: int, genesis: bytes = b""
    ) -> None:
        self.genesis = genesis
        self.anvil = anvil
        self.rpc = EvmRpc([anvil.rpc_url])
        self.emitter = emitter
        self.filters = [LogFilter((emitter,), ((TOPIC,),))]
        self.native = AssetId(f"eip155:{CHAIN_ID}/slip44:60")
        self.first = first
        self.reader = EvmReader(
            "anvil", self.rpc, chain_id=CHAIN_ID, finality=Finality(tag="finalized"), poll_interval_ms=5
        )
        self._sender = sender
        self._now = itertools.count(now + 1)

    @classmethod
    async def start(cls, anvil: Anvil, genesis_timestamp: int) -> AnvilWorld:
        (sender,) = await anvil.call("eth_accounts")
        call: dict[str, Any] = {"from": sender, "data": "0x" + EMITTER_INIT.hex(), "gas": hex(1_000_000)}
        deployment = await anvil.call("eth_sendTransaction", call)
        await anvil.mine(genesis_timestamp + 1)
        receipt = await anvil.call("eth_getTransactionReceipt", deployment)
        emitter = Address(bytes.fromhex(receipt["contractAddress"][2:]))
        genesis = bytes.fromhex((await anvil.call("eth_getBlockByNumber", "0x0", False))["hash"][2:])
        return cls(anvil, sender, emitter, first=2, now=genesis_timestamp + 1, genesis=genesis)

    def log_index(self, place: int) -> int:
        return place

    async def mine(self, *counts: int) -> None:
        for count in counts:
            await self._emit(count, TOPIC)
            await self._emit(1, OTHER_TOPIC)
            await self.anvil.mine(next(self._now))

    async def emit(self, count: int) -> None:
        """One block with `count` watched logs and nothing else."""
        await self._emit(count, TOPIC)
        await self.anvil.mine(next(self._now))

    async def send(self, count: int) -> None:
        """The next block, whoever mines it, holds `count` watched logs."""
        await self._emit(count, TOPIC)

    async def _emit(self, count: int, topic: bytes) -> None:
        data = count.to_bytes(32) + topic
        call = {"from": self._sender, "to": "0x" + self.emitter.hex(), "data": "0x" + data.hex()}
        await self.anvil.call("eth_sendTransaction", call | {"gas": hex(100_000 + 3_000 * count)})

    async def fork(self, depth: int, *counts: int) -> None:
        await self.anvil.call("anvil_rollback", depth)
        await self.mine(*counts)

    async def chain(self) -> list[Block]:
        return await self.reader.blocks(range(await self.anvil.head() + 1))

    async def fund(self, amount: int) -> None:
        call = {"from": self._sender, "to": "0x" + ACCOUNT.hex(), "value": hex(amount), "gas": hex(21_000)}
        await self.anvil.call("eth_sendTransaction", call)

    async def answer(self, signature: str, *arguments: int | bytes, words: Sequence[int]) -> None:
        await self.mine(0)  # code that is set changes the newest block's state too: not that of one a test has seen
        await self.anvil.call("anvil_setCode", "0x" + CALLED.hex(), "0x" + responder(signature, arguments, words).hex())


def responder(signature: str, arguments: Sequence[int | bytes], words: Sequence[int]) -> bytes:
    """Code that returns `words` where the call data is that of this call, and reverts otherwise:

    mem[0:] = calldata; if keccak256(mem[0:calldatasize]) != HASH: revert; mem[32 × n] = words[n]; return
    """
    types = signature[signature.index("(") + 1 : -1].split(",")
    data = keccak(signature.encode())[:4] + (encode(types, arguments) if arguments else b"")
    start = bytes.fromhex("365f5f37365f20") + b"\x7f" + keccak(data) + bytes.fromhex("14602f575f5ffd5b")
    assert len(start) == 0x30
    stores = b"".join(
        b"\x7f" + (word % 2**256).to_bytes(32) + b"\x61" + (32 * place).to_bytes(2) + b"\x52"
        for place, word in enumerate(words)
    )
    return start + stores + b"\x61" + (32 * len(words)).to_bytes(2) + bytes.fromhex("5ff3")
