"""The sending side of a chain that exists in memory: a pool, nonces, and a distributor that executes each batch once.

It knows no clock and no network. A script (a test, a simulation) mines and reorganises it, and makes its endpoints
misbehave through `faults`; what a real node may answer, this one can.

    broadcast ─► pool ─mine─► block of the FakeChain: lowest nonces first, each executed against the state before it
                  ▲                    │
                  └── put back or lost ┴─ reorg
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.chains.fake.chain import Emit, FakeChain
from bridge.chains.fake.gate import APPROVE, VETO, Gate
from bridge.domain.errors import ChainUnavailable
from bridge.domain.events import Block, Log
from bridge.domain.payouts import (
    Action,
    ActionKind,
    Attempt,
    Batch,
    Distribution,
    Fees,
    Inclusion,
    InFlight,
    Landed,
    LeftOut,
    Leg,
    Order,
    Payout,
    PlannedCall,
    Purpose,
    Refusal,
    Signed,
    Slot,
    bump_fees,
    bump_is_due,
    left_out_index,
    pack_batches,
)
from bridge.domain.units import UINT256_MAX, Address, AssetId, BlockStamp, format_address
from bridge.ports.paying import Broadcast, BroadcastOutcome, Ready, Settlement

GAS_LIMIT = 100_000
GAS_USED = 60_000
MAX_FEE = 1000
NOTHING = b"{}"
"""The payload of a transaction that does nothing but spend its nonce."""
PROPOSED, BATCH_EXECUTED, CREDITED, SKIPPED, APPROVED, VETOED, ROOT_ACTIVATED = (
    hashlib.sha256(name).digest()
    for name in (b"Proposed", b"BatchExecuted", b"Credited", b"Skipped", b"Approved", b"Vetoed", b"RootActivated")
)


@dataclass(frozen=True, slots=True)
class FakeTransaction:
    account: Address
    nonce: int
    payload: bytes
    fees: Fees

    @property
    def raw(self) -> bytes:
        return json.dumps(
            [self.account.hex(), self.nonce, self.payload.hex(), self.fees.max_fee, self.fees.priority_fee]
        ).encode()

    @property
    def tx_id(self) -> bytes:
        return hashlib.sha256(self.raw).digest()

    @classmethod
    def parse(cls, raw: bytes) -> FakeTransaction:
        account, nonce, payload, max_fee, priority_fee = json.loads(raw)
        return cls(Address(bytes.fromhex(account)), nonce, bytes.fromhex(payload), Fees(max_fee, priority_fee))


@dataclass(slots=True)
class Faults:
    """What goes wrong from now on."""

    broadcast: Broadcast | None = None  # the answer, whatever happens to the bytes
    lose_broadcasts: bool = False  # the bytes do not reach the pool
    receipts_unavailable: bool = False  # every endpoint fails when asked for receipts
    receipts_hidden: bool = False  # every endpoint answers that it has no receipt
    refusal: Refusal | None = None  # what every pre-flight says
    reverts: bool = False  # what is mined from now on reverts
    credited: set[Address] = field(default_factory=set)  # transfers to these fail and become credits
    frozen: set[Address] = field(default_factory=set)  # batches are executed without these


@dataclass(frozen=True, slots=True)
class _Mined:
    transaction: FakeTransaction
    succeeded: bool
    fee_paid: int
    l1_fee: int  # of it
    timestamp: int  # of its block

    @property
    def payload(self) -> bytes:
        return self.transaction.payload


class FakePayer:
    """Implements ports.Payer for chains.fake."""

    def __init__(
        self,
        chain: FakeChain,
        *,
        account: Address,
        distributor: Address,
        bump_after_blocks: int = 5,
    ) -> None:
        self.account = account
        self.claims: Address | None = None
        self.faults = Faults()
        self.pool: dict[bytes, FakeTransaction] = {}
        self.base_fee = 10
        self.l1_fee = 0  # of each transaction, beside its gas
        self.gate = Gate()
        self._chain = chain
        self._distributor = distributor
        self._bump_after_blocks = bump_after_blocks
        self._mined: dict[bytes, tuple[_Mined, ...]] = {}  # by block hash, of every branch

    # ── the script's side ──
    def mine(self, *others: Emit, timestamp: int | None = None) -> Block:
        """One more block of the chain: the logs of `others`, then the pool as far as nonces follow each other."""
        mined: list[_Mined] = []
        emits = list(others)
        now = self._chain.head.timestamp + self._chain.seconds_per_block if timestamp is None else timestamp
        while (transaction := self._next_of_pool(mined)) is not None:
            before = [*self._canonical(), *mined]
            open_ = self._shut(transaction, before, now) is None
            succeeded = not self.faults.reverts and open_ and self._executable(transaction, before)
            mined.append(_Mined(transaction, succeeded, GAS_USED * self.base_fee + self.l1_fee, self.l1_fee, now))
            self._charge(transaction.account, mined[-1].fee_paid)
            if succeeded:
                emits += self._emits(transaction)
            self._chain.state["sequence", transaction.account] = transaction.nonce + 1
        block = self._chain.mine(*emits, timestamp=timestamp)
        self._mined[block.hash] = tuple(mined)
        spent = _nonces_after(self._canonical())
        for tx_id in [tx_id for tx_id, one in self.pool.items() if one.nonce < spent.get(one.account, 0)]:
            del self.pool[tx_id]
        return block

    def reorg(self, depth: int, *, put_back: bool) -> None:
        """Drop the last `depth` blocks; their transactions are put back into the pool, or lost."""
        dropped = [entry.block.hash for entry in self._chain.blocks[-depth:]]
        self._chain.fork(depth)
        if put_back:
            for one in (one for block_hash in dropped for one in self._mined.get(block_hash, ())):
                self.pool[one.transaction.tx_id] = one.transaction

    def spend_nonce(self, payload: bytes = NOTHING) -> None:
        """A transaction of the same key that the daemon knows nothing of, in the pool with the highest fees."""
        nonce = _nonces_after(self._canonical()).get(self.account, 0)
        stranger = FakeTransaction(self.account, nonce, payload, Fees(10**9, 10**9))
        self.pool[stranger.tx_id] = stranger

    def approve(self, distribution_id: bytes, content_hash: bytes) -> None:
        """The approver sends its word; it is in the next block."""
        call = {"call": APPROVE, "id": distribution_id.hex(), "content": content_hash.hex()}
        self._send_as(self.gate.approver, call)

    def veto(self, distribution_id: bytes) -> None:
        """The guardian likewise."""
        self._send_as(self.gate.guardian, {"call": VETO, "id": distribution_id.hex()})

    def paid(self) -> dict[tuple[bytes, int], int]:
        """How often each (distribution, batch) was executed on the canonical chain."""
        times: dict[tuple[bytes, int], int] = {}
        for one in _succeeded(self._canonical()):
            call = json.loads(one.payload)
            if call.get("call") == ActionKind.EXECUTE:
                key = (bytes.fromhex(call["id"]), int(call["index"]))
                times[key] = times.get(key, 0) + 1
        return times

    def claimable(self) -> dict[Address, int]:
        """What the newest activated tree gives each account."""
        trees = _trees(self._canonical())
        leaves = trees[-1][1] if trees else []
        return {Address(bytes.fromhex(account)): int(amount) for account, amount in leaves}

    # ── ports.Payer ──
    def forbidden_recipients(self, asset: AssetId) -> frozenset[Address]:
        return frozenset({self._distributor} | ({self.claims} if self.claims is not None else set()))

    async def pack(self, order: Order, recipients_max: int) -> tuple[Batch, ...]:
        return pack_batches(order.payouts, recipients_max)

    def plan(self, order: Order, batches: Sequence[Batch]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        what = self._what(order)
        distribution_id = _identity(self._distributor, what)
        contents = [
            {"index": batch.index, "payouts": [[one.recipient.hex(), str(one.amount)] for one in batch.payouts]}
            for batch in batches
        ]
        content_hash = hashlib.sha256(json.dumps([str(order.total), contents]).encode()).digest()
        proposal = _proposal(distribution_id, content_hash, what, order.total, len(batches))
        calls = [PlannedCall(0, ActionKind.PROPOSE, self._distributor, proposal)]
        for batch, content in zip(batches, contents, strict=True):
            execution = {"call": ActionKind.EXECUTE, "id": distribution_id.hex(), **content}
            calls.append(
                PlannedCall(batch.index + 1, ActionKind.EXECUTE, self._distributor, json.dumps(execution).encode())
            )
        return Distribution(distribution_id, order, content_hash, tuple(batches)), tuple(calls)

    def plan_claims(self, order: Order, leaves: Sequence[Payout]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        assert self.claims is not None
        what = self._what(order)
        distribution_id = _identity(self.claims, what)
        tree = [str(order.total), [[leaf.recipient.hex(), str(leaf.amount)] for leaf in leaves]]
        content_hash = hashlib.sha256(json.dumps(tree).encode()).digest()
        proposal = _proposal(distribution_id, content_hash, what, order.total, batches=1)
        activation = {"call": ActionKind.EXECUTE, "id": distribution_id.hex(), "index": 0, "tree": tree}
        calls = (
            PlannedCall(0, ActionKind.PROPOSE, self.claims, proposal),
            PlannedCall(1, ActionKind.EXECUTE, self.claims, json.dumps(activation).encode()),
        )
        batches = pack_batches(order.payouts, len(order.payouts))
        return Distribution(distribution_id, order, content_hash, batches, Leg.CLAIM), calls

    def _what(self, order: Order) -> list[object]:
        return [self._chain.name, order.rule, order.window_start, order.window_end, order.asset]

    async def preflight(self, action: Action, at: BlockStamp, beside: Sequence[Action] = ()) -> Ready | Refusal:
        if self.faults.refusal is not None:
            return self.faults.refusal
        before = self._through(at)
        nonce = _nonces_after(before).get(self.account, 0)
        transaction = FakeTransaction(self.account, nonce, action.payload, Fees(0, 0))
        if (shut := self._shut(transaction, before, self._chain.blocks[at.number].block.timestamp)) is not None:
            return shut
        if not self._executable(transaction, before):
            return Refusal("would revert", temporary=True)
        recipients = [bytes.fromhex(to) for to, _ in json.loads(action.payload).get("payouts", ())]
        if recipients and self.faults.frozen.issuperset(recipients):
            return Refusal(f"the account of {format_address(recipients[0])} is frozen", temporary=False)
        return Ready(GAS_LIMIT)

    async def sign(
        self, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | None:
        wanted = Fees(min(2 * self.base_fee, MAX_FEE), 1)
        fees: Fees | None = wanted
        if previous is not None:
            fees = bump_fees(Fees(previous.signed.max_fee, previous.signed.priority_fee), wanted, MAX_FEE)
        if fees is None:
            return None
        payload = action.payload if purpose is Purpose.PAY else NOTHING
        transaction = FakeTransaction(slot.account, slot.nonce, payload, fees)
        return Signed(transaction.tx_id, transaction.raw, slot.gas_limit, fees.max_fee, fees.priority_fee, purpose)

    def due(self, in_flight: Sequence[InFlight], head: Block) -> frozenset[int]:
        late = bump_is_due(in_flight, head.number, self._bump_after_blocks)
        return frozenset() if late is None else frozenset({late.action.action_id})

    async def may_replace(self, flight: InFlight, finalized: BlockStamp) -> Refusal | None:
        return None

    async def broadcast(self, raw: bytes) -> Broadcast:
        transaction = FakeTransaction.parse(raw)
        answer = self._take(transaction)
        return self.faults.broadcast or answer

    async def inclusions(self, tx_id: bytes) -> tuple[Inclusion, ...]:
        if self.faults.receipts_unavailable:
            raise ChainUnavailable(f"no endpoint of {self._chain.name} answers for receipts")
        found = None if self.faults.receipts_hidden else self._inclusion(tx_id)
        return () if found is None else (found,)

    async def settled(self, tx_id: bytes) -> Inclusion | None:
        found = await self.inclusions(tx_id)
        return found[0] if found else None

    async def disowned(self, tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        self._through(at)
        if self.faults.receipts_unavailable:
            return False
        return self.faults.receipts_hidden or all(self._inclusion(tx_id) is None for tx_id in tx_ids)

    async def executed(self, action: Action, at: BlockStamp) -> bool:
        return (action.distribution_id, action.batch_index) in _state(self._through(at))[1]

    async def proposed(self, action: Action, at: BlockStamp) -> bytes | None:
        return _state(self._through(at))[0].get(action.distribution_id)

    async def proposed_otherwise(self, proposal: Action, at: BlockStamp) -> bool:
        other = self._distributor if proposal.leg is Leg.CLAIM else self.claims
        what = json.loads(proposal.payload)["what"]
        return other is not None and _identity(other, what) in _state(self._through(at))[0]

    async def landed(self, tx_id: bytes) -> Landed | None:
        for one in self._canonical():
            inclusion = self._inclusion(tx_id)
            if one.transaction.tx_id == tx_id and inclusion is not None:
                fees = one.transaction.fees
                signed = Signed(tx_id, b"", GAS_LIMIT, fees.max_fee, fees.priority_fee)
                return Landed(one.transaction.account, one.transaction.nonce, signed, inclusion)
        return None

    def settlement(self, action: Action, logs: Sequence[Log]) -> Settlement:
        own = [log for log in logs if log.address == action.target and log.topics[1:2] == (action.distribution_id,)]
        if action.kind is ActionKind.PROPOSE:
            return Settlement(
                any((log.topics[0], log.data) == (PROPOSED, action.content_hash) for log in own), frozenset()
            )
        if action.leg is Leg.CLAIM:
            return Settlement(any(log.topics[0] == ROOT_ACTIVATED for log in own), frozenset())
        index = action.batch_index.to_bytes(32, "big")
        own = [log for log in own if log.topics[0] != PROPOSED and log.topics[2] == index]
        credited = frozenset(Address(log.data) for log in own if log.topics[0] == CREDITED)
        skipped = frozenset(log.data for log in own if log.topics[0] == SKIPPED)
        executed = any(log.topics[0] == BATCH_EXECUTED for log in own)
        return Settlement(executed, credited, self._left_out(action, skipped))

    def _left_out(self, action: Action, skipped: frozenset[bytes]) -> tuple[LeftOut, ...]:
        call = json.loads(action.payload)
        found: list[LeftOut] = []
        for position, (recipient, amount) in enumerate(call["payouts"]):
            if bytes.fromhex(recipient) in skipped:
                index = left_out_index(action.batch_index, position)
                payload = json.dumps({**call, "index": index, "payouts": [[recipient, amount]]}).encode()
                planned = PlannedCall(index + 1, ActionKind.EXECUTE, action.target, payload)
                found.append(LeftOut(Address(bytes.fromhex(recipient)), planned))
        return tuple(found)

    # ── inside ──
    def _send_as(self, account: Address, call: dict[str, str]) -> None:
        waiting = sum(one.account == account for one in self.pool.values())
        nonce = _nonces_after(self._canonical()).get(account, 0) + waiting
        sent = FakeTransaction(account, nonce, json.dumps(call).encode(), Fees(10**9, 10**9))
        self.pool[sent.tx_id] = sent

    def _shut(self, transaction: FakeTransaction, before: Iterable[_Mined], now: int) -> Refusal | None:
        """Why the gate does not let it through in a block of second `now`."""
        done = [one for one in before if one.succeeded]
        return self.gate.refusal(transaction.account, json.loads(transaction.payload), done, now)

    def _take(self, transaction: FakeTransaction) -> Broadcast:
        if self.faults.lose_broadcasts:
            return Broadcast(BroadcastOutcome.UNKNOWN, "time-out")
        if transaction.tx_id in self.pool:
            return Broadcast(BroadcastOutcome.KNOWN)
        if transaction.nonce < _nonces_after(self._canonical()).get(transaction.account, 0):
            return Broadcast(BroadcastOutcome.REJECTED, "nonce too low")
        rivals = [
            one for one in self.pool.values() if (one.account, one.nonce) == (transaction.account, transaction.nonce)
        ]
        needed = [bump_fees(one.fees, Fees(0, 0), UINT256_MAX) for one in rivals]
        if any(fees is None or fees.max_fee > transaction.fees.max_fee for fees in needed):
            return Broadcast(BroadcastOutcome.REJECTED, "replacement transaction underpriced")
        for one in rivals:
            del self.pool[one.tx_id]
        self.pool[transaction.tx_id] = transaction
        return Broadcast(BroadcastOutcome.ACCEPTED)

    def _next_of_pool(self, mined: Sequence[_Mined]) -> FakeTransaction | None:
        spent = _nonces_after([*self._canonical(), *mined])
        ready = [
            one
            for one in self.pool.values()
            if one.nonce == spent.get(one.account, 0) and one.fees.max_fee >= self.base_fee
        ]
        return max(ready, key=lambda one: (one.fees.priority_fee, one.tx_id), default=None)

    @staticmethod
    def _executable(transaction: FakeTransaction, before: Iterable[_Mined]) -> bool:
        proposals, executed = _state(before)
        call = json.loads(transaction.payload)
        if call.get("call") == ActionKind.PROPOSE:
            return bytes.fromhex(call["id"]) not in proposals
        if call.get("call") == ActionKind.EXECUTE:
            distribution_id = bytes.fromhex(call["id"])
            if distribution_id not in proposals or (distribution_id, int(call["index"])) in executed:
                return False
            # A tree gives what the trees before it gave, and its own total.
            given = sum(int(tree[0]) for tree in _trees(before))
            return "tree" not in call or _given(call["tree"]) == given + int(call["tree"][0])
        return True

    def _emits(self, transaction: FakeTransaction) -> list[Emit]:
        call = json.loads(transaction.payload)
        contract = self._distributor
        facts: list[tuple[tuple[bytes, ...], bytes]] = []
        if call.get("call") == ActionKind.PROPOSE:
            distribution_id = bytes.fromhex(call["id"])
            if self.claims is not None and distribution_id == _identity(self.claims, call["what"]):
                contract = self.claims
            facts = [((PROPOSED, bytes.fromhex(call["id"])), bytes.fromhex(call["content"]))]
        elif "tree" in call:
            assert self.claims is not None
            contract, facts = self.claims, [((ROOT_ACTIVATED, bytes.fromhex(call["id"])), b"")]
        elif call.get("call") == ActionKind.EXECUTE:
            distribution_id, index = bytes.fromhex(call["id"]), int(call["index"]).to_bytes(32, "big")
            recipients = [bytes.fromhex(recipient) for recipient, _ in call["payouts"]]
            facts = [
                ((topic, distribution_id, index), recipient)
                for topic, chosen in ((CREDITED, self.faults.credited), (SKIPPED, self.faults.frozen))
                for recipient in recipients
                if recipient in chosen
            ]
            facts.append(((BATCH_EXECUTED, distribution_id, index), b""))
        elif call.get("call") in (APPROVE, VETO):
            topic = APPROVED if call["call"] == APPROVE else VETOED
            sender = transaction.account.rjust(32, b"\0")
            facts = [((topic, bytes.fromhex(call["id"]), sender), bytes.fromhex(call.get("content", "")))]
        return [Emit(contract, topics, data, transaction.tx_id) for topics, data in facts]

    def _charge(self, account: Address, fee: int) -> None:
        """Nobody's coins are counted here; a script that keeps books does."""

    def _canonical(self) -> list[_Mined]:
        return [one for entry in self._chain.blocks for one in self._mined.get(entry.block.hash, ())]

    def _through(self, at: BlockStamp) -> list[_Mined]:
        """Raises ChainDisagrees where `at` is not canonical."""
        self._chain.state_at(at)
        blocks = self._chain.blocks[: at.number + 1]
        return [one for entry in blocks for one in self._mined.get(entry.block.hash, ())]

    def _inclusion(self, tx_id: bytes) -> Inclusion | None:
        for entry in self._chain.blocks:
            for one in self._mined.get(entry.block.hash, ()):
                if one.transaction.tx_id == tx_id:
                    stamp = BlockStamp(self._chain.name, entry.block.number, entry.block.hash)
                    return Inclusion(stamp, one.succeeded, GAS_USED, one.fee_paid, l1_fee=one.l1_fee)
        return None


def _identity(contract: Address, what: Sequence[object]) -> bytes:
    """Of what is paid, by which contract."""
    return hashlib.sha256(json.dumps([contract.hex(), *what]).encode()).digest()


def _proposal(distribution_id: bytes, content_hash: bytes, what: Sequence[object], total: int, batches: int) -> bytes:
    call = {
        "call": ActionKind.PROPOSE,
        "id": distribution_id.hex(),
        "content": content_hash.hex(),
        "what": what,
        "total": str(total),
        "batches": batches,
    }
    return json.dumps(call).encode()


def _succeeded(mined: Iterable[_Mined]) -> list[FakeTransaction]:
    return [one.transaction for one in mined if one.succeeded]


def _nonces_after(mined: Iterable[_Mined]) -> dict[Address, int]:
    return {one.transaction.account: one.transaction.nonce + 1 for one in mined}


def _trees(mined: Iterable[_Mined]) -> list[Any]:
    """Those that were activated, oldest first: (total, leaves)."""
    calls = (json.loads(one.payload) for one in _succeeded(mined))
    return [call["tree"] for call in calls if "tree" in call]


def _given(tree: Any) -> int:
    return sum(int(amount) for _, amount in tree[1])


def _state(mined: Iterable[_Mined]) -> tuple[dict[bytes, bytes], set[tuple[bytes, int]]]:
    """(content bound to each id, batches executed)."""
    proposals: dict[bytes, bytes] = {}
    executed: set[tuple[bytes, int]] = set()
    for one in _succeeded(mined):
        call = json.loads(one.payload)
        if call.get("call") == ActionKind.PROPOSE:
            proposals[bytes.fromhex(call["id"])] = bytes.fromhex(call["content"])
        elif call.get("call") == ActionKind.EXECUTE:
            executed.add((bytes.fromhex(call["id"]), int(call["index"])))
    return proposals, executed
