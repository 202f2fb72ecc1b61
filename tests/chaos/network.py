"""A chain in memory with the contracts on it: a vault with fees, a pool with deposits, a distributor that pays.

It keeps balances itself, by what its transactions do and by nothing that the code under test says, and speaks the
events of the declarations that the books read.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.chains.fake.chain import Emit, FakeChain
from bridge.chains.fake.gate import APPROVE, VETO
from bridge.chains.fake.payer import NOTHING, FakePayer, FakeTransaction, _trees
from bridge.domain.events import Log, Value
from bridge.domain.payouts import Action, ActionKind, Leg
from bridge.domain.units import Address
from bridge.ports.paying import Broadcast, BroadcastOutcome, Settlement
from bridge.stages.post import TRANSFER
from tests.stages.books import (
    ACTIVATED,
    BATCH_EXECUTED,
    CHAIN,
    CLAIMS,
    CREDITED,
    DISTRIBUTOR,
    ETH,
    FEE_PAID,
    OPERATOR,
    TOKEN,
    USDX,
    Declaration,
    Emitted,
    activation,
    batch,
    claim,
    fee,
)

POOL = Address(b"\xbb" * 20)
DEPOSITED, WITHDRAWN = (f"{name}(address indexed account, uint256 amount)" for name in ("Deposited", "Withdrawn"))
ACCOUNTS = (OPERATOR, Address(b"\x0f" * 20))
"""The operator, and the one whose key replaces its key for a while. Only the first holds coins at the beginning: the
books open once, with what the operator of that moment holds."""
FINALITY_DEPTH = 3
CHAIN_SECONDS = 12
COINS = 10**18


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction of one of our accounts that is in a block."""

    account: Address
    nonce: int
    tx_id: bytes
    has_event: bool  # one of ours: a proposal or a batch that took effect
    fee_paid: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the chain holds and has not paid to the end."""

    distribution_id: bytes
    content_hash: bytes
    expired: bool  # its last approval


def emit(events: Sequence[Emitted], tx_id: bytes) -> list[Emit]:
    encoded = [(address, Declaration(declaration).encode(values)) for address, declaration, values in events]
    return [Emit(address, topics, data, tx_id) for address, (topics, data) in encoded]


class Network(FakePayer):
    """The chain, its pool, and its contracts; also the honest half of every process's sending side."""

    def __init__(self, chain: FakeChain, account: Address) -> None:
        super().__init__(chain, account=account, distributor=DISTRIBUTOR, bump_after_blocks=2)
        self.chain = chain
        self.offered: set[bytes] = set()  # every transaction whose bytes any node was ever sent
        self.strangers: set[bytes] = set()  # transactions of our accounts that none of our processes sent
        self.bumps = 0
        self._taken: dict[tuple[Address, int], dict[bytes, FakeTransaction]] = {}  # by nonce: all that a node ever took

    @classmethod
    def start(cls) -> Network:
        coins: dict[tuple[object, ...], int] = {("balance", OPERATOR, ETH): COINS}
        return cls(FakeChain(CHAIN, finality_depth=FINALITY_DEPTH, state=coins), OPERATOR)

    def received(self) -> Counter[Address]:
        """What was paid out, credited or made claimable on the canonical chain, by recipient, whatever it was for."""
        transfer, credit = Declaration(TRANSFER), Declaration(CREDITED)
        received: Counter[Address] = Counter()
        for log in (log for entry in self.chain.blocks for log in entry.logs):
            if log.topics[0] == transfer.topic0 and (fields := transfer.decode(log))["from"] == DISTRIBUTOR:
                received[_address(fields["to"])] += _int(fields["value"])
            elif log.topics[0] == credit.topic0:
                fields = credit.decode(log)
                received[_address(fields["to"])] += _int(fields["amount"])
        return received + Counter(self.claimable())

    @property
    def trees(self) -> int:
        """Activated on the canonical chain."""
        return len(_trees(self._canonical()))

    def claim(self, account: Address, chance: random.Random) -> list[Emitted]:
        """What `account` claims of what it has not had yet; nothing where there is none."""
        key = ("claimed", account)
        had = self.chain.state.get(key, 0)
        left = self.claimable().get(account, 0) - had
        if left <= 0:
            return []
        self.chain.state[key] = had + left
        return claim(account, left, to=chance.choice([account, POOL]))

    def fees_in(self, start: int, end: int) -> int:
        """Fees of canonical blocks with start ≤ timestamp < end."""
        paid = Declaration(FEE_PAID)
        logs = [log for entry in self.chain.blocks if start <= entry.block.timestamp < end for log in entry.logs]
        return sum(_int(paid.decode(log)["amount"]) for log in logs if log.topics[0] == paid.topic0)

    def sent(self) -> list[Sent]:
        """Transactions of our accounts on the canonical chain, whoever sent them."""
        return [
            Sent(one.account, one.nonce, one.tx_id, mined.succeeded and one.payload != NOTHING, mined.fee_paid)
            for mined in self._canonical()
            if (one := mined.transaction).account in ACCOUNTS
        ]

    def own_reverts(self) -> int:
        """Transactions of our accounts on the canonical chain that failed."""
        return sum(not mined.succeeded for mined in self._canonical() if mined.transaction.account in ACCOUNTS)

    def proposals(self) -> list[Proposal]:
        """Those on the canonical chain that are neither vetoed nor paid to the last batch."""
        left: dict[str, list[Any]] = {}
        for one in self._canonical():
            call = json.loads(one.payload)
            if one.succeeded and call.get("call") == ActionKind.PROPOSE:
                left[call["id"]] = [bytes.fromhex(call["content"]), call["batches"]]
            elif one.succeeded and call.get("call") == ActionKind.EXECUTE:
                left[call["id"]][1] -= 1
            elif one.succeeded and call.get("call") == VETO:
                left.pop(call["id"], None)
        return [Proposal(bytes.fromhex(one), content, False) for one, (content, batches) in left.items() if batches > 0]

    def unapproved(self) -> list[Proposal]:
        """Proposals that wait for an approval which nobody has sent yet."""
        before = [one for one in self._canonical() if one.succeeded]
        sent = {
            call.get("id") for one in self.pool.values() if (call := json.loads(one.payload)).get("call") == APPROVE
        }
        found = []
        for one in self.proposals():
            call = {"call": ActionKind.EXECUTE, "id": one.distribution_id.hex()}
            refusal = self.gate.refusal(self.account, call, before, self.chain.head.timestamp + CHAIN_SECONDS)
            if refusal is not None and "approval" in refusal.reason and call["id"] not in sent:
                found.append(replace(one, expired="new approval" in refusal.reason))
        return found

    def vetoed_at(self, distribution_id: bytes) -> int | None:
        """The block whose veto counts."""
        for entry in self.chain.blocks:
            for one in self._mined.get(entry.block.hash, ()):
                call = json.loads(one.payload)
                if one.succeeded and call.get("call") == VETO and call["id"] == distribution_id.hex():
                    return entry.block.number
        return None

    def intrude(self, payload: bytes = NOTHING) -> None:
        """Somebody else sends something with our key."""
        before = set(self.pool)
        self.spend_nonce(payload)
        self.strangers |= self.pool.keys() - before

    # ── what happens to it ──
    def pay_in(self, events: Sequence[Emitted], tx_id: bytes) -> list[Emit]:
        """The logs of a transaction of somebody else, whose transfers are made."""
        for address, declaration, values in events:
            if declaration == TRANSFER:
                self._move(address, values)
        return emit(events, tx_id)

    def _move(self, token: Address, values: Mapping[str, Value]) -> None:
        assert token == TOKEN
        for party, sign in (("from", -1), ("to", 1)):
            key = ("balance", _address(values[party]), USDX)
            self.chain.state[key] = self.chain.state.get(key, 0) + sign * _int(values["value"])

    def replaced(self) -> FakeTransaction | None:
        """An attempt that could be mined now, although nodes took another one for its nonce after it: the node of the
        block's producer may not have heard of that one."""
        for account in ACCOUNTS:
            nonce = self.chain.state.get(("sequence", account), 0)
            taken = list(self._taken.get((account, nonce), {}).values())
            if len(taken) > 1:
                return taken[-2]
        return None

    def bring_back(self, replaced: FakeTransaction) -> None:
        """The next block is made by a node whose pool has `replaced`, and nothing that came after it."""
        rivals = [one for one in self.pool.values() if (one.account, one.nonce) == (replaced.account, replaced.nonce)]
        for one in rivals:
            del self.pool[one.tx_id]
        self.pool[replaced.tx_id] = replaced

    # ── what FakePayer leaves open ──
    def _take(self, transaction: FakeTransaction) -> Broadcast:
        answer = super()._take(transaction)
        if answer.outcome is BroadcastOutcome.ACCEPTED:
            self._taken.setdefault((transaction.account, transaction.nonce), {})[transaction.tx_id] = transaction
        return answer

    def _charge(self, account: Address, fee: int) -> None:
        key = ("balance", account, ETH)
        self.chain.state[key] = self.chain.state.get(key, 0) - fee

    def _emits(self, transaction: FakeTransaction) -> list[Emit]:
        call = json.loads(transaction.payload)
        if call.get("call") != ActionKind.EXECUTE:
            return super()._emits(transaction)
        if "tree" in call:
            return self.pay_in(activation(int(call["tree"][0]), bytes.fromhex(call["id"])), transaction.tx_id)
        payouts = {Address(bytes.fromhex(to)): int(amount) for to, amount in call["payouts"]}
        credited = {to: amount for to, amount in payouts.items() if to in self.faults.credited}
        paid = {to: amount for to, amount in payouts.items() if to not in credited}
        return self.pay_in(batch(paid, credited, bytes.fromhex(call["id"]), int(call["index"])), transaction.tx_id)

    def settlement(self, action: Action, logs: Sequence[Log]) -> Settlement:
        if action.kind is ActionKind.PROPOSE:
            return super().settlement(action, logs)
        if action.leg is Leg.CLAIM:
            topics = (Declaration(ACTIVATED).topic0, action.distribution_id)
            return Settlement(any((log.address, log.topics[:2]) == (CLAIMS, topics) for log in logs), frozenset())
        executed, credited = Declaration(BATCH_EXECUTED), Declaration(CREDITED)
        key = (action.distribution_id, action.batch_index)
        found, kept = False, set()
        for log in logs:
            for declaration in (executed, credited):
                if log.address == DISTRIBUTOR and log.topics[0] == declaration.topic0:
                    fields = declaration.decode(log)
                    if (fields["id"], fields["index"]) == key:
                        found |= declaration is executed
                        kept |= {_address(fields["to"])} if declaration is credited else set()
        return Settlement(found, frozenset(kept))


class Traffic:
    """What participants do in each block."""

    def __init__(self, network: Network, chance: random.Random) -> None:
        self._network = network
        self._chance = chance
        self._people = [Address(bytes([n]) * 20) for n in range(0x31, 0x31 + chance.randint(2, 5))]
        self._sent = 0
        network.faults.credited = {one for one in self._people if chance.random() < 0.2}

    def block(self) -> list[Emit]:
        events: list[Emit] = []
        if self._chance.random() < 0.5:
            events += self._network.pay_in(fee(self._chance.randint(1, 10**12)), self._next())
        if self._chance.random() < 0.5:
            who, state = self._chance.choice(self._people), self._network.chain.state
            staked = state.get(("staked", who), 0)
            declaration = WITHDRAWN if staked and self._chance.random() < 0.3 else DEPOSITED
            amount = staked if declaration == WITHDRAWN else self._chance.randint(1, 10**9)
            state["staked", who] = staked + (-amount if declaration == WITHDRAWN else amount)
            events += self._network.pay_in([(POOL, declaration, {"account": who, "amount": amount})], self._next())
        if self._network.claims is not None and self._chance.random() < 0.3:
            events += self._network.pay_in(
                self._network.claim(self._chance.choice(self._people), self._chance), self._next()
            )
        return events

    def _next(self) -> bytes:
        self._sent += 1
        return self._sent.to_bytes(32)


def _address(value: object) -> Address:
    assert isinstance(value, bytes)
    return Address(value)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
