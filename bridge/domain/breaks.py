"""Where books and chain part: checks, and the breaks they find.

    facts at one finalized block ──► checks (agreed, broken, skipped with cause) ──► breaks (open → … → resolved)

There is no tolerance: one atom is a break.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from bridge.domain.events import Log
from bridge.domain.ledger import SUSPENSE_IN, IntendedBatch, Transfer
from bridge.domain.payouts import Leg
from bridge.domain.states import BreakState
from bridge.domain.units import Address, AssetId, BlockStamp, format_hash, hash_of


class Level(StrEnum):
    EVENT = "event"  # each finalized log ↔ exactly one journal
    BALANCE = "balance"  # books = chain at the same block hash
    NONCE = "nonce"  # transactions sent by the operator = slots spent
    COMPLETENESS = "completeness"  # no block, journal or balance is missing or changed
    SUSPENSE = "suspense"  # everything that moved is explained
    PAYOUT = "payout"  # what was intended = what was executed


class Outcome(StrEnum):
    AGREED = "agreed"
    BROKEN = "broken"
    SKIPPED = "skipped"  # could not be judged yet; says why


class BreakKind(StrEnum):
    MISSING_ON_CHAIN = "missing_on_chain"  # intended or booked, and not on the chain
    MISSING_IN_LEDGER = "missing_in_ledger"  # on the chain, and not booked
    AMOUNT_MISMATCH = "amount_mismatch"  # booked otherwise than the chain says
    DUPLICATE = "duplicate"  # executed twice
    TIMING = "timing"  # past its allowance, yet nothing contradicts it
    ORPHANED_BY_REORG = "orphaned_by_reorg"  # booked from a block that is not final
    FEE_MISMATCH = "fee_mismatch"  # another fee than the receipt's
    UNEXPECTED_IN = "unexpected_in"  # came without a payment of fees, for example a donation
    UNEXPECTED_OUT = "unexpected_out"  # left without our intent, for example a theft
    UNEXPLAINED_BALANCE = "unexplained_balance"  # the balance moved, no event says why
    PROVIDER_DISAGREEMENT = "provider_disagreement"  # a node contradicts what was read before


CLEARS_ITSELF = frozenset({
    BreakKind.MISSING_ON_CHAIN,
    BreakKind.MISSING_IN_LEDGER,
    BreakKind.TIMING,
    BreakKind.UNEXPECTED_IN,
    BreakKind.UNEXPECTED_OUT,
    BreakKind.UNEXPLAINED_BALANCE,
    BreakKind.PROVIDER_DISAGREEMENT,
})  # fmt: skip
"""Kinds that are resolved when the same check is made again and no longer finds them. The others need a person: that a
wrong entry vanished explains nothing."""

MENDED_BY: Mapping[BreakKind, str] = {
    BreakKind.MISSING_ON_CHAIN: "it goes when the batch lands, or when its step is cancelled and planned again",
    BreakKind.MISSING_IN_LEDGER: "it goes when the log is booked, or the missing blocks are read",
    BreakKind.AMOUNT_MISMATCH: "an adjustment that a person approves, or the true row restored",
    BreakKind.DUPLICATE: "an adjustment, and the second payment asked back",
    BreakKind.TIMING: "it goes when the transaction is settled",
    BreakKind.ORPHANED_BY_REORG: "a reversing journal, where it moved anything",
    BreakKind.FEE_MISMATCH: "the fee of the receipt restored where it was changed",
    BreakKind.UNEXPECTED_IN: "it goes when the suspense account is empty: `bridge ledger classify` says what came",
    BreakKind.UNEXPECTED_OUT: "it goes when the suspense account is empty: `bridge ledger classify` says what left",
    BreakKind.UNEXPLAINED_BALANCE: "it goes when books and chain agree: `bridge ledger classify` says what moved",
    BreakKind.PROVIDER_DISAGREEMENT: "it goes when the nodes agree again with what is stored",
}

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AGES = (HOUR, DAY, 7 * DAY, 30 * DAY)
"""Where one band of ages ends and the next begins."""
AGE_BANDS = ("<1 h", "<24 h", "1–7 d", "7–30 d", ">30 d")


def age_band(age: timedelta) -> str:
    """The band that `age` is in; what is as old as a bound is beyond it."""
    return AGE_BANDS[bisect_right(AGES, age)]


PPM = 1_000_000


def share_ppm(part: int, whole: int) -> int:
    """Millionths, rounded down, so that only all of it is all; of nothing, all of it."""
    return PPM if whole == 0 else part * PPM // whole


Evidence = Mapping[str, str | int | Sequence[str]]
"""What a person needs to see. Amounts and block hashes are strings; JSON numbers lose digits."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a check found. (kind, chain, subject, asset) is its identity: found again, it is the same break."""

    kind: BreakKind
    subject: str
    evidence: Evidence
    asset: AssetId | None = None
    amount: int | None = None  # chain minus books
    lasting: bool = False  # a fact that no entry can undo: not opened again after a person resolved the very same
    block: int | None = None  # that it is about, where its check looks at blocks: later runs look at this one again
    after: int | None = None  # the block before the first one, where it is about several


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison at `at`. `subject` is the same in every run: so the next run can clear what this one found."""

    level: Level
    subject: str
    at: BlockStamp
    asset: AssetId | None = None
    expected: int | None = None  # what the books say
    actual: int | None = None  # what the chain says
    skipped: str | None = None  # why it could not be judged
    differences: tuple[Difference, ...] = ()

    @property
    def outcome(self) -> Outcome:
        if self.differences:
            return Outcome.BROKEN
        return Outcome.SKIPPED if self.skipped else Outcome.AGREED

    @property
    def cause(self) -> str | None:
        """Why it was skipped, or what differs; None where it agreed."""
        found = ", ".join(sorted({f"{difference.kind}" for difference in self.differences}))
        return found or self.skipped


@dataclass(frozen=True, slots=True)
class Break:
    """A difference with its row."""

    break_id: int
    kind: BreakKind
    chain: str
    level: Level
    subject: str
    asset: AssetId | None
    amount: int | None
    state: BreakState
    evidence: str  # canonical JSON
    at: BlockStamp  # where it was first found
    opened_at: datetime
    lasting: bool = False  # as in Difference
    assignee: str | None = None  # who takes care of it
    resolved_at: datetime | None = None
    resolution: str | None = None

    def age(self, now: datetime) -> timedelta:
        """How long it was open, or has been by `now`."""
        return max((self.resolved_at or now) - self.opened_at, timedelta(0))

    def classified(self, account: str) -> Transfer | None:
        """The movement after which nothing is left of it, where what moved belongs to `account`. None where it is no
        amount on an account of the books.

            a suspense account   what lies there goes to the account, or comes from it
            a watched account    what the chain holds more or less than the books came from the account, or went to it
        """
        if self.level not in (Level.SUSPENSE, Level.BALANCE) or self.asset is None or not self.amount:
            return None
        debit, credit = (self.subject, account) if self.amount > 0 else (account, self.subject)
        return Transfer(debit, credit, self.asset, abs(self.amount))


@dataclass(frozen=True, slots=True)
class BreakChange:
    """One line of a break's history."""

    at: datetime
    by: str  # a person, `reconciliation N`, `check N`, or a role of the database
    came_from: BreakState | None  # None where it was opened
    state: BreakState
    words: str | None  # why, or who takes care of it now


@dataclass(frozen=True, slots=True)
class LastLook:
    """The newest finished run that made the check which found a break, and could judge it."""

    reconciliation_id: int
    at: BlockStamp
    found: bool  # whether it found the break again


@dataclass(frozen=True, slots=True)
class Range:
    """A finalized range, as it was noted when two reads of it agreed."""

    first: int
    last: int
    logs: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class AccountMove:
    """A journal that moved one account."""

    block_number: int
    kind: str
    source: str
    ref: str
    reason: str
    payload_hash: bytes  # as it was booked
    net: int  # debits − credits, atoms


def why_unresolvable(item: Break, look: LastLook | None) -> str | None:
    """Why a person may not resolve it; None where it is theirs to do.

    lasting                     the chain says it for ever: whether it is settled, only a person knows
    still found, or not looked  its evidence stands: a run would open it again, and until then the books would lie
    not found any more          nothing is left of it but the question what it was, which a person answers
    """
    if item.lasting or (look is not None and not look.found):
        return None
    if look is None:
        return "no run has looked at it since; `bridge reconcile` does"
    return (
        f"reconciliation {look.reconciliation_id} still found it at block {look.at.number:,} of {look.at.chain}. "
        f"{MENDED_BY[item.kind].capitalize()}. `bridge reconcile` looks again"
    )


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What one run found. A skipped check is no break; whoever needs certainty also asks for `skipped` to be empty."""

    reconciliation_id: int
    at: tuple[BlockStamp, ...]  # the cut-off of each chain
    checks: tuple[Check, ...]
    breaks: tuple[Break, ...]  # every break that is not resolved, oldest first
    cleared: int  # breaks that this run resolved

    @property
    def balanced(self) -> bool:
        # A lasting difference without a break is one that a person has resolved.
        found = (difference for check in self.checks for difference in check.differences)
        return not self.breaks and all(difference.lasting for difference in found)

    @property
    def skipped(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome is Outcome.SKIPPED)

    def counts(self) -> dict[Level, dict[Outcome, int]]:
        """Checks by level and outcome; levels in the order of their declaration."""
        counts = {level: dict.fromkeys(Outcome, 0) for level in Level}
        for check in self.checks:
            counts[check.level][check.outcome] += 1
        return counts


EXEMPT = "exempt"
"""The cause of a check that is left out on purpose begins so: it is no gap in what is covered, and is counted apart."""

IN_FLIGHT = "batches in flight"
"""What a check is about that cannot be judged before they are over."""
OVERDUE = "batches in time"
HELD = "batches held"
"""What a person decides about: no time runs for it."""
HELD_NAMED = 20
"""Batches that the cause of one check names."""


# ── Judging ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def judge_balance(at: BlockStamp, code: str, asset: AssetId, books: int, chain: int) -> Check:
    """A mirrored account holds what the books say, to the atom."""
    differences: tuple[Difference, ...] = ()
    if books != chain:
        evidence = {"books": str(books), "chain": str(chain), "block_hash": format_hash(hash_of(at.hash, asset))}
        differences = (Difference(BreakKind.UNEXPLAINED_BALANCE, code, evidence, asset, chain - books),)
    return Check(Level.BALANCE, code, at, asset, expected=books, actual=chain, differences=differences)


def judge_suspense(at: BlockStamp, code: str, asset: AssetId, held: int, unmatched: Sequence[str]) -> Check:
    """A suspense account is empty. `held` is debits − credits; `unmatched`: journals that nothing matches.

    suspense:in   < 0  more came than was paid as fees     > 0  fees were announced that never came
    suspense:out  > 0  more left than we intended          < 0  a batch says it paid what never left
    """
    if held == 0:
        return Check(Level.SUSPENSE, code, at, asset, expected=0, actual=0)
    if code == SUSPENSE_IN:
        kind = BreakKind.UNEXPECTED_IN if held < 0 else BreakKind.AMOUNT_MISMATCH
    else:
        kind = BreakKind.UNEXPECTED_OUT if held > 0 else BreakKind.MISSING_ON_CHAIN
    difference = Difference(kind, code, {"held": str(held), "journals": list(unmatched)}, asset, -held)
    return Check(Level.SUSPENSE, code, at, asset, expected=0, actual=-held, differences=(difference,))


def judge_claims(at: BlockStamp, accounts: int, overdrawn: Mapping[tuple[str, AssetId], int]) -> Check:
    """None of the `accounts` has claimed more than it was given. `overdrawn`: debits − credits of those that have."""
    differences = tuple(
        Difference(BreakKind.UNEXPECTED_OUT, code, {"overdrawn": str(amount)}, asset, amount)
        for (code, asset), amount in sorted(overdrawn.items())
    )
    return Check(Level.PAYOUT, "claims", at, expected=accounts, actual=accounts, differences=differences)


def merge_spans(spans: Sequence[tuple[int, int]], near: int) -> list[tuple[int, int]]:
    """Runs of blocks, each (after, last), in order and without overlap; those at most `near` blocks apart are one."""
    merged: list[tuple[int, int]] = []
    for after, last in sorted(spans):
        if merged and after - merged[-1][1] <= near:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((after, last))
    return merged


@dataclass(frozen=True, slots=True)
class Spent:
    """What the payout tables know of the operator's nonces, through one finalized block."""

    first_nonce: int
    next_nonce: int  # the first that was never given out
    gaps: Collection[int]  # nonces before it that no slot accounts for
    settled: int  # slots whose included attempt is final at or below the block
    live: Mapping[int, bool]  # nonce of each unsettled slot → still within its allowance of time
    foreign: Collection[int]  # nonces spent by a transaction nobody here signed, as the confirm stage proved


NONCES_MAX = 1_000
"""Breaks of one run. A key that others use all the time is one finding, many times."""


def judge_nonce(at: BlockStamp, code: str, sequence: int, spent: Spent) -> Check:
    """The operator has sent exactly the transactions that slots account for. `sequence` is the chain's count."""
    foreign = sorted(nonce for nonce in spent.foreign if nonce < sequence)
    books = spent.first_nonce + spent.settled + len(foreign)
    waiting = {nonce: fresh for nonce, fresh in spent.live.items() if nonce < sequence}
    # What no slot accounts for is the subject that it will be as a foreign slot: a person takes it up once.
    forgotten = sorted(nonce for nonce in {*spent.gaps, *range(spent.next_nonce, sequence)} if nonce < sequence)
    stray = sequence - books - len(waiting) - len(forgotten)
    differences = [
        Difference(BreakKind.UNEXPECTED_OUT, f"{code} nonce {nonce}", {"nonce": nonce}, lasting=True)
        for nonce in [*foreign, *forgotten][:NONCES_MAX]
    ]
    evidence = {"books": books, "chain": sequence}
    if stray > 0:
        differences.append(Difference(BreakKind.UNEXPECTED_OUT, code, evidence, amount=stray))
    elif stray < 0:
        differences.append(Difference(BreakKind.MISSING_ON_CHAIN, code, evidence, amount=stray))
    differences += [
        Difference(BreakKind.TIMING, f"{code} nonce {nonce}", {"nonce": nonce})
        for nonce, fresh in sorted(waiting.items())
        if not fresh
    ]
    skipped = f"{len(waiting)} included transactions are not settled yet" if waiting else None
    return Check(
        Level.NONCE, code, at, expected=books, actual=sequence, skipped=skipped, differences=tuple(differences)
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch that is intended and neither executed nor given up, as far as the books know."""

    distribution_id: bytes
    index: int
    asset: AssetId
    amount: int  # atoms
    window_end: int  # seconds; of its decision
    landed: int | None  # the block in which its transaction is final and succeeded
    held: str | None = None  # why it waits for a person, or its proposal does
    resumed_s: int | None = None  # database time since it, or its proposal, was last held; None where it never was

    def overdue(self, at: BlockStamp, time: int, deadline_s: int) -> bool:
        """Whether it should be on the chain by now.

        final without its event      yes: what is final has one
        held for a person            no, for as long as it is
        released                     it has `deadline_s` from then on, by the clock that knows when that was
        any other                    it has `deadline_s` after its window, by the chain's clock
        """
        if self.landed is not None and self.landed <= at.number:
            return True
        if self.held is not None or time - self.window_end <= deadline_s:
            return False
        return self.resumed_s is None or self.resumed_s > deadline_s


def judge_waiting(at: BlockStamp, time: int, waiting: Sequence[Waiting], deadline_s: int) -> list[Check]:
    """No batch is final without its event, and none waits for longer than `deadline_s` after its window, unless it is
    held. What is in time is in flight: whether it lands, nobody can say yet."""
    overdue: list[Waiting] = []
    held: list[Waiting] = []
    flying = 0
    for batch in waiting:
        if batch.overdue(at, time, deadline_s):
            overdue.append(batch)
        elif batch.held is not None:
            held.append(batch)
        else:
            flying += 1
    differences = tuple(
        Difference(
            BreakKind.MISSING_ON_CHAIN,
            f"batch {batch.distribution_id.hex()}:{batch.index}",
            {"window_end": batch.window_end, "landed": "no" if batch.landed is None else str(batch.landed)},
            batch.asset,
            -batch.amount,
        )
        for batch in overdue
    )
    skipped = f"{flying} batches are in flight" if flying else None
    return [
        Check(Level.PAYOUT, OVERDUE, at, differences=differences),
        Check(Level.PAYOUT, IN_FLIGHT, at, skipped=skipped),
        *_judge_held(at, held),
    ]


def _judge_held(at: BlockStamp, waiting: Sequence[Waiting]) -> list[Check]:
    """One of each asset of which something is held: which batches, how much of it, and why."""
    held: defaultdict[AssetId, list[Waiting]] = defaultdict(list)
    for batch in waiting:
        held[batch.asset].append(batch)
    return [
        Check(
            Level.PAYOUT,
            HELD,
            at,
            asset,
            expected=sum(batch.amount for batch in batches),
            skipped=f"{EXEMPT}: {len(batches)} batch{'' if len(batches) == 1 else 'es'} held for a person: "
            + "; ".join(
                [
                    f"batch {batch.index} of 0x{batch.distribution_id.hex()}, {batch.amount} atoms: {batch.held}"
                    for batch in batches[:HELD_NAMED]
                ]
                + ([f"and {len(batches) - HELD_NAMED} more"] if len(batches) > HELD_NAMED else [])
            ),
        )
        for asset, batches in sorted(held.items())
    ]


@dataclass(frozen=True, slots=True)
class Executed:
    """A batch as the contract's finalized event tells it."""

    distribution_id: bytes
    index: int
    token: AssetId | None
    moved: int  # paid + credited, atoms
    ref: str  # of the log
    # by recipient: what transfers brought it, and what was credited to it; None for a tree, from which none has got any
    received: Mapping[Address, int] | None
    log: Log
    credited: frozenset[Address]
    left_out: frozenset[Address] = frozenset()  # neither paid nor credited


@dataclass(slots=True)
class Batches:
    """Executed batches against intended ones. Mutable while logs are read page by page."""

    executed: dict[tuple[bytes, int], Executed] = field(default_factory=dict)
    duplicates: list[Executed] = field(default_factory=list)

    def add(self, executed: Executed) -> None:
        key = (executed.distribution_id, executed.index)
        if key in self.executed:
            self.duplicates.append(executed)
        self.executed.setdefault(key, executed)

    def repeat(self, settled: Mapping[tuple[bytes, int], int]) -> None:
        """`settled`: the block in which a batch was executed first, as booked. What came later did so once more, though
        the first time is not among what was read."""
        for key, block in settled.items():
            batch = self.executed.get(key)
            if batch is not None and block < batch.log.block.number:
                self.duplicates.insert(0, self.executed.pop(key))

    def judge(self, at: BlockStamp, intended: Mapping[tuple[bytes, int], IntendedBatch]) -> Check:
        """`intended` has each of the executed batches that we know."""
        differences = self._duplicates()
        for key, batch in self.executed.items():
            planned = intended.get(key)
            if planned is None:
                differences.append(self._difference(BreakKind.UNEXPECTED_OUT, batch, batch.moved))
                continue
            dues = {due.recipient: due.amount for due in planned.dues if due.recipient not in batch.left_out}
            total = sum(dues.values())
            received = dues if planned.leg is Leg.CLAIM and batch.received is None else batch.received
            if (batch.token, batch.moved, received) != (planned.asset, total, dues):
                differences.append(self._difference(BreakKind.AMOUNT_MISMATCH, batch, batch.moved - total))
        known = sum(key in intended for key in self.executed)
        return Check(
            Level.PAYOUT,
            "executed batches",
            at,
            expected=known,
            actual=len(self.executed) + len(self.duplicates),
            differences=tuple(differences),
        )

    def _duplicates(self) -> list[Difference]:
        """One of each batch, with all its logs beyond the first: once more is another fact."""
        again: defaultdict[tuple[bytes, int], list[Executed]] = defaultdict(list)
        for batch in self.duplicates:
            again[batch.distribution_id, batch.index].append(batch)
        return [
            Difference(
                BreakKind.DUPLICATE,
                _subject(batches[0]),
                {"logs": [batch.ref for batch in batches], "moved": str(sum(batch.moved for batch in batches))},
                batches[0].token,
                sum(batch.moved for batch in batches),
                lasting=True,
                block=batches[0].log.block.number,
            )
            for batches in again.values()
        ]

    @staticmethod
    def _difference(kind: BreakKind, batch: Executed, amount: int) -> Difference:
        evidence = {"log": batch.ref, "moved": str(batch.moved)}
        block = batch.log.block.number
        return Difference(kind, _subject(batch), evidence, batch.token, amount, lasting=True, block=block)


def _subject(batch: Executed) -> str:
    return f"batch {batch.distribution_id.hex()}:{batch.index}"
