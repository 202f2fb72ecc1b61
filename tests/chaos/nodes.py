"""What a process sees of the chain: nodes that time out, lag, contradict each other, and answer broadcasts wrongly.

Wrong is only what an adapter cannot see through: an error that came although the bytes arrived, a receipt of a branch
that is gone, a nonce of some blocks ago. What two nodes contradict each other about arrives as ChainDisagrees.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from bridge.chains.fake.payer import FakeTransaction
from bridge.chains.fake.reader import FakeReader
from bridge.domain.calls import Argument
from bridge.domain.errors import ChainDisagrees, ChainUnavailable
from bridge.domain.events import Block, ChainCursor, ChainEvent
from bridge.domain.payouts import Action, Attempt, Inclusion, Purpose, Refusal, Signed, Slot
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.paying import Broadcast, BroadcastOutcome, Ready
from bridge.ports.reading import EventDecoder, LogFilter
from bridge.stages.ask import OWED
from tests.chaos.network import Network
from tests.chaos.process import Process
from tests.chaos.trouble import Fault
from tests.stages.books import CREDITED, DISTRIBUTOR, Declaration


async def ask(process: Process, what: str) -> None:
    """One question to the nodes. Raises what the adapter raises when they do not answer it."""
    await process.turn(what)
    if process.trouble.strikes(Fault.TIME_OUT):
        raise ChainUnavailable(f"{what}: time-out")
    if process.trouble.strikes(Fault.NODES_DISAGREE):
        raise ChainDisagrees(f"{what}: two nodes disagree")


class Reader(FakeReader):
    def __init__(self, network: Network, process: Process) -> None:
        super().__init__(network.chain)
        self._process = process

    def decoder(self, declaration: str) -> EventDecoder:
        return Declaration(declaration)

    async def node_head(self) -> int:
        await ask(self._process, "node_head")
        return await super().node_head()

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        await ask(self._process, "balance")
        return await super().balance(account, asset, at)

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[Argument],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        """What was credited to an account; nobody withdraws here."""
        await ask(self._process, "owed")
        self.chain.state_at(at)  # whether it is canonical
        assert (contract, signature) == (DISTRIBUTOR, OWED)
        credit, (token, account) = Declaration(CREDITED), arguments
        logs = [log for entry in self.chain.blocks[: at.number + 1] for log in entry.logs]
        fields = [credit.decode(log) for log in logs if log.topics[0] == credit.topic0]
        amounts = [each["amount"] for each in fields if (each["token"], each["to"]) == (token, account)]
        return (sum(amount for amount in amounts if isinstance(amount, int)),)

    async def sequence(self, account: Address, at: BlockStamp) -> int:
        await ask(self._process, "sequence")
        if self._process.trouble.strikes(Fault.STALE_NONCE):
            older = self.chain.blocks[max(0, at.number - self._process.trouble.chance.randint(1, 10))].block
            at = BlockStamp(at.chain, older.number, older.hash)
        return await super().sequence(account, at)

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        await ask(self._process, "blocks")
        return await super().blocks(numbers)

    async def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncGenerator[ChainEvent, None]:
        walk = super().follow(cursor, filters)
        try:
            while True:
                await ask(self._process, "follow")
                stale = self._process.trouble.strikes(Fault.STALE_HEAD)
                behind = self._process.trouble.chance.randint(1, 4) if stale else 0
                self.stale_head = max(0, self.chain.head.number - behind) if stale else None
                yield await anext(walk)
        finally:
            await walk.aclose()


class Payer(Network):
    """A process's own way to the network, with its own key."""

    def __init__(self, network: Network, process: Process, account: Address) -> None:
        super().__init__(network.chain, account)
        self._network = network
        self._process = process
        self.faults = network.faults
        self.pool = network.pool
        self._mined = network._mined
        self._taken = network._taken
        self.gate = network.gate
        self.claims = network.claims

    @property
    def base_fee(self) -> int:
        return self._network.base_fee

    @base_fee.setter
    def base_fee(self, fee: int) -> None:
        """Set by FakePayer for a network of its own; here the network has it."""

    async def preflight(self, action: Action, at: BlockStamp, beside: Sequence[Action] = ()) -> Ready | Refusal:
        await ask(self._process, "preflight")
        if self._process.trouble.strikes(Fault.FAILED_PREFLIGHT):
            return Refusal("the vault is paused", temporary=True)
        return await super().preflight(action, at, beside)

    async def sign(
        self, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | None:
        await ask(self._process, "sign")
        signed = await super().sign(action, slot, previous, purpose)
        self._network.bumps += previous is not None and signed is not None
        return signed

    async def broadcast(self, raw: bytes) -> Broadcast:
        await self._process.turn("broadcast")
        answer = await self._send(raw)
        await self._process.turn("broadcast answered")
        return answer

    async def _send(self, raw: bytes) -> Broadcast:
        strikes, said = self._process.trouble.strikes, BroadcastOutcome
        self._network.offered.add(FakeTransaction.parse(raw).tx_id)
        if strikes(Fault.LOST):
            return Broadcast(said.UNKNOWN, "time-out")
        if strikes(Fault.ALREADY_KNOWN):
            return Broadcast(said.KNOWN)
        answer = await super().broadcast(raw)
        if strikes(Fault.DROPPED):
            self.pool.pop(FakeTransaction.parse(raw).tx_id, None)
        if strikes(Fault.ACCEPTED_BUT_ERROR):
            return Broadcast(said.UNKNOWN, "time-out")
        if strikes(Fault.REFUSED_BUT_KEPT):
            return Broadcast(said.REJECTED, "replacement transaction underpriced")
        return answer

    async def inclusions(self, tx_id: bytes) -> tuple[Inclusion, ...]:
        await ask(self._process, "inclusions")
        if self._process.trouble.strikes(Fault.NULL_RECEIPT):
            return ()
        found = await super().inclusions(tx_id)
        if self._process.trouble.strikes(Fault.ORPHANED_RECEIPT):
            found = (*self._orphaned(tx_id), *found)
        return found

    async def disowned(self, tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        await ask(self._process, "disowned")
        if self._process.trouble.strikes(Fault.NULL_RECEIPT):
            return False  # an endpoint that does not answer denies nothing
        return await super().disowned(tx_ids, at)

    async def executed(self, action: Action, at: BlockStamp) -> bool:
        await ask(self._process, "executed")
        return await super().executed(action, at)

    async def proposed(self, action: Action, at: BlockStamp) -> bytes | None:
        await ask(self._process, "proposed")
        return await super().proposed(action, at)

    async def proposed_otherwise(self, proposal: Action, at: BlockStamp) -> bool:
        await ask(self._process, "proposed_otherwise")
        return await super().proposed_otherwise(proposal, at)

    def _orphaned(self, tx_id: bytes) -> list[Inclusion]:
        canonical = {entry.block.hash for entry in self.chain.blocks}
        return [
            Inclusion(
                BlockStamp(self.chain.name, self.chain.known[block_hash].block.number, block_hash),
                one.succeeded,
                60_000,
                one.fee_paid,
                l1_fee=one.l1_fee,
            )
            for block_hash, mined in self._mined.items()
            if block_hash not in canonical
            for one in mined
            if one.transaction.tx_id == tx_id
        ]
