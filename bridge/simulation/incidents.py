"""What goes wrong in a run besides reorganisations: a gift, a recipient that its token refuses, a payment that fails.

Each is real: other people's transactions, put around the daemon's where it hurts.

    pool, as it stands    D₀  D₁  D₂                                         D: batches that the daemon has sent
    pool, made anew       refuse  D₀  admit   pause  D₁  unpause   D₂        one block, then the traffic

So D₀ cannot pay one of its recipients, whom the distributor credits, and D₁ fails, though both would have succeeded
when they were sent. Nothing of it lasts beyond the block, and the traffic goes on as it would have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from eth_hash.auto import keccak

from bridge.domain.errors import RefusedError
from bridge.domain.payouts import ActionKind
from bridge.domain.units import Address, AssetId, format_address, hexed
from bridge.simulation.anvil import FINALITY_DISTANCE
from bridge.simulation.files import CHAIN
from bridge.simulation.sandbox import Sandbox
from bridge.simulation.wallets import Wallet
from bridge.store.database import Database

# What is sent and in no block that we know of, in the order in which it can be mined.
WAITING = """
    SELECT t.tx_id, t.raw, a.kind, d.asset, d.distribution_id, a.ordinal - 1 AS batch,
           ARRAY(SELECT p.recipient FROM payouts p
                  WHERE p.distribution_id = d.distribution_id AND p.batch_index = a.ordinal - 1 AND d.leg = 'push'
                  ORDER BY p.amount DESC, p.recipient) AS recipients
      FROM attempts t JOIN slots s USING (slot_id) JOIN actions a USING (action_id)
      JOIN distributions d USING (distribution_id)
     WHERE a.chain = $1 AND t.block_number IS NULL AND s.state = 'live' AND t.sent_at IS NOT NULL
     ORDER BY s.nonce, t.ordinal
"""
CREDITED = hexed(keccak(b"Credited(bytes32,address,address,uint32,uint256)"))


@dataclass(frozen=True, slots=True)
class Gift:
    """`amount` atoms that a payer sent to the vault, and that are no fee."""

    block: int
    asset: AssetId
    amount: int
    tx_id: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A batch that its token let pay all but `recipient`."""

    block: int
    distribution_id: bytes
    recipient: Address
    tx_id: bytes
    withdrawn: int | None = None  # the block in which the recipient took what it was credited


@dataclass(frozen=True, slots=True)
class Failed:
    """A transaction of the daemon that reverted."""

    block: int
    distribution_id: bytes
    tx_id: bytes


Incident = Gift | Refused | Failed


class Incidents:
    """One run's. `twice`: the first recipient that is refused withdraws its credit, and later there is a second one."""

    def __init__(self, sandbox: Sandbox, database: Database, *, twice: bool) -> None:
        self.gift: Gift | None = None
        self.refused: list[Refused] = []
        self.failed: Failed | None = None
        self._sandbox = sandbox
        self._database = database
        self._twice = twice
        self._wallets = {wallet.address: wallet for wallet in sandbox.deployment.stage.participants}
        self._random = Random(f"{sandbox.settings.seed}/incidents")
        self._usdx = sandbox.deployment.stage.tokens[0]

    @property
    def all(self) -> tuple[Incident, ...]:
        """In the order of their blocks."""
        found: list[Incident] = [*self.refused]
        found += [each for each in (self.gift, self.failed) if each is not None]
        return tuple(sorted(found, key=lambda each: each.block))

    @property
    def missing(self) -> tuple[str, ...]:
        """What there was no occasion for."""
        what = (("a gift", self.gift), ("a refused recipient", self.refused), ("a failed transaction", self.failed))
        return tuple(name for name, found in what if not found)

    def deeper_than(self, depth: int) -> bool:
        """Whether nothing of it happened in the newest `depth` blocks, so that a reorganisation of these leaves it."""
        head = self._sandbox.miner.head
        blocks = [each.block for each in self.all] + [each.withdrawn or 0 for each in self.refused]
        return all(head - block >= depth for block in blocks)

    async def mine(self, *, last: bool) -> None:
        """The next block, with what is due in it. `last`: it is late enough for what comes second."""
        sandbox, head = self._sandbox, self._sandbox.miner.head
        others: list[bytes] = []
        if self.gift is None:
            others.append(self._give(head + 1))
        elif self._twice and self.refused and self.refused[0].withdrawn is None and self.deeper_than(FINALITY_DISTANCE):
            others.append(self._withdraw(head + 1))
        for raw in others:
            await self._send(raw)
        tried, around = await self._trip(last)
        await sandbox.miner.mine([*others, *around])
        for each in tried:
            await self._look_at(each)

    # ── The gift, and what is taken from the credit ──────────────────────────────────────────────────────────────────
    def _give(self, block: int) -> bytes:
        stage = self._sandbox.deployment.stage
        amount, payer = self._random.randint(1, 2_000 * self._usdx.unit), stage.payers[0]
        call = self._usdx.contract.call("transfer", format_address(stage.vault.address), amount)
        raw = payer.sign(self._usdx.contract.address, call)
        self.gift = Gift(block, self._asset, amount, keccak(raw))
        return raw

    def _withdraw(self, block: int) -> bytes:
        first = self.refused[0]
        self.refused[0] = Refused(first.block, first.distribution_id, first.recipient, first.tx_id, withdrawn=block)
        wallet, keeper = self._wallets[first.recipient], self._sandbox.deployment.distributor
        token, to = format_address(self._usdx.contract.address), format_address(first.recipient)
        return wallet.sign(keeper.address, keeper.call("withdraw", token, to))

    # ── What is put around the daemon's transactions ─────────────────────────────────────────────────────────────────
    async def _trip(self, last: bool) -> tuple[list[Incident], list[bytes]]:
        """Make the pool anew where it holds something to trip over. What was tried, and the bytes put around it."""
        refuse = not self.refused or (self._twice and last and len(self.refused) == 1)
        if not refuse and self.failed is not None:
            return [], []
        waiting = [row for row in await self._waiting() if await self._sandbox.anvil.holds(row["tx_id"])]
        tried: list[Incident] = []
        around: list[bytes] = []
        order: list[tuple[list[bytes], Any, list[bytes]]] = []
        block = self._sandbox.miner.head + 1
        for row in waiting:
            before, after = list[bytes](), list[bytes]()
            recipient = next((each for each in map(Address, row["recipients"]) if each in self._wallets), None)
            pays = row["kind"] == ActionKind.EXECUTE and bool(row["recipients"])
            if refuse and pays and row["asset"] == self._asset and recipient is not None:
                refuse = False
                tried.append(Refused(block, row["distribution_id"], recipient, row["tx_id"]))
                before, after = [self._set_blocked(recipient, True)], [self._set_blocked(recipient, False)]
            elif pays and self._may_fail(tried):
                tried.append(Failed(block, row["distribution_id"], row["tx_id"]))
                before, after = self._pause()
            around += [*before, *after]
            order.append((before, row, after))
        for before, row, after in order if tried else ():
            await self._put_behind(before, row)
            for raw in after:
                await self._send(raw)
        return tried, around

    async def _put_behind(self, before: Sequence[bytes], row: Any) -> None:
        """The pool is first in, first out. The daemon may send its bytes again at any moment, but once they are dropped
        with `before` in the pool, whoever sends them puts them behind it."""
        for raw in before:
            await self._send(raw)
        await self._sandbox.anvil.call("anvil_dropTransaction", hexed(row["tx_id"]))
        with contextlib.suppress(RefusedError):  # there already
            await self._send(row["raw"])

    async def _send(self, raw: bytes) -> None:
        await self._sandbox.anvil.call("eth_sendRawTransaction", hexed(raw))

    def _may_fail(self, tried: Sequence[Incident]) -> bool:
        return self.failed is None and not any(isinstance(each, Failed) for each in tried)

    def _set_blocked(self, account: Address, blocked: bool) -> bytes:
        owner, token = self._sandbox.deployment.admin, self._usdx.contract
        return owner.sign(token.address, token.call("setBlocked", format_address(account), blocked))

    def _pause(self) -> tuple[list[bytes], list[bytes]]:
        vault, guardian = self._sandbox.deployment.stage.vault, self._guardian
        before = [guardian.sign(vault.address, vault.call("pause"))]
        return before, self._sandbox.deployment.as_admin(vault.address, vault.call("unpause"))

    async def _look_at(self, tried: Incident) -> None:
        """Keep what came about. Where it did not (the daemon may have raised its fee), the next occasion is taken."""
        receipt: dict[str, Any] | None = await self._sandbox.anvil.call("eth_getTransactionReceipt", hexed(tried.tx_id))
        if receipt is None:
            return
        if isinstance(tried, Failed) and receipt["status"] == "0x0":
            self.failed = tried
        if isinstance(tried, Refused) and any(log["topics"][0] == CREDITED for log in receipt["logs"]):
            self.refused.append(tried)

    async def _waiting(self) -> list[Any]:
        async with self._database.snapshot() as transaction:
            return list(await transaction.connection.fetch(WAITING, CHAIN))

    @property
    def _guardian(self) -> Wallet:
        return self._sandbox.deployment.admin

    @property
    def _asset(self) -> AssetId:
        return AssetId(f"eip155:31337/erc20:{format_address(self._usdx.contract.address)}")
