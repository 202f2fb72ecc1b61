"""One EVM chain, read through JSON-RPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

from bridge.chains.evm.abi import EventPlan, compile_event, selector
from bridge.chains.evm.follow import Finality, Follower
from bridge.chains.evm.ranges import LogReader, Span, agreed_blocks, common_head
from bridge.chains.evm.rpc import EvmRpc, Refusal, RpcRefused
from bridge.chains.evm.wire import call_object, data_of, pinned, quantity
from bridge.domain.calls import Argument, view_call
from bridge.domain.errors import ConfigError, HoldError, StateUnavailable
from bridge.domain.events import Block, ChainCursor, ChainEvent
from bridge.domain.units import Address, AssetId, BlockStamp, hexed
from bridge.ports.reading import LogFilter

_T = TypeVar("_T")


class EvmReader:
    """Implements ports.ChainReader. Whoever made `rpc` closes it."""

    def __init__(
        self,
        name: str,
        rpc: EvmRpc,
        *,
        chain_id: int,
        finality: Finality,
        poll_interval_ms: int = 1000,
    ) -> None:
        self.name = name
        self.reference = f"eip155:{chain_id}"
        self._rpc = rpc
        self._chain_id = chain_id
        self._finality = finality
        self._poll_interval_ms = poll_interval_ms
        self._span = Span()
        self._follower: Follower | None = None

    # ── At start ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def check(self) -> None:
        """Raise ConfigError unless an endpoint answers, all that answer serve the chain, and finality works there."""
        where = f"[chains.{self.name}]"

        def other(endpoint: str, chain_id: int) -> ConfigError | None:
            if chain_id == self._chain_id:
                return None
            return ConfigError(
                f"{endpoint} serves chain id {chain_id}, configured is {self._chain_id}",
                where=f"{where} chain_id",
                mend=f"set chain_id = {chain_id}, or name an endpoint of chain {self._chain_id}",
            )

        alive = await self._rpc.check_served(
            "eth_chainId", quantity, where=where, kind="a node of an EVM chain", other=other
        )
        for endpoint in alive:
            try:
                _, final = await self._finality.ask(self._rpc, endpoint)
            except RpcRefused as refused:
                final = None
                reason = str(refused)
            else:
                reason = f"{endpoint.name} gives no block for it"
            if final is None and self._finality.tag is not None:
                raise ConfigError(
                    f"finality tag `{self._finality.tag}` does not work: {reason}",
                    where=f"{where} finality",
                    mend="use finality = { depth = N } with a depth that the chain never reorganises",
                )

    async def genesis_hash(self) -> bytes:
        (block,) = await self.blocks([0])
        return block.hash

    # ── Following ────────────────────────────────────────────────────────────────────────────────────────────────
    def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncGenerator[ChainEvent, None]:
        """See ports.ChainReader. One walk at a time; a new one starts from the cursor and from nothing else."""
        self._follower = Follower(
            self.name,
            LogReader(self._rpc, filters),
            cursor,
            finality=self._finality,
            span=self._span,
            poll_interval_ms=self._poll_interval_ms,
        )
        return self._follower.events()

    async def node_head(self) -> int:
        """The highest head seen while following; where nothing is followed yet, the highest that two endpoints have."""
        if self._follower is not None and self._follower.node_head >= 0:
            return self._follower.node_head
        return await common_head(self._rpc)

    def decoder(self, declaration: str) -> EventPlan:
        return compile_event(declaration)

    # ── Reads pinned to a block ──────────────────────────────────────────────────────────────────────────────────
    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        """See ports.ChainReader. A token that is not deployed yet at `at` is held by nobody: 0."""
        chain, _, kind = asset.partition("/")
        if chain != self.reference:
            raise ValueError(f"{asset} is no asset of {self.reference}")
        if kind.startswith("slip44:"):
            return await self._pinned("eth_getBalance", [hexed(account)], at, quantity)
        token = Address(bytes.fromhex(kind.removeprefix("erc20:0x")))
        answer = await self.read_call(token, "balanceOf(address)", [account], at)
        if answer is not None:
            return answer[0]
        if await self._pinned("eth_getCode", [hexed(token)], at, str) == "0x":
            return 0
        raise HoldError(f"{self.name}: {asset} does not answer balanceOf at {at}")

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[Argument],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        """See ports.ChainReader."""
        call = view_call(signature, arguments, returns)
        data = selector(call.signature) + call.words
        try:
            answer = await self._pinned("eth_call", [call_object(contract, data)], at, data_of)
        except RpcRefused as refused:
            if refused.kind is Refusal.REVERTED:
                return None
            raise
        return call.read(answer)

    async def sequence(self, account: Address, at: BlockStamp) -> int:
        return await self._pinned("eth_getTransactionCount", [hexed(account)], at, quantity)

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """See ports.ChainReader; agreed by two endpoints where there are two, for a window ends where blocks say so.
        Raises ChainDisagrees where a block is not there, or they differ."""
        return await agreed_blocks(self._rpc, numbers)

    async def _pinned(self, method: str, params: list[Any], at: BlockStamp, read: Callable[[Any], _T]) -> _T:
        """A read at the state after block `at`, agreed by two endpoints where there are two.

        Raises ChainDisagrees where nobody knows the block, or they differ.
        """
        try:
            return await self._rpc.agreed(method, [*params, pinned(at)], read)
        except RpcRefused as refused:
            if refused.kind is Refusal.UNKNOWN_BLOCK:
                raise StateUnavailable(f"no endpoint has the state of {at}") from None
            raise
