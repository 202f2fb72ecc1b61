"""One Solana chain, read through JSON-RPC as if its accounts were contracts: see logs.py for what they say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import rpc as values
from bridge.chains.solana.blocks import Ask, final_slot
from bridge.chains.solana.events import EventPlan, compile_event
from bridge.chains.solana.follow import Follower, Panel, agreed_block
from bridge.chains.solana.logs import RECORDS
from bridge.chains.solana.programs import NATIVE, associated_account
from bridge.chains.solana.rpc import RpcRefused, SolanaRpc
from bridge.chains.solana.state import check_block, lamports_at, supply_at, tokens_at
from bridge.chains.solana.tokens import Names, Surroundings, look_around
from bridge.chains.solana.wake import Wake
from bridge.chains.solana.witness import together
from bridge.domain.calls import Argument, view_call
from bridge.domain.errors import ChainDisagrees, ConfigError
from bridge.domain.events import Block, ChainCursor, ChainEvent
from bridge.domain.units import Address, AssetId, BlockStamp, base58, parse_address
from bridge.ports.reading import LogFilter

_T = TypeVar("_T")
BLOCKS_AT_ONCE = 16
ADDRESS_BYTES = 32
_TOTALS = ("total", "totalSupply")


def reference_of(genesis_hash: bytes) -> str:
    """CAIP-2: the first 32 characters of the genesis hash in base58 (CAIP-30)."""
    return f"solana:{base58(genesis_hash)[:32]}"


class SolanaReader:
    """Implements ports.ChainReader. Whoever made `rpc` closes it."""

    def __init__(
        self,
        name: str,
        rpc: SolanaRpc,
        names: Names,
        *,
        genesis_hash: bytes,
        poll_interval_ms: int = 1000,
        wake_url: str | None = None,
        keep_records: bool = True,
    ) -> None:
        """`wake_url`: a WebSocket (ws:// or wss://) that shortens the wait for the next look. With `keep_records` every
        transaction of which a log tells is handed on whole too, as a log of its own (see logs.RECORDED)."""
        self.name = name
        self.reference = reference_of(genesis_hash)
        self._rpc = rpc
        self._names = names
        self._genesis_hash = genesis_hash
        self._poll_interval_ms = poll_interval_ms
        self._wake_url = wake_url
        self._kept = (LogFilter((RECORDS,)),) if keep_records else ()
        self._surroundings: Surroundings | None = None
        self._panel: Panel | None = None
        self._follower: Follower | None = None

    # ── At start ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def check(self) -> None:
        """Raise ConfigError unless an endpoint answers, all that answer serve the cluster, and the accounts, mints and
        decimals there are those of the configuration."""
        where = f"[chains.{self.name}]"

        def other(endpoint: str, genesis_hash: bytes) -> ConfigError | None:
            if genesis_hash == self._genesis_hash:
                return None
            return ConfigError(
                f"{endpoint} serves the cluster with genesis hash {base58(genesis_hash)}, "
                f"configured is {base58(self._genesis_hash)}",
                where=f"{where} genesis_hash",
                mend=f'set genesis_hash = "{base58(genesis_hash)}", or name an endpoint of the other cluster',
            )

        await self._rpc.check_served(
            "getGenesisHash", values.address, where=where, kind="a node of a Solana cluster", other=other
        )
        self._surroundings = await look_around(self._rpc, self._names, self.name)

    async def genesis_hash(self) -> bytes:
        return await self._rpc.agreed("getGenesisHash", [], values.address)

    async def _look_around(self) -> Surroundings:
        if self._surroundings is None:
            self._surroundings = await look_around(self._rpc, self._names, self.name)
        return self._surroundings

    # ── Following ────────────────────────────────────────────────────────────────────────────────────────────────
    async def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncGenerator[ChainEvent, None]:
        """See ports.ChainReader. One walk at a time; a new one starts from the cursor and from nothing else."""
        watch = (await self._look_around()).watch
        self._panel = panel = Panel(self.name, self._rpc, watch, (*filters, *self._kept), self._panel)
        wake = Wake(self._wake_url, watch.addresses)
        self._follower = Follower(
            self.name, self._rpc, panel, cursor, wake=wake, poll_interval_ms=self._poll_interval_ms
        )
        events = self._follower.events()
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def node_head(self) -> int:
        """The highest finalized slot that any endpoint named; where nothing is followed yet, what two have reached."""
        if self._follower is not None and self._follower.node_head >= 0:
            return self._follower.node_head

        async def head_of(endpoint: Endpoint) -> int:
            return await final_slot(self._rpc, endpoint)

        head = await self._rpc.reached_by_two(head_of)
        assert head is not None, "every endpoint that answers has a head"
        return head

    def decoder(self, declaration: str) -> EventPlan:
        return compile_event(declaration)

    # ── Reads pinned to a block ──────────────────────────────────────────────────────────────────────────────────
    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        """See ports.ChainReader. Of a token: what is in the associated account of `account`, which is 0 before there is
        one."""
        chain, _, kind = asset.partition("/")
        if chain != self.reference:
            raise ValueError(f"{asset} is no asset of {self.reference}")
        mint = NATIVE if kind.startswith("slip44:") else parse_address(kind.removeprefix("token:"))
        return await self._held(account, mint, at)

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[Argument],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        """See ports.ChainReader. What is understood, each with one number as its answer:

        total(), totalSupply()    of a mint: its supply; of an account: what it holds of the only configured token
        balanceOf(address)        of a mint: what an account holds of it
        """
        call = view_call(signature, arguments, returns, address_bytes=ADDRESS_BYTES)
        name, types = call.signature.partition("(")[0], call.types
        await self._pinned(lambda ask: check_block(ask, at), f"block {at.number}")
        around = await self._look_around()
        answer: int | None = None
        if name in _TOTALS and not types and contract in around.supplies:
            answer = await self._pinned(lambda ask: supply_at(ask, contract, at), f"the supply at {at}")
        elif name in _TOTALS and not types and contract in around.watch.owners and len(self._names.tokens) == 1:
            [token] = self._names.tokens.values()
            answer = await self._held(contract, token.mint, at)
        elif (name, types) == ("balanceOf", ("address",)) and contract in around.programs:
            [account] = arguments
            assert isinstance(account, bytes)
            answer = await self._held(Address(account), contract, at)
        return None if answer is None or len(returns) != 1 else (answer,)

    async def sequence(self, account: Address, at: BlockStamp) -> int | None:
        """None: accounts of this chain do not count what they send."""
        await self._pinned(lambda ask: check_block(ask, at), f"block {at.number}")
        return None

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """See ports.ChainReader: for a slot that was skipped, the block before it. Agreed by two endpoints where there
        are two; only what is final is there."""
        found: list[Block] = []
        for start in range(0, len(numbers), BLOCKS_AT_ONCE):
            some = numbers[start : start + BLOCKS_AT_ONCE]
            found += await together(agreed_block(self._rpc, number) for number in some)
        return found

    async def _held(self, account: Address, mint: Address, at: BlockStamp) -> int:
        if mint == NATIVE:
            return await self._pinned(lambda ask: lamports_at(ask, account, at), f"the lamports at {at}")
        program = (await self._look_around()).programs.get(mint)
        if program is None:
            raise ValueError(f"{base58(mint)} is no mint of [chains.{self.name}]")
        where = associated_account(account, mint, program)
        return await self._pinned(lambda ask: tokens_at(ask, where, mint, at), f"the tokens at {at}")

    async def _pinned(self, read: Callable[[Ask], Awaitable[_T]], what: str) -> _T:
        """A read at the state after a block, agreed by two endpoints where there are two."""

        async def of(endpoint: Endpoint) -> _T:
            async def ask(method: str, params: list[Any]) -> Any:
                return await self._rpc.call_on(endpoint, method, params)

            return await read(ask)

        try:
            return await self._rpc.agreed_by(of, what)
        except RpcRefused as refused:
            raise ChainDisagrees(f"{self.name}: {what} cannot be told: {refused}") from None
