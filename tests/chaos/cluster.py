"""A Solana chain by hand, with some endpoints: the vault, a pool, people with token accounts, and what really happened.

What is true is read off the blocks themselves, by nothing that the code under test says: who was charged, whose tokens
moved, which memo stood beside.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from solders.account import Account
from solders.compute_budget import set_compute_unit_price
from solders.instruction import Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from spl.token import instructions as token_instructions
from spl.token import models

from bridge.chains.solana.markers import Deed, marker_of
from bridge.chains.solana.programs import MEMO, SYSTEM, TOKEN, associated_account
from bridge.chains.solana.tables import TABLE_PROGRAM
from bridge.domain.units import Address, AssetId, base58
from bridge.simulation.svm.chain import Block, Chain, Commitment, Fate
from bridge.simulation.svm.faults import Faults
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.tokens import read_holding
from bridge.simulation.svm.transactions import Wire, parse
from bridge.simulation.svm.view import View
from tests.chains.svm_scene import SOL, address_of, holding_bytes, key_of, mint_bytes

CHAIN = "svm"
SLOT_MS = 2000
GENESIS_TIME = 1_600_000_000
DECIMALS = 6
ALLOWANCE = 10**18
"""Atoms that the operator may move when nothing is wrong."""
RENT_EMPTY = 890_880
PRICE_MAX = 50_000
NEWCOMER = "newcomer"
"""Keeps the token elsewhere than where payouts go, and has no account there."""
MINT = address_of("mint")
VAULT, POOL, OPERATOR, PAYER = (address_of(name) for name in ("vault", "pool", "operator", "payer"))
_DEED = re.compile(r"bridge:1:([0-9a-f]{64}):(p|\d+)(?::.*)?")


@dataclass(frozen=True, slots=True)
class Deal:
    """A transaction that the operator's account paid for."""

    tx_id: bytes
    succeeded: bool
    batch: tuple[bytes, int] | None  # that it paid
    fee_paid: int
    spent: int  # lamports, the fee among them


class Cluster:
    """The living fork and its endpoints."""

    def __init__(
        self,
        chance: random.Random,
        *,
        seed: int,
        endpoints: int,
        people: int,
        newcomer: bool,
        tables: tuple[Address, ...] = (),
    ) -> None:
        self._chance = chance
        settings = Settings(
            seed=seed,
            timer=False,
            slot_ms=SLOT_MS,
            genesis_time=GENESIS_TIME,
            skipped_per_mille=chance.choice([0, 100]),
        )
        self.chain = Chain(settings, GENESIS_TIME)
        self.views = [View(self.chain, Faults()) for _ in range(endpoints)]
        self.people = [f"person {number}" for number in range(people)]
        self.reference = f"solana:{str(self.chain.genesis_hash)[:32]}"
        self.asset = AssetId(f"{self.reference}/token:{base58(MINT)}")
        self.offered: set[bytes] = set()  # every transaction whose bytes any endpoint was ever sent
        self.strangers: set[bytes] = set()  # signed with our key by none of our processes
        self.frozen: set[str] = set()  # people whose accounts ought to be so
        self.allowance = ALLOWANCE  # that the operator ought to have
        self.congested = False  # nothing of ours gets into a block
        self.late_slots = 0  # how long what is sent waits
        self.tables = tables  # lookup tables; each is to have so many of the people
        self.listed = 2 * people // 3
        self.opened = False  # whether everybody ought to have an account for the token
        self.dead: list[Block] = []  # blocks of forks, as they died
        self._furnish(newcomer=newcomer)
        self._fill_tables()
        self.start_slot = self.chain.advance_blocks(settings.finalized_depth + 2)[0].slot

    def _furnish(self, *, newcomer: bool) -> None:
        for name in ("operator", "vault", "pool", "payer", "freezer", "stranger", *self.people):
            self._put(address_of(name), 100 * SOL)
        self._put(MINT, SOL, mint_bytes(DECIMALS, freezer=address_of("freezer")), TOKEN)
        self._hold(VAULT, 0, delegate=(OPERATOR, ALLOWANCE))
        self._hold(POOL, 0)
        self._hold(PAYER, 10**15)
        for person in self.people:
            self._hold(address_of(person), 10**12)
        if newcomer:
            self.people.append(NEWCOMER)
            self._put(address_of(NEWCOMER), 100 * SOL)
            self._put(self._purse(NEWCOMER), SOL, holding_bytes(MINT, address_of(NEWCOMER), 10**12), TOKEN)

    def _fill_tables(self) -> None:
        """Only ever more is in them; a fork may have undone it."""
        people = [address_of(person) for person in self.people[: self.listed]]
        entries = b"".join(account_of(person) + person for person in people)
        data = b"\1\0\0\0" + b"\xff" * 8 + (1).to_bytes(8, "little") + bytes(1) + bytes(35) + entries
        for table in self.tables:
            there = self.chain.machine.read(Pubkey(table))
            if there is None or len(there.data) < len(data):
                self._put(table, SOL, data, TABLE_PROGRAM)

    @staticmethod
    def _purse(person: str) -> Address:
        """Where a person keeps the token."""
        return address_of("purse") if person == NEWCOMER else account_of(address_of(person))

    def _put(self, address: Address, lamports: int, data: bytes = b"", owner: Pubkey = SYSTEM) -> None:
        self.chain.endow(Pubkey(address), Account(lamports, data, owner))

    def _hold(self, owner: Address, amount: int, delegate: tuple[Address, int] | None = None) -> None:
        self._put(account_of(owner), SOL, holding_bytes(MINT, owner, amount, delegate=delegate), TOKEN)

    # ── what really happened ──
    @property
    def final(self) -> Block:
        return self.chain.newest(Commitment.FINALIZED)

    def deals(self) -> list[Deal]:
        return [_deal(record) for _, record in self._records() if record.loaded.keys[0] == Pubkey(OPERATOR)]

    def paid(self) -> Counter[tuple[bytes, int]]:
        """How often each (distribution, batch) was paid."""
        return Counter(deal.batch for deal in self.deals() if deal.batch is not None)

    def received(self) -> Counter[Address]:
        """What the operator moved to others, by owner, whatever it was for."""
        received: Counter[Address] = Counter()
        for _, record in self._records():
            if record.loaded.keys[0] == Pubkey(OPERATOR) and record.err is None:
                for owner, change in _changes(record).items():
                    if owner != VAULT:
                        received[owner] += change
        return received

    def fees_in(self, start: int, end: int) -> int:
        """What came into the vault beside the memo for fees, in blocks with start ≤ time < end."""
        records = [record for block, record in self._records() if start <= block.time < end and record.err is None]
        return sum(_changes(record)[VAULT] for record in records if record.memo == "[3] fee")

    def _records(self) -> Iterator[tuple[Block, Record]]:
        for block in self.chain.blocks:
            for record in block.records:
                yield block, record

    # ── what happens to it ──
    def advance(self, slots: int) -> None:
        self.chain.advance(slots)

    def fork(self, depth: int, fate: Fate) -> int:
        """Returns how deep it was."""
        depth = min(depth, self.chain.head.height - self.final.height)
        if depth:
            self.dead += self.chain.blocks[-depth:]
            self.chain.fork(depth, fate)
        return depth

    def mend(self) -> None:
        """Everything is as it ought to be from now on."""
        for view in self.views:
            view.faults.clear()
        self.frozen.clear()
        self.allowance = ALLOWANCE
        self.congested = False
        self.late_slots = 0
        self.opened = True

    def keep_house(self) -> None:
        """Send what makes accounts what they ought to be; a fork may have undone it."""
        self._fill_tables()
        for person in self.people:
            holding = read_holding(self.chain.machine.read(Pubkey(account_of(address_of(person)))))
            if holding is None and self.opened:
                opening = token_instructions.create_idempotent_associated_token_account(
                    key_of("stranger").pubkey(), Pubkey(address_of(person)), Pubkey(MINT), TOKEN
                )
                self._send(opening, "stranger")
            elif holding is not None and (holding.state == "frozen") != (person in self.frozen):
                self._send(self._freezing(address_of(person), thaw=holding.state == "frozen"), "freezer")
        holding = read_holding(self.chain.machine.read(Pubkey(account_of(VAULT))))
        assert holding is not None
        if (holding.delegated < ALLOWANCE // 2) != (self.allowance < ALLOWANCE // 2):
            approval = models.ApproveParams(
                program_id=TOKEN,
                source=Pubkey(account_of(VAULT)),
                delegate=Pubkey(OPERATOR),
                owner=Pubkey(VAULT),
                amount=self.allowance,
            )
            self._send(token_instructions.approve(approval), "vault", payer="stranger")

    def submit(self, raw: bytes) -> None:
        """As a node passes it on."""
        wire = parse(raw)
        if wire.signatures_fit() and not self.congested:
            self.chain.submit(wire, self.chain.next_slot + self.late_slots)

    # ── participants ──
    def pay_fee(self, amount: int) -> None:
        self._send(
            _moved(account_of(PAYER), account_of(VAULT), "payer", amount), "payer", Instruction(MEMO, b"fee", [])
        )

    def deposit(self, person: str, amount: int) -> None:
        self._send(_moved(self._purse(person), account_of(POOL), person, amount), person)

    def withdraw(self, person: str, amount: int) -> None:
        self._send(_moved(account_of(POOL), self._purse(person), "pool", amount), "pool")

    def staked(self, person: str) -> int:
        """What the person has in the pool, as the living fork has it. Never less than 0: what was withdrawn on a fork
        may have landed again without its deposit."""
        changes = [_changes(record) for _, record in self._records() if record.err is None]
        moved = [change[address_of(person)] for change in changes if change[POOL]]
        return max(0, min(-sum(moved), sum(change[POOL] for change in changes)))

    def forge(self, deed: Deed) -> None:
        """A stranger writes the memo of a deed of ours, and names and funds its marker."""
        marker = marker_of(OPERATOR, deed.distribution_id, deed.index)
        funding = TransferParams(from_pubkey=key_of("stranger").pubkey(), to_pubkey=Pubkey(marker), lamports=RENT_EMPTY)
        self._send(transfer(funding), "stranger", Instruction(MEMO, deed.memo.encode(), []))

    def _freezing(self, owner: Address, *, thaw: bool) -> Instruction:
        account, mint, freezer = Pubkey(account_of(owner)), Pubkey(MINT), key_of("freezer").pubkey()
        if thaw:
            thawing = models.ThawAccountParams(program_id=TOKEN, account=account, mint=mint, authority=freezer)
            return token_instructions.thaw_account(thawing)
        freezing = models.FreezeAccountParams(program_id=TOKEN, account=account, mint=mint, authority=freezer)
        return token_instructions.freeze_account(freezing)

    def _send(self, instruction: Instruction, signer: str, *more: Instruction, payer: str | None = None) -> None:
        keys = [key_of(name) for name in dict.fromkeys([payer or signer, signer])]
        # A price that is never the same, so that equal transactions are different ones; and there is a market.
        price = set_compute_unit_price(self._chance.randrange(PRICE_MAX))
        message = MessageV0.try_compile(keys[0].pubkey(), [price, instruction, *more], [], self.chain.head.hash)
        self.chain.submit(parse(bytes(VersionedTransaction(message, keys))))


def account_of(owner: Address) -> Address:
    """Where `owner` holds the token."""
    return associated_account(owner, MINT, TOKEN)


def _moved(source: Address, target: Address, owner: str, amount: int) -> Instruction:
    return token_instructions.transfer(
        models.TransferParams(
            program_id=TOKEN, source=Pubkey(source), dest=Pubkey(target), owner=key_of(owner).pubkey(), amount=amount
        )
    )


def _changes(record: Record) -> Counter[Address]:
    """By owner, what a transaction added to or took from its tokens."""
    found: Counter[Address] = Counter()
    for sign, side in ((-1, "preTokenBalances"), (1, "postTokenBalances")):
        for entry in record.meta[side]:
            owner = Address(bytes(Pubkey.from_string(entry["owner"])))
            found[owner] += sign * int(entry["uiTokenAmount"]["amount"])
    return found


def deed_of(wire: Wire) -> tuple[bytes, int | None] | None:
    """The distribution and the batch (None: the proposal) that the memo of a transaction of the operator's names."""
    if wire.payer != Pubkey(OPERATOR):
        return None
    deeds = [_DEED.fullmatch(bytes(step.data).decode("utf-8", "replace")) for step in wire.message.instructions]
    [deed] = [deed for deed in deeds if deed is not None]
    return bytes.fromhex(deed[1]), None if deed[2] == "p" else int(deed[2])


def _deal(record: Record) -> Deal:
    deed = deed_of(record.wire)
    assert deed is not None
    distribution_id, index = deed
    pays = index is not None and record.err is None and not str(record.memo).endswith(":c")
    batch = (distribution_id, index) if pays and index is not None else None
    spent = record.meta["preBalances"][0] - record.meta["postBalances"][0]
    tx_id = bytes(record.wire.transaction.signatures[0])
    return Deal(tx_id, record.err is None, batch, record.meta["fee"], spent)
