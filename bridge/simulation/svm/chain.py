"""Slots, blocks and forks over a machine that knows only the present.

    slot      1000   1001   1002   1003   1004   1005
    block        ■──────■      ╳      ■──────■              1002 was skipped; heights count blocks, slots count time
    height       1      2             3      4
                        ▲             ▲      ▲
                   finalized    confirmed  processed        (finalized_depth = 2, confirmed_depth = 1)

A block is closed when its slot ends: only then do the transactions that came in run, in the order of their coming.
Each block keeps the accounts that it wrote as they were before (`before`). So an older view of an account is what the
first later block that wrote it found; and a fork puts all of them back, newest block first:

    fork(2)      ■──────■                    ■              1003 and 1004 are dead; their slots are never used again,
                        └────────────────────1005           so no blockhash of a dead fork can come back
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from bridge.domain.errors import RefusedError
from bridge.simulation.svm.admission import MAX_PROCESSING_AGE, admit
from bridge.simulation.svm.history import History
from bridge.simulation.svm.machine import SLOT_HASHES_KEPT, SYSTEM_PROGRAM, Machine
from bridge.simulation.svm.records import Place, Record, balances, make_record
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.transactions import LookupFailure, Moment, Wire, load

FAUCET_LAMPORTS = 500_000_000 * 10**9
CLOCK_SYSVAR = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
POOL_SIZE_MAX = 100_000
CLEAN_UP_BLOCKS = 256
SCATTER_SLOTS = 4


class Commitment(StrEnum):
    """How sure a block is, from the newest to the surest."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


class Fate(StrEnum):
    """What becomes of the transactions of a dead fork."""

    DROPPED = "dropped"  # nobody remembers them: who sent them must send them again
    RELANDED = "relanded"  # they land in the second block of the new fork, in their order, if their blockhash lives
    SCATTERED = "scattered"  # each lands in one of the next slots, or is dropped, by the seed


@dataclass(slots=True)
class Block:
    """One block of the living fork."""

    slot: int
    parent_slot: int
    height: int
    hash: Hash
    parent_hash: Hash
    time: int  # seconds
    records: list[Record] = field(default_factory=list)
    before: dict[Pubkey, Account | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction that waits for the block of `slot` or the first one after it."""

    wire: Wire
    slot: int


class Chain:
    """The living fork. Begins with one finalized block that holds a rich faucet and nothing else."""

    def __init__(self, settings: Settings, genesis_time: int) -> None:
        self.settings = settings
        self.genesis_time = genesis_time
        self.machine = Machine()
        self.history = History()
        self.watchers: list[Callable[[], None]] = []  # called after each block
        self.faucet = Keypair.from_seed(self._digest("faucet"))
        self.genesis_hash = Hash(self._digest("genesis"))
        self.blocks: list[Block] = []  # invariant: heights without a gap, slots rising
        self.landed = 0  # transactions in all blocks there ever were on this fork
        self._by_slot: dict[int, Block] = {}
        self._heights: dict[str, int] = {}  # of the blockhashes of this fork that can still be valid anywhere
        self._pool: dict[str, Pending] = {}
        self._airdrops = 0
        self._chance = random.Random(self._digest("chance"))
        self._next_slot = settings.first_slot  # invariant: no block, dead or alive, has this slot or a later one
        self._close()
        self._finalized_height = self.head.height
        self.endow(self.faucet.pubkey(), Account(FAUCET_LAMPORTS, b"", SYSTEM_PROGRAM))

    # What there is.

    @property
    def head(self) -> Block:
        """The newest block."""
        return self.blocks[-1]

    @property
    def next_slot(self) -> int:
        """The slot that comes next; it may hold no block."""
        return self._next_slot

    def newest(self, commitment: Commitment, lag: int = 0) -> Block:
        """The newest block that is at least so sure, for a node that is `lag` blocks behind."""
        first, head = self.blocks[0].height, self.head.height
        finalized = max(self._finalized_height - lag, first)
        if commitment == Commitment.FINALIZED:
            height = finalized
        elif commitment == Commitment.CONFIRMED:
            # After a fork, blocks that were confirmed may no longer be; what is finalized stays so.
            height = max(head - lag - self.settings.confirmed_depth, finalized)
        else:
            height = max(head - lag, finalized)
        return self.blocks[height - first]

    def at_slot(self, slot: int) -> Block | None:
        """The block of this slot; None: skipped, dead, cleaned up or not there yet."""
        return self._by_slot.get(slot)

    def at_height(self, height: int) -> Block:
        """The block of this height, which must be kept."""
        return self.blocks[height - self.blocks[0].height]

    def height_of_hash(self, blockhash: str) -> int | None:
        """The height of the block of this fork with that hash; None also once it is long past its use."""
        return self._heights.get(blockhash)

    def account(self, key: Pubkey, block: Block) -> Account | None:
        """The account as it was after `block`."""
        for later in self._after(block):
            if key in later.before:
                return later.before[key]
        return self.machine.read(key)

    def moment(self, block: Block) -> Moment:
        """When a transaction in `block`, or upon it, looks at lookup tables."""

        def is_recent(slot: int) -> bool:
            earlier = self._by_slot.get(slot)
            return earlier is not None and 0 < block.height - earlier.height <= SLOT_HASHES_KEPT

        return Moment(block.slot, is_recent)

    def owned_by(self, program: Pubkey, block: Block) -> list[tuple[Pubkey, Account]]:
        """All accounts of a program as they were after `block`, by key."""
        keys = {key for key, _ in self.machine.owned_by(program)}
        for later in self._after(block):
            keys.update(later.before)
        found = ((key, self.account(key, block)) for key in sorted(keys, key=bytes))
        return [(key, account) for key, account in found if account is not None and account.owner == program]

    def written_since(self, keys: Sequence[Pubkey], block: Block) -> dict[Pubkey, Account | None]:
        """Of `keys`, the accounts that changed after `block`, as they were then."""
        changed = {key for later in self._after(block) for key in later.before}
        return {key: self.account(key, block) for key in keys if key in changed}

    def _after(self, block: Block) -> Sequence[Block]:
        return list(islice(self.blocks, block.height - self.blocks[0].height + 1, None))

    # What happens.

    def submit(self, wire: Wire, slot: int = 0) -> None:
        """Let a transaction, whose signatures fit, wait for the next block or the first one from `slot` on.

        One that waits already stays as it is. Raises RefusedError when too many wait.
        """
        if len(self._pool) >= POOL_SIZE_MAX:
            raise RefusedError(f"more than {POOL_SIZE_MAX} transactions wait")
        self._pool.setdefault(wire.signature, Pending(wire, slot))

    def endow(self, key: Pubkey, account: Account | None) -> None:
        """Put an account there without a transaction, as part of the newest block."""
        self.head.before.setdefault(key, self.machine.read(key))
        self.machine.write(key, account)

    def count_airdrop(self) -> int:
        """How many airdrops there were before this one."""
        self._airdrops += 1
        return self._airdrops - 1

    def advance(self, slots: int = 1) -> list[Block]:
        """Let this many slots pass; the blocks in them."""
        blocks = []
        for _ in range(slots):
            if self._skipped(self._next_slot):
                self._next_slot += 1
            else:
                blocks.append(self._close())
                for watcher in self.watchers:
                    watcher()
        return blocks

    def advance_blocks(self, blocks: int = 1) -> list[Block]:
        """Let slots pass until this many of them held a block."""
        made: list[Block] = []
        while len(made) < blocks:
            made += self.advance()
        return made

    def fork(self, depth: int, fate: Fate = Fate.DROPPED) -> list[Record]:
        """Replace the newest `depth` blocks by one empty block in the next slot; the transactions that were in them.

        Raises RefusedError when one of them is finalized: no fork goes below.
        """
        loose = self.head.height - self._finalized_height
        if not 0 <= depth <= loose:
            raise RefusedError(f"{depth} blocks cannot be rolled back: {loose} are not finalized")
        dead: list[Record] = []
        for _ in range(depth):
            dead = self._take_back() + dead
        waiting, self._pool = self._pool, {}
        self._close()
        for record in dead:
            self._decide_fate(record, fate)
        self._pool.update(waiting)
        for watcher in self.watchers:
            watcher()
        return dead

    def _decide_fate(self, record: Record, fate: Fate) -> None:
        if fate is Fate.DROPPED:
            return
        if fate is Fate.SCATTERED:
            slots = self._chance.randrange(SCATTER_SLOTS + 1)
            if slots == SCATTER_SLOTS:
                return
            self.submit(record.wire, self._next_slot + slots)
            return
        self.submit(record.wire)

    def _take_back(self) -> list[Record]:
        block = self.blocks.pop()
        del self._by_slot[block.slot]
        del self._heights[str(block.hash)]
        for key, account in block.before.items():
            self.machine.write(key, account)
        for record in reversed(block.records):
            self.history.take_back(record)
        self.landed -= len(block.records)
        return block.records

    def _close(self) -> Block:
        """End the next slot with a block of what waits for it."""
        slot = self._next_slot
        self._next_slot += 1
        parent = self.blocks[-1] if self.blocks else None
        block = Block(
            slot=slot,
            parent_slot=parent.slot if parent else slot - 1,
            height=parent.height + 1 if parent else 1,
            hash=Hash(self._digest(f"block {slot}")),
            parent_hash=parent.hash if parent else self.genesis_hash,
            time=self.time_of(slot),
        )
        block.before[CLOCK_SYSVAR] = self.machine.read(CLOCK_SYSVAR)
        hashes = [(older.slot, older.hash) for older in self.blocks[-SLOT_HASHES_KEPT:]]
        self.machine.open_slot(slot, block.time, hashes[::-1])
        if parent is not None:
            self._fill(block, parent)
        self.blocks.append(block)
        self._by_slot[slot] = block
        self._heights[str(block.hash)] = block.height
        if parent is not None:
            self._finalize()
        return block

    def _fill(self, block: Block, parent: Block) -> None:
        due = [pending.wire for pending in self._pool.values() if pending.slot <= block.slot]
        for wire in due:
            del self._pool[wire.signature]
            record = self._process(wire, block, parent)
            if record is not None:
                block.records.append(record)
                self.history.add(record)
                self.landed += 1

    def _process(self, wire: Wire, block: Block, parent: Block) -> Record | None:
        """Run a transaction; None: it may not be part of the block, and is dropped."""
        read = self.machine.read
        verdict = admit(self, wire, parent, read)
        if verdict.err is not None or wire.signature in self.history:
            return None
        try:
            loaded = load(wire.message, read, self.moment(block))
        except LookupFailure:
            return None
        accounts = {key: read(key) for key in loaded.keys}
        outcome = self.machine.run(wire.transaction, wire.payer)
        if not outcome.included:
            return None
        # What is named writable may be a program or a sysvar, which no transaction can write.
        written = [
            (key, account)
            for (key, account), writable in zip(accounts.items(), loaded.writable, strict=True)
            if writable and not (account is not None and account.executable)
        ]
        self.machine.advance_nonces(written, parent.hash, verdict.nonce)
        for key, account in written:
            block.before.setdefault(key, account)
        after = {**accounts, **{key: read(key) for key, _ in written}}
        place = Place(block.slot, len(block.records), block.time)
        return make_record(
            wire,
            place,
            loaded,
            outcome,
            before=balances(loaded.keys, accounts, read),
            after=balances(loaded.keys, after, read),
        )

    def _finalize(self) -> None:
        # Never goes back: after a fork the head may be lower than it was.
        self._finalized_height = max(
            self._finalized_height, self.head.height - self.settings.finalized_depth, self.blocks[0].height
        )
        old = self.head.height - 2 * MAX_PROCESSING_AGE - self.settings.finalized_depth
        if old >= self.blocks[0].height:
            self._heights.pop(str(self.at_height(old).hash), None)
        self._clean_up()

    def _clean_up(self) -> None:
        too_many = len(self.blocks) >= self.settings.blocks_kept + CLEAN_UP_BLOCKS
        too_full = len(self.history) > self.settings.records_kept
        if not too_many and not too_full:
            return
        needed = 2 * MAX_PROCESSING_AGE + self.settings.finalized_depth + 1
        spare = len(self.blocks) - needed
        count = 0
        excess = len(self.history) - self.settings.records_kept
        while count < spare and (len(self.blocks) - count > self.settings.blocks_kept or excess > 0):
            excess -= len(self.blocks[count].records)
            count += 1
        for block in self.blocks[:count]:
            del self._by_slot[block.slot]
            self._heights.pop(str(block.hash), None)
        self.history.clean_up([record for block in self.blocks[:count] for record in block.records])
        del self.blocks[:count]

    def time_of(self, slot: int) -> int:
        """The chain's own clock at a slot, in seconds."""
        return self.genesis_time + (slot - self.settings.first_slot) * self.settings.slot_ms // 1000

    def _skipped(self, slot: int) -> bool:
        if slot in self.settings.skipped_slots:
            return True
        draw = int.from_bytes(self._digest(f"skip {slot}")[:4], "big") % 1000
        return draw < self.settings.skipped_per_mille

    def _digest(self, purpose: str) -> bytes:
        return hashlib.sha256(f"{self.settings.seed} {purpose}".encode()).digest()
